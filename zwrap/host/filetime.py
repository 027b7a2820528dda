"""The time of a filesystem, which several hosts share."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from zwrap.host.clock import Clock, elapsed
from zwrap.host.files import NO_SURPRISE
from zwrap.host.modes import OWN_FILE
from zwrap.host.processes import this_process

_serial = itertools.count()


def touched(directory: Path) -> os.stat_result:
    """Return the status of a new file in a directory, which is removed again.

    Its time stamps are the present time of the filesystem, which may differ from this host's.
    Raises OSError if the directory cannot be written to.
    """
    probe = directory / f".clock.{this_process()}.{next(_serial)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_SURPRISE
    descriptor = os.open(probe, flags, OWN_FILE)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)
        probe.unlink(missing_ok=True)


class FilesystemClock:
    """The time of the filesystem that holds a directory, in seconds since the epoch.

    Leases and delays are compared between hosts, so no host's own clock may decide. The present
    time is the time stamp of a new file, continued by `clock` for `trust_s` seconds.
    """

    def __init__(self, directory: Path, trust_s: float = 30.0, *, clock: Clock = elapsed) -> None:
        self._directory = directory
        self._trust_s = trust_s
        self._clock = clock
        self._read_at = float("-inf")
        self._offset_ns = 0

    def now_ns(self) -> int:
        """Return the time in nanoseconds since the epoch, by the filesystem."""
        elapsed_s = self._clock()
        elapsed_ns = int(elapsed_s * 1e9)
        if elapsed_s - self._read_at > self._trust_s:
            self._offset_ns = touched(self._directory).st_mtime_ns - elapsed_ns
            self._read_at = elapsed_s
        return elapsed_ns + self._offset_ns

    def now(self) -> float:
        """Return the time in seconds since the epoch, by the filesystem."""
        return self.now_ns() / 1e9

    def age_s(self, file: Path) -> float:
        """Return the seconds since a file was last changed; 0 if it is gone."""
        try:
            return self.now() - file.lstat().st_mtime
        except OSError:
            return 0.0
