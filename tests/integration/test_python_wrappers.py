"""Wrapper classes written for python-zocalo, and the shell around a plain command.

The classes are found by entry point, and nothing but their import is changed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Site

Wait = Callable[..., Any]
CHANNELS = (
    "starting", "updates", "success", "failure", "completed", "result-individual-file",
    "result-all-files", "ispyb", "extra",
)  # fmt: skip

MARK = f"{os.getpid():07d}"
"""Fraction of a second that only sleeps of this process of tests have."""

MODULE = """
import subprocess
import time

from zwrap.wrapper.python import BaseWrapper


class Good(BaseWrapper):
    _logger_name = "site.wrap.good"

    def run(self):
        assert self.recwrap, "No recipewrapper object found"
        params = self.recwrap.recipe_step["job_parameters"]
        self.log.info("runs with %s", params["setting"])
        self.status_thread.set_static_status_field("spell", params["setting"])
        self.status_thread.taskname += " (half)"
        self.update("half way")
        self.recwrap.environment["found"] = 17
        self.recwrap.send_to("ispyb", {"ispyb_command_list": []}, header={"site": "x"})
        self.recwrap.send_to("nowhere", "is dropped")
        self.recwrap.set_default_channel("extra")
        self.recwrap.send("by default", delay=0.01)
        self.recwrap.transport.send("direct", {"plain": True})
        self.record_result_individual_file(
            {"file_path": "/d", "file_name": "f", "file_type": "log", "importance_rank": 1}
        )
        self.record_result_all_files({"filelist": ["/d/f"]})
        return self.config.storage["answer"] == 42 and self.recwrap.payload == {"p": 1}


class Bad(BaseWrapper):
    def run(self):
        return False


class Raises(BaseWrapper):
    def run(self):
        raise ValueError("no such beamline")


class Sleeps(BaseWrapper):
    def run(self):
        subprocess.Popen(["sleep", "301.MARK"])
        subprocess.run(["sleep", "300.MARK"])
        return True
