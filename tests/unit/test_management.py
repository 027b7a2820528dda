"""Values and requests of RabbitMQ's management API, without a server."""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from zwrap.compat.zocalo.util import rabbitmq
from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError
from zwrap.transport.rabbitmq.management.api import RabbitMQAPI
from zwrap.transport.rabbitmq.management.spec import SpecError

Asked = list[tuple[str, str, Any]]


def api(*answers: object, asked: Asked) -> RabbitMQAPI:
    """Return a connection to a server that gives these answers, and notes what it is asked."""
    left = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        asked.append((request.method, request.url.raw_path.decode(), body))
        return httpx.Response(200, json=left.pop(0)) if left else httpx.Response(204)

    made = RabbitMQAPI("http://server/api", "u", "p")
    made._client = httpx.Client(transport=httpx.MockTransport(answer))
    return made


def test_fields_are_checked_and_what_a_newer_server_adds_is_ignored() -> None:
    node = rabbitmq.NodeInfo(name="n", running=True, type="disc", fd_used="unknown", new_field=1)
    assert node == rabbitmq.NodeInfo(name="n", running=True, type="disc", fd_used="unknown")
    assert node.type is rabbitmq.NodeType.disc
    assert node.mem_used is None
    assert not hasattr(node, "new_field")
    with pytest.raises(ValueError, match="A NodeInfo needs the field 'name'"):
        rabbitmq.NodeInfo(running=True)
    with pytest.raises(SpecError, match="Field 'running' of a NodeInfo is wrong: Expected `bool"):
        rabbitmq.NodeInfo(name="n", running=[])
    assert "name='n'" in repr(node)
    first, second = (rabbitmq.VHostSpec(name=name) for name in "ab")
    first.tags.append("x")
    assert second.tags == []


def test_both_spellings_of_a_destination_are_known() -> None:
    given = {"source": "s", "destination": "d", "vhost": "v"}
    kinds = [
        rabbitmq.BindingSpec(**given, destination_type=kind)
        for kind in ("q", "queue", rabbitmq.DestinationType.QUEUE)
    ]
    assert kinds[0] == kinds[1] == kinds[2]
    with pytest.raises(SpecError, match="'queues' of a binding is unknown; 'q' or 'e' is expected"):
        rabbitmq.BindingSpec(**given, destination_type="queues")


def test_a_policy_takes_the_name_of_the_server_too() -> None:
    given: dict[str, Any] = {"vhost": "v", "name": "n", "pattern": ".*", "definition": {"x": 1}}
    policies = [
        rabbitmq.PolicySpec(**given, **{"apply-to": "queues"}),
        rabbitmq.PolicySpec(**given, apply_to="queues"),
        rabbitmq.PolicySpec(**given, apply_to=rabbitmq.PolicyApplyTo.queues),
    ]
    assert policies[0] == policies[1] == policies[2]
    assert policies[0].content()["apply-to"] == "queues"
    assert "apply-to" not in rabbitmq.PolicySpec(**given).content(defaults=False)


def test_one_text_is_no_list_of_tags() -> None:
    with pytest.raises(SpecError, match="Tags are 'monitoring'; a list of texts is expected"):
        rabbitmq.UserSpec(name="u", password_hash="h", tags="monitoring")


def test_times_states_and_statistics_are_read() -> None:
    connection = rabbitmq.ConnectionInfo(name="c", connected_at=1634716019864, state="running")
    assert connection.connected_at == datetime(2021, 10, 20, 7, 46, 59, 864000, UTC)
    assert connection.state is rabbitmq.ConnectionState.running
    queue = rabbitmq.QueueInfo(
        name="q", vhost="v", state="minority", message_stats={"publish": 2, "x": 1}
    )
    assert queue.state == "minority"
    assert queue.message_stats == rabbitmq.MessageStats(publish=2)
    kind = rabbitmq.ExchangeSpec(name="e", vhost="v", type=rabbitmq.ExchangeType.x_delayed_message)
    assert kind.type == "x-delayed-message"


@pytest.mark.parametrize(
    ("ask", "answer", "wanted"),
    [
        (lambda api: api.users(), [], ("GET", "/api/users", None)),
        (lambda api: api.exchanges("/"), [], ("GET", "/api/exchanges/%2F/", None)),
        (
            lambda api: api.exchanges("v", ""),
            {"name": "", "vhost": "v", "type": "direct"},
            ("GET", "/api/exchanges/v//", None),
        ),
        (
            lambda api: api.queue_declare(
                rabbitmq.QueueSpec(name="q", vhost="v", auto_delete=True, arguments={"x": 1})
            ),
            None,
            ("PUT", "/api/queues/v/q", {"auto_delete": True, "arguments": {"x": 1}}),
        ),
        (
            lambda api: api.add_vhost(rabbitmq.VHostSpec(name="v")),
            None,
            ("PUT", "/api/vhosts/v/", {"description": "", "tags": "", "tracing": False}),
        ),
        (lambda api: api.user_delete("u"), None, ("DELETE", "/api/users/u/", None)),
        (
            lambda api: api.queue_delete("v", "q", if_unused=True),
            None,
            ("DELETE", "/api/queues/v/q?if-unused=true", None),
        ),
    ],
)
def test_requests_are_those_of_python_zocalo(
    ask: Callable[[RabbitMQAPI], object], answer: object, wanted: tuple[str, str, Any]
) -> None:
    asked: Asked = []
    ask(api(answer, asked=asked))
    assert asked == [wanted]


def test_tags_of_older_servers_are_one_text() -> None:
    user = {"name": "u", "password_hash": "h", "hashing_algorithm": "a", "tags": "one,two"}
    assert api([user], asked=[]).users()[0].tags == ["one", "two"]
    assert api(user, asked=[]).user("u").tags == ["one", "two"]


@pytest.mark.parametrize("answer", [{"error": "no"}, [1], [{"vhost": "v"}]])
def test_an_answer_of_another_kind_is_said(answer: object) -> None:
    with pytest.raises(
        MessageError, match=r"http://server/api/queues answered something unexpected"
    ):
        api(answer, asked=[]).queues()


def test_the_port_of_the_site_is_looked_at() -> None:
    asked: Asked = []
    made = api(*[{"status": "ok"}] * 8, asked=asked)
    made.amqp_port = 5673
    good, bad = made.health_checks
    assert "health/checks/port-listener/5673" in good
    assert bad == {}


def test_a_configuration_of_python_zocalo_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"base_url": "http://a/api,http://b/api", "username": "u", "password": "p"}
    foreign: Any = types.SimpleNamespace(rabbitmqapi=given, pika={"port": "5674,5675"})

    def send(client: httpx.Client, method: str, url: str, **how: object) -> httpx.Response:
        if url.startswith("http://a/"):
            raise httpx.ConnectError("away")
        return httpx.Response(200, json={}, request=httpx.Request(method, url))

    monkeypatch.setattr(httpx.Client, "request", send)
    found = rabbitmq.RabbitMQAPI.from_zocalo_configuration(foreign)
    assert found.amqp_port == 5674
    given["base_url"] = "http://a/api"
    with pytest.raises(RuntimeError, match=r"No RabbitMQ API answers at http://a/api"):
        rabbitmq.RabbitMQAPI.from_zocalo_configuration(foreign)
    request = rabbitmq.http_api_request(foreign, "/queues")
    assert request.full_url == "http://a/api/queues"
    assert Configuration().rabbitmqapi is None
