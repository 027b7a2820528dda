"""Rules of the Submitter for batches of messages, with a batch system that is told what to say."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.directory import SUBMISSION
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.configuration.site import Configuration
from zwrap.errors import QueueFullError, TemporaryError, TransportError, ZwrapError
from zwrap.message.content import Outgoing
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.service import arraysteps, submitter
from zwrap.service.contract import Work
from zwrap.service.loop import Loop
from zwrap.service.settling import handle_deliveries
from zwrap.service.submitter import Submitter
from zwrap.submission import tasks
from zwrap.submission.pending import PendingJob
from zwrap.transport.delivery import ACK, Delivery, Settlement
from zwrap.transport.memory import MemoryTransport


class Site:
    """Steps sent to a Submitter."""

    def __init__(self, directory: Path, **clusters: Any) -> None:
        self.directory = directory
        self.transport = MemoryTransport()
        text = {"version": 1, "c": {"plugin": "clusters", **clusters}}
        text["environments"] = {"default": ["c"]}
        self.configuration = Configuration.from_string(json.dumps(text)).activate()

    def send(self, name: str, **parameters: Any) -> None:
        given = {"cluster": {"commands": "true", "job_name": name}, **parameters}
        step = {"queue": "cluster.submission", "output": {"job_submitted": 2}, "parameters": {
            "workingdir": str(self.directory / name), **given,
        }}  # fmt: skip
        recipe = Recipe({"start": [[1, []]], "1": step, "2": {"queue": "told"}})
        self.transport.commit(Envelope(recipe, 1, environment={"ID": name}).start())

    def work(self) -> None:
        Loop(Submitter(self.configuration, self.transport), self.transport, once=True).run()

    def told(self) -> list[Any]:
        entries = self.transport.broker.queues["told"]
        return sorted(entry.message.body["environment"]["ID"] for entry in entries)

    def dead(self) -> list[tuple[str, str]]:
        letters = self.transport.broker.dead_letters.get("cluster.submission", [])
        return [(each.message.body["environment"]["ID"], each.reason) for each in letters]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path / "state"))
    monkeypatch.setattr("zwrap.service.settling.RETRY_FIRST_S", 0.001)
    return Site(tmp_path)


def taking(monkeypatch: pytest.MonkeyPatch, act: Any) -> list[list[str]]:
    """Jobs are taken unless `act` has something to say; the batches."""
    batches: list[list[str]] = []

    def submit_all(
        _: Any, __: Any, jobs: Sequence[PendingJob], on_outcomes: Any, *more: Any
    ) -> None:
        del more
        batches.append([job.request.job_name for job in jobs])
        outcomes = {job.attempt.token: act(job) or "1" for job in jobs}
        on_outcomes(list(outcomes.items()))

    monkeypatch.setattr(submitter, "submit_all", submit_all)
    return batches


def test_each_message_of_a_batch_has_its_own_fate(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = taking(monkeypatch, lambda job: None)
    for name in "abcdef":
        site.send(name, **({"workingdir": "relative"} if name == "c" else {}))
    site.work()
    assert batches == [["a"], ["b", "d", "e", "f"]]
    assert site.told() == ["a", "b", "d", "e", "f"]
    [(name, reason)] = site.dead()
    assert name == "c"
    assert "'relative'; an absolute path is expected" in reason


def test_other_jobs_of_a_batch_do_not_wait_until_a_step_is_taken_apart(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    taking(monkeypatch, lambda job: order.append(job.request.job_name))
    real = arraysteps.copies

    def copies(envelope: Envelope, *more: Any) -> Any:
        order.append(f"copies of {envelope.environment['ID']}")
        return real(envelope, *more)

    monkeypatch.setattr(arraysteps, "copies", copies)
    for name in "abc":
        array = {"array": {"b": "0-1"}.get(name, True)}
        site.send(name, cluster={"commands": "true", "job_name": name, **array})
    site.work()
    assert order[:3] == ["a", "c", "copies of b"]
    assert site.told() == ["a", "b", "b", "c"]
    assert not site.dead()


class Told(MemoryTransport):
    """A transport that notes what is asked of it, and fails as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[int, int]] = []
        """Number of messages, and of deliveries, of what was to be sent."""
        self.flushes: list[int] = []
        """Number of messages that were sent before each wait for all confirmations."""
        self.failures: list[Exception] = []
        self.confirms = True

    def flush(self, timeout_s: float = 30.0) -> None:
        self.flushes.append(sum(messages for messages, _ in self.sent))
        if not self.confirms:
            raise TransportError(f"not confirmed within {timeout_s:g} s")

    def commit(
        self,
        messages: Sequence[Outgoing],
        deliveries: Sequence[Delivery] = (),
        settlement: Settlement = ACK,
    ) -> None:
        if messages:
            self.sent.append((len(messages), len(deliveries)))
            if self.failures:
                raise self.failures.pop()
        super().commit(messages, deliveries, settlement)


