"""Plug-ins of a site, written for the contracts of 0.1.0 before names changed, go on working.

Their text is not to be brought up to date: it is what lies at sites.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.cli import process_queue, service
from zwrap.cli.zwrap import main
from zwrap.configuration.site import Configuration
from zwrap.errors import PermanentError, UnreachableError
from zwrap.message.content import RECIPE_HEADER
from zwrap.plugins import former, registry
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.scheduler import DrmaaCall, Reply, Scheduler
from zwrap.service.contract import Service
from zwrap.service.loop import Loop
from zwrap.service.submitter import Submitter
from zwrap.service.watcher import watcher
from zwrap.service.watcher.watcher import Watcher
from zwrap.submission.clusters import Clusters
from zwrap.transport.memory import MemoryTransport
from zwrap.transport.rabbitmq.inspector import RabbitMQInspector
from zwrap.transport.spool.transport import SpoolTransport

SERVICES = """
from zwrap.envelope import Envelope
from zwrap.message import JSON
from zwrap.service import Service, Work
from zwrap.transport import Delivery, Transport


class Thumbnails(Service):
    queue = "thumbnails"
    prefetch = 10
    together = 10
    attempts = 2
    plain_messages = True

    def __init__(self, configuration, transport):
        super().__init__(configuration, transport)
        self.seen: list[tuple[JSON, int]] = []
        self.lots = []
        self.given_up = []

    def patience_s(self) -> float:
        return super().patience_s() / 4

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        self.seen.append((delivery.message.body, delivery.attempt))
        if delivery.message.body == "bad":
            raise ValueError(f"attempt {delivery.attempt} of {self.attempts}")
        if self.transport.waiting("done") < 100:
            with self.transport.unit(delivery):
                pass

    def handle_all(self, work):
        self.lots.append(len(work))
        return super().handle_all(work)

    def gave_up(self, delivery, reason):
        self.given_up.append(delivery.message.body)


class Patient(Service):
    queue = "slow"

    def __init__(self, configuration, transport):
        super().__init__(configuration, transport)
        self.attempts = 9

    def handle(self, delivery, envelope):
        delivery.ack()


class Forgotten(Service):
    queue = "forgotten"
"""

SCHEDULER = """
import msgspec

from zwrap.errors import RequestError, UnreachableError
from zwrap.job import JobStatus, Limits, State
from zwrap.scheduler import (
    Accepted, ArrayForm, Command, Options, Question, Rejected, Scheduler, Unknown,
)


