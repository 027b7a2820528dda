"""A prefix of its own on a real ActiveMQ, for each test."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import stomp

from zwrap.configuration.site import Configuration
from zwrap.transport.stomp.transport import StompTransport


class Recorder(stomp.ConnectionListener):  # type: ignore[misc]  # stomp.py has no types
    """stomp.py's own client, which keeps what comes."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.frames: list[Any] = []
        self._subscribed = threading.Event()
        self.connection = stomp.Connection11([(given["host"], given["port"])], auto_decode=False)
        self.connection.set_listener("", self)
        self.connection.connect("admin", "admin", wait=True)

    def on_message(self, received: Any) -> None:
        self.frames.append(received)

    def on_receipt(self, received: Any) -> None:
        self._subscribed.set()

    def subscribe(self, destination: str) -> None:
        self.connection.subscribe(destination, id="1", ack="auto", receipt="subscribed")
        assert self._subscribed.wait(10)

    def wait_for(self, count: int) -> list[Any]:
        deadline = time.monotonic() + 10
        while len(self.frames) < count:
            assert time.monotonic() < deadline, self.frames
            time.sleep(0.01)
        return self.frames


class Server:
    """A prefix of its own on a server."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.prefix = f"test-{uuid.uuid4().hex}"
        self.open: list[StompTransport] = []
        self.recorders: list[Recorder] = []

    def text(self, **changes: Any) -> str:
        keys = ("host", "port", "username", "password")
        mq = {"plugin": "stomp", "prefix": self.prefix, **{key: self.given[key] for key in keys}}
        jmx = {"plugin": "jmx", **{key: self.given[key] for key in keys}}
        jmx |= {"port": self.given["jolokia_port"], "base_url": self.given["jolokia_base_url"]}
        return json.dumps(
            {
                "version": 1,
                "mq": {**mq, **changes},
                "jmx": jmx,
                "environments": {"default": ["mq", "jmx"]},
            }
        )

    def connect(self, **changes: Any) -> StompTransport:
        configuration = Configuration.from_string(self.text(**changes)).activate()
        self.open.append(StompTransport.from_configuration(configuration))
        return self.open[-1]

    def recorder(self) -> Recorder:
        self.recorders.append(Recorder(self.given))
        return self.recorders[-1]

    def close(self) -> None:
        for transport in self.open:
            transport.close()
        for recorder in self.recorders:
            recorder.connection.disconnect()


def opened(activemq: dict[str, Any]) -> Iterator[Server]:
    """Yield the prefix, whose connections are closed at the end."""
    made = Server(activemq)
    yield made
    made.close()
