"""The Schlockmeister on transports that show how often a message was delivered, and on others."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from zwrap.configuration.site import Configuration
from zwrap.errors import TransportError
from zwrap.service.schlockmeister import INTERVAL_S, LIMIT, Schlockmeister
from zwrap.transport.inspector import Inspector
from zwrap.transport.memory import MemoryInspector, MemoryTransport


class Bounded(Inspector):
    """A server that bounds deliveries by itself."""

    bounded_by = "The server's delivery-limit does that."
    found: list[str]

    def __init__(self) -> None:
        self.found = ["Queue 'q' has no delivery-limit."]

    def queues(self) -> dict[str, int]:
        raise AssertionError

    waiting = consumers = dead_letters = subscribe_dead_letters = queues  # type: ignore[assignment]

    def audit(self) -> list[str]:
        return self.found


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def poisoned(transport: MemoryTransport, queue: str, deliveries: int) -> None:
    transport.send(queue, "poison")
    with MemoryTransport(transport.broker) as reader:
        reader.subscribe(queue)
        for _ in range(deliveries):
            delivery = reader.receive(1)
            assert delivery
            delivery.retry()


def test_it_puts_aside_what_was_delivered_too_often_once_per_interval(clock: Clock) -> None:
    transport = MemoryTransport()
    service = Schlockmeister(Configuration(), transport, clock)
    poisoned(transport, "a", LIMIT - 1)
    service.idle()
    assert transport.inspector().dead_letters() == {}, "as often as allowed"
    poisoned(transport, "b", LIMIT)
    service.idle()
    assert transport.inspector().dead_letters() == {}, "it is not time yet"
    clock.now += INTERVAL_S
    service.idle()
    assert transport.inspector().dead_letters() == {"b": 1}
    [letter] = transport.broker.dead_letters["b"]
    assert f"was handed out {LIMIT} times and never finished" in letter.reason
    assert letter.reason.endswith("found by Schlockmeister")


def test_where_the_server_bounds_deliveries_it_says_so_in_one_line(
    clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    transport, inspector = MemoryTransport(), Bounded()
    monkeypatch.setattr(transport, "inspector", lambda: inspector)
    service = Schlockmeister(Configuration(), transport, clock)
    for _ in range(3):
        service.idle()
        clock.now += INTERVAL_S
    told = [record.getMessage() for record in caplog.records]
    line = "There is nothing to take out of the queues here. The server's delivery-limit does that."
    assert told == [line, "Queue 'q' has no delivery-limit."]


def test_an_audit_is_told_when_it_changes(
    clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, inspector = MemoryTransport(), Bounded()
    monkeypatch.setattr(transport, "inspector", lambda: inspector)
    service = Schlockmeister(Configuration(), transport, clock)

    def away() -> Any:
        raise TransportError("The API is away.")

    steps: list[Any] = [lambda: ["a"], lambda: ["a", "b"], list, lambda: ["a"], away]
    for audit in steps:
        inspector.audit = audit  # type: ignore[method-assign]
        service.idle()
        clock.now += INTERVAL_S
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    unknown = "It is not known which messages the broker puts aside: The API is away."
    assert told == ["a", "b", "a", unknown]


def test_it_reads_no_queue() -> None:
    assert Schlockmeister.queue is None
    assert isinstance(MemoryTransport().inspector(), MemoryInspector)
