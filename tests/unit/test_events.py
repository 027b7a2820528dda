"""Events of attempts: what is written with each change, what is kept, how much room it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.ledger.thinning import MOST, MOST_BYTES, Event, thinned
from zwrap.attempt.record import SUBMITTED, WAITING, Attempt, Sighting
from zwrap.attempt.verdict import Verdict
from zwrap.job import Outcome
from zwrap.message.content import Outgoing
from zwrap.service.watcher.heartbeats import Heartbeats
from zwrap.service.watcher.sightings import milestones

JOBS = 1000


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.in_file(tmp_path / "ledger.sqlite")


def attempt(token: str = "t-1") -> Attempt:
    return Attempt(
        token=token, recipe_id="r", step=1, cluster="c", job_name="n", job_directory="/d"
    )


def verdict(token: str = "t-1", outcome: Outcome = Outcome.FAILURE) -> Verdict:
    return Verdict(
        token=token, outcome=outcome, witness="wrapper", cause="no spots were found", job_id="7",
        exit_status=1, final=[Outgoing("q", {}, {}), Outgoing("q", {}, {})],
    )  # fmt: skip


def run(ledger: Ledger, tokens: list[str]) -> None:
    """Write what Submitter and Watcher write about jobs from their intents to their ends."""
    ledger.reserve([attempt(token) for token in tokens])
    ledger.record({t: {"state": SUBMITTED, "job_id": "81234", "held": None} for t in tokens})
    ledger.record_sightings({t: Sighting(state="pending", reason="Priority") for t in tokens})
    ledger.record_sightings({t: Sighting(state="running", node="cs04r-sc-com14") for t in tokens})
    ended = Sighting(state="failed", exit_code=1, node="cs04r-sc-com14", ended=1.0)
    ledger.record_sightings(dict.fromkeys(tokens, ended))
    for token in tokens:
        ledger.record_verdict(token, verdict(token))


def words(ledger: Ledger, token: str = "t-1") -> list[str]:
    return [event.what for event in ledger.events.of(token)]


def test_each_change_of_an_attempt_is_an_event(ledger: Ledger) -> None:
    run(ledger, ["t-1"])
    events = {event.what: event for event in ledger.events.of("t-1")}
    assert list(events) == [
        "taken", "submitted", "pending", "running", "ended", "verdict", "sent"
    ]  # fmt: skip
    assert events["taken"].facts == {"cluster": "c"}
    assert events["submitted"].facts == {"job": "81234"}
    assert events["pending"].facts == {"reason": "Priority"}
    assert events["running"].facts == {"node": "cs04r-sc-com14"}
    assert events["ended"].facts == {"state": "failed", "node": "cs04r-sc-com14", "exit_code": 1}
    assert (events["verdict"].witness, events["verdict"].facts) == (
        "wrapper", {"outcome": "failure"}
    )  # fmt: skip
    assert events["sent"].facts == {"messages": 2}


def test_an_attempt_that_another_one_follows_says_so(ledger: Ledger) -> None:
    ledger.reserve([attempt()])
    ledger.record_verdict("t-1", verdict(outcome=Outcome.RETRIED))
    assert words(ledger) == ["taken", "verdict", "follows"]


def test_a_milestone_is_told_once_in_each_run(ledger: Ledger) -> None:
    """However often the Watcher is started anew; and what lies between two looks is left out."""
    ledger.reserve([attempt()])
    for done in (5, 12, 30, 90):
        watcher = Heartbeats()
        for _ in range(2):
            watcher.hear({"token": "t-1", "progress_done": done, "progress_total": 100})
            ledger.record({}, lambda now, it=watcher: milestones([attempt()], it, now))
    ledger.record_sightings({"t-1": Sighting(state="running", node="n2")})
    anew = Heartbeats()
    anew.hear({"token": "t-1", "progress_done": 1, "progress_total": 4})
    ledger.record({}, lambda now: milestones([attempt()], anew, now))
    told = [(event.what, event.facts.get("percent")) for event in ledger.events.of("t-1")]
    assert told == [
        ("taken", None), ("progress", 10), ("progress", 25), ("progress", 90), ("running", None),
        ("progress", 25),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "status",
    [
        {}, {"progress_done": 5}, {"progress_done": True, "progress_total": True},
        {"progress_done": "9", "progress_total": 10}, {"progress_done": 3, "progress_total": 0},
        {"progress_done": 11, "progress_total": 10}, {"progress_done": 9, "progress_total": 100},
        {"progress_done": float("nan"), "progress_total": float("inf")},
    ],
)  # fmt: skip
def test_a_heartbeat_without_a_milestone_tells_none(status: dict[str, object]) -> None:
    heartbeats = Heartbeats()
    heartbeats.hear({"token": "t-1", **status})
    assert heartbeats.milestone("t-1") is None


def test_a_stage_with_another_number_of_things_has_milestones_of_its_own() -> None:
    heartbeats, found = Heartbeats(), []
    for done, total in ((80, 100), (82, 100), (3, 10), (6, 10)):
        heartbeats.hear({"token": "t-1", "progress_done": done, "progress_total": total})
        found.append(heartbeats.milestone("t-1"))
    heartbeats.forget("t-1")
    assert [*found, heartbeats.milestone("t-1")] == [75, None, 25, 50, None]


def test_a_silent_wrapper_is_told_and_that_it_is_heard_again(ledger: Ledger) -> None:
    ledger.reserve([attempt()])
    for since in (5.0, None):
        ledger.record({"t-1": {"stalled": since}})
    assert words(ledger) == ["taken", "silent", "heard again"]


def test_what_another_submitter_has_reserved_is_taken_once(ledger: Ledger) -> None:
    assert ledger.reserve([attempt()])
    assert not ledger.reserve([attempt()])
    assert words(ledger) == ["taken"]


def test_a_reason_is_told_once_until_it_changes(ledger: Ledger) -> None:
    ledger.reserve([attempt()])
    for reason in ("full", "full", "full", "away", "full"):
        ledger.record({"t-1": {"state": WAITING, "reason": reason}})
    found = [(event.what, event.facts.get("reason")) for event in ledger.events.of("t-1")]
    assert found == [("taken", None), ("held", "full"), ("held", "away"), ("held", "full")]


def test_changes_that_are_none_of_the_job_are_no_events(ledger: Ledger) -> None:
    ledger.reserve([attempt()])
    ledger.record({"t-1": {"pending": 1.0, "missing": None}})
    assert words(ledger) == ["taken"]


def test_a_person_who_acts_is_named_with_the_reason(ledger: Ledger) -> None:
    ledger.reserve([attempt("t-1"), attempt("t-2")])
    ledger.events.note(["t-1", "t-2"], "cancelled", "ann@host", "wrong sample", {"of": 2})
    ledger.events.note(["t-1"], "cancelled", "ann@host", "wrong sample", {"of": 2})
    [taken, first, second] = ledger.events.of("t-1")
    assert (taken.what, first.what, second.what) == ("taken", "cancelled", "cancelled")
    assert first.witness == "ann@host"
    assert first.facts == {"person": 1, "reason": "wrong sample", "of": 2}
    assert words(ledger, "t-2") == ["taken", "cancelled"]


def test_of_an_attempt_of_an_earlier_release_there_are_no_events(ledger: Ledger) -> None:
    assert ledger.events.of("t-1") == []
    assert ledger.events.of_all(["t-1", "t-2"]) == {}


def test_a_fact_that_a_database_refuses_is_written_all_the_same(ledger: Ledger) -> None:
    facts = {"odd": "\0\ud800", "large": 10**400, "nan": float("nan"), "list": [1], "none": None}
    ledger.events.note(["t-1"], "cancelled\0\ud800", "\0\ud800", "x" * 10_000, facts)
    [event] = ledger.events.of("t-1")
    assert len(event.text) < 1000
    assert str(event.facts["reason"]).endswith("...")


def test_first_and_last_events_stay_and_milestones_go_first(ledger: Ledger) -> None:
    ledger.reserve([attempt()])
    ledger.record({"t-1": {"state": SUBMITTED, "job_id": "7"}})
    ledger.events.note(["t-1"], "cancelled", "ann@host")
    for number in range(60):
        ledger.record_sightings({"t-1": Sighting(state="pending", reason=f"reason {number}")})
    ledger.events.note(["t-1"], "cancelled", "bob@host")
    found = ledger.events.of("t-1")
    assert len(found) <= MOST
    assert [event.what for event in found][:3] == ["taken", "submitted", "cancelled"]
    assert [event.facts.get("reason") for event in found][-3:] == ["reason 58", "reason 59", None]


def test_of_the_middle_milestones_go_before_what_a_person_did() -> None:
    events = [Event("t", float(n), "pending", "cluster") for n in range(30)]
    events[10] = Event.told("t", 10.0, "progress", "wrapper", {"done": 10})
    events[11] = Event.told("t", 11.0, "cancelled", "ann@host", {"person": 1})
    kept, dropped = thinned(events)
    assert (len(kept) in range(18, MOST + 1), events[11] in kept, events[10] in dropped) == (
        True,
    ) * 3
    assert kept[:4] + kept[-4:] == events[:4] + events[-4:]


def test_events_of_many_words_are_fewer() -> None:
    events = [
        Event.told("t", float(n), "pending", "cluster", {"reason": f"{n}" * 80}) for n in range(9)
    ]
    kept, _ = thinned(events)
    assert len(kept) == 8
    assert sum(event.size for event in [events[0], *events[-4:]]) < MOST_BYTES


def test_events_of_a_job_take_less_than_2_kb(tmp_path: Path) -> None:
    """Of jobs that wait for many reasons, too; measured in the file of the ledger."""
    sizes = []
    for name, reasons in (("plain", 0), ("many", 30)):
        file = tmp_path / name
        ledger = Ledger.in_file(file)
        tokens = [
            f"{number * 7919 % JOBS:08d}-76b1-4c7b-9d28-cfb0cbf6aae7-1" for number in range(JOBS)
        ]
        run(ledger, tokens)
        for number in range(reasons):
            seen = Sighting(state="pending", reason=f"Reservation {number}, (JobHeldUser)")
            ledger.record_sightings(dict.fromkeys(tokens, seen))
        with ledger.database.begin() as connection:
            query = "SELECT sum(pgsize) FROM dbstat WHERE name = 'events'"
            sizes.append(connection.exec_driver_sql(query).scalar_one() / JOBS)
        ledger.close()
    assert max(sizes) < 2000
    assert sizes[0] < 1000
