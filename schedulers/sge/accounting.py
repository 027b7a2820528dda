"""Records of the accounting (accounting(5)), also of its files that were moved away.

logrotate(8) moves the file to another name, and the qmaster begins a new one; qacct(1) reads any
file by name.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Generic, TypeVar

import msgspec

from zwrap.errors import UnreachableError
from zwrap.scheduler import Command, Question, Reply

from .replies import Record

T = TypeVar("T")

Reader = Callable[[Reply], T | Question[T]]

log = logging.getLogger(__name__)

MOST_FILES = 10
"""Largest number of files that are searched for a record, newest first."""

COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".Z")
"""Ends of the names of files that qacct cannot read."""


class Wanted(msgspec.Struct, Generic[T], frozen=True):
    """Records that are wanted, and what is made of them."""

    read: Callable[[Reply], list[Record]]
    """Function that reads a reply of qacct."""
    enough: Callable[[Sequence[Record]], bool]
    """Function that says whether no record is missing."""
    answer: Callable[[Sequence[Record]], T]
    """Function that makes the answer of the records, oldest first."""
    partial: Callable[[Sequence[Record]], T] | None = None
    """Function that makes the answer if a moved file cannot be read; None: there is none."""

    def ask(self, qacct: Callable[..., Command], moved: Callable[[], list[str]]) -> Question[T]:
        """Ask the accounting, then one further file after the other until it is enough.

        Args:
            qacct: Function that returns the call of qacct with some more options.
            moved: Function that returns the further files, newest first.
        """

        def reader(
            later: Sequence[Record],
            files: list[str] | None,
            answer: Callable[[Sequence[Record]], T],
        ) -> Reader[T]:
            def read(reply: Reply) -> T | Question[T]:
                made = answer
                try:
                    records = [*self.read(reply), *later]
                except UnreachableError as error:
                    if self.partial is None or files is None:
                        raise
                    _warn_of("A file of the moved accounting cannot be read", str(error))
                    records, made = [*later], self.partial
                if self.enough(records):
                    return made(records)
                left = moved() if files is None else files
                if not left:
                    return made(records)
                return Question(qacct("-f", left[0]), reader(records, left[1:], made))

            return read

        return Question(qacct(), reader((), None, self.answer))


def moved_away(pattern: str, environment: Mapping[str, str]) -> list[str]:
    """Return the files that match a pattern and that qacct can read, newest first.

    Args:
        pattern: Pattern of shells, with ``$NAME`` for variables.
        environment: Variables of the cluster, which go before those of this process.
    """
    given = {"SGE_CELL": "default", **os.environ, **environment}  # qsub(1): that is the default
    known = {name: glob.escape(text) for name, text in given.items()}
    found: list[tuple[float, str]] = []
    for file in glob.glob(Template(pattern).safe_substitute(known)):  # noqa: PTH207  (absolute)
        if file.endswith(COMPRESSED):
            _warn_of(
                f"{file} is compressed, and is not searched for the record of a job that is in no "
                "other file",
                "Let the newest file stay as it is (logrotate: delaycompress).",
            )
        elif Path(file).is_file() and os.access(file, os.R_OK):
            with contextlib.suppress(OSError):  # it was just moved again
                found.append((Path(file).stat().st_mtime, file))
    return [file for _, file in sorted(found, reverse=True)[:MOST_FILES]]


@functools.lru_cache(maxsize=1000)
def _warn_of(what: str, more: str) -> None:
    """Log once what is wrong."""
    log.warning("%s. %s", what, more)
