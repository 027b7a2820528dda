"""Service JSONLines: append messages to files, one JSON value per line."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import logging
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, OutageError, ZwrapError
from zwrap.host.beneath import ANYWHERE, AllowedDirectories
from zwrap.host.clock import Clock, elapsed
from zwrap.host.faults import is_shared
from zwrap.host.files import write_all
from zwrap.host.modes import READ_FILE
from zwrap.host.printable import shown_path
from zwrap.message.jsontext import encode
from zwrap.recipe.envelope import Envelope
from zwrap.service.contract import Service, Work
from zwrap.service.settling import settle
from zwrap.transport.contract import Delivery, Transport

log = logging.getLogger(__name__)

BATCH_SIZE = 100
"""Number of messages that are held before they are written."""

BATCH_WAIT_S = 1.0
"""Longest time for which a message is held, in seconds."""

LOCK_WAIT_S, LOCK_STEP_S = 1.0, 0.02
"""Longest wait for files that others have locked, and interval of tries, in seconds. Their messages
are tried again; if that fails `delivery_limit` times they are dead letters."""


class _Kept(NamedTuple):
    """A message that is held, and its line."""

    work: Work
    line: bytes


class JSONLines(Service):
    """Service that appends messages to `output_filename` (queue `jsonlines`).

    Parameters of the recipe step: `output_filename`; `include`, `exclude`: lists of keys. A message
    is acknowledged when its line is in the file; after a crash in between the line is written
    twice.
    """

    queue = "jsonlines"
    prefetch = BATCH_SIZE

    def __init__(
        self, configuration: Configuration, transport: Transport, clock: Clock = elapsed
    ) -> None:
        super().__init__(configuration, transport)
        self._clock = clock
        self._allowed = configuration.site.allowed
        self._kept: dict[Path, list[_Kept]] = {}
        self._oldest = 0.0

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        """Hold the message until it is written with others."""
        if envelope is None:
            raise MessageError("A line is written for a recipe message only.")
        file, value = _line(envelope)
        path = file.absolute() if self._allowed.is_restricted else file
        self._allowed.check(path, _place(envelope))
        if not self._kept:
            self._oldest = self._clock()
        self._kept.setdefault(file, []).append(_Kept(Work(delivery, envelope), _encoded(value)))
        if self._count() >= BATCH_SIZE or self._clock() - self._oldest >= BATCH_WAIT_S:
            self.write()

    def _count(self) -> int:
        """Return the number of messages that are held."""
        return sum(map(len, self._kept.values()))

    def idle(self) -> None:
        """Write the messages that are held."""
        self.write()

    def close(self) -> None:
        """Write the messages that are held."""
        self.write()

    def _append(self, file: Path, entries: Sequence[_Kept], deadline: float) -> None:
        """Append the lines of messages to a file; as `append`."""
        envelope = entries[0].work.envelope
        assert envelope
        where = _place(envelope)
        append(file, [entry.line for entry in entries], deadline, self._allowed, where)

    def write(self) -> None:
        """Write all messages that are held, and settle them; each file succeeds or fails alone."""
        kept, self._kept = self._kept, {}
        deadline = time.monotonic() + LOCK_WAIT_S
        outcomes: list[tuple[Work, Exception | None]] = []
        for file, entries in kept.items():
            try:
                with _naming(file):
                    self._append(file, entries, deadline)
                with self.transport.unit(*[entry.work.delivery for entry in entries]):
                    pass
                log.info("%d lines written to %s", len(entries), file)
            except Exception as error:
                outcomes += [(entry.work, error) for entry in entries]
            else:
                outcomes += [(entry.work, None) for entry in entries]
        settle(self, outcomes)


class _LockedError(ZwrapError):
    """A file is locked by another process; its messages are tried again a few times."""


def _encoded(value: object) -> bytes:
    """Return a value as a line of JSON; MessageError if that is impossible."""
    try:
        return encode(value) + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise MessageError(f"The payload cannot be written as JSON: {error}.") from None


def _line(envelope: Envelope) -> tuple[Path, object]:
    """Return file and value of a message; MessageError names the parameter that is wrong."""
    parameters: object = envelope.step.get("parameters")
    where = f"Node {envelope.pointer}, parameters"
    file = parameters.get("output_filename") if isinstance(parameters, dict) else None
    if not isinstance(parameters, dict) or not isinstance(file, str) or "\0" in file:
        raise MessageError(f"{where}, key 'output_filename': the path of a file is expected.")
    value: object = envelope.payload
    included, excluded = (_keys(parameters, name, value, where) for name in ("include", "exclude"))
    if isinstance(value, dict):
        value = {
            key: entry
            for key, entry in value.items()
            if (key in included or not included) and key not in excluded
        }
    return Path(file), value


def _place(envelope: Envelope) -> str:
    """Return the place of the file's name in a step."""
    return f"Node {envelope.pointer}, parameters, key 'output_filename'"


def _keys(
    parameters: Mapping[str, object], name: str, value: object, where: str
) -> Sequence[object]:
    """Return the list of keys in a parameter; MessageError if the payload has no keys."""
    keys = parameters.get(name) or []
    if not isinstance(keys, list):
        raise MessageError(f"{where}, key {name!r} is {keys!r}; a list is expected.")
    if keys and not isinstance(value, dict):
        raise MessageError(
            f"{where}, key {name!r} chooses among keys, and the payload is not an object but a "
            f"{type(value).__name__}."
        )
    return keys


@contextlib.contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Turn errors of a file inside the context into zwrap's; most are its messages' own fault."""
    try:
        yield
    except OSError as error:
        kind = OutageError if is_shared(error) else MessageError
        name = shown_path(error.filename or file)
        raise kind(f"{name} cannot be written: {error.strerror}.") from None
    except ValueError as error:
        raise MessageError(f"{shown_path(file)} cannot be written: {error}.") from None


def append(
    file: Path,
    lines: Sequence[bytes],
    deadline: float = 0.0,
    allowed: AllowedDirectories = ANYWHERE,
    where: str = "The file",
) -> None:
    """Append all lines to a regular file or, if the disk is full, none.

    Args:
        file: The file, which is created with its directories if it is missing.
        lines: Text to append.
        deadline: Time of `time.monotonic` up to which another process may hold the lock.
        allowed: Directories below which the file must be.
        where: Begin of the sentence about a file that is not.

    Raises:
        OSError: The lines cannot be written.
        MessageError: There is something else than a regular file.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
    path = file.absolute() if allowed.is_restricted else file
    descriptor = allowed.opened(path, where, flags, READ_FILE, make=True)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_dev in _kernel_devices():
            raise MessageError(
                f"{shown_path(file)} cannot be written: it is no regular file on a disk."
            )
        _lock(descriptor, file, deadline)  # other instances append to the file, too
        size = os.fstat(descriptor).st_size
        try:
            write_all(descriptor, b"".join(lines))
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


@functools.cache
def _kernel_devices() -> set[int]:
    """Return the devices of the filesystems through which the kernel takes orders."""
    places = filter(os.path.ismount, ("/proc", "/sys", "/sys/fs/cgroup"))
    return {os.stat(place).st_dev for place in places}


def _lock(descriptor: int, file: Path, deadline: float) -> None:
    """Lock a file that is open; an error if another process holds the lock up to `deadline`."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise _LockedError(f"{file} is locked by another process.") from None
            time.sleep(LOCK_STEP_S)
        else:
            return
