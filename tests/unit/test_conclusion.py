"""Who speaks for a job that cannot: once, what is true, and through the recipe's own outputs."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from zwrap_schedulers.slurm.slurm import Slurm

from zwrap.attempt.directory import SUBMISSION, JobDirectory
from zwrap.attempt.finals import OutboxError
from zwrap.attempt.record import LOST, STUCK, Attempt
from zwrap.attempt.verdict import Verdict
from zwrap.errors import MessageError, TransportError
from zwrap.host.processes import this_process
from zwrap.job import Outcome
from zwrap.message import Outgoing, encode
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.service.watcher.conclusion import InDirectory
from zwrap.transport import mover
from zwrap.transport.memory import MemoryTransport
from zwrap.transport.spool.queue import SpoolQueue

DEAD = "elsewhere-7-x"
"""A process of another host, of which nobody can say whether it lives."""

OUTPUT = {"starting": 2, "success": 3, "failure": 4, "completed": 5}


class Place:
    """A job directory, and what its job's end makes of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.transport = MemoryTransport()
        self.output: dict[str, Any] = OUTPUT
        self.write()

    def write(self, **step: Any) -> None:
        recipe: dict[str, Any] = {
            "start": [[1, []]],
            "1": {"queue": "cluster.submission", "output": self.output, "error": 6, **step},
        }
        recipe |= {str(n): {"queue": f"q{n}"} for n in range(2, 7)}
        body = Envelope(Recipe(recipe), 1, environment={"ID": "r"}).body()
        self.directory = JobDirectory(self.path)
        self.directory.make()
        (self.path / SUBMISSION).write_bytes(encode({"header": {}, "message": body}))

    def claim(self, process: str | None = None) -> None:
        """Claimed by a wrapper that is gone, or by that process."""
        self.directory.claim("t-1", "7")
        file = self.path / "claim.json"
        claim = {**json.loads(file.read_text()), "process": process or DEAD}
        file.write_text(json.dumps(claim))

    def put_verdict(self, *final: Outgoing) -> None:
        verdict = Verdict(
            token="t-1", outcome=Outcome.SUCCESS, witness="wrapper", cause="finished", job_id="7",
            exit_status=0, final=list(final),
        )  # fmt: skip
        self.directory.put_verdict(verdict)

    def conclude(self, state: str, **seen: Any) -> Verdict | None:
        attempt = Attempt(token="t-1", recipe_id="r", step=1, cluster="c", job_name="n",
                          job_directory=str(self.path), job_id="7", seen_state=state)  # fmt: skip
        conclusion = InDirectory(self.transport, Slurm.error_patterns)
        return conclusion.find(replace(attempt, **seen))

    def said(self) -> dict[str, list[Any]]:
        queues = self.transport.broker.queues
        return {
            name: [entry.message.body["payload"] for entry in entries]
            for name, entries in sorted(queues.items())
            if entries
        }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "job")


