"""Rules of services written for python-workflows that run in zwrap's loop."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.cli import service as command
from zwrap.cli.common import set_up_logging
from zwrap.compat.workflows import Disconnected, Error
from zwrap.compat.workflows.hosting import HostedService, hosted, is_common_service
from zwrap.compat.workflows.recipe import wrap_subscribe, wrap_subscribe_broadcast
from zwrap.compat.workflows.services.common_service import CommonService
from zwrap.configuration.site import Configuration
from zwrap.errors import OutageError, PermanentError, SettledError, TransportError
from zwrap.message.content import (
    ID_HEADER,
    ORIGIN_HEADER,
    RECIPE_HEADER,
    SIGNATURE_HEADER,
    STATUS_TOPIC,
)
from zwrap.message.identity import child_id
from zwrap.plugins import registry
from zwrap.service import loop
from zwrap.service.loop import Loop
from zwrap.service.status import ServiceStatus
from zwrap.transport.memory import MemoryBroker, MemoryTransport

from .clock import ManualClock

RECIPE = {"1": {"queue": "in", "output": {"made": 2}}, "2": {"queue": "out"}, "start": [[1, []]]}


def envelope(payload: object = None) -> dict[str, Any]:
    return {
        "recipe": RECIPE,
        "recipe-pointer": 1,
        "recipe-path": [],
        "environment": {"ID": "guid"},
        "payload": payload,
    }


class Place:
    """A broker, and services of python-workflows that run once on what waits."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.broker = MemoryBroker(self.clock)
        self.sender = MemoryTransport(self.broker)
        self.service: HostedService | None = None

    def ask(self, payload: object = None, **headers: Any) -> None:
        self.sender.send("in", envelope(payload), {RECIPE_HEADER: True, **headers})

    def host(self, kind: type) -> HostedService:
        transport = MemoryTransport(self.broker)
        self.service = hosted(kind)(Configuration(), transport)
        return self.service

    def run(self, kind: type, times: int = 1) -> None:
        for _ in range(times):
            hosting = self.host(kind)
            Loop(hosting, hosting.transport, once=True).run()
            hosting.transport.close()
            self.clock.move(100)

    def bodies(self, queue: str) -> list[Any]:
        return [entry.message.body for entry in self.broker.queues.get(queue, [])]

    def ids(self, queue: str) -> list[str]:
        return [entry.message.id for entry in self.broker.queues.get(queue, [])]

    def counts(self, queue: str) -> list[int]:
        return [entry.delivery_count for entry in self.broker.queues.get(queue, [])]

    def reasons(self, queue: str) -> list[str]:
        return [letter.reason for letter in self.broker.dead_letters.get(queue, [])]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(loop, "ONCE_WAIT_S", 0.0)
    return Place()


class Maker(CommonService):
    """Sends what it made and acknowledges the request, in one transaction."""

    _service_name = "Maker of things"
    _logger_name = "site.maker"
    seen: list[Any]

    def initializing(self) -> None:
        type(self).seen = getattr(type(self), "seen", [])
        wrap_subscribe(
            self._transport, "in", self.make, acknowledgement=True, log_extender=self.extend_log
        )

    def make(self, rw: Any, header: dict[str, Any], message: Any) -> None:
        self.seen.append(message)
        transaction = rw.transport.transaction_begin(subscription_id=header["subscription"])
        rw.transport.ack(header, transaction=transaction)
        rw.send_to("made", {"of": message}, transaction=transaction)
        self.check(message)
        rw.transport.transaction_commit(transaction)

    def check(self, message: Any) -> None:
        if message == "bad":
            raise ValueError("no such thing")


def fresh(kind: type, **names: Any) -> Any:
    """Return a subclass that has seen no message."""
    return type(kind.__name__, (kind,), {"seen": [], **names})


# -- messages and transactions -----------------------------------------------------------------


def test_a_transaction_sends_and_acknowledges(place: Place) -> None:
    place.ask("one", **{ID_HEADER: "request"})
    place.run(fresh(Maker))
    assert [body["payload"] for body in place.bodies("out")] == [{"of": "one"}]
    assert place.bodies("out")[0]["recipe-path"] == [1]
    assert place.bodies("in") == []
    [entry] = place.broker.queues["out"]
    assert entry.message.id == child_id("request", 0)
    assert SIGNATURE_HEADER in entry.message.headers, "as of zwrap's own services"


def test_a_fault_stays_with_its_message_and_sends_none_of_its_transaction(place: Place) -> None:
    for each in ("one", "bad", "two"):
        place.ask(each)
    kind = fresh(Maker)
    place.run(kind, times=6)
    assert [body["payload"]["of"] for body in place.bodies("out")] == ["one", "two"]
    assert kind.seen == ["one", "bad", "two", *["bad"] * 4]
    [reason] = place.reasons("in")
    assert "tried 5 times. ValueError: no such thing" in reason
    assert "service Maker" in reason
    assert "recipe guid, route 1" in reason


