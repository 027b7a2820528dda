"""Parts that the commands for one queue share, whatever the transport is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from zwrap.cli.common import remark, say
from zwrap.errors import UnknownNameError, ZwrapError
from zwrap.transport.contract import Delivery, Transport

BATCH = 100
"""Number of messages that a command holds at a time."""

TELL_S = 2.0
"""Interval between reports of progress, in seconds."""

SILENCE_S = 1.0
"""Time without a message after which a queue counts as empty, in seconds."""


def check_exists(transport: Transport, queue: str, *, dead: bool = False) -> bool:
    """Return False if a queue has no place for dead letters yet, of which `dead` tells to look.

    Raises UnknownNameError if there is no such queue, where the transport can tell: who reads a
    mistyped one would make it.
    """
    inspector = transport.inspector()
    if inspector.exists(queue) is not False:
        return not dead or inspector.exists(queue, dead=True) is not False
    if dead and inspector.exists(queue, dead=True):  # the queue itself was deleted
        return True
    known: dict[str, int] = {}
    with contextlib.suppress(ZwrapError):  # without the management of a broker none are known
        known = inspector.queues()
    raise UnknownNameError("queue", queue, known, transport.where)


def received(
    transport: Transport, queue: str, prefetch: int, *, dead: bool = False
) -> Iterator[Delivery]:
    """Yield the messages in a queue, or its dead letters, until none comes for `SILENCE_S`."""
    transport.relay()
    if dead:
        transport.inspector().subscribe_dead_letters(queue, prefetch)
    else:
        transport.subscribe(queue, prefetch)
    while delivery := transport.receive(SILENCE_S):
        yield delivery


class Progress:
    """Reports of the progress of a long run to standard error, and of its end to standard output.

    Args:
        done: Participle for the action on each message, such as "sent".
        total: Number of messages that are expected, if it is known.
    """

    def __init__(self, done: str, total: int | None = None) -> None:
        self._done = done
        self._of = f" of {total}" if total else ""
        self._next = time.monotonic() + TELL_S
        self._count = 0

    def step(self) -> None:
        """Count one more message."""
        self._count += 1
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + TELL_S
            with contextlib.suppress(OSError):
                remark(f"{self._count}{self._of} message(s) {self._done} ...")

    def end(self) -> None:
        """Write the count to standard output."""
        say(f"{self._count} message(s) {self._done}.")
