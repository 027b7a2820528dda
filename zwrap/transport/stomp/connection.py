"""One lasting connection to ActiveMQ, over all links to come: receipts, reconnects, heart-beats.

stomp.py reads on its own thread and sends the heart-beats, so that work which takes hours never
delays one. The calling thread writes frames; a thread of the connection reconnects. Source:
stomp.github.io/stomp-specification-1.1.html and activemq.apache.org/stomp.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import random
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import stomp
from stomp.utils import Frame

from zwrap.errors import ConfigurationError, TransportError, ZwrapError
from zwrap.host.backoff import Backoff
from zwrap.transport.failures import EncodingError, LostError, NoPermissionError
from zwrap.transport.settings import tls_context, untrusted
from zwrap.transport.stomp.frames import Frames, frame
from zwrap.transport.stomp.link import Link
from zwrap.transport.stomp.settings import Server

log = logging.getLogger(__name__)

BACKOFF_FIRST_S, BACKOFF_LAST_S = 0.5, 30.0
"""First and longest pause between rounds over all hosts, in seconds."""

ANSWER_S = 10.0
"""Longest time for a host to accept a connection, and again to answer, in seconds."""


class Subscription:
    """The subscription to a queue or topic, which is repeated on each new link."""

    def __init__(
        self, identity: str, headers: dict[str, str], received: Callable[[Link, Frame], None]
    ) -> None:
        self.headers = {**headers, "id": identity}
        self.received = received
        """Function that is called with each message, on stomp.py's thread."""


