"""Messages that the database hinders again and again although it is there: they give way to others.

A row that somebody has locked for hours, a statement that takes too long, or one whose connection
is lost each time hinders one message, or few. In place it would hold up all behind it for ever. If
others are hindered likewise, it is not about these messages, and all wait in place, in order.
"""

from __future__ import annotations

from collections import OrderedDict

from zwrap.errors import MessageError, OutageError, TemporaryError
from zwrap.host.backoff import Backoff
from zwrap.units import duration

IN_PLACE = 3
"""Number of times that a message is tried in its place, before others."""

AT_ONCE = 3
"""Largest number of messages that give way before another one has gone well."""

TRIES = 20
"""Number of times that a message gives way and others go well, after which it is a dead letter."""

FIRST_S, LAST_S = 60.0, 600.0
"""Time until a message that gave way comes again at first, and the longest one, in seconds."""

REMEMBERED = 10_000
"""Largest number of messages that are remembered."""


class _Hindered:
    """A message that was hindered."""

    def __init__(self) -> None:
        self.tries = 0
        """Number of times that it was tried."""
        self.others = 0
        """Number of times that others went well between two times that it gave way."""
        self.went_well = 0
        """Number of messages that had gone well when it gave way last."""
        self.pauses = Backoff(FIRST_S, LAST_S)


class GivingWay:
    """The messages of one service that are hindered at present."""

    def __init__(self) -> None:
        self._messages: OrderedDict[str, _Hindered] = OrderedDict()
        self._giving_way: set[str] = set()
        """Messages that gave way since the last one that went well."""
        self._went_well = 0

    def went_well(self, message: str) -> None:
        """Note that a message was written."""
        self._went_well += 1
        self._giving_way.clear()
        self.forget(message)

    def forget(self, message: str) -> None:
        """Forget a message that does not come again."""
        self._messages.pop(message, None)

    def hindered(self, message: str, error: OutageError) -> MessageError | TemporaryError:
        """Return what follows for a message that the database hindered, though it is there.

        An OutageError lets all wait, another TemporaryError this message alone; it gets a
        MessageError when it was hindered too often while others went well.
        """
        each = self._messages.setdefault(message, _Hindered())
        self._messages.move_to_end(message)
        while len(self._messages) > REMEMBERED:
            self._messages.popitem(last=False)
        each.tries += 1
        if each.tries < IN_PLACE or len(self._giving_way | {message}) > AT_ONCE:
            return error
        if each.tries > IN_PLACE and self._went_well > each.went_well:
            each.others += 1
        if each.others >= TRIES:
            return MessageError(
                f"The message was tried {each.tries} times, and others went well meanwhile. {error}"
            )
        each.went_well = self._went_well
        self._giving_way.add(message)
        pause_s = each.pauses.next_s()
        return TemporaryError(
            f"The database is there, and hinders this message: those behind it go on, and it "
            f"comes again in {duration(pause_s)}. {error}",
            retry_after_s=pause_s,
        )
