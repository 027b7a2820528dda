"""Conclusion of jobs that cannot speak: once, what is true, through the recipe's own outputs."""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from msgspec.structs import replace
from zwrap_schedulers.slurm.slurm import Slurm

from zwrap.attempt.directory import SUBMISSION, JobDirectory
from zwrap.attempt.finals import OutboxError
from zwrap.attempt.record import LOST, STUCK, Attempt
from zwrap.attempt.verdict import STARTING, Verdict, final_messages
from zwrap.errors import MessageError, QueueFullError, TransportError
from zwrap.host.processes import this_process
from zwrap.job import Outcome
from zwrap.message.content import ID_HEADER, Outgoing
from zwrap.message.jsontext import encode
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.service.watcher.conclusion import ABSENT_S, AbsentError, InDirectory
from zwrap.transport import mover
from zwrap.transport.failures import TooLargeError
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
    """Slurm looks at the memory of a job at intervals only."""
    place.claim()
    (place.path / "job.err").write_text(
        "slurmstepd-n1: error: StepId=6.batch exceeded memory limit (329 > 52), being killed\n"
    )
    verdict = place.conclude("failed", signal=9)
    assert verdict
    assert "it ran out of memory (signal 9)." in verdict.cause


@pytest.mark.parametrize(("peak", "words"), [(301.0, "it ran out of memory"), (299.0, "it failed")])
def test_heartbeats_told_that_it_had_too_much_memory(place: Place, peak: float, words: str) -> None:
    """Slurm's own message about a task of an array is written to no file."""
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


def attempt_in(place: Place, state: str = "completed") -> Attempt:
    return Attempt(token="t-1", recipe_id="r", step=1, cluster="c", job_name="n",
                   job_directory=str(place.path), job_id="7", seen_state=state)  # fmt: skip


def concluded(place: Place, state: str = "completed") -> Verdict:
    verdict = InDirectory(place.transport).conclude(attempt_in(place, state))
    assert verdict
    return verdict


OTHER = {
    "token": "u-1", "outcome": "success", "witness": "wrapper", "cause": "fine", "job_id": "7",
    "exit_status": 0,
}  # fmt: skip

VERDICTS = [
    b"", b"garbage", b"\xff\xfe", b"[]", b"{}", b"null", b'{"token": "t-1"}', b"1" * 5000,
    json.dumps(OTHER).encode(), json.dumps({**OTHER, "token": "t-1", "outcome": "fine"}).encode(),
    json.dumps({**OTHER, "token": "t-1", "exit_status": "x"}).encode(),
    json.dumps({**OTHER, "token": "t-1", "final": [{"destination": 1}]}).encode(),
]  # fmt: skip


@pytest.mark.parametrize("content", VERDICTS, ids=lambda content: repr(content[:20]))
def test_a_verdict_that_is_none_is_a_failure_of_its_step(place: Place, content: bytes) -> None:
    """Its recipe is told why, once, and the next Watcher finds a verdict."""
    place.claim()
    (place.path / "verdict.json").write_bytes(content)
    (place.path / "verdict.sent").touch()
    verdict = concluded(place)
    assert verdict.outcome is Outcome.FAILURE
    assert "verdict.json" in verdict.cause
    said = place.said()
    assert said.keys() == {"q4", "q5", "q6"}
    assert said["q4"] == [verdict.cause]
    assert concluded(place) == verdict
    assert place.said() == said, "once"
    assert place.directory.verdict() == verdict
    assert (place.path / "damaged-1").read_bytes() == content


@given(st.binary(max_size=60) | st.from_type(dict[str, int]).map(encode))
@settings(max_examples=20)
def test_whatever_a_file_of_the_job_holds_its_step_ends(tmp_path: Path, content: bytes) -> None:
    for name in ("verdict.json", "claim.json", "outbox", SUBMISSION):
        place = Place(tmp_path / uuid.uuid4().hex)
        (place.path / name).write_bytes(content)
        verdict = concluded(place, "failed")
        told = name != SUBMISSION
        assert verdict.outcome is (Outcome.FAILURE if told else Outcome.UNKNOWN)
        assert (place.said().keys() == {"q4", "q5", "q6"}) is told


@pytest.mark.parametrize(
    "name", ["verdict.json", "claim.json", SUBMISSION, "outbox", "verdict.sent"]
)
def test_a_directory_in_the_place_of_a_file_is_a_fault_of_its_step(place: Place, name: str) -> None:
    (place.path / name).unlink(missing_ok=True)
    (place.path / name / "incoming").mkdir(parents=True)
    verdict = concluded(place, "failed")
    told = name != SUBMISSION
    assert verdict.outcome is (Outcome.FAILURE if told else Outcome.UNKNOWN)
    assert bool(place.said()) is told


