"""The RabbitMQ management API, under its old names, against a real server."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from zwrap import RabbitMQAPI, hash_password, http_api_request
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError, TransportError
from zwrap.transport.rabbitmq.management.api import (
    BindingSpec,
    DestinationType,
    ExchangeSpec,
    PermissionSpec,
    PolicySpec,
    QueueSpec,
    UserSpec,
    VHostSpec,
)

pytestmark = pytest.mark.slow

Wait = Callable[..., Any]


def site(server: dict[str, Any], *urls: str) -> Configuration:
    base_url = ",".join([*urls, server["api"]])
    return Configuration.from_string(
        f"""
        version: 1
        api:
          plugin: rabbitmqapi
          base_url: {base_url}
          username: {server["username"]}
          password: {server["password"]}
        environments: {{default: [api]}}
        """
    ).activate()


@pytest.fixture
def api(rabbitmq: dict[str, Any]) -> Iterator[RabbitMQAPI]:
    with RabbitMQAPI.from_zocalo_configuration(site(rabbitmq)) as found:
        yield found


def test_a_request_as_of_old(rabbitmq: dict[str, Any], api: RabbitMQAPI) -> None:
    request = http_api_request(site(rabbitmq), "/vhosts")
    with urllib.request.urlopen(request) as answer:
        found = [vhost["name"] for vhost in json.load(answer)]
    assert "/" in found
    assert found == [vhost.name for vhost in api.vhosts()]


def test_the_first_server_that_answers_is_taken(rabbitmq: dict[str, Any]) -> None:
    zc = site(rabbitmq, "http://127.0.0.1:9/api")
    with RabbitMQAPI.from_zocalo_configuration(zc) as found:
        assert found.vhost("/").name == "/"
    dead = {**rabbitmq, "api": "http://127.0.0.1:9/api"}
    with pytest.raises(TransportError, match=r"No RabbitMQ API answers at http://127\.0\.0\.1:9"):
        RabbitMQAPI.from_zocalo_configuration(site(dead))


def test_without_credentials_it_is_said_what_is_missing() -> None:
    with pytest.raises(ConfigurationError, match="There are no RabbitMQ API credentials"):
        http_api_request(Configuration(), "/queues")


def test_queues_also_in_the_default_vhost(api: RabbitMQAPI, wait_until: Wait) -> None:
    arguments = {"x-queue-type": "quorum", "x-dead-letter-exchange": ""}
    api.queue_declare(QueueSpec(name="a/b c", vhost="/", durable=True, arguments=arguments))
    queue = api.queues("/", "a/b c")
    assert (queue.name, queue.durable) == ("a/b c", True)
    assert queue.arguments == arguments
    wait_until(lambda: api.queues("/", "a/b c").messages == 0)
    assert "a/b c" in [each.name for each in api.queues("/")]
    assert "a/b c" in [each.name for each in api.queues()]
    api.queue_delete("/", "a/b c")
    with pytest.raises(MessageError, match=r"refused GET /api/queues/.*: 404"):
        api.queues("/", "a/b c")
    with pytest.raises(ValueError, match="within a vhost"):
        api.queues(name="a")


def test_exchanges_and_bindings(api: RabbitMQAPI) -> None:
    api.exchange_declare(ExchangeSpec(name="results", vhost="/", type="topic", durable=True))
    api.queue_declare(QueueSpec(name="q", vhost="/", durable=True))
    binding = BindingSpec(
        source="results", destination="q", destination_type=DestinationType.QUEUE, vhost="/",
        routing_key="key.#",
    )  # fmt: skip
    api.binding_declare(binding)
    [found] = api.bindings("/", "results", "q", "q")
    assert (found.routing_key, found.destination_type) == ("key.#", DestinationType.QUEUE)
    assert found.properties_key
    assert api.exchanges("/", "results").type == "topic"
    api.bindings_delete("/", "results", "q", "q")
    assert api.bindings("/", "results", "q", "q") == []
    api.exchange_delete("/", "results")
    assert "results" not in [each.name for each in api.exchanges("/")]
    api.queue_delete("/", "q", if_unused=True, if_empty=True)


def test_policies_users_permissions_and_vhosts(api: RabbitMQAPI) -> None:
    before = [vhost.name for vhost in api.vhosts()]
    api.add_vhost(VHostSpec(name="z/1", description="for a test", tags=["one"]))
    assert api.vhost("z/1").description == "for a test"
    policy = PolicySpec(
        vhost="z/1", name="redelivery", pattern=".*", definition={"delivery-limit": 5},
        apply_to="queues",
    )  # fmt: skip
    api.set_policy(policy)
    assert api.policy("z/1", "redelivery") == policy
    assert api.policies("z/1") == [policy]
    api.clear_policy("z/1", "redelivery")
    assert api.policies("z/1") == []
    api.user_put(UserSpec(name="me", password_hash=hash_password("secret"), tags=["monitoring"]))
    assert api.user("me").tags == ["monitoring"]
    assert {user.name for user in api.users()} == {"admin", "me"}
    permission = PermissionSpec(vhost="z/1", user="me", configure="^$", write=".*", read=".*")
    api.set_permissions(permission)
    assert api.permissions("z/1", "me") == permission
    api.clear_permissions("z/1", "me")
    assert permission not in api.permissions()
    api.user_delete("me")
    api.delete_vhost("z/1")
    assert [vhost.name for vhost in api.vhosts()] == before


def test_a_hashed_password_is_accepted_by_the_server(
    api: RabbitMQAPI, rabbitmq: dict[str, Any]
) -> None:
    hashed = hash_password("pässword")
    assert hash_password("pässword", hashed) == hashed
    api.user_put(UserSpec(name="you", password_hash=hashed, tags=["administrator"]))
    with RabbitMQAPI(rabbitmq["api"], "you", "pässword") as you:
        assert you.vhosts()
    with (
        RabbitMQAPI(rabbitmq["api"], "you", "wrong") as stranger,
        pytest.raises(MessageError, match="401"),
    ):
        stranger.vhosts()
    api.user_delete("you")


def test_nodes_connections_and_health(api: RabbitMQAPI) -> None:
    [node] = api.nodes()
    assert node.running
    assert api.nodes(node.name).name == node.name
    assert api.connections() == []
    good, _ = api.health_checks
    assert good["health/checks/alarms"]["status"] == "ok"


def test_an_answer_that_makes_no_sense_is_said(rabbitmq: dict[str, Any]) -> None:
    with (
        RabbitMQAPI(rabbitmq["api"].removesuffix("/api"), "admin", "admin") as place,
        pytest.raises(MessageError, match=r"refused GET|answered something unexpected"),
    ):
        place.queues()