@pytest.mark.parametrize(
    ("state", "seen", "claimed", "words"),
    [
        ("cancelled", {}, False, "it was cancelled before its wrapper began."),
        ("cancelled", {}, True, "it was cancelled."),
        ("timeout", {"node": "n1"}, True, "(n1): it exceeded its time limit."),
        ("out_of_memory", {"signal": 9}, True, "it ran out of memory (signal 9)."),
        ("node_fail", {}, True, "its node failed."),
        ("preempted", {}, True, "it was preempted by another job."),
        ("failed", {"exit_code": 3, "seen_reason": "NonZeroExitCode"}, False,
         "it failed before its wrapper began (exit status 3, NonZeroExitCode)."),
        ("completed", {"exit_code": 0}, True, "it ended before it could say how (exit status 0)."),
        pytest.param(LOST, {}, True, "the batch system knows nothing of it any more.", id="lost"),
        (STUCK, {"seen_reason": "InvalidAccount"}, False,
         "it can never start (InvalidAccount)."),
    ],
)  # fmt: skip
def test_a_death_is_told_with_its_cause_and_its_witness(
    place: Place, state: str, seen: dict[str, Any], claimed: bool, words: str
) -> None:
    if claimed:
        place.claim()
    (place.path / "job.err").write_text("\n".join(f"line {n}" for n in range(100)))
    verdict = place.conclude(state, **seen)
    assert verdict
    assert (verdict.outcome, verdict.witness) == (Outcome.FAILURE, "cluster c")
    assert verdict.exit_status != 0
    assert verdict.cause.startswith("Job 7 on cluster c")
    assert verdict.cause.endswith(words)
    said = place.said()
    assert said["q4"] == [verdict.cause]
    assert said["q5"] == ["Finished processing"]
    assert said.keys() == {"q4", "q5", "q6"}
    [facts] = said["q6"]
    assert facts["error"] == verdict.cause
    assert (facts["step"], facts["job_id"], facts["state"]) == (1, "7", state)
    assert facts["log"] == [f"line {n}" for n in range(80, 100)]
    assert place.conclude(state, **seen) == verdict
    assert place.said() == said, "once"


def test_while_the_wrapper_lives_nobody_speaks_for_it(place: Place) -> None:
    """The batch system lost sight of it: its node was away, say."""
    place.claim(str(this_process()))
    assert place.conclude("completed") is None
    assert place.said() == {}
    place.put_verdict()
    assert place.conclude("completed") is None, "it may be about to send it"
    place.directory.mark_sent()
    assert place.conclude("completed")


def test_who_has_spoken_is_believed_whatever_the_batch_system_says(place: Place) -> None:
    place.claim()
    place.put_verdict(Outgoing("q3", {"payload": "fine"}, {"zwrap-id": "s"}))
    place.directory.mark_sent()
    verdict = place.conclude("failed", exit_code=1)
    assert verdict
    assert (verdict.outcome, verdict.witness) == (Outcome.SUCCESS, "wrapper")
    assert place.said() == {}


def test_what_a_wrapper_left_is_sent_in_order_and_once(place: Place) -> None:
    place.claim()
    last = Outgoing("q3", {"payload": "fine"}, {"zwrap-id": "s"})
    outbox = place.directory.outbox()
    parts = [Outgoing("q2", {"payload": n}, {"zwrap-id": str(n)}) for n in range(3)]
    mover.store(outbox, [*parts, last])
    assert outbox.claim(), "it was about to send the first"
    [held] = (place.path / "outbox" / "pending").iterdir()
    held.rename(held.with_name(f"{DEAD},0"))
    place.put_verdict(last)
    assert place.conclude("completed")
    assert place.said() == {"q2": [0, 1, 2], "q3": ["fine"]}


def test_while_another_sends_what_was_left_no_word_is_said(place: Place) -> None:
    place.claim()
    outbox = place.directory.outbox()
    mover.store(outbox, [Outgoing("q2", {"payload": n}, {"zwrap-id": str(n)}) for n in range(2)])
    claimed = outbox.claim()
    assert claimed
    assert place.conclude("failed") is None
    assert place.said() == {}, "the order is kept"
    outbox.ack(claimed)
    outbox.close()
    assert place.conclude("failed")
    assert place.said()["q2"] == [1]
    assert place.said().keys() == {"q2", "q4", "q5", "q6"}


def test_of_commands_without_a_wrapper_only_a_failure_is_told(place: Place) -> None:
    """They may have sent the rest themselves."""
    verdict = place.conclude("completed", exit_code=0)
    assert verdict
    assert (verdict.outcome, verdict.exit_status) == (Outcome.SUCCESS, 0)
    assert place.said() == {}


def test_a_way_that_is_wrong_does_not_keep_the_others_from_being_told(place: Place) -> None:
    place.output = {"failure": 4, "completed": 5}
    place.write(error=99)
    assert place.conclude("failed", exit_code=1)
    assert place.said().keys() == {"q4", "q5"}


