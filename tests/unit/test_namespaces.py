"""The namespace of `zocalo.dlq_check`: a vhost of RabbitMQ, a prefix of ActiveMQ, or a refusal."""

from __future__ import annotations

import types
from typing import Any

import httpx
import pytest

from zwrap.cli import dlq_check
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError, TransportError
from zwrap.transport.delayed import Delayed
from zwrap.transport.memory import MemoryBroker, MemoryTransport
from zwrap.transport.rabbitmq.inspector import RabbitMQInspector
from zwrap.transport.rabbitmq.management.api import RabbitMQAPI
from zwrap.transport.rabbitmq.settings import Server
from zwrap.transport.stomp.inspector import StompInspector
from zwrap.transport.stomp.jolokia import Jolokia
from zwrap.transport.stomp.places import Places

QUEUES: dict[str, list[dict[str, Any]]] = {
    "/api/queues/zocalo": [
        {"name": "dlq.images", "vhost": "zocalo", "messages": 3},
        {"name": "dlq.idle", "vhost": "zocalo", "messages": 0},
        {"name": "images", "vhost": "zocalo", "messages": 7},
    ],
    "/api/queues/mine": [{"name": "dlq.a", "vhost": "mine"}],
    "/api/queues/new": [{"name": "dlq.a", "vhost": "new"}],
}


@pytest.fixture
def rabbitmq(monkeypatch: pytest.MonkeyPatch) -> RabbitMQInspector:
    """Return the inspector of a connection to vhost `mine`, in which each queue has 2 messages."""

    def answer(request: httpx.Request) -> httpx.Response:
        found = QUEUES.get(request.url.path)
        if found is None:
            return httpx.Response(404, json={"error": "Object Not Found"})
        return httpx.Response(200, json=found)

    def connected(_: Configuration) -> RabbitMQAPI:
        made = RabbitMQAPI("http://server/api", "u", "p")
        made._client = httpx.Client(transport=httpx.MockTransport(answer))
        return made

    monkeypatch.setattr(RabbitMQAPI, "from_zocalo_configuration", connected)
    connection: Any = types.SimpleNamespace(ask=lambda question, wait_s: 2, where="here")
    return RabbitMQInspector(
        connection, Server(vhost="mine"), Configuration(), Delayed(), lambda: None, lambda *_: None
    )


def test_a_namespace_is_a_vhost_of_rabbitmq(rabbitmq: RabbitMQInspector) -> None:
    assert rabbitmq.dead_letters_of("zocalo") == {"images": 3}
    assert rabbitmq.dead_letters_of("mine") == rabbitmq.dead_letters() == {"a": 2}


def test_a_vhost_that_is_not_there_or_not_counted_is_told(rabbitmq: RabbitMQInspector) -> None:
    with pytest.raises(MessageError, match=r"vhost 'zocola' cannot be counted: .*404.* is 'mine'"):
        rabbitmq.dead_letters_of("zocola")
    with pytest.raises(TransportError, match=r"does not count the messages of 'dlq.a' in vhost"):
        rabbitmq.dead_letters_of("new")


def test_a_namespace_is_a_prefix_of_activemq(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"DLQ.zocalo.a": 3, "DLQ.zocalo.b": 0, "DLQ.mine.c": 1, "zocalo.a": 9, "bare.a": 1}

    def asked(_: Jolokia, names: str = "*") -> dict[str, int]:
        begin = names.removesuffix("*")
        return {name: size for name, size in sizes.items() if name.startswith(begin)}

    monkeypatch.setattr(Jolokia, "sizes", asked)
    monkeypatch.setattr(StompInspector, "_jolokia", Jolokia(host="mq", port=1))
    transport: Any = types.SimpleNamespace(flush=lambda: None)
    inspector = StompInspector(transport, Places("mine"), None)
    assert inspector.dead_letters_of("zocalo") == {"a": 3}
    assert inspector.dead_letters_of("mine") == inspector.dead_letters() == {"c": 1}
    assert inspector.dead_letters_of("bare") == {}
    with pytest.raises(MessageError, match=r"begins with 'zocola\.' or .* connection is 'mine'"):
        inspector.dead_letters_of("zocola")


def test_a_transport_without_namespaces_refuses_one() -> None:
    inspector = MemoryTransport(MemoryBroker()).inspector()
    with pytest.raises(ConfigurationError, match=r"no namespace 'zocalo'.*Leave -n out"):
        inspector.dead_letters_of("zocalo")


def test_the_command_never_calls_a_namespace_empty_that_it_cannot_look_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    transport = MemoryTransport(MemoryBroker())
    monkeypatch.setattr(dlq_check, "connect", lambda *_: transport)
    assert dlq_check.main(["-n", "zocalo"]) == 100
    shown = capsys.readouterr()
    assert "No DLQ messages" not in shown.out
    assert "There is no namespace 'zocalo'" in shown.err
