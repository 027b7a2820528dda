"""The outside contract of batch systems: what is inherited, given, refused, and handed in."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import zwrap
from zwrap.attempt.record import GONE, SUBMITTED, Attempt
from zwrap.cli.zwrap import main
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError, RequestError
from zwrap.job import JobRequest, JobStatus, Limits, Resources, State
from zwrap.monitor.finding import one_of
from zwrap.monitor.states import Answers
from zwrap.plugins import registry
from zwrap.scheduler import Command, Options, Question, Reply, Scheduler, Submission, Unknown
from zwrap.submission.clusters import Clusters

NOTHING = Command(argv=["true"])


class Own(Scheduler):
    """A site's batch system that inherits from the contract."""

    template = "local.sh.j2"

    def submit(
        self, request: JobRequest, script: Path, tasks: int | None = None
    ) -> Question[Submission]:
        if request.resources.gpus:
            raise RequestError("There are no GPUs.")
        return Question(NOTHING, lambda reply: Unknown("no"))

    def states(self) -> Question[dict[str, JobStatus]]:
        return Question(NOTHING, lambda reply: {})

    def find(self, name: str) -> Question[list[JobStatus]]:
        return Question(NOTHING, lambda reply: [])

    def accounting(self, gone_s: Mapping[str, float]) -> Question[dict[str, JobStatus]]:
        """Record that a job was deleted, once it has been gone for a minute."""
        ended = {
            job_id: JobStatus(job_id=job_id, name="n.t-1", state=State.CANCELLED)
            for job_id, time_s in gone_s.items()
            if time_s >= 60
        }
        return Question(NOTHING, lambda reply: ended)

    def cancel(self, job_ids: Sequence[str]) -> Question[None]:
        return Question(NOTHING, lambda reply: None)


class Foreign:
    """A plug-in written against the contract of the last release: it inherits nothing."""

    options_type = Options
    template = "local.sh.j2"
    at_once = 7

    def __init__(self, name: str, options: Options) -> None:
        self.name, self.options = name, options
        self.settle_s = 20.0

    submit, states, find = Own.submit, Own.states, Own.find
    cancel = Own.cancel

    def accounting(self, job_ids: Sequence[str]) -> Question[dict[str, JobStatus]]:
        wanted = set(job_ids)
        told = {"5": JobStatus(job_id="5", name="n", state=State.FAILED)}
        return Question(NOTHING, lambda reply: {k: told[k] for k in told if k in wanted})


class Half:
    """A plug-in that is not complete."""

    options_type = Options
    submit, find = Own.submit, Own.find


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[type], None]:
    """Install a class as the batch system ``own``."""

    def installed(kind: type) -> None:
        find = registry.find
        monkeypatch.setattr(
            registry, "find", lambda group, name: kind if name == "own" else find(group, name)
        )

    return installed


def site_with(**options: Any) -> str:
    """Return a site file with a cluster of kind `odd`."""
    return json.dumps({
        "version": 1, "environments": {"default": ["c"]},
        "c": {"plugin": "clusters", "here": {"kind": "own", **options}},
    })  # fmt: skip


def clusters(**options: Any) -> Clusters:
    return Clusters(Configuration.from_string(site_with(**options)).activate())


def request(tmp_path: Path, **values: Any) -> JobRequest:
    return JobRequest(
        cluster="c", job_name="n", token="t-1", working_directory=tmp_path, commands="true",
        job_directory=tmp_path, standard_output=tmp_path / "o", standard_error=tmp_path / "e",
        **values,
    )  # fmt: skip


@pytest.mark.parametrize("kind", [Own, Foreign])
def test_what_a_batch_system_does_not_say_has_defaults(
    install: Callable[[type], None], tmp_path: Path, kind: type
) -> None:
    install(kind)
    system = clusters().get("here").scheduler
    assert (system.name, system.arrays) == ("here", None)
    assert system.concurrency == (7 if kind is Foreign else 4), "or as `at_once` says, as it was"
    assert system.settle_s == (20.0 if kind is Foreign else 60.0)
    assert system.limits() == Limits()
    assert system.verify(request(tmp_path), tmp_path / "script") is None
    assert isinstance(system.states(), Question)


