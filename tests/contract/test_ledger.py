"""The ledger, on a file and on a real PostgreSQL that several submit hosts share."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from zwrap.attempt.ledger.fitting import UnstorableError, check_storable
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.ledger.selection import Selection
from zwrap.attempt.record import INTENDED, SUBMITTED, Attempt, Sighting
from zwrap.attempt.verdict import Verdict
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, OutageError, PermanentError
from zwrap.job import Outcome


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger"
        return
    yield request.getfixturevalue("empty_postgresql")["url"]


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = Ledger(url)
    yield opened
    opened.close()


def attempt(token: str = "t-1") -> Attempt:
    return Attempt(
        token=token, recipe_id="r", step=1, cluster="c", job_name="n", job_directory="/d"
    )


def test_events_are_written_with_the_changes_and_thinned(ledger: Ledger) -> None:
    ledger.reserve([attempt("t-1"), attempt("t-2")])
    ledger.record({"t-1": {"state": SUBMITTED, "job_id": "17"}})
    for number in range(40):
        odd = Sighting(state="pending", reason=f"reason {number} \0\ud800")
        ledger.record_sightings({"t-1": odd, "t-2": odd})
    ledger.events.note(["t-1"], "cancelled\0\ud800", "ann\0@host", "wrong \0\ud800 sample")
    found = ledger.events.of_all(["t-1", "t-2", "t-3"])
    assert [event.what for event in found["t-1"]][:3] == ["taken", "submitted", "pending"]
    assert all(len(events) <= 20 for events in found.values())
    assert [event.at for event in found["t-2"]] == sorted({event.at for event in found["t-2"]})
    assert found["t-2"][-1].facts["reason"] == "reason 39 \0\\ud800"
    assert abs(found["t-1"][-1].at - time.time()) < 60
    assert set(found) == {"t-1", "t-2"}


def test_what_was_written_is_read(ledger: Ledger) -> None:
    [row] = ledger.reserve([attempt()])
    assert (row.state, row.created) == (INTENDED, row.tried)
    assert abs(row.created - time.time()) < 60
    ledger.record({"t-1": {"state": SUBMITTED, "job_id": "17"}})
    assert ledger.get("t-1") == replace(row, state=SUBMITTED, job_id="17")
    [other] = ledger.reserve([attempt(), attempt("t-2")])
    assert other.token == "t-2"
    assert [each.token for each in ledger.queries.newest(10_000)] == ["t-1", "t-2"]
    assert ledger.get("t-3") is None


HOSTILE = ["a\0b", "x" * 1000, "\ud800", 10**400, -(10**400), 2**63, 2**31, 1e308, float("nan"),
           float("inf"), "", 0, -1, None]  # fmt: skip
"""Values that a database refuses, or does not hold as they are."""


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:12])
def test_what_only_informs_is_made_to_fit(ledger: Ledger, value: Any) -> None:
    """A message, a job and a heartbeat may bring any value; the rows beside it are written."""
    strange: Any = {"recipe_id": value} if isinstance(value, str) else {"step": value}
    rows = ledger.reserve([attempt("t-1"), replace(attempt("t-2"), **strange), attempt("t-3")])
    assert len(rows) == 3
    texts = ["reason", "seen_state", "seen_reason", "node", "cause", "witness", "outcome"]
    numbers = ["step", "exit_code", "signal", "task", "peak_memory_mib", "elapsed_s", "stalled"]
    names = texts if isinstance(value, str) else numbers
    ledger.record({"t-1": {"node": "n"}, "t-2": dict.fromkeys(names, value), "t-3": {"node": "n"}})
    found = {row.token: row for row in ledger.queries.newest(10_000)}
    assert found["t-1"].node == found["t-3"].node == "n"
    odd = found["t-2"]
    assert all(type(getattr(odd, name)) in (str, int, float, type(None)) for name in names)


def test_a_value_of_a_foreign_type_is_written_as_text_or_left_out(ledger: Ledger) -> None:
    """A site's own batch system tells it."""
    ledger.reserve([attempt()])
    ledger.record({"t-1": {"node": ["n1", "n2"], "exit_code": "three", "elapsed_s": {}}})
    row = ledger.get("t-1")
    assert row
    assert (row.node, row.exit_code, row.elapsed_s) == ("['n1', 'n2']", None, None)