def array_steps(site: Site, number: int) -> tuple[Told, list[Work]]:
    """Return messages of array steps, and their transport, which notes what is asked of it."""
    site.transport = transport = Told()
    for name in range(number):
        site.send(f"{name}", cluster={"commands": "true", "array": "0-7"})
    transport.sent.clear()
    transport.subscribe("cluster.submission", number)
    found = [transport.receive(0) for _ in range(number)]
    work = [Work(each, Envelope.from_body(each.message.body)) for each in found if each]
    return transport, work


@pytest.mark.parametrize("portion", [1, tasks.PORTION_BYTES])
def test_the_messages_for_tasks_are_one_unit_with_the_message_for_their_step(
    site: Site, monkeypatch: pytest.MonkeyPatch, portion: int
) -> None:
    """So all of them are there, or the step comes again; and no message is waited for by itself."""
    monkeypatch.setattr(tasks, "PORTION_BYTES", portion)
    transport, work = array_steps(site, 1)
    assert Submitter(site.configuration, transport).handle_all(work) == [None]
    assert transport.sent == [(4 if portion == 1 else 8, 1)]


def test_while_the_broker_is_away_one_array_step_of_a_batch_is_tried(site: Site) -> None:
    transport, work = array_steps(site, 20)
    transport.failures = [TransportError("away")]
    problems = Submitter(site.configuration, transport).handle_all(work)
    assert [type(each) for each in problems] == [TransportError] * 20
    assert len(transport.sent) == 1
    assert not any(each.delivery.settled for each in work)


def test_a_queue_without_room_for_one_array_step_may_have_it_for_another(site: Site) -> None:
    transport, work = array_steps(site, 3)
    transport.failures = [QueueFullError("full")]
    problems = Submitter(site.configuration, transport).handle_all(work)
    assert [type(each) for each in problems] == [QueueFullError, type(None), type(None)]


@pytest.mark.parametrize("confirms", [True, False])
def test_array_steps_of_a_batch_wait_for_confirmations_after_a_portion(
    site: Site, monkeypatch: pytest.MonkeyPatch, confirms: bool
) -> None:
    """So the copies that a transport holds until a broker has confirmed them are few."""
    transport, work = array_steps(site, 6)
    monkeypatch.setattr(arraysteps, "PORTION_BYTES", 16 * work[0].delivery.size)
    transport.confirms = confirms
    problems = Submitter(site.configuration, transport).handle_all(work)
    if confirms:
        assert problems == [None] * 6
        assert transport.flushes == [16, 32]
    else:
        assert problems[:2] == [None] * 2
        assert [type(each) for each in problems[2:]] == [TransportError] * 4
        assert transport.flushes == [16], "no wait follows on one that was in vain"


