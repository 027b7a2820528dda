"""Owners of claimed messages: a directory with a lease for each, and recovery of dead owners."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from zwrap.host.faults import is_shared
from zwrap.host.files import touch
from zwrap.host.filetime import FilesystemClock
from zwrap.host.modes import make_alike, make_shared
from zwrap.host.processes import ProcessIdentity, is_alive, this_process
from zwrap.transport.spool.files import Name

log = logging.getLogger(__name__)

LEASE_S = 180.0
"""Age of a lease at which another host may take over the owner's claims, in seconds."""

RENEW_S = 30.0
"""Interval at which an owner renews its lease, in seconds."""

LEASE = ".lease"
_serial = itertools.count()


class Owner:
    """An owner of messages of one queue in this process: ``pending/<host>-<pid>-<start>,<n>/``."""

    def __init__(self, pending: Path, clock: FilesystemClock, *, shared: bool = True) -> None:
        self._pending = pending
        self.make = make_shared if shared else make_alike
        self._clock = clock
        self._leased_at = float("-inf")
        self._move()

    def _move(self) -> None:
        """Take a directory that no other owner has, neither of this process nor of another one."""
        self._directory = self._pending / f"{this_process()},{next(_serial)}"
        self.prefix = f"{self._directory}/"
        """Path of the owner's directory, with a slash at its end."""

    @property
    def name(self) -> str:
        """Name of the directory of this owner."""
        return self._directory.name

    def keep_lease(self) -> None:
        """Renew the lease of this owner, unless that was done lately."""
        now = time.monotonic()
        if now - self._leased_at < RENEW_S / 2:
            return
        try:
            self._take()
        except OSError as error:
            if is_shared(error) or not os.access(self._pending, os.W_OK | os.X_OK):
                raise
            log.warning("%s is not used any more: %s", self._directory, error.strerror)
            self._move()  # somebody put something else in the place of the directory or the lease
            self._take()
        self._leased_at = now

    def _take(self) -> None:
        """Make the directory of this owner, and renew its lease."""
        self.make(self._directory)
        if self._directory.is_symlink():
            raise NotADirectoryError(errno.ENOTDIR, "a link is there", str(self._directory))
        touch(self._directory / LEASE)

    def restore(self) -> bool:
        """Create the directory again if it was removed; return True if it was."""
        if self._directory.is_dir():
            return False
        self._leased_at = float("-inf")
        self.keep_lease()
        return True

    def close(self) -> None:
        """Remove the directory of this owner, unless it holds messages."""
        with contextlib.suppress(OSError):
            if os.listdir(self._directory) == [LEASE]:
                (self._directory / LEASE).unlink()
                self._directory.rmdir()
        self._leased_at = float("-inf")

    def recover(
        self, incoming: Path, dead: ProcessIdentity | None = None, *, counted: bool = True
    ) -> int:
        """Give back the messages of dead owners; return the number of messages.

        `counted`: True if that counts as a delivery. Raises OSError if nothing can be read now;
        what is wrong with one owner or message is logged, and stays where it is.
        """
        return sum(_give_back(place, incoming, counted) for place in self._lapsed(dead))

    def count(self, *, by_lease: bool = False) -> int:
        """Return the number of live owners, this one included if it holds a lease.

        With `by_lease` an owner whose lease has lapsed is none, even if its process lives.
        """
        dead = set(self._lapsed())
        leases = [place / LEASE for place in self._owners() if place not in dead]
        return sum(
            os.path.lexists(lease) and not (by_lease and self._clock.age_s(lease) > LEASE_S)
            for lease in leases
        )

    def _owners(self) -> Iterator[Path]:
        """Yield the directories of owners; links are none."""
        with os.scandir(self._pending) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield self._pending / entry.name

    def _lapsed(self, dead: ProcessIdentity | None = None) -> Iterator[Path]:
        """Yield the directories of owners that are dead, or on another host with a lapsed lease.

        `dead`: a process that is known to be dead.
        """
        for directory in self._owners():
            if directory != self._directory and self._is_dead(directory, dead):
                yield directory

    def _is_dead(self, directory: Path, dead: ProcessIdentity | None = None) -> bool:
        """Return whether the owner of a directory is dead, or elsewhere with a lapsed lease."""
        owner = ProcessIdentity.parse(directory.name.partition(",")[0])
        if owner is None:
            return False
        alive = False if owner == dead else is_alive(owner)
        lease = directory / LEASE
        age_s = self._clock.age_s(lease if os.path.lexists(lease) else directory)
        return alive is False or (alive is None and age_s > LEASE_S)

    def is_live(self, name: str) -> bool:
        """Return whether the owner of that name lives and has a lease that it renews."""
        directory = self._pending / name
        return os.path.lexists(directory / LEASE) and not self._is_dead(directory)


def _give_back(directory: Path, incoming: Path, counted: bool) -> int:
    """Give back the messages of one dead owner; return their number."""
    count = 0
    try:
        for text in sorted(os.listdir(directory)):
            if text != LEASE:
                count += _moved(directory / text, incoming, counted)
        (directory / LEASE).unlink(missing_ok=True)
    except FileNotFoundError:  # another process recovers it, too
        return count
    except OSError as error:
        if is_shared(error):
            raise
        log.debug("%s cannot be taken back: %s", directory, error)
    with contextlib.suppress(OSError):
        directory.rmdir()
    return count


def _moved(file: Path, incoming: Path, counted: bool) -> bool:
    """Give back one message; return False if that is not possible."""
    name = Name.parse(file.name)
    name.delivery_count += counted
    name.not_before_ms = 0
    try:
        file.rename(incoming / str(name))
    except FileNotFoundError:  # another process was faster
        return False
    except OSError as error:
        if is_shared(error):
            raise
        log.debug("%s cannot be given back: %s", file, error)
        return False
    return True
