"""Sources of messages that are sent in portions; each is settled by what became of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from zwrap.errors import MessageError, PermanentError
from zwrap.message.content import Outgoing
from zwrap.message.identity import identity_of
from zwrap.message.jsontext import encode
from zwrap.transport.contract import Transport
from zwrap.transport.failures import HELD_UP
from zwrap.transport.sending import Place, place_of
from zwrap.units import LONGEST_S

PORTION, PORTION_BYTES = 100, 4 << 20
"""Number of messages that are sent as one portion, and size of a portion in bytes; the first of
both that is reached ends it."""

T = TypeVar("T")


class Record:
    """What became of messages, perhaps of several sources. `done`: ids of those sent before."""

    def __init__(self, done: Iterable[str] = ()) -> None:
        self.done = set(done)
        """Ids of the messages that were sent, or refused for good."""
        self.new: set[str] = set()
        """Those of them that were added since somebody has cleared this set."""
        self.refused: dict[str, str] = {}
        """Id of each message that the transport refused for good, to the reason."""
        self.held_up: dict[Place, Exception] = {}
        """Queue or topic that takes no messages at present, to the reason; theirs stay."""

    def add(self, identity: str, reason: str | None = None) -> None:
        """Note that a message was sent, or refused for a reason."""
        self.done.add(identity)
        self.new.add(identity)
        if reason is not None:
            self.refused[identity] = reason


class Source(ABC, Generic[T]):
    """Messages of one place, which are sent in order and in portions.

    A message that can never be sent is put aside, and one to a queue that takes none at present
    stays, with all that follow to the same queue; the others are sent all the same.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self._stay: list[T] = []
        """Messages that were tried, and could not be sent."""

    def portion(self, transport: Transport) -> bool:
        """Send the next portion; return False if no message is left that was not tried.

        Raises:
            TransportError: The transport cannot be used now; the remaining messages stay.
            OSError: The place cannot be read or written.
        """
        taken: list[tuple[T, Outgoing]] = []
        size, more = 0, True
        try:
            while more and len(taken) < PORTION and size < PORTION_BYTES:
                following = self._next()
                more = following is not None
                if following is not None:
                    entry, message, length = following
                    taken.append((entry, message))
                    size += length
            failures = _send(transport, [message for _, message in taken], self.record.held_up)
        except BaseException:
            self._stay += [entry for entry, _ in taken]
            raise
        self._settle(taken, failures)
        return more

    def _settle(
        self, taken: Sequence[tuple[T, Outgoing]], failures: Sequence[Exception | None]
    ) -> None:
        """Remove what was sent, put aside what was refused; raise what is no fault of a message."""
        lost: Exception | None = None
        for (_, message), failure in zip(taken, failures, strict=True):
            if failure is None:  # even if the place cannot be written any more
                self.record.add(identity_of(message))
        for number, ((entry, message), failure) in enumerate(zip(taken, failures, strict=True)):
            try:
                if failure is None:
                    self._sent(entry)
                elif isinstance(failure, PermanentError):
                    self._refuse(entry, str(failure))
                    self.record.add(identity_of(message), str(failure))
                else:
                    self._stay.append(entry)
                    lost = lost or (None if isinstance(failure, HELD_UP) else failure)
            except BaseException:
                self._stay += [entry for entry, _ in taken[number:]]
                raise
        if lost is not None:
            raise lost

    @abstractmethod
    def _next(self) -> tuple[T, Outgoing, int] | None:
        """Return the next entry, its message, and the size of that in bytes; None: no other."""

    @abstractmethod
    def _sent(self, entry: T) -> None:
        """Remove what was sent."""

    @abstractmethod
    def _refuse(self, entry: T, reason: str) -> None:
        """Put aside what was refused for good."""


class Listed(Source[Outgoing]):
    """Messages at hand; those that were sent before, or refused, are passed over.

    Args:
        messages: The messages.
        record: What became of them.
        refuse: Function that keeps a message that was refused, with the reason.
    """

    def __init__(
        self,
        messages: Iterable[Outgoing],
        record: Record,
        refuse: Callable[[Outgoing, str], None],
    ) -> None:
        super().__init__(record)
        self._left = deque(messages)
        self._keep_refused = refuse

    def add(self, messages: Iterable[Outgoing]) -> None:
        """Add messages, which come last; another thread may be sending."""
        self._left.extend(messages)

    def rest(self) -> None:
        """Take back what stays; it comes first."""
        self._left.extendleft(reversed(self._stay))
        self._stay.clear()

    def _next(self) -> tuple[Outgoing, Outgoing, int] | None:
        while self._left:
            message = self._left.popleft()
            if identity_of(message) not in self.record.done:
                return message, message, _size(message)
        return None

    def _sent(self, entry: Outgoing) -> None:
        pass

    def _refuse(self, entry: Outgoing, reason: str) -> None:
        self._keep_refused(entry, reason)


def _send(
    transport: Transport, messages: Sequence[Outgoing], held_up: dict[Place, Exception]
) -> list[Exception | None]:
    """Send messages, but none to places in `held_up`, to which others are added.

    Returns why each message was not sent; None: it was.
    """
    failures = [held_up.get(place_of(message)) or flaw_of(message) for message in messages]
    ready = [number for number, failure in enumerate(failures) if failure is None]
    outcomes = transport.send_each([messages[number] for number in ready]) if ready else []
    for number, failure in zip(ready, outcomes, strict=True):
        failures[number] = failure
        if isinstance(failure, HELD_UP):
            held_up.setdefault(place_of(messages[number]), failure)
    return failures


def flaw_of(message: Outgoing) -> MessageError | None:
    """Return why the delay or lifetime of a message cannot be a time; None: it can."""
    for given_s in (message.delay_s, message.expires_s):
        if given_s is not None and not 0 <= given_s <= LONGEST_S:
            return MessageError(
                f"A message to {message.destination!r} has a delay or lifetime of {given_s:g} s; "
                f"0 to {LONGEST_S} is expected."
            )
    return None


def _size(message: Outgoing) -> int:
    """Return the size of a message in bytes; 0 if it cannot be written."""
    try:
        return len(encode(message.message))
    except (TypeError, ValueError, RecursionError):
        return 0