def test_where_there_is_no_file_left_to_speak_from_it_says_so(place: Place) -> None:
    (place.path / SUBMISSION).unlink()
    with pytest.raises(MessageError, match=r"submission\.json cannot be read: No such file"):
        place.conclude("failed")
    with pytest.raises(MessageError, match=r"Its directory /nonexistent is gone\."):
        place.conclude("failed", job_directory="/nonexistent")


def test_a_death_that_is_tried_again_is_no_failure_of_the_step(place: Place) -> None:
    place.claim()
    file = place.path / SUBMISSION
    kept = json.loads(file.read_text())
    kept |= {
        "header": {"zwrap-id": "an-id", "original-destination": "/queue/cluster.submission"},
        "asked": {"memory_per_node": 1000},
        "retry": {"on": ["out_of_memory"]},
    }
    file.write_text(json.dumps(kept))
    verdict = place.conclude("out_of_memory")
    assert verdict
    assert verdict.outcome is Outcome.RETRIED
    assert verdict.cause.endswith("It is tried again as attempt 2 with memory_per_node 1500.")
    [entry] = place.transport.broker.queues["cluster.submission"]
    assert (entry.message.id, entry.message.headers["zwrap-attempt"]) == ("an-id", 2)
    assert place.said().keys() == {"cluster.submission"}
    assert place.conclude("out_of_memory") == verdict
    assert len(place.transport.broker.queues["cluster.submission"]) == 1