def test_a_repeat_sends_the_same_ids(place: Place) -> None:
    def make(self: Any, rw: Any, header: dict[str, Any], message: Any) -> None:
        rw.send_to("made", len(self.seen))
        self.seen.append(message)
        if len(self.seen) < 3:
            raise ValueError("later")
        rw.transport.ack(header)

    place.ask("one")
    place.run(fresh(Maker, make=make), times=3)
    assert [body["payload"] for body in place.bodies("out")] == [0, 1, 2]
    assert len(set(place.ids("out"))) == 1
    assert place.bodies("in") == []


@pytest.mark.parametrize(("requeue", "tries"), [(True, 5), (False, 1)])
def test_a_rejected_message_becomes_a_dead_letter(place: Place, requeue: bool, tries: int) -> None:
    def make(self: Any, rw: Any, header: dict[str, Any], message: Any) -> None:
        self.seen.append(message)
        rw.transport.nack(header, **({} if requeue else {"requeue": False}))

    kind = fresh(Maker, make=make)
    place.ask("one")
    place.run(kind, times=6)
    assert kind.seen == ["one"] * tries
    [reason] = place.reasons("in")
    assert "The handler of the message rejected it" in reason


def test_a_rejection_in_a_transaction_is_part_of_it(place: Place) -> None:
    def make(self: Any, rw: Any, header: dict[str, Any], message: Any) -> None:
        for end in (rw.transport.transaction_abort, rw.transport.transaction_commit):
            transaction = rw.transport.transaction_begin()
            rw.transport.nack(header, transaction=transaction, requeue=False)
            rw.send_to("made", end.__name__, transaction=transaction)
            end(transaction)

    place.ask("one")
    place.run(fresh(Maker, make=make))
    assert [body["payload"] for body in place.bodies("out")] == ["transaction_commit"]
    assert len(place.reasons("in")) == 1


def test_a_message_without_an_answer_stays_in_hand_and_is_given_back_uncounted(
    place: Place,
) -> None:
    kind = fresh(Maker, make=lambda self, rw, header, message: self.seen.append(message))
    place.ask("one")
    place.ask("two")
    place.run(kind, times=7)
    assert kind.seen == ["one"] * 7, "one at a time is in hand"
    assert place.counts("in") == [1, 1]
    assert place.reasons("in") == []


class Batch(CommonService):
    """Holds messages, and settles all of them in one transaction when none comes."""

    limit = 3

    def initializing(self) -> None:
        self.held: list[dict[str, Any]] = []
        self.number = self.transport.subscribe(
            "in", self.hold, acknowledgement=True, prefetch_count=self.limit
        )
        self._register_idle(10, self.flush)

    def hold(self, header: dict[str, Any], message: Any) -> None:
        self.held.append(header)

    def flush(self) -> None:
        transaction = self.transport.transaction_begin()
        for header in self.held:
            self.transport.ack(header["message-id"], self.number, transaction=transaction)
        self.transport.send("out", len(self.held), transaction=transaction)
        self.held = []
        self.transport.transaction_commit(transaction)


def turns(place: Place, hosting: HostedService, number: int) -> None:
    """Let the loop of a service turn, without its end."""
    running = Loop(hosting, hosting.transport)
    hosting.begin()
    for _ in range(number):
        running._turn()


