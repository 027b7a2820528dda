"""A step that is refused before it has a job is known as failed to those that wait for it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import (
    GIVEN_UP,
    INTENDED,
    NOT_FOUND,
    REJECTED,
    SUBMITTED,
    UNANSWERED,
    WAITING,
    Attempt,
)
from zwrap.cli import cancel
from zwrap.configuration.site import Configuration
from zwrap.errors import OutageError
from zwrap.message.content import ATTEMPT_HEADER, Message
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.service.loop import Loop
from zwrap.service.submitter import Submitter
from zwrap.submission.progress import has_failed
from zwrap.transport.contract import Delivery
from zwrap.transport.memory import MemoryBroker, MemoryTransport

from .clock import ManualClock


class Site:
    """A site whose jobs run on this host, and the messages of one recipe."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = ManualClock()
        self.transport = MemoryTransport(MemoryBroker(self.clock))

    def configured(self, **limits: int) -> Configuration:
        text: dict[str, Any] = {"version": 1, "c": {"plugin": "clusters", "c": {"kind": "local"}}}
        text |= {"limits": {"plugin": "limits", **limits}} if limits else {}
        text["environments"] = {"default": [name for name in text if name != "version"]}
        return Configuration.from_string(json.dumps(text)).activate()

    def node(self, working: str | None = None, **block: Any) -> dict[str, Any]:
        return {"queue": "cluster.submission", "parameters": {
            "workingdir": working or str(self.directory / "w"),
            "cluster": {"commands": "true", **block},
        }}  # fmt: skip

    def send(self, *nodes: dict[str, Any], first: int = 1) -> None:
        numbered = {str(number): node for number, node in enumerate(nodes, 1)}
        starts = [[number, []] for number in range(first, len(nodes) + 1)]
        recipe = Recipe({"start": starts, **numbered})
        self.transport.commit(Envelope(recipe, first, environment={"ID": "r"}).start())

    def work(self, **limits: int) -> list[Attempt]:
        """Let a Submitter work; return the rows of the recipe."""
        configuration = self.configured(**limits)
        Loop(Submitter(configuration, self.transport), self.transport, once=True).run()
        return Ledger.of(configuration).of_recipes(["r"])

    def dead(self) -> list[str]:
        letters = self.transport.broker.dead_letters.get("cluster.submission", [])
        return [letter.reason.partition("\n")[0] for letter in letters]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path / "state"))
    (tmp_path / "file").touch()
    return Site(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"gres": "bad!!"}, "key 'gres' is 'bad!!'"),
        ({"scheduler": "elsewhere"}, "elsewhere"),
        ({"working": "relative"}, "key 'workingdir' is 'relative'"),
        ({"working": "/w\0"}, "workingdir"),
    ],
)
def test_a_step_after_one_with_a_mistake_is_refused_at_once(
    site: Site, wrong: dict[str, Any], words: str
) -> None:
    site.send(site.node(**wrong), site.node(dependency=1))
    rows = {row.step: row for row in site.work()}
    assert [rows[step].state for step in (1, 2)] == [REJECTED, REJECTED]
    assert words in (rows[1].reason or "")
    assert rows[1].run == rows[2].run
    assert "step 1, after which it was to run, failed: " in site.dead()[1]


@pytest.mark.parametrize("name", ["a\0b", "\ud800", {"a": 1}, "x" * 5000, ["\0"]])
def test_whatever_a_refused_step_is_called_the_one_after_it_is_refused(
    site: Site, name: object
) -> None:
    site.send(site.node(gres="bad!!", job_name=name), site.node(dependency=1))
    assert [row.state for row in site.work()] == [REJECTED, REJECTED]


@pytest.mark.parametrize(
    ("array", "whole"), [("0-3%1", True), ("none", True), (False, False), ("true", False)]
)
def test_a_step_with_tasks_that_is_refused_as_a_whole_is_told_from_one_job(
    site: Site, array: object, whole: bool
) -> None:
    site.send(site.node(array=array, gres="bad!!"))
    [row] = site.work(tasks=2)
    assert (row.state, row.task_rank, row.task_of is not None) == (REJECTED, None, whole)


def test_tasks_that_are_refused_let_the_next_ones_in(site: Site) -> None:
    site.send(site.node(str(site.directory / "file"), array="0-5%2"))
    states = []
    for _ in range(3):
        states = [row.state for row in site.work()]
        site.clock.now += 3600
    assert states.count(REJECTED) == 6


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_step_that_is_taken_apart_after_all_has_not_failed(site: Site, attempt: int) -> None:
    """Whether its dead letter is put back as the next attempt, or moved by a tool of a broker."""
    nodes = site.node(array="0-3"), site.node(dependency=1)
    site.send(*nodes)
    assert {row.state for row in site.work(tasks=2)} == {REJECTED}
    assert len(site.dead()) == 2
    [letter, _] = site.transport.broker.dead_letters["cluster.submission"]
    headers = {**letter.message.headers, ATTEMPT_HEADER: attempt}
    again = Message(letter.message.body, headers, letter.message.id)
    service = Submitter(site.configured(), site.transport)
    service._forget_refusals(again, Envelope.from_body(again.body))
    rows = Ledger.of(site.configured()).of_recipes(["r"])
    assert [row.outcome for row in rows if row.step == 1] == ["retried"]


