"""Rules of services that gather messages, and of what consumers do with theirs."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.service.jsonlines import BATCH_SIZE, BATCH_WAIT_S, JSONLines, append
from zwrap.service.loop import handle_delivery
from zwrap.transport.contract import Delivery
from zwrap.transport.memory import MemoryTransport
from zwrap.workers.consumers import settings
from zwrap.workers.consumers.proxy import again_later
from zwrap.workers.functions import SkipMessage, Worker
from zwrap.workers.service import BatchService

from .clock import ManualClock
from .noting import Noting


class Batches:
    """A worker of batches of three, and the messages that wait for it."""

    def __init__(self, act: Callable[[list[Any]], object] = lambda messages: None) -> None:
        self.clock = ManualClock()
        self.transport = MemoryTransport()
        self.transport.subscribe("in", 10)
        self.calls: list[list[Any]] = []

        def function(messages: list[Any]) -> None:
            self.calls.append(messages)
            act(messages)

        worker = Worker(queue="in", function=function, batch=3, batch_wait_s=0.5, time_limit_s=None)
        self.service = BatchService(Configuration(), self.transport, worker, self.clock)

    def handle(self, *bodies: Any) -> list[Delivery]:
        deliveries = []
        for body in bodies:
            self.transport.send("in", body)
            delivery = self.transport.receive(5)
            assert delivery
            handle_delivery(self.service, delivery)
            deliveries.append(delivery)
        return deliveries


def test_a_batch_is_handled_when_it_is_full() -> None:
    batches = Batches()
    deliveries = batches.handle(1, 2, 3, 4)
    assert batches.calls == [[1, 2, 3]]
    assert [each.settled for each in deliveries] == [True, True, True, False]
    batches.service.close()
    assert batches.calls == [[1, 2, 3], [4]]
    assert deliveries[3].settled


def test_a_batch_is_handled_when_it_has_waited_long_enough() -> None:
    batches = Batches()
    batches.handle(1)
    assert batches.service.poll_s() == 0.5
    batches.clock.move(0.4)
    batches.service.idle()
    assert batches.calls == []
    batches.clock.move(0.2)
    batches.service.idle()
    assert batches.calls == [[1]]
    assert batches.service.poll_s() == 1.0, "nothing is due"


def test_of_a_batch_that_fails_each_message_is_handled_alone() -> None:
    def act(messages: list[Any]) -> None:
        if -1 in messages:
            raise ValueError("below zero")

    batches = Batches(act)
    deliveries = batches.handle(1, -1, 3)
    assert batches.calls == [[1, -1, 3], [1], [-1], [3]]
    assert all(each.settled for each in deliveries)
    [left] = batches.transport.broker.queues["in"]
    assert left.message.body == -1


def test_messages_that_are_skipped_are_done_with() -> None:
    def act(messages: list[Any]) -> None:
        raise SkipMessage

    [delivery] = Batches(act).handle(1)
    assert not delivery.settled, "the batch is not full"
    deliveries = Batches(act).handle(1, 2, 3)
    assert all(each.settled for each in deliveries)


@pytest.mark.parametrize(("time_limit_s", "grace_s"), [(None, 60.0), (100.0, 365.0)])
def test_a_worker_ends_within_its_grace_with_and_without_a_time_limit(
    time_limit_s: float | None, grace_s: float
) -> None:
    def function(messages: list[Any]) -> None:
        del messages

    worker = Worker(queue="in", function=function, batch=3, time_limit_s=time_limit_s)
    service = BatchService(Configuration(), MemoryTransport(), worker)
    assert service.stop_grace_s() == grace_s


def test_lines_are_written_when_there_are_enough_or_when_they_are_old(tmp_path: Path) -> None:
    clock, transport = ManualClock(), MemoryTransport()
    service = JSONLines(Configuration(), transport, clock)
    transport.subscribe("jsonlines", 1000)
    file = tmp_path / "lines"
    step = {"queue": "jsonlines", "parameters": {"output_filename": str(file)}}
    recipe = Recipe({"start": [[1, []]], "1": step})

    def handle(count: int) -> None:
        for _ in range(count):
            transport.commit(Envelope(recipe, 1).delivered())
            delivery = transport.receive(5)
            assert delivery
            handle_delivery(service, delivery)

    handle(BATCH_SIZE - 1)
    assert not file.exists()
    handle(1)
    assert len(file.read_text().splitlines()) == BATCH_SIZE
    handle(1)
    clock.move(BATCH_WAIT_S)
    handle(1)
    assert len(file.read_text().splitlines()) == BATCH_SIZE + 2


def test_of_lines_that_cannot_all_be_written_none_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "lines"
    append(file, [b"first"])

    def disk_full(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("zwrap.service.jsonlines.write_all", disk_full)
    with pytest.raises(OSError, match="No space left"):
        append(file, [b"second"])
    assert file.read_bytes() == b"first"


@pytest.mark.parametrize(
    ("parameters", "line"),
    [
        ({}, {"a": 1, "b": 2, "c": 3}),
        ({"include": ["a", "b"]}, {"a": 1, "b": 2}),
        ({"exclude": ["a"]}, {"b": 2, "c": 3}),
        ({"include": ["a", "b"], "exclude": ["b", "d"]}, {"a": 1}),
    ],
)
def test_a_line_holds_the_keys_that_are_asked_for(
    tmp_path: Path, parameters: dict[str, Any], line: dict[str, Any]
) -> None:
    transport = MemoryTransport()
    service = JSONLines(Configuration(), transport)
    transport.subscribe("jsonlines")
    file = tmp_path / "lines"
    given = {"output_filename": str(file), **parameters}
    recipe = Recipe({"start": [[1, []]], "1": {"queue": "jsonlines", "parameters": given}})
    transport.commit(Envelope(recipe, 1, payload={"a": 1, "b": 2, "c": 3}).delivered())
    delivery = transport.receive(5)
    assert delivery
    handle_delivery(service, delivery)
    service.close()
    assert json.loads(file.read_text()) == line


def test_a_consumer_that_gives_a_message_back_gets_it_at_first_without_delay() -> None:
    transport = Noting()
    for count in range(1, 9):
        again_later(transport.handed_out(count))
    assert [each.delay_s for each in transport.settlements] == [0, 1, 2, 4, 8, 16, 32, 60]


def test_each_fault_of_a_file_of_consumers_is_named() -> None:
    read = settings.read(
        {
            "startup_handler": 5,
            "queues": [{"queue": "a", "x_message_ttl": 0, "x_max_priority": 3, "durable": None}, 7],
            "consumers": [{"consumer": "nowhere", "queue": "a", "more": 1}, {"queue": "a"}, 7],
        }
    )
    assert read.queues["a"].arguments == {"x-max-priority": 3}
    assert read.queues["a"].durable is True
    [remark] = read.remarks
    assert remark.startswith("[nowhere] key 'more' means nothing here; known: consumer, queue, ")
    with pytest.raises(ConfigurationError) as caught:
        settings.checked(read, "config.yml")
    text = str(caught.value)
    assert text.startswith("config.yml cannot be used: startup_handler: a text module:function")
    for part in (
        "[queues, entry 2] A mapping with the key 'queue' is expected.",
        "[a] Object missing required field `consumer`",
        "[consumers, entry 3] Expected `object`, got `int`",
        "[nowhere] is not a valid name; module:object is expected",
    ):
        assert part in text


def test_what_a_file_of_consumers_names_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site_consumers.py").write_text(
        "def prepare(): return 'prepared'\n"
        "class Consumer:\n"
        "    def consume(self, amqp, msg): ...\n"
        "    def shutdown(self, exception=None): ...\n"
        "class Deaf:\n"
        "    def shutdown(self, exception=None): ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    good = {"consumer": "site_consumers:Consumer", "queue": "a", "prefetch_count": None}
    document = {"startup_handler": "site_consumers:prepare", "consumers": [good, good]}
    loaded = settings.checked(settings.read(document), "config.yml")
    assert list(loaded) == ["site_consumers:prepare", "site_consumers:Consumer"]
    assert loaded["site_consumers:prepare"]() == "prepared"
    deaf = {"consumers": [{**good, "consumer": "site_consumers:Deaf"}]}
    with pytest.raises(ConfigurationError, match="it has no consume"):
        settings.checked(settings.read(deaf), "config.yml")
