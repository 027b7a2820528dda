"""Copies of results that a failed attempt made, and that a later success takes away.

An error file that a failed attempt copied to ``results_directory`` would stand there beside the
results of the attempt that succeeded, and people and programs would take that for failed. So an
attempt that fails keeps in its job directory what it has copied, and the next success of the same
step removes what of it is there unchanged, and was not written again.

Others may write beside the directories of attempts. So only a record counts that is a file of this
user, which nobody else may read or write, under one name and in an attempt's directory of this
user: no file that zwrap writes or copies for a message has all that.

Copies of an attempt whose job directory is on another node's own disk are not known, and stay.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import os
import re
import stat
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import msgspec

from zwrap.errors import MessageError
from zwrap.host.beneath import AllowedDirectories, OutsideError
from zwrap.host.files import UnfitFileError, append_regular, open_regular
from zwrap.host.modes import PRIVATE_FILE
from zwrap.message.identity import digest_of
from zwrap.message.jsontext import decode, encode, typed
from zwrap.program.listing import Status, status_of
from zwrap.recipe.envelope import Envelope

log = logging.getLogger(__name__)

COPIES = "copies.json"
"""File in the directory of a failed attempt with the copies that it made."""

RECORDS = 100
"""Largest number of failed attempts, in one working directory, whose copies are looked at: those
that failed last."""

COPIES_BYTES = 1 << 20
"""Size of the beginning of such a file that is read, in bytes: some thousand copies."""

_TOKEN = re.compile(r"\w[\w.+-]*-[0-9]+", re.ASCII)
"""Name of the directory of an attempt."""


class Copy(msgspec.Struct, frozen=True):
    """A copy that a failed attempt made, as a line of JSON."""

    step: str
    """Digest of what makes attempts those at one step."""
    path: str
    status: Status
    """Status when it had been made."""


def step_of(program: str, directory: Path, envelope: Envelope) -> str:
    """Return a digest of what makes attempts those at one step, whoever sent its message again.

    Args:
        program: Name of the program.
        directory: Directory of the run.
        envelope: The step. Its job parameters may change from one attempt to the next.
    """
    task = envelope.environment.get("array-task")
    return digest_of([program, str(directory), envelope.pointer, task, envelope.payload])


class Copying:
    """The copies that an attempt makes.

    Args:
        attempt: Directory of the attempt.
        step: Digest of the step.
        below: Directories to which it copies; what lies elsewhere is never removed.
        allowed: Directories below which the step may name paths.
        failed: True if it is a failure already; each copy is then kept at once, because a process
            that copies may be killed.
    """

    def __init__(
        self,
        attempt: Path,
        step: str,
        below: Sequence[Path],
        allowed: AllowedDirectories,
        *,
        failed: bool,
    ) -> None:
        self._attempt, self._step = attempt, step
        self._below, self._allowed = below, allowed
        self._failed = failed
        self._made: list[Path] = []

    def made(self, copy: Path) -> None:
        """Note a copy that has just been made."""
        self._made.append(copy)
        if self._failed:
            self._keep(copy)

    def conclude(self, *, failed: bool) -> None:
        """Keep what a failure has copied; after a success remove what earlier failures have."""
        if not failed:
            try:
                self._remove_earlier()
            except OSError as error:  # no reason to call the success a failure
                log.warning("Copies of earlier failures are not looked for any further: %s", error)
        elif not self._failed:
            for copy in self._made:
                self._keep(copy)

    def _keep(self, copy: Path) -> None:
        """Append a copy to those that the attempt has made; a full disk is no error."""
        with contextlib.suppress(OSError, UnfitFileError):
            line = encode(Copy(self._step, str(copy), status_of(copy.lstat())))
            append_regular(self._attempt / COPIES, line + b"\n", mode=PRIVATE_FILE)

    def _remove_earlier(self) -> None:
        """Remove what failed attempts at the step have copied; each file is logged."""
        for file in _records(self._attempt.parent):
            copies = _read(file)
            known: dict[Path, set[Status]] = defaultdict(set)
            for copy in filter(self._concerns, copies):
                known[Path(copy.path)].add(copy.status)
            for path in sorted(known.keys() - set(self._made)):
                _remove(path, known[path], self._allowed)
            if copies and all(map(self._concerns, copies)):
                with contextlib.suppress(OSError):
                    file.unlink()

    def _concerns(self, copy: Copy) -> bool:
        """Return True if a copy is one of the step, in a directory to which the step copies."""
        path = Path(copy.path)
        here = any(path.is_relative_to(each) for each in self._below)
        return copy.step == self._step and here and ".." not in path.parts


def _remove(copy: Path, known: Collection[Status], allowed: AllowedDirectories) -> None:
    """Remove a copy, if its status is one of those that are known."""
    try:
        with allowed.directory(copy.parent, "A copy of a failed attempt") as place:
            file = place / copy.name
            if status_of(file.lstat()) in known:
                file.unlink()
                log.warning("%s was removed: a failed attempt had copied it there.", copy)
            else:
                log.warning("%s stays: it was changed since a failed attempt copied it.", copy)
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, OutsideError, ValueError) as error:  # ValueError: the path cannot be one
        log.warning("%s, which a failed attempt copied there, stays: %s", copy, error)


def _records(attempts: Path) -> list[Path]:
    """Return the records of the attempts that failed last, beginning with the last one."""

    def found() -> Iterator[tuple[int, Path]]:
        with os.scandir(attempts) as entries:
            for entry in entries:
                file = Path(entry.path, COPIES)
                with contextlib.suppress(OSError):
                    if _TOKEN.fullmatch(entry.name) and _is_ours(file.lstat()):
                        yield file.lstat().st_mtime_ns, file

    return [file for _, file in heapq.nlargest(RECORDS, found())]


def _is_ours(status: os.stat_result) -> bool:
    """Return True for the status of a file that only this user can have written as a record."""
    private = stat.S_ISREG(status.st_mode) and not status.st_mode & 0o077
    return private and status.st_nlink == 1 and status.st_uid == os.geteuid()


def _read(file: Path) -> list[Copy]:
    """Return the copies in a record, as far as they can be read; none if it is not ours."""
    copies = []
    for line in _content(file).splitlines():
        # The last line may be a part of one.
        with contextlib.suppress(MessageError, msgspec.ValidationError):
            copies.append(typed(decode(line, str(file)), Copy))
    return copies


def _content(file: Path) -> bytes:
    """Return the content of a record; empty if it, or its directory, is not this user's."""
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError, UnfitFileError):
        directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        stack.callback(os.close, directory)
        descriptor, _ = open_regular(f"/proc/self/fd/{directory}/{file.name}")
        stack.callback(os.close, descriptor)
        owned = os.fstat(directory).st_uid == os.geteuid()
        if owned and _is_ours(os.fstat(descriptor)):
            return os.read(descriptor, COPIES_BYTES)
    return b""
