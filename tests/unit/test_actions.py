"""Commands that act on jobs: on which ones, what they say first, and what they leave alone."""

from __future__ import annotations

import io
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.ledger.place import default_file
from zwrap.attempt.record import GIVEN_UP, INTENDED, REJECTED, SUBMITTED, WAITING, Attempt
from zwrap.cli import dlq_check, joblogs, zwrap
from zwrap.configuration.clusters import ClusterSettings
from zwrap.configuration.site import Configuration
from zwrap.errors import PERMANENT, TEMPORARY, UnknownNameError, UnreachableError
from zwrap.job import State
from zwrap.monitor.actions import EFFECTS, Situation
from zwrap.scheduler import Command, Question
from zwrap.submission.clusters import Cluster, Clusters
from zwrap.transport.connect import connect
from zwrap.transport.memory import MemoryTransport

from .watched import Told, status

ROOT = Path(__file__).parents[2]
STATES = {
    "pending": (SUBMITTED, None), "running": (SUBMITTED, None), "waiting": (WAITING, None),
    "intended": (INTENDED, None), "failed": (SUBMITTED, "failure"), "good": (SUBMITTED, "success"),
}  # fmt: skip


class Site(Told):
    """A cluster that notes which jobs it was asked to end."""

    def __init__(self) -> None:
        super().__init__()
        self.cancelled: list[str] = []
        self.live = {
            name: status(name, state, name=f"n.{name}-1")
            for name, state in (("pending", State.PENDING), ("running", State.RUNNING))
        }

    def cancel(self, job_ids: Any) -> Question[None]:
        self.cancelled += job_ids
        return Question(Command(argv=["true"]), lambda _: None)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return the cluster of a site with a job in each state."""
    monkeypatch.setenv("ZWRAP_SPOOL", str(tmp_path / "spool"))
    system = Site()
    cluster = Cluster("local", ClusterSettings(kind="told"), system)  # type: ignore[arg-type]
    monkeypatch.setattr(Clusters, "get", lambda *_: cluster)
    ledger = Ledger.in_file(default_file())
    for number, (name, (state, outcome)) in enumerate(STATES.items()):
        add(ledger, tmp_path, name, number, state, outcome)
    ledger.close()
    return system


def add(
    ledger: Ledger, place: Path, name: str, number: int, state: str, outcome: str | None,
    attempt: int = 1,
) -> None:  # fmt: skip
    """Write a row, and the submission that it belongs to."""
    token = f"{name}-{attempt}"
    directory = place / name / ".zwrap" / token
    directory.mkdir(parents=True)
    step = {"queue": "cluster.submission",
            "parameters": {"cluster": {"commands": "true"}, "workingdir": str(place)}}  # fmt: skip
    message = {"recipe": {"start": [[1, []]], "1": step}, "recipe-pointer": 1}
    kept = {"header": {"original-destination": "/queue/cluster.submission"}, "message": message}
    (directory / "submission.json").write_text(json.dumps(kept))
    ledger.reserve([Attempt(
        token=token, recipe_id="r", step=1, cluster="local", job_name="n",
        job_directory=str(directory), created=number + 1.0,
    )])  # fmt: skip
    job_id = name if state == SUBMITTED else None
    ledger.record({token: {"state": state, "job_id": job_id, "outcome": outcome}})


def done(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Return exit status, output and complaints of a command of `zwrap`."""
    ended = zwrap.main([*arguments])
    shown = capsys.readouterr()
    return ended, shown.out, shown.err


def state_of(token: str) -> tuple[str, str | None]:
    ledger = Ledger.in_file(default_file())
    row = ledger.get(token)
    ledger.close()
    assert row
    return row.state, row.reason


def sent() -> int:
    with connect(Configuration.from_file().activate()) as transport:
        return transport.inspector().waiting("cluster.submission")


