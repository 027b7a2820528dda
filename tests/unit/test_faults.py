"""Whose a fault is: that of one message, of what all share, or of the code."""

from __future__ import annotations

import contextlib
import errno
import logging
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from zwrap.configuration.site import Configuration
from zwrap.errors import (
    OutageError,
    PermanentError,
    QueueFullError,
    TemporaryError,
    TransportError,
    UnknownOutcomeError,
    UnreachableError,
)
from zwrap.message.content import Message, Outgoing
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.service.contract import Service, Work
from zwrap.service.faults import Faults, told
from zwrap.service.loop import Loop, handle_delivery
from zwrap.service.outage import is_outage
from zwrap.service.settling import handle_deliveries
from zwrap.service.succession import LIMIT, Succession
from zwrap.transport.contract import ACK, Delivery, Settlement, Unit, Verb
from zwrap.transport.failures import RefusedError
from zwrap.transport.memory import MemoryTransport
from zwrap.workers.timelimit import TimeLimitError

from .clock import ManualClock
from .noting import Noting

Act = BaseException | Callable[[], object] | None


class Settling(Noting):
    """Notes settlements, after which deliveries are settled."""

    def commit(
        self,
        messages: Sequence[Outgoing],
        deliveries: Sequence[Delivery] = (),
        settlement: Settlement = ACK,
    ) -> None:
        super().commit(messages, deliveries, settlement)
        for delivery in deliveries:
            delivery.settled = True


class Acting(Service):
    """Does with each message what `acts` has for its body."""

    queue = "in"
    plain_messages = True

    def __init__(self, transport: MemoryTransport | None = None) -> None:
        super().__init__(Configuration(), transport or Settling())
        self.acts: dict[Any, Act] = {}
        self.handled: list[Any] = []

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        body = envelope.payload if envelope else delivery.message.body
        self.handled.append(body)
        act = self.acts.get(body)
        if isinstance(act, BaseException):
            raise act
        if act:
            act()
        delivery.ack()


def noted(service: Service) -> list[Settlement]:
    assert isinstance(service.transport, Noting)
    return service.transport.settlements


def offer(service: Service, identity: str, act: str, count: int = 1) -> list[float]:
    """Let a service handle a message; the pauses that follow."""
    delivery = Delivery(
        service.transport, Message(act, {}, identity), "in", delivery_count=count, topic=False
    )
    pauses: list[float] = []
    handle_delivery(service, delivery, pauses.append)
    return pauses


def bug() -> None:
    raise KeyError("dcid")


def other_bug() -> None:
    raise KeyError("dcid")


# -- the succession ------------------------------------------------------------------------------


PLACE = ("builtins.KeyError", "a.py", 1)


def added(succession: Succession, message: str, line: int = 1) -> bool:
    """Add a message; return whether its exception is common then."""
    succession.add(message, ("builtins.KeyError", "a.py", line))
    return succession.common


def test_the_same_exception_of_five_different_messages_is_common() -> None:
    succession = Succession()
    answers = [added(succession, str(number)) for number in range(LIMIT + 1)]
    assert answers == [False, False, False, False, True, True]
    assert succession.end()
    assert not succession.end()
    assert not added(succession, "0")


def test_a_message_that_comes_again_counts_once() -> None:
    succession = Succession()
    assert [succession.add("same", PLACE) for _ in range(50)] == [True] + [False] * 49
    assert not succession.common


def test_a_message_that_comes_again_with_a_common_exception_holds_up_no_other() -> None:
    faults, error = Faults(), KeyError("x")
    for number in range(LIMIT):
        assert faults.unforeseen_by(str(number), error, "S") is (number == LIMIT - 1)
    assert faults.pause_s() > 0
    assert faults.unforeseen_by("0", error, "S")
    assert faults.pause_s() == 0
    assert faults.unforeseen_by("new", error, "S")
    assert faults.pause_s() > 0


def test_an_error_that_cannot_be_shown_is_told_by_its_type() -> None:
    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert told(OddError()) == "OddError: its text cannot be read"


def test_an_exception_from_another_place_begins_anew() -> None:
    succession = Succession()
    for number in range(LIMIT):
        added(succession, str(number))
    assert not added(succession, "x", 2)
    assert not added(succession, "y")


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([None, 1, 2]))))
def test_common_is_what_the_last_ends_say(ends: list[tuple[str, int | None]]) -> None:
    succession, run, place = Succession(), set(), None
    for message, line in ends:
        if line is None:
            succession.end()
            run, place = set(), None
            continue
        if line != place:
            run, place = set(), line
        run.add(message)
        assert added(succession, message, line) is (len(run) >= LIMIT)


