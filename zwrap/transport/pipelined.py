"""Station "transport": what brokers share. Work is handed over and confirmed later."""

from __future__ import annotations

import contextlib
import queue as queues
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from zwrap.errors import TransportError
from zwrap.message import Outgoing
from zwrap.transport.contract import ACK, Delivery, Settlement, Transport

SEND_WAIT_S = 60.0
"""So long `send` waits for the confirmation, over all connections that there may be meanwhile."""

ANSWER_WAIT_S = 15.0
"""So long a question to the server may take."""


class PendingWork:
    """What was handed over to a connection, and what is to be done when it is confirmed."""

    __slots__ = ("_event", "after", "done", "failure", "valid")

    def __init__(
        self,
        *,
        valid: Callable[[], bool] = lambda: True,
        after: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        self.valid = valid
        """Whether it is still to be done, on another connection if need be: what follows from a
        delivery dies with that one's connection, and a sender may have given up."""
        self.after = after
        """Called when all is confirmed, or with the reason why something is not."""
        self.failure: str | None = None
        self.done = False
        self._event: threading.Event | None = None

    def finish(self, failure: str | None) -> None:
        """That was all; who waits goes on."""
        self.failure = failure
        try:
            self.after(failure)
        finally:
            self.done = True
            if self._event is not None:
                self._event.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is done; most works nobody waits for, and an event is costly."""
        if self._event is None:
            self._event = threading.Event()
        return self.done or self._event.wait(timeout_s)


class Connected(Protocol):
    """A connection as this needs it."""

    @property
    def where(self) -> str:
        """The server, for a sentence to begin with."""

    @property
    def state(self) -> str:
        """Why nothing is confirmed at present."""

    def close(self) -> None:
        """End the connection; what was delivered and not settled goes back."""


class PipelinedTransport(Transport):
    """A transport whose units are confirmed after they were left."""

    batch_wait_s = 0.01
    _connection: Connected

    def __init__(self) -> None:
        super().__init__()
        self._arrived: queues.SimpleQueue[Any] = queues.SimpleQueue()
        """What came, as the broker gave it; None: look whether this was closed."""
        self._held: dict[Delivery, Any] = {}
        self._unfinished: set[PendingWork] = set()
        self._closed = False

    @abstractmethod
    def _delivery(self, message: Any) -> Delivery | None:
        """What came as a delivery; None if there is nothing to hand out."""

    @abstractmethod
    def _submit(self, messages: Any, received: list[Any], settlement: Settlement) -> None:
        """Hand over encoded messages, and what is settled when they are confirmed."""

    def receive(self, timeout_s: float) -> Delivery | None:
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

    def _wait_for(self, work: PendingWork) -> None:
        """Wait until what stands alone is confirmed."""
        if not work.wait(SEND_WAIT_S):
            work.valid = lambda: False  # whoever asked sends it again, or says that it was not sent
            raise TransportError(
                f"{self._connection.where} did not confirm a message within {SEND_WAIT_S:g} s: "
                f"{self._connection.state}."
            )

    def _publish(self, messages: Sequence[Outgoing]) -> None:
        self._carry_out(messages, (), ACK)

    def _settle(self, delivery: Delivery, settlement: Settlement) -> None:
        self._submit([], [self._held.pop(delivery)], settlement)

    def flush(self, timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        for work in list(self._unfinished):
            if not work.wait(max(0.0, deadline - time.monotonic())):
                raise TransportError(
                    f"{self._connection.where} did not confirm everything within {timeout_s:g} s: "
                    f"{self._connection.state}."
                )

    def close(self) -> None:
        if self._closed:
            return
        with contextlib.suppress(TransportError):
            self.flush(10.0)
        self._closed = True
        self._held.clear()
        self._arrived.put(None)
        self._connection.close()