@pytest.mark.parametrize("field", ["token", "cluster", "job_name", "job_directory"])
def test_what_a_row_is_found_by_is_refused_if_it_does_not_fit(ledger: Ledger, field: str) -> None:
    strange: Any = {field: "a\0b"}
    with pytest.raises(UnstorableError, match=f"The ledger cannot hold '{field}'"):
        ledger.reserve([replace(attempt(), **strange)])
    with pytest.raises(UnstorableError, match=f"The ledger cannot hold '{field}'"):
        check_storable(replace(attempt(), **strange))
    assert ledger.queries.newest(10_000) == []
    assert len(ledger.reserve([attempt()])) == 1


def test_what_is_sent_of_one_attempt_is_not_said_of_others(ledger: Ledger) -> None:
    tokens = ["t-1", "t-2", "t-3"]
    for token in tokens:
        ledger.remote.keep(token, "{}")
    ledger.remote.mark_sent("t-2")
    assert ledger.remote.put_verdict(
        Verdict(
            token="t-2", outcome=Outcome.SUCCESS, witness="wrapper", cause="finished", job_id="1",
            exit_status=0,
        )
    )  # fmt: skip
    assert [ledger.remote.has_verdict(token) for token in tokens] == [False, True, False]
    found = [ledger.remote.get(token) for token in tokens]
    assert [bool(each and each.sent) for each in found] == [False, True, False]


def test_a_token_of_a_message_that_cannot_be_stored_is_that_message_s_fault(url: str) -> None:
    with contextlib.closing(Ledger(url)) as ledger:
        for token in ("\ud800", "a\0b"):
            with contextlib.suppress(PermanentError):
                assert ledger.remote.get(token) is None


def test_a_file_that_is_no_ledger_is_a_ledger_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_bytes(b"no database" * 1000)
    with pytest.raises(OutageError, match=r"The ledger sqlite.*cannot be used: file is not a data"):
        Ledger(f"sqlite:///{tmp_path}/ledger").open()


