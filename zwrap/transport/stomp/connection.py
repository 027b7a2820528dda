"""One connection to ActiveMQ: receipts, reconnects, heart-beats.

stomp.py reads on a thread of its own and keeps the heart-beats: work that takes hours never costs
one. Frames are written where they arise; a thread of ours connects again. Protocol:
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
from collections.abc import Sequence
from typing import Any

import stomp
from stomp.utils import Frame, convert_frame, pack

from zwrap.errors import ConfigurationError, TransportError, ZwrapError
from zwrap.transport.pipelined import PendingWork
from zwrap.transport.settings import tls_context, untrusted
from zwrap.transport.stomp.settings import Server

log = logging.getLogger(__name__)

if logging.getLogger("stomp.py").level == logging.NOTSET:
    # It logs each lost connection with a traceback; what matters is said here, in one line.
    logging.getLogger("stomp.py").setLevel(logging.CRITICAL)

BACKOFF_FIRST_S, BACKOFF_LAST_S = 0.5, 30.0
ANSWER_S = 10.0
"""So long a host may take to accept a connection, and again to answer."""

_PERMANENT = ("password is invalid", "not authorized", "no user", "Authentication failed")


def frame(command: str, headers: dict[str, str], body: bytes = b"") -> Frame:
    """A frame; values are escaped as STOMP 1.1 wants it, which knows no carriage return."""
    escaped = {
        key: value.replace("\\", "\\\\").replace("\r", " ").replace("\n", "\\n").replace(":", "\\c")
        for key, value in headers.items()
    }
    return Frame(command, escaped, body)


class Frames(PendingWork):
    """Frames, the last of which asks for a receipt."""

    __slots__ = ("frames",)

    def __init__(self, frames: Sequence[Frame], **more: Any) -> None:
        super().__init__(**more)
        self.frames = frames


class Subscription:
    """A queue or topic that is read, over all connections that there will be."""

    def __init__(self, identity: str, headers: dict[str, str], received: Any) -> None:
        self.headers = {**headers, "id": identity}
        self.received = received
        """Called with a link and a frame."""


class Link(stomp.ConnectionListener):  # type: ignore[misc]  # stomp.py has no types
    """One connection while it lasts."""

    def __init__(self, server: Server, host: str, port: int, owner: Connection) -> None:
        self._owner = owner
        self.receipts: dict[str, Frames] = {}
        self.answered = threading.Event()
        self.open = False
        self.refused = ""
        beat_ms = int(server.heartbeat_s * 1000)
        self.stomp = stomp.Connection11(
            [(host, port)],
            try_loopback_connect=False,
            reconnect_attempts_max=1,
            heartbeats=(beat_ms, beat_ms),
            auto_decode=False,
        )
        if server.tls:
            self.stomp.set_ssl([(host, port)], ca_certs=server.ca_file)
        self.stomp.set_listener("zwrap", self)
        self.stomp.connect(server.username, server.password, wait=False)
        end = self.stomp.transport.socket
        if end is not None:
            # Small frames go at once; and a peer that takes nothing more is given up, which
            # stomp.py's heart-beats cannot see while a write waits.
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 6 * beat_ms)

    # Called by stomp.py on its thread.

    def on_connected(self, _: Frame) -> None:
        """The server takes us."""
        self.open = True
        self.answered.set()

    def on_message(self, received: Frame) -> None:
        """A message of a subscription."""
        self._owner.arrived(self, received)

    def on_receipt(self, received: Frame) -> None:
        """The server has taken responsibility."""
        if work := self.receipts.pop(received.headers["receipt-id"], None):
            work.finish(None)

    def on_error(self, received: Frame) -> None:
        """The server refuses something."""
        text = received.headers.get("message") or _first_line(received.body)
        if not self.open:
            self.refused = text
            self.answered.set()
            return
        work = self.receipts.pop(received.headers.get("receipt-id", ""), None)
        if work is None:
            log.warning("%s: %s", self._owner.where, text)
        else:
            work.finish(text)

    def on_disconnected(self) -> None:
        """The connection is gone."""
        self.open = False
        self.answered.set()
        self._owner.lost(self)

    def write(self, frames: Sequence[Frame]) -> None:
        """Send frames in one go."""
        data = b"".join(pack(convert_frame(each)) for each in frames)
        queue = self.stomp.transport.send_queue
        if queue is None:
            self.stomp.transport.send(data)
        else:
            queue.put(data)  # over TLS its thread writes

    def cut(self) -> None:
        """End the connection without a word; what was handed out is handed out again."""
        with contextlib.suppress(Exception):
            self.stomp.transport.disconnect_socket()


class Connection:
    """Keeps one connection to a server; all public methods may be called from any thread."""

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
        self._connect_any()
        self._thread = threading.Thread(target=self._keep, name="stomp", daemon=True)
        self._thread.start()

    @property
    def where(self) -> str:
        """The server, for a sentence to begin with."""
        hosts = ", ".join(f"{host}:{port}" for host, port in self._server.addresses)
        return f"ActiveMQ at {hosts}"

    @property
    def state(self) -> str:
        """Why nothing is confirmed at present."""
        return "the connection is lost" if self.link is None else "no answer"

    def serial(self) -> str:
        """A fresh number, for transactions and subscriptions."""
        return str(next(self._serial))

    def submit(self, work: Frames) -> None:
        """Send the frames of some work; its receipt is waited for elsewhere."""
        with self._lock:
            link = self.link
            if link is None:
                if work.valid():
                    self._waiting.append(work)
                else:
                    work.finish("the connection is lost")
                return
            self._send(link, work)

    def subscribe(self, subscription: Subscription, wait_s: float) -> None:
        """Begin to read; TransportError if that is not possible."""
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

    def unsubscribe(self, subscription: Subscription) -> None:
        """Read no more."""
        identity = subscription.headers["id"]
        with self._lock:
            self._subscriptions.pop(identity, None)
        link = self.link  # the next connection will not know of it
        work = Frames([frame("UNSUBSCRIBE", {"id": identity})], valid=lambda: self.link is link)
        self.submit(work)

    def close(self) -> None:
        """End the connection; what was handed out and not settled is handed out again."""
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
            work.finish("the connection is closed")

    # -- called by a link on stomp.py's thread -----------------------------------------------------

    def arrived(self, link: Link, received: Frame) -> None:
        """A message came."""
        subscription = self._subscriptions.get(received.headers.get("subscription", ""))
        if subscription is not None and link is self.link:
            subscription.received(link, received)

    def lost(self, link: Link) -> None:
        """The connection is gone. Takes no lock: a writer that holds it may wait for us."""
        if link is self.link:
            self.link = None
            log.warning("%s: the connection was lost", self.where)
        self._give_up_receipts(link)
        self._wake.set()

    # -- inside ------------------------------------------------------------------------------------

    def _send(self, link: Link, work: Frames) -> None:
        receipt = f"zwrap-{self.serial()}"
        work.frames[-1].headers["receipt"] = receipt
        link.receipts[receipt] = work
        try:
            link.write(work.frames)
        except Exception as error:
            log.debug("%s: %s", self.where, error)
            link.cut()
            self.lost(link)
        if self.link is not link:
            self._give_up_receipts(link)  # it was lost meanwhile, perhaps before ours was there

    def _give_up_receipts(self, link: Link) -> None:
        """What nobody waits for dies with its delivery; the rest is sent again, in order."""
        while link.receipts:
            with contextlib.suppress(KeyError):
                work = link.receipts.pop(next(iter(link.receipts)))
                if work.valid() and not self._closing:
                    self._waiting.append(work)
                else:
                    work.finish("the connection was lost")

    def _keep(self) -> None:
        """Connect again, for as long as it takes."""
        pause_s, complained = BACKOFF_FIRST_S, ""
        while not self._closing:
            if self.link is not None:
                pause_s, complained = BACKOFF_FIRST_S, ""
                self._wake.wait()
                self._wake.clear()
                time.sleep(random.uniform(0.05, 0.5))  # not all clients at once
                continue
            try:
                self._connect_any()
                log.warning("%s: connected again", self.where)
            except ZwrapError as error:
                if str(error) != complained:
                    complained = str(error)
                    log.warning("%s It is tried again.", error)
                self._wake.wait(pause_s * random.uniform(0.5, 1.0))
                self._wake.clear()
                pause_s = min(pause_s * 2, BACKOFF_LAST_S)

    def _connect_any(self) -> None:
        """Try each host; the last one's error if there is none."""
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
                waiting, self._waiting = self._waiting, deque()
                for work in waiting:
                    if work.valid():
                        self._send(link, work)
                    else:
                        work.finish("nobody waits for it any more")
                if not link.open:
                    self.lost(link)
            return
        raise failure or TransportError(f"{self.where} has no address.")

    def _probe(self, host: str, port: int) -> None:
        """Connect once as stomp.py is going to: it does not tell why it cannot."""
        with socket.create_connection((host, port), ANSWER_S / 2) as end:
            if self._server.tls:
                tls_context(self._server.ca_file).wrap_socket(end, server_hostname=host).close()

    def _connect(self, host: str, port: int) -> Link:
        where = f"ActiveMQ at {host}:{port}"
        try:
            self._probe(host, port)
            link = Link(self._server, host, port, self)
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
        if any(word in link.refused for word in _PERMANENT):
            raise ConfigurationError(
                f"{where} refuses user {self._server.username!r}: the user or the password is "
                f"wrong ({link.refused})."
            )
        if link.refused:
            raise TransportError(f"{where} refuses the connection: {link.refused}.")
        raise TransportError(f"{where} accepts the connection and does not answer in STOMP.")


def _first_line(body: Any) -> str:
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or "")
    return text.strip().partition("\n")[0] or "an error without a text"