def test_a_claim_on_another_attempt_is_none_on_this_one(place: Place) -> None:
    place.claim(str(this_process()))
    file = place.path / "claim.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "token": "u-1"}))
    verdict = concluded(place)
    assert verdict.outcome is Outcome.FAILURE
    assert verdict.cause.endswith("Its claim.json is damaged, or of another attempt.")


def test_a_job_directory_that_is_a_link_is_not_followed(place: Place, tmp_path: Path) -> None:
    """The messages of another job would be sent."""
    other = Place(tmp_path / "other")
    mover.store(other.directory.outbox(), [Outgoing("q2", {"payload": 1}, {"zwrap-id": "1"})])
    shutil.rmtree(place.path)
    place.path.symlink_to(other.path)
    verdict = concluded(place, "failed")
    assert verdict.outcome is Outcome.UNKNOWN
    assert "is a link now, which is not followed" in verdict.cause
    assert place.said() == {}
    assert not (other.path / "verdict.json").exists()


@pytest.mark.parametrize("part", ["outbox", "outbox/incoming"])
def test_an_outbox_that_is_a_link_is_not_followed(place: Place, tmp_path: Path, part: str) -> None:
    place.claim()
    other = Place(tmp_path / "other")
    mover.store(other.directory.outbox(), [Outgoing("q2", {"payload": 1}, {"zwrap-id": "1"})])
    (place.path / part).parent.mkdir(exist_ok=True)
    (place.path / part).symlink_to(other.path / part)
    verdict = concluded(place, "failed")
    assert verdict.outcome is Outcome.FAILURE
    assert f"{part} is no directory." in verdict.cause
    assert place.said().keys() == {"q4", "q5", "q6"}
    assert len(list((other.path / "outbox" / "incoming").iterdir())) == 1


@pytest.mark.parametrize("headers", [{}, {"zwrap-id": None}, {"zwrap-id": []}, {"zwrap-id": ""}])
def test_a_final_message_without_an_id_gets_one_that_a_repeat_repeats(
    place: Place, headers: dict[str, Any]
) -> None:
    place.claim()
    place.put_verdict(Outgoing("q3", {"payload": "fine"}, headers))
    place.conclude("completed")
    place.directory.mark_sent()
    (place.path / "verdict.sent").unlink()
    place.conclude("completed")
    ids = [entry.message.id for entry in place.transport.broker.queues["q3"]]
    assert len(ids) == 2
    assert len(set(ids)) == 1


@pytest.mark.parametrize("wrong", [{"delay_s": 1e308}, {"delay_s": -1.0}, {"expires_s": 1e300}])
def test_a_final_message_with_an_impossible_time_is_kept_and_the_others_are_sent(
    place: Place, wrong: dict[str, float]
) -> None:
    place.claim()
    fine = Outgoing("q3", {"payload": "fine"}, {"zwrap-id": "s"})
    place.put_verdict(replace(fine, destination="q2", headers={"zwrap-id": "w"}, **wrong), fine)
    assert place.conclude("completed")
    assert place.said() == {"q3": ["fine"]}
    [reason] = kept(place.path / "outbox").values()
    assert "delay or lifetime" in reason


@pytest.mark.parametrize("wrong", [{"delay_s": 1e308}, {"expires_s": -1.0}])
def test_a_message_in_the_outbox_with_an_impossible_time_is_kept(
    place: Place, wrong: dict[str, float]
) -> None:
    place.claim()
    part = Outgoing("q2", {"payload": 1}, {"zwrap-id": "1"})
    outbox = place.directory.outbox()
    mover.store(outbox, [replace(part, **wrong), replace(part, headers={"zwrap-id": "2"})])
    assert place.conclude("failed")
    assert place.said().keys() == {"q2", "q4", "q5", "q6"}
    assert len(place.said()["q2"]) == 1
    assert "delay or lifetime" in kept(place.path / "outbox")["q2"]


