"""The wrapper's messages on their way out."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.directory import JobDirectory
from zwrap.attempt.finals import FinalSender, OutboxError
from zwrap.attempt.progress import Progress
from zwrap.attempt.refusals import Ending
from zwrap.attempt.signs import claim_age_s, touch_claim
from zwrap.attempt.verdict import Verdict, final_messages
from zwrap.errors import MessageError, QueueFullError, TransportError
from zwrap.job import Outcome
from zwrap.message.content import STATUS_TOPIC, Outgoing
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.transport import mover
from zwrap.transport.failures import (
    NoPermissionError,
    NoRouteError,
    RefusedError,
    TooLargeError,
)
from zwrap.transport.memory import MemoryBroker, MemoryTransport
from zwrap.transport.spool.queue import SpoolQueue
from zwrap.wrapper import outbox as module
from zwrap.wrapper.ended import Ended
from zwrap.wrapper.ending import with_results
from zwrap.wrapper.outbox import Identities, Outbox

from .clock import ManualClock


def away() -> MemoryTransport:
    raise TransportError("Nothing listens there.")


@pytest.fixture
def directory(tmp_path: Path) -> JobDirectory:
    return JobDirectory(tmp_path / "job")


def test_whoever_comes_after_a_wrapper_that_could_not_send_has_the_outbox(
    directory: JobDirectory,
) -> None:
    """Its thread waits for the next try, in the same process, when its time is up."""
    outbox = Outbox(away, directory, dict)
    outbox.start()
    outbox.post([Outgoing("q", "first", {"zwrap-id": "1"})])
    assert not outbox.finish(0.05)
    outbox.close()
    queue = directory.outbox()
    queue.keep_lease()
    assert queue.owners() == 1
    assert queue.waiting() == 1, "nothing is lost"


def test_messages_leave_in_order_and_under_ids_that_a_repeat_repeats(
    directory: JobDirectory,
) -> None:
    ids = []
    for _ in range(2):
        broker = MemoryBroker()
        outbox = Outbox(lambda: MemoryTransport(broker), directory, dict, Identities("t-1", 1))  # noqa: B023
        outbox.post([Outgoing("q", number) for number in range(3)])
        outbox.start()
        outbox.post([Outgoing("q", 3)])
        assert outbox.finish(10)
        outbox.close()
        entries = broker.queues["q"]
        assert [entry.message.body for entry in entries] == [0, 1, 2, 3]
        ids.append([entry.message.id for entry in entries])
    assert ids[0] == ids[1]
    other = Identities("t-1", 2).give([Outgoing("q", 0)])
    assert other[0].headers["zwrap-id"] not in ids[0], "another run says something else"


def test_a_message_that_is_refused_for_good_is_kept_and_holds_up_no_other(
    directory: JobDirectory,
) -> None:
    class Refusing(MemoryTransport):
        def commit(self, messages: Any, *more: Any, **others: Any) -> None:
            if messages[0].destination == "nowhere":
                raise MessageError("There is no queue 'nowhere'.")
            super().commit(messages, *more, **others)

    transport = Refusing()
    outbox = Outbox(lambda: transport, directory, dict)
    outbox.start()
    outbox.post([Outgoing(name, 1, {"zwrap-id": name}) for name in ("nowhere", "q")])
    assert outbox.finish(10)
    assert outbox.has_refused
    assert len(transport.broker.queues["q"]) == 1
    [(_, reason)] = SpoolQueue.dead_letters_in(directory.path / "outbox")
    assert reason == "There is no queue 'nowhere'.\n"
    assert Outbox(away, directory, dict).has_refused, "the next run of the job knows it, too"


def test_without_a_directory_there_are_heartbeats_only(tmp_path: Path) -> None:
    broker = MemoryBroker()
    listener = MemoryTransport(broker)
    listener.subscribe_topic(STATUS_TOPIC)
    outbox = Outbox(lambda: MemoryTransport(broker), None, lambda: {"status": 4})
    outbox.start()
    heard = listener.receive(10)
    assert heard
    assert heard.message.body == {"status": 4}
    assert outbox.finish(10)
    assert list(tmp_path.glob("job*")) == []


class Picky(MemoryTransport):
    """Refuses by destination: for good, for now, or because it is away."""

    def __init__(self, broker: MemoryBroker, refusals: dict[str, Exception]) -> None:
        super().__init__(broker)
        self.refusals = refusals

    def commit(self, messages: Any, *more: Any, **others: Any) -> None:
        if error := self.refusals.get(messages[0].destination):
            raise error
        super().commit(messages, *more, **others)


def named(*destinations: str) -> list[Outgoing]:
    return [
        Outgoing(name, number, {"zwrap-id": f"{name}{number}"})
        for number, name in enumerate(destinations)
    ]


@pytest.mark.parametrize(
    "error", [RefusedError("full"), QueueFullError("full"), NoPermissionError("no permission")]
)
def test_a_queue_that_takes_no_messages_holds_up_neither_other_messages_nor_heartbeats(
    directory: JobDirectory, error: Exception
) -> None:
    broker = MemoryBroker()
    listener = MemoryTransport(broker)
    listener.subscribe_topic(STATUS_TOPIC)
    refusals = {"full": error}
    outbox = Outbox(lambda: Picky(broker, refusals), directory, lambda: {"status": 4})
    outbox.post(named("full", "q", "full", "q"))
    outbox.start()
    assert listener.receive(10), "a heartbeat"
    deadline = time.monotonic() + 10
    while len(broker.queues.get("q", [])) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [entry.message.body for entry in broker.queues["q"]] == [1, 3]
    assert not outbox.finish(0.1)
    assert not outbox.refused
    refusals.clear()
    assert outbox.finish(10)
    assert [entry.message.body for entry in broker.queues["full"]] == [0, 2], "in order"
    outbox.close()


def test_a_transport_that_fails_in_an_unforeseen_way_does_not_end_the_thread(
    directory: JobDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    broker = MemoryBroker()
    refusals: dict[str, Exception] = {"q": KeyError("what")}
    outbox = Outbox(lambda: Picky(broker, refusals), directory, dict)
    outbox.post(named("q"))
    outbox.start()
    assert not outbox.finish(0.5)
    assert caplog.text.count("Traceback") == 1, "told once"
    refusals.clear()
    assert outbox.finish(10)
    assert len(broker.queues["q"]) == 1
    outbox.close()


def test_a_success_one_of_whose_results_was_refused_is_a_failure(directory: JobDirectory) -> None:
    refusals: dict[str, Exception] = {
        "large": TooLargeError("message size 1 is larger than 0"),
        "optional": NoRouteError("there is no queue 'optional'"),
    }
    broker = MemoryBroker()
    outbox = Outbox(lambda: Picky(broker, refusals), directory, dict)
    outbox.start()
    began = outbox.post(named("optional"))
    done = Ended(returncode=0, messages=named("q", "large", "q"))
    ended = with_results(outbox, done, began, lambda: False)
    assert ended.failures == ["A result was refused: message size 1 is larger than 0"]
    assert ended.wrapper_status == 1
    assert [entry.message.body for entry in broker.queues["q"]] == [0, 2]
    assert outbox.finish(10)
    outbox.close()


def test_a_transport_that_is_away_is_not_waited_for_before_the_verdict(
    directory: JobDirectory,
) -> None:
    outbox = Outbox(away, directory, dict)
    outbox.start()
    done = Ended(returncode=0, messages=named("q"))
    begin = time.monotonic()
    assert with_results(outbox, done, [], lambda: False).failures == []
    assert time.monotonic() - begin < 5
    outbox.close()
    assert directory.outbox().waiting() == 1


def ending(directory: JobDirectory) -> Ending:
    """Return the end of a step that succeeded."""
    recipe = {"start": [[1, []]], "1": {"queue": "job", "output": {"success": 2, "failure": 3}}}
    places = {"2": {"queue": "success"}, "3": {"queue": "failure"}}
    envelope = Envelope(Recipe({**recipe, **places}), 1)
    told = final_messages(envelope, Outcome.SUCCESS, "finished", {})
    verdict = Verdict(
        token="t-1", outcome=Outcome.SUCCESS, witness="wrapper", cause="finished", job_id="7",
        exit_status=0, final=[each.with_id("last") for each in told],
    )  # fmt: skip
    directory.put_verdict(verdict)
    return Ending(verdict, Progress(directory.progress), directory, envelope)


@pytest.mark.parametrize("was_sent", [False, True])
def test_final_messages_wait_for_results_and_tell_a_failure_if_one_is_refused(
    directory: JobDirectory, was_sent: bool
) -> None:
    """A result that is held up until they are sent does not make the end a failure."""
    broker = MemoryBroker()
    away, full = TransportError("away"), QueueFullError("full")
    refusals: dict[str, Exception] = dict.fromkeys(("q", "large", "success", "failure"), away)
    if was_sent:
        refusals = {"large": full}
    outbox = Outbox(lambda: Picky(broker, refusals), directory, dict)
    outbox.start()
    done = Ended(returncode=0, messages=named("q", "large"))
    assert with_results(outbox, done, [], lambda: False).failures == []
    end = ending(directory)
    outbox.end_with(end)
    assert not outbox.finish(0.3)
    refusals.clear()
    refusals["large"] = TooLargeError("it is too large")
    assert outbox.finish(10)
    outbox.close()
    assert directory.verdict() == end.verdict
    if was_sent:
        assert broker.queues.keys() == {"q", "success"}
        assert end.verdict.outcome is Outcome.SUCCESS
        assert "afterwards: A result was refused: it is too large" in end.verdict.cause
        return
    assert broker.queues.keys() == {"q", "failure"}
    [entry] = broker.queues["failure"]
    assert isinstance(entry.message.body, dict)
    assert entry.message.body["payload"] == "A result was refused: it is too large"
    assert (end.verdict.outcome, end.verdict.exit_status) == (Outcome.FAILURE, 1)


def test_final_messages_that_are_held_up_or_refused_hold_up_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path))
    broker = MemoryBroker()
    refusals: dict[str, Exception] = {
        "full": RefusedError("it is full"),
        "large": TooLargeError("it is too large"),
    }
    transport = Picky(broker, refusals)
    sender = FinalSender(None)
    sender.add(named("full", "large", "q", "full"))
    for _ in range(2):
        with pytest.raises(OutboxError, match="Messages to 'full' wait: it is full"):
            sender.send(transport)
    assert [entry.message.body for entry in broker.queues["q"]] == [2], "once"
    assert sender.refused == {"large1": "it is too large"}
    [(_, reason)] = SpoolQueue.dead_letters_in(tmp_path / "unsent")
    assert reason == "it is too large\n"
    refusals.clear()
    sender.send(transport)
    assert [entry.message.body for entry in broker.queues["full"]] == [0, 3], "in order"


def test_a_message_that_was_tried_often_while_the_broker_was_away_is_not_lost(
    directory: JobDirectory,
) -> None:
    """The process may be killed at any time, also while it sends for the tenth time."""
    outbox = directory.outbox()
    mover.store(outbox, named("q"))
    broker = MemoryBroker()
    refusals: dict[str, Exception] = {"q": TransportError("away")}
    for _ in range(10):
        with pytest.raises(TransportError):
            mover.deliver(outbox, Picky(broker, refusals))
    assert [each.delivery_count for each in outbox.peek()] == [1]


@pytest.mark.parametrize("is_away", [True, False])
def test_the_claim_is_touched_once_a_minute_while_no_heartbeat_can_be_sent_and_only_then(
    directory: JobDirectory, monkeypatch: pytest.MonkeyPatch, is_away: bool
) -> None:
    """A Watcher that does not hear the wrapper looks at the time of the claim."""
    directory.make()
    assert directory.claim("t-1", "7") is None
    claim = directory.path / "claim.json"
    content, clock = claim.read_bytes(), ManualClock()
    refusals: dict[str, Exception] = {STATUS_TOPIC: TransportError("away")} if is_away else {}
    monkeypatch.setattr(module, "INTERVAL_S", 0.01)
    outbox = Outbox(lambda: Picky(MemoryBroker(), refusals), directory, dict, clock=clock)
    touches = 0

    def was_touched() -> bool:
        os.utime(claim, (0, 0))
        outbox.beat()
        time.sleep(0.1)
        return claim.stat().st_mtime > 0

    outbox.start()
    assert not was_touched(), "it is as old as the heartbeats"
    for _ in range(12):
        clock.move(30)
        touches += was_touched()
    assert touches == (6 if is_away else 0)
    assert claim.read_bytes() == content
    assert outbox.finish(10)
    outbox.close()


def test_a_claim_is_not_made_by_touching_it(directory: JobDirectory) -> None:
    directory.make()
    with pytest.raises(FileNotFoundError):
        touch_claim(directory)
    assert claim_age_s(directory) is None
    assert not directory.was_claimed


def test_the_age_of_a_claim_is_that_of_its_own_file_system_and_of_no_link(
    directory: JobDirectory, tmp_path: Path
) -> None:
    assert claim_age_s(directory) is None, "no directory"
    directory.make()
    directory.claim("t-1", "7")
    os.utime(directory.path / "claim.json", (0, time.time() - 100))
    assert claim_age_s(directory) == pytest.approx(100, abs=5)
    assert [each.name for each in directory.path.iterdir()] == ["claim.json"]
    link = tmp_path / "link"
    link.symlink_to(directory.path)
    assert claim_age_s(JobDirectory(link)) is None
