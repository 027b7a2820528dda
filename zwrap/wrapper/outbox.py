"""The wrapper's messages: on disk first, then sent on a thread of their own; and its heartbeats.

A broker that is away never delays the program: what cannot be sent stays in the outbox, in order,
and leaves it when the other side has taken responsibility.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence

from zwrap.attempt.directory import JobDirectory
from zwrap.attempt.finals import FinalSender
from zwrap.errors import ZwrapError
from zwrap.host.backoff import Backoff
from zwrap.host.clock import Clock, elapsed
from zwrap.host.processes import host_id
from zwrap.message import STATUS_EXPIRES_S, STATUS_TOPIC, Outgoing, child_id
from zwrap.transport import mover
from zwrap.transport.contract import Transport

log = logging.getLogger(__name__)

INTERVAL_S = 3.0
"""Interval of heartbeats, in seconds; python-zocalo's."""

RETRY_FIRST_S, RETRY_LAST_S = 0.2, 30.0
"""Pauses between tries while the transport cannot be used, in seconds."""

RETRY_ENDING_S = 1.0
"""Longest such pause while the job waits for its final messages to go, in seconds."""

SEND_WAIT_S = 60.0
"""Time that a job waits at its end for a transport that is away; the rest stays on disk."""

STOPPING_S = 1.0
"""Time that `close` waits for the thread to leave the outbox, in seconds."""


class Identities:
    """Ids for the messages of one run of an attempt; the same again when the run is repeated."""

    def __init__(self, token: str, run: int) -> None:
        # A run has ids of its own: its messages are not those of an earlier run.
        self.parent = token if run == 1 else f"{token}.{run}"
        self._position = 0

    def give(self, messages: Sequence[Outgoing]) -> list[Outgoing]:
        """Return the messages with the next ids."""
        first, self._position = self._position, self._position + len(messages)
        return [
            message.with_id(child_id(self.parent, position))
            for position, message in enumerate(messages, first)
        ]


class Outbox:
    """Sends messages, and a heartbeat every `INTERVAL_S` seconds and on `beat`, from a thread.

    Without a job directory there are heartbeats only. `status` returns the body of a heartbeat.

    Raises:
        TransportError: the directories of the outbox cannot be made.
    """

    def __init__(
        self,
        connect: Callable[[], Transport],
        directory: JobDirectory | None,
        status: Callable[[], dict[str, object]],
        identities: Identities | None = None,
        clock: Clock = elapsed,
    ) -> None:
        self._connect = connect
        self._identities = identities
        self._status = status
        self._clock = clock
        # Two views of one directory: taking messages never waits for one being sent.
        self._inlet = directory.outbox() if directory else None
        self._outlet = directory.outbox() if directory else None
        self._sender = FinalSender(self._outlet)
        self._wake = threading.Event()
        self._backoff = Backoff(RETRY_FIRST_S, RETRY_LAST_S)
        self._ending = self._abandoned = self._all_sent = False
        self._transport: Transport | None = None
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def post(self, messages: Sequence[Outgoing]) -> None:
        """Take messages: they are on disk when this returns, and are sent as soon as possible.

        What a full disk cannot keep is sent all the same.
        """
        named = self._identities.give(messages) if self._identities else list(messages)
        if not named:
            return
        try:
            if self._inlet:
                mover.store(self._inlet, named)
        except (ZwrapError, OSError) as error:
            log.error("Messages cannot be kept in the outbox: %s", error)
            self._sender.add(named)
        self._wake.set()

    def beat(self) -> None:
        """Send a heartbeat now: the status has changed."""
        self._wake.set()

    def finish(self, wait_s: float) -> bool:
        """Wait until everything is sent, for at most `wait_s` seconds; return whether it is."""
        self._ending = True
        self._backoff.last_s = RETRY_ENDING_S
        self._wake.set()
        self._thread.join(wait_s)
        return self._all_sent

    def close(self) -> None:
        """Send nothing more: what is left is another's to send."""
        self._abandoned = True
        self._wake.set()
        self._thread.join(STOPPING_S)

    @property
    def has_refused(self) -> bool:
        """Whether the transport has refused a message for good, in this run or an earlier one."""
        return self._sender.has_refused or (
            self._outlet is not None and any(self._outlet.dead_letters())
        )

    # -- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        beat_at = float("-inf")
        while not self._abandoned:
            woken = self._wake.is_set()
            self._wake.clear()
            ending = self._ending
            sent = self._send()
            if sent and (woken or ending or self._clock() - beat_at >= INTERVAL_S):
                beat_at = self._clock()
                self._heartbeat()
            if ending and sent:
                self._all_sent = True
                break
            until_beat_s = max(0.0, beat_at + INTERVAL_S - self._clock())
            self._wake.wait(until_beat_s if sent else self._backoff.next_s())
        with contextlib.suppress(ZwrapError, OSError):
            if self._transport:
                self._transport.close()
        with contextlib.suppress(ZwrapError, OSError):
            if self._outlet:
                self._outlet.close()

    def _send(self) -> bool:
        """Send everything that waits; return False if the transport cannot be used now."""
        try:
            if self._transport is None:
                self._transport = self._connect()
            self._sender.send(self._transport)
        except (ZwrapError, OSError) as error:
            log.warning("The transport cannot be used, messages wait: %s", error)
            return False
        self._backoff.reset()
        return True

    def _heartbeat(self) -> None:
        if self._transport is None:
            return
        try:
            body = self._status()
            beat = Outgoing(
                STATUS_TOPIC, body, topic=True, expires_s=STATUS_EXPIRES_S, replaces=host_id()
            )
            self._transport.commit([beat])
        except Exception:  # a heartbeat that fails must never keep a message from being sent
            log.debug("A heartbeat could not be sent", exc_info=True)