def test_a_bug_does_not_empty_a_queue_into_the_dead_letters(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = Acting()
    service.acts = {"bug": bug, "good": None}
    pauses = []
    for _ in range(8):
        for number in range(20):
            pauses += offer(service, str(number), "bug", count=2)
    dead = [each for each in noted(service) if each.verb is Verb.DEAD_LETTER]
    assert not dead
    counted = [each for each in noted(service) if each.counted]
    assert len(counted) == LIMIT - 1
    assert pauses[:6] == [1, 2, 4, 8, 16, 30]
    told = [each for each in caplog.records if each.levelno == logging.CRITICAL]
    assert len(told) == 1
    assert "KeyError in test_faults.py, line" in told[0].getMessage()
    assert service.faults.unforeseen == 160
    tracebacks = [each for each in caplog.records if each.exc_info]
    assert len(tracebacks) == 20, "each message's is logged once"
    offer(service, "fine", "good")
    offer(service, "0", "bug", count=2)
    assert noted(service)[-1].counted


def test_a_bug_that_one_message_of_a_batch_meets_is_not_common() -> None:
    class Batching(Acting):
        def handle_all(self, work: Sequence[Work]) -> list[Exception | None]:
            raise ZeroDivisionError

    service = Batching()
    deliveries = [
        Delivery(
            service.transport, Message(1, {}, str(number)), "in", delivery_count=1, topic=False
        )
        for number in range(50)
    ]
    pauses: list[float] = []
    handle_deliveries(service, deliveries, pauses.append)
    assert all(each.counted for each in noted(service))
    assert not pauses


def test_a_service_that_loses_answers_does_not_end() -> None:
    class Forgetful(Acting):
        def handle_all(self, work: Sequence[Work]) -> list[Exception | None]:
            return []

    service = Forgetful()
    offer(service, "m", "x", count=9 - 4)
    [settlement] = noted(service)
    assert "handle_all returned 0 answers for 1 messages" in settlement.reason


# -- outages ---------------------------------------------------------------------------------------


class LikeADatabaseError(Exception):
    pass


LikeADatabaseError.__name__ = "OperationalError"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OutageError("x"), True),
        (UnreachableError("x"), True),
        (TransportError("x"), True),
        (QueueFullError("x"), False),
        (RefusedError("x"), False),
        (TemporaryError("x"), False),
        (PermanentError("x"), False),
        (MemoryError(), True),
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.ESTALE, "x"), True),
        (OSError(errno.ENAMETOOLONG, "x"), False),
        (OSError("x"), False),
        (sqlite3.OperationalError("database is locked"), True),
        (sqlite3.IntegrityError("x"), False),
        (LikeADatabaseError(), True),
        (ValueError(), False),
    ],
)
def test_an_outage_is_told_by_its_type(error: Exception, expected: bool) -> None:
    assert is_outage(error) is expected


