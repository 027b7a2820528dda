"""Steps of the delays on RabbitMQ: none is used from which messages do not come back."""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import Callable
from typing import Any

import pika.exceptions
import pytest
import yaml

from zwrap.errors import ZwrapError
from zwrap.transport.failures import NoDelayError
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
from zwrap.transport.rabbitmq.needs import REFUSED_S, Needs
from zwrap.transport.rabbitmq.topology import Need

Callback = Callable[..., None]


class Server:
    """A server, and a connection to it whose questions are answered at once; time is set by hand.

    Args:
        arguments: Dead letter exchange in the arguments of each queue; None: they have none.
        policy: Dead letter exchange that a policy gives to all queues without one.
        may_make: True if the user of the connection may make queues.
    """

    is_open = True

    def __init__(
        self, arguments: dict[str, str | None], policy: str | None = None, *, may_make: bool = True
    ) -> None:
        self.arguments = dict(arguments)
        self.policy = policy
        self.may_make = may_make
        self.exchanges = set(arguments)
        self.waiting: Counter[str] = Counter()
        self.consumed: dict[str, Callback] = {}
        self.published: list[tuple[str, str]] = []
        self.made: list[str] = []
        self.overtaken = ""
        """Queue into which another connection puts a message just before the probe."""
        self.ioloop = self
        self._now = 0.0
        self._timers: list[tuple[float, Callback]] = []

    def channel(self, *, on_open_callback: Callback) -> None:
        on_open_callback(Channel(self))

    def call_later(self, delay: float, callback: Callback) -> None:
        self._timers.append((self._now + delay, callback))

    def advance(self, seconds: float) -> None:
        end = self._now + seconds
        while due := sorted(each[0] for each in self._timers if each[0] <= end):
            self._now = due[0]
            [index] = [n for n, each in enumerate(self._timers) if each[0] == due[0]][:1]
            self._timers.pop(index)[1]()
        self._now = end


class Channel:
    """A channel of the connection, which a refusal closes."""

    def __init__(self, server: Server) -> None:
        self.connection = server
        self.is_open = True
        self._closed: list[Callback] = []

    def add_on_close_callback(self, callback: Callback) -> None:
        self._closed.append(callback)

    def close(self) -> None:
        self.is_open = False

    def refuse(self, code: int, text: str = "") -> None:
        self.is_open = False
        for callback in self._closed:
            callback(self, pika.exceptions.ChannelClosedByBroker(code, text))

    def exchange_declare(
        self, exchange: str, *, passive: bool = False, callback: Callback, **_: object
    ) -> None:
        if passive and exchange not in self.connection.exchanges:
            self.refuse(404)
            return
        self.connection.exchanges.add(exchange)
        callback(None)

    def queue_declare(
        self,
        queue: str,
        *,
        passive: bool = False,
        arguments: dict[str, object] | None = None,
        callback: Callback,
        **_: object,
    ) -> None:
        server = self.connection
        given: Any = (arguments or {}).get("x-dead-letter-exchange")
        if passive and queue not in server.arguments:
            self.refuse(404)
        elif not passive and not server.may_make:
            self.refuse(403)
        elif not passive and queue in server.arguments and server.arguments[queue] != given:
            self.refuse(406, f"inequivalent arg 'x-dead-letter-exchange' for queue {queue!r}")
        else:
            queue = queue or "amq.gen-1"
            if queue not in server.arguments:
                server.arguments[queue] = given
                server.made.append(queue)
            answer = types.SimpleNamespace(queue=queue, message_count=server.waiting[queue])
            callback(types.SimpleNamespace(method=answer))

    def queue_bind(
        self, queue: str, exchange: str, routing_key: str, *, callback: Callback
    ) -> None:
        callback(None)

    def basic_consume(
        self, queue: str, on_message: Callback, auto_ack: bool, *, callback: Callback
    ) -> None:
        self.connection.consumed[queue] = on_message
        callback(None)

    def basic_publish(
        self, exchange: str, routing_key: str, body: bytes, properties: Any, mandatory: bool
    ) -> None:
        assert properties.expiration == "1"
        server = self.connection
        server.published.append((exchange, routing_key))
        in_force = server.arguments[exchange]
        in_force = server.policy if in_force is None else in_force
        if server.overtaken:
            server.waiting[exchange] += 2
        elif in_force == "":
            server.consumed[routing_key](self, None, properties, body)


