"""A Submitter with a queue of its own takes the steps of some recipes, whoever takes the others."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.directory import SUBMISSION
from zwrap.cli.queue_drain import _Drain
from zwrap.cli.resubmit import _message
from zwrap.cli.service import _locked
from zwrap.cli.zwrap import main
from zwrap.configuration.site import Configuration
from zwrap.errors import RequestError
from zwrap.message.limits import DEFAULTS
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.recipe.queues import CLUSTER, RUNNER, is_of_kind, queue_of_service
from zwrap.service import submitter
from zwrap.service.loop import Loop
from zwrap.service.submitter import Submitter
from zwrap.submission.clusters import Clusters
from zwrap.submission.dependency import steps_before
from zwrap.submission.pending import PendingJob
from zwrap.transport.memory import MemoryTransport

MOVED, STAYS = "cluster.zwrap.submission", "cluster.submission"


class Site:
    """Steps on both queues, and the jobs that a Submitter makes of those that it takes."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.transport = MemoryTransport()
        self.configuration = Configuration()
        self.jobs: list[PendingJob] = []

        def submit_all(
            _: Any, __: Any, jobs: Sequence[PendingJob], on_outcomes: Any, *more: Any
        ) -> None:
            del more
            self.jobs += jobs
            for job in jobs:
                job.write()
            on_outcomes([(job.attempt.token, "1") for job in jobs])

        monkeypatch.setattr(submitter, "submit_all", submit_all)

    def send(self, queue: str, **block: Any) -> None:
        step = {"queue": queue, "parameters": {
            "workingdir": str(self.directory / "w"), "cluster": {"commands": "true", **block},
        }}  # fmt: skip
        recipe = Recipe({"start": [[1, []]], "1": step})
        self.transport.commit(Envelope(recipe, 1, environment={"ID": queue}).start())

    def work(self) -> list[str | None]:
        """Let a Submitter work; return the recipes of its jobs."""
        Loop(Submitter(self.configuration, self.transport), self.transport, once=True).run()
        return [job.attempt.recipe_id for job in self.jobs]

    def waiting(self, queue: str) -> int:
        return len(self.transport.broker.queues[queue])


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    return Site(tmp_path, monkeypatch)


def test_a_submitter_takes_the_steps_of_its_own_queue_only(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.send(STAYS)
    site.send(MOVED)
    monkeypatch.setenv("CUSTOM_QUEUE", "zwrap")
    assert site.work() == [MOVED]
    assert site.waiting(STAYS) == 1
    monkeypatch.delenv("CUSTOM_QUEUE")
    assert site.work() == [MOVED, STAYS]


@pytest.mark.parametrize("word", ["", "zwrap"])
def test_a_submitter_of_a_site_reads_the_queue_that_its_class_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    class Own(Submitter):
        queue = "cluster.gpu"

    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path))
    monkeypatch.setenv("CUSTOM_QUEUE", word)
    own, usual = (kind(Configuration(), MemoryTransport()) for kind in (Own, Submitter))
    assert (own.queue, usual.queue) == ("cluster.gpu", MOVED if word else STAYS)
    assert Submitter.queue == STAYS
    for each in (own, usual):
        each.close()


def test_further_attempts_and_tasks_of_a_step_go_to_the_queue_that_it_came_from(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUSTOM_QUEUE", "zwrap")
    site.send(MOVED, array="0-2")
    assert len(site.work()) == 3
    job = site.jobs[0]
    file = job.request.job_directory / SUBMISSION
    kept = json.loads(file.read_text())
    attempt = job.attempt
    clusters = Clusters(site.configuration)
    again = _message(attempt, [attempt], {}, clusters, kept, file, DEFAULTS)
    assert again.destination == MOVED


def test_services_with_queues_of_their_own_have_locks_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with _locked("", "Submitter") as first, _locked("", "Submitter") as second:
        monkeypatch.setenv("CUSTOM_QUEUE", "zwrap")
        with _locked("", "Submitter") as other:
            assert (first, second, other) == (True, False, True)


# -- the steps of a recipe -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        (STAYS, CLUSTER, True),
        (MOVED, CLUSTER, True),
        ("cluster.a.b.submission", CLUSTER, True),
        ("runner.submission", RUNNER, True),
        ("runner.x.submission", RUNNER, True),
        ("runner.submission", CLUSTER, False),
        ("cluster.submissions", CLUSTER, False),
        ("x.cluster.submission", CLUSTER, False),
        ("clustersubmission", CLUSTER, False),
        (None, CLUSTER, False),
        (["cluster.submission"], CLUSTER, False),
    ],
)
def test_queues_of_a_kind_are_known_by_their_names(name: object, kind: str, expected: bool) -> None:
    assert is_of_kind(name, kind) is expected


@pytest.mark.parametrize("kind", [CLUSTER, RUNNER])
@pytest.mark.parametrize("word", [None, "", "zwrap", "a.b"])
def test_the_queue_of_a_service_is_one_of_its_kind(
    kind: str, word: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if word is not None:
        monkeypatch.setenv("CUSTOM_QUEUE", word)
    assert is_of_kind(queue_of_service(kind), kind)
    assert (queue_of_service(kind) == f"{kind}.submission") is (not word)


def recipe(**queues: str) -> Recipe:
    """Return a recipe with a step on each queue, ``n1`` for node 1."""
    nodes = {
        name.removeprefix("n"): {
            "queue": queue,
            "parameters": {"workingdir": "/w", "cluster": {"commands": "run", "time_limit": "?"}},
        }
        for name, queue in queues.items()
    }
    return Recipe({"start": [[int(number), []] for number in nodes], **nodes})


def test_a_step_waits_only_for_one_on_its_own_queue() -> None:
    """Of another queue nobody knows whether a Submitter with the same ledger reads it."""

    def after(**queues: str) -> dict[int, int]:
        envelope = Envelope(recipe(**queues), 2, environment={"ID": "r"})
        return steps_before(1, envelope, DEFAULTS)

    assert after(n1=MOVED, n2=MOVED) == {1: 1}
    for one, other in ((STAYS, MOVED), (MOVED, STAYS)):
        with pytest.raises(RequestError, match=f"names node 1; another node on queue '{other}' is"):
            after(n1=one, n2=other)


def test_a_check_of_a_recipe_looks_at_its_steps_on_every_queue(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "r.json"
    file.write_text(json.dumps(recipe(n1=STAYS, n2=MOVED, n3="elsewhere").wire))
    assert main(["recipe", "check", str(file)]) == 100
    told = capsys.readouterr().err
    for number, found in ((1, True), (2, True), (3, False)):
        assert (f"node {number}, parameters, key 'cluster', key 'time_limit'" in told) is found


def test_queue_drain_says_where_the_jobs_of_any_such_queue_work(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    for queue in (STAYS, MOVED):
        site.send(queue)
        site.transport.subscribe(queue)
        delivery = site.transport.receive(1)
        assert delivery
        assert _Drain(site.transport, Namespace(DEST="."))._target(delivery)
        assert f"Working directory {site.directory}/w" in capsys.readouterr().out
