"""One topic in a directory: files that expire; each reader remembers those that it has read.

A plain broadcast is a separate file; for broadcasts that replace the last one of the same sender (a
status) there is one file per sender, which is replaced by rename(2). The first line of each file is
the time at which it expires (ms since the epoch), so that the next writer can remove it.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from zwrap.host.files import UnfitFileError, first_bytes, read_regular, write_atomically
from zwrap.host.filetime import FilesystemClock
from zwrap.host.processes import this_process
from zwrap.transport.spool.directory import MESSAGE_BYTES
from zwrap.transport.spool.files import make_spool_directory, shortened

log = logging.getLogger(__name__)

DEFAULT_EXPIRY_S = 60.0
"""Default of the lifetime of a broadcast, in seconds."""

SWEEP_S = 30.0
"""Interval at which each writer removes expired files, in seconds."""

_serial = itertools.count()


class SpoolTopic:
    """Directory of a topic, for one reader or writer; the first use creates it."""

    def __init__(self, path: Path, message_bytes: int = MESSAGE_BYTES) -> None:
        self._place = path
        self._message_bytes = message_bytes
        self._heard: dict[str, int] = {}
        self._swept_at = time.monotonic()

    def open(self) -> Self:
        """Create the directory now, and not at the first use; return the topic."""
        _ = self.path
        return self

    @functools.cached_property
    def path(self) -> Path:
        """Directory of the topic, which is created if it is missing."""
        make_spool_directory(self._place)
        return self._place

    @functools.cached_property
    def _clock(self) -> FilesystemClock:
        """Time of the filesystem."""
        return FilesystemClock(self.path)

    def publish(self, content: bytes, expires_s: float | None, replaces: str | None) -> None:
        """Broadcast `content`, which can be received for `expires_s` seconds.

        The last broadcast with the same `replaces` is replaced.
        """
        now_ns = self._clock.now_ns()
        ends_ms = now_ns // 1_000_000 + int(
            1000 * (DEFAULT_EXPIRY_S if expires_s is None else expires_s)
        )
        if replaces is None:
            base = f"{now_ns:019d}-{this_process()}-{next(_serial)}"
        else:
            base = shortened("status-" + re.sub(r"[^A-Za-z0-9._-]", "_", replaces))
        file = self.path / base
        try:
            write_atomically(file, f"{ends_ms}\n".encode() + content, durable=False, shared=True)
        except IsADirectoryError:  # nobody hears the statuses of a sender whose place is taken
            log.warning("%s is a directory, and no broadcast", file)
        if time.monotonic() - self._swept_at > SWEEP_S:
            self._swept_at = time.monotonic()
            self._sweep(now_ns)

    def listen(self) -> None:
        """Begin to listen; of earlier broadcasts only each sender's last status is received."""
        self._heard = {name: stamp for name, stamp in self._files() if name[:7] != "status-"}

    def hear(self) -> Iterator[bytes]:
        """Yield the broadcasts since the last call that have not expired."""
        found = dict(self._files())
        if not found and not os.path.lexists(self.path):  # somebody removed it
            make_spool_directory(self.path)
        for name, stamp in sorted(found.items()):
            if self._heard.get(name) == stamp:
                continue
            with contextlib.suppress(OSError, UnfitFileError, ValueError):
                data = read_regular(self.path / name, self._message_bytes)
                ends_ms, _, content = data.partition(b"\n")
                if int(ends_ms) > self._clock.now() * 1000:
                    yield content
        self._heard = found

    def _files(self) -> Iterator[tuple[str, int]]:
        """Yield the name of each broadcast, and a number that changes if the file is replaced.

        There are none if the directory was removed, or if something else is in its place.
        """
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(self.path) as entries,
        ):
            for entry in entries:
                if not entry.name.startswith("."):
                    with contextlib.suppress(OSError):
                        state = entry.stat(follow_symlinks=False)
                        yield entry.name, state.st_mtime_ns ^ state.st_ino

    def _sweep(self, now_ns: int) -> None:
        """Remove expired files, which long-lived writers do, and short jobs do not."""
        for name, _ in self._files():
            file = self.path / name
            with contextlib.suppress(OSError, UnfitFileError, ValueError):
                ends_ms, _, _ = first_bytes(file, 32).partition(b"\n")
                if int(ends_ms) * 1_000_000 < now_ns:
                    file.unlink()