def test_a_batch_is_one_unit(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        place.sender.send("in", number, {ID_HEADER: f"message {number}"})
    hosting = place.host(Batch)
    hosting._clock = place.clock
    monkeypatch.setattr(hosting, "poll_s", lambda: 0.0)
    turns(place, hosting, 4)
    assert (place.bodies("in"), place.bodies("out")) == ([], [])
    place.clock.move(11)
    Loop(hosting, hosting.transport)._turn()
    assert place.bodies("out") == [3]
    parents = "message 0,message 1,message 2"
    assert place.ids("out") == [child_id(child_id(parents, "transaction"), 0)]
    hosting.close()
    hosting.transport.close()
    assert place.bodies("in") == []


@pytest.mark.parametrize("requeue", [True, False])
def test_a_message_that_is_rejected_later_is_settled_then(
    place: Place, monkeypatch: pytest.MonkeyPatch, requeue: bool
) -> None:
    def flush(self: Any) -> None:
        for header in self.held:
            self.transport.nack(header, requeue=requeue)

    place.sender.send("in", 1)
    hosting = place.host(type("Batch", (Batch,), {"flush": flush}))
    hosting._clock = place.clock
    monkeypatch.setattr(hosting, "poll_s", lambda: 0.0)
    turns(place, hosting, 1)
    assert place.counts("in") == []
    place.clock.move(11)
    Loop(hosting, hosting.transport)._turn()
    assert place.counts("in") == ([2] if requeue else [])
    assert len(place.reasons("in")) == (0 if requeue else 1)
    hosting.transport.close()


def test_a_batch_that_cannot_be_sent_is_given_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flush(self: Any) -> None:
        transaction = self.transport.transaction_begin()
        for header in self.held:
            self.transport.ack(header, transaction=transaction)
        self.transport.send("out", "x" * 1000, transaction=transaction)
        self.transport.transaction_commit(transaction)

    place.broker.largest_bytes = 500
    place.sender.send("in", 1)
    hosting = place.host(type("Batch", (Batch,), {"flush": flush}))
    hosting._clock = place.clock
    monkeypatch.setattr(hosting, "poll_s", lambda: 0.0)
    turns(place, hosting, 1)
    place.clock.move(11)
    Loop(hosting, hosting.transport)._turn()
    [reason] = place.reasons("in")
    assert "the memory broker takes 500" in reason
    hosting.transport.close()


class Together(CommonService):
    """Settles in one transaction what it holds, which it forgets only after it went well."""

    size = 100
    starts = 0

    def initializing(self) -> None:
        type(self).starts += 1
        self.held: list[tuple[dict[str, Any], Any]] = []
        self.transport.subscribe("in", self.hold, acknowledgement=True, prefetch_count=3)
        if self.size == 100:
            self._register_idle(10, self.flush)

    def hold(self, header: dict[str, Any], message: Any) -> None:
        self.held.append((header, message))
        if len(self.held) >= self.size:
            self.flush()

    def flush(self) -> None:
        if not self.held:
            return
        transaction = self.transport.transaction_begin()
        for header, message in self.held:
            self.transport.ack(header, transaction=transaction)
            self.transport.send("out", self.made(message), transaction=transaction)
        self.transport.transaction_commit(transaction)
        self.held = []

    def made(self, message: Any) -> Any:
        if message == "bad":
            raise ValueError("no such thing")
        return "x" * 1000 if message == "large" else message


@pytest.fixture
def started(place: Place, monkeypatch: pytest.MonkeyPatch) -> Callable[[type], HostedService]:
    """Return a function that starts a service whose times are those of the clock."""

    def start(kind: type) -> HostedService:
        transport = MemoryTransport(place.broker)
        hosting = HostedService(Configuration(), transport, kind, place.clock)
        monkeypatch.setattr(hosting, "poll_s", lambda: 0.0)
        hosting.begin()
        return hosting

    return start


def pass_time(place: Place, hosting: HostedService, turns: int = 80, step_s: float = 6) -> None:
    """Let the loop turn, and time pass between its turns."""
    running = Loop(hosting, hosting.transport)
    for _ in range(turns):
        running._turn()
        place.clock.move(step_s)


@pytest.mark.parametrize(
    ("bad", "tries", "why"),
    [("bad", 5, "ValueError: no such thing"), ("large", 2, "the memory broker takes 500")],
)
def test_a_bad_message_of_a_batch_becomes_a_dead_letter_alone(
    place: Place, started: Callable[[type], HostedService], bad: str, tries: int, why: str
) -> None:
    place.broker.largest_bytes = 500
    for each in ("one", bad, "two", "three", "four"):
        place.sender.send("in", each)
    hosting = started(fresh(Together))
    pass_time(place, hosting)
    assert sorted(place.bodies("out")) == ["four", "one", "three", "two"]
    [letter] = place.broker.dead_letters["in"]
    assert letter.message.body == bad
    assert why in letter.reason
    assert f"attempt {tries}," in letter.reason
    assert place.counts("in") == []
    assert hosting._bridge.in_hand() == []
    assert hosting._bridge._open == {}


def test_a_callback_that_fails_gives_all_messages_of_its_transaction_back(
    place: Place, started: Callable[[type], HostedService]
) -> None:
    for each in ("one", "bad", "two"):
        place.sender.send("in", each)
    kind = fresh(Together, size=3)
    hosting = started(kind)
    pass_time(place, hosting, turns=3, step_s=0)
    assert place.counts("in") == [2, 2, 2]
    assert hosting._bridge._open == {}
    assert kind.starts == 2, "the class may remember what it no longer has in hand"


def test_a_permanent_error_is_not_that_of_each_message_of_a_batch(
    place: Place, started: Callable[[type], HostedService]
) -> None:
    def made(self: Any, message: Any) -> Any:
        if message == "bad":
            raise PermanentError("no such thing")

    for each in ("bad", "one"):
        place.sender.send("in", each)
    hosting = started(fresh(Together, size=2, made=made))
    pass_time(place, hosting, turns=2, step_s=0)
    assert place.counts("in") == [2, 2]
    assert place.reasons("in") == []


def test_a_class_that_cannot_be_made_anew_ends_its_service(
    place: Place, started: Callable[[type], HostedService]
) -> None:
    class Once(Together):
        def initializing(self) -> None:
            if self.starts:
                raise ValueError("only once")
            super().initializing()

    for each in ("one", "bad"):
        place.sender.send("in", each)
    hosting = started(Once)
    pass_time(place, hosting, turns=4)
    assert hosting.ended


def test_broadcasts_and_beginnings_that_fail_leave_no_transaction_open(
    place: Place, started: Callable[[type], HostedService]
) -> None:
    class Hearing(CommonService):
        def initializing(self) -> None:
            self.transport.subscribe_broadcast("news", self.heard)

        def heard(self, header: Any, message: Any) -> None:
            self.transport.transaction_begin()
            raise ValueError(message)

    hosting = started(Hearing)
    place.sender.broadcast("news", "new")
    pass_time(place, hosting, turns=2)
    assert hosting._bridge._open == {}


def test_an_idle_callback_that_fails_beside_messages_in_hand_is_told_again_and_again(
    place: Place, started: Callable[[type], HostedService], caplog: pytest.LogCaptureFixture
) -> None:
    def flush(self: Any) -> None:
        raise ValueError("no such thing")

    place.sender.send("in", "one")
    hosting = started(fresh(Together, flush=flush))
    pass_time(place, hosting, turns=100, step_s=11)
    told = [each for each in caplog.messages if "failed while 1 messages are in hand" in each]
    assert 4 <= len(told) <= 8, "with back-off"


def test_what_follows_from_different_batches_is_different(
    place: Place, started: Callable[[type], HostedService]
) -> None:
    made: list[Any] = []
    for batch in ("AB", "AC", "AB"):
        for each in batch:
            place.sender.send("in", each, {ID_HEADER: each})
        hosting = started(fresh(Together))
        pass_time(place, hosting, turns=6)
        made.append([(each.message.id, each.message.headers[ORIGIN_HEADER])
                     for each in place.broker.queues.pop("out")])  # fmt: skip
        hosting.close()
        hosting.transport.close()
    first, other, repeat = made
    assert first == repeat
    assert not {name for name, _ in first} & {name for name, _ in other}
    assert not {origin for _, origin in first} & {origin for _, origin in other}


def test_messages_that_wait_to_be_alone_are_given_back_at_the_end(
    place: Place, started: Callable[[type], HostedService]
) -> None:
    for each in ("one", "two", "bad"):
        place.sender.send("in", each)
    hosting = started(fresh(Together))
    pass_time(place, hosting, turns=6, step_s=3.5)
    assert (place.counts("in"), hosting._bridge.in_hand()) == ([2, 2, 2], [])
    place.clock.move(5)
    pass_time(place, hosting, turns=3, step_s=0)
    assert len(hosting._bridge.in_hand()) == 1
    assert len(hosting._isolation.waiting) == 2
    hosting.close()
    assert place.counts("in") == [2, 2, 2]


@pytest.mark.parametrize("size", [1, 2])
def test_a_trace_goes_on_behind_a_service(
    place: Place, started: Callable[[type], HostedService], size: int
) -> None:
    for each in "AB":
        place.sender.send("in", each, {"traceparent": "00-abc"})
    pass_time(place, started(fresh(Together, size=size)), turns=3)
    traces = [each.message.headers["traceparent"] for each in place.broker.queues["out"]]
    assert traces == ["00-abc"] * 2


def test_a_recipe_message_reaches_no_queue_of_zwraps_own(place: Place) -> None:
    class Filling(CommonService):
        def initializing(self) -> None:
            wrap_subscribe(self.transport, "in", self.fill, acknowledgement=True)

        def fill(self, rw: Any, header: Any, message: Any) -> None:
            rw.apply_parameters(message)
            rw.send_to("made", "forged")
            rw.transport.ack(header)

    for node in ({"queue": "{q}"}, {"topic": "{q}"}, {"queue": "out", "exchange": "{q}"}):
        body = envelope({"q": "zwrap.verdict" if "queue" in node else "command"})
        body["recipe"] = {**RECIPE, "2": node}
        place.sender.send("in", body, {RECIPE_HEADER: True})
    place.run(Filling)
    assert len(place.reasons("in")) == 3
    assert all("is zwrap's own and no target for a recipe" in each for each in place.reasons("in"))
    assert not place.broker.queues.get("zwrap.verdict")


def test_the_end_gives_back_what_is_left_when_another_thread_settles_a_message(
    place: Place, started: Callable[[type], HostedService], monkeypatch: pytest.MonkeyPatch
) -> None:
    def settled(counted: bool) -> None:
        raise SettledError("It was settled.")

    for each in ("one", "two"):
        place.sender.send("in", each)
    hosting = started(fresh(Together))
    pass_time(place, hosting, turns=2, step_s=0)
    monkeypatch.setattr(hosting._bridge.in_hand()[0], "retry", settled)
    hosting.close()
    assert place.counts("in") == [1]


def test_without_acknowledgement_a_message_is_removed_after_its_callback(place: Place) -> None:
    class Plain(CommonService):
        tries: list[Any] = []  # noqa: RUF012

        def initializing(self) -> None:
            self.transport.subscribe("in", self.take)

        def take(self, header: dict[str, Any], message: Any) -> None:
            self.tries.append((message, header["redelivered"]))
            if len(self.tries) == 1:
                raise KeyError("first")

    place.sender.send("in", "plain")
    place.run(Plain, times=3)
    assert Plain.tries == [("plain", False), ("plain", True)]
    assert place.bodies("in") == []


def test_a_recipe_message_that_cannot_be_read_never_reaches_the_class(place: Place) -> None:
    kind = fresh(Maker)
    place.sender.send("in", {"recipe": RECIPE, "recipe-pointer": 7}, {RECIPE_HEADER: True})
    closed = {"1": {"queue": "in"}, "start": [[1, []]], "2": {"queue": "zwrap.verdict"}}
    place.sender.send("in", {**envelope(), "recipe": closed}, {RECIPE_HEADER: True})
    place.run(kind)
    assert kind.seen == []
    first, second = place.reasons("in")
    assert "names node 7, which does not exist" in first
    assert "zwrap's own and no target for a recipe" in second


def test_a_plain_message_for_a_subscription_to_recipe_messages_is_rejected(place: Place) -> None:
    kind = fresh(Maker)
    place.sender.send("in", "plain")
    place.run(kind, times=5)
    assert kind.seen == []
    assert len(place.reasons("in")) == 1


# -- headers and contents ------------------------------------------------------------------------


def test_a_header_that_is_passed_on_gives_no_identity_away(place: Place) -> None:
    def make(self: Any, rw: Any, header: dict[str, Any], message: Any) -> None:
        self.seen.append(header)
        rw.transport.send("plain", 1, headers=header)
        rw.transport.ack(header)

    kind = fresh(Maker, make=make)
    place.ask("one", **{ID_HEADER: "request", "zwrap-attempt": 3, "tag": "mine"})
    place.run(kind)
    [header] = kind.seen
    assert header["message-id"] == "request"
    assert (header["destination"], header["tag"]) == ("in", "mine")
    assert not {ID_HEADER, "zwrap-attempt"} & set(header)
    [entry] = place.broker.queues["plain"]
    own = {name for name in entry.message.headers if not name.startswith("zwrap-")}
    assert own == {"tag", RECIPE_HEADER}
    assert entry.message.id == child_id("request", 0)
    assert "zwrap-attempt" not in entry.message.headers


def test_contents_can_be_made_and_read_by_functions_of_the_class(place: Place) -> None:
    contents: list[Any] = []

    class Raw(CommonService):
        def initializing(self) -> None:
            wrap_subscribe(self.transport, "in", self.take, mangle_for_receiving=self.read)

        def read(self, content: bytes) -> Any:
            contents.append(content)
            return {**envelope(), "payload": "read"}

        def take(self, rw: Any, header: dict[str, Any], message: Any) -> None:
            rw.send_to("made", message, mangle_for_sending=lambda made: '["made"]')
            rw.transport.raw_send("out", b'{"raw": true}')
            rw.transport.raw_send("out", "no JSON")

    place.ask("one")
    hosting = place.host(Raw)
    hosting.begin()
    delivery = hosting.transport.receive(0.0)
    assert delivery
    with pytest.raises(Error, match="send JSON only"):
        hosting.handle(delivery, None)
    assert place.bodies("out") == [["made"], {"raw": True}]
    assert isinstance(contents[0], bytes)


def test_messages_wait_and_expire_as_the_class_says(place: Place) -> None:
    def make(self: Any, rw: Any, header: dict[str, Any], message: Any) -> None:
        rw.send_to("made", "delayed", delay=60)
        rw.transport.send("out", "short", expiration=5)
        rw.checkpoint("again", delay=30)
        rw.transport.ack(header)

    place.ask("one")
    hosting = place.host(fresh(Maker, make=make))
    now = place.clock()
    Loop(hosting, hosting.transport, once=True).run()
    assert [(e.not_before - now, e.expires - now) for e in place.broker.queues["out"]] == [
        (60, float("inf")),
        (0, 5),
    ]
    [again] = place.broker.queues["in"]
    assert (again.message.body["payload"], again.not_before - now) == ("again", 30)  # type: ignore[index, call-overload]


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda t, h: t.ack("nobody", 1), "Message nobody is not in hand"),
        (lambda t, h: t.ack(h, multiple=True), "do not carry out option 'multiple'"),
        (lambda t, h: t.ack({}), "one of them is missing"),
        (lambda t, h: t.send("out", 1, ignore_namespace=True), "option 'ignore_namespace'"),
        (lambda t, h: t.send("out", 1, transaction=99), "no transaction 99"),
        (lambda t, h: t.transaction_commit(99), "no transaction 99"),
        (lambda t, h: t.subscribe("x", print, selector="a=1"), "option 'selector'"),
        (lambda t, h: t.subscribe("in", print), "has a callback already"),
        (lambda t, h: t.subscribe_broadcast("command", print), "heard by zwrap itself"),
        (lambda t, h: t.subscribe_temporary("x", print), "make no temporary queues"),
        (lambda t, h: t.unsubscribe(h["subscription"]), "ends with the connection"),
        (lambda t, h: t.unsubscribe(99), "there is none"),
    ],
)
def test_what_is_not_carried_out_is_told(
    place: Place, ask: Callable[[Any, Any], None], told: str
) -> None:
    def make(self: Any, rw: Any, header: dict[str, Any], message: Any) -> None:
        ask(rw.transport, header)

    place.ask("one")
    place.run(fresh(Maker, make=make), times=5)
    assert told in place.reasons("in")[0]