@pytest.mark.parametrize(
    "error", [OutageError("The ledger is away: x"), OSError(errno.EIO, "Input/output error")]
)
def test_an_outage_counts_against_no_message_and_is_told_twice(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    service = Acting()
    service.acts = {"away": error}
    pauses = []
    for _ in range(100):
        for number in range(3):
            pauses += offer(service, str(number), "away", count=5)
    assert {(each.verb, each.counted) for each in noted(service)} == {(Verb.RETRY, False)}
    assert pauses[:6] == [1, 2, 4, 8, 16, 30]
    assert len(caplog.records) == 1
    offer(service, "0", "good")
    assert len(caplog.records) == 2
    assert "goes on" in caplog.text
    pauses = [offer(service, message, "away") for message in "1212"]
    assert pauses == [[], [], [], [1]], "at first they may be alone with it"


def test_a_message_that_meets_an_outage_alone_delays_no_other() -> None:
    service = Acting()
    service.acts = {"away": OutageError("the cluster is away")}
    pauses = []
    for _ in range(50):
        for bad in range(5):
            pauses += offer(service, f"bad {bad}", "away")
            pauses += offer(service, "good", "good")
    assert pauses == []
    assert all(not each.counted for each in noted(service) if each.verb is Verb.RETRY)


def test_an_error_of_the_host_that_only_one_message_meets_is_its_own() -> None:
    """A message that needs too much memory does not hold up the others for ever."""
    service = Acting()
    service.acts = {"greedy": MemoryError()}
    for count in range(1, 8):
        offer(service, "bad", "greedy", count)
        offer(service, "good", "good")
    of_bad = [each for each in noted(service) if each is not ACK]
    assert [each.counted for each in of_bad[:5]] == [False, True, True, True, True]
    assert [each.verb for each in of_bad[4:]] == [Verb.DEAD_LETTER] * 3
    assert of_bad[4].reason.startswith("The message was tried 5 times. MemoryError")


def test_a_full_queue_holds_up_only_its_own_messages() -> None:
    service = Acting()
    service.acts = {"full": QueueFullError("The queue is full.")}
    for number in range(9):
        assert offer(service, str(number), "full") == []
    assert all(each.verb is Verb.RETRY and not each.counted for each in noted(service))


def test_an_error_of_zwrap_that_is_neither_counts_however_many_messages_meet_it() -> None:
    service = Acting()
    service.acts = {"slow": TimeLimitError("It took longer than its limit of 1 s.")}
    for number in range(9):
        assert offer(service, str(number), "slow") == []
    assert all(each.counted for each in noted(service))
    assert service.faults.unforeseen == 0


def test_a_temporary_error_comes_later_each_time() -> None:
    service = Acting()
    service.acts = {"later": TemporaryError("not yet")}
    for _ in range(8):
        assert offer(service, "m", "later") == []
    assert [each.delay_s for each in noted(service)] == [1, 2, 4, 8, 16, 32, 60, 60]


# -- containment ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [SystemExit(0), SystemExit("x"), KeyboardInterrupt(), GeneratorExit()]
)
def test_what_would_end_a_process_is_a_failure_of_its_message(error: BaseException) -> None:
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        service = Acting()
        service.acts = {"exit": error}
        for count in range(1, 6):
            offer(service, "m", "exit", count)
        offer(service, "n", "good")
    finally:
        signal.signal(signal.SIGINT, before)
    assert [each.verb for each in noted(service)] == [Verb.RETRY] * 4 + [Verb.DEAD_LETTER, Verb.ACK]
    reason = noted(service)[4].reason
    assert reason.startswith(
        f"The message was tried 5 times. The handler raised {type(error).__name__}"
    )


def test_ctrl_c_of_a_person_ends_a_foreign_loop() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        service = Acting()
        service.acts = {"exit": KeyboardInterrupt()}
        with pytest.raises(KeyboardInterrupt):
            offer(service, "m", "exit")
    finally:
        signal.signal(signal.SIGINT, before)


class Unwilling(MemoryTransport):
    """Refuses some settlements and messages by exceptions that it should not raise."""

    def __init__(self, faults: list[Exception]) -> None:
        super().__init__()
        self.faults = faults

    def commit(
        self,
        messages: Sequence[Outgoing],
        deliveries: Sequence[Delivery] = (),
        settlement: Settlement = ACK,
    ) -> None:
        if settlement.verb is Verb.DEAD_LETTER and self.faults:
            raise self.faults.pop(0)
        super().commit(messages, deliveries, settlement)


ANY = st.sampled_from(
    [
        OverflowError("int too large"), UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates"),
        RecursionError(), KeyError(3), PermanentError("no"), OSError(36, "File name too long"),
        TemporaryError("later"), MemoryError(), AssertionError(),
    ]
)  # fmt: skip


@given(st.lists(ANY, min_size=1, max_size=2))
def test_a_dead_letter_is_made_whatever_its_making_raises(faults: list[Exception]) -> None:
    transport = Unwilling(list(faults))
    service = Acting(transport)
    service.acts = {"bad": PermanentError("The step is wrong.")}
    transport.send("in", "bad")
    transport.subscribe("in")
    delivery = transport.receive(5)
    assert delivery
    handle_delivery(service, delivery)
    [letter] = transport.broker.dead_letters["in"]
    assert letter.reason.startswith("The step is wrong.")