def test_the_row_of_a_refused_step_is_there_before_its_dead_letter(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a Submitter that is killed in between refuses the step once more."""
    unit = MemoryTransport.unit
    states: list[str] = []

    def looked(transport: MemoryTransport, *deliveries: Delivery, **how: Any) -> Any:
        if how.get("dead_letter"):
            states.extend(row.state for row in Ledger.of(site.configured()).of_recipes(["r"]))
        return unit(transport, *deliveries, **how)

    monkeypatch.setattr(MemoryTransport, "unit", looked)
    site.send(site.node(gres="bad!!"))
    site.work()
    assert states == [REJECTED]


def test_a_dead_letter_waits_for_the_ledger(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that wait for the step would not hear of its end."""
    site.send(site.node(gres="bad!!"))

    def away(*_: object) -> None:
        raise OutageError("The ledger cannot be used.")

    with monkeypatch.context() as patch:
        patch.setattr(Submitter, "giving_up", away)
        with pytest.raises(OutageError, match="gave messages back"):
            site.work()
    assert site.dead() == []
    site.clock.now += 3600
    assert [row.state for row in site.work()] == [REJECTED]
    assert len(site.dead()) == 1


def test_what_else_fails_before_a_dead_letter_does_not_keep_it_from_being_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: object) -> None:
        raise ValueError("wrong")

    monkeypatch.setattr(Submitter, "giving_up", wrong)
    site.send(site.node(gres="bad!!"))
    site.work()
    assert len(site.dead()) == 1


@pytest.mark.parametrize(
    ("state", "then", "reason"),
    [(INTENDED, INTENDED, GIVEN_UP), (SUBMITTED, SUBMITTED, None), (WAITING, REJECTED, "gone")],
)
def test_a_dead_letter_of_a_step_that_may_have_a_job(
    site: Site, state: str, then: str, reason: str | None
) -> None:
    """Its Submitters were killed, or it could not be told of; nobody looks the job up any more."""
    site.send(site.node())
    service = Submitter(site.configured(), site.transport)
    site.transport.subscribe("cluster.submission", 1)
    delivery = site.transport.receive(0.1)
    assert delivery
    [whose] = service._recognition.attempts([delivery.message])
    assert not isinstance(whose, Exception)
    row = Attempt(token=whose.token, recipe_id="r", step=1, cluster="c", job_name="n",
                  job_directory="/d")  # fmt: skip
    ledger = Ledger.of(site.configured())
    ledger.reserve([row])
    ledger.record({whose.token: {"state": state}})
    service.giving_up(delivery, "gone\nmore")
    kept = ledger.get(whose.token)
    assert kept
    assert (kept.state, kept.reason) == (then, reason)


@pytest.mark.parametrize("state", [INTENDED, UNANSWERED, NOT_FOUND])
def test_an_attempt_in_doubt_that_is_taken_up_again_is_not_given_up(
    tmp_path: Path, state: str
) -> None:
    """Its dead letter was moved back by a tool of a broker, under the same token."""
    ledger = Ledger.in_file(tmp_path / "ledger.sqlite")
    attempt = Attempt(
        token="f-1", recipe_id="r", step=1, cluster="c", job_name="n", job_directory="/d"
    )
    for taken_up in (ledger.reserve, ledger.note_not_found):
        ledger.reserve([ledger.get("f-1") or attempt])
        ledger.record({"f-1": {"state": state, "reason": GIVEN_UP}})
        read = ledger.get("f-1")
        assert read
        assert has_failed(read)
        for row in taken_up([read]) or []:
            assert row.reason is None
        now = ledger.get("f-1")
        assert now
        assert (now.reason, has_failed(now)) == (None, False)
    ledger.record({"f-1": {"state": WAITING, "reason": "full"}})
    read = ledger.get("f-1")
    assert read
    [row] = ledger.reserve([read])
    assert row == ledger.get("f-1")
    assert row.reason == "full"
    ledger.close()


def test_the_places_of_tasks_that_are_refused_are_known(site: Site) -> None:
    site.send(site.node(str(site.directory / "file"), array="3-9:2%2"))
    site.work()
    rows = sorted(site.work(), key=lambda row: row.task_rank or 0)
    assert [row.task_rank for row in rows] == [0, 1, 2, 3]
    assert {row.state for row in rows[:2]} == {REJECTED}
    assert len({row.task_of for row in rows}) == 1
    assert rows[0].task_of


def test_a_step_that_waits_can_be_cancelled(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.send(site.node(), site.node(dependency=1), first=2)
    [row] = site.work()
    assert row.state == WAITING
    parser = argparse.ArgumentParser()
    cancel.declare(parser)
    assert cancel.run(site.configured(), parser.parse_args([row.token])) == 0
    assert f"{row.token} waits no longer" in capsys.readouterr().out
    site.clock.now += 3600
    [row] = site.work()
    assert site.dead() == ["The job was cancelled by hand while it waited."]
    assert (row.state, row.reason) == (REJECTED, site.dead()[0])
