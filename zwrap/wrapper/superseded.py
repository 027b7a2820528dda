"""Copies of results that a failed attempt made, and that a later success takes away.

An error file that a failed attempt copied to ``results_directory`` would stand there beside the
results of the attempt that succeeded, and people and programs would take that for failed. So an
attempt that fails keeps in its job directory what it has copied, and the next success of the same
step removes what of it is there unchanged, and was not written again.

What a process copied that was killed meanwhile, or whose job directory is on another node's own
disk, is not known, and stays.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import msgspec

from zwrap.errors import MessageError
from zwrap.host.beneath import AllowedDirectories, OutsideError
from zwrap.host.files import UnfitFileError, read_regular, write_atomically
from zwrap.message.identity import digest_of
from zwrap.message.jsontext import decode, encode, typed
from zwrap.program.listing import Status, status_of
from zwrap.recipe.envelope import Envelope

log = logging.getLogger(__name__)

COPIES = "copies.json"
"""File in the directory of a failed attempt with the copies that it made."""

RECORDS = 1000
"""Largest number of failed attempts, in one working directory, whose copies are looked at."""

COPIES_BYTES = 16 << 20
"""Largest size of such a file that is read, in bytes."""


class Copies(msgspec.Struct, frozen=True):
    """The copies that a failed attempt made."""

    step: str
    """Digest of what makes attempts those at one step."""
    files: dict[str, Status]
    """Path of each copy to its status when it had been made."""


def step_of(program: str, directory: Path, envelope: Envelope) -> str:
    """Return a digest of what makes attempts those at one step, whoever sent its message again.

    Args:
        program: Name of the program.
        directory: Directory of the run.
        envelope: The step. Its job parameters may change from one attempt to the next.
    """
    task = envelope.environment.get("array-task")
    return digest_of([program, str(directory), envelope.pointer, task, envelope.payload])


def note(attempt: Path, step: str, copies: Iterable[Path]) -> None:
    """Keep the copies that an attempt has made, which has failed; a full disk is no error."""
    files: dict[str, Status] = {}
    for copy in copies:
        with contextlib.suppress(OSError):
            files[str(copy)] = status_of(copy.lstat())
    before = _read(attempt / COPIES)
    if before and before.step == step:  # of an earlier run of this attempt
        files = {**before.files, **files}
    if files:
        with contextlib.suppress(OSError):
            write_atomically(attempt / COPIES, encode(Copies(step, files)), durable=False)


def remove(
    attempt: Path,
    step: str,
    written: Collection[Path],
    below: Sequence[Path],
    allowed: AllowedDirectories,
) -> None:
    """Remove what failed attempts at a step have copied, after a success; each is logged.

    Args:
        attempt: Directory of the attempt that has succeeded.
        step: Digest of the step.
        written: Copies that the success has made: they have taken the place of earlier ones.
        below: Directories to which it copies; what lies elsewhere stays.
        allowed: Directories below which the step may name paths.
    """
    records = [
        (file, found)
        for file in itertools.islice(sorted(attempt.parent.glob(f"*/{COPIES}")), RECORDS)
        if not file.parent.is_symlink() and (found := _read(file)) and found.step == step
    ]
    copies = {Path(name) for _, record in records for name in record.files}
    here = {copy for copy in copies if any(_is_below(copy, each) for each in below)}
    for copy in sorted(here - set(written)):
        _remove(copy, {record.files.get(str(copy)) for _, record in records}, allowed)
    for file, record in records:
        if here.issuperset(map(Path, record.files)):
            with contextlib.suppress(OSError):
                file.unlink()


def _is_below(path: Path, directory: Path) -> bool:
    """Return True if a path is below a directory by its text."""
    return path.is_relative_to(directory) and ".." not in path.parts


def _remove(copy: Path, known: Collection[Status | None], allowed: AllowedDirectories) -> None:
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


def _read(file: Path) -> Copies | None:
    """Return the copies that were kept in a file; None: there are none that can be read."""
    try:
        return typed(decode(read_regular(file, COPIES_BYTES), str(file)), Copies)
    except (OSError, UnfitFileError, MessageError, msgspec.ValidationError):
        return None
