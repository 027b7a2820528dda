"""The contract that every transport keeps. One harness per transport, the same rules for all."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
import stomp

from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, SettledError, TransportError
from zwrap.message.content import ID_HEADER, Outgoing
from zwrap.transport.contract import Delivery, Transport, Unit
from zwrap.transport.deadletters import TRANSPORT_HEADERS, export, read, reinjected
from zwrap.transport.failures import ReadElsewhereError
from zwrap.transport.inspector import Overdelivered
from zwrap.transport.memory import MemoryBroker, MemoryTransport
from zwrap.transport.mover import forward
from zwrap.transport.rabbitmq.management.api import PermissionSpec, RabbitMQAPI, VHostSpec
from zwrap.transport.rabbitmq.transport import RabbitMQTransport
from zwrap.transport.spool.transport import SpoolTransport
from zwrap.transport.stomp.transport import StompTransport

from ..unit.clock import ManualClock


class Harness:
    """Opens connections to one site and looks at its dead letters."""

    def __init__(self, connect: Callable[[], Transport], dead: Callable[[str], list[str]]) -> None:
        self._connect = connect
        self.dead_letter_reasons = dead
        self.open: list[Transport] = []
        self.pass_s: Callable[[float], None] = time.sleep
        """Lets that time pass, in seconds, on the clock of the other side."""
        self.clean: Callable[[], None] = lambda: None
        self.counts_what_waits = "exactly"
        """How exactly one sees the number of times that a waiting message was handed out.

        ``roughly``: being prefetched by a receiver that closes is a hand-out, too.
        """
        self.typed_headers = True
        """False where each header arrives as text, as STOMP knows no other type."""
        self.foreign: Callable[[str, bytes], None] | None = None
        """Puts any bytes into a queue, as a program that is not zwrap; None: nobody else can."""
        self.refused = Outgoing("out", "r" * 5000, {"k": "v" * 200_000})
        """A message that this transport refuses for good."""

    def connect(self) -> Transport:
        self.open.append(self._connect())
        return self.open[-1]


def memory_harness(tmp_path: Path) -> Harness:
    clock = ManualClock()
    broker = MemoryBroker(clock)
    broker.largest_bytes = 60_000_000
    harness = Harness(
        lambda: MemoryTransport(broker),
        lambda queue: [letter.reason for letter in broker.dead_letters.get(queue, [])],
    )
    harness.pass_s = clock.move
    harness.refused = Outgoing("out", "r" * 70_000_000)
    return harness


def spool_harness(tmp_path: Path) -> Harness:
    root = tmp_path / "spool with 'odd' name"

    def dead(queue: str) -> list[str]:
        return [reason.strip() for _, reason in SpoolTransport(root).queue(queue).dead_letters()]

    def foreign(queue: str, content: bytes) -> None:
        place = SpoolTransport(root).queue(queue).path
        name = str(len(list((place / "incoming").iterdir())))
        (place / "tmp" / name).write_bytes(content)
        (place / "tmp" / name).rename(place / "incoming" / name)

    harness = Harness(lambda: SpoolTransport(root), dead)
    harness.foreign = foreign
    harness.refused = Outgoing("out/of/the spool", "r" * 5000, {"k": "v" * 200_000})
    return harness


def rabbitmq_harness(server: dict[str, Any], kind: str) -> Harness:
    """Open a separate vhost on a real server; queues of `kind` are made as they are named."""
    vhost = f"test-{uuid.uuid4()}"
    api = RabbitMQAPI(server["api"], server["username"], server["password"])
    api.add_vhost(VHostSpec(name=vhost))
    user = server["username"]
    api.set_permissions(
        PermissionSpec(vhost=vhost, user=user, configure=".*", write=".*", read=".*")
    )
    text = f"""
        version: 1
        mq: {{plugin: pika, host: {server["host"]}, port: {server["port"]}, username: {user},
              password: {server["password"]}, vhost: {vhost}, declare: {kind}}}
        api: {{plugin: rabbitmqapi, base_url: "{server["api"]}", username: {user},
               password: {server["password"]}}}
        environments: {{default: [mq, api]}}
        """
    configuration = Configuration.from_string(text).activate()

    def connect() -> Transport:
        return RabbitMQTransport.from_configuration(configuration)

    harness = Harness(connect, lambda queue: reasons_of(connect(), queue))
    harness.counts_what_waits = "never"  # looking at a message there is a hand-out itself

    def clean() -> None:
        api.delete_vhost(vhost)
        api.close()

    def foreign(queue: str, content: bytes) -> None:
        credentials = pika.PlainCredentials(user, server["password"])
        place = pika.ConnectionParameters(server["host"], server["port"], vhost, credentials)
        with pika.BlockingConnection(place) as connection:
            connection.channel().basic_publish("", queue, content)

    harness.clean = clean
    harness.foreign = foreign
    return harness


def activemq_harness(server: dict[str, Any]) -> Harness:
    """Open a separate prefix on a real server."""
    prefix = f"test-{uuid.uuid4().hex}"
    text = f"""
        version: 1
        mq: {{plugin: stomp, host: {server["host"]}, port: {server["port"]}, username: admin,
              password: admin, prefix: {prefix}}}
        jmx: {{plugin: jmx, host: {server["host"]}, port: {server["jolokia_port"]},
               base_url: {server["jolokia_base_url"]}, username: admin, password: admin}}
        environments: {{default: [mq, jmx]}}
        """
    configuration = Configuration.from_string(text).activate()

    def connect() -> Transport:
        return StompTransport.from_configuration(configuration)

    harness = Harness(connect, lambda queue: reasons_of(connect(), queue))

    def foreign(queue: str, content: bytes) -> None:
        client = stomp.Connection11([(server["host"], server["port"])], auto_decode=False)
        client.connect("admin", "admin", wait=True)
        client.send(f"/queue/{prefix}.{queue}", content)
        client.disconnect()

    harness.foreign = foreign
    harness.typed_headers = False
    harness.counts_what_waits = "roughly"
    return harness


def reasons_of(transport: Transport, queue: str) -> list[str]:
    transport.inspector().subscribe_dead_letters(queue)
    reasons = []
    while delivery := transport.receive(0.3):
        reasons.append(delivery.reason)
    transport.close()
    return reasons


REAL = pytest.mark.slow


@pytest.fixture(
    params=[
        "memory",
        "spool",
        pytest.param("rabbitmq quorum", marks=REAL),
        pytest.param("rabbitmq classic", marks=REAL),
        pytest.param("activemq", marks=REAL),
    ]
)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    if request.param == "memory":
        harness = memory_harness(tmp_path)
    elif request.param == "spool":
        harness = spool_harness(tmp_path)
    elif request.param == "activemq":
        harness = activemq_harness(request.getfixturevalue("activemq"))
    else:
        server = request.getfixturevalue("rabbitmq")
        harness = rabbitmq_harness(server, request.param.split()[1])
    yield harness
    for transport in harness.open:
        transport.close()
    harness.clean()


@pytest.fixture
def transport(site: Harness) -> Transport:
    return site.connect()


BODY = {"text": "naïve \u2028 ☃", "list": [1, 2.5, None, True], "nested": {"a": {"b": []}}}


def test_consumers_are_those_that_are_subscribed(site: Harness) -> None:
    looker, first, second = site.connect(), site.connect(), site.connect()
    looker.send("q", 1)
    assert looker.inspector().consumers("q") == 0, "who sends is none"
    for reader in (first, second):
        reader.subscribe("q")
        reader.receive(0.5)
    assert looker.inspector().consumers("q") == 2
    second.close()
    deadline = time.monotonic() + 5
    while looker.inspector().consumers("q") != 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_message_arrives_with_body_headers_and_id(site: Harness) -> None:
    transport = site.connect()
    headers = {"k": "v:\\ x", "n": 3, "t": True}
    transport.send("q", BODY, headers)
    transport.subscribe("q")
    delivery = transport.receive(5)
    assert delivery is not None
    assert delivery.message.body == BODY
    if not site.typed_headers:
        headers = {key: str(value) for key, value in headers.items()}
    assert headers.items() <= delivery.message.headers.items()
    assert uuid.UUID(delivery.message.id)
    assert (delivery.source, delivery.delivery_count, delivery.topic) == ("q", 1, False)
    delivery.ack()
    assert transport.receive(0.05) is None


def test_a_transport_without_exchanges_sends_to_the_queue(site: Harness) -> None:
    transport = site.connect()
    if isinstance(transport, RabbitMQTransport):
        return  # tests/integration/test_rabbitmq.py
    transport.commit([Outgoing("q", BODY, exchange="results")])
    transport.subscribe("q")
    delivery = transport.receive(5)
    assert delivery is not None
    assert delivery.message.body == BODY
    delivery.ack()


@pytest.mark.parametrize("body", [None, "", "text", 0, [], {}, [None], False])
def test_any_json_value_can_be_sent(transport: Transport, body: object) -> None:
    transport.send("q", body)
    transport.subscribe("q")
    delivery = transport.receive(5)
    assert delivery is not None
    assert delivery.message.body == body


def test_a_large_message_goes_through(transport: Transport) -> None:
    transport.subscribe("q")
    transport.send("q", "x" * 50_000_000)
    delivery = transport.receive(60)
    assert delivery
    assert len(delivery.message.body) == 50_000_000
    delivery.ack()


def test_messages_of_others_are_taken_or_put_aside(site: Harness) -> None:
    transport = site.connect()
    transport.subscribe("q", 10)
    if site.foreign is None:
        return
    for content in (b'{"plain": true}', b"\xff\x00", b"[" * 100_000, b""):
        site.foreign("q", content)
    bodies = []
    while delivery := transport.receive(1):
        bodies.append(delivery.message.body)
        delivery.ack()
    assert bodies == [{"plain": True}]
    assert transport.inspector().dead_letters() == {"q": 3}


@pytest.mark.parametrize("body", ["[NaN, null]", '{"a": -Infinity}', '["\\ud800"]', f"[{10**30}]"])
def test_what_python_writes_as_json_arrives_and_travels_on(site: Harness, body: str) -> None:
    transport = site.connect()
    transport.subscribe("q")
    if site.foreign is None:
        transport.send("q", json.loads(body))
    else:
        site.foreign("q", body.encode())
    for _ in range(2):
        delivery = transport.receive(10)
        assert delivery
        assert json.dumps(delivery.message.body) == body
        with transport.unit(delivery) as unit:
            unit.send(Outgoing("q", delivery.message.body))


def test_a_message_that_is_too_large_for_a_service_is_put_aside(site: Harness) -> None:
    transport = site.connect()
    transport.largest_body = 1000
    transport.subscribe("q")
    transport.send("q", "x" * 2000)
    transport.send("q", "good")
    delivery = transport.receive(10)
    assert delivery
    assert delivery.message.body == "good"
    delivery.ack()
    transport.flush()
    (reason,) = site.dead_letter_reasons("q")
    assert "'body_bytes'" in reason
    relay = site.connect()
    relay.inspector().subscribe_dead_letters("q")
    letter = relay.receive(10)
    assert letter
    assert letter.message.body == "x" * 2000
    letter.ack()


def test_what_json_cannot_hold_is_refused_before_anything_is_sent(transport: Transport) -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(MessageError, match="'b' cannot be written as JSON"):
        transport.commit([Outgoing("a", 1), Outgoing("b", endless)])
    assert transport.inspector().waiting("a") == 0


def test_of_many_messages_each_is_sent_whatever_is_wrong_with_another(transport: Transport) -> None:
    endless: list[object] = []
    endless.append(endless)
    bad = {100, 200}
    messages = [Outgoing("q", endless if n in bad else n) for n in range(300)]
    failures = transport.send_each(messages)
    assert {number for number, each in enumerate(failures) if each} == bad
    assert all(isinstance(each, MessageError) for each in failures if each)
    transport.subscribe("q", prefetch=50)
    bodies = []
    while len(bodies) < 298 and (delivery := transport.receive(5)):
        bodies.append(delivery.message.body)
        delivery.ack()
    assert bodies == [n for n in range(300) if n not in bad]


def test_the_order_of_one_producer_is_kept(transport: Transport) -> None:
    for number in range(50):
        transport.send("q", number)
    transport.subscribe("q", prefetch=100)
    received = [transport.receive(5) for _ in range(50)]
    assert [delivery.message.body for delivery in received if delivery] == list(range(50))


def test_receive_waits_no_longer_than_it_was_told(transport: Transport) -> None:
    transport.subscribe("q")
    began = time.monotonic()
    assert transport.receive(0.2) is None
    assert 0.15 < time.monotonic() - began < 5


def test_receive_wakes_when_another_connection_sends(site: Harness) -> None:
    receiver, sender = site.connect(), site.connect()
    receiver.subscribe("q")
    timer = threading.Timer(0.2, lambda: sender.send("q", "wake up"))
    timer.start()
    delivery = receiver.receive(30)
    timer.join()
    assert delivery is not None
    assert delivery.message.body == "wake up"


def test_one_receive_covers_all_subscriptions(transport: Transport) -> None:
    for queue in ("a", "b"):
        transport.subscribe(queue)
        transport.send(queue, queue)
    transport.subscribe_topic("t")
    transport.broadcast("t", "t")
    received = [transport.receive(5) for _ in range(3)]
    assert sorted(delivery.source for delivery in received if delivery) == ["a", "b", "t"]


def test_a_busy_queue_does_not_starve_another(transport: Transport) -> None:
    transport.subscribe("busy")
    transport.subscribe("quiet")
    for _ in range(4):
        transport.send("busy", "b")
    transport.send("quiet", "q")
    received = []
    for _ in range(2):
        delivery = transport.receive(5)
        assert delivery is not None
        received.append(delivery.source)
        delivery.ack()
    assert sorted(received) == ["busy", "quiet"]


def test_prefetch_bounds_what_is_held(transport: Transport) -> None:
    for number in range(3):
        transport.send("q", number)
    transport.subscribe("q", prefetch=2)
    first, second = transport.receive(5), transport.receive(5)
    assert first is not None
    assert second is not None
    assert transport.receive(0.05) is None
    first.ack()
    assert transport.receive(5) is not None


def test_who_subscribes_again_may_hold_more(transport: Transport) -> None:
    for number in range(3):
        transport.send("q", number)
    transport.subscribe("q", prefetch=1)
    first = transport.receive(5)
    assert first is not None
    assert transport.receive(0.05) is None
    transport.subscribe("q", prefetch=2)
    others = [transport.receive(5)]
    first.ack()
    others.append(transport.receive(5))
    assert sorted(each.message.body for each in others if each) == [1, 2]


def test_each_delivery_is_settled_exactly_once(transport: Transport) -> None:
    transport.send("q", 1)
    transport.subscribe("q")
    delivery = transport.receive(5)
    assert delivery is not None
    delivery.ack()
    for settle in (delivery.ack, delivery.retry, lambda: delivery.dead_letter("no")):
        with pytest.raises(SettledError):
            settle()


def test_a_retry_comes_again_as_the_next_attempt_under_the_same_id(transport: Transport) -> None:
    transport.send("q", BODY, {"k": "v"})
    transport.subscribe("q")
    seen = []
    for _ in range(3):
        delivery = transport.receive(5)
        assert delivery is not None
        seen.append((delivery.delivery_count, delivery.message.id, delivery.message.headers["k"]))
        delivery.retry()
    assert [attempt for attempt, *_ in seen] == [1, 2, 3]
    assert len({rest for _, *rest in map(tuple, seen) for rest in [tuple(rest)]}) == 1


def test_an_uncounted_retry_costs_no_attempt(transport: Transport) -> None:
    transport.send("q", 1)
    transport.subscribe("q")
    for _ in range(3):
        delivery = transport.receive(5)
        assert delivery is not None
        assert delivery.delivery_count == 1
        delivery.retry(counted=False)


def test_a_delayed_retry_waits(site: Harness) -> None:
    transport = site.connect()
    transport.send("q", 1)
    transport.subscribe("q")
    first = transport.receive(5)
    assert first is not None
    first.retry(delay_s=0.5)
    assert transport.receive(0.2) is None
    site.pass_s(0.5)
    second = transport.receive(10)
    assert second is not None
    assert second.delivery_count == 2


def test_a_delayed_message_waits_and_does_not_hold_up_others(site: Harness) -> None:
    transport = site.connect()
    began = time.monotonic()
    transport.send("q", "late", delay_s=2)
    transport.send("q", "now")
    assert transport.inspector().waiting("q") == 2
    transport.subscribe("q", prefetch=5)
    first = transport.receive(5)
    assert first is not None
    assert first.message.body == "now"
    early = transport.receive(0.1)
    assert early is None or time.monotonic() - began >= 2
    site.pass_s(2)
    late = early or transport.receive(10)
    assert late is not None
    assert late.message.body == "late"
    assert late.delivery_count == 1


HEADERS = {
    "k": "v", "workflows-recipe": True, "timestamp": "mine", "exchange": "mine", "n": 7,
    "deep": {"a": ["b", 1]},
}  # fmt: skip


def headers_of(delivery: Delivery, site: Harness) -> dict[str, object]:
    """Return the headers of a delivery that its sender gave, in a form that is always the same."""
    own = {key: value for key, value in delivery.message.headers.items() if key in HEADERS}
    return own if site.typed_headers else {key: str(value) for key, value in own.items()}


def test_a_delivery_tells_the_size_of_its_body(site: Harness) -> None:
    transport = site.connect()
    transport.subscribe("a")
    transport.send("a", "x" * 1000)
    delivery = transport.receive(5)
    assert delivery is not None
    assert 1000 < delivery.size < 1500  # the spool has headers in the same file
    delivery.ack()


def test_a_message_that_is_passed_on_is_the_same(site: Harness) -> None:
    transport = site.connect()
    sent = {
        key: value for key, value in HEADERS.items() if site.typed_headers or key != "timestamp"
    }
    transport.send("a", BODY, sent, expires_s=60)
    transport.subscribe("a")
    transport.subscribe("b")
    first = transport.receive(5)
    assert first is not None
    before = headers_of(first, site)
    forward(first, "b", transport)
    second = transport.receive(5)
    assert second is not None
    assert (second.source, second.delivery_count, second.message.id) == ("b", 1, first.message.id)
    assert (second.message.body, headers_of(second, site)) == (BODY, before)
    assert set(before) == set(sent)
    left_s = second.original.expires_s
    assert left_s is not None
    assert 40 < left_s < 61
    second.ack()


def test_a_message_that_is_passed_on_expires_when_it_would_have(site: Harness) -> None:
    transport = site.connect()
    transport.send("a", "short", expires_s=2)
    transport.subscribe("a")
    first = transport.receive(5)
    assert first is not None
    forward(first, "b", transport)
    transport.flush()
    site.pass_s(3.2)  # a server knows whole seconds of the time of sending
    transport.subscribe("b")
    assert transport.receive(0.5) is None


def test_a_dead_letter_that_is_exported_and_put_back_is_the_same(
    site: Harness, tmp_path: Path
) -> None:
    transport = site.connect()
    sent = {
        key: value for key, value in HEADERS.items() if site.typed_headers or key != "timestamp"
    }
    transport.send("q", BODY, sent, expires_s=60)
    transport.subscribe("q")
    first = transport.receive(5)
    assert first is not None
    first.retry()
    again = transport.receive(5)
    assert again is not None
    before = headers_of(again, site)
    again.dead_letter("because")
    transport.flush()
    reader = site.connect()
    reader.inspector().subscribe_dead_letters("q")
    dead = reader.receive(5)
    assert dead is not None
    file = export(dead, tmp_path, reader.prefix).file
    dead.ack()
    reader.flush()
    message = reinjected(read(file), file, None, reader.prefix)
    assert (message.destination, message.message) == ("q", BODY)
    reader.commit([message])
    back = transport.receive(5)
    assert back is not None
    assert (back.message.id, back.message.body) == (first.message.id, BODY)
    assert headers_of(back, site) == before
    left_s = back.original.expires_s
    assert left_s is not None, "its lifetime begins anew"
    assert 40 < left_s < 61
    back.ack()


def test_a_queue_that_is_not_there_is_not_made_by_asking(site: Harness) -> None:
    inspector = site.connect().inspector()
    assert not inspector.exists("mistyped")
    assert not inspector.exists("mistyped", dead=True)
    assert "mistyped" not in inspector.queues()
    transport = site.connect()
    transport.send("there", 1)
    assert inspector.exists("there")


def test_an_expired_message_is_gone(site: Harness) -> None:
    transport = site.connect()
    transport.send("q", "short", expires_s=0.1)
    transport.send("q", "long", expires_s=60)
    site.pass_s(0.3)
    transport.subscribe("q", prefetch=5)
    delivery = transport.receive(5)
    assert delivery is not None
    assert delivery.message.body == "long"
    assert transport.receive(0.05) is None


@pytest.mark.parametrize("delay_s", [0.0, 5.0])
def test_a_message_that_is_tried_again_keeps_its_expiration(site: Harness, delay_s: float) -> None:
    transport = site.connect()
    transport.subscribe("q", 5)
    transport.send("q", "short", {"k": "v"}, expires_s=3)
    first = transport.receive(5)
    assert first is not None
    first.retry()
    second = transport.receive(2)
    assert second is not None, "it comes again while it lives"
    assert not [key for key in second.message.headers if key.startswith("zwrap_")]
    if not delay_s:
        site.pass_s(4.5)  # a server knows whole seconds of the time of sending
    second.retry(delay_s)
    site.pass_s(delay_s)
    assert transport.receive(2) is None
    transport.flush()
    assert (transport.inspector().waiting("q"), site.dead_letter_reasons("q")) == (0, [])


def test_a_dead_letter_keeps_its_reason_and_does_not_come_back(site: Harness) -> None:
    transport = site.connect()
    transport.send("q", BODY)
    transport.subscribe("q")
    delivery = transport.receive(5)
    assert delivery is not None
    delivery.dead_letter("because of this\nand that")
    assert transport.receive(0.05) is None
    assert site.dead_letter_reasons("q") == ["because of this\nand that"]


def test_a_unit_sends_and_settles(transport: Transport) -> None:
    transport.send("in", 1)
    transport.subscribe("in")
    delivery = transport.receive(5)
    assert delivery is not None
    with transport.unit(delivery) as unit:
        unit.send(Outgoing("out", "a"), Outgoing("out", "b"))
        assert transport.inspector().waiting("out") == 0
    transport.flush()
    assert transport.inspector().waiting("out") == 2
    assert delivery.settled
    transport.close()


def test_a_unit_may_send_the_message_that_it_settles_once_more(transport: Transport) -> None:
    """It comes under the same id, though it is sent while the first one is held."""
    transport.send("in", {"n": 1})
    transport.subscribe("in", 10)
    delivery = transport.receive(5)
    assert delivery is not None
    identity = delivery.message.id
    for number in range(3):
        given = delivery.message.headers
        headers = {key: given[key] for key in given if key not in TRANSPORT_HEADERS}
        headers |= {ID_HEADER: identity, "zwrap-tasks-sent": number}
        with transport.unit(delivery) as unit:
            unit.send(Outgoing("out", {}), Outgoing("in", delivery.message.body, headers))
        delivery = transport.receive(5)
        assert delivery is not None
        message = delivery.message
        assert (message.id, message.body, delivery.delivery_count) == (identity, {"n": 1}, 1)
        assert str(message.headers["zwrap-tasks-sent"]) == str(number)
    delivery.ack()
    transport.flush()
    assert transport.receive(0.2) is None
    assert transport.inspector().waiting("out") == 3
    transport.close()


def test_an_exception_inside_a_unit_sends_no_message_and_settles_none(transport: Transport) -> None:
    transport.send("in", 1)
    transport.subscribe("in")
    delivery = transport.receive(5)
    assert delivery is not None

    def fail() -> None:
        with transport.unit(delivery) as unit:
            unit.send(Outgoing("out", "a"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert transport.inspector().waiting("out") == 0
    assert not delivery.settled
    delivery.ack()


def test_a_unit_covers_many_deliveries(transport: Transport) -> None:
    for number in range(3):
        transport.send("in", number)
    transport.subscribe("in", prefetch=3)
    deliveries = [transport.receive(5) for _ in range(3)]
    held = [delivery for delivery in deliveries if delivery]
    with transport.unit(*held) as unit:
        unit.send(Outgoing("out", [delivery.message.body for delivery in held]))
    transport.flush()
    assert all(delivery.settled for delivery in held)
    assert transport.inspector().waiting("in") == 0


def test_a_unit_may_end_in_a_dead_letter(site: Harness) -> None:
    transport = site.connect()
    transport.send("in", 1)
    transport.subscribe("in")
    delivery = transport.receive(5)
    assert delivery is not None
    with transport.unit(delivery, dead_letter="told the error nodes") as unit:
        unit.send(Outgoing("error", "it failed"))
    transport.flush()
    assert transport.inspector().waiting("error") == 1
    assert site.dead_letter_reasons("in") == ["told the error nodes"]


def kept_in_files(tmp_path: Path) -> dict[str, Outgoing]:
    """Return the messages that are kept whole, by the path of their file."""
    files = (tmp_path / "state" / "refused").glob("*")
    return {str(file): reinjected(read(file), file, None) for file in files}


def test_a_message_of_a_unit_that_is_refused_for_good_is_kept_whole(
    site: Harness, tmp_path: Path
) -> None:
    transport = site.connect()
    transport.send("in", BODY)
    transport.subscribe("in")
    for _ in range(2):  # a person puts the dead letter back, and it is refused again
        delivery = transport.receive(5)
        assert delivery is not None
        try:
            with transport.unit(delivery) as unit:
                unit.send(site.refused)
        except MessageError as error:  # known before anything was sent: its service settles it
            delivery.dead_letter(str(error))
        transport.flush()
        assert transport.receive(0.5) is None
        person = site.connect()
        person.inspector().subscribe_dead_letters("in")
        letter = person.receive(10)
        assert letter is not None
        assert letter.message.body == BODY
        [(path, kept)] = kept_in_files(tmp_path).items()
        assert path in letter.reason
        assert (kept.destination, kept.message) == (site.refused.destination, site.refused.message)
        assert site.refused.headers.items() <= kept.headers.items()
        with person.unit(letter) as back:
            back.send(Outgoing("in", BODY, {ID_HEADER: letter.message.id}))
        person.close()


def test_a_refused_message_outside_a_unit_is_left_to_its_sender(
    site: Harness, tmp_path: Path
) -> None:
    transport = site.connect()
    with pytest.raises(MessageError):
        transport.commit([site.refused])
    assert kept_in_files(tmp_path) == {}


def test_handling_a_message_again_repeats_the_ids_of_what_it_sends(transport: Transport) -> None:
    transport.send("in", 1)
    transport.subscribe("in")
    ids = []
    for queue in ("first", "second"):
        delivery = transport.receive(5)
        assert delivery is not None
        unit = Unit(delivery.message.id)
        unit.send(Outgoing(queue, "a"), Outgoing(queue, "b"))
        ids.append([message.headers[ID_HEADER] for message in unit.outgoing])
        delivery.retry()
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2


def test_an_id_that_a_message_brings_is_kept(transport: Transport) -> None:
    identity = str(uuid.uuid4())
    transport.send("q", 1, {ID_HEADER: identity})
    transport.subscribe("q")
    delivery = transport.receive(5)
    assert delivery is not None
    assert delivery.message.id == identity


def test_what_a_closed_connection_held_goes_to_the_next_as_another_attempt(site: Harness) -> None:
    first = site.connect()
    first.send("q", 1)
    first.subscribe("q")
    delivery = first.receive(5)
    assert delivery is not None
    first.close()
    second = site.connect()
    second.subscribe("q")
    again = second.receive(5)
    assert again is not None
    assert (again.delivery_count, again.message.id) == (2, delivery.message.id)


def test_a_unit_whose_delivery_is_lost_sends_no_message(site: Harness) -> None:
    first, second = site.connect(), site.connect()
    first.send("q", 1)
    first.subscribe("q")
    delivery = first.receive(5)
    assert delivery is not None
    first.close()
    with first.unit(delivery) as unit:
        unit.send(Outgoing("out", 1))
    assert second.inspector().waiting("out") == 0


def test_a_closed_connection_says_so(transport: Transport) -> None:
    transport.subscribe("q")
    transport.close()
    with pytest.raises(TransportError, match="closed"):
        transport.receive(0.1)


def test_with_closes_the_connection_and_gives_back_what_it_held(site: Harness) -> None:
    with site.connect() as first:
        first.send("q", 1)
        first.subscribe("q")
        assert first.receive(5)
    with pytest.raises(TransportError, match="closed"):
        first.receive(0.1)
    first.close()
    second = site.connect()

    def fail() -> None:
        with second:
            second.subscribe("q")
            again = second.receive(5)
            assert again
            assert again.delivery_count == 2
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with pytest.raises(TransportError, match="closed"):
        second.receive(0.1)


def test_an_inspector_looks_over_the_same_connection(site: Harness) -> None:
    transport = site.connect()
    transport.subscribe("a")
    assert transport.receive(0.1) is None
    transport.send("b", 1)
    transport.send("b", 2)
    inspector = transport.inspector()
    waiting = {queue: count for queue, count in inspector.queues().items() if count}
    assert waiting == {"b": 2}
    assert (inspector.waiting("a"), inspector.waiting("b")) == (0, 2)
    assert (inspector.consumers("a"), inspector.consumers("b")) == (1, 0)


def test_the_contract_is_small() -> None:
    assert len(Transport.__abstractmethods__) <= 8, Transport.__abstractmethods__


def test_a_broadcast_reaches_everybody_who_listens_now(site: Harness) -> None:
    early, late, sender = site.connect(), site.connect(), site.connect()
    sender.broadcast("command", "before anybody listens")
    early.subscribe_topic("command")
    sender.broadcast("command", {"command": "shutdown"})
    late.subscribe_topic("command")
    heard = early.receive(5)
    assert heard is not None
    assert heard.message.body == {"command": "shutdown"}
    assert heard.topic
    heard.ack()
    heard.ack()
    assert early.receive(0.05) is None
    assert late.receive(0.05) is None


def test_an_expired_broadcast_is_not_heard(site: Harness) -> None:
    listener, sender = site.connect(), site.connect()
    listener.subscribe_topic("t")
    sender.broadcast("t", "old", expires_s=0.05)
    site.pass_s(0.2)
    assert listener.receive(0.05) is None


def test_the_last_status_of_each_sender_is_heard(site: Harness) -> None:
    listener, sender = site.connect(), site.connect()
    listener.subscribe_topic("transient.status")
    for number in range(3):
        sender.broadcast("transient.status", ["a", number], expires_s=15, replaces="a")
    sender.broadcast("transient.status", ["b", 0], expires_s=15, replaces="b")
    heard = {}
    while delivery := listener.receive(0.1):
        heard[delivery.message.body[0]] = delivery.message.body[1]
    assert heard == {"a": 2, "b": 0}


def test_two_receivers_share_a_queue_without_loss_or_repeat(site: Harness) -> None:
    sender = site.connect()
    for number in range(200):
        sender.send("q", number)
    taken: list[list[int]] = [[], []]

    def consume(mine: list[int]) -> None:
        transport = site.connect()
        transport.subscribe("q")
        while delivery := transport.receive(0.3):
            mine.append(delivery.message.body)
            delivery.ack()

    threads = [threading.Thread(target=consume, args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken[0] + taken[1]) == list(range(200))


def test_another_thread_may_send_while_one_receives(transport: Transport) -> None:
    transport.subscribe("q")
    thread = threading.Thread(target=lambda: [transport.send("q", number) for number in range(20)])
    thread.start()
    for _ in range(20):
        delivery = transport.receive(10)
        assert delivery is not None
        delivery.ack()
    thread.join()


# -- one reader at a time --------------------------------------------------------------------


def fetched(transport: Transport, number: int) -> list[Delivery]:
    """Receive that many messages, and settle none."""
    received = [transport.receive(10) for _ in range(number)]
    return [each for each in received if each]


def bodies_of(deliveries: list[Delivery]) -> list[object]:
    return [each.message.body for each in deliveries]


def waits(reader: Transport, prefetch: int = 4) -> bool:
    """Return whether a connection that wants the queue alone gets none of its messages."""
    try:
        reader.subscribe("q", prefetch, exclusive=True)
    except ReadElsewhereError:
        return True
    return reader.receive(0.3) is None


def takes_over(reader: Transport, prefetch: int = 4, within_s: float = 20.0) -> None:
    """Subscribe as soon as the reader before has ended."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with contextlib.suppress(ReadElsewhereError):
            reader.subscribe("q", prefetch, exclusive=True)
            return
        time.sleep(0.05)
    pytest.fail("The reader before has ended, and the queue cannot be read.")


