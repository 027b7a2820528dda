"""Work of a program that has saved its state: it goes on in another run, or in the next attempt.

Its results are then those of all these runs: files that were not there before the first of them. An
error is still one of the last run alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from zwrap.attempt.directory import JobDirectory
from zwrap.errors import MessageError
from zwrap.job import Outcome
from zwrap.program import listing
from zwrap.program.listing import NOT_LISTED, Listing

GOES_ON = "goes-on.json"
"""File in the directory of an attempt with the listing before the first run of its work, for a
program that has saved its state."""


def keep_first(attempt: Path, before: Listing) -> None:
    """Keep the listing before the first run of the work that goes on after this run."""
    listing.keep(before, attempt / GOES_ON)


def first_listing(attempt: Path, directory: Path) -> Listing | None:
    """Return the listing before the first run of the work that a run goes on with, and keep it.

    An earlier run of the attempt has left it, or the last attempt, unless that was a success.

    Args:
        attempt: Directory of the attempt.
        directory: Directory of the run.
    """
    for place in _places(attempt):
        found = listing.kept(place / GOES_ON, directory)
        if found != NOT_LISTED:
            keep_first(attempt, found)
            return found
    return None


def kept_first(attempt: Path, directory: Path) -> Listing | None:
    """Return the listing that `first_listing` returned for the last run of an attempt."""
    found = listing.kept(attempt / GOES_ON, directory)
    return None if found == NOT_LISTED else found


def _places(attempt: Path) -> Iterator[Path]:
    """Yield the directories of the attempt and of the one whose work it may go on with."""
    yield attempt
    family, _, number = attempt.name.rpartition("-")
    if family and number.isascii() and number.isdecimal() and len(number) < 10:
        last = attempt.with_name(f"{family}-{int(number) - 1}")
        if os.path.lexists(last / GOES_ON) and not _was_success(last):
            yield last


def _was_success(attempt: Path) -> bool:
    """Return True if an attempt has ended as a success."""
    with contextlib.suppress(OSError, MessageError):
        verdict = JobDirectory(attempt).verdict()
        return verdict is not None and verdict.outcome is Outcome.SUCCESS
    return False
