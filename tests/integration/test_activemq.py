"""What happens to messages on a real ActiveMQ when things go wrong, and what people are told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, TransportError, ZwrapError
from zwrap.message import ID_HEADER
from zwrap.transport.options import BrokerOptions
from zwrap.transport.stomp.settings import server_from
from zwrap.transport.stomp.transport import StompTransport

from .prefix import Server, opened

pytestmark = pytest.mark.slow


@pytest.fixture
def server(activemq: dict[str, Any]) -> Iterator[Server]:
    yield from opened(activemq)


# -- on the wire ---------------------------------------------------------------------------------


def test_messages_look_as_those_of_python_workflows(server: Server) -> None:
    transport, recorder = server.connect(), server.recorder()
    recorder.subscribe(f"/queue/{server.prefix}.q")
    transport.send("q", {"a": 1}, {"workflows-recipe": True})
    transport.send("q", {"a": 2}, expires_s=60)
    first, second = recorder.wait_for(2)
    assert json.loads(first.body) == {"a": 1}
    assert first.headers["workflows-recipe"] == "True"
    assert first.headers["persistent"] == "true"
    servers_own = {"content-length", "expires", "destination", "subscription", "priority",
                   "message-id", "timestamp", "persistent"}  # fmt: skip
    assert set(first.headers) - servers_own == {"workflows-recipe", ID_HEADER}
    assert int(second.headers["expires"]) / 1000 == pytest.approx(time.time() + 60, abs=10)


def test_a_broadcast_goes_to_the_topic_and_is_not_persistent(server: Server) -> None:
    transport, recorder = server.connect(), server.recorder()
    recorder.subscribe(f"/topic/{server.prefix}.transient.status")
    transport.broadcast("transient.status", {"status": 1}, expires_s=15)
    (frame,) = recorder.wait_for(1)
    assert json.loads(frame.body) == {"status": 1}
    assert "persistent" not in frame.headers


def test_a_dead_letter_is_where_the_server_puts_its_own(server: Server) -> None:
    transport, recorder = server.connect(), server.recorder()
    transport.subscribe("q")
    transport.send("q", {"a": 1}, {"k": "v"})
    delivery = transport.receive(5)
    assert delivery
    delivery.dead_letter("because")
    recorder.subscribe(f"/queue/DLQ.{server.prefix}.q")
    (frame,) = recorder.wait_for(1)
    assert json.loads(frame.body) == {"a": 1}
    assert frame.headers["original-destination"] == f"/queue/{server.prefix}.q"
    assert (frame.headers["k"], frame.headers["dlq-reason"]) == ("v", "because")


def test_what_others_refused_is_a_dead_letter_here(server: Server) -> None:
    """python-workflows NACKs, and the server puts the message aside."""
    transport, recorder = server.connect(), server.recorder()
    transport.send("q", {"a": 1})
    recorder.connection.subscribe(f"/queue/{server.prefix}.q", id="1", ack="client-individual")
    (frame,) = recorder.wait_for(1)
    recorder.connection.nack(frame.headers["message-id"], "1")
    deadline = time.monotonic() + 5
    while transport.inspector().dead_letters() != {"q": 1}:
        assert time.monotonic() < deadline
    transport.inspector().subscribe_dead_letters("q")
    dead = transport.receive(5)
    assert dead
    assert dead.message.body == {"a": 1}


# -- what people are told ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "kind", "complaint"),
    [
        ({"password": "s3cret"}, ConfigurationError, "refuses user 'admin': the user or the passw"),
        pytest.param(
            {"port": 9},
            TransportError,
            "127.0.0.1:9 refuses the connection: nothing listens there",
            id="port",
        ),
        ({"host": "no.such.host.invalid"}, TransportError, "the name does not resolve"),
        ({"port": 70000}, ConfigurationError, "port is '70000'; a number up to 65535"),
        ({"heartbeat_s": "soon"}, ConfigurationError, "settings of ActiveMQ are not usable"),
    ],
)
def test_each_wrong_setting_is_one_sentence(
    server: Server, changes: dict[str, Any], kind: type[ZwrapError], complaint: str
) -> None:
    with pytest.raises(kind) as caught:
        server.connect(**changes)
    assert complaint in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_without_a_management_address_that_is_said(server: Server) -> None:
    text = json.loads(server.text())
    text["environments"]["default"] = ["mq"]
    configuration = Configuration.from_string(json.dumps(text)).activate()
    transport = StompTransport.from_configuration(configuration)
    server.open.append(transport)
    with pytest.raises(ConfigurationError, match="add a section of plugin 'jmx'"):
        transport.inspector().queues()


def test_settings_from_file_and_options(tmp_path: Path) -> None:
    text = "version: 1\nmq: {plugin: stomp, host: a, port: 1, username: u, password: p, prefix: z}"
    configuration = Configuration.from_string(text + "\nenvironments: {default: [mq]}").activate()
    found = server_from(configuration)
    assert (found.addresses, found.prefix) == ((("a", 1),), "z")
    (tmp_path / "stomp.ini").write_text("[stomp]\nhost = c\nport = 3\npassword = x%y\n")
    options = BrokerOptions(conf=str(tmp_path / "stomp.ini"), prefix="other")
    found = server_from(configuration, options)
    assert (found.addresses, found.prefix, found.password) == ((("c", 3),), "other", "x%y")
