"""Conclusion of jobs whose directory nobody here sees: once, and what came by message first."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from zwrap.attempt.finals import UNSENT
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import Attempt
from zwrap.attempt.verdict import Verdict
from zwrap.errors import MessageError, PermanentError, TransportError
from zwrap.host.paths import state_directory
from zwrap.job import Outcome
from zwrap.message.content import Outgoing
from zwrap.message.jsontext import encode
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.service.watcher import verdicts
from zwrap.service.watcher.remote import SETTLE_MESSAGE_S, InLedger
from zwrap.transport.contract import Transport
from zwrap.transport.memory import MemoryTransport
from zwrap.transport.spool.queue import SpoolQueue

WAIT_S = 900.0


class Place:
    """An attempt in a ledger, and what its job's end makes of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = 1_000_000.0
        self.ledger = Ledger(f"sqlite:///{directory}/ledger.sqlite", lambda: self.now)
        self.transport = MemoryTransport()
        self.submitted("zocalo.wrap --recipewrapper $RECIPEWRAP")

    def submitted(self, commands: str) -> None:
        step = {
            "queue": "cluster.submission", "output": {"success": 2, "failure": 3, "completed": 4},
            "parameters": {"cluster": {"commands": commands}, "workingdir": "/there"}, "error": 5,
        }  # fmt: skip
        recipe: dict[str, Any] = {"start": [[1, []]], "1": step}
        recipe |= {str(n): {"queue": f"q{n}"} for n in range(2, 6)}
        body = Envelope(Recipe(recipe), 1, environment={"ID": "r"}).body()
        self.ledger.remote.keep("t-1", encode({"header": {}, "message": body}).decode())

    def hear(self, cause: str = "finished", transport: Transport | None = None) -> None:
        verdict = Verdict(
            token="t-1", outcome=Outcome.SUCCESS, witness="wrapper", cause=cause, job_id="7",
            exit_status=0, final=[Outgoing("q2", {"payload": cause}, {"zwrap-id": "i"})],
        )  # fmt: skip
        body = msgspec.to_builtins(verdict)
        verdicts.hear(body, self.ledger, transport or self.transport)

    def attempt(self, state: str, **seen: Any) -> Attempt:
        return Attempt(
            token="t-1", recipe_id="r", step=1, cluster="c", job_name="n", job_id="7",
            job_directory="/there", seen_state=state, ended=self.now, **seen,
        )  # fmt: skip

    def conclude(self, attempt: Attempt) -> Verdict | None:
        return InLedger(self.ledger, self.transport, WAIT_S).find(attempt)

    def said(self) -> dict[str, int]:
        queues = self.transport.broker.queues
        return {name: len(entries) for name, entries in sorted(queues.items()) if entries}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_a_wrapper_says_is_sent_once(place: Place) -> None:
    """However often its message comes, and whatever else is said."""
    place.hear()
    place.hear()
    place.hear("something else")
    verdict = place.conclude(place.attempt("failed", exit_code=1))
    assert verdict
    assert (verdict.outcome, verdict.witness) == (Outcome.SUCCESS, "wrapper")
    assert place.said() == {"q2": 1}


