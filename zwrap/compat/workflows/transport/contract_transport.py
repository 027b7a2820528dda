"""A transport in the form of python-workflows on a connection of zwrap.

Messages that a callback sends get the ids which a repeat of the callback gives them again, and are
signed, as those of zwrap's own services. A transaction is one unit of `zwrap.transport.contract`.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

from zwrap.compat.workflows.basics import Disconnected, Error
from zwrap.compat.workflows.transport.common_transport import (
    CommonTransport,
    MessageCallback,
    json_serializer,
)
from zwrap.compat.workflows.transport.hand import Hand, Handling, Transaction, concerning
from zwrap.compat.workflows.transport.messages import (
    check_options,
    header_of,
    message_to_send,
    value_of,
)
from zwrap.errors import PermanentError, QueueFullError, TransportError, ZwrapError
from zwrap.message import STATUS_EXPIRES_S, STATUS_TOPIC, Message, Outgoing, decode, encode
from zwrap.service.commands import COMMAND_TOPIC
from zwrap.transport.contract import Delivery, Transport

UNLIMITED = 1000
"""Number of unsettled messages for which ``prefetch_count=0`` stands."""


class RejectedError(ZwrapError):
    """The handler of the message rejected it (nack)."""


class CondemnedError(PermanentError):
    """The handler of the message rejected it for good (nack with requeue=False)."""


class ContractTransport(CommonTransport):
    """A transport on a connection of zwrap, whose messages somebody passes to `deliver` and `hear`.

    Args:
        connection: The connection; None: `connect` opens one.
        reject: Function that settles a message which was rejected, given the reason.
        went_well: Function that hears of a message which was acknowledged after its callback.
        disconnected: Type of the error for a connection that is away.
    """

    def __init__(
        self,
        connection: Transport | None = None,
        reject: Callable[[Delivery, Exception], None] | None = None,
        went_well: Callable[[Delivery], None] = lambda _: None,
        disconnected: Callable[[str], Exception] = Disconnected,
        middleware: list[Any] | None = None,
    ) -> None:
        super().__init__(middleware)
        self.connection = connection
        self._reject = reject or (lambda delivery, _: delivery.retry())
        self._went_well = went_well
        self._disconnected = disconnected
        self._ended = False
        self._hand = Hand()
        self._queues: dict[str, tuple[int, bool]] = {}
        """Queue to the number of its subscription, and whether its messages need to be acked."""
        self._topics: dict[str, list[int]] = {}
        self._open: dict[int, Transaction] = {}
        self._at_work = threading.local()

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
                with contextlib.suppress(TransportError):  # the end of the connection does it
                    delivery.retry(counted=False)

    def _connected(self) -> Transport:
        """Return the connection; Disconnected without one."""
        if self.connection is None or self._ended:
            raise self._disconnected("There is no connection; connect() makes one.")
        return self.connection

    @contextlib.contextmanager
    def _translated(self) -> Iterator[Transport]:
        """Yield the connection; raise Disconnected inside the context if it is away."""
        connection = self._connected()
        try:
            yield connection
        except QueueFullError:
            raise  # it is about one queue
        except TransportError as error:
            raise self._disconnected(str(error)) from error

    # -- receiving ---------------------------------------------------------------------------------

    def deliver(self, delivery: Delivery) -> None:
        """Pass a message of a queue to its callback.

        A message of a subscription without ``acknowledgement`` is acknowledged when the callback
        has returned. Raises what the callback raises; the transactions that it began, or in which
        it acknowledged the message, are aborted then.
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
            self.subscription_callback(number)(header, encode(delivery.message.body))
        except BaseException:
            for each in concerning(delivery, list(self._open.items())):
                self.transaction_abort(each)
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
            connection.subscribe(channel, int(prefetch_count) or UNLIMITED)

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

    # -- sending -----------------------------------------------------------------------------------

    def _send(self, destination: str, message: Any, **how: Any) -> None:
        self._post("send", Outgoing(str(destination), value_of(message)), how)

    def _broadcast(self, destination: str, message: Any, **how: Any) -> None:
        self._post("broadcast", Outgoing(str(destination), value_of(message), topic=True), how)

    def broadcast_status(self, status: dict[str, Any]) -> None:
        """Broadcast a status message, which expires after 15 s."""
        content = self._mangle_for_sending(status)
        self._broadcast(STATUS_TOPIC, content, expiration=STATUS_EXPIRES_S)

    def _post(self, call: str, message: Outgoing, how: dict[str, Any]) -> None:
        """Send a message with the options of a call, or add it to the transaction among them."""
        message, transaction = message_to_send(call, message, how)
        if handling := self._handling():
            message = handling.named(message)
        if transaction is None:
            with self._translated() as connection:
                connection.commit([message])
        else:
            self._transaction(transaction).messages.append(message)

    # -- settling ----------------------------------------------------------------------------------

    def _ack(
        self,
        message_id: object,
        subscription_id: object,
        *,
        transaction: int | None = None,
        multiple: bool = False,
        **further: object,
    ) -> None:
        del subscription_id
        check_options("ack", {**further, "multiple": multiple})
        delivery = self._hand.find(message_id)
        if transaction is not None:
            self._transaction(transaction).ack(delivery)
            return
        with self._translated() as connection:
            connection.commit([], [delivery])
        self._done(delivery)

    def _nack(
        self,
        message_id: object,
        subscription_id: object,
        *,
        transaction: int | None = None,
        multiple: bool = False,
        requeue: bool = True,
        **further: object,
    ) -> None:
        del subscription_id
        check_options("nack", {**further, "multiple": multiple})
        delivery = self._hand.find(message_id)
        reason = RejectedError() if requeue else CondemnedError()
        if transaction is not None:
            self._transaction(transaction).rejected.append((delivery, reason))
            return
        self._hand.drop(delivery)
        with self._translated():
            self._reject(delivery, reason)

    def _done(self, *deliveries: Delivery) -> None:
        """Forget messages that were acknowledged."""
        self._hand.drop(*deliveries)
        for delivery in deliveries:
            if not self._is_at_work_on(delivery):
                self._went_well(delivery)

    def _is_at_work_on(self, delivery: Delivery) -> bool:
        """Tell whether this thread handles a message now."""
        handling = self._handling()
        return handling is not None and handling.delivery is delivery

    def _handling(self) -> Handling | None:
        """Return the work of this thread; None: it handles no message now."""
        handling: Handling | None = getattr(self._at_work, "handling", None)
        return handling

    def _transaction(self, number: int) -> Transaction:
        """Return an open transaction."""
        if number not in self._open:
            raise Error(f"There is no transaction {number}, or it was ended before.")
        return self._open[number]

    def _transaction_begin(
        self, transaction_id: int, *, subscription_id: object = None, **further: object
    ) -> None:
        del subscription_id  # every transaction may hold messages of all subscriptions
        check_options("transaction_begin", further)
        self._open[transaction_id] = Transaction(self._handling())

    def _transaction_abort(self, transaction_id: int, **further: object) -> None:
        check_options("transaction_abort", further)
        self._open.pop(transaction_id)

    def _transaction_commit(self, transaction_id: int, **further: object) -> None:
        """Send all messages and acknowledge all deliveries as one unit, then reject.

        If that fails, deliveries that nobody handles now are given back.
        """
        check_options("transaction_commit", further)
        transaction = self._open.pop(transaction_id)
        try:
            with self._translated() as connection:
                messages = transaction.named(connection.signer)
                if messages or transaction.acked:
                    connection.commit(messages, transaction.acked)
        except Exception as error:
            self._give_back(transaction, error)
            raise
        self._done(*transaction.acked)
        for delivery, reason in transaction.rejected:
            self._hand.drop(delivery)
            self._reject(delivery, reason)

    def _give_back(self, transaction: Transaction, error: Exception) -> None:
        """Reject the messages of a failed transaction but the one at work, which its handler is."""
        for delivery in transaction.settled():
            if not self._is_at_work_on(delivery):
                self._hand.drop(delivery)
                if not delivery.settled:
                    with contextlib.suppress(TransportError):  # the end of the connection does it
                        self._reject(delivery, error)

    @staticmethod
    def _mangle_for_sending(message: Any) -> str:
        """Return a message as JSON text."""
        return json.dumps(message, default=json_serializer)

    @staticmethod
    def _mangle_for_receiving(message: bytes) -> Any:
        """Return the value of a JSON text."""
        return decode(message)