def test_an_outbox_that_meets_an_unforeseen_fault_is_left_alone_in_the_end(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.claim()
    mover.store(place.directory.outbox(), [Outgoing("q2", {"payload": 1}, {"zwrap-id": "1"})])
    monkeypatch.setattr(mover.Emptying, "portion", lambda *_: 1 // 0)
    conclusion = InDirectory(place.transport)
    with pytest.raises(ZeroDivisionError):
        conclusion.conclude(attempt_in(place))
    verdict = conclusion.give_up(attempt_in(place), "It was tried 5 times.")
    assert verdict
    assert verdict.outcome is Outcome.FAILURE
    assert place.said().keys() == {"q4", "q5", "q6"}


def test_looking_at_a_job_without_messages_makes_no_outbox(place: Place) -> None:
    before = sorted(place.path.iterdir())
    assert place.conclude("completed")
    made = {path.name for path in set(place.path.iterdir()) - set(before)}
    assert made == {"verdict.json", "verdict.sent"}


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.ENOTCONN])
@pytest.mark.parametrize("call", ["lstat", "open", "listdir"])
def test_a_filesystem_that_is_away_concludes_no_job(
    place: Place, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    place.claim()
    place.directory.outbox()
    usual = getattr(os, call)

    def away(path: Any, *arguments: Any, **others: Any) -> Any:
        if str(path).startswith(str(place.path)):
            raise OSError(number, os.strerror(number), str(path))
        return usual(path, *arguments, **others)

    with monkeypatch.context() as fault:
        fault.setattr(os, call, away)
        with pytest.raises((OSError, OutboxError)):
            InDirectory(place.transport).conclude(attempt_in(place, "failed"))
    assert place.said() == {}
    assert concluded(place, "failed").outcome is Outcome.FAILURE
    assert place.said().keys() == {"q4", "q5", "q6"}


def test_a_filesystem_that_is_not_mounted_is_waited_for_and_not_for_ever(place: Place) -> None:
    """The directories above are missing then, too; of a directory that was deleted they are not."""
    now = 1_000_000.0
    missing = replace(
        attempt_in(place), job_directory=str(place.path / "not/mounted/.zwrap/t-1"), ended=now
    )
    conclusion = InDirectory(place.transport, now=lambda: now)
    with pytest.raises(AbsentError, match="is its filesystem mounted"):
        conclusion.conclude(missing)
    now += ABSENT_S + 1
    verdict = conclusion.conclude(missing)
    assert verdict
    assert verdict.outcome is Outcome.UNKNOWN
    now -= ABSENT_S + 1
    verdict = conclusion.conclude(replace(missing, job_directory=str(place.path / "deleted")))
    assert verdict
    assert verdict.outcome is Outcome.UNKNOWN


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


def test_late_verdicts_are_kept_up_to_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job may have taken any number of their names."""
    monkeypatch.setattr("zwrap.attempt.directory.LATE", 3)
    directory = JobDirectory(tmp_path)
    verdict = Verdict(token="t", outcome=Outcome.FAILURE, witness="w", cause="c", job_id="1",
                      exit_status=1)  # fmt: skip
    assert directory.put_verdict(verdict)
    (tmp_path / "late-1.json").mkdir()
    for _ in range(5):
        assert not directory.put_verdict(verdict)
    assert sorted(file.name for file in tmp_path.glob("late-*")) == [
        "late-1.json", "late-2.json", "late-3.json",
    ]  # fmt: skip


# -- a result that is refused after the verdict ----------------------------------------------------

LATE = "Reported as a success; afterwards: A result was refused: it is too large"
REFUSED = TooLargeError("it is too large")


class Choosy(MemoryTransport):
    """Takes no messages to some queues, for the reasons in `refusals`."""

    def __init__(self, **refusals: Exception) -> None:
        super().__init__()
        self.refusals = refusals

    def commit(self, messages: Any, *more: Any, **others: Any) -> None:
        for each in messages:
            if error := self.refusals.get(each.destination):
                raise error
        super().commit(messages, *more, **others)


def finals(place: Place) -> list[Outgoing]:
    envelope = Envelope.from_body(place.directory.submission().message)
    told = final_messages(envelope, Outcome.SUCCESS, "finished", {})
    return [each.with_id(f"final {number}") for number, each in enumerate(told)]


def result(name: str = "result", payload: object = 1) -> Outgoing:
    return Outgoing("results", {"payload": payload}, {ID_HEADER: name})


@pytest.mark.parametrize("by", ["this sender", "one that died"])
def test_a_result_that_is_refused_after_a_verdict_of_success_makes_it_a_failure(
    place: Place, by: str
) -> None:
    place.claim()
    place.put_verdict(*finals(place))
    place.transport = Choosy(results=REFUSED)
    if by == "this sender":
        mover.store(place.directory.outbox(), [result()])
    else:
        place.directory.outbox().put_dead_letter(encode(result()), "it is too large")
    verdict = place.conclude("completed")
    assert verdict
    assert (verdict.outcome, verdict.exit_status) == (Outcome.FAILURE, 1)
    assert verdict.cause == "A result was refused: it is too large"
    said = place.said()
    assert said.keys() == {"q4", "q5", "q6"}
    assert said["q4"] == [verdict.cause]
    assert said["q6"][0]["error"] == verdict.cause
    assert place.directory.verdict("t-1") == verdict
    assert place.conclude("completed") == verdict
    assert place.said() == said, "once"


def test_what_is_no_result_of_this_run_changes_no_verdict(place: Place) -> None:
    place.claim()
    outbox = place.directory.outbox()
    earlier = outbox.put_dead_letter(encode(result("of an earlier run")), "there was no such queue")
    os.utime(f"{earlier}.reason", (1e9, 1e9))
    place.put_verdict(*finals(place))
    for each in (result("s", STARTING), finals(place)[0]):
        outbox.put_dead_letter(encode(each), "there is no such queue")
    verdict = place.conclude("completed")
    assert verdict
    assert verdict.outcome is Outcome.SUCCESS
    assert place.said().keys() == {"q3", "q5"}


@pytest.mark.parametrize("release", ["this one", "the last one"])
def test_a_result_that_is_refused_after_the_final_messages_is_in_ledger_and_log(
    place: Place, caplog: pytest.LogCaptureFixture, release: str
) -> None:
    place.claim()
    place.put_verdict(*finals(place))
    full = QueueFullError("it is full")
    if release == "this one":
        place.transport = transport = Choosy(results=full)
        mover.store(place.directory.outbox(), [result()])
        with pytest.raises(OutboxError, match="it is full"):
            place.conclude("completed")
        transport.refusals["results"] = REFUSED
    else:
        place.transport = Choosy(results=REFUSED)
        mover.store(place.directory.outbox(), [*finals(place), result()])
    verdict = place.conclude("completed")
    assert verdict
    assert verdict.outcome is Outcome.SUCCESS, "which was told"
    assert {queue: len(each) for queue, each in place.said().items()} == {"q3": 1, "q5": 1}
    assert verdict.cause == LATE
    assert LATE in caplog.text
    assert place.directory.verdict("t-1") == verdict
    assert place.conclude("completed") == verdict


@pytest.mark.parametrize("what", ["is full", "is away"])
def test_while_success_itself_waits_it_can_still_become_a_failure(place: Place, what: str) -> None:
    place.claim()
    place.put_verdict(*finals(place)[:1])
    full = QueueFullError("it is full")
    first: Exception = full if what == "is full" else TransportError("away")
    place.transport = transport = Choosy(results=first, q3=full)
    mover.store(place.directory.outbox(), [result()])
    for _ in range(2):
        with pytest.raises((OutboxError, TransportError)):
            place.conclude("completed")
    transport.refusals = {"results": REFUSED}
    verdict = place.conclude("completed")
    assert verdict
    assert verdict.outcome is Outcome.FAILURE
    assert place.said().keys() == {"q4", "q5", "q6"}


def test_where_perhaps_success_was_sent_no_other_end_is_told(place: Place) -> None:
    """The connection was lost while it was on its way."""
    place.claim()
    place.put_verdict(*finals(place))
    place.transport = transport = Choosy(
        results=QueueFullError("it is full"), q3=TransportError("lost")
    )
    mover.store(place.directory.outbox(), [result()])
    with pytest.raises(TransportError):
        place.conclude("completed")
    transport.refusals = {"results": REFUSED}
    verdict = place.conclude("completed")
    assert verdict
    assert (verdict.outcome, verdict.cause) == (Outcome.SUCCESS, LATE)
    assert place.said().keys() == {"q3", "q5"}


def test_where_the_step_is_not_known_any_more_the_verdict_notes_what_was_refused(
    place: Place,
) -> None:
    place.claim()
    place.put_verdict(*finals(place))
    (place.path / SUBMISSION).unlink()
    place.transport = Choosy(results=REFUSED)
    mover.store(place.directory.outbox(), [result()])
    verdict = place.conclude("completed")
    assert verdict
    assert (verdict.outcome, verdict.cause) == (Outcome.SUCCESS, LATE)
    assert place.said().keys() == {"q3", "q5"}
