"""Owners of claimed messages: a directory with a lease for each, and recovery of dead owners."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

from zwrap.host.files import FilesystemClock, make_directory
from zwrap.host.processes import ProcessIdentity, is_alive, this_process
from zwrap.transport.spool.files import Name

LEASE_S = 180.0
"""Age of a lease at which another host may take over the owner's claims, in seconds."""

RENEW_S = 30.0
"""Interval at which an owner renews its lease, in seconds."""

LEASE = ".lease"
_serial = itertools.count()


class Owner:
    """An owner of messages of one queue in this process: ``pending/<host>-<pid>-<start>,<n>/``."""

    def __init__(self, pending: Path, clock: FilesystemClock) -> None:
        self._pending = pending
        self._clock = clock
        # One directory per instance, so that two instances in a process do not mix up claims.
        self._directory = pending / f"{this_process()},{next(_serial)}"
        self.prefix = f"{self._directory}/"
        """Path of the owner's directory, with a slash at its end."""
        self._leased_at = float("-inf")

    def keep_lease(self) -> None:
        """Renew the lease of this owner, unless that was done lately."""
        now = time.monotonic()
        if now - self._leased_at < RENEW_S / 2:
            return
        make_directory(self._directory)
        (self._directory / LEASE).touch()
        self._leased_at = now

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

    def recover(self, incoming: Path, dead: ProcessIdentity | None = None) -> int:
        """Give back the messages of dead owners, which counts; return the number of messages."""
        return sum(_give_back(directory, incoming) for directory in self._lapsed(dead))

    def count(self) -> int:
        """Return the number of live owners, this one included if it holds a lease."""
        dead = set(self._lapsed())
        return sum(
            directory not in dead and (directory / LEASE).exists()
            for directory in self._pending.iterdir()
        )

    def _lapsed(self, dead: ProcessIdentity | None = None) -> Iterator[Path]:
        """Yield the directories of owners that are dead, or on another host with a lapsed lease.

        `dead`: a process that is known to be dead.
        """
        for directory in self._pending.iterdir():
            owner = ProcessIdentity.parse(directory.name.partition(",")[0])
            if owner is None or directory == self._directory:
                continue
            alive = False if owner == dead else is_alive(owner)
            lease = directory / LEASE
            age_s = self._clock.age_s(lease if lease.exists() else directory)
            if alive is False or (alive is None and age_s > LEASE_S):
                yield directory


def _give_back(directory: Path, incoming: Path) -> int:
    """Give back the messages of one dead owner; return their number."""
    count = 0
    with contextlib.suppress(FileNotFoundError):
        for text in sorted(os.listdir(directory)):
            if text == LEASE:
                continue
            name = Name.parse(text)
            name.delivery_count += 1
            name.not_before_ms = 0
            with contextlib.suppress(FileNotFoundError):  # another process recovers it, too
                (directory / text).rename(incoming / str(name))
                count += 1
        (directory / LEASE).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            directory.rmdir()
    return count