@pytest.mark.parametrize(
    ("fault", "dead"), [(OSError(errno.ENOSPC, "No space"), False), (KeyError("x"), True)]
)
def test_a_message_that_cannot_be_given_back_is_put_aside_unless_the_disk_is_full(
    fault: Exception, dead: bool
) -> None:
    class Stubborn(MemoryTransport):
        def commit(
            self,
            messages: Sequence[Outgoing],
            deliveries: Sequence[Delivery] = (),
            settlement: Settlement = ACK,
        ) -> None:
            if settlement.verb is Verb.RETRY:
                raise fault
            super().commit(messages, deliveries, settlement)

    transport = Stubborn()
    service = Acting(transport)
    service.acts = {"bug": bug}
    transport.send("in", "bug")
    transport.subscribe("in")
    delivery = transport.receive(5)
    assert delivery
    with contextlib.nullcontext() if dead else pytest.raises(TransportError, match="be settled"):
        handle_delivery(service, delivery)
    assert bool(transport.broker.dead_letters) is dead
    transport.close()
    assert bool(transport.broker.queues["in"]) is not dead


def test_an_error_that_cannot_be_built_costs_only_the_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(self: Envelope, payload: object) -> list[Outgoing]:
        raise OverflowError("int too large to convert to float")

    monkeypatch.setattr(Envelope, "send_error", broken)
    transport = MemoryTransport()
    service = Acting(transport)
    service.acts = {"bad": PermanentError("The step is wrong.")}
    recipe = Recipe({"start": [[1, "bad"]], "1": {"queue": "in", "error": 2}, "2": {"queue": "e"}})
    transport.commit(Envelope(recipe, 1).start())
    transport.subscribe("in")
    delivery = transport.receive(5)
    assert delivery
    handle_delivery(service, delivery)
    [letter] = transport.broker.dead_letters["in"]
    assert letter.reason.startswith("The step is wrong.\n")
    assert "not be sent to its error nodes: OverflowError: int too large" in letter.reason


def test_an_error_for_a_full_queue_waits_with_its_message() -> None:
    transport = Unwilling([QueueFullError("full"), QueueFullError("full")])
    service = Acting(transport)
    service.acts = {"bad": PermanentError("The step is wrong.")}
    transport.send("in", "bad")
    transport.subscribe("in")
    for _ in range(3):
        delivery = transport.receive(5)
        assert delivery
        assert delivery.delivery_count == 1
        handle_delivery(service, delivery)
    assert len(transport.broker.dead_letters["in"]) == 1


def test_a_reason_that_is_no_utf_8_is_kept_with_escapes() -> None:
    service = Acting()
    service.acts = {"bad": PermanentError("no file b\udcff")}
    service.transport.unit = refusing  # type: ignore[method-assign, assignment]
    offer(service, "m", "bad")
    assert noted(service)[0].reason.startswith("no file b\\udcff\n")


def refusing(*deliveries: Delivery, dead_letter: str | None = None) -> Unit:
    raise UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed")


def test_a_failure_after_the_settlement_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Late(Acting):
        def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
            delivery.ack()
            raise ValueError("after all")

    transport = MemoryTransport()
    service = Late(transport)
    transport.send("in", 1)
    Loop(service, transport, once=True).run()
    assert "was settled, and then" in caplog.text
    assert not transport.broker.dead_letters
    assert not transport.broker.queues["in"]


def test_the_log_says_dead_letter_when_there_is_one(caplog: pytest.LogCaptureFixture) -> None:
    class Watching(MemoryTransport):
        def commit(self, *given: Any, **more: Any) -> None:
            assert "becomes a dead letter" not in caplog.text
            super().commit(*given, **more)

    transport = Watching()
    service = Acting(transport)
    service.acts = {"bad": PermanentError("no")}
    transport.send("in", "bad")
    transport.subscribe("in")
    delivery = transport.receive(5)
    assert delivery
    handle_delivery(service, delivery)
    assert "becomes a dead letter: no" in caplog.text


def test_the_work_beside_messages_never_ends_a_service(caplog: pytest.LogCaptureFixture) -> None:
    """A hook is logged once, whatever it raises and however often."""
    transport = MemoryTransport()
    transport.subscribe_topic("news")
    service = Acting(transport)
    type(service).topics = ("news",)
    loop = Loop(service, transport)
    turns = []

    def idle() -> None:
        turns.append(1)
        if len(turns) == 1:
            transport.broadcast("news", 1)
        if len(turns) == 5:
            loop.stop()
        raise SystemExit(3)

    def hear(topic: str, message: Message) -> None:
        raise ValueError("heard")

    service.idle, service.hear, service.close = idle, hear, bug  # type: ignore[method-assign]
    service.poll_s = lambda: 0.0  # type: ignore[method-assign]
    try:
        loop.run()
    finally:
        type(service).topics = ()
    assert len(turns) == 5
    for what in ("periodic work", "hearing of a broadcast", "end"):
        assert caplog.text.count(f"although its {what} failed") == 1
    assert service.faults.unforeseen == 7


