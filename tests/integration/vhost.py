"""A vhost of its own on a real RabbitMQ, for each test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pika

from zwrap.configuration.site import Configuration
from zwrap.transport.rabbitmq.management.api import (
    PermissionSpec,
    QueueSpec,
    RabbitMQAPI,
    VHostSpec,
)
from zwrap.transport.rabbitmq.transport import RabbitMQTransport

RIG = Path(__file__).parents[2] / "scripts" / "rig"


class Server:
    """A vhost of its own, and pika's own client to look at things with."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = {**given, "vhost": f"test-{uuid.uuid4()}"}
        self.api = RabbitMQAPI(given["api"], given["username"], given["password"])
        self.api.add_vhost(VHostSpec(name=self.vhost))
        self.allow(given["username"])
        self.open: list[RabbitMQTransport] = []

    @property
    def vhost(self) -> str:
        return str(self.given["vhost"])

    def allow(self, user: str, configure: str = ".*") -> None:
        self.api.set_permissions(
            PermissionSpec(vhost=self.vhost, user=user, configure=configure, write=".*", read=".*")
        )

    def queue(self, name: str, kind: str = "quorum", **arguments: Any) -> None:
        arguments = {"x-queue-type": kind, **arguments}
        self.api.queue_declare(
            QueueSpec(name=name, vhost=self.vhost, durable=True, arguments=arguments)
        )

    def text(self, **changes: Any) -> str:
        """Return the text of the site file."""
        values = {"plugin": "pika", **self.given, **changes}
        values.pop("dist_port"), values.pop("epmd_port")
        api = {"plugin": "rabbitmqapi", "base_url": values.pop("api")}
        api |= {key: self.given[key] for key in ("username", "password")}
        return json.dumps(
            {"version": 1, "mq": values, "api": api, "environments": {"default": ["mq", "api"]}}
        )

    def configuration(self, **changes: Any) -> Configuration:
        return Configuration.from_string(self.text(**changes)).activate()

    def connect(self, **changes: Any) -> RabbitMQTransport:
        transport = RabbitMQTransport.from_configuration(self.configuration(**changes))
        self.open.append(transport)
        return transport

    def channel(self) -> Any:
        credentials = pika.PlainCredentials(self.given["username"], self.given["password"])
        connection = pika.BlockingConnection(
            pika.ConnectionParameters(
                self.given["host"], self.given["port"], self.vhost, credentials
            )
        )
        return connection.channel()

    @property
    def url(self) -> str:
        user = f"{self.given['username']}:{self.given['password']}"
        where = f"{self.given['host']}:{self.given['port']}"
        return f"amqp://{user}@{where}/{quote(self.vhost, safe='')}"

    def close(self) -> None:
        for transport in self.open:
            transport.close()
        self.api.close()


def opened(rabbitmq: dict[str, Any]) -> Iterator[Server]:
    """Yield the vhost, deleted at the end."""
    made = Server(rabbitmq)
    yield made
    for transport in made.open:
        transport.close()
    made.api.delete_vhost(made.vhost)
    made.close()


class Breakable:
    """A server of its own, with its administrator's tool."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.rig("up")
        self.server = Server(json.loads((directory / "connection.json").read_text()))

    def rig(self, action: str) -> None:
        command = [sys.executable, str(RIG), "rabbitmq", action, "--directory", str(self.directory)]
        subprocess.run(command, check=True, capture_output=True)

    def ctl(self, *arguments: str) -> None:
        given = self.server.given
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory / "home"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_NODENAME": f"rig{given['port']}@localhost",
            "ERL_EPMD_PORT": str(given["epmd_port"]),
            "LANG": "C.UTF-8",
        }
        command = ["/usr/lib/rabbitmq/bin/rabbitmqctl", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