@pytest.mark.parametrize(
    "when", ["before it holds the outbox", "while it sends", "before it notes that it has sent"]
)
def test_of_two_who_conclude_at_the_same_time_one_sends(
    place: Place, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Each has seen before that nothing was sent."""
    kind, name = {
        "before it holds the outbox": (JobDirectory, "outbox"),
        "while it sends": (MemoryTransport, "commit"),
        "before it notes that it has sent": (JobDirectory, "mark_sent"),
    }[when]
    usual, others = getattr(kind, name), []

    def late(self: Any, *arguments: Any) -> Any:
        if not others:
            others.append(None)
            others[0] = place.conclude("cancelled")
        return usual(self, *arguments)

    monkeypatch.setattr(kind, name, late)
    assert place.conclude("cancelled")
    assert {queue: len(each) for queue, each in place.said().items()} == {"q4": 1, "q5": 1, "q6": 1}
    assert (others[0] is None) == (when != "before it holds the outbox")


def test_slurm_says_in_the_output_what_its_state_does_not(place: Place) -> None:
    """Of a job whose memory it looks at now and then."""
    place.claim()
    (place.path / "job.err").write_text(
        "slurmstepd-n1: error: StepId=6.batch exceeded memory limit (329 > 52), being killed\n"
    )
    verdict = place.conclude("failed", signal=9)
    assert verdict
    assert "it ran out of memory (signal 9)." in verdict.cause


@pytest.mark.parametrize(("peak", "words"), [(301.0, "it ran out of memory"), (299.0, "it failed")])
def test_heartbeats_told_that_it_had_too_much_memory(place: Place, peak: float, words: str) -> None:
    """Of a task of an array what Slurm writes goes nowhere."""
    place.claim()
    kept = json.loads((place.path / SUBMISSION).read_text())
    (place.path / SUBMISSION).write_text(json.dumps({**kept, "asked": {"memory_per_node": 300}}))
    verdict = place.conclude("failed", signal=9, peak_memory_mib=peak)
    assert verdict
    assert f"{words} (signal 9)." in verdict.cause
    [error] = place.said()["q6"]
    assert error["peak_memory_mib"] == verdict.peak_memory_mib == peak


def test_an_outbox_that_was_deleted_holds_up_no_final_message(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.claim()
    opened = JobDirectory.outbox

    def deleted(directory: JobDirectory) -> SpoolQueue:
        outbox = opened(directory)
        shutil.rmtree(outbox.path)
        return outbox

    monkeypatch.setattr(JobDirectory, "outbox", deleted)
    assert place.conclude("failed")
    assert place.said().keys() == {"q4", "q5", "q6"}


def test_a_claim_that_cannot_be_read_is_one_all_the_same(place: Place) -> None:
    """A job whose wrapper left no verdict has failed, whatever the batch system says."""
    place.claim()
    (place.path / "claim.json").write_text("")
    verdict = place.conclude("completed", exit_code=0)
    assert verdict
    assert verdict.outcome is Outcome.FAILURE
    assert place.said().keys() == {"q4", "q5", "q6"}


def test_what_nobody_thought_of_is_a_fault_of_its_attempt_only(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(*_: object) -> Verdict:
        raise OverflowError("cannot convert float infinity to integer")

    monkeypatch.setattr(InDirectory, "find", odd)
    attempt = Attempt(token="t-1", recipe_id="r", step=1, cluster="c", job_name="n",
                      job_directory=str(place.path), job_id="7", seen_state="failed")  # fmt: skip
    verdict = InDirectory(place.transport).conclude(attempt)
    assert verdict
    assert (verdict.outcome, verdict.witness) == (Outcome.UNKNOWN, "none")
    assert "OverflowError: cannot convert float infinity" in verdict.cause


def test_what_waits_in_an_outbox_that_cannot_be_opened_is_waited_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of a network filesystem passes; the results of the step are not given up for it."""
    place.claim()
    mover.store(place.directory.outbox(), [Outgoing("q2", {"payload": 1}, {"zwrap-id": "1"})])

    def stale(_: JobDirectory) -> SpoolQueue:
        raise TransportError("The directory cannot be made: Stale file handle.")

    with monkeypatch.context() as fault:
        fault.setattr(JobDirectory, "outbox", stale)
        with pytest.raises(OSError, match="Stale file handle"):
            place.conclude("failed")
    with monkeypatch.context() as fault:
        fault.setattr(SpoolQueue, "waiting", stale)
        with pytest.raises(OutboxError, match="Stale file handle"):
            place.conclude("failed")
    assert place.said() == {}
    assert place.conclude("failed")
    assert place.said().keys() == {"q2", "q4", "q5", "q6"}


def test_of_two_verdicts_the_one_that_lies_there_is_sent(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job's wrapper was thought dead, and was faster after all."""
    place.claim()
    usual = JobDirectory.put_verdict

    def late(self: JobDirectory, verdict: Verdict) -> bool:
        if not (place.path / "verdict.json").exists():
            wrappers = Outgoing("q3", {"payload": "fine"}, {"zwrap-id": "s"})
            usual(self, replace(verdict, witness="wrapper", cause="finished", final=[wrappers]))
        return usual(self, verdict)

    monkeypatch.setattr(JobDirectory, "put_verdict", late)
    verdict = place.conclude("node_fail")
    assert verdict
    assert verdict.witness == "wrapper"
    assert place.said() == {"q3": ["fine"]}
    kept = json.loads((place.path / "late-1.json").read_text())
    assert kept["cause"].endswith("its node failed.")


@pytest.mark.parametrize(
    ("seen", "exit_status"),
    [({"exit_code": 3}, 3), ({"signal": 9}, 137), ({"exit_code": 5, "signal": 9}, 5), ({}, 1)],
)
def test_the_exit_status_of_a_verdict_is_that_of_a_shell(
    place: Place, seen: dict[str, Any], exit_status: int
) -> None:
    verdict = place.conclude("failed", **seen)
    assert verdict
    assert verdict.exit_status == exit_status


def test_the_log_is_the_end_of_the_step_s_own_error_output(place: Place, tmp_path: Path) -> None:
    (place.path / "job.err").write_text("of somebody else\n")
    (tmp_path / "own.err").write_text("out of luck\n")
    place.write(parameters={"workingdir": str(tmp_path), "standard_error": "own.err"})
    assert place.conclude("failed", exit_code=1)
    [facts] = place.said()["q6"]
    assert facts["log"] == ["out of luck"]


# -- what cannot be sent, or written ---------------------------------------------------------------


class Refusing(MemoryTransport):
    """Knows no queues of these names, as RabbitMQ would."""

    missing: tuple[str, ...] = ("q4", "q5")

    def commit(self, messages: Any, *more: Any, **others: Any) -> None:
        for message in messages:
            if message.destination in self.missing:
                raise MessageError(f"There is no queue {message.destination}.")
        super().commit(messages, *more, **others)


def kept(place: Path) -> dict[str, str]:
    """Destination and reason of each message that was refused for good."""
    return {
        json.loads(file.read_text())["destination"]: reason.strip()
        for file, reason in SpoolQueue.dead_letters_in(place)
    }


def test_a_final_message_that_is_refused_for_good_is_kept_with_the_reason(place: Place) -> None:
    place.claim()
    place.transport = Refusing()
    verdict = place.conclude("failed", exit_code=1)
    assert verdict
    assert place.said().keys() == {"q6"}
    reasons = {"q4": "There is no queue q4.", "q5": "There is no queue q5."}
    assert kept(place.path / "outbox") == reasons
    assert place.directory.is_sent
    assert place.conclude("failed", exit_code=1) == verdict
    assert kept(place.path / "outbox") == reasons, "once"


def test_a_transport_that_is_away_leaves_the_rest_for_later(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.claim()
    usual = MemoryTransport.commit

    def away(self: Any, messages: Any, *more: Any, **others: Any) -> None:
        if any(message.destination == "q6" for message in messages):
            raise TransportError("It is away.")
        usual(self, messages, *more, **others)

    with monkeypatch.context() as outage:
        outage.setattr(MemoryTransport, "commit", away)
        with pytest.raises(TransportError):
            place.conclude("failed")
        assert not place.directory.is_sent
    assert place.conclude("failed")
    assert place.said().keys() == {"q4", "q5", "q6"}
    ids = [entry.message.id for entry in place.transport.broker.queues["q4"]]
    assert len(set(ids)) == 1, "again, but under the same id"


@pytest.mark.parametrize("full", ["the verdict", "the outbox", "the mark", "everything"])
def test_a_disk_that_cannot_be_written_keeps_no_message_from_being_sent(
    place: Place, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    place.claim()
    mover.store(place.directory.outbox(), [Outgoing("q2", {"payload": 1}, {"zwrap-id": "1"})])

    def no_space(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if full in ("the verdict", "everything"):
        monkeypatch.setattr(JobDirectory, "_put_in_place", no_space)
    if full in ("the outbox", "everything"):
        for name in ("claim", "keep_lease"):
            monkeypatch.setattr(SpoolQueue, name, no_space)
    if full in ("the mark", "everything"):
        monkeypatch.setattr(JobDirectory, "mark_sent", no_space)
    verdict = place.conclude("failed", exit_code=1)
    assert verdict
    assert verdict.outcome is Outcome.FAILURE
    assert {name: len(each) for name, each in place.said().items()} == {
        "q2": 1, "q4": 1, "q5": 1, "q6": 1
    }  # fmt: skip


def test_a_refused_message_that_can_be_kept_nowhere_is_not_forgotten(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.claim()
    place.transport = Refusing()

    def no_space(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(SpoolQueue, "put_dead_letter", no_space)
        with pytest.raises(OutboxError, match=r"'q4' was refused for good .*cannot be kept"):
            place.conclude("failed", exit_code=1)
    assert not place.directory.is_sent
    assert place.conclude("failed", exit_code=1)
    assert kept(place.path / "outbox").keys() == {"q4", "q5"}


def test_a_verdict_that_is_damaged_is_the_fault_of_this_attempt(place: Place) -> None:
    (place.path / "verdict.json").write_text("garbage")
    with pytest.raises(MessageError, match=r"verdict\.json does not hold a verdict"):
        place.conclude("failed")