def test_a_receipt_that_fails_is_tried_again_with_back_off() -> None:
    transport = MemoryTransport()
    service = Acting(transport)
    loop = Loop(service, transport)
    failures: list[Exception] = [OSError(errno.EMFILE, "Too many open files"), ValueError("name")]
    receive = transport.receive

    def failing(timeout_s: float) -> Delivery | None:
        if failures:
            raise failures.pop(0)
        return receive(timeout_s)

    transport.receive = failing  # type: ignore[method-assign]
    transport.send("in", "good")
    pauses: list[float] = []
    loop._pause = pauses.append  # type: ignore[method-assign]
    service.acts = {"good": loop.stop}
    loop.run()
    assert service.handled == ["good"]
    assert [each for each in pauses if each] == [1, 2]


def test_an_outage_of_periodic_work_is_told_once_and_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    faults = Faults(clock)
    caplog.set_level(logging.INFO)
    for _ in range(5):
        faults.beside_messages("periodic work", OutageError("The ledger is away: disk full"), "W")
        clock.move(60)
        assert faults.pause_s()
    faults.periodic_work_went_well("W")
    faults.periodic_work_went_well("W")
    assert [each.getMessage() for each in caplog.records] == [
        "W waits until this is over: The ledger is away: disk full",
        "W goes on: 'The ledger is away' is over, after 300 s",
    ]
    assert faults.unforeseen == 0


def test_a_child_that_comes_back_ends_there(tmp_path: Path) -> None:
    """It ends with the status that it asked for, and does not settle its parent's message."""
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from unit.test_faults import Acting, noted, offer
from zwrap.host.forks import ending_children
service, children = Acting(), []

def fork(after):
    def act():
        child = os.fork()
        if child:
            children.append(child)
        else:
            after()
    return act

service.acts = {{
    "return": fork(lambda: print("child")), "exit": fork(lambda: sys.exit(7)),
    "raise": fork(lambda: 1 / 0),
}}
for act in service.acts:
    offer(service, act, act)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
print([each.verb.value for each in noted(service)])
"""
    done = subprocess.run(
        [sys.executable, "-P", "-u", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = sorted(done.stdout.splitlines())
    assert lines == ["['ack', 'ack', 'ack']", "[0, 7, 1]", "child"], done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_a_service_that_does_not_stop_is_ended_after_its_grace() -> None:
    code = f"""
import sys, threading, time
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from unit.test_faults import Acting, Loop, MemoryTransport
transport = MemoryTransport()
service = Acting(transport)
service.stop_grace_s = lambda: 0.1
transport.send("in", "hang")
loop = Loop(service, transport)
def hang():
    loop.stop()
    time.sleep(1000)
service.acts = {{"hang": hang}}
loop.run()
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 111
    assert "Acting was asked to stop and is still at work after 0.1 s" in done.stderr
    assert "in hang" in done.stderr


def test_a_job_of_which_the_batch_system_does_not_tell_is_looked_up_less_and_less_often() -> None:
    service = Acting()
    service.acts = {"a": UnknownOutcomeError("no answer", retry_after_s=15.0)}
    for _ in range(6):
        offer(service, "id", "a")
    assert [each.delay_s for each in noted(service)] == [15.0, 30.0, 60.0, 60.0, 60.0, 60.0]
    assert not any(each.counted for each in noted(service))


def test_a_time_that_an_error_names_is_kept() -> None:
    service = Acting()
    service.acts = {"a": TemporaryError("later", retry_after_s=7.0)}
    for _ in range(4):
        offer(service, "id", "a")
    assert [each.delay_s for each in noted(service)] == [7.0] * 4


class UninitializedError(TemporaryError):
    """Does not call the constructor of its base."""

    def __init__(self) -> None:
        pass


@pytest.mark.parametrize("named", [float("nan"), float("inf"), 1e300, -5.0, "7", b"", None])
def test_a_time_that_is_none_does_not_count(named: Any) -> None:
    """A file name, or a broker, could not hold it, and a plug-in may name anything."""
    service = Acting()
    service.acts = {"a": TemporaryError("later", retry_after_s=named)}
    offer(service, "id", "a")
    service.acts = {"a": UninitializedError()}
    offer(service, "id", "a")
    assert [each.delay_s for each in noted(service)] == [1.0, 2.0]


