"""Requests: what a run of a recipe tells of its sender, and what happened to all of its jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import SUBMITTED, Attempt
from zwrap.attempt.sender import KEY, Sender, described, sender_in
from zwrap.attempt.verdict import Verdict
from zwrap.errors import MessageError, UnknownNameError
from zwrap.job import Outcome
from zwrap.message.content import RECIPE_HEADER
from zwrap.monitor.history import history
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe

from .test_services import READY, READY_CODE, Site, plug_in, site  # noqa: F401

HEADERS = {"zocalo.go.user": "ann", "zocalo.go.host": "i04", "zwrap-sent": 1_700_000_000.5}
REQUEST = {"recipes": ["good"], "parameters": {"workingdir": "/dls/i04/sample_7"}}
ANN = Sender("1", "ann", "i04", 1_700_000_000.5, "/dls/i04/sample_7", ["good"])


def environment(of: Site) -> dict[str, Any]:
    [message] = of.messages("first")
    found: dict[str, Any] = message.body["environment"]
    return found


def test_a_run_brings_along_who_asked_for_it(site: Site) -> None:  # noqa: F811
    site.dispatch(REQUEST, {**HEADERS, "zwrap-id": "7a7c"})
    told = environment(site)
    assert set(told) == {"ID", KEY}
    assert sender_in(told) == Sender(
        "7a7c", "ann", "i04", 1_700_000_000.5, "/dls/i04/sample_7", ["good"]
    )


def test_a_request_without_a_sender_adds_no_key(site: Site) -> None:  # noqa: F811
    site.dispatch(REQUEST)
    assert set(environment(site)) == {"ID"}


def test_a_request_that_waited_keeps_its_id_and_its_time(site: Site, plug_in: Any) -> None:  # noqa: F811
    plug_in(READY, "ready", READY_CODE)
    site.dispatch(REQUEST, {**HEADERS, "zwrap-id": "7a7c"})
    [again] = site.messages("processing_recipe")
    site.broker.queues["processing_recipe"].clear()
    body = {**again.body, "parameters": {**again.body["parameters"], "go": True}}
    site.dispatch(body, {k: v for k, v in again.headers.items() if k != "zwrap-id"})
    sender = sender_in(environment(site))
    assert sender
    assert (sender.id, sender.sent) == ("7a7c", 1_700_000_000.5)


def test_a_run_that_a_recipe_starts_is_of_the_same_request(site: Site) -> None:  # noqa: F811
    outer = Recipe({"start": [[1, []]], "1": {"queue": "processing_recipe"}})
    told = described("7a7c", HEADERS, {}, ["outer"])
    inner = Envelope(outer, 1, payload=REQUEST, environment={"ID": "outer", **told})
    site.dispatch(inner.body(), {RECIPE_HEADER: True})
    sender = sender_in(environment(site))
    assert sender
    assert (sender.id, sender.recipes) == ("7a7c", ["outer"])


@pytest.mark.parametrize(
    "given",
    [
        None, 7, [], {}, {"id": 7}, {"id": ""}, {"id": "x" * 81}, {"user": "ann"},
    ],
)  # fmt: skip
def test_what_is_no_sender_is_left_out(given: object) -> None:
    assert sender_in({KEY: given}) is None
    assert sender_in({}) is None


def test_what_anybody_may_have_written_is_bounded(tmp_path: Path) -> None:
    odd = {"id": "7\0\ud800", "user": "u" * 999, "host": 7, "sent": "soon",
           "directory": "/" + "d" * 9999, "recipes": ["r" * 9999, 7, *["x"] * 99]}  # fmt: skip
    sender = sender_in({KEY: odd})
    assert sender
    assert len(json.dumps(sender.recipes)) < 2000
    assert (sender.host, sender.sent) == (None, None)
    ledger = Ledger.in_file(tmp_path / "ledger")
    ledger.reserve([attempt("t-1")], [("r1", sender)])
    [kept] = ledger.requests.of(sender.id)
    assert (len(kept.user or ""), len(kept.directory or "")) == (80, 1000)


def attempt(token: str, recipe_id: str = "r1") -> Attempt:
    return Attempt(
        token=token, recipe_id=recipe_id, step=1, cluster="c", job_name="n", job_directory="/d"
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger.in_file(tmp_path / "ledger")
    runs = [("r1", ANN), ("r2", ANN)]
    ledger.reserve([attempt("t-1"), attempt("u-1", "r2"), attempt("v-1", "other")], runs)
    ledger.reserve([attempt("w-1")], [("r1", ANN)])
    return ledger


def told(ledger: Ledger, name: str) -> list[tuple[str, str]]:
    return [(entry.event.token, entry.event.what) for entry in history(ledger, name)]


def test_the_events_of_a_request_are_those_of_all_its_runs(ledger: Ledger) -> None:
    taken = [("t-1", "taken"), ("u-1", "taken"), ("w-1", "taken")]
    assert told(ledger, "1") == [("1", "request sent"), *taken]
    assert told(ledger, "r1") == [("1", "request sent"), taken[0], taken[2]]
    assert told(ledger, "u-1") == [("1", "request sent"), taken[1]]
    assert told(ledger, "v-1") == [("v-1", "taken")], "nobody says who asked for it"


def test_no_request_hides_a_job_or_a_recipe(ledger: Ledger) -> None:
    """Whoever sends a request chooses its id."""
    ledger.record({"v-1": {"state": SUBMITTED, "job_id": "17"}})
    runs = [("r3", Sender(name, "eve")) for name in ("17", "v-1", "other")]
    ledger.reserve([attempt("x-1", "r3")], runs)
    expected = [("v-1", "taken"), ("v-1", "submitted")]
    assert told(ledger, "17") == told(ledger, "v-1") == told(ledger, "other") == expected


def test_what_a_person_does_to_a_request_is_among_its_events(ledger: Ledger) -> None:
    ledger.events.note(["1"], "cancelled", "ann@i04", "wrong sample")
    assert told(ledger, "u-1")[-1] == ("1", "cancelled")


def test_of_attempts_of_an_earlier_release_their_rows_tell(ledger: Ledger) -> None:
    verdict = Verdict(
        token="v-1", outcome=Outcome.FAILURE, witness="wrapper", cause="no spots", job_id="7",
        exit_status=1,
    )  # fmt: skip
    ledger.record({"v-1": {"ended": 5.0, "seen_state": "failed"}})
    ledger.record_verdict("v-1", verdict)
    with ledger.database.begin() as connection:
        connection.exec_driver_sql("delete from events")
    assert sorted(what for _, what in told(ledger, "v-1")) == ["ended", "taken", "verdict"]


def test_a_name_without_jobs_is_refused(ledger: Ledger) -> None:
    with pytest.raises(UnknownNameError):
        history(ledger, "nobody")
    with pytest.raises(MessageError):
        history(ledger, "")
