"""A TCP proxy before a MariaDB that cuts connections at a packet of the client's choice."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

QUERY = 3
"""First byte of a packet with a statement (COM_QUERY)."""


class Proxy:
    """A proxy on a port of its own.

    Args:
        port: Port of the server on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._cuts: list[tuple[bytes, str]] = []
        self._silent = threading.Event()
        self.cut = 0
        """Number of connections that were cut."""
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_at(self, statement: str, when: str = "answered") -> None:
        """Cut the next connection whose client sends a statement that begins so.

        `when`: ``unsent`` (the server never sees it), or ``answered`` (the server has carried it
        out, and the client does not hear of it).
        """
        self._cuts.append((statement.upper().encode(), when))

    def silence(self) -> None:
        """Let nothing through any more, in either direction, and close nothing."""
        self._silent.set()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                threading.Thread(target=self._answers, args=(server, client), daemon=True).start()
                threading.Thread(target=self._asks, args=(client, server), daemon=True).start()

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if not self._silent.is_set():
                    client.sendall(data)
        for each in (client, server):
            _end(each)

    def _asks(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                packet = _packet(client)
                when = self._wanted(packet)
                self.cut += when is not None
                if when == "unsent":
                    break
                if when == "answered":
                    client.shutdown(socket.SHUT_WR)  # what the server says reaches nobody
                    server.sendall(packet)
                    time.sleep(0.2)
                    break
                if not self._silent.is_set():
                    server.sendall(packet)
        for each in (client, server):
            _end(each)

    def _wanted(self, packet: bytes) -> str | None:
        """Return when to cut a connection that sends a packet; None: not at this one."""
        for each in self._cuts:
            begin, when = each
            if packet[4] == QUERY and packet[5:].upper().startswith(begin):
                self._cuts.remove(each)
                return when
        return None


def _end(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


def _packet(client: socket.socket) -> bytes:
    """Return the next packet of a client, header included; EOFError at the end."""
    header = _bytes(client, 4)
    return header + _bytes(client, int.from_bytes(header[:3], "little"))


def _bytes(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = client.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


@contextlib.contextmanager
def proxied(port: int) -> Iterator[Proxy]:
    """Yield a proxy before a server."""
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
