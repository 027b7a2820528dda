"""Service JSONLines: append messages to files, one JSON value per line."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError
from zwrap.host.clock import Clock, elapsed
from zwrap.host.files import write_all
from zwrap.message import encode
from zwrap.recipe.envelope import Envelope
from zwrap.service.contract import Service
from zwrap.transport.contract import Delivery, Transport

log = logging.getLogger(__name__)

BATCH_SIZE = 100
"""Number of messages that are held before they are written."""

BATCH_WAIT_S = 1.0
"""Longest time for which a message is held, in seconds."""

RETRY_S = 30.0
"""Delay of messages whose file cannot be written now, in seconds."""

_PERMANENT_FAULTS = (PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError)


class _Kept(NamedTuple):
    """A message that is held, and its line."""

    delivery: Delivery
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
        self._kept: dict[Path, list[_Kept]] = {}
        self._oldest = 0.0

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        """Hold the message until it is written with others."""
        if envelope is None:
            raise MessageError("A line is written for a recipe message only.")
        file, value = _line(envelope)
        if not self._kept:
            self._oldest = self._clock()
        self._kept.setdefault(file, []).append(_Kept(delivery, encode(value) + b"\n"))
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

    def write(self) -> None:
        """Write all messages that are held; a file that cannot be written delays no other file."""
        kept, self._kept = self._kept, {}
        for file, entries in kept.items():
            try:
                append(file, [entry.line for entry in entries])
            except OSError as error:
                self._refuse(file, [entry.delivery for entry in entries], error)
            else:
                with self.transport.unit(*[entry.delivery for entry in entries]):
                    log.info("%d lines written to %s", len(entries), file)

    def _refuse(self, file: Path, deliveries: Sequence[Delivery], error: OSError) -> None:
        """Settle messages whose file cannot be written: dead letters if that is permanent."""
        reason = f"{error.filename or file} cannot be written: {error.strerror}."
        if isinstance(error, _PERMANENT_FAULTS):
            log.error("%s %d messages are dead letters", reason, len(deliveries))
            for delivery in deliveries:
                delivery.dead_letter(reason)
        else:
            log.warning("%s %d messages are tried again", reason, len(deliveries))
            for delivery in deliveries:
                delivery.retry(RETRY_S, counted=False)


def _line(envelope: Envelope) -> tuple[Path, object]:
    """Return file and value of a message; MessageError names the parameter that is wrong."""
    parameters: object = envelope.step.get("parameters")
    where = f"Node {envelope.pointer}, parameters"
    file = parameters.get("output_filename") if isinstance(parameters, dict) else None
    if not isinstance(parameters, dict) or not isinstance(file, str):
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


def append(file: Path, lines: Sequence[bytes]) -> None:
    """Append all lines or, if the disk is full, none; OSError if they cannot be written."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o664)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # other instances append to the file, too
        size = os.fstat(descriptor).st_size
        try:
            write_all(descriptor, b"".join(lines))
            os.fsync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):  # only a regular file can be truncated
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
