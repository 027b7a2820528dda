"""Outages of what all messages need: beginning and end are logged, and nothing in between."""

from __future__ import annotations

from zwrap.errors import OutageError, QueueFullError
from zwrap.host.clock import Clock
from zwrap.host.faults import is_shared
from zwrap.transport.failures import NoPermissionError, RefusedError

REMEMBERED = 10_000
"""Largest number of messages that are remembered."""

QUIET_S = 180.0
"""Time without a further message that met an outage after which it is over, in seconds. A message
comes again earlier than that."""

_OF_DATABASES = frozenset({"OperationalError", "InterfaceError"})
"""Names of exceptions that databases raise when they cannot be used now (PEP 249)."""


def is_outage(error: BaseException) -> bool:
    """Return whether an error says that something which all messages share is away."""
    if holds_up_one_queue(error):
        return False
    if isinstance(error, OutageError) or is_shared(error):
        return True
    return any(kind.__name__ in _OF_DATABASES for kind in type(error).__mro__)


def holds_up_one_queue(error: BaseException) -> bool:
    """Return whether an error is about one queue to which a message leads, and no other one."""
    return isinstance(error, (QueueFullError, RefusedError, NoPermissionError))


class Outage:
    """One outage, and the messages that met it and have not come through since."""

    def __init__(self, name: str, said: str, now: float, *, of_one_queue: bool) -> None:
        self.name = name
        self.said = said
        """What is away, as one sentence."""
        self.of_one_queue = of_one_queue
        """True if only messages to one queue meet it, which has room for few of them at a time."""
        self.since = self.last = now
        self.messages: set[str] = set()


class Outages:
    """All outages of a service at present."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: dict[str, Outage] = {}

    def met(self, message: str, error: BaseException, said: str = "") -> bool:
        """Note that a message met an outage; return True if this outage was not known yet.

        `said`: what the error says, as one sentence.
        """
        name = _name(error)
        now = self._clock()
        new = name not in self._open
        outage = self._open.setdefault(
            name, Outage(name, said, now, of_one_queue=holds_up_one_queue(error))
        )
        outage.last = now
        if len(outage.messages) < REMEMBERED:
            outage.messages.add(message)
        return new

    def any_met_by(self, message: str) -> bool:
        """Return True if a message met an outage that is not over."""
        return any(message in each.messages for each in self._open.values())

    def present(self) -> list[str]:
        """Return what is away for all messages, each as one sentence."""
        return [each.said for each in self._open.values() if not each.of_one_queue]

    def passed(self, message: str) -> list[tuple[str, float]]:
        """Note that a message ended without an outage; return name and duration of what is over.

        An outage is over when one of its messages comes through, that of one queue when all of
        them have, or when nothing has met it for `QUIET_S`; then it lasted until it was met last.
        Durations are in seconds.
        """
        now = self._clock()
        for each in self._open.values():
            if each.of_one_queue and len(each.messages) > 1:
                each.messages.discard(message)
        over = [
            each
            for each in self._open.values()
            if message in each.messages or now - each.last > QUIET_S
        ]
        for each in over:
            del self._open[each.name]
        return [
            (each.name, (now if message in each.messages else each.last) - each.since)
            for each in over
        ]


def _name(error: BaseException) -> str:
    """Return the begin of an error's text, which is the same for all messages that meet it."""
    if isinstance(error, OSError) and error.strerror:
        return str(error.strerror)
    text = str(error).partition(": ")[0]
    return text or type(error).__name__
