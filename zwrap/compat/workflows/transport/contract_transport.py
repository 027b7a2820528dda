"""A transport in the form of python-workflows on a connection of zwrap: what it receives."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from typing import Any

from zwrap.compat.workflows.basics import Error
from zwrap.compat.workflows.transport.common_transport import MessageCallback, json_serializer
from zwrap.compat.workflows.transport.hand import Handling
from zwrap.compat.workflows.transport.messages import check_options, header_of
from zwrap.compat.workflows.transport.settling import SettlingTransport
from zwrap.errors import SettledError, TransportError
from zwrap.message.content import Message
from zwrap.message.jsontext import decode, encode
from zwrap.service.commands import COMMAND_TOPIC
from zwrap.transport.contract import Delivery

UNLIMITED = 1000
"""Number of unsettled messages for which ``prefetch_count=0`` stands."""


class ContractTransport(SettlingTransport):
    """A transport on a connection of zwrap, whose messages somebody passes to `deliver` and `hear`.

    `subscribed`: queues that the connection reads already, for a predecessor.
    """

    def __init__(self, *args: Any, subscribed: Iterable[str] = (), **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.subscribed = set(subscribed)
        """Queues that the connection reads."""
        self._queues: dict[str, tuple[int, bool]] = {}
        """Queue to the number of its subscription, and whether its messages need to be acked."""
        self._topics: dict[str, list[int]] = {}

    def connect(self) -> bool:
        """Return True: there is a connection."""
        self._connected()
        return True

    def is_connected(self) -> bool:
        """Tell whether the connection is in use; one that is lost is made again by itself."""
        return self.connection is not None and not self._ended

    def disconnect(self) -> None:
        """Give back all messages in hand, which does not count; whoever made it, ends the rest."""
        self._ended = True
        for delivery in self._hand.all():
            self._hand.drop(delivery)
            if not delivery.settled:
                with contextlib.suppress(
                    TransportError, SettledError
                ):  # the end of the connection does it
                    delivery.retry(counted=False)

    # -- receiving ---------------------------------------------------------------------------------

    def deliver(self, delivery: Delivery) -> None:
        """Pass a message of a queue to its callback.

        A message of a subscription without ``acknowledgement`` is acknowledged when the callback
        has returned. Raises what the callback raises; the transactions that it began, or in which
        it acknowledged the message, are aborted then, and their other messages given back.
        """
        number, needs_ack = self._queues[delivery.source]
        header = header_of(delivery.message, delivery.source, number)
        header["message-id"] = self._hand.take(delivery)
        header["redelivered"] = delivery.delivery_count > 1
        if delivery.sent_at is not None:
            header["timestamp"] = int(delivery.sent_at * 1000)
        handling = Handling(delivery, self._connected().signer)
        self._at_work.handling = handling
        try:
            with self.undoing(delivery):
                self.subscription_callback(number)(header, encode(delivery.message.body))
        except BaseException:
            self._hand.drop(delivery)
            raise
        finally:
            self._at_work.handling = None
        if not needs_ack and delivery in self._hand and not self._in_transaction(delivery):
            self._hand.drop(delivery)
            delivery.ack()

    def hear(self, topic: str, message: Message) -> None:
        """Pass a message of a topic to its callbacks."""
        for number in self._topics.get(topic, []):
            header = header_of(message, topic, number)
            header["message-id"] = message.id
            with self.undoing():
                self.subscription_callback(number)(header, encode(message.body))

    def _in_transaction(self, delivery: Delivery) -> bool:
        """Tell whether an open transaction settles a message."""
        return any(delivery in each.settled() for each in self._open.values())

    def _subscribe(
        self,
        sub_id: int,
        channel: str,
        callback: MessageCallback,
        *,
        acknowledgement: bool = False,
        prefetch_count: int = 1,
        reconnectable: bool = False,
        **further: object,
    ) -> None:
        del callback, reconnectable  # every subscription outlives its connection
        check_options("subscribe", further)
        if channel in self._queues:
            raise Error(
                f"Queue {channel!r} has a callback already; one for each queue is possible."
            )
        with self._translated() as connection:
            self._queues[channel] = (sub_id, bool(acknowledgement))
            if channel not in self.subscribed:
                connection.subscribe(channel, int(prefetch_count) or UNLIMITED)
            self.subscribed.add(channel)

    def _subscribe_broadcast(
        self,
        sub_id: int,
        channel: str,
        callback: MessageCallback,
        *,
        reconnectable: bool = False,
        **further: object,
    ) -> None:
        del callback, reconnectable
        check_options("subscribe_broadcast", further)
        if channel == COMMAND_TOPIC:
            raise Error(
                f"Topic {COMMAND_TOPIC!r} is heard by zwrap itself, which obeys the commands; a "
                "service cannot subscribe to it."
            )
        with self._translated() as connection:
            self._topics.setdefault(channel, []).append(sub_id)
            connection.subscribe_topic(channel)

    def _subscribe_temporary(self, *_args: object, **_kwargs: object) -> str:
        raise Error(
            "zwrap's transports make no temporary queues: subscribe to a queue that exists, or to "
            "a topic (subscribe_broadcast)."
        )

    def _unsubscribe(self, sub_id: int, **further: object) -> None:
        check_options("unsubscribe", further)
        for numbers in self._topics.values():
            if sub_id in numbers:
                numbers.remove(sub_id)  # what still comes is passed to nobody
                return
        raise Error(
            "A subscription to a queue ends with the connection (disconnect): zwrap's transports "
            "cannot end it earlier."
        )

    @staticmethod
    def _mangle_for_sending(message: Any) -> str:
        """Return a message as JSON text."""
        return json.dumps(message, default=json_serializer)

    @staticmethod
    def _mangle_for_receiving(message: bytes) -> Any:
        """Return the value of a JSON text."""
        return decode(message)
