"""The wrapper's messages, which are written to disk and sent on a thread, and its heartbeats.

A broker that is away never delays the program: messages stay in the outbox, in order, until the
transport has taken responsibility for them.
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
"""Interval of heartbeats, in seconds, as in python-zocalo."""

RETRY_FIRST_S, RETRY_LAST_S = 0.2, 30.0
"""First and longest pause between tries while the transport cannot be used, in seconds."""

RETRY_ENDING_S = 1.0
"""Longest such pause while the job waits until its final messages are sent, in seconds."""

SEND_WAIT_S = 60.0
"""Longest wait of a job at its end for a transport that is away, in seconds; the rest of the
messages stays on disk."""

STOPPING_S = 1.0
"""Longest wait of `close` for the end of the thread, in seconds."""


class Identities:
    """Ids for the messages of one run of an attempt, in order."""

    def __init__(self, token: str, run: int) -> None:
        # Each run has its own ids, because its messages are not those of an earlier run.
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
    """A thread that sends messages, and a heartbeat every `INTERVAL_S` seconds and on `beat`.

    Args:
        connect: Function that opens the transport; called on the thread, again after failures.
        directory: Job directory with the outbox; None: only heartbeats are sent.
        status: Function that returns the body of a heartbeat.
        identities: Source of message ids; None: the messages have ids.
        clock: Clock for the interval.

    Raises:
        TransportError: The directories of the outbox cannot be created.
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
        # Two views of one directory, so that `post` never waits for a message that is being sent.
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
        """Add messages, which are on disk when this returns, and are sent as soon as possible.

        Messages that a full disk cannot hold are kept in memory and sent all the same.
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
        """Send a heartbeat now, because the status has changed."""
        self._wake.set()

    def finish(self, wait_s: float) -> bool:
        """Wait at most `wait_s` seconds until everything is sent; return True if it is."""
        self._ending = True
        self._backoff.last_s = RETRY_ENDING_S
        self._wake.set()
        self._thread.join(wait_s)
        return self._all_sent

    def close(self) -> None:
        """Send nothing more, and give up the outbox, so that another process may send the rest."""
        self._abandoned = True
        self._wake.set()
        self._thread.join(STOPPING_S)

    @property
    def has_refused(self) -> bool:
        """True if the transport has refused a message for good, in this run or an earlier one."""
        return self._sender.has_refused or (
            self._outlet is not None and any(self._outlet.dead_letters())
        )

    # -- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        """Send messages and heartbeats until `close`, or until everything is sent at the end."""
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
        """Send all waiting messages; return False if the transport cannot be used now."""
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
        """Send a heartbeat, if there is a connection; a failure has no effect."""
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
