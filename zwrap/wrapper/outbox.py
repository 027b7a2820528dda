"""The wrapper's messages, which are written to disk and sent on a thread, and its heartbeats.

A broker that is away never delays the program: messages stay in the outbox, in order, until the
transport has taken responsibility for them. In place of heartbeats the claim is touched then.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence

from zwrap.attempt.directory import JobDirectory
from zwrap.attempt.finals import FinalSender
from zwrap.attempt.refusals import Ending
from zwrap.attempt.signs import TOUCH_S, touch_claim
from zwrap.errors import OutageError, ZwrapError
from zwrap.host.backoff import Backoff
from zwrap.host.clock import Clock, elapsed
from zwrap.host.processes import host_id
from zwrap.message.content import STATUS_EXPIRES_S, STATUS_TOPIC, Outgoing
from zwrap.message.identity import child_id
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

LOOK_S = 0.5
"""Interval at which a wait looks whether it is to end early, in seconds."""

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
        self._is_usable = False
        """True if the transport can be used, as far as the last try tells."""
        self._told = ""
        """Reason why messages wait, as it was told last."""
        self._posts = self._tried = 0
        """Number of posts, and of those of which each message was tried at least once."""
        self._progress = threading.Condition()
        self._transport: Transport | None = None
        self._beat_at = float("-inf")
        self._directory = directory
        self._shown = clock()
        """Time of the last sign of life: a heartbeat that was sent, or a touch of the claim."""
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def post(self, messages: Sequence[Outgoing]) -> list[Outgoing]:
        """Add messages, which are on disk when this returns, and are sent as soon as possible.

        Messages that a full disk cannot hold are kept in memory and sent all the same. Returns the
        messages with their ids.
        """
        named = self._identities.give(messages) if self._identities else list(messages)
        if not named:
            return named
        try:
            if self._inlet:
                mover.store(self._inlet, named)
        except (ZwrapError, OSError) as error:
            log.error("Messages cannot be kept in the outbox: %s", error)
            self._sender.add(named)
        self._posts += 1
        self._wake.set()
        return named

    def end_with(self, ending: Ending) -> None:
        """Send final messages, which are on disk already, when all others were tried."""
        self._sender.end_with(ending)
        self._posts += 1
        self._wake.set()

    def try_all(self, wait_s: float, is_stopped: Callable[[], bool]) -> None:
        """Wait until each message was tried; a transport that is away is not waited for.

        Args:
            wait_s: Longest wait, in seconds.
            is_stopped: Function that tells whether to end the wait early.
        """
        posts, deadline = self._posts, time.monotonic() + wait_s
        with self._progress:
            while self._tried < posts and not is_stopped() and time.monotonic() < deadline:
                self._progress.wait(LOOK_S)

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
    def refused(self) -> dict[str, str]:
        """Id of each message that was refused for good in this run, to the reason."""
        return dict(self._sender.refused)

    @property
    def has_refused(self) -> bool:
        """True if the transport has refused a message for good, in this run or an earlier one."""
        return self._sender.has_refused or (
            self._outlet is not None and any(self._outlet.dead_letters())
        )

    # -- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        """Send messages and heartbeats until `close`, or until everything is sent at the end."""
        while not self._abandoned:
            woken = self._wake.is_set()
            self._wake.clear()
            ending, posts = self._ending, self._posts
            sent = self._send()
            with self._progress:
                self._tried = posts
                self._progress.notify_all()
            self._beat(due=woken or ending)
            self._show_life()
            if ending and sent:
                self._all_sent = True
                break
            wait_s = float("inf") if sent else self._backoff.next_s()
            if self._is_usable:
                wait_s = min(wait_s, max(0.0, self._beat_at + INTERVAL_S - self._clock()))
            self._wake.wait(wait_s)
        with contextlib.suppress(ZwrapError, OSError):
            if self._transport:
                self._transport.close()
        with contextlib.suppress(ZwrapError, OSError):
            if self._outlet:
                self._outlet.close()

    def _send(self) -> bool:
        """Send all waiting messages, and heartbeats in between; return False if some have to wait.

        Messages wait, too, once the outbox is given up.
        """
        try:
            if self._transport is None:
                self._transport = self._connect()
                self._transport.wait_for_room(0.0)
            while self._sender.send_portion(self._transport):
                self._is_usable = True
                self._beat(due=False)
                if self._abandoned:
                    self._sender.rest()
                    return False
        except OutageError as error:
            self._is_usable = False
            self._tell("The transport cannot be used, messages wait", error)
            return False
        except (ZwrapError, OSError) as error:
            self._is_usable = self._transport is not None
            self._tell("Some messages wait", error)
            return False
        except Exception as error:  # of a transport; the job and its heartbeats go on
            self._is_usable = self._transport is not None
            self._tell("The messages cannot be sent", error, unforeseen=True)
            return False
        self._is_usable, self._told = True, ""
        self._backoff.reset()
        return True

    def _tell(self, what: str, error: Exception, *, unforeseen: bool = False) -> None:
        """Log why messages wait, once for each reason in succession."""
        text = f"{what}: {type(error).__name__ if unforeseen else error}"
        if text != self._told:
            self._told = text
            log.warning("%s", text, exc_info=error if unforeseen else None)

    def _beat(self, *, due: bool) -> None:
        """Send a heartbeat if one is due, at the latest `INTERVAL_S` after the last one."""
        if self._is_usable and (due or self._clock() - self._beat_at >= INTERVAL_S):
            self._beat_at = self._clock()
            self._heartbeat()

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
            self._shown = self._clock()
        except Exception:  # a heartbeat that fails must never keep a message from being sent
            log.debug("A heartbeat could not be sent", exc_info=True)

    def _show_life(self) -> None:
        """Touch the claim if no heartbeat could be sent for `TOUCH_S` seconds."""
        if self._directory is None or self._clock() - self._shown < TOUCH_S:
            return
        self._shown = self._clock()
        with contextlib.suppress(OSError):
            touch_claim(self._directory)
