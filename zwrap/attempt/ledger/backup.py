"""A copy of a SQLite ledger, taken while services write to it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from zwrap.errors import OutageError
from zwrap.host.files import sync_directory
from zwrap.host.modes import PRIVATE_FILE


def copy(file: Path, target: Path) -> None:
    """Copy the ledger in a file to another file, which is there whole, or as it was before.

    Raises OutageError if the ledger cannot be read, or the other file cannot be written.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()  # of a copy that was interrupted
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE))
        _copy(file, part)
        part.replace(target)
        sync_directory(target.parent)
    except (sqlite3.Error, OSError) as error:
        with contextlib.suppress(OSError):
            part.unlink()
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise OutageError(
            f"The ledger {file} cannot be copied to {target}: {said.rstrip('.')}."
        ) from None


def _copy(file: Path, part: Path) -> None:
    """Copy all that is committed, as of one moment, and check the copy."""
    with (
        contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as source,
        contextlib.closing(sqlite3.connect(part)) as copied,
    ):
        copied.execute("PRAGMA synchronous=EXTRA")  # it outlives a power cut
        # At once: what is copied in parts begins anew whenever somebody writes in between.
        source.backup(copied)
        copied.execute("PRAGMA journal_mode=DELETE")  # one file holds all
        [[said]] = copied.execute("PRAGMA quick_check(1)").fetchall()
    if said != "ok":
        raise sqlite3.DatabaseError(f"it is damaged ({said})")