class Connection:
    """A lasting connection to a server. Public methods may be called from any thread."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._addresses = list(server.addresses)
        random.shuffle(self._addresses)
        self.link: Link | None = None
        self._lock = threading.RLock()
        self._subscriptions: dict[str, Subscription] = {}
        self._waiting: deque[Frames] = deque()
        self._serial = itertools.count(1)
        self._closing = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="stomp", daemon=True)

    @classmethod
    def open(cls, server: Server) -> Connection:
        """Connect to a server, and stay connected from now on.

        Raises ConfigurationError if the server refuses this user, TransportError if none answers.
        """
        made = cls(server)
        made._begin()
        return made

    def _begin(self) -> None:
        """Connect for the first time, and start the thread that reconnects."""
        self._connect_any()
        self._thread.start()

    @property
    def where(self) -> str:
        """Name of the server, with which a sentence may begin."""
        hosts = ", ".join(f"{host}:{port}" for host, port in self._server.addresses)
        return f"ActiveMQ at {hosts}"

    @property
    def state(self) -> str:
        """Reason why nothing is confirmed at present."""
        return "the connection is lost" if self.link is None else "no answer"

    def serial(self) -> str:
        """Return a fresh number, for transactions and subscriptions."""
        return str(next(self._serial))

    def submit(self, work: Frames) -> None:
        """Send the frames of some work, now or after the next connection; do not wait."""
        with self._lock:
            link = self.link
            if link is None and not work.valid():
                work.finish(LostError("the connection is lost"))
                return
            self._waiting.append(work)
            if link is not None:
                self._send_waiting(link)

    def subscribe(self, subscription: Subscription, wait_s: float) -> None:
        """Subscribe; TransportError if that is not possible within `wait_s` seconds."""
        identity = subscription.headers["id"]
        with self._lock:
            self._subscriptions[identity] = subscription
            work = Frames([frame("SUBSCRIBE", subscription.headers)])
            self.submit(work)
        place = subscription.headers["destination"]
        if work.wait(wait_s) and not work.failure:
            return
        with self._lock:
            work.valid = lambda: False
            del self._subscriptions[identity]
        raise TransportError(f"{self.where}: {place} cannot be read: {work.failure or self.state}.")

    def unsubscribe(self, subscription: Subscription) -> Frames:
        """End a subscription; return the work, which ends when its messages are given back."""
        identity = subscription.headers["id"]
        with self._lock:
            self._subscriptions.pop(identity, None)
        link = self.link  # the next connection will not know of it
        work = Frames([frame("UNSUBSCRIBE", {"id": identity})], valid=lambda: self.link is link)
        self.submit(work)
        return work

    def reads(self, headers: Mapping[str, str]) -> bool:
        """Return whether the subscription of a message, by its headers, has not ended."""
        return headers.get("subscription", "") in self._subscriptions

    def close(self) -> None:
        """End the connection; unsettled messages are delivered again."""
        with self._lock:
            self._closing = True
            link, self.link = self.link, None
        self._wake.set()
        self._thread.join(5)
        if link is not None:
            with contextlib.suppress(Exception):
                link.stomp.disconnect(receipt="bye")
            deadline = time.monotonic() + 3
            while link.open and time.monotonic() < deadline:
                time.sleep(0.005)
            link.cut()
        for work in list(self._waiting):
            work.finish(LostError("the connection is closed"))

    # -- called by a link on stomp.py's thread -----------------------------------------------------

    def arrived(self, link: Link, received: Frame) -> None:
        """Pass a message to its subscription."""
        subscription = self._subscriptions.get(received.headers.get("subscription", ""))
        if subscription is not None and link is self.link:
            subscription.received(link, received)

    def lost(self, link: Link) -> None:
        """Note that a link is gone; without the lock, whose holder may wait for this thread."""
        if link is self.link:
            self.link = None
            log.warning("%s: the connection was lost", self.where)
        self._give_up_receipts(link)
        self._wake.set()

    # -- inside ------------------------------------------------------------------------------------

    def commit(self, link: Link, work: Frames) -> None:
        """Commit a transaction of which the server has read all frames."""
        work.commits = False
        self._write(link, work, work.frames[-1:])

    def _send(self, link: Link, work: Frames) -> None:
        """Write the frames of some work, but for its COMMIT."""
        work.commits = work.frames[-1].cmd == "COMMIT"
        self._write(link, work, work.frames[:-1] if work.commits else work.frames)

    def _write(self, link: Link, work: Frames, frames: Sequence[Frame]) -> None:
        """Write frames of some work, the last with a request for a receipt."""
        receipt = f"zwrap-{self.serial()}"
        frames[-1].headers["receipt"] = receipt
        link.receipts[receipt] = work
        try:
            link.write(frames)
        except (UnicodeError, TypeError, ValueError) as error:  # before anything was written
            link.receipts.pop(receipt, None)
            work.finish(EncodingError(f"it cannot be written in STOMP: {error}"))
        except Exception as error:
            log.debug("%s: %s", self.where, error)
            link.cut()
            self.lost(link)
        if self.link is not link:
            self._give_up_receipts(link)  # it was lost meanwhile, perhaps before this receipt

    def _give_up_receipts(self, link: Link) -> None:
        """Keep unfinished work of a lost link for the next one, if it is still to be done.

        If the server complained before it ended the link, and only one work was unconfirmed, that
        one is refused; of several each is sent alone the next time.
        """
        complaint = link.complaint
        alone = len(link.receipts) == 1
        while link.receipts:
            with contextlib.suppress(KeyError):
                work = link.receipts.pop(next(iter(link.receipts)))
                work.suspect = complaint is not None
                if complaint and alone:
                    work.finish(EncodingError(f"the server ended the connection: {complaint}"))
                elif work.valid() and not self._closing:
                    self._waiting.append(work)
                else:
                    work.finish(LostError("the connection was lost"))

    def _keep(self) -> None:
        """Reconnect whenever the link is lost, until the connection is closed."""
        backoff, complained = Backoff(BACKOFF_FIRST_S, BACKOFF_LAST_S, jitter=True), ""
        while not self._closing:
            if self.link is not None:
                backoff.reset()
                complained = ""
                self._wake.wait()
                self._wake.clear()
                with self._lock:
                    if self.link is not None:
                        self._send_waiting(self.link)
                time.sleep(
                    random.uniform(0.05, 0.5)
                )  # so that clients do not come back simultaneously
                continue
            try:
                self._connect_any()
                log.warning("%s: connected again", self.where)
            except ZwrapError as error:
                if str(error) != complained:
                    complained = str(error)
                    log.warning("%s It is tried again.", error)
                self._wake.wait(backoff.next_s())
                self._wake.clear()

    def _connect_any(self) -> None:
        """Connect to the first host that answers; raise the last one's error if none does."""
        failure: ZwrapError | None = None
        for host, port in self._addresses:
            try:
                link = self._connect(host, port)
            except ConfigurationError:
                raise
            except ZwrapError as error:
                failure = error
                continue
            with self._lock:
                self.link = link
                link.write([frame("SUBSCRIBE", s.headers) for s in self._subscriptions.values()])
                self._send_waiting(link)
                if not link.open:
                    self.lost(link)
            return
        raise failure or TransportError(f"{self.where} has no address.")

    def _send_waiting(self, link: Link) -> None:
        """Send what waits for a link; suspect work while nothing else is unconfirmed."""
        while self._waiting and link is self.link:
            if link.receipts and (link.is_alone or self._waiting[0].suspect):
                return  # the next receipt goes on here
            work = self._waiting.popleft()
            if work.valid():
                link.is_alone = work.suspect
                self._send(link, work)
            else:
                work.finish(LostError("nobody waits for it any more"))

    def confirmed(self, link: Link) -> None:
        """Send what waits, after a receipt; whoever holds the lock may wait for this thread."""
        if self._waiting and link is self.link:
            if self._lock.acquire(blocking=False):
                try:
                    self._send_waiting(link)
                finally:
                    self._lock.release()
            else:
                self._wake.set()

    def _probe(self, host: str, port: int) -> None:
        """Connect once as stomp.py will, which does not tell why a connection fails."""
        with socket.create_connection((host, port), ANSWER_S / 2) as end:
            if self._server.tls:
                tls_context(self._server.ca_file).wrap_socket(end, server_hostname=host).close()

    def _connect(self, host: str, port: int) -> Link:
        """Return a link to a host; ConfigurationError or TransportError if that fails."""
        where = f"ActiveMQ at {host}:{port}"
        try:
            self._probe(host, port)
            link = Link(self._server, host, port, self)
            link.connect()
        except ssl.SSLError as error:
            raise untrusted(where, error) from None
        except socket.gaierror as error:
            text = f"{where} cannot be used: the name does not resolve ({error.strerror})."
            raise TransportError(text) from None
        except ConnectionRefusedError:
            raise TransportError(
                f"{where} refuses the connection: nothing listens there. Is the server up?"
            ) from None
        except (OSError, stomp.exception.StompException) as error:
            raise TransportError(
                f"{where} cannot be reached: {error or type(error).__name__}."
            ) from None
        if link.answered.wait(ANSWER_S) and link.open:
            return link
        link.cut()
        if isinstance(link.refused, NoPermissionError):
            raise ConfigurationError(
                f"{where} refuses user {self._server.username!r}: the user or the password is "
                f"wrong ({link.refused})."
            )
        if link.refused:
            raise TransportError(f"{where} refuses the connection: {link.refused}.")
        raise TransportError(f"{where} accepts the connection and does not answer in STOMP.")
