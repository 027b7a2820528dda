"""Raw ways into a transport: what is sent is not looked at, as by foreign clients."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pika
import stomp

from zwrap.transport.rabbitmq.management.api import (
    PermissionSpec,
    QueueSpec,
    RabbitMQAPI,
    VHostSpec,
)


class Door(Protocol):
    """A way into one transport; each thread has its own connection."""

    sections: dict[str, dict[str, Any]]
    """The transport in the site file."""

    def put(self, queue: str, body: bytes, headers: Mapping[str, Any]) -> None:
        """Send a message."""

    def tell(self, topic: str, body: bytes) -> None:
        """Broadcast a message."""

    def close(self) -> None:
        """Leave nothing behind."""


class Spool:
    """Files that appear in a spool."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "spool"
        self.sections = {"files": {"plugin": "spool", "path": str(self.root)}}
        self._serial = itertools.count()

    def put(self, queue: str, body: bytes, headers: Mapping[str, Any]) -> None:
        content = b'{"headers": %s, "message": %s}' % (json.dumps(headers).encode(), body)
        self._place(self.root / queue / "tmp", self.root / queue / "incoming", ".zwrap", content)

    def tell(self, topic: str, body: bytes) -> None:
        place = self.root / ".topics" / topic
        end_ms = int((time.time() + 60) * 1000)
        content = b'%d\n{"headers": {}, "message": %s}' % (end_ms, body)
        self._place(place, place, "", content)

    def _place(self, scratch: Path, place: Path, suffix: str, content: bytes) -> None:
        for directory in (scratch, place):
            directory.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns():019d}-hostile-{next(self._serial)}{suffix}"
        (scratch / f".{name}").write_bytes(content)
        os.rename(scratch / f".{name}", place / name)

    def close(self) -> None:
        pass


class AMQP:
    """RabbitMQ, spoken to by pika, in a virtual host of its own."""

    def __init__(self, given: Mapping[str, Any], declare: str | None, queues: list[str]) -> None:
        self._given = given
        self._vhost = f"hostile-{uuid.uuid4()}"
        self._own = threading.local()
        self._open: list[pika.BlockingConnection] = []
        user = {key: given[key] for key in ("username", "password")}
        self._api = RabbitMQAPI(given["api"], given["username"], given["password"])
        self._api.add_vhost(VHostSpec(name=self._vhost))
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self._api.set_permissions(
            PermissionSpec(vhost=self._vhost, user=given["username"], **everything)
        )
        if declare is None:
            for queue in queues:
                self._declare(queue, {"x-dead-letter-routing-key": f"dlq.{queue}"})
                self._declare(f"dlq.{queue}", {})
        made = {"declare": declare} if declare else {}
        self.sections = {
            "mq": {"plugin": "pika", "host": given["host"], "port": given["port"], **user,
                   "vhost": self._vhost, **made},
            "api": {"plugin": "rabbitmqapi", "base_url": given["api"], **user},
            "chosen": {"plugin": "transport", "default": "PikaTransport"},
        }  # fmt: skip

    def _declare(self, queue: str, more: dict[str, Any]) -> None:
        arguments: dict[str, Any] = {"x-queue-type": "quorum"}
        if more:
            arguments |= {"x-dead-letter-exchange": "", **more}
        self._api.queue_declare(
            QueueSpec(name=queue, vhost=self._vhost, durable=True, arguments=arguments)
        )

    def _channel(self) -> Any:
        channel = getattr(self._own, "channel", None)
        if channel is None or not channel.is_open:
            credentials = pika.PlainCredentials(self._given["username"], self._given["password"])
            connection = pika.BlockingConnection(pika.ConnectionParameters(
                self._given["host"], self._given["port"], self._vhost, credentials, heartbeat=0,
            ))  # fmt: skip
            self._open.append(connection)
            channel = self._own.channel = connection.channel()
        return channel

    def put(self, queue: str, body: bytes, headers: Mapping[str, Any]) -> None:
        table = {name: _amqp(value) for name, value in headers.items()}
        self._channel().basic_publish("", queue, body, pika.BasicProperties(headers=table))

    def tell(self, topic: str, body: bytes) -> None:
        self._channel().basic_publish(topic, "", body, pika.BasicProperties())

    def close(self) -> None:
        for connection in self._open:
            with contextlib.suppress(pika.exceptions.AMQPError):
                connection.close()
        self._api.delete_vhost(self._vhost)
        self._api.close()


def _amqp(value: Any) -> Any:
    """Return a header that AMQP can hold."""
    if isinstance(value, float) or (isinstance(value, int) and abs(value) >= 1 << 62):
        return str(value)
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return value


class Stomp:
    """ActiveMQ, spoken to by stomp.py, with a prefix of its own."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._keys = {key: given[key] for key in ("host", "port", "username", "password")}
        self._prefix = f"h{uuid.uuid4().hex}"
        self._own = threading.local()
        self._open: list[stomp.Connection11] = []
        self.sections = {
            "mq": {"plugin": "stomp", "prefix": self._prefix, **self._keys},
            "api": {"plugin": "jmx", **self._keys, "port": given["jolokia_port"],
                    "base_url": given["jolokia_base_url"]},
            "chosen": {"plugin": "transport", "default": "StompTransport"},
        }  # fmt: skip

    def _send(self, destination: str, body: bytes, headers: Mapping[str, Any]) -> None:
        connection = getattr(self._own, "connection", None)
        if connection is None or not connection.is_connected():
            connection = stomp.Connection11(
                [(self._keys["host"], self._keys["port"])], auto_decode=False
            )
            connection.connect(self._keys["username"], self._keys["password"], wait=True)
            self._own.connection = connection
            self._open.append(connection)
        texts = {name: str(value).replace("\r", " ") for name, value in headers.items()}
        connection.send(f"{destination}", body, headers={**texts, "persistent": "true"})

    def put(self, queue: str, body: bytes, headers: Mapping[str, Any]) -> None:
        self._send(f"/queue/{self._prefix}.{queue}", body, headers)

    def tell(self, topic: str, body: bytes) -> None:
        self._send(f"/topic/{self._prefix}.{topic}", body, {})

    def close(self) -> None:
        for connection in self._open:
            with contextlib.suppress(stomp.exception.StompException):
                connection.disconnect()