def test_a_class_logs_as_much_as_under_zocalo_service(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There a service is verbose: handlers get level DEBUG, and the console shows INFO."""
    kept: list[logging.LogRecord] = []
    graylog = logging.Handler()
    monkeypatch.setattr(graylog, "emit", kept.append)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(logging.getLogger("site.verbose"), "level", logging.NOTSET)
    set_up_logging(Configuration(), 0)
    root.addHandler(graylog)

    def initializing(self: Any) -> None:
        self.log.debug("in detail")
        self.log.info("in short")

    kind = type("Verbose", (CommonService,), {
        "_logger_name": "site.verbose", "initializing": initializing,
    })  # fmt: skip
    place.host(kind).begin()
    told = [record.getMessage() for record in kept if record.name == "site.verbose"]
    assert told == ["in detail", "in short"]
    console = capsys.readouterr().err
    assert "in short" in console
    assert "in detail" not in console


def test_what_is_only_a_hint_is_logged(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    def initializing(self: Any) -> None:
        wrap_subscribe(self._transport, "in", self.make, acknowledgement=True, exclusive=True)

    place.ask("one")
    place.run(fresh(Maker, initializing=initializing))
    assert len(place.bodies("out")) == 1
    assert "subscribe: 'exclusive' has no effect" in caplog.text


# -- the loop ------------------------------------------------------------------------------------


class Listener(CommonService):
    """Hears broadcasts, and ends when it is told to."""

    heard: list[Any]

    def initializing(self) -> None:
        self.numbers = [
            self.transport.subscribe_broadcast("news", self.hear),
            wrap_subscribe_broadcast(
                self.transport, "steps", self.step, allow_non_recipe_messages=True
            ),
        ]
        self._set_name("Listener 2")

    def hear(self, header: dict[str, Any], message: Any) -> None:
        self.heard.append((header["destination"], message))
        if message == "fail":
            raise ValueError(message)
        if message == "once":
            self.transport.unsubscribe(self.numbers[0])

    def step(self, rw: Any, header: dict[str, Any], message: Any) -> None:
        self.heard.append((rw and rw.recipe_pointer, message))
        if message == "end":
            self._shutdown()
        if message == "terminate":
            self._request_termination()


@pytest.mark.parametrize("last", ["end", "terminate"])
def test_broadcasts_are_heard_and_the_class_can_end_itself(place: Place, last: str) -> None:
    heard: list[Any] = []
    hosting = place.host(type("Listener", (Listener,), {"heard": heard}))
    begin = hosting.begin

    def begun() -> None:
        begin()
        for each in ("fail", "good"):
            place.sender.broadcast("news", each)
        place.sender.broadcast("steps", envelope("step"), {RECIPE_HEADER: True})
        place.sender.broadcast("steps", last)

    hosting.begin = begun  # type: ignore[method-assign]
    Loop(hosting, hosting.transport).run()
    assert sorted(map(str, heard)) == sorted(
        map(str, [("news", "fail"), ("news", "good"), (1, "step"), (None, last)])
    )
    assert hosting.title == "Listener 2"


def test_a_broadcast_is_no_longer_heard_after_unsubscribe(place: Place) -> None:
    heard: list[Any] = []
    hosting = place.host(type("Listener", (Listener,), {"heard": heard}))
    hosting.begin()
    for each in ("once", "twice"):
        place.sender.broadcast("news", each)
    for _ in range(2):
        Loop(hosting, hosting.transport)._turn()
    assert heard == [("news", "once")]


def test_the_idle_callback_comes_after_its_time_without_work(place: Place) -> None:
    calls: list[float] = []

    class Idle(CommonService):
        def initializing(self) -> None:
            self._register_idle(30, lambda: calls.append(place.clock()))

    hosting = HostedService(Configuration(), MemoryTransport(place.broker), Idle, place.clock)
    begin = place.clock()
    hosting.begin()
    for _ in range(10):
        place.clock.move(9)
        hosting.idle()
    assert [at - begin for at in calls] == [36, 72]
    assert hosting.poll_s() == 1.0
    place.clock.move(11.5)
    assert hosting.poll_s() == 0.5


def test_the_status_has_both_names(place: Place) -> None:
    place.sender.subscribe_topic(STATUS_TOPIC)
    hosting = place.host(fresh(Maker))
    with ServiceStatus(hosting, hosting.transport, None):
        pass
    told = place.sender.receive(5.0)
    assert told
    assert isinstance(told.message.body, dict)
    assert told.message.body["service"] == "Maker of things"
    assert told.message.body["serviceclass"] == "Maker"


def test_a_command_to_shut_down_names_the_class(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    hosting = place.host(fresh(Maker))
    begin = hosting.begin

    def begun() -> None:
        begin()
        for name in ("Maker of things", "Maker"):
            place.sender.broadcast("command", {"command": "shutdown", "service": name})

    hosting.begin = begun  # type: ignore[method-assign]
    Loop(hosting, hosting.transport).run()
    obeyed = [text for text in caplog.messages if text.startswith("Shutdown was asked for")]
    assert obeyed == ["Shutdown was asked for: {'command': 'shutdown', 'service': 'Maker'}"]


def test_an_exception_of_initializing_ends_the_service_before_it_takes_a_message(
    place: Place,
) -> None:
    def initializing(self: Any) -> None:
        raise ValueError("no database")

    place.ask("one")
    with pytest.raises(ValueError, match="no database"):
        place.run(fresh(Maker, initializing=initializing))
    assert place.counts("in") == [1]


def test_the_end_is_told_to_the_class_which_can_still_send(place: Place) -> None:
    place.run(fresh(Maker, in_shutdown=lambda self: self.transport.send("out", "bye")))
    assert place.bodies("out") == ["bye"]


def test_the_class_logs_from_level_info_on_whatever_the_root_does(
    place: Place, records: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    monkeypatch.setattr(logging.getLogger("site.maker"), "level", logging.NOTSET)
    logging.getLogger("site.maker").manager._clear_cache()  # type: ignore[attr-defined]
    place.run(fresh(Maker, in_shutdown=lambda self: self.log.info("bye")))
    assert [record.getMessage() for record in records if record.name == "site.maker"] == ["bye"]


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    kept: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = kept.append  # type: ignore[method-assign]
    logging.getLogger("site").addHandler(handler)
    yield kept
    logging.getLogger("site").removeHandler(handler)
    assert handler.filters == [], "the service leaves no filter behind"


def test_fields_of_extend_log_are_on_each_line(
    place: Place, records: list[logging.LogRecord]
) -> None:
    def make(self: Any, rw: Any, header: dict[str, Any], message: Any) -> None:
        with self.extend_log("plate", 7), self.extend_log("name", "taken"):
            self.log.warning("inside")
        self.log.warning("outside")
        rw.transport.ack(header)

    place.ask("one")
    place.run(fresh(Maker, make=make))
    inside, outside = (record for record in records if record.name == "site.maker")
    assert (getattr(inside, "plate", None), getattr(inside, "recipe_ID", None)) == (7, "guid")
    assert (hasattr(outside, "plate"), getattr(outside, "recipe_ID", None)) == (False, "guid")


def test_the_class_gets_the_configuration(place: Place) -> None:
    class Configured(CommonService):
        def initializing(self) -> None:
            self.transport.send("out", [self.config.storage["key"], self._environment["live"]])

    configuration = Configuration.from_string(
        "version: 1\nenvironments: {default: [s]}\ns: {plugin: storage, key: value}\n"
    ).activate()
    hosted(Configured)(configuration, MemoryTransport(place.broker)).begin()
    assert place.bodies("out") == [["value", True]]


# -- outages -------------------------------------------------------------------------------------


class Away(MemoryTransport):
    """A connection that refuses to send."""

    def _carry_out(self, messages: Any, deliveries: Any, settlement: Any) -> None:
        if any(message.destination == "out" for message in messages):
            raise TransportError("The broker is away.")
        super()._carry_out(messages, deliveries, settlement)


@pytest.fixture
def original(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Stand in for an installed python-workflows, whose classes derive from none of zwrap's."""
    top = types.ModuleType("workflows")
    top.Disconnected = type("Disconnected", (Exception,), {"__module__": "workflows"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "workflows", top)
    return top


def as_original(names: dict[str, Any]) -> type:
    """Return a class whose base says that it is python-workflows' own."""
    copied = {key: value for key, value in vars(CommonService).items() if key != "__dict__"}
    base = type("CommonService", (), {**copied, "__module__": "workflows.services.common_service"})
    return type("Unchanged", (base,), names)


@pytest.mark.parametrize("which", ["changed", "unchanged"])
def test_a_lost_connection_is_an_outage_that_the_code_can_catch_by_its_own_name(
    place: Place, which: str, original: types.ModuleType
) -> None:
    caught: list[Exception] = []
    error = original.Disconnected if which == "unchanged" else Disconnected

    def initializing(self: Any) -> None:
        self.transport.subscribe("in", self.take, acknowledgement=True)

    def take(self: Any, header: Any, message: Any) -> None:
        try:
            self.transport.send("out", message)
        except error as disconnected:
            caught.append(disconnected)
            raise

    names = {"initializing": initializing, "take": take}
    kind = as_original(names) if which == "unchanged" else type("Own", (CommonService,), names)
    place.sender.send("in", 1)
    transport = Away(place.broker)
    hosting = hosted(kind)(Configuration(), transport)
    with pytest.raises(OutageError, match="The broker is away"):
        Loop(hosting, transport, once=True).run()
    assert len(caught) == 1
    assert place.counts("in") == [1], "it does not count"


BROKERS = """
version: 1
environments: {default: [rabbit, active, chosen]}
rabbit: {plugin: pika, host: mq.site, port: 5673, username: u, password: p, vhost: v}
active: {plugin: stomp, host: amq.site, port: 61613, username: u, password: p, prefix: zocalo}
chosen: {plugin: transport, default: PikaTransport}
"""


def theirs(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Stand in for the transports of python-workflows."""
    package = types.ModuleType("workflows.transport")
    monkeypatch.setitem(sys.modules, "workflows.transport", package)
    for name in ("Pika", "Stomp"):
        module = types.ModuleType(f"workflows.transport.{name.lower()}_transport")
        kind = type(f"{name}Transport", (), {"defaults": {"--rabbit-vhost": "/"}})
        setattr(module, kind.__name__, kind)
        setattr(package, kind.__name__, kind)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return package


def test_transports_that_an_unchanged_class_makes_itself_connect_as_the_site_file_says(
    place: Place, original: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = theirs(monkeypatch)
    configuration = Configuration.from_string(BROKERS).activate()
    hosted(as_original({}))(configuration, MemoryTransport(place.broker))
    assert package.PikaTransport.defaults == {
        "--rabbit-host": "mq.site", "--rabbit-port": 5673, "--rabbit-user": "u",
        "--rabbit-pass": "p", "--rabbit-vhost": "v",
    }  # fmt: skip
    assert package.StompTransport.defaults["--stomp-prfx"] == "zocalo"
    assert package.default_transport == "PikaTransport"


def test_what_a_module_of_a_site_sets_for_its_own_transport_stays(
    place: Place, original: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is imported before; a bridge would send to the broker from which it takes."""
    package = theirs(monkeypatch)
    package.PikaTransport.defaults.update({"--rabbit-host": "archive", "--rabbit-port": 5672})
    package.StompTransport.defaults["--stomp-prfx"] = "mine"
    package.__dict__["default_transport"] = "OfflineTransport"
    for user in ("u", "other"):  # the second time as after SIGHUP
        text = BROKERS.replace("username: u", f"username: {user}")
        configuration = Configuration.from_string(text).activate()
        hosted(as_original({}))(configuration, MemoryTransport(place.broker))
        assert package.PikaTransport.defaults == {
            "--rabbit-host": "archive", "--rabbit-port": 5673, "--rabbit-user": user,
            "--rabbit-pass": "p", "--rabbit-vhost": "v",
        }  # fmt: skip
        assert package.StompTransport.defaults["--stomp-prfx"] == "mine"
        assert package.StompTransport.defaults["--stomp-user"] == user
    assert package.default_transport == "OfflineTransport"


def test_an_old_python_workflows_without_one_of_the_transports_has_the_other(
    place: Place, original: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = theirs(monkeypatch)
    monkeypatch.setitem(sys.modules, "workflows.transport.pika_transport", None)
    configuration = Configuration.from_string(BROKERS).activate()
    hosted(as_original({}))(configuration, MemoryTransport(place.broker))
    assert package.PikaTransport.defaults == {"--rabbit-vhost": "/"}
    assert package.StompTransport.defaults["--stomp-host"] == "amq.site"


def test_a_wrong_section_of_a_broker_ends_no_unchanged_service_that_does_not_use_it(
    place: Place,
    original: types.ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    package = theirs(monkeypatch)
    configuration = Configuration.from_string(BROKERS.replace("host: mq.site, ", "")).activate()
    hosted(as_original({}))(configuration, MemoryTransport(place.broker))
    assert "A PikaTransport of python-workflows that the service makes itself" in caplog.text
    assert package.PikaTransport.defaults == {"--rabbit-vhost": "/"}
    assert package.StompTransport.defaults["--stomp-host"] == "amq.site"


# -- loading -------------------------------------------------------------------------------------


def test_a_service_of_python_workflows_is_found_by_its_name(
    place: Place, monkeypatch: pytest.MonkeyPatch, original: types.ModuleType
) -> None:
    unchanged = as_original({})
    found = {"Maker": fresh(Maker), "Unchanged": unchanged, "Other": int, "Base": object()}
    monkeypatch.setattr(registry, "find", lambda group, name: found[name])
    for name in ("Maker", "Unchanged"):
        assert is_common_service(found[name])
        service = command.load_service(name)(Configuration(), MemoryTransport())
        assert isinstance(service, HostedService)
        assert service.name == name
    for name in ("Other", "Base"):
        with pytest.raises(PermanentError, match="one of which is expected"):
            command.load_service(name)


@pytest.mark.parametrize("missing", ["workflows.recipe", "zocalo", "numpy"])
def test_an_import_that_python_workflows_would_satisfy_is_explained(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(group: str, name: str) -> None:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(registry, "find", find)
    top = missing.partition(".")[0]
    explained = missing != "numpy"
    told = f"import zwrap.compat.{top} in place of {top}" if explained else "No module named"
    with pytest.raises(PermanentError if explained else ModuleNotFoundError, match=told):
        command.load_service("Maker")
