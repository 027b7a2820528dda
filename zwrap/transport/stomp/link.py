"""One connection to ActiveMQ while it lasts, over stomp.py, which reads on its own thread."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Sequence
from typing import Protocol

import stomp
from stomp.utils import Frame, convert_frame, pack

from zwrap.errors import ZwrapError
from zwrap.transport.failures import EncodingError
from zwrap.transport.stomp.frames import Frames, frame, refusal
from zwrap.transport.stomp.incoming import Incoming
from zwrap.transport.stomp.settings import Server

log = logging.getLogger(__name__)


class Owner(Protocol):
    """The receiver of a link's reports, called on stomp.py's thread."""

    @property
    def where(self) -> str:
        """Name of the server, with which a sentence may begin."""

    def arrived(self, link: Link, received: Frame) -> None:
        """Handle a message of a subscription."""

    def commit(self, link: Link, work: Frames) -> None:
        """Commit a transaction of which the server has read all frames."""

    def confirmed(self, link: Link) -> None:
        """Note that work was confirmed."""

    def lost(self, link: Link) -> None:
        """Note that the link is gone."""


class Link(stomp.ConnectionListener):  # type: ignore[misc]  # stomp.py has no types
    """One connection while it lasts, which `connect` begins."""

    def __init__(self, server: Server, host: str, port: int, owner: Owner) -> None:
        self._owner = owner
        self._server = server
        self.receipts: dict[str, Frames] = {}
        """Id of a receipt that has not arrived, to its work."""
        self.answered = threading.Event()
        self.open = False
        self.is_alone = False
        """True while suspect work is sent, and nothing else may be."""
        self.refused: ZwrapError | None = None
        """Reason why the server refuses this user."""
        self.complaint: ZwrapError | None = None
        """Latest error of the server that is about no work in particular; it ends the link when it
        cannot read a frame."""
        beat_ms = int(server.heartbeat_s * 1000)
        self.stomp = stomp.Connection11(
            [(host, port)],
            try_loopback_connect=False,
            reconnect_attempts_max=1,
            heartbeats=(beat_ms, beat_ms),
            auto_decode=False,
        )
        receive, incoming = self.stomp.transport.receive, Incoming()
        self.stomp.transport.receive = lambda: incoming.mended(receive() or b"")
        if server.tls:
            self.stomp.set_ssl([(host, port)], ca_certs=server.ca_file)

    def connect(self) -> None:
        """Connect; `answered` is set when the server has accepted or refused this user.

        Raises OSError or StompException if nothing can be sent.
        """
        self.stomp.set_listener("zwrap", self)
        self.stomp.connect(self._server.username, self._server.password, wait=False)
        end = self.stomp.transport.socket
        if end is not None:
            # Small frames are sent immediately, and a peer that no longer reads is given up, which
            # stomp.py's heart-beats cannot detect while a write waits.
            beat_ms = int(self._server.heartbeat_s * 1000)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 6 * beat_ms)

    # -- called by stomp.py on its thread ----------------------------------------------------------

    def on_connected(self, _: Frame) -> None:
        """Note that the server accepts this user."""
        self.open = True
        self.answered.set()

    def on_message(self, received: Frame) -> None:
        """Pass on a message of a subscription."""
        self._owner.arrived(self, received)

    def on_receipt(self, received: Frame) -> None:
        """Finish the work for which the server has taken responsibility, or commit it."""
        receipt = received.headers["receipt-id"]
        work = self.receipts.pop(receipt, None)
        if work and work.commits and isinstance(self.complaint, EncodingError):
            self.receipts[receipt] = work  # one of its frames may be the one that was not read
            self.cut()
            return
        if work and work.commits:
            self._owner.commit(self, work)
        elif work:
            work.finish(None)
        self._owner.confirmed(self)

    def on_error(self, received: Frame) -> None:
        """Finish the work that the server refuses; before `on_connected`, the connection."""
        failure = refusal(received.headers, received.body)
        if not self.open:
            self.refused = failure
            self.answered.set()
            return
        receipt = received.headers.get("receipt-id", "")
        work = self.receipts.pop(receipt, None)
        if work is None:
            self.complaint = failure
            log.warning("%s: %s", self._owner.where, failure)
        elif self.complaint and isinstance(failure, EncodingError):
            # The rest of the frame of which it complained; the receipt may be that of another one.
            self.receipts[receipt] = work
            self.cut()
        else:
            self._abort(work)
            work.finish(failure)

    def _abort(self, work: Frames) -> None:
        """End the transaction of work that the server refuses before its COMMIT was sent."""
        if work.commits:
            number = {"transaction": work.frames[-1].headers["transaction"]}
            with contextlib.suppress(Exception):
                self.write([frame("ABORT", number)])

    def on_disconnected(self) -> None:
        """Report that the connection is gone."""
        self.open = False
        self.answered.set()
        self._owner.lost(self)

    # -- for any thread ----------------------------------------------------------------------------

    def write(self, frames: Sequence[Frame]) -> None:
        """Send frames in one go."""
        data = b"".join(pack(convert_frame(each)) for each in frames)
        queue = self.stomp.transport.send_queue
        if queue is None:
            self.stomp.transport.send(data)
        else:
            queue.put(data)  # over TLS its thread writes

    def cut(self) -> None:
        """End the connection without a DISCONNECT frame; unsettled messages are delivered again."""
        with contextlib.suppress(Exception):
            self.stomp.transport.disconnect_socket()
