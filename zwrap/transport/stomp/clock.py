"""The clock of ActiveMQ, by which it decides what has expired.

A message carries the time at which it expires, written by its sender. That of a host whose clock is
late would have expired before it arrives. So the difference of the clocks is measured: a message to
a topic that only this connection reads comes back with the server's time of its arrival.
"""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from stomp.utils import Frame

from zwrap.errors import ZwrapError
from zwrap.host.clock import Clock, elapsed, wall
from zwrap.message.identity import new_id
from zwrap.transport.stomp.connection import Subscription
from zwrap.transport.stomp.frames import Frames, frame
from zwrap.transport.stomp.link import Link
from zwrap.transport.stomp.places import Places
from zwrap.units import whole_number

log = logging.getLogger(__name__)

TOPIC = "transient.zwrap.clock"
"""Topic over which clocks are compared."""

MARK = "zwrap_clock"
"""Header that tells whose message it is; the name has no hyphen, so that a selector can hold it."""

WAIT_S = 5.0
"""Longest wait for the server's receipt, and again for the message, in seconds."""

AGAIN_S, FAILED_S = 3600.0, 60.0
"""Time until the clocks are compared again, in seconds, and after a comparison that failed."""

TOLD_S = 5.0
"""Difference of the clocks from which on it is told, in seconds."""


class Comparing(Protocol):
    """The part of a connection that a comparison of clocks uses."""

    @property
    def where(self) -> str:
        """Name of the server, with which a sentence may begin."""

    @property
    def link(self) -> Link | None:
        """The present connection; None: there is none."""

    def serial(self) -> str:
        """Return a fresh number."""

    def submit(self, work: Frames) -> None:
        """Send the frames of some work."""

    def subscribe(self, subscription: Subscription, wait_s: float) -> None:
        """Subscribe; TransportError if that is not possible within `wait_s` seconds."""

    def unsubscribe(self, subscription: Subscription) -> object:
        """End a subscription."""


class ServerClock:
    """The clock of a server, as far as this host knows it.

    Args:
        connection: The connection to the server.
        places: Names on the server.
        now: Clock of this host, in seconds since the epoch.
        clock: Clock that only goes forward, in seconds.
    """

    def __init__(
        self, connection: Comparing, places: Places, now: Clock = wall, clock: Clock = elapsed
    ) -> None:
        self._connection = connection
        self._topic = places.topic(TOPIC)
        self._now = now
        self._clock = clock
        self._ahead_ms = 0
        """Milliseconds by which the server's clock is ahead of that of this host."""
        self._due = float("-inf")
        """Time at which the clocks are to be compared."""
        self._told = False
        self._lock = threading.Lock()

    def now_ms(self) -> int:
        """Return the server's time, in milliseconds since the epoch; that of this host if unknown.

        The clocks are compared at the first use, and then once an hour. That needs a connection: a
        message that is sent while there is none has the difference that was known before.
        """
        with self._lock:
            if self._clock() >= self._due and self._connection.link is not None:
                self._due = self._clock() + FAILED_S  # a server that does not answer costs no more
                self._compare()
        return int(self._now() * 1000) + self._ahead_ms

    def _compare(self) -> None:
        """Measure the difference of the clocks; one that cannot be measured stays as it was."""
        mark = new_id()
        came = threading.Event()
        stamps: list[str] = []

        def received(link: Link, message: Frame) -> None:
            del link
            stamps.append(message.headers.get("timestamp", ""))
            came.set()

        subscription = Subscription(
            self._connection.serial(),
            {"destination": self._topic, "ack": "auto", "selector": f"{MARK} = '{mark}'"},
            received,
        )
        try:
            self._connection.subscribe(subscription, WAIT_S)
        except ZwrapError as error:
            log.info("The clock of %s cannot be read: %s", self._connection.where, error)
            return
        sent = self._now()
        probe = {"destination": self._topic, MARK: mark, "content-length": "0"}
        self._connection.submit(Frames([frame("SEND", probe)]))
        answered = came.wait(WAIT_S)
        middle_s = (sent + self._now()) / 2
        self._connection.unsubscribe(subscription)
        stamp_ms = whole_number(stamps[0]) if answered else None
        if stamp_ms is None:
            log.info("The clock of %s cannot be read: no answer", self._connection.where)
            return
        self._due = self._clock() + AGAIN_S
        self._ahead_ms = stamp_ms - int(middle_s * 1000)
        self._tell()

    def _tell(self) -> None:
        """Log once that the clocks differ."""
        ahead_s = self._ahead_ms / 1000
        if abs(ahead_s) >= TOLD_S and not self._told:
            self._told = True
            log.warning(
                "%s: its clock is %.0f s %s that of this host; messages expire by the server's",
                self._connection.where, abs(ahead_s), "ahead of" if ahead_s > 0 else "behind",
            )  # fmt: skip
