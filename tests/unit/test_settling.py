"""RabbitMQ without a server: whatever is refused, a delivery is never requeued bare, nor lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika
import pytest
from hypothesis import given, settings, strategies as st

from zwrap.errors import TransportError, ZwrapError
from zwrap.message.content import Outgoing
from zwrap.transport.contract import Delivery
from zwrap.transport.failures import (
    EncodingError,
    LostError,
    NoPermissionError,
    NoRouteError,
    RefusedError,
    TooLargeError,
)
from zwrap.transport.rabbitmq.consumer import Consumer
from zwrap.transport.rabbitmq.publication import Messages, Publication
from zwrap.transport.rabbitmq.settings import Server
from zwrap.transport.rabbitmq.transport import RabbitMQTransport


class Channel:
    """Records how deliveries are settled; a requeue is an error."""

    is_open = True

    def __init__(self) -> None:
        self.connection = self
        self.acknowledged: list[int] = []

    def basic_consume(self, place: str, received: Any, *, exclusive: bool, callback: Any) -> None:
        self.received = received

    def basic_ack(self, tag: int) -> None:
        self.acknowledged.append(tag)

    def basic_qos(self, *, prefetch_count: int, callback: Any) -> None:
        callback(None)


class Connection:
    """Takes work and timers, and leaves it to the test to end them."""

    where, state = "RabbitMQ", "no answer"

    def __init__(self) -> None:
        self.works: list[Messages] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.channel = Channel()

    def consume(self, consumer: Consumer) -> None:
        consumer.channel = self.channel  # type: ignore[assignment]
        consumer.start(self.channel, lambda _: None)  # type: ignore[arg-type]

    def submit(self, work: Messages) -> None:
        self.works.append(work)

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        self.timers.append((seconds, function))


def delivered(connection: Connection) -> tuple[RabbitMQTransport, Delivery]:
    transport = RabbitMQTransport(Server(), connection)  # type: ignore[arg-type]
    transport.subscribe("in")
    method = pika.spec.Basic.Deliver("c", 1, False, "", "in")
    properties = pika.BasicProperties(headers={"zwrap-id": "m", "k": "v"})
    connection.channel.received(connection.channel, method, properties, b"[1]")
    delivery = transport.receive(1)
    assert delivery
    return transport, delivery


FAILURES = st.sampled_from(
    [None, NoRouteError, TooLargeError, EncodingError, NoPermissionError, RefusedError, LostError,
     TransportError]
)  # fmt: skip


@given(
    ask=st.sampled_from(["ack", "retry", "delay", "dead", "dead with messages"]),
    outcomes=st.lists(st.tuples(FAILURES, st.integers(0, 3)), max_size=12),
)
@settings(max_examples=200)
def test_a_delivery_is_acknowledged_only_for_what_takes_its_place(
    tmp_path_factory: pytest.TempPathFactory,
    ask: str,
    outcomes: list[tuple[type[ZwrapError] | None, int]],
) -> None:
    state = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZWRAP_STATE", str(state))
        connection = Connection()
        transport, delivery = delivered(connection)
        settle(transport, delivery, ask)
        arrived: list[Publication] = []
        for kind, which in [*outcomes, *[(None, 0)] * 6]:
            finish_one(connection, kind, which, arrived)
        assert not connection.works, "it comes to an end"
        assert connection.channel.acknowledged == [1]
        copies = [each for each in arrived if each.routing_key in ("in", "dlq.in")]
        in_file = [json.loads(file.read_text()) for file in refused(state)]
        handled = ask == "ack" and {"out1", "out2"} <= {each.routing_key for each in arrived}
        kept = [1] in [each["message"] for each in in_file]
        assert copies or handled or kept
        assert not transport._unfinished


def settle(transport: RabbitMQTransport, delivery: Delivery, ask: str) -> None:
    messages = [Outgoing("out1", 1), Outgoing("out2", 2)]
    if ask == "ack":
        with transport.unit(delivery) as unit:
            unit.send(*messages)
    elif ask == "retry":
        delivery.retry()
    elif ask == "delay":
        delivery.retry(7.0)
    elif ask == "dead":
        delivery.dead_letter("because")
    else:
        with transport.unit(delivery, dead_letter="because") as unit:
            unit.send(*messages)


def finish_one(
    connection: Connection, kind: type[ZwrapError] | None, which: int, arrived: list[Publication]
) -> None:
    """End the next work: all of it arrives, or one message is refused, or none is known to be."""
    if not connection.works and connection.timers:
        seconds, function = connection.timers.pop(0)
        assert 0 < seconds <= 60, "neither a loop nor for ever"
        function()
    if not connection.works:
        return
    work = connection.works.pop(0)
    publications = list(work.left)
    if kind is None:
        arrived += publications
        work.left.clear()
    elif which < len(publications):
        arrived += publications[:which]
        for publication in publications[:which]:
            del work.left[publication]
        work.fail(kind("no"), publications[which])
    else:
        work.fail(kind("no"))
    work.finish(work.failure)


def test_a_message_that_neither_server_nor_disk_takes_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").write_text("no directory")
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path / "state"))
    connection = Connection()
    _, delivery = delivered(connection)
    delivery.dead_letter("because")
    for _ in range(3):
        work = connection.works.pop()
        [copy] = work.left
        work.fail(TooLargeError("no"), copy)
        work.finish(work.failure)
        assert connection.channel.acknowledged == []
        [(_, function)] = connection.timers
        connection.timers.clear()
        function()


def refused(state: Path) -> list[Path]:
    place = state / "refused"
    return list(place.iterdir()) if place.exists() else []


def test_a_message_that_can_be_given_back_in_no_way_is_held_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    connection = Connection()
    _, delivery = delivered(connection)
    delivery.retry(7.0)
    pauses = []
    for _ in range(8):
        work = connection.works.pop()
        [copy] = work.left
        work.fail(NoPermissionError("no"), copy)
        work.finish(work.failure)
        [(seconds, function)] = connection.timers
        connection.timers.clear()
        pauses.append(seconds)
        function()
    assert pauses == [7, 2, 4, 8, 16, 32, 60, 60]
    assert copy.properties.headers
    assert copy.properties.headers["zwrap_deliveries"] == 2, "it counts all the same"
    assert len(caplog.records) == 1
    assert "--declare" in caplog.text
    assert connection.channel.acknowledged == []
