"""What the files of a job tell that is in no column of the ledger: message, program, owner."""

from __future__ import annotations

import contextlib
import pwd
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from zwrap.attempt.directory import OWN_PARTS, JobDirectory
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import Attempt, KeptSubmission, parse_submission
from zwrap.errors import MessageError
from zwrap.message.jsontext import decode
from zwrap.monitor.states import KnownJob
from zwrap.program.reading import SHIPPED_PREFIX

_WRAP = re.compile(r"--wrap[ =]+['\"]?([^\s'\"]+)")
"""The program in the commands of a job, as `zocalo.wrap` is told it."""


def working_directory(attempt: Attempt) -> Path:
    """Return the working directory of the step, in which ``.zwrap/<token>`` lies."""
    return Path(attempt.job_directory).parents[OWN_PARTS - 1]


def submission_of(attempt: Attempt, ledger: Ledger) -> KeptSubmission | None:
    """Return the record of a job's submission, from its directory or the ledger; None: no record.

    One that cannot be read counts as none.
    """
    with contextlib.suppress(MessageError, OSError):
        if (kept := ledger.remote.submission(attempt.token)) is not None:
            return parse_submission(kept.encode(), "the ledger")
        return JobDirectory(Path(attempt.job_directory)).submission()
    return None


def step_of(kept: KeptSubmission | None) -> Mapping[str, object]:
    """Return the step of the message that became a job; empty if there is none."""
    body = kept.message if kept else None
    if isinstance(body, dict) and isinstance(body.get("recipe"), dict):
        step = body["recipe"].get(str(body.get("recipe-pointer")))
        if isinstance(step, dict):
            return step
    return {}


def program_of(job: KnownJob, kept: KeptSubmission | None) -> str | None:
    """Return the name of the program that a job runs; None: it is not known."""
    if job.verdict is not None and job.verdict.program:
        return job.verdict.program.removeprefix(SHIPPED_PREFIX)
    parameters = step_of(kept).get("parameters")
    cluster = parameters.get("cluster") if isinstance(parameters, dict) else None
    commands = cluster.get("commands") if isinstance(cluster, dict) else None
    lines = commands if isinstance(commands, list) else [commands]
    found = _WRAP.search("\n".join(str(line) for line in lines))
    return found[1].removeprefix(SHIPPED_PREFIX) if found else None


def owner_of(attempt: Attempt) -> str | None:
    """Return the owner of a job's working directory, by number if it has no name; None: gone."""
    try:
        number = working_directory(attempt).stat().st_uid
    except OSError:
        return None
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def agrees(kept: KeptSubmission | None, where: Sequence[tuple[str, str]]) -> bool:
    """Return True if the message that became a job has each of these values at its path."""
    body = kept.message if kept else None
    if not isinstance(body, dict):
        return False
    step = step_of(kept)
    roots = {
        "payload": body.get("payload"), "environment": body.get("environment"), "step": step,
        "parameters": step.get("parameters"), "job_parameters": step.get("job_parameters"),
    }  # fmt: skip
    return all(_is_at(roots, path.split("."), value) for path, value in where)


def _is_at(value: object, path: Sequence[str], expected: str) -> bool:
    """Return True if a JSON value has a value at a path, which is another one as text or JSON."""
    for number, part in enumerate(path):
        if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, dict) and (rest := ".".join(path[number:])) in value:
            value = value[rest]  # a key with dots
            break
        else:
            return False
    if isinstance(value, str):
        return value == expected
    with contextlib.suppress(MessageError):
        told: object = decode(expected.encode())
        return type(told) is type(value) and told == value
    return False
