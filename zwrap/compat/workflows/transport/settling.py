"""What a transport on a connection of zwrap sends and settles, alone or in transactions.

Messages that a callback sends get the ids which a repeat of the callback gives them again, and are
signed, as those of zwrap's own services. A transaction is one unit of `zwrap.transport.contract`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from zwrap.compat.workflows.basics import Disconnected, Error
from zwrap.compat.workflows.transport.common_transport import CommonTransport
from zwrap.compat.workflows.transport.hand import Hand, Handling, Transaction
from zwrap.compat.workflows.transport.messages import check_options, message_to_send, value_of
from zwrap.errors import (
    PermanentError,
    QueueFullError,
    RecipeError,
    SettledError,
    TransportError,
    ZwrapError,
)
from zwrap.message.content import RECIPE_HEADER, STATUS_EXPIRES_S, STATUS_TOPIC, Outgoing
from zwrap.message.limits import DEFAULTS
from zwrap.recipe.destinations import is_closed, refusal
from zwrap.service.faults import as_failure, told
from zwrap.service.outage import is_outage
from zwrap.transport.contract import Delivery, Transport


class RejectedError(ZwrapError):
    """The handler of the message rejected it (nack), or failed with several messages at once."""


class CondemnedError(PermanentError):
    """The handler of the message rejected it for good (nack with requeue=False)."""


Reject = Callable[[Sequence[Delivery], Exception], None]
"""Function that settles messages which were rejected, all for one reason."""


def reject_now(deliveries: Sequence[Delivery], reason: Exception) -> None:
    """Give messages back, to come again immediately."""
    del reason
    for delivery in deliveries:
        delivery.retry()


class SettlingTransport(CommonTransport):
    """The half of a transport that sends and settles; `ContractTransport` adds what receives.

    Args:
        connection: The connection; None: `connect` opens one.
        reject: Function that settles messages which were rejected, given the reason.
        went_well: Function that hears of a message which was acknowledged after its callback.
        disconnected: Type of the error for a connection that is away.
        middleware: What each call goes through.
        shared: Function that hears of several messages whose transaction failed.
    """

    open_names: Sequence[str] = DEFAULTS.open_names
    """Names of zwrap's own, or patterns, to which recipe messages may be sent."""

    def __init__(
        self,
        connection: Transport | None = None,
        reject: Reject = reject_now,
        went_well: Callable[[Delivery], None] = lambda _: None,
        disconnected: Callable[[str], Exception] = Disconnected,
        middleware: list[Any] | None = None,
        *,
        shared: Callable[[Sequence[Delivery]], None] = lambda _: None,
    ) -> None:
        super().__init__(middleware)
        self.connection = connection
        self.undone = 0
        """Number of failures after which further messages were given back."""
        self._reject = reject
        self._went_well = went_well
        self._disconnected = disconnected
        self._shared = shared
        self._ended = False
        self._hand = Hand()
        self._open: dict[int, Transaction] = {}
        self._at_work = threading.local()

    def in_hand(self) -> list[Delivery]:
        """Return the messages that are neither acknowledged nor rejected."""
        return self._hand.all()

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
        self._check_destination(message)
        handling = self._handling()
        if transaction is not None:
            self._transaction(transaction).messages.append((message, handling))
            return
        if handling:
            message = handling.named(message)
        with self._translated() as connection:
            connection.commit([message])

    def _check_destination(self, message: Outgoing) -> None:
        """Raise RecipeError for a recipe message to a queue or topic of zwrap's own."""
        if not message.headers.get(RECIPE_HEADER):
            return
        kind = "topic" if message.topic else "queue"
        for key, name in ((kind, message.destination), ("exchange", message.exchange)):
            if name and is_closed(key, name, self.open_names):
                raise RecipeError(f"The recipe message is not sent: {refusal(key, name)}.")

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
            self._reject([delivery], reason)

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
                messages = transaction.named(connection.signer, self._handling())
                if messages or transaction.acked:
                    connection.commit(messages, transaction.acked)
        except Exception as error:
            failure = failure_of(transaction.settled(), error)
            self._give_back(transaction.settled(), failure)
            if failure is error:
                raise
            raise failure from error
        self._done(*transaction.acked)
        for delivery, reason in transaction.rejected:
            self._hand.drop(delivery)
            self._reject([delivery], reason)

    @contextlib.contextmanager
    def undoing(self, delivery: Delivery | None = None) -> Iterator[None]:
        """Abort transactions if what is inside the context fails, and give back what they settle.

        That are those which this thread begins there, and, with a message at work, those that
        concern it. The message at work is left to its handler, which gets the exception.
        """
        before = list(self._open.values())
        try:
            yield
        except BaseException as error:
            mine = [
                (number, each)
                for number, each in list(self._open.items())
                if (each.thread == threading.get_ident() and each not in before)
                or (delivery is not None and each.concerns(delivery))
            ]
            for number, _ in mine:
                self.transaction_abort(number)
            concerned = [held for _, each in mine for held in each.settled()]
            if mine and delivery is not None:
                concerned.append(delivery)
            known = as_failure(error)
            failure = failure_of(concerned, known)
            shared = self._give_back(concerned, failure)
            if shared and not isinstance(failure, ZwrapError) and not is_outage(failure):
                failure = RejectedError(f"It failed with others of its batch: {told(known)}")
            if failure is known or delivery is None:
                raise
            raise failure from error

    def _give_back(self, deliveries: Iterable[Delivery], failure: Exception) -> bool:
        """Reject messages that failed together but the one at work, which its handler is.

        Returns True if there are any.
        """
        together = {id(held): held for held in deliveries}.values()
        if len(together) > 1 and not is_outage(failure):
            self._shared(list(together))
        given = [held for held in together if not self._is_at_work_on(held)]
        self._hand.drop(*given)
        given = [each for each in given if not each.settled]
        if given:
            self.undone += 1
            with contextlib.suppress(TransportError, SettledError):  # the connection's end does it
                self._reject(given, failure)
        return bool(given)


def failure_of(deliveries: Sequence[Delivery], error: Exception) -> Exception:
    """Return the failure of messages that share a transaction.

    A permanent error is hardly that of each of several messages: each is tried again, which counts.
    """
    number = len({id(each) for each in deliveries})
    if number > 1 and isinstance(error, PermanentError):
        return RejectedError(
            f"The transaction of this message and {number - 1} others failed: {told(error)}"
        )
    return error
