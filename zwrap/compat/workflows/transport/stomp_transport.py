"""The transport for ActiveMQ."""

from __future__ import annotations

from typing import Any, ClassVar

from zwrap.compat.workflows.transport.broker_transport import BrokerTransport


class StompTransport(BrokerTransport):
    """Transport for ActiveMQ, as the site file describes it (plugin ``stomp``)."""

    name = "StompTransport"
    sections = ("stomp",)
    options: ClassVar[dict[str, str]] = {
        "--stomp-host": "host",
        "--stomp-port": "port",
        "--stomp-user": "username",
        "--stomp-pass": "password",
        "--stomp-prfx": "prefix",
        "--stomp-conf": "conf",
    }
    defaults: ClassVar[dict[str, Any]] = {}
    config: ClassVar[dict[str, Any]] = {}
