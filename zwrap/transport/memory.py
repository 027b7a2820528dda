"""Station "transport", in memory: the contract without a server or a disk, for tests."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import ClassVar

import msgspec

from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, TransportError
from zwrap.message.content import Message, Outgoing
from zwrap.message.identity import identify
from zwrap.message.jsontext import decode, encode
from zwrap.transport.contract import Delivery, Original, Settlement, Transport, Verb
from zwrap.transport.failures import ReadElsewhereError, TooLargeError
from zwrap.transport.inspector import Inspector, Overdelivered
from zwrap.transport.memorybroker import DeadLetter, MemoryBroker as MemoryBroker, Waiting
from zwrap.transport.options import BrokerOptions
from zwrap.transport.refused import kept_whole
from zwrap.transport.sending import encoded


class MemoryTransport(Transport):
    """One connection to a `MemoryBroker`."""

    gives_alone: ClassVar[bool] = True

    def __init__(self, broker: MemoryBroker | None = None) -> None:
        super().__init__()
        self.broker = broker or MemoryBroker()
        self.prefetch: dict[str, int] = {}
        """Subscribed queue to its largest number of unsettled messages."""
        self.dead: list[str] = []
        """Queues to whose dead letters this connection subscribed."""
        self.topics: dict[str, list[tuple[float, Message]]] = {}
        self._held: dict[Delivery, Waiting] = {}
        self._held_dead: dict[Delivery, DeadLetter] = {}
        self._open = True
        with self.broker.changed:
            self.broker.listeners.append(self)

    @classmethod
    def from_configuration(
        cls, configuration: Configuration, options: BrokerOptions | None = None
    ) -> MemoryTransport:
        """Open a connection to a new broker; nothing is configured."""
        del configuration, options
        return cls()

    def subscribe(self, queue: str, prefetch: int = 1, *, exclusive: bool = False) -> None:
        """Begin to receive messages of `queue`, alone if it is to be exclusive."""
        with self.broker.changed:
            if exclusive and self.broker.readers.setdefault(queue, self) is not self:
                raise ReadElsewhereError(queue, self.where)
            self.prefetch[queue] = prefetch

    def unsubscribe(self, queue: str) -> None:
        """Give the unsettled deliveries of `queue` back, which does not count, and receive none."""
        with self.broker.changed:
            self.prefetch.pop(queue, None)
            for delivery in [each for each in self._held if each.source == queue]:
                self.broker.put_back(queue, self._held.pop(delivery))
            self._leave(queue)

    def _leave(self, queue: str) -> None:
        """Let others have a queue that this connection has alone."""
        if self.broker.readers.get(queue) is self:
            del self.broker.readers[queue]
        self.broker.changed.notify_all()

    def subscribe_topic(self, topic: str) -> None:
        """Begin to receive messages that are broadcast on `topic` from now on."""
        with self.broker.changed:
            self.topics.setdefault(topic, [])

    def receive(self, timeout_s: float) -> Delivery | None:
        """Return the next message of any subscription; None after `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        with self.broker.changed:
            while self._open:
                delivery = (
                    self._next_broadcast() or self._next_dead_letter() or self._next_message()
                )
                left_s = deadline - time.monotonic()
                if delivery or left_s <= 0:
                    return delivery
                self.broker.changed.wait(min(left_s, 0.05))
        raise TransportError("The connection to the memory broker is closed.")

    def _next_broadcast(self) -> Delivery | None:
        """Return the next broadcast that has not expired."""
        for topic, received in self.topics.items():
            while received:
                expires, message = received.pop(0)
                if expires > self.broker.clock():
                    return Delivery(self, message, topic, delivery_count=1, topic=True)
        return None

    def _next_message(self) -> Delivery | None:
        """Return the next message of a queue with room for another unsettled one."""
        for queue, prefetch in self.prefetch.items():
            if sum(delivery.source == queue for delivery in self._held) >= prefetch:
                continue
            if entry := self._small(queue):
                self.prefetch[queue] = self.prefetch.pop(queue)  # other queues come first next time
                return self.hand_out(queue, entry)
        return None

    def _small(self, queue: str) -> Waiting | None:
        """Return the next due entry of a queue; those that are too large become dead letters."""
        while entry := self.broker.take(queue):
            try:
                if self.largest_body is not None:
                    decode(encode(entry.message.body), largest=self.largest_body)
            except MessageError as error:
                letter = DeadLetter(entry.message, str(error))
                self.broker.dead_letters.setdefault(queue, []).append(letter)
            else:
                return entry
        return None

    def hand_out(self, queue: str, entry: Waiting) -> Delivery:
        """Return an entry taken from the broker as a delivery; the caller holds `changed`."""
        delivery = Delivery(
            self, entry.message, queue, delivery_count=entry.delivery_count, topic=False,
            size=len(encode(entry.message.body)),
        )  # fmt: skip
        self._held[delivery] = entry
        return delivery

    def _next_dead_letter(self) -> Delivery | None:
        """Return the next dead letter, one of each queue at a time."""
        for queue in self.dead:
            letters = self.broker.dead_letters.get(queue, [])
            if letters and not any(held.source == queue for held in self._held_dead):
                letter = letters.pop(0)
                delivery = Delivery(
                    self, letter.message, queue, delivery_count=1, topic=False, reason=letter.reason
                )
                self._held_dead[delivery] = letter
                return delivery
        return None

    def inspector(self) -> Inspector:
        """Return the inspector of the broker of this connection."""
        return MemoryInspector(self)

    def close(self) -> None:
        """Give unsettled deliveries back, which count, and end the connection."""
        with self.broker.changed:
            self._open = False
            if self in self.broker.listeners:
                self.broker.listeners.remove(self)
            for delivery, letter in self._held_dead.items():
                self.broker.dead_letters[delivery.source].append(letter)
            for delivery, entry in self._held.items():
                again = entry._replace(delivery_count=entry.delivery_count + 1)
                self.broker.put_back(delivery.source, again)
            for queue in list(self.prefetch):
                self._leave(queue)
            self._held.clear()
            self._held_dead.clear()
            self.broker.changed.notify_all()

    def _carry_out(
        self,
        messages: Sequence[Outgoing],
        deliveries: Sequence[Delivery],
        settlement: Settlement,
    ) -> None:
        """Send messages, then settle deliveries, in one step."""
        bodies = []
        for message in messages:
            with kept_whole(message, unit=bool(deliveries)):
                bodies.append(decode(self._written(message)))
        with self.broker.changed:
            for message, body in zip(messages, bodies, strict=True):
                received = Message(body, message.headers, identify(body, message.headers))
                if message.topic:
                    self._tell(message, received)
                else:
                    self.broker.put(
                        message.destination,
                        received,
                        delivery_count=1,
                        delay_s=message.delay_s,
                        expires_s=message.expires_s,
                        properties=message.properties,
                    )
            for delivery in deliveries:
                self._settle(delivery, settlement)
            self.broker.changed.notify_all()

    def original(self, delivery: Delivery) -> Original:
        """Return a message as it was sent."""
        with self.broker.changed:
            if letter := self._held_dead.get(delivery):
                return Original(letter.message.body, letter.properties, letter.lifetime_s)
            if (entry := self._held.get(delivery)) is None:
                return super().original(delivery)
            left_s = entry.expires - self.broker.clock()
            ends = left_s if entry.lifetime_s is not None else None
            return Original(entry.message.body, entry.properties, ends)

    def _written(self, message: Outgoing) -> bytes:
        """Return a body as JSON text; TooLargeError if the broker does not take it."""
        body, limit = encoded(message, message.message), self.broker.largest_bytes
        if limit is not None and len(body) > limit:
            raise TooLargeError(
                f"A message to {message.destination!r} has {len(body)} bytes; the memory broker "
                f"takes {limit}."
            )
        return body

    def _tell(self, message: Outgoing, received: Message) -> None:
        """Give a broadcast to all subscribers of its topic."""
        expires = self.broker.clock() + (60.0 if message.expires_s is None else message.expires_s)
        for listener in self.broker.listeners:
            if message.destination in listener.topics:
                listener.topics[message.destination].append((expires, received))

    def _owned(self, delivery: Delivery) -> bool:
        """Tell whether the delivery is still held."""
        return delivery in self._held or delivery in self._held_dead

    def _settle(self, delivery: Delivery, settlement: Settlement) -> None:
        """Settle one delivery; a dead letter stays one unless it is acknowledged."""
        if letter := self._held_dead.pop(delivery, None):
            if settlement.verb is not Verb.ACK:
                self.broker.dead_letters[delivery.source].append(letter)
            return
        entry = self._held.pop(delivery)
        if settlement.verb is Verb.DEAD_LETTER:
            letter = DeadLetter(
                msgspec.structs.replace(entry.message), settlement.reason, entry.lifetime_s,
                entry.properties,
            )  # fmt: skip
            self.broker.dead_letters.setdefault(delivery.source, []).append(letter)
        elif settlement.verb is Verb.RETRY:
            again = entry._replace(
                delivery_count=entry.delivery_count + settlement.counted,
                not_before=self.broker.clock() + settlement.delay_s,
            )
            self.broker.put_back(delivery.source, again)


class MemoryInspector(Inspector, Overdelivered):
    """The inspector of a `MemoryBroker`."""

    def __init__(self, transport: MemoryTransport) -> None:
        self._transport = transport
        self._broker = transport.broker

    def queues(self) -> dict[str, int]:
        """Return the number of waiting messages of each queue."""
        with self._broker.changed:
            return {queue: len(waiting) for queue, waiting in sorted(self._broker.queues.items())}

    def waiting(self, queue: str) -> int:
        """Return the number of messages that wait in `queue`."""
        with self._broker.changed:
            return len(self._broker.queues.get(queue, []))

    def consumers(self, queue: str) -> int:
        """Return the number of connections that subscribed to `queue`."""
        with self._broker.changed:
            return sum(queue in listener.prefetch for listener in self._broker.listeners)

    def dead_letters(self) -> dict[str, int]:
        """Return the number of dead letters of each queue that has any."""
        with self._broker.changed:
            return {queue: len(dead) for queue, dead in self._broker.dead_letters.items() if dead}

    def subscribe_dead_letters(self, queue: str, prefetch: int = 1) -> None:
        """Begin to receive the dead letters of `queue`, one at a time."""
        del prefetch  # one at a time is within any limit
        self._transport.dead.append(queue)

    def exists(self, queue: str, *, dead: bool = False) -> bool:
        """Return whether a queue was used, or has dead letters."""
        return queue in (self._broker.dead_letters if dead else self._broker.queues)

    def overdelivered(self, limit: int) -> Iterator[Delivery]:
        """Receive each waiting message that was delivered more than `limit` times."""
        for queue in list(self._broker.queues):
            while True:
                with self._broker.changed:
                    entry = self._broker.take_overdelivered(queue, limit)
                    if entry is None:
                        break
                    delivery = self._transport.hand_out(queue, entry)
                yield delivery
