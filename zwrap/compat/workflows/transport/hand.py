"""Messages that a transport has delivered and not yet settled, and its open transactions."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from zwrap.compat.workflows.basics import Error
from zwrap.message.content import Outgoing, trace_of
from zwrap.message.identity import child_id, new_id
from zwrap.transport.contract import Delivery, Unit
from zwrap.transport.signing import Signer


class Hand:
    """Messages that were delivered, and are neither acknowledged nor rejected, by their ids."""

    def __init__(self) -> None:
        self._held: dict[str, Delivery] = {}
        self._lock = threading.Lock()

    def take(self, delivery: Delivery) -> str:
        """Take a message; return its id, a fresh one if that of the message is in use."""
        with self._lock:
            known = delivery.message.id in self._held
            identity = new_id() if known else delivery.message.id
            self._held[identity] = delivery
            return identity

    def find(self, identity: object) -> Delivery:
        """Return the message of an id; Error if it is not in hand."""
        with self._lock:
            if delivery := self._held.get(str(identity)):
                return delivery
        raise Error(
            f"Message {identity} is not in hand: it was acknowledged or rejected before, or was "
            "never delivered to this service."
        )

    def drop(self, *deliveries: Delivery) -> None:
        """Forget messages, if they are in hand."""
        with self._lock:
            for identity in [name for name, held in self._held.items() if held in deliveries]:
                del self._held[identity]

    def all(self) -> list[Delivery]:
        """Return all messages in hand."""
        with self._lock:
            return list(self._held.values())

    def __contains__(self, delivery: object) -> bool:
        return delivery in self.all()


class Handling:
    """The work of one thread on one message, which gives what it sends its identity."""

    def __init__(self, delivery: Delivery, signer: Signer | None) -> None:
        self.delivery = delivery
        self._unit = unit_after([delivery], delivery.message.id, signer)

    def named(self, message: Outgoing) -> Outgoing:
        """Return a message with the id that a repeat of the work gives it, signed."""
        self._unit.send(message)
        return self._unit.outgoing[-1]


class Transaction:
    """What is sent and settled at the end of a transaction."""

    def __init__(self, handling: Handling | None) -> None:
        self.handling = handling
        """The work during which it was begun; None: it was begun outside of any."""
        self.thread = threading.get_ident()
        """The thread that began it."""
        self.messages: list[tuple[Outgoing, Handling | None]] = []
        """Messages to send, and the work during which each was added."""
        self.acked: list[Delivery] = []
        self.rejected: list[tuple[Delivery, Exception]] = []

    def concerns(self, delivery: Delivery) -> bool:
        """Tell whether a message is settled by the transaction, or its handler began it."""
        begun = self.handling is not None and self.handling.delivery is delivery
        return begun or delivery in self.settled()

    def ack(self, delivery: Delivery) -> None:
        """Let a message be acknowledged."""
        if delivery not in self.acked:
            self.acked.append(delivery)

    def settled(self) -> list[Delivery]:
        """Return the messages that are acknowledged or rejected."""
        return [*self.acked, *(each for each, _ in self.rejected)]

    def named(self, signer: Signer | None, at_work: Handling | None) -> Sequence[Outgoing]:
        """Return the messages with the ids that a repeat of the transaction gives them, signed.

        If it acknowledges exactly the message at work, or none, they follow from the work during
        which each was added. Else they follow from all messages that are acknowledged, in order:
        what follows from one of them and other companions is something else.
        """
        alone = at_work if at_work and self.acked == [at_work.delivery] else None
        if alone or not self.acked:
            return [
                by.named(message) if (by := alone or added) else message
                for message, added in self.messages
            ]
        identities = ",".join(each.message.id for each in self.acked)
        unit = unit_after(self.acked, child_id(identities, "transaction"), signer)
        unit.send(*(message for message, _ in self.messages))
        return unit.outgoing


def unit_after(deliveries: Sequence[Delivery], parent: str, signer: Signer | None) -> Unit:
    """Return a unit of what follows from messages, with the first trace among theirs.

    `parent`: id from which those of its messages are derived.
    """
    parents = [(each.message, each.source) for each in deliveries]
    sign = signer.after_all(parents) if signer else None
    traces = (trace_of(message.headers) for message, _ in parents)
    return Unit(parent, sign, next(filter(None, traces), None))