def test_a_result_that_is_refused_costs_only_the_step_whose_result_it_is(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    taking(monkeypatch, lambda job: None)
    site.transport.broker.largest_bytes = 10_000
    for name in "abcdef":
        site.send(name)
    waiting = site.transport.broker.queues["cluster.submission"]
    body: Any = waiting[3].message.body
    body["environment"]["more"] = "x" * 20_000
    site.work()
    assert site.told() == ["a", "b", "c", "e", "f"]
    [(name, reason)] = site.dead()
    assert name == "d"
    [file] = [each for each in (tmp_path / "state" / "refused").iterdir() if str(each) in reason]
    assert json.loads(file.read_text())["message"]["payload"]["jobid"] == 1


def test_a_message_that_came_twice_is_settled_twice(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both copies are one job."""
    taking(monkeypatch, lambda job: None)
    site.send("first")
    for _ in range(2):
        site.send("again")
    queue = site.transport.broker.queues["cluster.submission"]
    queue[2] = queue[1]._replace()
    site.work()
    assert site.told() == ["again", "again", "first"]
    assert not queue
    assert not site.dead()


def test_a_fault_in_a_batch_costs_only_the_message_whose_fault_it_is(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a fault of a batch each message is tried alone."""

    def act(job: PendingJob) -> None:
        if job.request.job_name == "c":
            raise ZeroDivisionError

    batches = taking(monkeypatch, act)
    for name in "abcdef":
        site.send(name)
    site.work()
    assert site.told() == ["a", "b", "d", "e", "f"]
    [(name, reason)] = site.dead()
    assert name == "c"
    assert "ZeroDivisionError" in reason
    assert batches[1] == ["b", "c", "d", "e", "f"]
    assert all(len(batch) == 1 for batch in batches[2:])


def test_after_a_fault_in_a_batch_the_others_keep_their_number_of_deliveries(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act(job: PendingJob) -> None:
        if job.request.job_name == "c":
            raise ZeroDivisionError

    batches = taking(monkeypatch, act)
    service = Submitter(site.configuration, site.transport)
    site.transport.subscribe("cluster.submission", 10)
    for name in "abcd":
        site.send(name)
    deliveries = [site.transport.receive(1) for _ in "abcd"]
    handle_deliveries(service, [each for each in deliveries if each])
    assert site.told() == ["a", "b", "d"]
    assert batches == [["a", "b", "c", "d"], ["a"], ["b"], ["c"], ["d"]]
    service.close()


@pytest.mark.parametrize("error", [errno.ESTALE, errno.ENOSPC, errno.EIO, errno.ETIMEDOUT])
def test_while_the_filesystem_of_jobs_is_away_they_wait_and_none_is_condemned(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def away(path: Path, *more: Any, **options: Any) -> None:
        raise OSError(error, os.strerror(error), str(path))

    monkeypatch.setattr("zwrap.submission.preparation.write_atomically", away)
    monkeypatch.setattr("zwrap.service.settling.RETRY_LAST_S", 0.001)
    service = Submitter(site.configuration, site.transport)
    site.transport.subscribe("cluster.submission", 20)
    for number in range(20):
        site.send(f"job{number}")
    pauses: list[float] = []
    for _ in range(8):
        deliveries = [site.transport.receive(1) for _ in range(20)]
        handle_deliveries(service, [each for each in deliveries if each], pauses.append)
    assert site.dead() == []
    queue = site.transport.broker.queues["cluster.submission"]
    assert [entry.delivery_count for entry in queue] == [1] * 20
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    service.close()


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"workingdir": "/dev/null/x"}, "cannot be written: /dev/null/x: Not a directory."),
        ({"recipewrapper": "r" * 300}, "File name too long."),
        ({"recipewrapper": "a\0b"}, "holds a NUL character, which no path can."),
        ({"standard_output": "a\0b"}, "holds a NUL character, which no path can."),
        ({"cluster": {"commands": "true", "environment": {"A": "x" * 200_000}}},
         "variable 'A' has 200003 bytes; Linux starts no program with more than 131072."),
        ({"cluster": {"commands": "true", "environment": {"A": "x\0"}}},
         "variable 'A' cannot be set; a name without '=' and texts without NUL"),
        ({"cluster": {"commands": "true\0"}}, "key 'commands' holds a NUL character"),
    ],
)  # fmt: skip
def test_what_no_job_can_be_given_is_a_dead_letter(
    site: Site, parameters: dict[str, Any], complaint: str
) -> None:
    site.send("bad", **parameters)
    site.work()
    [(_, reason)] = site.dead()
    assert complaint in reason
    assert "Traceback" not in reason


