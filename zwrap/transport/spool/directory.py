"""The directories of one spool queue, and the half that puts messages into them.

::

    tmp/                     writers' scratch
    incoming/                complete messages; claimed in name order
    pending/<owner>/         claimed messages; `.lease` there is touched while the owner lives
    errors/                  dead letters; `<name>.reason` beside each holds its reason

A message moves between them by rename(2), which is atomic on one filesystem, NFS and Lustre
included.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

from zwrap.errors import QueueFullError, TemporaryError, TransportError
from zwrap.host.files import share, sync_directory, write_all
from zwrap.host.filetime import FilesystemClock
from zwrap.host.modes import OWN_FILE
from zwrap.host.processes import host_name
from zwrap.transport.failures import NoPermissionError
from zwrap.transport.spool.claimed import Claimed
from zwrap.transport.spool.files import (
    OWN_SUFFIX,
    Name,
    OccupiedError,
    make_spool_directory,
)
from zwrap.transport.spool.parallel import do_all

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

FEW = 3
"""Largest number of messages that are synced one after the other; more are synced in parallel."""

SYNCING = 4
"""Number of threads that sync files."""

MESSAGE_BYTES = 100 << 20
"""Default of the largest size of a message file that is read, in bytes."""

RELAYED_BYTES = 512 << 20
"""Largest size of a message file that is read to be passed on, in bytes: what RabbitMQ takes."""

LARGE_BYTES = 1 << 20
"""Size of a message from which on it may itself be why there is not enough memory, in bytes."""

_serial = itertools.count()


@functools.cache
def _syncing() -> ThreadPoolExecutor:
    """Return the threads that sync files in parallel."""
    from concurrent.futures import ThreadPoolExecutor  # wrappers start sooner without

    return ThreadPoolExecutor(SYNCING, "spool")


os.register_at_fork(after_in_child=_syncing.cache_clear)  # a child has none of the threads


class Places(NamedTuple):
    """Names of the directories of a queue."""

    incoming: str
    pending: str
    tmp: str
    errors: str


class SpoolDirectory:
    """The directories of a queue, and its producing half. Not thread-safe: users hold a lock.

    The directories are created at the first use, or by `open`.
    """

    places: ClassVar[Places] = Places("incoming", "pending", "tmp", "errors")
    is_shared: ClassVar[bool] = True
    """True if a group shares the queue, whatever the umasks of its users are."""

    def __init__(
        self,
        path: Path,
        *,
        durable: bool = True,
        limit: int = 10_000,
        limit_wait_s: float = 10.0,
        message_bytes: int = MESSAGE_BYTES,
    ) -> None:
        self._place = Path(path)
        self.durable = durable
        """True if messages survive a power cut after `put` has returned."""
        self.limit = limit
        """Largest number of messages that may wait; 0: no limit."""
        self.limit_wait_s = limit_wait_s
        """Longest wait for room in a full queue, in seconds; the owner may change it."""
        self.message_bytes = message_bytes
        """Largest size of a message file that is read, in bytes."""
        self._producer = f"{host_name()}-{os.getpid()}"
        self._room = 0
        self._is_full = False
        """True if the last wait for room was in vain."""
        self._last_ns = 0

    def open(self) -> Self:
        """Create the directories that are missing now, and not at the first use; return the queue.

        Raises TransportError if that is not possible.
        """
        _ = self.path
        return self

    @functools.cached_property
    def path(self) -> Path:
        """Directory of the queue, with those in it; the first use creates what is missing."""
        for name in self.places:
            self._make(self._place / name)
        return self._place

    @functools.cached_property
    def _incoming(self) -> str:
        """Directory of the waiting messages, with a slash at its end."""
        return f"{self.path / self.places.incoming}/"

    @functools.cached_property
    def _tmp(self) -> str:
        """Directory of unfinished files, with a slash at its end."""
        return f"{self.path / self.places.tmp}/"

    @functools.cached_property
    def _errors(self) -> Path:
        """Directory of the dead letters."""
        return self.path / self.places.errors

    @functools.cached_property
    def _clock(self) -> FilesystemClock:
        """Time of the filesystem."""
        return FilesystemClock(self.path / self.places.tmp)

    def _make(self, path: Path) -> None:
        """Create a directory of the queue; TransportError if that is not possible now."""
        make_spool_directory(path, shared=self.is_shared)

    def put(self, contents: Sequence[bytes], *, delay_s: float = 0, expires_s: float = 0) -> None:
        """Add messages, if there is room; they are complete and in order when this returns.

        Args:
            contents: Contents of the files.
            delay_s: Time until the messages can be claimed, in seconds.
            expires_s: Time until they can no longer be claimed, in seconds; 0: always.

        Raises:
            QueueFullError: There is no room.
            TransportError: The disk is full or cannot be written.
        """
        self.wait_for_room(len(contents))
        self.write(contents, delay_s=delay_s, expires_s=expires_s)

    def write(self, contents: Sequence[bytes], *, delay_s: float = 0, expires_s: float = 0) -> None:
        """Do as `put`, after `wait_for_room`."""
        try:
            names = [self._new_name(delay_s, expires_s) for _ in contents]
            if self.durable and len(names) > FEW:
                files = zip(names, contents, strict=True)
                tasks = [partial(self._write, self._tmp + name, content) for name, content in files]
                do_all(tasks, _syncing(), SYNCING)
            else:
                for name, content in zip(names, contents, strict=True):
                    self._write(self._tmp + name, content)
            for name in names:
                os.rename(self._tmp + name, self._incoming + name)
            if self.durable:
                sync_directory(self._incoming)
        except OSError as error:
            again = "It can be sent again when there is space and permission."
            raise self._unwritable(error, again) from None

    def adopt(self, claimed: Claimed) -> None:
        """Add the message of another queue under its name; a repeat leaves one message."""
        old = Name.parse(claimed.name)
        name = str(Name(old.base, 1, 0, old.expires_ms))
        scratch = self._scratch()
        try:
            self._write(scratch, claimed.content)
            os.rename(scratch, self._incoming + name)
            if self.durable:
                sync_directory(self._incoming)
        except OSError as error:
            raise self._unwritable(error, "It stays where it was.") from None

    def _unwritable(self, error: OSError, rest: str) -> TemporaryError:
        """Return the error of a message that cannot be written; `rest` ends its text."""
        kind: type[TemporaryError] = TransportError
        if isinstance(error, PermissionError):
            kind = NoPermissionError
        elif isinstance(error, IsADirectoryError | NotADirectoryError):
            kind = OccupiedError
        return kind(f"The message cannot be written to {self.path}: {error.strerror}. {rest}")

    def _new_name(self, delay_s: float, expires_s: float) -> str:
        """Return a file name that comes after all earlier ones of this process."""
        self._last_ns = max(self._last_ns + 1, self._clock.now_ns())
        name = f"{self._last_ns:019d}-{self._producer}-{next(_serial)}{OWN_SUFFIX}"
        if not delay_s and not expires_s:
            return name
        due_ms = self._last_ns // 1_000_000 + int(delay_s * 1000) if delay_s else 0
        end_ms = self._last_ns // 1_000_000 + int(expires_s * 1000) if expires_s else 0
        return str(Name(name, 1, due_ms, end_ms))

    def _scratch(self) -> str:
        """Return a path in ``tmp`` that no other process or thread writes."""
        return f"{self._tmp}{self._producer}-{time.time_ns()}-{next(_serial)}"

    def _write(self, path: str, content: bytes) -> None:
        """Create a file, durably if the queue is durable; remove it if that fails."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWN_FILE)
        try:
            if self.is_shared:
                share(descriptor)
            write_all(descriptor, content)
            if self.durable:
                os.fsync(descriptor)
        except OSError:
            self._remove(path)
            raise
        finally:
            os.close(descriptor)

    def wait_for_room(self, count: int) -> None:
        """Wait while the queue is full; its messages are counted only now and then.

        Raises QueueFullError after `limit_wait_s`, and immediately if the last wait was in vain:
        who sends to several queues must not wait for each message to a full one.
        """
        if not self.limit:
            return
        self._room -= count
        wait_s = 0.0 if self._is_full else self.limit_wait_s
        deadline = time.monotonic() + wait_s
        while self._room < 0:
            self._room = self.limit - self.waiting() - count
            if self._room >= 0:
                self._is_full = False
                self._room //= 4  # other producers fill the queue, too
                return
            if time.monotonic() >= deadline:
                self._is_full = True
                raise QueueFullError(
                    f"Queue {self.path} holds its limit of {self.limit} messages, and takes no "
                    "more for now. Is its consumer running?"
                )
            time.sleep(min(0.1, wait_s))

    def _remove(self, path: str) -> None:
        """Remove a file that may be gone."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def seconds_until(self, time_ms: int) -> float:
        """Return the time until one in milliseconds since the epoch, in seconds; at least 1 ms."""
        return max(0.001, time_ms / 1000 - self._clock.now())

    def exists(self) -> bool:
        """Return whether the directory is there; OSError: that cannot be told now."""
        return Path(self._incoming).is_dir()

    def waiting(self) -> int:
        """Return the number of messages that wait, delayed ones included."""
        return len(self._names())

    def _names(self) -> list[str]:
        """Return the names of the waiting files, in the order in which they are claimed."""
        try:
            names = os.listdir(self._incoming)
        except OSError as error:
            raise TransportError(f"{self._incoming} cannot be read: {error.strerror}.") from None
        return sorted(name for name in names if not name.startswith("."))