@pytest.mark.parametrize("how", ["unsubscribes", "closes"])
def test_a_second_exclusive_reader_waits_and_takes_over_in_order(site: Harness, how: str) -> None:
    first, second = site.connect(), site.connect()
    for number in range(8):
        first.send("q", number)
    first.subscribe("q", 4, exclusive=True)
    first.subscribe("q", 4, exclusive=True)  # which changes nothing
    held = fetched(first, 4)
    assert bodies_of(held) == [0, 1, 2, 3]
    assert {each.delivery_count for each in held} == {1}
    assert waits(second)
    held[0].ack()
    first.flush()
    if how == "unsubscribes":
        first.unsubscribe("q")
    else:
        first.close()
    takes_over(second)
    again = fetched(second, 4)
    assert bodies_of(again) == [1, 2, 3, 4]
    assert {each.message.id for each in again} >= {each.message.id for each in held[1:]}
    if how == "closes":
        assert all(each.delivery_count > 1 for each in again[:3]), "they were handed out before"
    for each in again:
        each.ack()
    assert bodies_of(fetched(second, 3)) == [5, 6, 7]


def test_what_is_given_back_is_lost_to_who_held_it(site: Harness) -> None:
    transport = site.connect()
    for number in range(3):
        transport.send("q", number)
    transport.subscribe("q", 3, exclusive=True)
    held = fetched(transport, 2)
    transport.unsubscribe("q")
    with transport.unit(*held) as unit:
        unit.send(Outgoing("out", 1))
    held_then = transport.receive(0.3)
    assert held_then is None, "no more come"
    assert transport.inspector().waiting("out") == 0
    takes_over(transport, 3)
    assert bodies_of(fetched(transport, 3)) == [0, 1, 2]


