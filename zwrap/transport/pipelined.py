"""Station "transport": the part that brokers share. Work is submitted first and confirmed later."""

from __future__ import annotations

import contextlib
import queue as queues
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from zwrap.errors import TemporaryError, TransportError, ZwrapError
from zwrap.host.stopping import asked_at
from zwrap.message.content import Outgoing
from zwrap.message.identity import new_id
from zwrap.transport.contract import Delivery, Settlement, Transport
from zwrap.transport.refused import kept_whole

SEND_WAIT_S = 60.0
"""Longest wait of `send` for a confirmation, in seconds, reconnections included."""

STOPPING_S = 10.0
"""Longest such wait after a stop signal, in seconds."""

LOOK_S = 0.5
"""Interval at which a wait looks for a stop signal, in seconds."""

ANSWER_WAIT_S = 15.0
"""Longest wait for the server's answer to a question, in seconds."""

Received = TypeVar("Received")
"""A message in the form in which the broker delivered it."""

Encoded = TypeVar("Encoded")
"""A message in the format of the wire."""


class PendingWork:
    """Work that was submitted to a connection, with a function to call when it is confirmed."""

    __slots__ = ("_event", "after", "done", "failure", "valid")

    def __init__(
        self,
        *,
        valid: Callable[[], bool] = lambda: True,
        after: Callable[[ZwrapError | None], None] = lambda _: None,
    ) -> None:
        self.valid = valid
        """Function that tells whether the work is still to be done, perhaps on another connection.
        Work that follows from a delivery ends with the delivery's connection, and a sender may have
        given up."""
        self.after = after
        """Function that is called when all is confirmed (None), or with the reason of a failure."""
        self.failure: ZwrapError | None = None
        """Reason why something was not confirmed; its type tells whether another try can help."""
        self.done = False
        self._event: threading.Event | None = None

    def finish(self, failure: ZwrapError | None) -> None:
        """End the work and release the thread that waits for it."""
        self.failure = failure
        try:
            self.after(failure)
        finally:
            self.done = True
            if self._event is not None:
                self._event.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` seconds for the end; return True if the work has ended.

        The event is created here, because it is expensive and little work is waited for.
        """
        if self._event is None:
            self._event = threading.Event()
        return self.done or self._event.wait(timeout_s)


class Connected(Protocol):
    """The part of a connection that a pipelined transport uses."""

    @property
    def where(self) -> str:
        """Name of the server, with which a sentence may begin."""

    @property
    def state(self) -> str:
        """Reason why nothing is confirmed at present."""

    def close(self) -> None:
        """End the connection; unsettled messages go back to their queues."""


class PipelinedTransport(Transport, Generic[Received, Encoded]):
    """A transport whose units may end before they are confirmed."""

    batch_wait_s = 0.01
    _connection: Connected

    def __init__(self) -> None:
        super().__init__()
        self._arrived: queues.SimpleQueue[Received | ZwrapError | None] = queues.SimpleQueue()
        """Messages in the order of their arrival; None wakes a receiver after a close, an error
        tells it that a subscription is over."""
        self._held: dict[Delivery, Received] = {}
        self._unfinished: set[PendingWork] = set()
        self._closed = self._gave_up = self._relays = False

    @abstractmethod
    def _delivery(self, message: Received) -> Delivery | None:
        """Return the delivery of a message; None if it is not for the caller of `receive`."""

    @abstractmethod
    def _encode(self, message: Outgoing) -> Encoded:
        """Return a message in the format of the wire; EncodingError if that is impossible."""

    @abstractmethod
    def _hand_over(self, messages: list[Encoded]) -> PendingWork:
        """Submit messages without deliveries to the connection."""

    @abstractmethod
    def _submit(
        self, messages: list[Encoded], received: list[Received], settlement: Settlement
    ) -> None:
        """Submit messages, and deliveries that are settled when these are confirmed."""

    @property
    def where(self) -> str:
        """Name of the server."""
        return self._connection.where

    def relay(self) -> None:
        """Hand out from now on what cannot be decoded, too."""
        self._relays = True

    def _largest(self, kind: str) -> int | None:
        """Return the size above which a message is not decoded; dead letters may have any size."""
        return None if kind == "dead" else self.largest_body

    def receive(self, timeout_s: float) -> Delivery | None:
        """Return the next message of any subscription; None after `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        while True:
            if self._closed:
                raise TransportError(f"The connection to {self._connection.where} is closed.")
            try:
                left_s = deadline - time.monotonic()
                message = self._arrived.get(left_s > 0, max(0.0, left_s))
            except queues.Empty:
                return None
            if isinstance(message, ZwrapError):
                raise message
            if message is not None and (delivery := self._delivery(message)):
                return delivery

    def _carry_out(
        self,
        messages: Sequence[Outgoing],
        deliveries: Sequence[Delivery],
        settlement: Settlement,
    ) -> None:
        """Encode and submit messages and deliveries; wait only for messages without deliveries."""
        encoded = []
        for message in messages:
            with kept_whole(message, unit=bool(deliveries)):
                encoded.append(self._encode(message))
        if deliveries:
            self._submit(encoded, [self._held[delivery] for delivery in deliveries], settlement)
            for delivery in deliveries:
                del self._held[delivery]
        elif encoded:
            self._wait_for(self._hand_over(encoded))

    def send_each(self, messages: Sequence[Outgoing]) -> list[Exception | None]:
        """Do as `Transport.send_each`: submit all, then wait for the confirmation of each."""
        submitted: list[PendingWork | Exception] = []
        with self._lock:
            for message in messages:
                try:
                    encoded = self._encode(message.with_id(new_id()))
                    submitted.append(self._hand_over([encoded]))
                except Exception as error:
                    submitted.append(error)
        until = time.monotonic() + SEND_WAIT_S
        return [
            each if isinstance(each, Exception) else self._failure(each, until)
            for each in submitted
        ]

    def _wait_for(self, work: PendingWork) -> None:
        """Wait until messages without deliveries are confirmed; raise the failure if any."""
        failure = self._failure(work, time.monotonic() + SEND_WAIT_S)
        if failure:
            raise failure

    def _failure(self, work: PendingWork, until: float) -> ZwrapError | None:
        """Wait until `time.monotonic` is `until` for the end of work; return its failure if any."""
        if not self._ends(work, until - time.monotonic()):
            work.valid = lambda: False  # the caller sends it again, or reports that it was not sent
            return TransportError(
                f"{self._connection.where} did not confirm a message within {SEND_WAIT_S:g} s: "
                f"{self._connection.state}."
            )
        if work.failure is None:
            return None
        failure = type(work.failure)(
            f"{self._connection.where}: a message cannot be sent: {work.failure}."
        )
        if isinstance(work.failure, TemporaryError) and isinstance(failure, TemporaryError):
            failure.retry_after_s = work.failure.retry_after_s
        return failure

    def _ends(self, work: PendingWork, timeout_s: float) -> bool:
        """Wait for the end of work; after a stop signal for `STOPPING_S` seconds at most.

        Once that was not enough, this process no longer waits.
        """
        begin = time.monotonic()
        while True:
            asked = asked_at()
            end = begin + timeout_s
            if asked is not None:
                end = min(end, begin if self._gave_up else max(begin, asked) + STOPPING_S)
            left_s = end - time.monotonic()
            if work.wait(max(0.0, min(left_s, LOOK_S))):
                return True
            if left_s <= LOOK_S:
                self._gave_up = asked is not None
                return False

    def flush(self, timeout_s: float = 30.0) -> None:
        """Wait until all messages and settlements so far are confirmed."""
        deadline = time.monotonic() + timeout_s
        for work in list(self._unfinished):
            if not self._ends(work, deadline - time.monotonic()):
                raise TransportError(
                    f"{self._connection.where} did not confirm everything within {timeout_s:g} s: "
                    f"{self._connection.state}."
                )

    def close(self) -> None:
        """Give unsettled deliveries back and end the connection."""
        if self._closed:
            return
        with contextlib.suppress(TransportError):
            self.flush(10.0)
        self._closed = True
        self._held.clear()
        self._arrived.put(None)
        self._connection.close()
