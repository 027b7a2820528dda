"""Consumers for tests that count what was lost and what came twice."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter

from zwrap.message.content import Outgoing
from zwrap.transport.contract import Transport


def forward(transport: Transport, seen: Counter[int], stop: threading.Event) -> None:
    """Send each message of queue `in` on to queue `out`."""
    while not stop.is_set():
        if delivery := transport.receive(0.2):
            seen[delivery.message.body] += 1
            with transport.unit(delivery) as unit:
                unit.send(Outgoing("out", delivery.message.body))


def drained(transport: Transport, queue: str, expected: int) -> Counter[str]:
    """Ids of what waits in a queue, how often each.

    Until as many different ones as expected came there may be pauses: after a crash RabbitMQ calls
    all messages of a classic queue redelivered, so that each is first sent back as a copy.
    """
    transport.subscribe(queue, 500)
    ids: Counter[str] = Counter()
    while delivery := transport.receive(2 if len(ids) >= expected else 30):
        ids[delivery.message.id] += 1
        delivery.ack()
    transport.flush()
    return ids


QUIET_S = 5.0
"""Longer than a broker takes to hand out what a dead connection held."""


class Forwarding:
    """`forward` on a thread of its own, while the body of the `with` goes on."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._seen: Counter[int] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=forward, args=(transport, self._seen, self._stop), daemon=True
        )

    def __enter__(self) -> Forwarding:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait_for(self, count: int) -> None:
        """Wait until so many different messages came, and what they led to is confirmed.

        A message whose connection died before that comes again, so it goes on until none does.
        """
        deadline = time.monotonic() + 60
        while len(self._seen) < count:
            assert time.monotonic() < deadline, f"{count - len(self._seen)} did not come"
            time.sleep(0.1)
        came = 0
        while self._seen.total() > came:
            assert time.monotonic() < deadline, "they come again and again"
            came = self._seen.total()
            self._transport.flush()
            time.sleep(QUIET_S)
        self._stop.set()
        self._thread.join()
        self._transport.flush()


FORWARDER = """
import sys
from zwrap.configuration.site import Configuration
from zwrap.message.content import Outgoing
from zwrap.transport.connect import connect
transport = connect(Configuration.from_string(sys.argv[1]).activate(), sys.argv[2])
transport.subscribe("in", 20)
while delivery := transport.receive(3):
    with transport.unit(delivery) as unit:
        unit.send(Outgoing("out", delivery.message.body))
transport.flush()
transport.close()
"""
"""A process that does the same until nothing more comes; arguments: site file, transport."""


class Proxy:
    """Carries TCP to a server; while `stalled` it accepts everything and passes on nothing."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.stalled = threading.Event()
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                while self.stalled.is_set() and not self._ended.is_set():
                    time.sleep(0.02)
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._ended.set()
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.close()