def test_what_is_temporary_costs_no_attempt(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    left = dict.fromkeys("bc", 8)

    def act(job: PendingJob) -> ZwrapError | None:
        name = job.request.job_name
        if left.get(name, 0):
            left[name] -= 1
            return TemporaryError("not now", retry_after_s=0.001)
        return None

    taking(monkeypatch, act)
    for name in "abc":
        site.send(name)
    site.work()
    assert site.told() == ["a", "b", "c"]
    assert site.dead() == []


def test_the_policy_of_retries_is_kept_beside_the_job(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[PendingJob] = []
    taking(monkeypatch, jobs.append)
    site.send("a", retry={"on": ["lost"]})
    site.send("b", retry={"on": ["bad luck"]})
    site.work()
    [job] = jobs
    job.write()
    kept = json.loads((job.request.job_directory / SUBMISSION).read_text())
    assert kept["retry"]["on"] == ["lost"]
    assert kept["header"]["original-destination"] == "/queue/cluster.submission"
    [(name, reason)] = site.dead()
    assert name == "b"
    assert "node 1, parameters, key 'retry': Invalid enum value 'bad luck'" in reason


def test_the_names_of_a_job_s_files_survive_a_power_cut_once_they_are_written(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each directory is synced after the last name was put into it."""
    jobs: list[PendingJob] = []
    taking(monkeypatch, jobs.append)
    site.send("a", recipewrapper="beside/envelope.json")
    site.work()
    synced: dict[str, set[str]] = {}
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        place = os.readlink(f"/proc/self/fd/{descriptor}")
        if os.path.isdir(place):
            synced[place] = set(os.listdir(place))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    jobs[0].write()
    directory = jobs[0].request.job_directory
    assert {"script", SUBMISSION} <= synced[str(directory)]
    assert "envelope.json" in synced[str(site.directory / "a" / "beside")]


def test_without_a_shared_filesystem_the_script_brings_all_files_and_the_ledger_keeps_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path / "state"))
    site = Site(tmp_path, far={"kind": "local", "shared_filesystem": False})
    scripts: list[str] = []
    kept: list[str] = []

    def act(job: PendingJob) -> None:
        job.write()
        scripts.append(job.script.read_text())
        assert job.script.parent == tmp_path / "state" / "scripts"
        assert job.request.working_directory == Path("/")
        ledger = Ledger.of(site.configuration)
        found = ledger.remote.get(job.attempt.token)
        assert found
        kept.append(found.submission)
        ledger.close()

    taking(monkeypatch, act)
    commands = "zocalo.wrap --recipewrapper $RECIPEWRAP"
    site.send("a", cluster={"scheduler": "far", "commands": commands, "job_name": "a"})
    site.work()
    assert site.told() == ["a"]
    assert "recipe-pointer" in scripts[0]
    assert "export ZWRAP_VERDICT_QUEUE=zwrap.verdict\n" in scripts[0]
    assert json.loads(kept[0])["header"]["original-destination"] == "/queue/cluster.submission"
    assert not (tmp_path / "a").exists(), "the job makes its directories where it runs"
    assert list((tmp_path / "state" / "scripts").iterdir()) == [], "the batch system has it"


def test_a_site_without_a_default_cluster_is_told_once_and_other_steps_go_on(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    batches = taking(monkeypatch, lambda _: None)
    site.work()
    assert not caplog.records
    several = Site(site.directory, a={"kind": "local"}, b={"kind": "local"})
    for number in range(3):
        several.send(f"x{number}")
    several.send("good", cluster={"commands": "true", "job_name": "good", "scheduler": "b"})
    several.work()
    told = [each for each in caplog.records if each.levelname == "ERROR"]
    [of_the_site] = [each for each in told if each.name == "zwrap.submission.preparation"]
    assert of_the_site.getMessage() == (
        "Steps that name no cluster are refused: of the clusters a, b none is named under storage "
        "key 'scheduler' (as 'scheduler: local' such steps run on the host of the service, see "
        "docs/site.md)."
    )
    assert batches == [["good"]]
    assert len(several.dead()) == 3
