"""The list of a user's jobs, whatever default options a site gives to qstat (sge_qstat(5))."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from zwrap.scheduler import Command, Question, Reply

from .replies import ListedJob, read_qstat

T = TypeVar("T")

DEFAULT_BYTES = 100_000
"""Largest size of a file of default options that is read, in bytes."""

QUEUES = re.compile(rb"(?m)^(?!#).*(?<!\S)-q\s")
"""Default options that leave out the jobs of some queues, also those that wait."""


def listed(
    qstat: Callable[..., Command],
    environment: Mapping[str, str],
    then: Callable[[list[ListedJob]], T | Question[T]],
) -> Question[T]:
    """Ask for all jobs; once more with all queues if options of the site leave out some.

    With queues, qstat leaves out jobs that fit in none of them, such as those of a project, so the
    second list is no substitute for the first one.

    Args:
        qstat: Function that returns the call of qstat with some more options.
        environment: Variables of the cluster, which go before those of this process.
        then: Function that makes the answer of the jobs.
    """

    def read(reply: Reply) -> T | Question[T]:
        jobs = read_qstat(reply)
        if not leaves_out_queues(environment):
            return then(jobs)
        of_all_queues = qstat("-q", "*")
        return Question(of_all_queues, lambda more: then(_united(jobs, read_qstat(more))))

    return Question(qstat(), read)


def leaves_out_queues(environment: Mapping[str, str]) -> bool:
    """Return True if default options of the cell, or of this user, name queues."""
    given = {"SGE_CELL": "default", **os.environ, **environment}
    places = [Path.home() / ".sge_qstat"]
    if root := given.get("SGE_ROOT"):
        places.append(Path(root, given["SGE_CELL"], "common", "sge_qstat"))
    return any(QUEUES.search(_content(place)) for place in places)


def _content(file: Path) -> bytes:
    """Return the beginning of a file; empty if it cannot be read."""
    with contextlib.suppress(OSError):
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as content:
            return content.read(DEFAULT_BYTES) or b""
    return b""


def _united(first: Sequence[ListedJob], second: Sequence[ListedJob]) -> list[ListedJob]:
    """Return the jobs of two lists; of a job in both the later entry counts."""
    return list({job.status.job_id: job for job in (*first, *second)}.values())
