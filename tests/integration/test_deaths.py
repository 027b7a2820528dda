"""No job dies without a word: on every batch system each end is told once, with its cause."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Site
from .ends import Wait, claim_of, concluded, second_attempt, submit, told
from .jobs import jobs, run

Start = Callable[..., None]


@pytest.fixture
def watched(on: Site) -> Start:
    """Return a function that submits one step, with a Watcher at work."""

    def start(name: str, command: str, **block: Any) -> None:
        on.sections["clusters"]["cluster"] |= {"watch_s": 0.5}
        on.write_config()
        submit(on, name, command, **block)
        on.service("Watcher")

    return start


def test_a_wrapper_that_is_killed(on: Site, watched: Start, wait_until: Wait) -> None:
    watched("w", "echo told; sleep 600")
    claim = wait_until(lambda: claim_of(on, "w"), seconds=60)
    wait_until(lambda: list((on.directory / "w").glob("*.log")), seconds=30)
    os.kill(int(claim["process"].split("-")[-2]), signal.SIGKILL)
    job = concluded(on, wait_until, "w")
    assert (job["outcome"], job["witness"]) == ("failure", "cluster cluster")
    assert "it failed (exit status 137" in job["cause"]
    said = told(on)
    assert said.keys() == {"failure", "completed", "errors"}
    assert said["failure"] == [job["cause"]]
    assert (said["errors"][0]["exit_code"], len(said["completed"])) == (137, 1)


def test_a_job_that_is_cancelled_before_it_starts(
    on: Site, watched: Start, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it ever ran."""
    monkeypatch.setenv("ZWRAP_LOCAL_CPUS", "1")
    kind = on.sections["clusters"]["cluster"]["kind"]
    whole = {"local": {}, "slurm": {"nodes": 2, "exclusive": True}}.get(
        kind, {"exclusive": True, "partition": "all.q"}
    )
    watched("first", "sleep 600", **whole)
    wait_until(lambda: claim_of(on, "first"), seconds=60)
    watched("second", "true", **whole)
    [second] = [job for job in jobs(on) if job["job_name"] == "second"]
    assert run(on, "cancel", second["job_id"]).returncode == 0
    job = concluded(on, wait_until, "second")
    assert job["outcome"] == "failure"
    assert "it was cancelled before its wrapper began" in job["cause"]
    assert told(on)["failure"] == [job["cause"]]
    assert not claim_of(on, "second")


@pytest.mark.parametrize("code", [0, 3])
def test_commands_without_a_wrapper(on: Site, watched: Start, wait_until: Wait, code: int) -> None:
    watched("bare", "true", commands=f"echo last words >&2; exit {code}")
    job = concluded(on, wait_until, "bare")
    assert job["outcome"] == ("failure" if code else "success")
    said = told(on)
    if code:
        assert "it failed before its wrapper began (exit status 3" in job["cause"]
        assert said["errors"][0]["log"] == ["last words"]
    else:
        assert said == {}


def test_a_set_up_that_fails(on: Site, watched: Start, wait_until: Wait) -> None:
    """Earlier releases ran the job without its modules, and it could be a success."""
    kind = on.sections["clusters"]["cluster"]["kind"]
    templates = on.directory / "templates"
    templates.mkdir()
    set_up = "{% block setup %}\nmodule load x\n{% endblock %}\n"
    (templates / f"{kind}.sh.j2").write_text(f'{{% extends "zwrap/{kind}.sh.j2" %}}\n{set_up}')
    on.settings["zwrap.template_directory"] = str(templates)
    watched("w", "true")
    job = concluded(on, wait_until, "w")
    assert job["outcome"] == "failure"
    assert "it failed before its wrapper began (exit status 127" in job["cause"]
    assert "Its set-up failed at 'module load x': zwrap: there is no 'module' on" in job["cause"]
    assert told(on)["failure"] == [job["cause"]]
    assert not claim_of(on, "w")


@pytest.mark.parametrize(("command", "outcome"), [("true", "success"), ("exit 3", "failure")])
def test_a_wrapper_that_spoke_is_believed_and_no_word_is_said_twice(
    on: Site, watched: Start, wait_until: Wait, command: str, outcome: str
) -> None:
    watched("w", command)
    job = concluded(on, wait_until, "w")
    assert (job["outcome"], job["witness"]) == (outcome, "wrapper")
    [advice] = map(json.loads, run(on, "jobs", "advise", "--json").stdout.splitlines())
    assert (advice["job_name"], advice["succeeded"]) == ("w", int(outcome == "success"))
    assert advice["time_limit"] == (60 if outcome == "success" else None)
    said = told(on)
    assert {queue: len(each) for queue, each in said.items() if queue != "errors"} == {
        outcome: 1, "completed": 1,
    }  # fmt: skip


