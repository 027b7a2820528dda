"""Messages over TLS: the server's certificate is checked, and what is wrong with it is said."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, TransportError, ZwrapError
from zwrap.message.content import Outgoing
from zwrap.transport.connect import connect
from zwrap.transport.contract import Transport

from .vhost import Server, opened

pytestmark = pytest.mark.slow


class Broker:
    def __init__(self, name: str, values: dict[str, Any], ca_file: str) -> None:
        self.name, self.values, self.ca_file = name, values, ca_file

    def connect(self, **changes: Any) -> Transport:
        values = {**self.values, "tls": True, "ca_file": self.ca_file, **changes}
        section = {key: value for key, value in values.items() if value is not None}
        site = {
            "version": 1,
            "mq": {"plugin": self.name, **section},
            "environments": {"default": ["mq"]},
        }
        configuration = Configuration.from_string(json.dumps(site)).activate()
        return connect(configuration, "PikaTransport" if self.name == "pika" else "StompTransport")


@pytest.fixture(params=["pika", "stomp"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    if request.param == "stomp":
        given = request.getfixturevalue("activemq")
        keys = {key: given[key] for key in ("host", "username", "password")}
        yield Broker(
            "stomp", {**keys, "port": given["tls_port"], "prefix": "tls"}, given["ca_file"]
        )
        return
    server: Server
    for server in opened(request.getfixturevalue("rabbitmq")):
        server.queue("q")
        keys = {key: server.given[key] for key in ("host", "username", "password", "vhost")}
        yield Broker("pika", {**keys, "port": server.given["tls_port"]}, server.given["ca_file"])


def test_messages_pass(broker: Broker) -> None:
    transport = broker.connect()
    transport.subscribe("q", 50)
    body = {"long": "x" * 300_000}
    transport.commit([Outgoing("q", {**body, "number": number}) for number in range(30)])
    for number in range(30):
        delivery = transport.receive(10)
        assert delivery
        assert delivery.message.body == {**body, "number": number}
        delivery.ack()
    transport.flush()
    assert transport.receive(0.2) is None
    transport.close()


def test_a_certificate_of_nobody_we_trust(broker: Broker) -> None:
    with pytest.raises(ConfigurationError, match=r"a certificate that is not trusted: self.signed"):
        broker.connect(ca_file=None)


def test_a_certificate_for_another_name(broker: Broker) -> None:
    with pytest.raises(ConfigurationError, match="is not valid for 'localhost'"):
        broker.connect(host="localhost")


def test_a_server_without_tls(broker: Broker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer() -> None:
            while True:
                try:
                    end, _ = plain.accept()
                except OSError:
                    return
                end.sendall(b"HELLO\n")
                end.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(TransportError) as caught:
            broker.connect(port=plain.getsockname()[1])
    assert "does not speak TLS as expected" in str(caught.value)


def test_a_file_that_is_no_certificate(broker: Broker, tmp_path: Path) -> None:
    for file in (tmp_path / "missing", Path(__file__)):
        with pytest.raises(ZwrapError, match=f"ca_file {file} is not usable"):
            broker.connect(ca_file=str(file))
