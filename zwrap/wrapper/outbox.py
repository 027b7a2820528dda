"""Carries the wrapper's messages: outbox first, then the transport, on a thread of its own.

A broker that is away never delays the program: what cannot be sent stays in the outbox, in
order, and leaves it when the other side has taken responsibility.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from zwrap.attempt.directory import JobDirectory
from zwrap.attempt.verdict import QUEUE_VARIABLE, Verdict
from zwrap.errors import TEMPORARY, ZwrapError
from zwrap.host.processes import host_id
from zwrap.message import STATUS_EXPIRES_S, STATUS_TOPIC, Outgoing, child_id
from zwrap.transport import mover
from zwrap.transport.contract import Transport
from zwrap.transport.spool.queue import SpoolQueue

log = logging.getLogger(__name__)

INTERVAL_S = 3.0
"""Between two heartbeats; python-zocalo's interval."""

RETRY_FIRST_S = 0.2
RETRY_LAST_S = 30.0
RETRY_ENDING_S = 1.0
"""Longest pause between two tries while the job waits for its last messages to go."""


class Courier:
    """Sends what is in the outbox, and a heartbeat every `INTERVAL_S` seconds and on `wake`.

    Without an outbox there are heartbeats only.
    """

    def __init__(
        self,
        connect: Callable[[], Transport],
        outbox: Callable[[], SpoolQueue] | None,
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self._connect = connect
        # Two views of one directory: taking messages never waits for one being sent.
        self._inlet = outbox() if outbox else None
        self._outlet = outbox() if outbox else None
        self._status = status
        self._wake = threading.Event()
        self._unkept: deque[Outgoing] = deque()
        self._ending = self._all_sent = False
        self._pause_s = RETRY_FIRST_S
        self._transport: Transport | None = None
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)
        self._thread.start()

    def post(self, messages: list[Outgoing]) -> None:
        """Take messages: they are on disk when this returns, and sent as soon as possible."""
        try:
            if messages and self._inlet:
                mover.store(self._inlet, messages)
        except (ZwrapError, OSError) as error:
            # A full disk, say: what cannot be kept is sent all the same.
            log.error("Messages cannot be kept in the outbox: %s", error)
            self._unkept.extend(messages)
        self._wake.set()

    def beat(self) -> None:
        """Send a heartbeat now: the status has changed."""
        self._wake.set()

    def close(self, wait_s: float) -> bool:
        """Send the rest, for at most `wait_s` seconds; whether everything was sent."""
        self._ending = True
        self._wake.set()
        self._thread.join(wait_s)
        return self._all_sent

    def _run(self) -> None:
        beat_at = float("-inf")
        while True:
            woken = self._wake.is_set()
            self._wake.clear()
            ending = self._ending
            sent = self._deliver()
            if sent and (woken or ending or time.monotonic() - beat_at >= INTERVAL_S):
                beat_at = time.monotonic()
                self._heartbeat()
            if ending and sent:
                self._all_sent = True
                break
            until_beat_s = max(0.0, beat_at + INTERVAL_S - time.monotonic())
            self._wake.wait(until_beat_s if sent else self._pause_s)
        with contextlib.suppress(ZwrapError, OSError):
            if self._transport:
                self._transport.close()
            if self._outlet:
                self._outlet.close()

    def _deliver(self) -> bool:
        """Empty the outbox; False if the transport cannot be used now."""
        try:
            if self._transport is None:
                self._transport = self._connect()
            if self._outlet:
                mover.deliver(self._outlet, self._transport)
            while self._unkept:
                mover.send(self._transport, self._unkept[0])
                self._unkept.popleft()
        except (ZwrapError, OSError) as error:
            log.warning("The transport cannot be used, messages wait: %s", error)
            longest_s = RETRY_ENDING_S if self._ending else RETRY_LAST_S
            self._pause_s = min(self._pause_s * 2, longest_s)
            return False
        self._pause_s = RETRY_FIRST_S
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


SEND_WAIT_S = 60.0
"""How long the wrapper waits at its end for a transport that is away; the rest stays on disk."""


LOOK_S = 5.0
"""So often one that waits longer looks whether it was asked to stop."""


class Speech:
    """The messages of one run of an attempt, over a courier."""

    def __init__(self, directory: JobDirectory, token: str, run: int) -> None:
        self._directory = directory
        # What a run says is not what an earlier one said under the same number.
        self._parent = token if run == 1 else f"{token}.{run}"
        self._position = 0
        self._verdict_queue = os.environ.get(QUEUE_VARIABLE)
        """Where the verdict has to go, if nobody else sees this directory."""

    def identified(self, messages: list[Outgoing]) -> list[Outgoing]:
        """The messages under ids that a repeat of this attempt would repeat."""
        first, self._position = self._position, self._position + len(messages)
        return [
            message.with_id(child_id(self._parent, position))
            for position, message in enumerate(messages, first)
        ]

    def post(self, courier: Courier, messages: list[Outgoing]) -> None:
        """Send them."""
        courier.post(self.identified(messages))

    def say_last(self, courier: Courier, verdict: Verdict, is_stopped: Callable[[], bool]) -> int:
        """Speak, unless another has, and wait until everything is sent; the exit status."""
        if self._speak(verdict):
            courier.post(self._last_messages(verdict))
        if self._close(courier, is_stopped):
            return verdict.exit_status
        log.error("Not everything was sent; the rest stays in %s/outbox", self._directory.path)
        return TEMPORARY if self._verdict_queue else verdict.exit_status

    def send_rest(self, courier: Courier, verdict: Verdict, is_stopped: Callable[[], bool]) -> None:
        """Send the last messages of a verdict whose speaker died before it could."""
        courier.post(self._last_messages(verdict))
        self._close(courier, is_stopped)

    def _speak(self, verdict: Verdict) -> bool:
        try:
            return self._directory.speak(verdict)
        except OSError as error:  # a full disk: rather say it twice than never
            log.error("The verdict cannot be written: %s", error)
            return True

    def _last_messages(self, verdict: Verdict) -> list[Outgoing]:
        """Those of the step; one that holds them where its end has to be told elsewhere."""
        if not self._verdict_queue:
            return verdict.final
        told = Outgoing(self._verdict_queue, msgspec.to_builtins(verdict))
        return [told.with_id(child_id(self._parent, "verdict"))]

    def _close(self, courier: Courier, is_stopped: Callable[[], bool]) -> bool:
        """Send the rest; where nobody else sees the outbox, for as long as the job may live."""
        sent = courier.close(SEND_WAIT_S)
        if self._verdict_queue:
            while not sent and not is_stopped():
                sent = courier.close(LOOK_S)
            # What the transport refused for good lies on this node only, as if it was not sent.
            sent = sent and not any(self._directory.outbox().dead_letters())
        if sent:
            with contextlib.suppress(OSError):
                self._directory.mark_sent()
        return sent