def test_several_watchers_say_it_once(on: Site, watched: Start, wait_until: Wait) -> None:
    watched("bare", "true", commands="sleep 2; exit 3")
    for _ in range(3):
        on.service("Watcher")
    concluded(on, wait_until, "bare")
    assert {queue: len(each) for queue, each in told(on).items()} == {
        "failure": 1, "completed": 1, "errors": 1,
    }  # fmt: skip


def test_a_job_that_ran_out_of_time_is_tried_again_with_more(
    on: Site, watched: Start, wait_until: Wait
) -> None:
    """Its policy allows one retry; the second end is a failure with the cause."""
    kind = on.sections["clusters"]["cluster"]["kind"]
    limit_s = 60 if kind == "slurm" else 8  # its limits are minutes, looked at twice a minute
    policy = {"on": ["timeout"], "walltime_factor": 2}
    on.sections["clusters"]["cluster"]["retry"] = policy
    watched("w", "echo began >>runs; sleep 300", time_limit=limit_s)
    first = concluded(on, wait_until, "w", seconds=180)
    assert first["outcome"] == "retried", first
    assert f"tried again as attempt 2 with time_limit {2 * limit_s}." in first["cause"]
    assert told(on) == {}
    if kind == "slurm":
        return  # its second end would take two minutes more, and is that of the others
    second = second_attempt(on, wait_until, "failure")
    assert "time limit" in second["cause"]
    said = told(on)
    assert {queue: len(each) for queue, each in said.items()} == {
        "failure": 1, "completed": 1, "errors": 1,
    }  # fmt: skip
    assert (on.directory / "w" / "runs").read_text() == "began\n" * 2
    shown = json.loads(run(on, "jobs", "--json", second["token"]).stdout)
    assert [each["outcome"] for each in shown["attempts"]] == ["retried", "failure"]


def test_a_wrapper_that_is_not_heard_of_is_stalled_and_not_dead(
    on: Site, watched: Start, wait_until: Wait
) -> None:
    on.sections["clusters"]["cluster"]["stalled_s"] = 4
    watched("w", "sleep 8")
    claim = wait_until(lambda: claim_of(on, "w"), seconds=60)
    wait_until(lambda: list((on.directory / "w").glob("*.log")), seconds=30)
    time.sleep(1)  # it has been heard
    pid = int(claim["process"].split("-")[-2])
    os.kill(pid, signal.SIGSTOP)
    try:
        [job] = wait_until(lambda: jobs(on, "--state", "stalled"), seconds=60)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "it runs, but its wrapper has been silent since" in job["cause"]
    assert job["outcome"] is None
    assert concluded(on, wait_until, "w")["outcome"] == "success"
    assert told(on).keys() == {"success", "completed"}


SAVES = """
trap 'echo saved >>log; exit 85' USR1
if [ -e log ]; then echo done >>log; exit; fi
sleep 100 & wait
"""


@pytest.mark.parametrize("how", ["signal", "command"])
def test_a_program_that_saves_what_it_has_goes_on_in_another_job(
    on: Site, watched: Start, wait_until: Wait, how: str
) -> None:
    """It saves before the time limit of its job, and the next attempt continues from that."""
    kind = on.sections["clusters"]["cluster"]["kind"]
    limit_s, before_s = (60, 54) if kind == "slurm" else (8, 4)
    given: dict[str, Any] = {"signal": "USR1", "exit_status": [85]}
    if how == "command":
        given = {"command": ["sh", "-c", "echo saved >>log"]}
    program = {"checkpoint": {**given, "before_s": before_s}, "timeout": 100}
    watched("w", SAVES, program=program, time_limit=limit_s)
    first = concluded(on, wait_until, "w")
    assert first["outcome"] == "retried", first
    assert "stopped after" in first["cause"]
    assert "by the approaching time limit of its job" in first["cause"]
    assert re.search(r"goes on as attempt 2 with 9\d s left\.$", first["cause"])
    second = second_attempt(on, wait_until)
    assert (on.directory / "w" / "log").read_text() == "saved\ndone\n"
    assert {queue: len(each) for queue, each in told(on).items()} == {
        "success": 1, "completed": 1,
    }  # fmt: skip
    envelope = json.loads(Path(second["job_directory"], "envelope.json").read_text())
    assert envelope["environment"]["zwrap-attempt"] == 2
    step = envelope["recipe"][str(envelope["recipe-pointer"])]
    assert 90 <= step["job_parameters"]["timeout"] < 100


def test_a_program_that_could_save_and_is_cancelled_does_not_go_on(
    on: Site, watched: Start, wait_until: Wait
) -> None:
    program = {"checkpoint": {"signal": "USR1"}}
    watched("w", SAVES, program=program, time_limit=600)
    wait_until(lambda: list((on.directory / "w").glob("*.log")), seconds=60)
    time.sleep(0.5)
    [job] = jobs(on)
    assert run(on, "cancel", job["job_id"]).returncode == 0
    assert concluded(on, wait_until, "w")["outcome"] == "failure"
    assert told(on).keys() == {"failure", "completed", "errors"}