"""


class Wrapped:
    """`zocalo.wrap` beside an installed package with wrapper classes."""

    def __init__(self, site: Site) -> None:
        self.site = site
        site.settings["answer"] = 42
        site.write_config()
        self.packages = site.directory / "packages"
        self.packages.mkdir()
        (self.packages / "site_wrappers.py").write_text(MODULE.replace("MARK", MARK))
        entries = "\n".join(
            f"{n.lower()} = site_wrappers:{n}" for n in ("Good", "Bad", "Raises", "Sleeps")
        )
        information = self.packages / "site_wrappers-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text("Name: site_wrappers\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(f"[zocalo.wrappers]\n{entries}\n")

    def step(self) -> Path:
        """Write the file of a step."""
        nodes = {str(number): {"queue": name_} for number, name_ in enumerate(CHANNELS, 2)}
        step = {
            "job_parameters": {"setting": "magic"},
            "output": {name_: number for number, name_ in enumerate(CHANNELS, 2)},
        }
        file = self.site.directory / "rw.json"
        file.write_text(
            json.dumps(
                {"recipe": {"start": [[1, []]], "1": step, **nodes}, "recipe-pointer": 1,
                 "environment": {"ID": "guid"}, "payload": {"p": 1}}
            )
        )  # fmt: skip
        return file

    def start(self, name: str) -> subprocess.Popen[str]:
        file = self.step()
        program = (
            f"import sys; sys.path.insert(0, {str(self.packages)!r})\n"
            "from zwrap.cli.wrap import main; sys.exit(main(sys.argv[1:]))"
        )
        return self.site.start(
            sys.executable, "-P", "-c", program, "--wrap", name, "--recipewrapper", str(file)
        )

    def run(self, name: str) -> tuple[int, str]:
        process = self.start(name)
        _, log = process.communicate(timeout=60)
        return process.returncode, log

    def sent(self, channel: str) -> list[Any]:
        return self.site.take(channel, self.site.transport().inspector().waiting(channel))


@pytest.fixture
def wrapped(site: Site) -> Wrapped:
    return Wrapped(site)


def test_a_wrapper_class_finds_everything_that_it_used(wrapped: Wrapped) -> None:
    status, log = wrapped.run("good")
    assert status == 0, log
    line = next(line for line in log.splitlines() if "runs with magic" in line)
    assert "site.wrap.good" in line
    assert line.endswith("[recipe guid]")
    [ispyb] = wrapped.sent("ispyb")
    assert ispyb["payload"] == {"ispyb_command_list": []}
    assert ispyb["environment"] == {"ID": "guid", "found": 17}
    assert ispyb["recipe-path"] == [1]
    expected = {
        "starting": "Starting processing", "updates": "half way", "extra": "by default",
        "success": "Finished processing", "completed": "Finished processing",
        "result-all-files": {"filelist": ["/d/f"]},
    }  # fmt: skip
    for channel, payload in expected.items():
        assert [body["payload"] for body in wrapped.sent(channel)] == [payload], channel
    assert wrapped.sent("failure") == []
    assert wrapped.sent("direct") == [{"plain": True}]


def test_status_messages_carry_what_the_wrapper_added(wrapped: Wrapped) -> None:
    transport = wrapped.site.transport()
    transport.subscribe_topic("transient.status")
    wrapped.run("good")
    heard = transport.receive(5)
    assert heard
    assert heard.message.body["spell"] == "magic"
    assert heard.message.body["task"] == "good (half)"


@pytest.mark.parametrize(
    ("name", "status", "failure"),
    [("bad", 1, "Processing failed"), ("raises", 100, "no such beamline")],
)
def test_a_wrapper_class_that_fails(wrapped: Wrapped, name: str, status: int, failure: str) -> None:
    assert wrapped.run(name)[0] == status
    assert [body["payload"] for body in wrapped.sent("failure")] == [failure]
    assert [body["payload"] for body in wrapped.sent("completed")] == ["Finished processing"]


def test_a_wrapper_class_in_pythonpath_is_found(wrapped: Wrapped) -> None:
    """A module file of a site sets PYTHONPATH; the working directory of the job is not searched."""
    (wrapped.packages / "msgspec.py").write_text("raise SystemExit('of PYTHONPATH')\n")
    line = ("zocalo.wrap", "--wrap", "good", "--recipewrapper", str(wrapped.step()))
    done = wrapped.site.run(*line, env={"PYTHONPATH": f":{wrapped.packages}"})
    assert done.returncode == 0, done.stderr
    told = f"class site_wrappers:Good of distribution site_wrappers 1.0 in {wrapped.packages}"
    assert f"The wrapper 'good' is {told}" in done.stderr
    assert len(wrapped.sent("success")) == 1
    done = wrapped.site.run(*line, env={"PYTHONPATH": "packages"})
    assert done.returncode == 100
    [failure] = [body["payload"] for body in wrapped.sent("failure")]
    assert failure.startswith("Unknown wrapper 'good'.")
    assert "Of its entries ['packages'] do not count" in failure


def processes() -> str:
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def test_a_stopped_wrapper_class_fails_and_leaves_no_child(
    wrapped: Wrapped, wait_until: Wait
) -> None:
    process = wrapped.start("sleeps")
    marks = (f"sleep 301.{MARK}", f"sleep 300.{MARK}")
    wait_until(lambda: all(mark in processes() for mark in marks))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert [b["payload"] for b in wrapped.sent("failure")] == ["The step was stopped by SIGTERM."]
    assert not any(mark in processes() for mark in marks)


# -- zwrap exec --------------------------------------------------------------------------------


def test_exec_keeps_streams_and_exit_status(site: Site) -> None:
    shell = "read line; echo got $line; echo oops >&2; exit 7"
    process = site.start("zwrap", "exec", "--", "sh", "-c", shell, stdin=subprocess.PIPE)
    output, error = process.communicate("word\n", timeout=30)
    assert (process.returncode, output) == (7, "got word\n")
    assert "oops" in error


def test_exec_sends_heartbeats_with_the_end_of_the_jobs_output(site: Site) -> None:
    transport = site.transport()
    transport.subscribe_topic("transient.status")
    script = site.directory / "job.sh"
    script.write_text(
        "#!/bin/bash\nzwrap exec --name refine -- sh -c 'echo cycle 1; sleep 1'\necho rc $?\n"
    )
    with (site.directory / "job.out").open("w") as output:
        environment = {**site.environment(), "SLURM_JOB_ID": "4711"}
        subprocess.run(["bash", str(script)], env=environment, stdout=output, check=True)
    assert (site.directory / "job.out").read_text() == "cycle 1\nrc 0\n"
    bodies = []
    while heard := transport.receive(0.5):
        bodies.append(heard.message.body)
    assert bodies[-1]["task"] == "refine"
    assert bodies[-1]["cluster_JOB_ID"] == "4711"
    assert bodies[-1]["statustext"] == "shutdown"
    assert bodies[-1]["exit_status"] == 0
    assert "cycle 1" in bodies[-1]["tail"]


def test_exec_ends_what_exceeds_its_limit_with_all_its_children(site: Site) -> None:
    began = time.monotonic()
    done = site.run("zwrap", "exec", "--limit", "1", "--", "sh", "-c", "sleep 302 & sleep 303")
    assert time.monotonic() - began < 15
    assert done.returncode == 143
    assert "sh was ended: it exceeded its time limit of 1 s" in done.stderr
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert "sleep 302" not in listing.stdout


def test_exec_passes_a_stop_on(site: Site, wait_until: Wait) -> None:
    process = site.start(
        "zwrap", "exec", "--", "sh", "-c", "trap 'echo bye; exit 3' TERM; touch on; sleep 9 & wait"
    )
    wait_until((site.directory / "on").exists)
    process.send_signal(signal.SIGTERM)
    output, error = process.communicate(timeout=30)
    assert (process.returncode, output) == (3, "bye\n")
    assert "was stopped after" in error


def test_exec_runs_the_command_although_the_transport_is_away(site: Site) -> None:
    site.spool = site.directory / "file" / "spool"
    (site.directory / "file").write_text("")
    site.write_config()
    done = site.run("zwrap", "exec", "--", "echo", "done")
    assert (done.returncode, done.stdout) == (0, "done\n")


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["--"], 100, "There is no command: zwrap exec"),
        (["--limit", "soon", "--", "true"], 100, "--limit is 'soon'; a duration above 0"),
        (["--limit", "0", "--", "true"], 100, "--limit is '0'; a duration above 0"),
        (["--grace", "-1", "--", "true"], 100, "--grace is -1; a number of seconds above 0"),
        (["--", "no-such-program"], 100, "The program 'no-such-program' was not found on PATH"),
    ],
)
def test_exec_says_what_is_wrong(
    site: Site, arguments: list[str], status: int, complaint: str
) -> None:
    done = site.run("zwrap", "exec", *arguments)
    assert done.returncode == status
    assert complaint in done.stderr


# -- zwrap replay ------------------------------------------------------------------------------


class Finished:
    """A step of wrapper `command` that has run, with its channels as queues."""

    def __init__(self, site: Site, directory: Path, script: str) -> None:
        self.site = site
        self.directory = directory
        directory.mkdir()
        (directory / "old.dat").write_text("old")
        os.utime(directory / "old.dat", (1, 1))
        nodes = {str(number): {"queue": name} for number, name in enumerate(CHANNELS, 2)}
        step = {
            "job_parameters": {
                "working_directory": str(directory),
                "command": ["sh", "-c", script],
                "files": [{"pattern": "*.dat"}],
                "outputs": {"extra": {"file": "a.dat", "parser": "text"}},
            },
            "output": {name: number for number, name in enumerate(CHANNELS, 2)},
        }
        self.file = site.directory / "rw.json"
        self.file.write_text(
            json.dumps(
                {"recipe": {"start": [[1, []]], "1": step, **nodes}, "recipe-pointer": 1,
                 "environment": {"ID": "guid"}, "payload": []}
            )
        )  # fmt: skip
        site.run(
            "zocalo.wrap", "--wrap", "command", "--recipewrapper", str(self.file), cwd=directory
        )

    def sent(self) -> dict[str, list[Any]]:
        transport = self.site.transport()
        return {
            name: [b["payload"] for b in self.site.take(name, transport.inspector().waiting(name))]
            for name in CHANNELS
            if transport.inspector().waiting(name)
        }


def test_replay_sends_what_the_run_sent(site: Site, tmp_path: Path) -> None:
    finished = Finished(site, tmp_path / "work", "echo text > a.dat")
    first = finished.sent()
    done = site.run("zwrap", "replay", str(finished.directory))
    assert done.returncode == 0, done.stderr
    again = finished.sent()
    assert first.pop("starting") == ["Starting processing"]
    assert again == first
    assert again["extra"] == ["text\n"]
    assert [record["file_name"] for record in again["result-individual-file"]] == ["a.dat"]


def test_the_verdict_keeps_what_ran(site: Site, wrapped: Wrapped, tmp_path: Path) -> None:
    def kept() -> dict[str, Any]:
        [file] = site.directory.glob("**/.zwrap/*/verdict.json")
        verdict: dict[str, Any] = json.loads(file.read_text())
        file.unlink()
        return verdict

    wrapped.run("good")
    verdict = kept()
    assert verdict["program"] == "good"
    assert verdict["wrapper_class"].endswith(":Good")
    finished = Finished(site, tmp_path / "work", "true")
    assert "wrapper_class" not in kept()
    command = ["zocalo.wrap", "--wrap", "zwrap:command", "--recipewrapper", str(finished.file)]
    site.run(*command, cwd=finished.directory)
    assert kept()["program"] == "zwrap:command"


def test_replay_of_a_failed_and_of_a_moved_directory(site: Site, tmp_path: Path) -> None:
    finished = Finished(site, tmp_path / "work", "echo text > a.dat; exit 4")
    finished.sent()
    moved = tmp_path / "elsewhere"
    finished.directory.rename(moved)
    done = site.run("zwrap", "replay", str(moved))
    assert done.returncode == 1
    assert "command: it exited with status 4" in done.stderr
    assert finished.sent()["failure"] == ["command: it exited with status 4"]
    done = site.run("zwrap", "replay", str(moved), "--exit-status", "0")
    assert done.returncode == 0, done.stderr
    record = finished.sent()["result-individual-file"][0]
    assert record["file_path"] == str(moved)


def test_replay_dry_run_sends_no_message(site: Site, tmp_path: Path) -> None:
    finished = Finished(site, tmp_path / "work", "echo text > a.dat")
    finished.sent()
    done = site.run("zwrap", "replay", str(finished.directory), "--dry-run")
    assert 'extra: "text\\n"' in done.stdout
    assert "Dry run: 5 messages were not sent." in done.stdout
    assert finished.sent() == {}


def test_replay_of_a_directory_without_an_attempt(site: Site, tmp_path: Path) -> None:
    saved = Path(__file__).parents[1] / "data/xia2/v3.12.0/success_insulin_sad"
    done = site.run("zwrap", "replay", str(saved))
    assert done.returncode == 100
    assert "holds no attempt of a step" in done.stderr
    finished = Finished(site, tmp_path / "work", "true")
    finished.sent()
    run = tmp_path / "x" / "xia2-dials"
    run.parent.mkdir()
    run.symlink_to(saved)
    done = site.run(
        "zwrap", "replay", str(run), "--wrap", "xia2", "--recipewrapper", str(finished.file)
    )
    assert done.returncode == 0, done.stderr
    [ispyb] = finished.sent()["ispyb"]
    assert ispyb["ispyb_command_list"][0]["spacegroup"] == "I 2 3"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["/nowhere"], "/nowhere is not a directory"),
        ([".", "--recipewrapper", "rw.json"], "Which program ran in"),
        ([".", "--recipewrapper", "rw.json", "--wrap", "xai2"], "Unknown program 'xai2'"),
        ([".", "--recipewrapper", "gone.json", "--wrap", "xia2"], "gone.json cannot be read"),
    ],
)
def test_replay_says_what_is_wrong(
    site: Site, tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    Finished(site, tmp_path / "work", "true")
    done = site.run("zwrap", "replay", *arguments)
    assert done.returncode == 100
    assert complaint in done.stderr