def test_jobs_that_are_named_are_cancelled_without_a_question(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, out, _ = done(capsys, "cancel", "running", "pending", "waiting", "local:failed")
    assert ended == 0
    assert site.cancelled == ["running", "pending"]
    assert "Job failed is not on cluster local any more." in out
    assert state_of("waiting-1")[0] == REJECTED


def test_more_than_one_job_is_touched_only_if_their_number_was_agreed_to(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    select = "cancel", "--recipe", "r"
    ended, _, said = done(capsys, *select)
    assert ended == 100
    assert "To cancel: 3 jobs." in said
    assert "needs --yes or --expect 3, as there is no terminal to ask; none was touched." in said
    assert "3 more are selected, and left alone" in said
    ended, _, said = done(capsys, *select, "--expect", "2")
    assert (ended, site.cancelled) == (100, [])
    assert "3 jobs selected, --expect 2: none was touched." in said
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    ended, out, _ = done(capsys, *select)
    assert (ended, out, site.cancelled) == (0, "None was touched.\n", [])
    assert state_of("waiting-1")[0] == WAITING
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert done(capsys, *select)[0] == 0
    assert sorted(site.cancelled) == ["pending", "running"]
    assert state_of("waiting-1")[0] == REJECTED


@pytest.mark.parametrize("agreed", [["--yes"], ["--expect", "3"]], ids=" ".join)
def test_a_script_says_how_many_it_means(
    agreed: list[str], site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert done(capsys, "cancel", "--recipe", "r", *agreed)[0] == 0
    assert sorted(site.cancelled) == ["pending", "running"]


def test_one_job_that_is_selected_is_touched_without_a_question(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert done(capsys, "cancel", "--state", "running")[0] == 0
    assert site.cancelled == ["running"]
    ended, out, _ = done(capsys, "cancel", "--state", "success")
    assert (ended, out) == (0, "No such jobs.\n")


@pytest.mark.parametrize("command", ["cancel", "resubmit"])
def test_without_names_and_options_no_job_is_meant(
    command: str, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, _, said = done(capsys, command, "--yes")
    assert (ended, site.cancelled, sent()) == (100, [], 0)
    assert "Name jobs, or select some" in said


@pytest.mark.parametrize("command", ["cancel", "resubmit"])
@pytest.mark.parametrize("others", [[], ["--recipe", "r"], ["--state", "failure,waiting"]], ids=str)
def test_a_pipe_without_names_means_no_job(
    command: str, others: list[str], site: Site, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"# none\n")))
    ended, out, _ = done(capsys, command, "-", "--yes", *others)
    assert (ended, out) == (0, "No such jobs.\n")
    assert (site.cancelled, sent(), state_of("waiting-1")[0]) == ([], 0, WAITING)


def test_jobs_that_are_expected_and_not_there_are_told(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, _, said = done(capsys, "cancel", "--state", "success", "--expect", "5")
    assert ended == 100
    assert "0 jobs selected, --expect 5: none was touched." in said


def test_the_end_of_the_terminal_s_input_is_no_agreement(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended_input(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", ended_input)
    ended, out, _ = done(capsys, "cancel", "--recipe", "r")
    assert (ended, out, site.cancelled) == (0, "None was touched.\n", [])


@pytest.mark.parametrize("command", ["cancel", "resubmit"])
def test_a_dry_run_says_what_would_happen_to_each_job_and_touches_none(
    command: str, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, out, _ = done(capsys, command, "--dry-run", *STATES, *(["intended"] * 2))
    assert ended == 0
    lines = out.splitlines()
    assert len(lines) == len(STATES) + 1
    situations = [Situation.PENDING, Situation.RUNNING, Situation.WAITING, Situation.IN_DOUBT,
                  Situation.ENDED, Situation.ENDED]  # fmt: skip
    for line, situation in zip(lines, situations, strict=False):
        assert line.endswith(f": {EFFECTS[command][situation]}.")
    assert lines[-1] == "Dry run: 6 jobs, none was touched."
    assert (site.cancelled, sent(), state_of("waiting-1")) == ([], 0, (WAITING, None))


def test_what_succeeded_is_submitted_again_only_if_that_is_said(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, _, said = done(capsys, "resubmit", "good")
    assert (ended, sent()) == (100, 0)
    assert "Attempt 1 at this step, job good, has succeeded" in said
    assert "--again" in said
    assert done(capsys, "resubmit", "good", "--again")[0] == 0
    assert sent() == 1
    assert done(capsys, "resubmit", "--recipe", "r")[0] == 0, "the one that failed"
    assert sent() == 2


def test_a_step_at_which_another_attempt_runs_or_succeeded_is_not_submitted_again(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger.in_file(default_file())
    add(ledger, tmp_path, "failed", 9, SUBMITTED, None, attempt=2)
    ledger.record({"failed-2": {"job_id": "running2"}})
    site.live["running2"] = status("running2", State.RUNNING, name="n.failed-2")
    ended, _, said = done(capsys, "resubmit", "failed")
    assert (ended, sent()) == (100, 0)
    assert "Attempt 2 at the same step is running as job running2 on cluster local" in said
    ledger.record({"failed-2": {"outcome": "success"}})
    ledger.close()
    ended, _, said = done(capsys, "resubmit", "failed-1")
    assert (ended, sent()) == (100, 0)
    assert "Attempt 2 at this step, job running2, has succeeded" in said


def test_of_a_step_only_the_newest_attempt_is_submitted_again(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger.in_file(default_file())
    add(ledger, tmp_path, "failed", 9, SUBMITTED, "failure", attempt=2)
    ledger.record({"failed-1": {"cause": "disk"}, "failed-2": {"job_id": "second"}})
    ledger.close()
    select = "resubmit", "--recipe", "r"
    ended, out, said = done(capsys, *select, "--dry-run")
    assert (ended, out.splitlines()[-1]) == (0, "Dry run: 1 job, none was touched.")
    ended, out, said = done(capsys, *select)
    assert (ended, sent()) == (0, 1)
    assert out == "n (second) is sent to cluster.submission as attempt 3.\n"
    assert "1 more is selected, and left out: of each step only the newest" in said
    ended, out, said = done(capsys, "resubmit", "--cause", "disk")
    assert (ended, out, sent()) == (0, "", 1), "the newest is not among those that are selected"
    assert "1 more is selected, and left out: of each step only the newest" in said
    ended, out, said = done(capsys, "resubmit", "failed-1", "second")
    assert (ended, sent()) == (100, 2)
    assert "failed is not sent: It is attempt 1 at its step, attempt 2 is the newest" in said
    assert "(zwrap resubmit failed-2)" in said


def test_a_refused_attempt_keeps_none_from_the_one_before_it(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It had no job, and perhaps no record of its message."""
    ledger = Ledger.in_file(default_file())
    add(ledger, tmp_path, "failed", 9, REJECTED, None, attempt=2)
    ledger.close()
    ended, out, said = done(capsys, "resubmit", "failed-1", "failed-2")
    assert (ended, sent()) == (100, 1)
    assert out == "n (failed) is sent to cluster.submission as attempt 3.\n"
    assert "failed-2 is not sent: Attempt 1 at the same step is sent once more already." in said
    ended, out, _ = done(capsys, "resubmit", "--recipe", "r")
    assert (ended, out.split()[1], sent()) == (0, "(failed)", 2)
    ended, out, _ = done(capsys, "resubmit", "--state", "rejected")
    assert (ended, out.split()[1], sent()) == (0, "(failed-2)", 3)


@pytest.mark.parametrize(
    ("state", "words"),
    [(WAITING, "waits to be submitted"), (INTENDED, "is being submitted now")],
    ids=["waiting", "intended"],
)
def test_a_step_whose_message_is_there_is_not_submitted_again(
    state: str, words: str, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = state
    ended, _, said = done(capsys, "resubmit", name)
    assert (ended, sent()) == (100, 0)
    assert f"Its message is there already: attempt 1 at this step ({name}-1) {words}." in said
    ledger = Ledger.in_file(default_file())
    add(ledger, tmp_path, "failed", 9, state, None, attempt=2)
    ledger.close()
    ended, _, said = done(capsys, "resubmit", "failed")
    assert (ended, sent()) == (100, 0)
    assert f"attempt 2 at this step (failed-2) {words}." in said


def test_a_step_in_doubt_whose_message_became_a_dead_letter_may_be_submitted_again(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger.in_file(default_file())
    ledger.record({"intended-1": {"reason": GIVEN_UP}})
    ledger.close()
    _, out, _ = done(capsys, "resubmit", "intended", "--dry-run")
    assert EFFECTS["resubmit"][Situation.ENDED] in out
    assert done(capsys, "resubmit", "intended")[0] == 0
    assert sent() == 1


def test_steps_that_are_left_out_are_told(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    ended, out, said = done(capsys, "resubmit", "--state", "success")
    assert (ended, out, sent()) == (0, "", 0)
    assert "1 more is selected, and left out: an attempt at the same step has succeeded" in said
    assert "--again" in said
    ended, _, said = done(capsys, "resubmit", "--state", "success", "--expect", "1")
    assert (ended, sent()) == (100, 0)
    assert "0 jobs selected, --expect 1: none was touched." in said


def test_an_unknown_name_keeps_no_other_from_being_sent_wherever_it_stands(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def given(text: str) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    assert done(capsys, "resubmit", "nope", "failed")[0] == 100
    assert sent() == 1
    given("nope\nfailed\n")
    ended, _, said = done(capsys, "resubmit", "-")
    assert (ended, sent()) == (100, 2)
    assert "nope is not sent: Unknown job 'nope'." in said
    given("failed\ngood\n")
    ended, _, said = done(capsys, "resubmit", "-", "--again")
    assert (ended, sent()) == (100, 2), "nobody said how many there are"
    assert "To resubmit 2 jobs needs --yes" in said
    given("")
    ended, _, said = done(capsys, "resubmit", "-", "--state", "failure", "--yes")
    assert (ended, sent()) == (0, 2), "no name is no job"


def test_what_was_sent_before_a_transport_failed_is_an_event(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(MemoryTransport):
        sent = 0

        def commit(self, *_: object, **__: object) -> None:
            self.sent += 1
            if self.sent > 1:
                raise UnreachableError("The broker went away.")

    monkeypatch.setattr("zwrap.cli.resubmit.connect", lambda *_: Failing())
    ended, out, said = done(capsys, "resubmit", "failed", "good", "--again", "--reason", "disk")
    assert (ended, out.count("is sent to"), "went away" in said) == (111, 1, True)
    ledger = Ledger.in_file(default_file())
    told = [[e.what for e in ledger.events.of(f"{name}-1")] for name in ("failed", "good")]
    ledger.close()
    assert [events.count("resubmitted") for events in told] == [1, 0]


@pytest.mark.parametrize("command", ["cancel", "resubmit"])
def test_a_job_id_of_too_few_digits_means_no_other_job(
    command: str, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger.in_file(default_file())
    add(ledger, tmp_path, "1734567890", 9, SUBMITTED, "failure")
    ledger.record({"1734567890-1": {"job_id": "105"}})
    ledger.close()
    for short in ("17", "1734567", "10"):
        ended, _, said = done(capsys, command, short)
        assert (ended, sent(), site.cancelled) == (100, 0, [])
        assert f"Unknown job '{short}'." in said
        assert "A number of fewer than 8 digits is a job id." in said
    for whole in ("105", "17345678"):
        assert done(capsys, command, whole)[0] == 0


def test_what_a_person_did_is_an_event_with_its_reason(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    done(capsys, "cancel", "running", "pending", "failed", "--reason", "wrong sample")
    done(capsys, "resubmit", "failed")
    done(capsys, "resubmit", "good", "--reason", "refused")
    ledger = Ledger.in_file(default_file())
    told = {
        name: [
            (each.what, each.facts) for each in ledger.events.of(f"{name}-1") if "@" in each.witness
        ]
        for name in STATES
    }
    ledger.close()
    assert [what for what, _ in told["running"] + told["pending"]] == ["cancelled"] * 2
    assert "wrong sample" in str(told["running"])
    assert "wrong sample" in str(told["pending"])
    assert [what for what, _ in told["failed"]] == ["resubmitted"]
    assert told["good"] == told["waiting"] == []


def events_of(token: str) -> list[tuple[str, bool]]:
    """Return what happened to an attempt, and whether a person says so."""
    ledger = Ledger.in_file(default_file())
    found = ledger.events.of(token)
    ledger.close()
    return [(each.what, "@" in each.witness) for each in found]


@pytest.fixture
def elsewhere(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return cluster `c`, which has job `far`, as `zz` has; `zz` is in no site file."""
    system = Site()
    system.live = {"far": status("far", State.RUNNING, name="n.far-1")}
    of = {"local": site, "c": system}

    def get(_: Clusters, name: str) -> Cluster:
        if name not in of:
            raise UnknownNameError("scheduler", name, of)
        return Cluster(name, ClusterSettings(kind="told"), of[name])  # type: ignore[arg-type]

    monkeypatch.setattr(Clusters, "get", get)
    ledger = Ledger.in_file(default_file())
    for name, cluster in (("far", "c"), ("lost", "zz")):
        add(ledger, tmp_path, name, 20, SUBMITTED, None)
        ledger.record({f"{name}-1": {"cluster": cluster}})
    ledger.close()
    return system


def test_no_job_is_cancelled_while_the_cluster_of_another_one_is_not_known(
    site: Site, elsewhere: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, _, said = done(capsys, "cancel", "waiting", "running", "far", "lost")
    assert (ended, site.cancelled, elsewhere.cancelled) == (PERMANENT, [], [])
    assert "Unknown scheduler 'zz'" in said
    assert state_of("waiting-1") == (WAITING, None)


def test_a_cluster_that_cannot_be_asked_keeps_no_job_of_another_one_from_its_end(
    site: Site, elsewhere: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what was done is an event, whichever cluster is asked first."""
    elsewhere.reachable = False
    ended, _, said = done(capsys, "cancel", "running", "far")
    assert (ended, site.cancelled) == (TEMPORARY, ["running"])
    assert "It could not be asked." in said
    assert ("cancelled", True) in events_of("running-1")
    assert ("cancelled", True) not in events_of("far-1")
    elsewhere.reachable, site.reachable = True, False
    assert done(capsys, "cancel", "pending", "far")[0] == TEMPORARY
    assert elsewhere.cancelled == ["far"]
    assert ("cancelled", True) in events_of("far-1")


def test_a_step_without_a_job_is_left_alone_and_others_are_ended(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a dry run says; alone it is refused."""
    done(capsys, "cancel", "waiting")
    ended, _, said = done(capsys, "cancel", "intended", "waiting", "running")
    assert (ended, site.cancelled) == (0, ["running"])
    assert "intended-1 is left alone: it is being submitted now; cancel it once it has a" in said
    assert "waiting-1 is left alone: it has no job, and is rejected." in said
    assert done(capsys, "cancel", "intended", "waiting")[0] == PERMANENT


def test_a_wait_that_a_person_ended_is_no_refusal_of_the_submitter(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert done(capsys, "cancel", "waiting")[0] == 0
    assert events_of("waiting-1") == [("taken", False), ("held", False), ("cancelled", True)]


# -- logs --------------------------------------------------------------------------------------


def test_the_logs_of_a_job_are_found_without_their_names(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, _, said = done(capsys, "logs", "running")
    assert ended == 100
    assert f"No log of running is in {tmp_path / 'running'}" in said
    job = tmp_path / "running" / ".zwrap" / "running-1"
    (job / "job.err").write_text("warning\n")
    (tmp_path / "running" / "prog.log").write_text("".join(f"line {n}\n" for n in range(99)))
    (tmp_path / "running" / "link.log").symlink_to("/etc/passwd")
    (tmp_path / "running" / "empty.log").touch()
    _, out, _ = done(capsys, "logs", "running", "-n", "2")
    assert out.splitlines() == [
        f"==> {tmp_path}/running/prog.log <==", "    line 97", "    line 98",
        f"==> {job}/job.err <==", "    warning",
    ]  # fmt: skip
    _, out, _ = done(capsys, "logs", "running", "--list")
    assert out.splitlines() == [f"{tmp_path}/running/prog.log", f"{job}/job.err"]
    _, out, _ = done(capsys, "logs", "running", "--json")
    assert [json.loads(line)["bytes"] for line in out.splitlines()][1:] == [8]


def test_a_log_is_followed_until_its_job_has_ended(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "running" / "prog.log"
    log.write_text("one\ntwo\nthr")

    def go_on() -> None:
        time.sleep(0.3)
        with log.open("a") as file:
            file.write("ee\nfour")
        (tmp_path / "running" / ".zwrap" / "running-1" / "verdict.json").write_text("{}")

    thread = threading.Thread(target=go_on)
    thread.start()
    ended, out, _ = done(capsys, "logs", "running", "-f", "-n", "1")
    thread.join()
    assert (ended, out) == (0, "two\nthree\nfour\n")


def test_a_line_without_an_end_is_followed_in_parts(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "running" / "prog.log"
    log.write_text("0123")

    def grow(*_: object) -> bool:
        with log.open("a") as file:
            file.write("456789" * 10)
        return True

    monkeypatch.setattr(joblogs, "TAIL_BYTES", 8)
    monkeypatch.setattr(joblogs, "_has_ended", grow)
    ended, out, _ = done(capsys, "logs", "running", "-f")
    assert (ended, out.replace("\n", "")) == (0, "0123" + "456789" * 10)
    assert max(map(len, out.splitlines())) < 2 * 8


@pytest.mark.parametrize("name", ["../failed/other", "{}/failed/other", "a\0b", "x" * 300])
def test_a_name_of_a_program_opens_no_log_elsewhere(
    name: str, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "failed" / "other.log").write_text("a secret\n")
    (tmp_path / "running" / "prog.log").write_text("a line\n")
    kept = tmp_path / "running" / ".zwrap" / "running-1" / "submission.json"
    content = json.loads(kept.read_text())
    step = content["message"]["recipe"]["1"]
    step["parameters"]["cluster"]["commands"] = f"zocalo.wrap --wrap {name.format(tmp_path)}"
    kept.write_text(json.dumps(content))
    ended, out, _ = done(capsys, "logs", "running")
    assert (ended, "a line" in out, "a secret" in out) == (0, True, False)


# -- the command line --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [["running", "--yes", "pending"], ["--yes", "running", "pending"],
     ["running", "--reason", "x", "pending", "--yes"]],
    ids=" ".join,
)  # fmt: skip
def test_names_and_options_stand_in_any_order(
    arguments: list[str], site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert done(capsys, "cancel", *arguments)[0] == 0
    assert site.cancelled == ["running", "pending"]


def test_the_nearest_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        zwrap.main(["job"])
    assert ended.value.code == 2
    assert "error: Unknown command 'job'. Did you mean 'jobs'?" in capsys.readouterr().err


def test_arguments_of_a_pipe_stand_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZWRAP_SPOOL", str(tmp_path / "spool"))
    with connect(Configuration.from_file().activate()) as transport:
        transport.send("first", {"a": 1})
        transport.flush()
    assert done(capsys, "pipe", "first", "--once", "second")[0] == 0
    with connect(Configuration.from_file().activate()) as transport:
        assert transport.inspector().waiting("second") == 1


def test_dead_letters_are_counted_for_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZWRAP_SPOOL", str(tmp_path / "spool"))
    assert dlq_check.main(["--json"]) == 0
    assert capsys.readouterr().out == ""
    with connect(Configuration.from_file().activate()) as transport:
        transport.send("q", {"a": 1})
        transport.subscribe("q")
        delivery = transport.receive(5.0)
        assert delivery
        delivery.dead_letter("no use")
        transport.flush()
    assert dlq_check.main(["--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"queue": "q", "dead": 1}


def test_docs_say_what_each_command_does_in_each_situation() -> None:
    text = (ROOT / "docs" / "jobs.md").read_text()
    for effects in EFFECTS.values():
        assert set(effects) == set(Situation)
    for situation in Situation:
        cells = [effects[situation] for effects in EFFECTS.values()]
        assert f"| {situation.value} | {' | '.join(cells)} |" in text