def together(url: str, count: int, act: Any) -> list[Any]:
    """Return the results of `act` on several hosts at the same moment."""
    start, told = threading.Barrier(count), []

    def host() -> None:
        start.wait()
        ledger = Ledger(url)
        told.append(act(ledger))
        ledger.close()

    threads = [threading.Thread(target=host) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == count
    return told


def test_one_of_several_hosts_writes_the_intent(url: str) -> None:
    """None of them has seen the table before."""
    news = together(url, 6, lambda ledger: len(ledger.reserve([attempt()])))
    assert Counter(news) == {1: 1, 0: 5}


def test_one_of_several_hosts_tries_again(url: str, ledger: Ledger) -> None:
    [row] = ledger.reserve([attempt()])
    tries = together(url, 6, lambda each: len(each.reserve([row])))
    assert Counter(tries) == {1: 1, 0: 5}


def test_a_thousand_attempts_are_written_and_read_at_once(ledger: Ledger) -> None:
    rows = ledger.reserve([attempt(f"t-{number}") for number in range(1000)])
    ledger.record({row.token: {"state": SUBMITTED, "job_id": row.token} for row in rows})
    found = ledger.known([row.token for row in rows] + ["t-1000"])
    assert {token: row.job_id for token, row in found.items()} == {
        row.token: row.token for row in rows
    }


@pytest.mark.slow
def test_a_server_that_is_away_costs_no_message_and_tells_no_password(
    postgresql: dict[str, Any],
) -> None:
    away = postgresql["url"].replace(f":{postgresql['port']}/", ":1/")
    with pytest.raises(OutageError, match=r"The ledger postgresql.*cannot be used") as caught:
        Ledger(away).open()
    assert ":rig@" not in str(caught.value)
    with pytest.raises(OutageError, match=r"cannot be used: .*password authentication"):
        Ledger(postgresql["url"].replace(":rig@", ":wrong@")).open()


def test_the_site_says_where_the_ledger_is(tmp_path: Path) -> None:
    text = "version: 1\nenvironments: {default: [l]}\nl: {plugin: ledger, url: 'mysql://h/d'}\n"
    with pytest.raises(ConfigurationError, match=r"key 'l.url': a URL such as postgresql\+psycopg"):
        Ledger.of(Configuration.from_string(text).activate())
    with pytest.raises(ConfigurationError, match="URL of the ledger is not valid"):
        Ledger("postgresql+psycopg//h/d")


@pytest.mark.slow
def test_a_ledger_without_scheme_means_psycopg(postgresql: dict[str, Any]) -> None:
    url = postgresql["url"].replace("+psycopg", "")
    text = f"version: 1\nenvironments: {{default: [l]}}\nl: {{plugin: ledger, url: '{url}'}}\n"
    ledger = Ledger.of(Configuration.from_string(text).activate())
    ledger.reserve([attempt("t-psycopg")])
    assert ledger.get("t-psycopg")
    ledger.close()


def test_a_ledger_of_an_earlier_version_is_brought_up_to_date(url: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text(
            "create table attempts (token varchar(80) primary key, recipe_id varchar(80), "
            "step integer, cluster varchar(80) not null, job_name varchar(255) not null, "
            "job_directory text not null, job_id varchar(80), state varchar(20) not null, "
            "reason text, created double precision not null, tried double precision not null)"
        ))  # fmt: skip
        connection.execute(sa.text(
            "create table words (token varchar(80) primary key, submission text not null, "
            "verdict text, lease double precision, sent double precision, late text)"
        ))  # fmt: skip
        connection.execute(sa.text("insert into words (token, submission) values ('t-0', '{}')"))
    engine.dispose()
    ledger = Ledger(url)
    assert ledger.remote.keep("t-0", "{}", "late") is None, "its script was sent without a secret"
    assert ledger.remote.keep("t-1", "{}", "one") == "one" == ledger.remote.keep("t-1", "{}", "two")
    ledger.reserve([attempt()])
    ledger.record({"t-1": {"state": SUBMITTED, "job_id": "17"}})
    assert ledger.open_clusters() == ["c"]
    ledger.record_sightings({"t-1": Sighting(state="failed", ended=1.0)})
    assert [row.ended for row in ledger.unconcluded("c")] == [1.0]
    verdict = Verdict(
        token="t-1",
        outcome=Outcome.FAILURE,
        cause="it failed",
        witness="cluster c",
        job_id="17",
        exit_status=1,
    )
    ledger.record_verdict("t-1", verdict)
    assert ledger.unconcluded("c") == []
    row = ledger.get("t-1")
    assert row
    assert (row.seen_state, row.ended, row.job_id) == ("failed", 1.0, "17")
    ledger.close()


# -- what people ask ---------------------------------------------------------------------------


def fill(ledger: Ledger, number: int) -> None:
    """Write attempts, every third of them open, on two clusters in turn."""
    rows = [
        replace(attempt(f"{n:04}-1"), cluster="ab"[n % 2], recipe_id=f"r{n // 10}", created=n + 1.0)
        for n in range(number)
    ]
    ledger.reserve(rows)
    ledger.record({
        row.token: {"state": SUBMITTED, "job_id": f"{n % 100}",
                    "outcome": None if n % 3 == 0 else "success"}
        for n, row in enumerate(rows)
    })  # fmt: skip


def numbers(rows: list[Attempt]) -> list[int]:
    return [int(row.token[:4]) for row in rows]


def test_a_page_holds_the_newest_attempts(ledger: Ledger) -> None:
    fill(ledger, 300)
    asked = ledger.queries
    assert numbers(asked.newest(3)) == [297, 298, 299]
    assert numbers(asked.newest(2, Selection(clusters=["a"]))) == [296, 298]
    assert numbers(asked.newest(2, Selection(recipes=["r3"]))) == [38, 39]
    assert numbers(asked.newest(3, outcome="success")) == [296, 298, 299]
    assert asked.newest(3, outcome="failure") == asked.newest(3, Selection(clusters=["c"])) == []
    assert numbers(asked.with_job_id("17", 2)) == [117, 217]
    assert asked.with_job_id("none", 2) == []
    assert [need.outcome for need in asked.needs(3)] == [None, "success", "success"]
    assert len(asked.needs(1000, "a")) == 150


def test_pages_of_open_attempts_follow_each_other(ledger: Ledger) -> None:
    """None is left out or comes twice, also where times are equal."""
    fill(ledger, 300)
    ledger.record({row.token: {"created": 5.0} for row in ledger.queries.newest(300)})
    found: list[int] = []
    page = ledger.queries.unconcluded([SUBMITTED], number=7)
    while page:
        found += numbers(page)
        page = ledger.queries.unconcluded([SUBMITTED], number=7, before=page[-1])
    assert found == list(range(297, -1, -3))
    assert ledger.queries.unconcluded([INTENDED], number=7) == []


def test_attempts_are_found_by_the_beginning_of_a_token(ledger: Ledger) -> None:
    tokens = ["a-1", "a-2", "a-10", "ab-1", "A-1", "a_1", "a%-1", "\u00e4-1", "a-b-1"]
    ledger.reserve([attempt(token) for token in tokens])
    asked = ledger.queries
    assert {row.token for row in asked.with_beginning("a-", 9)} == {"a-1", "a-2", "a-10", "a-b-1"}
    assert [row.token for row in asked.with_beginning("a%", 9)] == ["a%-1"]
    assert [row.token for row in asked.with_beginning("\u00e4", 9)] == ["\u00e4-1"]
    assert len(asked.with_beginning("", 3)) == 3
    assert {row.token for row in asked.family(attempt("a-1"))} == {"a-1", "a-2", "a-10"}


def test_the_clusters_with_open_attempts_are_named_once(ledger: Ledger) -> None:
    fill(ledger, 300)
    assert ledger.open_clusters() == ["a", "b"]
    done = {row.token: {"outcome": "success"} for row in ledger.unconcluded("a")}
    ledger.record(done)
    assert ledger.open_clusters() == ["b"]


QUESTIONS: dict[str, Any] = {
    "page": lambda ledger: ledger.queries.newest(50),
    "of a cluster": lambda ledger: ledger.queries.newest(50, Selection(clusters=["a"])),
    "of a recipe": lambda ledger: ledger.queries.newest(50, Selection(recipes=["r3"])),
    "by outcome": lambda ledger: ledger.queries.newest(50, outcome="failure"),
    "open": lambda ledger: ledger.queries.unconcluded([SUBMITTED], number=50),
    "by job id": lambda ledger: ledger.queries.with_job_id("17", 6),
    "by beginning": lambda ledger: ledger.queries.with_beginning("000", 6),
    "family": lambda ledger: ledger.queries.family(attempt("0001-1")),
    "needs": lambda ledger: ledger.queries.needs(50),
    "events": lambda ledger: ledger.events.of_all(["0001-1", "0002-1"]),
    "open clusters": lambda ledger: ledger.open_clusters(),
    "to be concluded": lambda ledger: ledger.unconcluded("a"),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_question_reads_the_whole_ledger(ledger: Ledger, url: str, question: str) -> None:
    """Each is answered by an index, whatever the age of the ledger."""
    fill(ledger, 3000)
    ledger.record({row.token: {"outcome": "success"} for row in ledger.queries.newest(2990)})
    asked: list[Any] = []

    def note(_: object, __: object, statement: str, parameters: object, *___: object) -> None:
        asked.append((statement, parameters))

    engine = ledger.database.engine
    with engine.begin() as connection:
        connection.execute(sa.text("analyze"))
    sa.event.listen(engine, "before_cursor_execute", note)
    QUESTIONS[question](ledger)
    sa.event.remove(engine, "before_cursor_execute", note)
    assert asked
    explain = "explain query plan " if url.startswith("sqlite") else "explain "
    for statement, parameters in asked:
        with engine.begin() as connection:
            plan = connection.exec_driver_sql(explain + statement, parameters).all()
        steps = [str(step[-1]) for step in plan]
        assert not [step for step in steps if "Seq Scan" in step], steps
        scans = [step for step in steps if step.startswith("SCAN")]
        assert all("USING" in step and "INDEX" in step for step in scans), steps