def test_a_service_whose_messages_cannot_be_sent_waits_with_them() -> None:
    """Only if they cannot even be given back the service ends."""
    transport = MemoryTransport()
    service = Acting(transport)
    loop = Loop(service, transport)
    tried = []

    def full() -> None:
        tried.append(1)
        if len(tried) == 4:
            loop.stop()
        raise TransportError("The spool cannot be written: No space left on device.")

    service.acts = {"full": full}
    for _ in range(4):
        transport.send("in", "full")
    pauses: list[float] = []
    loop._pause = pauses.append  # type: ignore[method-assign]
    loop.run()
    assert [entry.delivery_count for entry in transport.broker.queues["in"]] == [1] * 4
    assert [each for each in pauses if each] == [1, 2, 4]

    gone = Acting(transport)
    gone.acts = {"gone": transport.close}
    transport.send("in", "gone")
    with pytest.raises(TransportError):
        Loop(gone, transport).run()


def test_the_number_of_unforeseen_exceptions_is_in_the_status() -> None:
    transport = MemoryTransport()
    listener = MemoryTransport(transport.broker)
    listener.subscribe_topic("transient.status")
    service = Acting(transport)
    service.acts = {"bug": bug}
    transport.send("in", "bug")
    Loop(service, transport, once=True).run()
    seen = []
    while delivery := listener.receive(0.05):
        seen.append(delivery.message.body["unforeseen"])
    assert seen[-1] == 1


def no_memory() -> None:
    raise MemoryError


@pytest.mark.parametrize("delay_s", [0.01, 1.0])
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (no_memory, "MemoryError"),
        (OutageError("It is away."), "It is away."),
        (OSError(errno.ENOSPC, "No space left on device", "f"), "f cannot be used: No space left"),
    ],
)
def test_a_run_with_once_ends_with_a_temporary_failure_in_an_outage(
    act: Act, reason: str, number: int, delay_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages that come again before it ends do not keep it from its end."""
    transport = MemoryTransport()
    service = Acting(transport)
    service.acts = dict.fromkeys(range(number), act)
    for body in range(number):
        transport.send("in", body)
    loop = Loop(service, transport, once=True)
    monkeypatch.setattr("zwrap.service.settling.RETRY_FIRST_S", delay_s)
    with pytest.raises(OutageError, match=f"gave messages back, to be tried later: {reason}"):
        loop.run()
    assert len(service.handled) == (number if delay_s > 0.5 else number + 1)
    assert [each.delivery_count for each in transport.broker.queues["in"]] == [1] * number


def test_in_an_outage_a_run_with_once_handles_what_can_be_handled() -> None:
    transport = MemoryTransport()
    service = Acting(transport)
    service.acts = dict.fromkeys(range(4), OutageError("Cluster a is away."))
    for body in (0, 1, "good", 2, 3, "good"):
        transport.send("in", body)
    with pytest.raises(OutageError, match="Cluster a is away"):
        Loop(service, transport, once=True).run()
    assert service.handled.count("good") == 2


def test_a_run_with_once_ends_well_after_an_outage_that_is_over() -> None:
    transport = MemoryTransport()
    service = Acting(transport)

    def away() -> None:
        service.acts.clear()
        raise OutageError("It was away.")

    service.acts = {"a": away}
    transport.send("in", "a")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zwrap.service.settling.RETRY_FIRST_S", 0.001)
        Loop(service, transport, once=True).run()
    assert service.handled == ["a", "a"]


def test_a_run_with_once_ends_with_what_all_messages_end_with() -> None:
    transport = MemoryTransport()
    service = Acting(transport)
    service.acts = dict.fromkeys(range(LIMIT + 1), bug)
    for body in service.acts:
        transport.send("in", body)
    with pytest.raises(OutageError, match=r"All messages end with KeyError in test_faults\.py"):
        Loop(service, transport, once=True).run()


@pytest.mark.parametrize("hook", ["idle", "close"])
def test_work_beside_messages_without_memory_ends_a_run_with_once_as_an_outage(hook: str) -> None:
    service = Acting(MemoryTransport())
    setattr(service, hook, no_memory)
    with pytest.raises(OutageError, match="of Acting: MemoryError") as ended:
        Loop(service, service.transport, once=True).run()
    assert ended.value.exit_status == 111
