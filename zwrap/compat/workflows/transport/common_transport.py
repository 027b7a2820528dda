"""The base class of transports of python-workflows: subscriptions and transactions by number."""

from __future__ import annotations

import decimal
import itertools
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from zwrap.compat.workflows.basics import Error
from zwrap.compat.workflows.transport.middleware.chain import wrap

MessageCallback = Callable[[Mapping[str, Any], Any], object]
"""Function that gets header and content of a message."""

Intercept = Callable[[MessageCallback], MessageCallback]


class TemporarySubscription(NamedTuple):
    """A subscription to a queue that the other side named."""

    subscription_id: int
    queue_name: str


class _Subscription:
    """A subscription: its callback, and whether it was ended."""

    def __init__(self, callback: MessageCallback) -> None:
        self.callback = callback
        self.unsubscribed = False


class CommonTransport:
    """Base of transports: a subclass implements the methods that begin with an underscore.

    Every call goes through `middleware`. What a message holds is made by `_mangle_for_sending`, and
    read by `_mangle_for_receiving`.
    """

    log = logging.getLogger("workflows.transport")

    def __init__(self, middleware: list[Any] | None = None) -> None:
        self.middleware = [] if middleware is None else middleware
        self.__subscriptions: dict[int, _Subscription] = {}
        self.__transactions: set[int] = set()
        self.__numbers = itertools.count(1)
        self.__intercept: Intercept | None = None

    def add_middleware(self, middleware: Any) -> None:
        """Let calls go through `middleware` first."""
        self.middleware.insert(0, middleware)

    @classmethod
    def add_command_line_options(cls, parser: Any) -> None:
        """Declare the options of the transport, none here, on a parser of argparse or optparse."""

    def connect(self) -> bool:
        """Connect; return True if that went well. A subclass implements it."""
        return False

    def is_connected(self) -> bool:
        """Tell whether there is a connection. A subclass implements it."""
        return False

    def disconnect(self) -> None:
        """End the connection, of which this base has none."""

    @wrap
    def subscribe(self, channel: str, callback: MessageCallback, **kwargs: Any) -> int:
        """Begin to receive messages of a queue; return the number of the subscription.

        Args:
            channel: Name of the queue.
            callback: Function that gets header and content of each message.
            kwargs: `acknowledgement` (True: each message must be acknowledged), `prefetch_count`,
                `disable_mangling` (True: the callback gets the content as it came), and others of
                the transport.
        """
        number, callback = self.__remember(callback, kwargs)
        self._subscribe(number, channel, callback, **kwargs)
        return number

    @wrap
    def subscribe_temporary(
        self, channel_hint: str | None, callback: MessageCallback, **kwargs: Any
    ) -> TemporarySubscription:
        """Begin to receive messages of a queue that is made now; return number and queue."""
        number, callback = self.__remember(callback, kwargs)
        queue = self._subscribe_temporary(number, channel_hint, callback, **kwargs)
        return TemporarySubscription(number, queue)

    @wrap
    def subscribe_broadcast(self, channel: str, callback: MessageCallback, **kwargs: Any) -> int:
        """Begin to receive messages that are broadcast on a topic, as `subscribe` does."""
        number, callback = self.__remember(callback, kwargs)
        self._subscribe_broadcast(number, channel, callback, **kwargs)
        return number

    def __remember(
        self, callback: MessageCallback, kwargs: dict[str, Any]
    ) -> tuple[int, MessageCallback]:
        """Return number and callback of a new subscription; `disable_mangling` is taken out."""
        number = next(self.__numbers)
        if not kwargs.pop("disable_mangling", False):
            callback = self.__reading(callback)
        self.__subscriptions[number] = _Subscription(callback)
        return number, callback

    def __reading(self, callback: MessageCallback) -> MessageCallback:
        """Return a callback for the content as it came."""
        return lambda header, message: callback(header, self._mangle_for_receiving(message))

    @wrap
    def unsubscribe(
        self, subscription: int, drop_callback_reference: bool = False, **kwargs: Any
    ) -> None:
        """End a subscription; `drop_callback_reference`: forget its callback, too."""
        record = self.__subscriptions.get(subscription)
        if record is None or record.unsubscribed:
            raise Error(
                f"Subscription {subscription} cannot be ended: there is none, or no longer."
            )
        self._unsubscribe(subscription, **kwargs)
        record.unsubscribed = True
        if drop_callback_reference:
            self.drop_callback_reference(subscription)

    def drop_callback_reference(self, subscription: int) -> None:
        """Forget the callback of a subscription that was ended."""
        record = self.__subscriptions.get(subscription)
        if record is None or not record.unsubscribed:
            raise Error(f"The callback of subscription {subscription} is in use, or forgotten.")
        del self.__subscriptions[subscription]

    def subscription_callback(self, subscription: int) -> MessageCallback:
        """Return the callback of a subscription, as the function that intercepts them makes it."""
        record = self.__subscriptions.get(subscription)
        if record is None:
            raise Error(f"There is no subscription {subscription}.")
        return self.__intercept(record.callback) if self.__intercept else record.callback

    def subscription_callback_set_intercept(self, interceptor: Intercept | None) -> None:
        """Let a function make each callback of the original one; None: no longer."""
        self.__intercept = interceptor

    @wrap
    def send(self, destination: str, message: Any, **kwargs: Any) -> None:
        """Send a message to a queue.

        Args:
            destination: Name of the queue.
            message: The message, for which `_mangle_for_sending` makes the content.
            kwargs: `headers`, `delay` and `expiration` (seconds), `transaction` (number of one),
                and others of the transport.
        """
        self._send(destination, self._mangle_for_sending(message), **kwargs)

    @wrap
    def raw_send(self, destination: str, message: Any, **kwargs: Any) -> None:
        """Send content to a queue as it is."""
        self._send(destination, message, **kwargs)

    @wrap
    def broadcast(self, destination: str, message: Any, **kwargs: Any) -> None:
        """Send a message to the present subscribers of a topic, as `send` does to a queue."""
        self._broadcast(destination, self._mangle_for_sending(message), **kwargs)

    @wrap
    def raw_broadcast(self, destination: str, message: Any, **kwargs: Any) -> None:
        """Send content to the present subscribers of a topic as it is."""
        self._broadcast(destination, message, **kwargs)

    def broadcast_status(self, status: dict[str, Any]) -> None:
        """Broadcast a status message. A subclass implements it."""
        raise NotImplementedError(f"{type(self).__name__} implements no broadcast_status.")

    @wrap
    def ack(self, message: Any, subscription_id: int | None = None, **kwargs: Any) -> None:
        """Acknowledge a message.

        Args:
            message: Header of the message, or its id (``message-id``).
            subscription_id: Number of its subscription, where the id is given.
            kwargs: `transaction` (number of one), and others of the transport.
        """
        identity, number = _named(message, subscription_id)
        self._ack(identity, subscription_id=number, **kwargs)

    @wrap
    def nack(self, message: Any, subscription_id: int | None = None, **kwargs: Any) -> None:
        """Reject a message, which is named as for `ack`."""
        identity, number = _named(message, subscription_id)
        self._nack(identity, subscription_id=number, **kwargs)

    @wrap
    def transaction_begin(self, subscription_id: int | None = None, **kwargs: Any) -> int:
        """Begin a transaction; return its number."""
        number = next(self.__numbers)
        self.__transactions.add(number)
        self._transaction_begin(number, subscription_id=subscription_id, **kwargs)
        return number

    @wrap
    def transaction_abort(self, transaction_id: int, **kwargs: Any) -> None:
        """End a transaction, none of which is done."""
        self.__end(transaction_id)
        self._transaction_abort(transaction_id, **kwargs)

    @wrap
    def transaction_commit(self, transaction_id: int, **kwargs: Any) -> None:
        """End a transaction, all of which is done now."""
        self.__end(transaction_id)
        self._transaction_commit(transaction_id, **kwargs)

    def __end(self, transaction_id: int) -> None:
        """Forget a transaction."""
        if transaction_id not in self.__transactions:
            raise Error(f"There is no transaction {transaction_id}, or it was ended before.")
        self.__transactions.discard(transaction_id)

    @property
    def is_reconnectable(self) -> bool:
        """True if no subscription and no transaction would be lost with the connection."""
        return not self.__subscriptions and not self.__transactions

    def __missing(self, *args: Any, **kwargs: Any) -> Any:
        """Raise NotImplementedError, because the subclass lacks the method."""
        raise NotImplementedError(f"{type(self).__name__} implements only a part of a transport.")

    _subscribe = _subscribe_broadcast = _subscribe_temporary = _unsubscribe = __missing
    _send = _broadcast = _ack = _nack = __missing
    _transaction_begin = _transaction_abort = _transaction_commit = __missing

    @staticmethod
    def _mangle_for_sending(message: Any) -> Any:
        """Return the content for a message."""
        return message

    @staticmethod
    def _mangle_for_receiving(message: Any) -> Any:
        """Return the message in a content."""
        return message


def json_serializer(obj: object) -> float:
    """Return a decimal as a number; TypeError for any other value that JSON lacks."""
    if isinstance(obj, decimal.Decimal):
        return float(obj)
    raise TypeError(f"{obj!r} is not JSON serializable")


def _named(message: Any, subscription_id: int | None) -> tuple[Any, Any]:
    """Return id and subscription of a message that a header, or an id, names."""
    identity = message
    if isinstance(message, Mapping):
        identity = message.get("message-id")
        subscription_id = subscription_id or message.get("subscription")
    if not identity or not subscription_id:
        raise Error(
            "A message is acknowledged or rejected by its header, or by its 'message-id' and the "
            "number of its subscription; one of them is missing."
        )
    return identity, subscription_id
