"""The second half of the transport contract: what a person or a monitor asks of a transport.

An inspector is got by `Transport.inspector()` and works on the same connection. Its module is
loaded only then, because a job never needs it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from zwrap.transport.contract import Delivery


class Inspector(ABC):
    """Queues and dead letters behind one connection. All methods may be called from any thread.

    Each method raises TransportError if the other side cannot be asked.
    """

    bounded_by: ClassVar[str] = ""
    """Sentence that says, where `Overdelivered` is not offered, what bounds deliveries instead."""

    @abstractmethod
    def queues(self) -> dict[str, int]:
        """Return all queues, each with the number of messages that wait, delayed ones included."""

    @abstractmethod
    def waiting(self, queue: str) -> int:
        """Return the number of messages that wait in `queue`, delayed ones included."""

    @abstractmethod
    def consumers(self, queue: str) -> int:
        """Return the number of receivers of `queue`, those of this connection included."""

    @abstractmethod
    def dead_letters(self) -> dict[str, int]:
        """Return the queues that have dead letters, each with their number."""

    @abstractmethod
    def subscribe_dead_letters(self, queue: str, prefetch: int = 1) -> None:
        """Take the dead letters of `queue`, at most `prefetch` unsettled at a time.

        They come by `Transport.receive`: `ack` forgets one, `retry` leaves it where it is. One that
        cannot be decoded has its text as the body and the header `zwrap-undecodable`.
        """

    def audit(self) -> list[str]:
        """Return how the other side could lose a message or deliver it without end; sentences."""
        return []


class Overdelivered(ABC):
    """Offered by an inspector where the other side does not bound deliveries by itself."""

    @abstractmethod
    def overdelivered(self, limit: int) -> Iterator[Delivery]:
        """Take each waiting message that was delivered more than `limit` times, from all queues.

        Nothing is decoded in a way that could fail: a receiver may have died of decoding it.
        """