def test_a_reader_that_leaves_and_comes_back_loses_and_doubles_none(site: Harness) -> None:
    """However often that is: what is given back never becomes a dead letter by it."""
    transport = site.connect()
    for number in range(60):
        transport.send("q", number)
    handled: list[object] = []
    for _ in range(30):
        takes_over(transport, 5)
        first, *others = fetched(transport, 3)
        assert bodies_of([first, *others]) == [len(handled) + n for n in range(3)]
        handled.append(first.message.body)
        first.ack()
        transport.unsubscribe("q")
    other = site.connect()
    takes_over(other, 5)
    while delivery := other.receive(1):
        handled.append(delivery.message.body)
        delivery.ack()
    assert handled == list(range(60))
    assert site.dead_letter_reasons("q") == []


def test_a_plain_reader_can_leave_and_come_back(site: Harness) -> None:
    transport = site.connect()
    transport.send("q", 1)
    transport.subscribe("q")
    assert len(fetched(transport, 1)) == 1
    transport.unsubscribe("q")
    transport.unsubscribe("q")  # which it has done
    assert transport.receive(0.3) is None
    transport.subscribe("q")
    (again,) = fetched(transport, 1)
    again.ack()
    transport.flush()
    assert transport.inspector().waiting("q") == 0


def test_who_has_a_queue_alone_shares_the_others(site: Harness) -> None:
    first, second = site.connect(), site.connect()
    first.subscribe("q", 1, exclusive=True)
    for transport in (first, second):
        transport.subscribe("shared", 1)
        transport.subscribe_topic("t")
    first.unsubscribe("q")
    first.send("shared", 1)
    first.send("shared", 2)
    first.broadcast("t", "heard")
    assert sorted(str(each) for each in bodies_of(fetched(first, 2))) in (
        ["1", "heard"], ["2", "heard"],
    )  # fmt: skip


