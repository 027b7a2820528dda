"""Copies of results that a failed attempt made, and that a later success takes away.

An error file that a failed attempt copied to ``results_directory`` would stand there beside the
results of the attempt that succeeded, and people and programs would take that for failed. So an
attempt that fails keeps in its job directory what it has copied, and the next success of the same
step removes what of it is there unchanged, and was not written again.

Copies of an attempt whose job directory is on another node's own disk are not known, and stay.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from zwrap.errors import MessageError
from zwrap.host.beneath import AllowedDirectories, OutsideError
from zwrap.host.files import UnfitFileError, append_regular, read_regular
from zwrap.message.identity import digest_of
from zwrap.message.jsontext import decode, encode, typed
from zwrap.program.listing import Status, status_of
from zwrap.recipe.envelope import Envelope

log = logging.getLogger(__name__)

COPIES = "copies.json"
"""File in the directory of a failed attempt with the copies that it made."""

RECORDS = 1000
"""Largest number of failed attempts, in one working directory, whose copies are looked at."""

COPIES_BYTES = 64 << 20
"""Largest size of such a file that is read, in bytes."""


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
            append_regular(self._attempt / COPIES, line + b"\n")

    def _remove_earlier(self) -> None:
        """Remove what failed attempts at the step have copied; each file is logged."""
        found = self._attempt.parent.glob(f"*/{COPIES}")
        files = [file for file in sorted(found) if not file.parent.is_symlink()][:RECORDS]
        records = {file: _read(file) for file in files}
        known: dict[Path, set[Status]] = defaultdict(set)
        for copy in itertools.chain.from_iterable(records.values()):
            if self._concerns(copy):
                known[Path(copy.path)].add(copy.status)
        for path in sorted(known.keys() - set(self._made)):
            _remove(path, known[path], self._allowed)
        for file, copies in records.items():
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
    except (OSError, OutsideError) as error:
        log.warning("%s, which a failed attempt copied there, stays: %s", copy, error)


def _read(file: Path) -> list[Copy]:
    """Return the copies that were kept in a file, as far as they can be read."""
    copies = []
    with contextlib.suppress(OSError, UnfitFileError):
        for line in read_regular(file, COPIES_BYTES).splitlines():
            # The last line may be a part of one.
            with contextlib.suppress(MessageError, msgspec.ValidationError):
                copies.append(typed(decode(line, str(file)), Copy))
    return copies