def asked(server: Server, delay_s: float = 30, exchange: str = "") -> list[ZwrapError | None]:
    """Return the answers to the question for a step."""
    answers: list[ZwrapError | None] = []
    connection: Any = server
    delays.delay(delay_s, exchange).need.ask(connection, answers.append)
    return answers


STEP = "zwrap.delay.30s"


@pytest.mark.parametrize(
    ("in_arguments", "policy"), [("", None), (None, "")], ids=["arguments", "policy"]
)
def test_a_step_is_used_whatever_its_dead_letter_exchange_comes_from(
    in_arguments: str | None, policy: str | None
) -> None:
    server = Server({STEP: in_arguments}, policy)
    assert asked(server) == [None]
    assert server.published == [(STEP, "amq.gen-1")], "a probe came back"


@pytest.mark.parametrize(("in_arguments", "policy"), [(None, None), ("elsewhere", None)])
def test_a_step_that_loses_messages_is_not_used(
    in_arguments: str | None, policy: str | None
) -> None:
    server = Server({STEP: in_arguments}, policy)
    answers = asked(server)
    assert answers == []
    server.advance(9)
    [refused] = answers
    assert isinstance(refused, NoDelayError)
    assert f"queue '{STEP}' does not give back" in str(refused)


def test_a_probe_is_not_sent_where_it_would_wait() -> None:
    server = Server({STEP: None}, "")
    server.waiting[STEP] = 1
    assert asked(server) == [None]
    assert server.published == []


def test_a_probe_behind_the_message_of_another_connection_is_no_loss() -> None:
    server = Server({STEP: None}, "")
    server.overtaken = STEP
    answers = asked(server)
    server.advance(9)
    assert answers == [None]


def test_a_step_is_used_as_it_is_by_a_user_who_may_not_look() -> None:
    assert asked(Server({STEP: ""}, may_make=False)) == [None]
    named = Server({f"{STEP}.results": "results"}, may_make=False)
    assert asked(named, exchange="results") == [None]


def test_a_step_that_is_not_there_is_made_with_its_dead_letter_exchange() -> None:
    server = Server({})
    assert asked(server) == [None]
    assert asked(server, exchange="results") == [None]
    assert server.arguments == {STEP: "", f"{STEP}.results": "results"}
    assert server.exchanges == set(server.arguments)


def test_a_queue_without_its_exchange_is_told_if_it_cannot_be_taken() -> None:
    server = Server({STEP: None})
    server.exchanges.clear()
    [refused] = asked(server)
    assert isinstance(refused, NoDelayError)


def test_no_probe_is_sent_to_an_exchange_of_the_site() -> None:
    name = f"{STEP}.results"
    good, bad = Server({name: "results"}), Server({name: None})
    assert asked(good, exchange="results") == [None]
    [refused] = asked(bad, exchange="results")
    assert isinstance(refused, NoDelayError)
    assert "no dead-letter-exchange 'results'" in str(refused)
    assert good.published == bad.published == []


def test_a_step_that_loses_messages_is_looked_at_once_a_minute() -> None:
    """Each look holds up all messages for some seconds."""
    server = Server({})
    needs = Needs(server.call_later, lambda: False, clock=lambda: server._now)
    looks: list[float] = []

    def look(_: object, done: Callback) -> None:
        looks.append(server._now)
        done(NoDelayError("lost"))

    need, connection = Need(look), server
    answers: list[object] = []
    for _ in range(400):
        needs.ask(connection, [need], lambda _, failure: answers.append(failure))  # type: ignore[arg-type]
        server.advance(0.1)
    assert (len(answers), looks) == (400, [0.0])
    server.advance(REFUSED_S)
    needs.ask(connection, [need], lambda _, failure: answers.append(failure))  # type: ignore[arg-type]
    assert len(looks) == 2


# -- what a site makes ---------------------------------------------------------------------------

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
