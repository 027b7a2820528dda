"""The file of a SQLite ledger, and the mark beside it that says that there is one."""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

import sqlalchemy as sa

from zwrap.attempt.ledger.faults import UnusableLedgerError
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError
from zwrap.host.files import create_once
from zwrap.host.modes import PRIVATE_FILE, make_private
from zwrap.host.mounts import NETWORK_FILESYSTEMS, filesystem_of
from zwrap.host.paths import state_directory

MARK = ".mark"
"""Ending of the name of the mark."""

_TEXT = b"""\
A ledger of zwrap is, or was, beside this file. While this file is here, no empty one takes its
place unasked; see "zwrap ledger create".
"""


def default_file() -> Path:
    """Return the file of this host's ledger, for sites that configure none."""
    return state_directory() / "ledger.sqlite"


def mark_of(file: Path) -> Path:
    """Return the mark of a ledger in a file."""
    return file.with_name(file.name + MARK)


def has_ledger(configuration: Configuration) -> bool:
    """Tell whether the site has a ledger, or should have one."""
    file = default_file()
    return bool(configuration.site.ledger) or file.exists() or mark_of(file).exists()


def prepare(file: Path) -> None:
    """Create the file of a ledger, and its directory, unless they exist.

    Raises:
        ConfigurationError: The directory cannot be created, or is on a network filesystem.
        UnusableLedgerError: The file is not there any more.
    """
    check_not_lost(file)
    try:
        make_private(file.parent)
    except OSError as error:
        raise ConfigurationError(
            f"The directory of the ledger, {file.parent}, cannot be created: {error.strerror}."
        ) from None
    kind = filesystem_of(file.parent)
    if kind in NETWORK_FILESYSTEMS:
        raise ConfigurationError(
            f"The ledger {file} would lie on a network filesystem ({kind}), where SQLite can "
            "lose or damage it. Set ZWRAP_STATE to a directory on a local disk."
        )
    with contextlib.suppress(OSError):  # why it cannot be made is told by SQLite
        os.close(os.open(file, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE))


def check_not_lost(file: Path) -> None:
    """Raise UnusableLedgerError if a ledger was in this file, and is not there any more."""
    if mark_of(file).exists() and not (file.exists() and file.stat().st_size):
        raise lost(file)


def lost(file: Path) -> UnusableLedgerError:
    """Return the error of a ledger that is gone."""
    return UnusableLedgerError(
        f"The ledger {file} is gone, or empty: there was one, as {mark_of(file).name} beside it "
        "says. Put the file, or a backup of it, back; if all jobs in it may be forgotten, begin an "
        "empty one (zwrap ledger create)."
    )


def mark(file: Path) -> None:
    """Leave the mark of a ledger beside it, as far as this user may."""
    with contextlib.suppress(OSError):
        if not mark_of(file).exists():
            create_once(mark_of(file), _TEXT, mode=PRIVATE_FILE)


def is_cut_off(connection: sa.Connection, file: Path) -> bool:
    """Tell whether the file of a ledger seems to lack its end.

    That is so for a moment, too, while what is in the write-ahead log goes into the file; the log
    keeps the end where that was broken off, or has to wait for somebody who reads.
    """
    if not _is_short(file):
        return False
    try:
        moving = connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")
        is_busy, frames, moved = moving.one()
    except sa.exc.OperationalError:  # this user may only read, or the disk is full
        return False
    return not is_busy and frames == moved and _is_short(file)


def _is_short(file: Path) -> bool:
    """Tell whether a file is shorter than its header says.

    SQLite does not look at it while a process has the ledger open, but at what this one remembers.
    Source: "Database File Format" of SQLite, 1.3.
    """
    with file.open("rb") as opened:
        header = opened.read(_HEADER.size)
        size = os.fstat(opened.fileno()).st_size
    if len(header) < _HEADER.size:
        return True
    page_size, changed, pages, valid = _HEADER.unpack(header)
    in_bytes = 65536 if page_size == 1 else page_size
    return bool(changed == valid and size < pages * in_bytes)


_HEADER = struct.Struct(">16x H 6x I I 60x I")
"""Page size, change counter, number of pages, and the change counter for which that is valid."""


class Identity:
    """Which file is meant by the name of a ledger, while a process has it open."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._first = self._now()

    def check(self) -> None:
        """Raise UnusableLedgerError if the file is not there, or is another one."""
        if self._now() != self._first:
            raise UnusableLedgerError(
                f"The ledger {self._file} was removed or replaced while it was in use. Put the "
                "file back; else restart all services that use it, once its backup is there."
            )

    def _now(self) -> tuple[int, int] | None:
        """Return device and inode of the file; None: there is none."""
        try:
            found = os.stat(self._file)
        except OSError:
            return None
        return found.st_dev, found.st_ino