# -- dead letters ----------------------------------------------------------------------------


def make_dead(transport: Transport, queue: str, *bodies: object) -> None:
    transport.subscribe(queue)
    for body in bodies:
        transport.send(queue, body, {"h": 1})
        delivery = transport.receive(5)
        assert delivery
        delivery.dead_letter(f"because of {body}")


def test_dead_letters_are_counted_by_queue(transport: Transport) -> None:
    assert transport.inspector().dead_letters() == {}
    transport.send("alive", 1)
    make_dead(transport, "a", 1, 2)
    make_dead(transport, "b", 3)
    assert transport.inspector().dead_letters() == {"a": 2, "b": 1}


def test_dead_letters_are_taken_with_their_reasons_oldest_first(site: Harness) -> None:
    make_dead(site.connect(), "a", 1, 2)
    reader = site.connect()
    reader.inspector().subscribe_dead_letters("a")
    taken = []
    while delivery := reader.receive(0.2):
        taken.append((delivery.message.body, int(delivery.message.headers["h"]), delivery.reason))
        assert delivery.source == "a"
        delivery.ack()
    assert taken == [(1, 1, "because of 1"), (2, 1, "because of 2")]
    assert reader.inspector().dead_letters() == {}
    assert site.dead_letter_reasons("a") == []


