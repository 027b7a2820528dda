"""Places of messages which one station reads: a vhost, a prefix of queue names, a spool.

Messages are put there and taken from there by the libraries of the protocols themselves, as bytes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pika
import stomp

from zwrap.rabbitmqapi import PermissionSpec, RabbitMQAPI, VHostSpec

from .frames import Frame

HEARD = ("transient.status", "command")
"""Topics of services."""

TOPICS = (*HEARD, "news")
TAKEN_S = 20.0
"""Longest time for the server to hand out a message that is there, in seconds."""

LOOK_S = 0.02
"""Interval at which a message is looked for, in seconds."""


class Desk(ABC):
    """What a station reads, and what it sends."""

    sections: dict[str, dict[str, Any]]
    """Sections of the site file that lead here."""

    @abstractmethod
    def put(self, frame: Frame) -> None:
        """Put a message into its queue, unchanged."""

    @abstractmethod
    def look(self) -> list[Frame]:
        """Take what has come to the watched queues, and what was heard, since the last time."""

    @abstractmethod
    def take(self, queue: str, *, reject: bool = False) -> Frame:
        """Take the next message of a queue that is not watched; TimeoutError if none comes.

        `reject`: refuse it, so that the server makes it a dead letter.
        """

    @abstractmethod
    def close(self) -> None:
        """Let it go."""


class RabbitMQDesk(Desk):
    """A vhost."""

    def __init__(
        self, given: Mapping[str, Any], name: str, reads: Sequence[str], watched: Sequence[str]
    ) -> None:
        user = {key: given[key] for key in ("username", "password")}
        with RabbitMQAPI(given["api"], given["username"], given["password"]) as api:
            api.add_vhost(VHostSpec(name=name))
            api.set_permissions(
                PermissionSpec(
                    vhost=name, user=given["username"], configure=".*", write=".*", read=".*"
                )
            )
        place = {"host": given["host"], "port": given["port"], "vhost": name}
        self.sections = {
            "mq": {"plugin": "pika", **place, **user},
            "api": {"plugin": "rabbitmqapi", "base_url": given["api"], "vhost": name, **user},
            "chosen": {"plugin": "transport", "default": "PikaTransport"},
        }
        self._connection = pika.BlockingConnection(
            pika.ConnectionParameters(
                given["host"], given["port"], name, pika.PlainCredentials(*user.values()),
                heartbeat=0,
            )
        )  # fmt: skip
        self._channel = self._connection.channel()
        self._watched = {queue: queue for queue in watched}
        for queue in {*reads, *watched}:
            dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"dlq.{queue}"}
            self._channel.queue_declare(f"dlq.{queue}", durable=True)
            self._channel.queue_declare(queue, durable=True, arguments=dead)
        for topic in TOPICS:
            self._channel.exchange_declare(topic, "fanout", durable=True)
            self._channel.queue_declare(f"heard.{topic}", durable=True)
            self._channel.queue_bind(f"heard.{topic}", topic)
            self._watched[f"heard.{topic}"] = topic

    def put(self, frame: Frame) -> None:
        properties = pika.BasicProperties(headers=dict(frame.headers), **frame.properties)
        self._channel.basic_publish("", frame.place, frame.body, properties, mandatory=True)

    def look(self) -> list[Frame]:
        found = []
        for queue, place in self._watched.items():
            while (got := self._channel.basic_get(queue, auto_ack=True))[0]:
                found.append(_frame(place, *got[1:]))
        return found

    def take(self, queue: str, *, reject: bool = False) -> Frame:
        deadline = time.monotonic() + TAKEN_S
        while time.monotonic() < deadline:
            method, properties, body = self._channel.basic_get(queue)
            if method:
                if reject:
                    self._channel.basic_nack(method.delivery_tag, requeue=False)
                else:
                    self._channel.basic_ack(method.delivery_tag)
                return _frame(queue, properties, body)
            time.sleep(LOOK_S)
        raise TimeoutError(queue)

    def close(self) -> None:
        self._connection.close()


def _frame(place: str, properties: Any, body: bytes) -> Frame:  # noqa: ANN401 (no types)
    """Return a message as pika gives it."""
    rest = {
        name: value
        for name, value in vars(properties).items()
        if name != "headers" and value is not None
    }
    return Frame(place, body, properties.headers or {}, rest)


SERVERS = {"destination", "message-id", "subscription", "timestamp", "redelivered"}
"""Headers of a received frame that the server makes."""

PROPERTIES = {
    "persistent", "priority", "expires", "content-length", "reply-to", "type", "correlation-id"
}  # fmt: skip
"""Headers of a frame that mean something to the server."""


class _Listener(stomp.ConnectionListener):  # type: ignore[misc]  # stomp.py has no types
    """What has come."""

    def __init__(self) -> None:
        self.frames: list[Any] = []
        self.lock = threading.Lock()

    def on_message(self, frame: Any) -> None:  # noqa: ANN401 (stomp.py has no types)
        with self.lock:
            self.frames.append(frame)

    def taken(self) -> list[Any]:
        with self.lock:
            taken, self.frames = self.frames, []
        return taken


class ActiveMQDesk(Desk):
    """A prefix of names."""

    def __init__(
        self, given: Mapping[str, Any], name: str, reads: Sequence[str], watched: Sequence[str]
    ) -> None:
        del reads
        user = {key: given[key] for key in ("username", "password")}
        place = {"host": given["host"], "port": given["port"]}
        self._prefix = f"zocalo.{name}"  # their dlq_purge looks below "zocalo" only
        jmx = {"port": given["jolokia_port"], "base_url": given["jolokia_base_url"]}
        self.sections = {
            "mq": {"plugin": "stomp", "prefix": self._prefix, **place, **user},
            "api": {"plugin": "jmx", "host": given["host"], **jmx, **user},
            "chosen": {"plugin": "transport", "default": "StompTransport"},
        }
        self._listener = _Listener()
        self._given = given
        self._connection = self._connect(self._listener)
        for kind, names in (("queue", watched), ("topic", TOPICS)):
            for each in names:
                self._connection.subscribe(f"/{kind}/{self._prefix}.{each}", id=f"{kind}.{each}")

    def _connect(self, listener: _Listener) -> Any:  # noqa: ANN401 (stomp.py has no types)
        connection = stomp.Connection11(
            [(self._given["host"], self._given["port"])], auto_decode=False,
            auto_content_length=False,
        )  # fmt: skip
        connection.set_listener("", listener)
        connection.connect(self._given["username"], self._given["password"], wait=True)
        return connection

    def put(self, frame: Frame) -> None:
        headers = {**frame.headers, **frame.properties}
        if "content-length" in headers:
            headers["content-length"] = len(frame.body)
        destination = f"/queue/{self._prefix}.{frame.place}"
        self._connection.send(destination, frame.body, headers=headers)

    def look(self) -> list[Frame]:
        return [self._frame(each) for each in self._listener.taken()]

    def _frame(self, came: Any) -> Frame:  # noqa: ANN401 (stomp.py has no types)
        place = came.headers["destination"].split("/", 2)[2].removeprefix(f"{self._prefix}.")
        headers, properties = {}, {}
        for name, value in came.headers.items():
            if name in PROPERTIES:
                properties[name] = True if name == "content-length" else value
            elif name not in SERVERS:
                headers[name] = value
        body = came.body if isinstance(came.body, bytes) else came.body.encode()
        return Frame(place, body, headers, properties)

    def take(self, queue: str, *, reject: bool = False) -> Frame:
        listener = _Listener()
        connection = self._connect(listener)
        connection.subscribe(
            f"/queue/{self._prefix}.{queue}", id="1", ack="client-individual",
            headers={"activemq.prefetchSize": "1"},
        )  # fmt: skip
        deadline = time.monotonic() + TAKEN_S
        while not listener.frames:
            if time.monotonic() > deadline:
                raise TimeoutError(queue)
            time.sleep(LOOK_S)
        came = listener.frames[0]
        (connection.nack if reject else connection.ack)(came.headers["message-id"], "1")
        connection.disconnect()
        return self._frame(came)

    def close(self) -> None:
        self._connection.disconnect()


_serial = itertools.count()


class SpoolDesk(Desk):
    """A directory of queues."""

    def __init__(self, root: Path, watched: Sequence[str]) -> None:
        self._root, self._watched = root, watched
        self._heard: set[tuple[str, int]] = set()
        self.sections = {"mq": {"plugin": "spool", "path": str(root)}}

    def put(self, frame: Frame) -> None:
        place = self._root / frame.place
        for each in ("tmp", "incoming"):
            (place / each).mkdir(parents=True, exist_ok=True)
        file = place / "tmp" / f"{next(_serial):09d}.zwrap"
        file.write_text(json.dumps({"headers": dict(frame.headers), "message": frame.content}))
        file.rename(place / "incoming" / file.name)

    def look(self) -> list[Frame]:
        found = []
        for queue in self._watched:
            for file in sorted((self._root / queue / "incoming").glob("*.zwrap")):
                found.append(_read(queue, file.read_bytes()))
                file.unlink()
        for topic in TOPICS:
            for file in (self._root / ".topics" / topic).glob("[!.]*"):
                with contextlib.suppress(FileNotFoundError):  # it expired
                    seen = (str(file), file.stat().st_mtime_ns)
                    if seen not in self._heard:
                        self._heard.add(seen)
                        found.append(_read(topic, file.read_bytes().partition(b"\n")[2]))
        return found

    def take(self, queue: str, *, reject: bool = False) -> Frame:
        raise ValueError(f"{queue}: the spool has no server that could refuse, {reject=}")

    def close(self) -> None:
        """Do nothing: files need no connection."""


def _read(place: str, content: bytes) -> Frame:
    """Return the message in a file."""
    held = json.loads(content)
    rest = {key: value for key, value in held.items() if key not in ("headers", "message")}
    return Frame(place, json.dumps(held["message"]).encode(), held.get("headers", {}), rest)