class PBSOptions(Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    queue: str = "batch"


class PBS{bases}:
    options_type = PBSOptions
    template = "local.sh.j2"
    arrays = ArrayForm("-", "PBS_ARRAY_INDEX")
    at_once = 7

    def __init__(self, name: str, options: PBSOptions) -> None:
        self.name = name
        self.options = options
        self.settle_s = 0.0 if options.settle_s is None else options.settle_s

    def _command(self, *argv: str) -> Command:
        return Command(
            argv=list(argv),
            environment=self.options.surroundings(),
            timeout_s=self.options.timeout_s,
        )

    def submit(self, request, script, tasks=None):
        if request.resources.gpus:
            raise RequestError("There are no GPUs.")

        def read(reply):
            if reply.status == 0 and reply.output.strip():
                return Accepted(reply.output.strip())
            return Rejected(reply.error) if reply.status == 1 else Unknown(reply.error)

        return Question(self._command("qsub", "-N", request.full_name, str(script)), read)

    def verify(self, request, script):
        return Question(self._command("qstat"), lambda reply: "it may be taken")

    def find(self, name):
        return Question(
            self._command("qstat"),
            lambda reply: [job for job in _jobs(reply).values() if job.name == name],
        )

    def states(self):
        return Question(self._command("qstat"), _jobs)

    def accounting(self, job_ids):
        first = job_ids[:100]
        return Question(self._command("tracejob", *first), _jobs)

    def cancel(self, job_ids):
        return Question(self._command("qdel", *job_ids), _jobs)

    def limits(self):
        return Question(self._command("qstat"), lambda reply: Limits(array_size=1000))


def _jobs(reply):
    if reply.status != 0:
        raise UnreachableError(f"PBS did not answer: {reply.error}.")
    jobs = {}
    for line in reply.output.splitlines():
        job_id, name, letter = line.split()
        jobs[job_id] = JobStatus(
            job_id=job_id, name=name, state=State.FAILED if letter == "F" else State.PENDING,
            exit_code=3 if letter == "F" else None,
            reason="held by the system" if letter == "H" else None, hopeless=letter == "H",
        )
    return jobs
"""

WRAPPER = """
from zwrap.wrapper import BaseWrapper
from zwrap.wrapper.base import DummyWrapper


class Merge(BaseWrapper):
    _logger_name = "site.wrap.merge"

    def run(self):
        assert self.recwrap, "No recipewrapper object found"
        self.status_thread.set_static_status_field("spell", 1)
        self.recwrap.send_to("found", {"answer": self.recwrap.recipe_step["job_parameters"]["x"]})
        return True
"""

WORKERS = """
from zwrap.worker import SkipMessage, queue_json_publish, worker


@worker("counters", batch=100, attempts=1)
def count(messages):
    queue_json_publish("sums", sum(messages))
"""

PROGRAMS = {
    "qsub": 'exec 9>"$PBS_HOME/lock"; flock 9; echo "$2" >> "$PBS_HOME/names"; '
    'n=$(grep -c . "$PBS_HOME/names"); echo "$n $2 Q" >> "$PBS_HOME/live"; echo "$n"',
    "qstat": 'cat "$PBS_HOME/live"',
    "tracejob": 'echo "$@" >> "$PBS_HOME/asked"; cat "$PBS_HOME/ended"',
    "qdel": 'echo "$@" >> "$PBS_HOME/deleted"',
}
"""A batch system: a file for each of the names, the live and the ended jobs, and the questions."""


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """Return a list of which class has used which former name, and what that is now."""
    former.tell.cache_clear()
    words = re.compile(r"(.*): '(.*)' is the former name of ['\"](.*)['\"]; please use the new one")

    def lines() -> list[str]:
        own = [each for each in caplog.records if each.name == former.__name__]
        found = [words.fullmatch(each.getMessage()) for each in own]
        return sorted(" ".join(each.groups()) if each else "?" for each in found)

    yield lines
    former.tell.cache_clear()


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a directory of the path in which the plug-ins are installed, as pip leaves them."""
    place = tmp_path / "installed"
    info = place / "old_site-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: old-site\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{registry.SERVICES}]\n"
        "Thumbnails = old_services:Thumbnails\nPatient = old_services:Patient\n"
        "Forgotten = old_services:Forgotten\n\n"
        f"[{registry.SCHEDULERS}]\nbare = old_bare:PBS\nderived = old_derived:PBS\n\n"
        f"[{registry.WRAPPERS}]\nold-merge = old_wrapper:Merge\n"
    )
    texts = {
        "old_services": SERVICES,
        "old_bare": SCHEDULER.replace("{bases}", ""),
        "old_derived": SCHEDULER.replace("{bases}", "(Scheduler)"),
        "old_wrapper": WRAPPER,
        "old_workers": WORKERS,
    }
    for name, text in texts.items():
        (place / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(place)
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("ZWRAP_SPOOL", str(tmp_path / "spool"))
    monkeypatch.delenv("ZOCALO_CONFIG", raising=False)
    monkeypatch.setattr("zwrap.service.settling.RETRY_FIRST_S", 0.001)
    yield place
    for name in texts:
        sys.modules.pop(name, None)


# -- services ----------------------------------------------------------------------------------


def test_a_service_has_its_old_settings_in_the_loop(said: Callable[[], list[str]]) -> None:
    transport = MemoryTransport()
    transport.send("done", "something")
    for body in ("first", "second", "bad", "third"):
        transport.send("thumbnails", body)
    old: Any = service.load_service("Thumbnails")(Configuration(), transport)
    assert (old.batch_size, old.delivery_limit, old.poll_s()) == (10, 2, 0.25)
    assert (old.together, old.attempts, old.patience_s()) == (10, 2, 0.25)
    Loop(old, transport, once=True).run()
    assert old.lots == [1, 3, 1], "the second delivery of the bad one is alone"
    assert old.seen == [("first", 1), ("second", 1), ("bad", 1), ("third", 1), ("bad", 2)]
    assert old.given_up == ["bad"]
    [letter] = transport.broker.dead_letters["thumbnails"]
    assert "ValueError: attempt 2 of 2" in letter.reason
    assert said() == [
        "old_services.Thumbnails attempts delivery_limit",
        "old_services.Thumbnails patience_s poll_s",
        "old_services.Thumbnails together batch_size",
        "zwrap.transport.delivery.Delivery attempt delivery_count",
        "zwrap.transport.memory.MemoryTransport waiting inspector().waiting",
    ]


def test_a_setting_of_one_object_counts_too() -> None:
    old: Any = service.load_service("Patient")(Configuration(), MemoryTransport())
    assert (old.delivery_limit, old.attempts, Service.delivery_limit) == (9, 9, 5)
    assert not vars(type(old)).keys() & {"attempts", "delivery_limit"}


def test_of_two_names_the_nearest_counts() -> None:
    class Habits:
        attempts = 7

    class Old(Habits, Service):
        together = 3

    class New(Old):
        delivery_limit = 8

    class Both(New):
        attempts = 1
        delivery_limit = 2

    class Plain(Both):
        pass

    class Later(Service, Habits):
        pass

    kinds: tuple[type[Service], ...] = (Old, New, Both, Plain, Later, Service)
    assert [kind.delivery_limit for kind in kinds] == [7, 8, 2, 2, 5, 5]
    assert [kind.batch_size for kind in kinds] == [3, 3, 3, 3, 1, 1]


def test_services_of_zwrap_use_no_former_name(said: Callable[[], list[str]]) -> None:
    for name in registry.OWN[registry.SERVICES]:
        service.load_service(name)
    for name in registry.OWN[registry.SCHEDULERS]:
        registry.find(registry.SCHEDULERS, name)
    assert said() == []


def test_a_service_without_a_handler_is_refused_before_it_takes_a_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    transport = SpoolTransport.from_configuration(Configuration())
    transport.send("forgotten", 1, {RECIPE_HEADER: True})
    assert service.main(["-s", "Forgotten", "--once"]) == 100
    told = capsys.readouterr().err
    assert (
        "Service Forgotten (old_services.Forgotten) cannot run: it reads queue 'forgotten', and "
        "implements neither 'handle' nor 'handle_all'." in told
    )
    assert transport.inspector().waiting("forgotten") == 1
    assert transport.inspector().dead_letters() == {}
    transport.close()


@pytest.mark.parametrize("queue", [None, "in"])
@pytest.mark.parametrize("method", [None, "handle", "handle_all"])
def test_only_a_queue_needs_a_handler(queue: str | None, method: str | None) -> None:
    kind = type("Some", (Service,), {"queue": queue, **({method: print} if method else {})})
    transport = MemoryTransport()
    loop = Loop(kind(Configuration(), transport), transport, once=True)
    refused = pytest.raises(PermanentError, match="neither 'handle' nor 'handle_all'")
    with refused if queue and not method else contextlib.nullcontext():
        loop.run()
    assert transport.broker.queues.get("in", []) == []


# -- transports and the site -------------------------------------------------------------------


def test_what_was_asked_of_a_transport_is_asked_of_its_inspector() -> None:
    transport: Any = MemoryTransport()
    transport.send("a", 1)
    transport.subscribe("b")
    transport.subscribe_dead_letters("a")
    found = (transport.queues(), transport.waiting("a"), transport.consumers("b"))
    assert found == ({"a": 1}, 1, 1)
    assert (transport.dead_letters(), transport.audit()) == ({}, [])
    transport.subscribe("a")
    for _ in range(6):
        delivery = transport.receive(1)
        assert delivery
        delivery.retry()
    [often] = transport.overdelivered(5)
    assert often.attempt == 7
    often.dead_letter("too often")
    assert transport.dead_letters() == {"a": 1}


def test_where_nobody_can_look_for_overdelivered_messages_none_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RabbitMQ is such a transport."""
    transport = MemoryTransport()
    monkeypatch.setattr(transport, "inspector", lambda: object.__new__(RabbitMQInspector))
    assert list(transport.overdelivered(5)) == []


def test_a_site_s_own_directory_is_found_by_its_key(tmp_path: Path) -> None:
    file = tmp_path / "site.yml"
    storage = {"plugin": "storage", "site.previews": "previews", "site.other": "/other"}
    file.write_text(json.dumps({"version": 1, "s": storage, "environments": {"default": ["s"]}}))
    site = Configuration.from_file(file).activate()
    assert site.directory("site.previews") == tmp_path / "previews"
    assert site.directory("site.other") == Path("/other")
    assert site.directory("site.none") is None


# -- batch systems -----------------------------------------------------------------------------


class Batch:
    """A fake PBS, and what a Submitter and a Watcher make of it."""

    def __init__(self, directory: Path, kind: str) -> None:
        self.directory = directory
        self.home = directory / "pbs"
        self.home.mkdir()
        for file in ("names", "live", "ended", "asked", "deleted"):
            (self.home / file).touch()
        programs = directory / "bin"
        programs.mkdir()
        for name, text in PROGRAMS.items():
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)
        cluster = {
            "kind": kind, "programs": str(programs), "environment": {"PBS_HOME": str(self.home)},
            "give_up_s": 0, "watch_s": 0.01, "lost_s": 60, "queue": "long",
        }  # fmt: skip
        self.configuration = Configuration.from_string(json.dumps({
            "version": 1, "environments": {"default": ["c"]},
            "c": {"plugin": "clusters", "prod": cluster},
        })).activate()  # fmt: skip
        self.transport = MemoryTransport()

    def submit(self, *names: str) -> None:
        for name in names:
            step = {"queue": "cluster.submission", "output": {"job_submitted": 2}, "error": 3,
                    "parameters": {"workingdir": str(self.directory / name), "cluster": {
                        "commands": "true", "scheduler": "prod", "job_name": name}}}  # fmt: skip
            nodes = {"1": step, "2": {"queue": "told"}, "3": {"queue": "failed"}}
            recipe = Recipe({"start": [[1, []]], **nodes})
            self.transport.commit(Envelope(recipe, 1, environment={"ID": name}).start())
        Loop(Submitter(self.configuration, self.transport), self.transport, once=True).run()

    def bodies(self, queue: str) -> list[Any]:
        return [each.message.body for each in self.transport.broker.queues.get(queue, [])]

    def lines(self, file: str) -> list[str]:
        return (self.home / file).read_text().splitlines()

    def watch(self, until: Callable[[], object]) -> None:
        old = Watcher(self.configuration, self.transport)
        deadline = time.monotonic() + 20
        while not until():
            assert time.monotonic() < deadline
            old.idle()
            time.sleep(0.01)
        old.close()


@pytest.mark.parametrize("kind", ["bare", "derived"])
def test_jobs_of_an_old_batch_system_are_submitted_watched_and_concluded(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr(watcher, "LOOK_S", 0.0)
    batch = Batch(tmp_path, kind)
    batch.submit("waits", "stuck", "ends")
    assert sorted(body["payload"]["jobid"] for body in batch.bodies("told")) == [1, 2, 3]
    assert batch.transport.broker.dead_letters == {}
    names = {line.partition(".")[0]: line for line in batch.lines("names")}
    numbers = {line.split()[1].partition(".")[0]: line.split()[0] for line in batch.lines("live")}
    stuck, ends = numbers["stuck"], numbers["ends"]
    (batch.home / "live").write_text(
        f"{numbers['waits']} {names['waits']} Q\n{stuck} {names['stuck']} H\n"
    )
    (batch.home / "ended").write_text(f"{ends} {names['ends']} F\n")

    batch.watch(lambda: len(batch.bodies("failed")) == 2 and batch.lines("deleted"))

    assert set(batch.lines("asked")) == {ends}
    assert set(batch.lines("deleted")) == {stuck}
    failures = {body["environment"]["ID"]: body["payload"] for body in batch.bodies("failed")}
    assert "held by the system" in failures["stuck"]["error"]
    assert failures["ends"]["exit_code"] == 3
    ledger = Ledger.of(batch.configuration)
    assert [str(each.job_id) for each in ledger.unconcluded("prod")] == [numbers["waits"]]
    ledger.close()
    assert said() == [
        f"old_{kind}.PBS accounting(job_ids) accounting(gone_s)",
        f"old_{kind}.PBS at_once concurrency",
        "zwrap.job.JobStatus hopeless stuck",
    ]


@pytest.mark.parametrize("kind", ["bare", "derived"])
def test_an_old_batch_system_keeps_its_number_of_submissions(kind: str, tmp_path: Path) -> None:
    system: Any = Clusters(Batch(tmp_path, kind).configuration).get("prod").scheduler
    assert (system.concurrency, system.at_once, Scheduler.concurrency) == (7, 7, 4)
    system.at_once = 3
    assert system.options.queue == "long"
    with pytest.raises(UnreachableError):
        system.accounting({"1": 5.0}).read(Reply(status=None))


def test_a_call_of_the_drmaa_library_by_its_former_name_is_one(
    said: Callable[[], list[str]],
) -> None:
    scheduler: Any = importlib.import_module("zwrap.scheduler")
    call = scheduler.DrmaaSubmission(
        script="s", name="n", working_directory="/w", standard_output="o", standard_error="e",
        native="-q x",
    )  # fmt: skip
    assert isinstance(call, DrmaaCall)
    assert msgspec.json.decode(msgspec.json.encode(call), type=DrmaaCall).native == "-q x"
    assert said() == ["zwrap.scheduler DrmaaSubmission DrmaaCall(..., libraries=...)"]


# -- wrappers and workers ----------------------------------------------------------------------


def test_a_wrapper_runs(site: Path, tmp_path: Path) -> None:
    recipe = Recipe({
        "start": [[1, []]],
        "1": {"queue": "x", "job_parameters": {"x": 42}, "output": {"found": 2, "success": 3}},
        "2": {"queue": "found"}, "3": {"queue": "success"},
    })  # fmt: skip
    step = tmp_path / "step.json"
    step.write_text(json.dumps(Envelope(recipe, 1, environment={"ID": "guid"}).body()))
    program = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "from zwrap.cli.wrap import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, "--wrap", "old-merge", "--recipewrapper", step],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "former name" not in done.stderr
    with SpoolTransport.from_configuration(Configuration()) as transport:
        transport.subscribe("found")
        delivery = transport.receive(5)
        assert delivery
        assert delivery.message.body["payload"] == {"answer": 42}
        assert transport.inspector().waiting("success") == 1


def test_a_worker_runs_and_garbage_is_looked_for_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(gc, "freeze", lambda: done.append("freeze"))
    monkeypatch.setattr(gc, "set_threshold", lambda count: done.append(f"threshold {count}"))
    importlib.reload(process_queue)
    assert done == [], "an import does not act"
    with SpoolTransport.from_configuration(Configuration()) as transport:
        for number in (1, 2, 3):
            transport.send("counters", number)
        command = ["process_queue", "--queue_name", "counters", "-m", "old_workers", "--once"]
        assert main(command) == 0
        transport.subscribe("sums")
        delivery = transport.receive(5)
        assert delivery
        assert delivery.message.body == 6
    assert done == ["freeze", "threshold 50000"]
