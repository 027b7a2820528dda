"""The transport for RabbitMQ."""

from __future__ import annotations

from typing import Any, ClassVar

from zwrap.compat.workflows.transport.broker_transport import BrokerTransport


class PikaTransport(BrokerTransport):
    """Transport for RabbitMQ, as the site file describes it (plugin ``pika``)."""

    name = "PikaTransport"
    sections = ("rabbit", "rabbitmq")
    options: ClassVar[dict[str, str]] = {
        "--rabbit-host": "host",
        "--rabbit-port": "port",
        "--rabbit-user": "username",
        "--rabbit-pass": "password",
        "--rabbit-vhost": "vhost",
        "--rabbit-conf": "conf",
    }
    defaults: ClassVar[dict[str, Any]] = {}
    config: ClassVar[dict[str, Any]] = {}
