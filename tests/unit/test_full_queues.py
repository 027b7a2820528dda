"""A full queue holds up its own messages only, and is told once for each change."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pika
import pytest

from zwrap.configuration.site import Configuration
from zwrap.errors import QueueFullError
from zwrap.message.content import Outgoing
from zwrap.recipe.envelope import Envelope
from zwrap.service.contract import Service
from zwrap.service.faults import Faults
from zwrap.service.settling import handle_deliveries
from zwrap.transport.contract import Delivery
from zwrap.transport.failures import RefusedError
from zwrap.transport.rabbitmq.refusals import LAST_S, WAIT_S
from zwrap.transport.spool import directory, publishing
from zwrap.transport.spool.parallel import do_all
from zwrap.transport.spool.transport import SpoolTransport

from .clock import ManualClock
from .test_publisher import Timers, messages, publisher


class Forwarding(Service):
    """Passes each message on to the queue that it names."""

    queue = "in"
    plain_messages = True
    prefetch = 100

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        del envelope
        with self.transport.unit(delivery) as unit:
            unit.send(Outgoing(str(delivery.message.body), 1))


def work(service: Service, transport: SpoolTransport) -> None:
    """Handle what waits."""
    while delivery := transport.receive(0):
        handle_deliveries(service, [delivery], lambda _: None)


def take_one(transport: SpoolTransport, name: str) -> None:
    queue = transport.queue(name)
    claimed = queue.claim()
    assert claimed
    queue.ack(claimed)


@pytest.fixture
def spool(tmp_path: Path) -> Any:
    transport = SpoolTransport(tmp_path / "spool", durable=False, limit=1)
    yield transport
    transport.close()


def test_forty_full_queues_of_the_spool_hold_up_no_message_to_another(
    spool: SpoolTransport, tmp_path: Path
) -> None:
    sender = SpoolTransport(tmp_path / "spool", durable=False)
    for number in range(40):
        sender.send(f"full{number}", 1)
        sender.send("in", f"full{number}")
    sender.send("in", "open")
    service = Forwarding(Configuration(), spool)
    spool.subscribe("in", service.prefetch)
    began = time.monotonic()
    work(service, spool)
    assert time.monotonic() - began < 5
    assert spool.queue("open").waiting() == 1
    assert spool.queue("in").waiting() == 40, "they come again"
    sender.close()


def test_a_full_queue_is_told_once_until_nobody_waits_for_it(
    spool: SpoolTransport, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its receiver takes one message at a time, so that it is full again soon."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("zwrap.service.settling.RETRY_FIRST_S", 0.0)
    monkeypatch.setattr("zwrap.service.settling.RETRY_LAST_S", 0.0)
    inside = SpoolTransport(spool.root, durable=False)
    inside.send("full", 1)
    for _ in range(5):
        inside.send("in", "full")
    service = Forwarding(Configuration(), spool)
    spool.subscribe("in", service.prefetch)
    for _ in range(5):
        for _ in range(20):
            if delivery := spool.receive(0):
                handle_deliveries(service, [delivery], lambda _: None)
        assert caplog.text.count("holds its limit of 1 messages") == 1
        assert "is over, after" not in caplog.text
        take_one(inside, "full")
    work(service, spool)
    assert caplog.text.count("is over, after") == 1
    inside.close()


def test_a_unit_with_a_full_queue_sends_no_message(spool: SpoolTransport) -> None:
    """It comes again, and what was sent would be sent again with it."""
    spool.wait_for_room(0.0)
    spool.send("full", 1)
    with pytest.raises(QueueFullError, match="takes no more for now"):
        spool.commit([Outgoing("open", 1), Outgoing("full", 1)])
    assert spool.queue("open").waiting() == 0


def test_a_command_waits_for_room_for_a_limited_time_in_all(tmp_path: Path) -> None:
    spool = SpoolTransport(tmp_path / "spool", durable=False, limit=1, limit_wait_s=0.5)
    for number in range(5):
        spool.send(f"full{number}", 1)
    began = time.monotonic()
    for number in range(5):
        with pytest.raises(QueueFullError):
            spool.send(f"full{number}", 1)
    waited_s = time.monotonic() - began
    assert 0.4 < waited_s < 1.5, "and not 2.5 s"
    spool.close()


# -- RabbitMQ --------------------------------------------------------------------------------------


def refuse(connection: Any, full: str = "full") -> None:
    """Answer for all that was published: queues with a name that begins so are full."""
    channel = connection.channels[-1]
    while channel.served < len(channel.published):
        channel.served += 1
        is_full = channel.published[channel.served - 1].startswith(full)
        channel.confirm(channel.served, pika.spec.Basic.Nack if is_full else pika.spec.Basic.Ack)


def test_a_service_is_told_of_a_full_queue_without_a_wait() -> None:
    made, connection = publisher(Timers())
    made.refusals.wait_s = 0.0
    works = [messages(f"full{number}") for number in range(40)]
    for each in works:
        made.take(each)
    refuse(connection)
    assert all(isinstance(each.failure, RefusedError) for each in works)
    assert {each.failure.retry_after_s for each in works if each.failure} == {1.0}  # type: ignore[attr-defined]


def test_forty_full_queues_cost_a_command_one_wait() -> None:
    timers = Timers()
    made, connection = publisher(timers)
    for number in range(40):
        each = messages(f"full{number}")
        made.take(each)
        while not each.done:
            refuse(connection)
            timers.advance(0.5)
    assert timers.now < WAIT_S + 40 * 0.5 + 1


def test_a_queue_that_has_just_begun_to_refuse_is_tried_again_soon() -> None:
    """It elects a leader, say, and many messages to it are refused meanwhile."""
    timers = Timers()
    made, connection = publisher(timers)
    made.refusals.wait_s = 0.0
    pauses = []
    for _ in range(30):
        each = messages("full")
        made.take(each)
        refuse(connection)
        assert isinstance(each.failure, RefusedError)
        pauses.append(each.failure.retry_after_s)
    assert max(pauses) <= 2.0
    timers.advance(600)
    each = messages("full")
    made.take(each)
    refuse(connection)
    assert isinstance(each.failure, RefusedError)
    assert each.failure.retry_after_s == LAST_S


# -- what is told ----------------------------------------------------------------------------------


def test_messages_to_a_full_queue_pause_no_service_and_are_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    clock = ManualClock()
    faults = Faults(clock)
    for number in range(100):
        faults.held_up(f"m{number % 10}", QueueFullError("Queue x is full."), "S")
        faults.went_well(f"other{number}", "S")
        clock.now += 1
    assert faults.pause_s() == 0.0
    assert caplog.text.count("Queue x is full") == 1
    for number in range(10):
        assert "is over, after" not in caplog.text
        faults.went_well(f"m{number}", "S")
    assert caplog.text.count("is over, after") == 1


@pytest.mark.parametrize("room", [0, 1, 2])
def test_each_message_is_written_once_on_a_host_without_room_for_another_thread(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many queues, and many messages, are written by threads, or by those that can be started."""
    start, left = threading._start_new_thread, [room]  # type: ignore[attr-defined]

    def full(*given: Any) -> Any:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        return start(*given)

    spool = SpoolTransport(tmp_path / "spool")
    publishing._threads.cache_clear()
    directory._syncing.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr("threading._start_new_thread", full)
        spool.commit([Outgoing(f"q{n}", n) for n in range(10)])
        left[0] = room
        spool.commit([Outgoing("one", n) for n in range(10)])
    waiting = spool.inspector().queues()
    assert waiting == {"one": 10, **{f"q{n}": 1 for n in range(10)}}
    spool.commit([Outgoing(f"q{n}", n) for n in range(10)])  # on threads that can be started now
    assert spool.inspector().queues() == {"one": 10, **{f"q{n}": 2 for n in range(10)}}
    publishing._threads.cache_clear()
    directory._syncing.cache_clear()
    spool.close()


def test_what_is_written_in_parallel_has_ended_when_its_failure_is_told() -> None:
    done: list[int] = []

    def task(number: int) -> None:
        if number in (3, 5):
            raise OSError(number, "failed")
        time.sleep(0.01)
        done.append(number)

    with ThreadPoolExecutor(4) as threads:
        with pytest.raises(OSError, match="3") as caught:
            do_all([partial(task, number) for number in range(20)], threads, 4)
        assert caught.value.errno == 3, "the first of them"
        assert sorted(done) == [number for number in range(20) if number not in (3, 5)]