def test_a_dead_letter_that_is_given_back_stays_dead(site: Harness) -> None:
    make_dead(site.connect(), "a", 1)
    reader = site.connect()
    reader.inspector().subscribe_dead_letters("a")
    delivery = reader.receive(5)
    assert delivery
    delivery.retry()
    again = reader.receive(5)
    assert again
    reader.close()
    other = site.connect()
    other.subscribe("a")
    assert other.receive(0.1) is None
    assert other.inspector().dead_letters() == {"a": 1}
    assert site.dead_letter_reasons("a") == ["because of 1"]


def test_two_readers_of_dead_letters_never_have_the_same(site: Harness) -> None:
    make_dead(site.connect(), "a", *range(6))
    readers = [site.connect(), site.connect()]
    for reader in readers:
        reader.inspector().subscribe_dead_letters("a")
    taken: list[object] = []
    deadline = time.monotonic() + 30
    while len(taken) < 6 and time.monotonic() < deadline:
        for reader in readers:  # a server may give the next letter to either
            if delivery := reader.receive(0.2):
                taken.append(delivery.message.body)
                delivery.ack()
                reader.flush()
    assert sorted(map(str, taken)) == [str(number) for number in range(6)]


def test_what_was_handed_out_too_often_is_taken_out_wherever_it_waits(site: Harness) -> None:
    transport = site.connect()
    for queue, rounds in (("a", 3), ("b", 1)):
        transport.send(queue, queue)
        for _ in range(rounds):
            consumer = site.connect()
            consumer.subscribe(queue)
            delivery = consumer.receive(5)
            assert delivery
            delivery.retry()
            consumer.close()
    inspector = transport.inspector()
    if site.counts_what_waits == "never":
        assert not isinstance(inspector, Overdelivered)
        assert "delivery-limit" in inspector.bounded_by, "it is said what bounds deliveries there"
        return
    assert isinstance(inspector, Overdelivered)
    found = []
    for delivery in inspector.overdelivered(3):
        found.append((delivery.source, delivery.message.body, delivery.delivery_count))
        delivery.dead_letter("too often")
    assert [(source, body) for source, body, _ in found] == [("a", "a")]
    assert found[0][2] == 4 or (found[0][2] > 4 and site.counts_what_waits == "roughly")
    assert transport.inspector().dead_letters() == {"a": 1}
    assert transport.inspector().waiting("b") == 1
