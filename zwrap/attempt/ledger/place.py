"""The file of a SQLite ledger, and the marks that say that there is one."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import sqlalchemy as sa

from zwrap.attempt.ledger.faults import UnusableLedgerError
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError
from zwrap.host.files import create_once
from zwrap.host.modes import PRIVATE_FILE, make_private
from zwrap.host.mounts import NETWORK_FILESYSTEMS, filesystem_of
from zwrap.host.paths import default_spool, state_directory

MARK = ".mark"
"""Ending of the name of the mark beside a ledger."""

_TEXT = b"""\
There is, or was, a ledger of zwrap. While this file is here, no empty one takes its place unasked;
see "zwrap ledger create".
"""


def default_file() -> Path:
    """Return the file of this host's ledger, for sites that configure none."""
    return state_directory() / "ledger.sqlite"


def mark_of(file: Path) -> Path:
    """Return the mark of a ledger in a file."""
    return file.with_name(file.name + MARK)


def spool_of(configuration: Configuration) -> Path:
    """Return the directory in which the spool of a site is, if it has one."""
    settings = configuration.site.spool
    return Path(settings.path) if settings else default_spool()


class Marks:
    """The marks of a ledger in a file: one beside it, and one in the spool.

    The second one is there when all of the state directory is not.
    """

    def __init__(self, file: Path, spool: Path | None = None) -> None:
        self._file = file
        self._paths = [mark_of(file)]
        if spool and file.parent not in spool.parents:
            name = hashlib.sha256(os.fsencode(f"{os.uname().nodename}:{file}")).hexdigest()[:16]
            self._paths.append(spool / f".ledger-{name}")

    @property
    def exist(self) -> bool:
        """True if there is one."""
        return any(each.exists() for each in self._paths)

    def check(self) -> None:
        """Raise UnusableLedgerError if the ledger was in its file, and is not there any more."""
        is_there = self._file.exists() and self._file.stat().st_size
        if not is_there and self.exist:  # a ledger that is there needs no spool that can be read
            raise self.lost()

    def lost(self) -> UnusableLedgerError:
        """Return the error of a ledger that is gone."""
        found = next((each for each in self._paths if each.exists()), self._paths[0])
        return UnusableLedgerError(
            f"The ledger {self._file} is gone, or empty: there was one, as {found} says. Put the "
            "file, or a backup of it, back; if all jobs in it may be forgotten, begin an empty one "
            "(zwrap ledger create)."
        )

    def leave(self) -> None:
        """Make the marks, as far as this user may."""
        for each in self._paths:
            with contextlib.suppress(OSError):  # such as a spool that is not there yet
                if not each.exists():
                    create_once(each, _TEXT, mode=PRIVATE_FILE)

    def remove(self) -> None:
        """Remove the marks, so that an empty ledger may be begun."""
        for each in self._paths:
            each.unlink(missing_ok=True)


def has_ledger(configuration: Configuration) -> bool:
    """Tell whether the site has a ledger, or should have one."""
    if configuration.site.ledger:
        return True
    return default_file().exists() or Marks(default_file(), spool_of(configuration)).exist


def prepare(file: Path) -> None:
    """Create the file of a ledger, and its directory, unless they exist.

    Raises:
        ConfigurationError: The directory cannot be created, or is on a network filesystem.
    """
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
    # One that is there is not opened: to close it would end the locks of this process on it.
    with contextlib.suppress(OSError):  # why it cannot be made is told by SQLite
        made = os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(file, made, PRIVATE_FILE))


def is_cut_off(connection: sa.Connection, file: Path) -> bool:
    """Tell whether the file of a ledger seems to lack its end.

    That is so for a moment, too, while what is in the write-ahead log goes into the file; the log
    keeps the end where that was broken off, or has to wait for somebody who reads.
    """
    if not _is_short(connection, file):
        return False
    try:
        moving = connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")
        is_busy, frames, moved = moving.one()
    except sa.exc.OperationalError:  # this user may only read, or the disk is full
        return False
    return not is_busy and frames == moved and _is_short(connection, file)


def _is_short(connection: sa.Connection, file: Path) -> bool:
    """Tell whether a file is shorter than its header says.

    SQLite does not look at it while a process has the ledger open, but at what this one remembers.
    The file must not be opened here: to close it again would end the locks that SQLite has on it
    in this process, and others would take the write-ahead log away under its transactions. Source:
    "How To Corrupt An SQLite Database File", 2.2.
    """
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    page_size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    return os.stat(file).st_size < int(pages) * int(page_size)


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
