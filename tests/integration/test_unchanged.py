"""Messages of other programs are the same, with all that their broker knows, wherever they go.

zwrap moves them, tries them again, exports them and puts them back.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pika
import pytest

from zwrap.transport.contract import Delivery, Transport
from zwrap.transport.deadletters import export, read, reinjected
from zwrap.transport.mover import forward
from zwrap.transport.stomp.clock import ServerClock

from . import prefix, vhost

pytestmark = pytest.mark.slow

BODY = b'{"a": 1.0,  "b": [1e2, "\\u00e9"]}'
"""A text with blanks, escapes and numbers that would be written in another way."""


def moved(delivery: Delivery, transport: Transport, tmp_path: Path) -> None:
    forward(delivery, "b", transport)


def tried_again(delivery: Delivery, transport: Transport, tmp_path: Path) -> None:
    delivery.retry()
    again = transport.receive(10)
    assert again
    again.retry(0.2)
    third = transport.receive(20)
    assert third
    forward(third, "b", transport)


def put_back(delivery: Delivery, transport: Transport, tmp_path: Path) -> None:
    delivery.dead_letter("because")
    transport.flush()
    transport.inspector().subscribe_dead_letters("a")
    dead = transport.receive(10)
    assert dead
    file = export(dead, tmp_path, transport.prefix).file
    dead.ack()
    transport.commit([reinjected(read(file), file, "b", transport.prefix)])


WAYS = (moved, tried_again, put_back)
Way = Callable[[Delivery, Transport, Path], None]


@pytest.fixture
def rabbit(rabbitmq: dict[str, Any]) -> Iterator[vhost.Server]:
    yield from vhost.opened(rabbitmq)


PROPERTIES = {
    "content_type": "application/json", "content_encoding": "utf-8", "priority": 7,
    "correlation_id": "c-1", "reply_to": "answers", "message_id": "m-1", "type": "kind",
    "app_id": "app", "timestamp": 1767323045, "delivery_mode": 2,
}  # fmt: skip
TYPED = {
    "when": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "price": Decimal("1.25"),
    "raw": b"\xff\x00", "ratio": 1.5, "whole": 2.0, "large": 2**40, "timestamp": "mine",
    "list": [b"\xfe", {"deep": Decimal("2.5")}], "none": None, "yes": True,
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_rabbitmq_keeps_properties_and_typed_headers(
    rabbit: vhost.Server, tmp_path: Path, way: Way, kind: str
) -> None:
    for name in ("a", "b"):
        rabbit.queue(name, kind)
    transport = rabbit.connect()  # and with it floating point numbers in tables
    channel = rabbit.channel()
    properties = pika.BasicProperties(headers=dict(TYPED), expiration="60000", **PROPERTIES)
    channel.basic_publish("", "a", BODY, properties)
    transport.subscribe("a")
    delivery = transport.receive(10)
    assert delivery
    way(delivery, transport, tmp_path)
    transport.flush()
    deadline = time.monotonic() + 10
    while (found := channel.basic_get("b", auto_ack=True))[0] is None:
        assert time.monotonic() < deadline
    _, kept, body = found
    assert {name: getattr(kept, name) for name in PROPERTIES} == PROPERTIES
    assert {key: kept.headers[key] for key in TYPED} == TYPED
    assert [type(kept.headers[key]) for key in ("ratio", "whole", "price")] == [
        float,
        float,
        Decimal,
    ]
    assert 40_000 < int(kept.expiration) <= 60_000
    if way is put_back:
        assert json.loads(body) == json.loads(BODY)
    else:
        assert body == BODY
    channel.connection.close()


def test_a_dead_letter_of_rabbitmq_itself_is_put_back_with_its_lifetime(
    rabbit: vhost.Server, tmp_path: Path
) -> None:
    rabbit.queue("dlq.a")
    rabbit.queue("b")
    rabbit.queue("a", **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dlq.a"})
    transport, channel = rabbit.connect(), rabbit.channel()
    channel.basic_publish("", "a", BODY, pika.BasicProperties(expiration="300"))
    transport.inspector().subscribe_dead_letters("a")
    dead = transport.receive(10)
    assert dead
    assert dead.original.expires_s == 0.3
    file = export(dead, tmp_path).file
    dead.ack()
    message = reinjected(read(file), file, None)
    assert (message.destination, message.expires_s) == ("a", 0.3)
    channel.connection.close()


@pytest.mark.parametrize(
    ("properties", "named"),
    [
        ({"content_encoding": "gzip", "content_type": "text/json"}, "content_encoding 'gzip'"),
        ({"content_type": "application/x-msgpack"}, "content_type 'application/x-msgpack'"),
    ],
)  # fmt: skip
def test_what_its_sender_calls_a_body_that_cannot_be_read_is_named(
    rabbit: vhost.Server, properties: dict[str, str], named: str
) -> None:
    rabbit.queue("a")
    transport, channel = rabbit.connect(), rabbit.channel()
    channel.basic_publish("", "a", b"\x1f\x8b\x08rest", pika.BasicProperties(**properties))
    transport.subscribe("a")
    assert transport.receive(1) is None
    transport.flush()
    transport.inspector().subscribe_dead_letters("a")
    dead = transport.receive(10)
    assert dead
    assert f"Its sender gives {named}" in dead.reason
    dead.ack()
    channel.connection.close()


@pytest.mark.parametrize("server", ["rabbit", "active"])
def test_what_zwrap_cannot_read_is_moved_and_looked_at_all_the_same(
    server: str, request: pytest.FixtureRequest
) -> None:
    body = b"\x1f\x8b\x08no JSON\xff\x00"
    broker = request.getfixturevalue(server)
    if server == "rabbit":
        broker.queue("a")
        broker.queue("b")
        channel = broker.channel()
        channel.basic_publish("", "a", body, pika.BasicProperties(content_encoding="gzip"))
        channel.connection.close()
    else:
        broker.recorder().connection.send(f"/queue/{broker.prefix}.a", body)
    transport = broker.connect()
    transport.relay()
    transport.subscribe("a")
    seen = transport.receive(10)
    assert seen
    seen.retry(counted=False)
    delivery = transport.receive(10)
    assert delivery
    forward(delivery, "b", transport)
    transport.subscribe("b")
    there = transport.receive(10)
    assert there
    assert bytes(there.original.body) == body
    there.ack()
    transport.flush()
    assert transport.inspector().dead_letters() == {}


# -- ActiveMQ ----------------------------------------------------------------------------------


@pytest.fixture
def active(activemq: dict[str, Any]) -> Iterator[prefix.Server]:
    yield from prefix.opened(activemq)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("is_text", [True, False])
def test_activemq_keeps_properties(
    active: prefix.Server, tmp_path: Path, way: Way, is_text: bool
) -> None:
    headers = {
        "priority": "7", "reply-to": "/queue/answers", "correlation-id": "c-1", "type": "kind",
        "content-type": "application/json", "persistent": "true", "mine": "a: b",
        "expires": str(int((time.time() + 60) * 1000)),
    }  # fmt: skip
    transport, recorder = active.connect(), active.recorder()
    recorder.connection.auto_content_length = not is_text
    recorder.connection.send(f"/queue/{active.prefix}.a", BODY, **headers)
    recorder.subscribe(f"/queue/{active.prefix}.b")
    transport.subscribe("a")
    delivery = transport.receive(10)
    assert delivery
    way(delivery, transport, tmp_path)
    transport.flush()
    (frame,) = recorder.wait_for(1)
    kept = {key: frame.headers.get(key) for key in headers if key != "expires"}
    assert kept == {key: value for key, value in headers.items() if key != "expires"}
    assert ("content-length" in frame.headers) == (not is_text)
    assert 40_000 < int(frame.headers["expires"]) - time.time() * 1000 <= 62_000
    assert json.loads(frame.body) == json.loads(BODY)


def test_what_python_zocalo_exported_goes_to_the_queue_of_the_site(
    active: prefix.Server, tmp_path: Path
) -> None:
    transport = active.connect()
    name = f"{active.prefix}.processing_recipe"
    file = tmp_path / "msg-1"
    for header in (
        {"original-destination": f"/queue/{name}", "destination": f"/queue/DLQ.{name}"},
        {"destination": f"/queue/DLQ.{name}"},
        {"original-destination": "/queue/processing_recipe"},
    ):
        file.write_text(json.dumps({"exported": {}, "header": header, "message": {"n": 1}}))
        message = reinjected(read(file), file, None, transport.prefix)
        assert message.destination == "processing_recipe"
    transport.commit([message])
    assert transport.inspector().queues()["processing_recipe"] == 1


def test_a_dead_letter_is_exported_under_the_name_that_it_has_on_the_server(
    active: prefix.Server, tmp_path: Path
) -> None:
    transport = active.connect()
    transport.send("a", 1)
    transport.subscribe("a")
    delivery = transport.receive(10)
    assert delivery
    delivery.dead_letter("because")
    transport.inspector().subscribe_dead_letters("a")
    dead = transport.receive(10)
    assert dead
    header: Any = read(export(dead, tmp_path, transport.prefix).file)["header"]
    assert header["original-destination"] == f"/queue/{active.prefix}.a"
    dead.ack()


@pytest.mark.parametrize("late_s", [120.0, -120.0])
def test_what_a_host_with_a_wrong_clock_sends_expires_by_the_clock_of_the_server(
    active: prefix.Server, late_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    transport, listener = active.connect(), active.connect()
    listener.subscribe_topic("transient.status")
    transport.clock = ServerClock(
        transport._connection, transport._places, now=lambda: time.time() - late_s
    )
    transport.send("a", "lives", expires_s=60)
    transport.broadcast("transient.status", {"status": 1}, expires_s=15)
    listener.subscribe("a")
    came = [listener.receive(10), listener.receive(10)]
    assert sorted(each.source for each in came if each) == ["a", "transient.status"]
    [message] = [each for each in came if each and not each.topic]
    assert message.original.expires_s == pytest.approx(60, abs=3)
    message.ack()
    told = "ahead of" if late_s > 0 else "behind"
    assert f"its clock is 120 s {told} that of this host" in caplog.text
