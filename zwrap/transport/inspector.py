"""The second half of the transport contract, for people and monitors: queues and dead letters.

`Transport.inspector` returns an inspector, which works on the same connection. Its module is loaded
only then, because a job never needs it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

from zwrap.errors import ConfigurationError
from zwrap.transport.contract import Delivery


class Inspector(ABC):
    """Queues and dead letters behind one connection. All methods may be called from any thread.

    Each method raises TransportError if the other side cannot be asked.
    """

    bounded_by: ClassVar[str] = ""
    """Sentence that tells what limits deliveries, for an inspector that is not `Overdelivered`."""

    @abstractmethod
    def queues(self) -> dict[str, int]:
        """Return the number of waiting messages, delayed ones included, of all queues by name."""

    @abstractmethod
    def waiting(self, queue: str) -> int:
        """Return the number of waiting messages of a queue, delayed ones included.

        Raises MessageError if there is no such queue, where the transport can know that.
        """

    def exists(self, queue: str, *, dead: bool = False) -> bool | None:
        """Return whether a queue, or with `dead` the place of its dead letters, is there.

        It is not made by that, as reading it may do. None: that cannot be told.
        """
        del queue, dead
        return None

    @abstractmethod
    def consumers(self, queue: str) -> int:
        """Return the number of receivers of a queue, those of this connection included."""

    @abstractmethod
    def dead_letters(self) -> dict[str, int]:
        """Return the number of dead letters of each queue that has any, by the queue's name."""

    def dead_letters_of(self, namespace: str) -> dict[str, int]:
        """Return the number of dead letters of each queue of a namespace that has any.

        A namespace is a vhost of RabbitMQ, or a prefix of names on ActiveMQ. Raises MessageError
        if it cannot be looked at, and ConfigurationError where there are no namespaces.
        """
        raise ConfigurationError(
            f"There is no namespace {namespace!r}: only RabbitMQ (vhosts) and ActiveMQ (prefixes) "
            "have namespaces, and this site uses neither of them. Leave -n out."
        )

    @abstractmethod
    def subscribe_dead_letters(self, queue: str, prefetch: int = 1) -> None:
        """Begin to receive the dead letters of a queue, by `Transport.receive`.

        `ack` removes a dead letter, `retry` leaves it among the dead letters. One that cannot be
        decoded has its text as the body, and the header `zwrap-undecodable`.

        Args:
            queue: Name of the queue, not of its dead letter queue.
            prefetch: Largest number of dead letters that are delivered and not settled.
        """

    def audit(self) -> list[str]:
        """Return a sentence for each way in which messages may be lost or delivered for ever."""
        return []

    def missing_permissions(self, topics: Sequence[str]) -> list[str]:
        """Return a sentence for each permission that the user of this connection lacks.

        `topics`: topics on which zwrap broadcasts or listens.
        """
        del topics
        return []

    def declaration(self, topics: Sequence[str]) -> str:
        """Return what a site has to make on the server for zwrap, as a file; empty: nothing."""
        del topics
        return ""


class Overdelivered(ABC):
    """Further method of an inspector, if the other side itself does not limit deliveries."""

    @abstractmethod
    def overdelivered(self, limit: int) -> Iterator[Delivery]:
        """Receive each waiting message that was delivered more than `limit` times, of all queues.

        Decoding never fails, because a message may have killed its receiver by its content.
        """