def test_a_test_of_a_job_that_cannot_be_asked_for_refuses_what_cannot_be_expressed(
    install: Callable[[type], None], tmp_path: Path
) -> None:
    install(Own)
    system = clusters().get("here").scheduler
    with pytest.raises(RequestError, match="no GPUs"):
        system.verify(request(tmp_path, resources=Resources(gpus=1)), tmp_path / "script")


def test_settle_s_of_the_site_goes_before_that_of_the_batch_system(
    install: Callable[[type], None],
) -> None:
    install(Own)
    assert clusters(settle_s=0).get("here").scheduler.settle_s == 0


def test_a_plug_in_of_the_last_release_is_asked_for_ended_jobs(
    install: Callable[[type], None],
) -> None:
    install(Foreign)
    system = clusters().get("here").scheduler
    found = system.accounting({"5": 3.0, "6": 0.0}).read(Reply(status=0))
    assert isinstance(found, dict)
    assert found.keys() == {"5"}


def test_what_a_batch_system_lacks_is_one_sentence(install: Callable[[type], None]) -> None:
    install(Half)
    with pytest.raises(ConfigurationError) as caught:
        clusters().get("here")
    told = str(caught.value)
    assert "key 'c.here'" in told
    assert "Half lacks accounting, cancel, states, template; the class zwrap.sch" in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("seen_state", "seen", "ended", "gone_s"),
    [
        (None, None, None, 0.0),
        ("running", 900.0, None, 0.0),
        (GONE, 940.0, None, 60.0),
        ("cancelled", 990.0, 990.0, math.inf),
    ],
)
def test_the_ledger_says_since_when_a_job_is_gone(
    seen_state: str | None, seen: float | None, ended: float | None, gone_s: float
) -> None:
    attempt = Attempt(
        token="t-1", recipe_id="r", step=1, cluster="c", job_name="n", job_directory="/d",
        seen_state=seen_state, seen=seen, ended=ended,
    )  # fmt: skip
    assert attempt.gone_s(1000.0) == gone_s


def test_a_fresh_process_gives_the_answer_that_the_watcher_gives(
    install: Callable[[type], None],
) -> None:
    """`zwrap jobs` asks a batch system that was never asked before."""
    install(Own)
    attempt = Attempt(
        token="t-1", recipe_id="r", step=1, cluster="here", job_name="n", job_directory="/d",
        state=SUBMITTED, job_id="5", seen_state=GONE, seen=1.0,
    )  # fmt: skip
    told = Answers(clusters()).ended(attempt)
    assert told is not None
    assert told.state is State.CANCELLED


def test_a_job_that_cannot_be_tested_is_said_to_be_that(
    install: Callable[[type], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(Own)
    site, recipe = tmp_path / "site.yml", tmp_path / "r.json"
    site.write_text(site_with())
    monkeypatch.setenv("ZOCALO_CONFIG", str(site))
    cluster = {"scheduler": "here", "commands": "true"}
    step = {
        "queue": "cluster.submission",
        "parameters": {"cluster": cluster, "workingdir": str(tmp_path)},
    }
    recipe.write_text(json.dumps({"start": [[1, []]], "1": step}))
    assert main(["render", str(recipe), "--check"]) == 0
    said = capsys.readouterr().err
    assert "cluster here was not asked: its batch system cannot test a job without" in said


def test_no_part_of_zwrap_needs_what_only_authors_of_plug_ins_have() -> None:
    """The suite needs pytest, which a site does not install."""
    house = Path(zwrap.__file__).parent
    for file in house.rglob("*.py"):
        if file.parent.name == "testing":
            continue
        text = file.read_text()
        assert not re.search(r"^\s*(import|from) (pytest|zwrap\.testing)", text, re.MULTILINE), file
    command = (
        "import zwrap.testing, sys; zwrap.testing.MemoryTransport; print('pytest' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", command], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_an_empty_name_means_no_job() -> None:
    """Each token begins with it: the only job would be cancelled."""
    attempt = Attempt(
        token="t-1", recipe_id="r", step=1, cluster="c", job_name="n", job_directory="/d"
    )
    with pytest.raises(MessageError, match="name of a job is empty"):
        one_of([attempt], "")