def test_a_result_that_is_refused_after_the_wrapper_told_its_end_is_in_the_ledger(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    late = "Reported as a success; afterwards: A result was refused: it is too large"
    place.hear()
    [kept] = [place.ledger.remote.get("t-1")]
    assert kept
    assert kept.verdict
    noted = replace(kept.verdict, cause=late)
    other = replace(noted, final=[])
    for verdict in (noted, other, kept.verdict, noted):
        verdicts.hear(msgspec.to_builtins(verdict), place.ledger, place.transport)
    assert place.conclude(place.attempt("failed", exit_code=111)) == noted
    assert late in caplog.text
    assert place.said() == {"q2": 1}


def test_whoever_comes_after_a_crash_sends_what_was_said(place: Place) -> None:
    """It waits until the process that began to send must be dead."""

    class Broken(MemoryTransport):
        def commit(self, *_: Any, **__: Any) -> None:
            raise TransportError("the connection is lost")

    with pytest.raises(TransportError):
        place.hear(transport=Broken())
    ended = place.attempt("completed")
    assert place.conclude(ended) is None
    assert place.said() == {}
    place.now += 61
    assert place.conclude(ended)
    assert place.conclude(ended)
    assert place.said() == {"q2": 1}


def test_of_a_job_that_died_the_batch_system_speaks(place: Place) -> None:
    verdict = place.conclude(place.attempt("timeout", node="n1"))
    assert verdict
    assert verdict.outcome is Outcome.FAILURE
    assert verdict.cause == "Job 7 on cluster c (n1): it exceeded its time limit."
    assert place.said() == {"q3": 1, "q4": 1, "q5": 1}
    place.hear()  # too late
    assert place.said() == {"q3": 1, "q4": 1, "q5": 1}


def test_a_verdict_that_arrives_while_another_is_made_is_the_only_one(place: Place) -> None:
    class Slow(InLedger):
        def _own(self, *arguments: Any) -> Verdict | None:
            place.hear()
            return super()._own(*arguments)

    before = place.said()
    assert Slow(place.ledger, place.transport, WAIT_S).find(place.attempt("failed")) is None
    assert (before, place.said()) == ({}, {"q2": 1})


def test_a_wrapper_that_ended_well_is_given_time(place: Place) -> None:
    """Its message may wait in a broker; nothing else is known of how it ended."""
    ended = place.attempt("completed")
    assert place.conclude(ended) is None
    place.now += WAIT_S
    verdict = place.conclude(ended)
    assert verdict
    assert verdict.cause == "Job 7 on cluster c: it ended before it could say how."


def test_commands_without_a_wrapper_have_no_word_to_say(place: Place) -> None:
    place.submitted("true")
    verdict = place.conclude(place.attempt("completed"))
    assert verdict
    assert (verdict.outcome, place.said()) == (Outcome.SUCCESS, {})


@pytest.mark.parametrize("body", [None, {"token": "t-1"}, "text"])
def test_what_is_no_verdict_is_refused(place: Place, body: Any) -> None:
    with pytest.raises(MessageError, match="not a valid verdict on a job"):
        verdicts.hear(body, place.ledger, place.transport)


def test_a_verdict_on_an_attempt_of_another_ledger_is_refused(place: Place) -> None:
    other = Verdict(token="u-1", outcome=Outcome.SUCCESS, witness="wrapper", cause="finished",
                    job_id="7", exit_status=0)  # fmt: skip
    with pytest.raises(MessageError, match="no attempt u-1"):
        verdicts.hear(msgspec.to_builtins(other), place.ledger, place.transport)


def test_it_is_said_once_a_message_must_have_come(place: Place) -> None:
    conclusion = InLedger(place.ledger, place.transport, WAIT_S)
    ended = place.attempt("failed")
    assert (conclusion.has_verdict(ended), conclusion.settle_s(ended)) == (False, SETTLE_MESSAGE_S)
    place.hear()
    assert (conclusion.has_verdict(ended), conclusion.settle_s(ended)) == (True, 0.0)


def test_what_is_refused_for_good_is_kept_in_the_state_directory(place: Place) -> None:
    """There is no job directory in which it could be kept."""

    class Refusing(MemoryTransport):
        def commit(self, messages: Any, *more: Any, **others: Any) -> None:
            raise MessageError(f"There is no queue {messages[0].destination}.")

    place.transport = Refusing()
    assert place.conclude(place.attempt("failed"))
    letters = SpoolQueue.dead_letters_in(state_directory() / UNSENT)
    assert [reason for _, reason in letters] == [f"There is no queue q{n}.\n" for n in (3, 5, 4)]
    kept = place.ledger.remote.get("t-1")
    assert kept
    assert kept.sent


def test_a_damaged_verdict_is_a_fault_of_its_attempt_only(place: Place) -> None:
    place.hear()
    with contextlib.closing(sqlite3.connect(place.directory / "ledger.sqlite")) as rows:
        rows.execute("update words set verdict = '{', sent = null")
        rows.commit()
    attempt = place.attempt("failed", exit_code=1)
    conclusion = InLedger(place.ledger, place.transport, WAIT_S)
    assert conclusion.has_verdict(attempt)
    assert conclusion.settle_s(attempt) == 0.0
    assert conclusion.conclude(attempt) is None, "who recorded it may be sending it"
    place.now += 61
    verdict = conclusion.conclude(attempt)
    assert verdict
    assert verdict.outcome is Outcome.FAILURE
    assert "does not hold a valid verdict on attempt t-1" in verdict.cause
    assert place.said() == {"q2": 1, "q3": 1, "q4": 1, "q5": 1}
    kept = place.ledger.remote.get("t-1")
    assert kept
    assert kept.verdict == verdict
    assert kept.sent
    assert conclusion.conclude(attempt) == verdict
    assert place.said() == {"q2": 1, "q3": 1, "q4": 1, "q5": 1}, "once"


def test_where_the_ledger_holds_no_submission_nobody_can_be_told(place: Place) -> None:
    attempt = replace(place.attempt("failed"), token="t-2")
    verdict = InLedger(place.ledger, place.transport, WAIT_S).conclude(attempt)
    assert verdict
    assert verdict.outcome is Outcome.UNKNOWN
    assert verdict.cause.endswith("The ledger does not hold the submission of the attempt.")


@pytest.mark.parametrize("token", ["\ud800", "a\0b"])
def test_a_verdict_that_cannot_be_stored_is_the_fault_of_its_message(
    place: Place, token: str
) -> None:
    verdict = Verdict(token="t-1", outcome=Outcome.SUCCESS, witness="wrapper", cause="finished",
                      job_id="7", exit_status=0)  # fmt: skip
    body = {**msgspec.to_builtins(verdict), "token": token}
    with pytest.raises(PermanentError):
        verdicts.hear(body, place.ledger, place.transport)
