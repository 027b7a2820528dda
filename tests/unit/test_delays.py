"""Steps of the delays on RabbitMQ, as a site makes them, and as the check looks at them."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import yaml

from zwrap.transport.rabbitmq import delays
from zwrap.transport.rabbitmq.management import declaration
from zwrap.transport.rabbitmq.management.audit import audited
from zwrap.transport.rabbitmq.management.models import (
    BindingInfo,
    ExchangeInfo,
    PolicySpec,
    QueueInfo,
    VHostSpec,
)
from zwrap.transport.rabbitmq.management.plan import plan
from zwrap.transport.rabbitmq.management.wanted import wanted_from

KEYS_OF_UPSTREAM = {
    "type", "dead-letter-routing-key-pattern", "dead-letter-exchange", "dead-letter-queue-create",
}  # fmt: skip
"""Keys of a group's `queues` that python-zocalo's `configure_rabbitmq` reads."""


def declared() -> dict[str, Any]:
    """Return the file that `zwrap check --broker --declare` prints for a vhost with one queue."""
    names = declaration.Names(["q"], ["dlq.q"], ["command"], delays.names(), {"q"})
    content: dict[str, Any] = yaml.safe_load(declaration.declaration(names, "v"))
    return content


def test_what_a_site_is_to_make_can_be_made_by_both_tools() -> None:
    content = declared()
    [policy] = content["policies"]
    assert policy["definition"] == {"dead-letter-exchange": ""}
    for group in content["groups"]:
        assert set(group["settings"]["queues"]) <= KEYS_OF_UPSTREAM
    wanted = wanted_from(content, "printed")
    steps = [queue for queue in wanted.queues if queue.name.startswith("zwrap.delay.")]
    assert len(steps) == len(delays.STEPS_S)
    assert all("x-dead-letter-exchange" not in queue.arguments for queue in steps)
    assert [(each.name, each.apply_to) for each in wanted.policies] == [("zwrap.delay", "queues")]


class Api:
    """The management API of a server with the steps, in vhost `v`."""

    def __init__(self, arguments: dict[str, object]) -> None:
        self.steps = [
            QueueInfo(name=name, vhost="v", durable=True, arguments=arguments)
            for name in delays.names()
        ]

    def vhosts(self) -> list[VHostSpec]:
        return [VHostSpec(name="v")]

    def users(self) -> list[object]:
        return []

    permissions = users

    def policies(self) -> list[PolicySpec]:
        return [PolicySpec(vhost="v", name=name, pattern="x", definition={"max-length": 1})
                for name in ("zwrap.delay", "old")]  # fmt: skip

    def queues(self, _: str) -> list[QueueInfo]:
        return self.steps

    def exchanges(self, _: str) -> list[ExchangeInfo]:
        return []

    def bindings(self, _: str) -> list[BindingInfo]:
        return []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


ARGUMENTS: dict[str, object] = {"x-queue-type": "classic", "x-dead-letter-exchange": ""}


def test_steps_that_zwrap_has_made_are_as_a_file_wants_them() -> None:
    api: Any = Api(ARGUMENTS)
    changes = [str(change) for change in plan(api, wanted_from(declared(), "printed"))]
    assert not [change for change in changes if "queue 'zwrap" in change]
    assert "~ policy 'zwrap.delay' in vhost 'v'" in changes


def test_a_file_of_an_older_release_still_declares_the_steps_with_arguments() -> None:
    group = {
        "names": delays.names(),
        "vhost": "v",
        "settings": {"queues": {"type": "classic", "arguments": {"x-dead-letter-exchange": ""}}},
    }
    content = {"policies": [], "exchanges": [], "groups": [group]}
    api: Any = Api(ARGUMENTS)
    changes = [str(change) for change in plan(api, wanted_from(content, "old file"))]
    assert changes == ["- policy 'old' in vhost 'v'"], "zwrap's own policy is not removed"


def test_the_audit_names_steps_that_lose_messages() -> None:
    def queue(name: str, policy: dict[str, object], **arguments: object) -> QueueInfo:
        return QueueInfo(
            name=name, vhost="v", effective_policy_definition=policy,
            arguments={f"x-{key.replace('_', '-')}": value for key, value in arguments.items()},
        )  # fmt: skip

    found = [
        queue("zwrap.delay.1s", {"dead-letter-exchange": ""}),
        queue("zwrap.delay.2s", {"delivery-limit": 5}, dead_letter_exchange=""),
        queue("zwrap.delay.5s", {"delivery-limit": 5}),
        queue("zwrap.delay.10s", {"dead-letter-exchange": "dlx"}),
        queue("zwrap.delay.30s", {"expires": 60000}, dead_letter_exchange=""),
        queue("zwrap.delay.30s.results", {}, dead_letter_exchange="results"),
        queue("zwrap.delay.60s.results", {"dead-letter-exchange": ""}),
        queue("zwrap.delay.q.1500", {}, dead_letter_exchange="", expires=1, message_ttl=1),
    ]
    overview = types.SimpleNamespace(json=lambda: {"rabbitmq_version": "4.1.0"})
    api: Any = types.SimpleNamespace(get=lambda _: overview, queues=lambda _: found)
    told = audited(api, "v")
    assert [each.split("'")[1].removeprefix("zwrap.delay.") for each in told] == [
        "10s", "30s", "5s", "60s.results",
    ]  # fmt: skip
    assert "gives each to exchange 'dlx'" in told[0]
    assert "has expires: 60000" in told[1]
    assert "loses each when it is due: no dead-letter-exchange is in force" in told[2]
    assert "dead-letter-exchange: 'results' is needed" in told[3]
