"""Station "transport": what brokers share. Work is handed over and confirmed later."""

from __future__ import annotations

import contextlib
import queue as queues
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from zwrap.errors import TransportError, ZwrapError
from zwrap.message import Outgoing
from zwrap.transport.contract import Delivery, Settlement, Transport

SEND_WAIT_S = 60.0
"""Longest wait of `send` for a confirmation, in seconds, over all connections in that time."""

ANSWER_WAIT_S = 15.0
"""Longest wait for the answer to a question to the server, in seconds."""

Received = TypeVar("Received")
"""A message as the broker delivered it."""

Encoded = TypeVar("Encoded")
"""A message in the format of the wire."""


class PendingWork:
    """Work that was handed over to a connection, and what is to be done when it is confirmed."""

    __slots__ = ("_event", "after", "done", "failure", "valid")

    def __init__(
        self,
        *,
        valid: Callable[[], bool] = lambda: True,
        after: Callable[[ZwrapError | None], None] = lambda _: None,
    ) -> None:
        self.valid = valid
        """Tells whether the work is still to be done, on another connection if need be: what
        follows from a delivery dies with that one's connection, and a sender may have given up."""
        self.after = after
        """Called when all is confirmed, or with the reason why something is not."""
        self.failure: ZwrapError | None = None
        """Reason why something was not confirmed; its type says whether another try can help."""
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
        """Wait up to `timeout_s` seconds for the end; return whether it came.

        Hardly any work is waited for, and an event is costly: it is made here.
        """
        if self._event is None:
            self._event = threading.Event()
        return self.done or self._event.wait(timeout_s)


class Connected(Protocol):
    """A connection, as far as a pipelined transport needs to know it."""

    @property
    def where(self) -> str:
        """The server, for the beginning of a sentence."""

    @property
    def state(self) -> str:
        """Why nothing is confirmed at present."""

    def close(self) -> None:
        """End the connection; what was delivered and not settled goes back."""


class PipelinedTransport(Transport, Generic[Received, Encoded]):
    """A transport whose units are confirmed after they were left."""

    batch_wait_s = 0.01
    _connection: Connected

    def __init__(self) -> None:
        super().__init__()
        self._arrived: queues.SimpleQueue[Received | None] = queues.SimpleQueue()
        """Messages as they came; None wakes a receiver, which then looks whether this is closed."""
        self._held: dict[Delivery, Received] = {}
        self._unfinished: set[PendingWork] = set()
        self._closed = False

    @abstractmethod
    def _delivery(self, message: Received) -> Delivery | None:
        """Return the delivery that a message is; None if there is nothing to hand out."""

    @abstractmethod
    def _encode(self, message: Outgoing) -> Encoded:
        """Return a message in the format of the wire; EncodingError if that is impossible."""

    @abstractmethod
    def _hand_over(self, messages: list[Encoded]) -> PendingWork:
        """Hand messages that stand alone over to the connection."""

    @abstractmethod
    def _submit(
        self, messages: list[Encoded], received: list[Received], settlement: Settlement
    ) -> None:
        """Hand over messages, and what is settled when they are confirmed."""

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
            if message is not None and (delivery := self._delivery(message)):
                return delivery

    def _carry_out(
        self,
        messages: Sequence[Outgoing],
        deliveries: Sequence[Delivery],
        settlement: Settlement,
    ) -> None:
        encoded = [self._encode(message) for message in messages]
        if deliveries:
            received = [self._held.pop(delivery) for delivery in deliveries]
            self._submit(encoded, received, settlement)
        elif encoded:
            self._wait_for(self._hand_over(encoded))

    def _wait_for(self, work: PendingWork) -> None:
        """Wait until what stands alone is confirmed; raise the reason why it was not."""
        if not work.wait(SEND_WAIT_S):
            work.valid = lambda: False  # the caller sends it again, or reports that it was not sent
            raise TransportError(
                f"{self._connection.where} did not confirm a message within {SEND_WAIT_S:g} s: "
                f"{self._connection.state}."
            )
        if work.failure:
            raise type(work.failure)(
                f"{self._connection.where}: a message cannot be sent: {work.failure}."
            )

    def flush(self, timeout_s: float = 30.0) -> None:
        """Wait until everything handed over so far is confirmed."""
        deadline = time.monotonic() + timeout_s
        for work in list(self._unfinished):
            if not work.wait(max(0.0, deadline - time.monotonic())):
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
