"""`zocalo.wrap` as a job runs it: real programs that end well, badly, or not by themselves."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import zwrap
from zwrap.attempt.directory import JobDirectory
from zwrap.attempt.verdict import Verdict
from zwrap.job import Outcome

from .conftest import Site

CHANNELS = (
    "starting", "success", "failure", "completed", "result-individual-file", "result-all-files",
    "parsed",
)  # fmt: skip

Wait = Callable[..., Any]


class Job:
    """A working directory with an envelope in it."""

    def __init__(self, site: Site, directory: Path, **job_parameters: Any) -> None:
        self.site = site
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.job_directory = directory / ".zwrap" / "tok-1"
        recipe = {
            "start": [[1, []]],
            "error": 3,
            "1": {
                "queue": "cluster.submission",
                "wrapper": {"task_information": "TI"},
                "job_parameters": {"working_directory": str(directory), **job_parameters},
                "output": dict.fromkeys(CHANNELS, 2),
            },
            "2": {"queue": "out"},
            "3": {"queue": "errors"},
        }
        envelope = {
            "recipe": recipe,
            "recipe-pointer": 1,
            "recipe-path": [],
            "environment": {"ID": "guid"},
            "payload": [],
        }
        self.file = directory / "rw.json"
        self.file.write_text(json.dumps(envelope))

    @property
    def command(self) -> list[str]:
        return ["zocalo.wrap", "--wrap", "command", "--recipewrapper", str(self.file)]

    def environment(self, job_id: str = "17") -> dict[str, str]:
        return {
            "ZWRAP_TOKEN": "tok-1",
            "ZWRAP_JOB_DIRECTORY": str(self.job_directory),
            "ZWRAP_LOCAL_JOB_ID": job_id,
        }

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.site.run(*self.command, *options, env=self.environment())

    def start(self, **options: Any) -> subprocess.Popen[str]:
        return self.site.start(*self.command, env=self.environment(), **options)

    def payloads(self, count: int) -> list[Any]:
        return [body["payload"] for body in self.site.take("out", count)]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "work in 'odd' \"place\" $HOME"


def script(text: str) -> list[str]:
    return ["/bin/bash", "-c", text]


def test_a_success_sends_results_between_start_and_end(site: Site, directory: Path) -> None:
    job = Job(
        site,
        directory,
        command=script('echo \'{"a": 1}\' >out.json; echo "$PWD"'),
        success={"files": ["out.json"]},
        outputs={"parsed": {"file": "out.json", "parser": "json"}},
        files=[{"pattern": "*.json", "rank": 1}, {"pattern": "stdout", "type": "log", "rank": 2}],
    )
    job.file = job.file.rename(directory.parent / "envelope elsewhere")
    done = job.run()
    assert done.returncode == 0
    log = {"file_path": str(directory), "file_name": "command.log", "file_type": "log"}
    out = {"file_path": str(directory), "file_name": "out.json", "file_type": "result"}
    assert job.payloads(7) == [
        "Starting processing",
        {**out, "importance_rank": 1},
        {**log, "importance_rank": 2},
        {"a": 1},
        {"filelist": [f"{directory}/out.json", f"{directory}/command.log"]},
        "Finished processing",
        "Finished processing",
    ]
    assert (directory / "command.log").read_text() == f"{directory}\n"
    assert site.transport().inspector().waiting("errors") == 0


def test_messages_are_recipe_messages_with_the_path_extended(site: Site, directory: Path) -> None:
    Job(site, directory, command=["true"]).run()
    for body in site.take("out", 3):
        assert set(body) == {"environment", "payload", "recipe", "recipe-path", "recipe-pointer"}
        assert (body["recipe-path"], body["recipe-pointer"]) == ([1], 2)


@pytest.mark.parametrize(
    ("command", "status", "reason"),
    [
        (script("exit 3"), 3, "command: it exited with status 3"),
        (script("kill -SEGV $$"), 139, "command: it was killed by signal 11"),
        (["no-such-program"], 100, "The program 'no-such-program' was not found on PATH"),
        (["/etc/passwd"], 100, "The program '/etc/passwd' is not executable"),
        (["./gone"], 100, "The program './gone' was not found"),
        (["true", "nul\0"], 100, "'true' cannot be run: embedded null byte"),
    ],
)
def test_a_failure_tells_why_and_the_exit_status_is_the_program_s(
    site: Site, directory: Path, command: list[str], status: int, reason: str
) -> None:
    done = Job(site, directory, command=command).run()
    assert done.returncode == status
    started, failure, completed = (body["payload"] for body in site.take("out", 3))
    assert (started, completed) == ("Starting processing", "Finished processing")
    assert failure.startswith(reason)
    [error] = site.take("errors")
    assert error["payload"]["error"] == failure
    assert error["payload"]["step"] == 1


def test_an_unknown_wrapper_is_a_failure_of_the_step_that_names_the_nearest(
    site: Site, directory: Path
) -> None:
    """The job of a recipe with a slip of the pen must not die without a word."""
    job = Job(site, directory)
    command = ["zocalo.wrap", "--wrap", "gemi-merge", "--recipewrapper", str(job.file)]
    done = site.run(*command, env=job.environment())
    assert done.returncode == 100
    assert "Unknown wrapper 'gemi-merge'. Did you mean 'gemmi-merge'?" in done.stderr
    assert job.payloads(3)[1].startswith("Unknown wrapper 'gemi-merge'.")


def test_compat_exit_is_always_zero(site: Site, directory: Path) -> None:
    assert Job(site, directory, command=["false"]).run("--compat-exit").returncode == 0


def test_a_rule_that_does_not_hold_makes_exit_status_1(site: Site, directory: Path) -> None:
    job = Job(site, directory, command=["true"], success={"files": ["result"]})
    directory.joinpath("result").write_text("of yesterday")
    os.utime(directory / "result", (1e9, 1e9))
    assert job.run().returncode == 1
    assert "only one from before this run" in job.payloads(3)[1]


def test_an_output_that_cannot_be_parsed_is_a_failure(site: Site, directory: Path) -> None:
    outputs = {"parsed": {"file": "stdout", "parser": "json"}}
    assert Job(site, directory, command=["echo", "{"], outputs=outputs).run().returncode == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU])
def test_a_stop_signal_ends_the_program_and_is_named(
    site: Site, directory: Path, number: signal.Signals, wait_until: Wait
) -> None:
    job = Job(site, directory, command=script("echo $$ >pid; exec sleep 60"))
    process = job.start()
    pid = wait_until(lambda: (directory / "pid").exists() and (directory / "pid").read_text())
    process.send_signal(number)
    assert process.wait(20) == 143
    assert f"by {number.name}" in job.payloads(3)[1]
    assert not Path(f"/proc/{pid.strip()}").exists()


def test_a_program_that_ignores_sigterm_is_killed_after_the_grace_period(
    site: Site, directory: Path
) -> None:
    job = Job(
        site,
        directory,
        command=script("trap '' TERM; while :; do sleep 0.1; done"),
        limits={"time": 1, "grace_s": 1},
    )
    began = time.monotonic()
    assert job.run().returncode == 137
    assert time.monotonic() - began < 15
    assert "exceeded its time limit of 1 s" in job.payloads(3)[1]


def test_a_program_that_left_its_group_is_ended_all_the_same(site: Site, directory: Path) -> None:
    mark = f"sleep 62.{os.getpid()}"
    job = Job(site, directory, command=["setsid", *mark.split()], limits={"time": 1})
    assert job.run().returncode == 143
    assert not _running(mark)


def test_a_timeout_in_the_job_parameters_goes_before_the_definition_s(
    site: Site, directory: Path
) -> None:
    job = Job(site, directory, command=["sleep", "60"], limits={"time": 900}, timeout="0:0:01")
    assert job.run().returncode == 143


def test_descendants_that_left_hear_of_a_stop_when_the_program_does(
    site: Site, directory: Path, wait_until: Wait
) -> None:
    """They do not get the signal only after the program has ended."""
    stray = "trap 'touch heard; exit' TERM; touch ready; while :; do sleep 0.1; done"
    job = Job(
        site,
        directory,
        command=script(
            f"trap 'sleep 2; test -e heard; exit' TERM; setsid sh -c {shlex.quote(stray)} & wait"
        ),
    )
    process = job.start()
    wait_until((directory / "ready").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 1, "a step that was stopped is a failure"
    [error] = site.take("errors")
    assert "stopped after" in error["payload"]["error"]
    assert error["payload"]["exit_status"] == 0, "the program saw that it was heard"


def test_a_warning_lets_a_program_save(site: Site, directory: Path, wait_until: Wait) -> None:
    """Slurm's, if its job asks for one (sbatch(1), --signal)."""
    saves = "trap 'touch saved; exit 85' USR1; touch ready; sleep 60 & wait"
    job = Job(site, directory, command=script(saves), checkpoint={"signal": "USR1"})
    env = {**job.environment(), "SLURM_JOB_ID": "17"}
    process = site.start(*job.command, env=env)
    wait_until((directory / "ready").exists)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 85
    assert (directory / "saved").exists()
    [error] = site.take("errors")
    assert "by the approaching time limit of its job" in error["payload"]["error"]


@pytest.mark.parametrize("rule", ["remove", "keep", "keep_on_failure"])
@pytest.mark.parametrize("code", [0, 3])
def test_a_scratch_directory_is_cleaned_or_kept(
    site: Site, directory: Path, tmp_path: Path, rule: str, code: int
) -> None:
    (tmp_path / "tmp").mkdir()
    command = 'echo {scratch} >where; mkdir "{scratch}/d"; touch "{scratch}/d/f"; exit ' + str(code)
    job = Job(site, directory, command=command, scratch=rule)
    env = {**job.environment(), "TMPDIR": str(tmp_path / "tmp")}
    assert site.run(*job.command, env=env).returncode == code
    where = Path((directory / "where").read_text().strip())
    assert where.parent == tmp_path / "tmp"
    kept = rule == "keep" or (rule == "keep_on_failure" and code)
    assert list((tmp_path / "tmp").iterdir()) == ([where] if kept else [])


def test_a_second_signal_kills_at_once(site: Site, directory: Path, wait_until: Wait) -> None:
    job = Job(
        site,
        directory,
        command=script("trap 'touch asked' TERM; touch ready; while :; do sleep 0.1; done"),
        limits={"grace_s": 600},
    )
    process = job.start()
    wait_until((directory / "ready").exists)
    process.send_signal(signal.SIGTERM)
    wait_until((directory / "asked").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 137


@pytest.mark.parametrize("how", ["sleep 60 &", "setsid sleep 60 &", "(setsid sleep 60 &) &"])
def test_nobody_is_left_behind(site: Site, directory: Path, how: str, wait_until: Wait) -> None:
    marked = how.replace("sleep 60", f"sleep 60.{os.getpid()}")
    job = Job(site, directory, command=script(f"{marked} sleep 0.2; exit 0"))
    assert job.run().returncode == 0
    assert not _running(f"sleep 60.{os.getpid()}")


def test_a_killed_wrapper_takes_its_program_along(
    site: Site, directory: Path, wait_until: Wait
) -> None:
    mark = f"sleep 61.{os.getpid()}"
    job = Job(
        site,
        directory,
        command=script(f"trap '' TERM; {mark} & touch ready; {mark}"),
        limits={"grace_s": 1},
    )
    process = job.start()
    wait_until((directory / "ready").exists)
    assert _running(mark)
    process.kill()
    wait_until(lambda: not _running(mark))


def _running(mark: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue
            if command == mark:
                found.append(entry.name)
    return found


def test_output_that_is_large_or_no_text_does_no_harm(site: Site, directory: Path) -> None:
    job = Job(
        site,
        directory,
        command=script("head -c 300000000 /dev/zero; printf '\\377\\376 end\\n'"),
        success={"text": [{"file": "stdout", "pattern": "end$"}]},
        outputs={"parsed": {"file": "stdout", "parser": "text"}},
    )
    done = job.run()
    assert done.returncode == 0, done.stderr
    parsed = job.payloads(4)[1]
    assert parsed.endswith("\ufffd\ufffd end\n")
    assert len(parsed) <= 64 * 1024
    (directory / "command.log").unlink()


def test_the_heartbeat_says_how_the_program_is_doing(
    site: Site, directory: Path, wait_until: Wait
) -> None:
    listener = site.transport()
    listener.subscribe_topic("transient.status")
    job = Job(
        site,
        directory,
        command=script("for i in 1 2 3 4 5 6 7; do echo image $i of 7; sleep 1; done"),
        progress={"pattern": r"image (\d+) of (\d+)"},
    )
    process = job.start()
    seen: list[dict[str, Any]] = []
    while process.poll() is None:
        if delivery := listener.receive(0.1):
            seen.append(delivery.message.body)
    while delivery := listener.receive(0.1):
        seen.append(delivery.message.body)
    assert {beat["status"] for beat in seen} >= {4, 6}
    assert [beat["statustext"] for beat in seen][-1] == "shutdown"
    measured = [beat for beat in seen if "memory_mib" in beat]
    assert measured
    last = measured[-1]
    assert last["host"].endswith(f".{process.pid}")
    assert (last["task"], last["program"], last["cluster_JOB_ID"]) == (
        "command (TI)", "command", "17",
    )  # fmt: skip
    assert last["memory_mib"] > 0
    assert last["cpu_s"] >= 0
    assert last["elapsed_s"] > 2
    assert last["tail"][-1].startswith("image ")
    assert len(last["tail"]) <= 5
    assert last["progress"].endswith("/7")
    assert {"workflows", "zocalo"} <= set(last)


def test_an_attempt_runs_once_whatever_job_it_is_given_to(site: Site, directory: Path) -> None:
    job = Job(site, directory, command=script("echo x >>runs"))
    assert job.run().returncode == 0
    second = site.run(*job.command, env=job.environment(job_id="18"))
    assert second.returncode == 0
    assert "is run by job 17" in second.stderr
    assert (directory / "runs").read_text() == "x\n"
    assert site.transport().inspector().waiting("out") == 3


def test_a_requeued_job_takes_over_unless_the_attempt_has_ended(
    site: Site, directory: Path, wait_until: Wait
) -> None:
    job = Job(site, directory, command=script("echo x >>runs; [ -e again ] || sleep 60"))
    process = job.start()
    wait_until((directory / "runs").exists)
    process.kill()
    process.wait()
    (directory / "again").touch()
    assert job.run().returncode == 0
    assert (directory / "runs").read_text() == "x\nx\n"
    assert job.run().returncode == 0
    assert (directory / "runs").read_text() == "x\nx\n"
    verdict = JobDirectory(job.job_directory).verdict()
    assert verdict
    assert (verdict.outcome.value, verdict.witness) == ("success", "wrapper")


def test_a_transport_that_is_away_does_not_stop_the_program(
    site: Site, directory: Path, wait_until: Wait
) -> None:
    site.spool.write_text("a file where the spool should be")
    job = Job(site, directory, command=script("touch ran; sleep 0.5"))
    process = job.start()
    wait_until((directory / "ran").exists)
    outbox = JobDirectory(job.job_directory).outbox()
    wait_until(lambda: JobDirectory(job.job_directory).verdict())
    assert outbox.waiting() > 0
    site.spool.unlink()
    assert process.wait(60) == 0
    assert job.payloads(3)[0] == "Starting processing"
    assert outbox.waiting() == 0
    assert JobDirectory(job.job_directory).is_sent


def test_a_wrapper_that_comes_second_keeps_its_verdict_and_sends_no_final_message(
    site: Site, directory: Path
) -> None:
    """The Watcher has concluded the attempt while its job still ran."""
    first = Verdict(
        token="tok-1", outcome=Outcome.FAILURE, witness="slurm", cause="lost", job_id="17",
        exit_status=1,
    )  # fmt: skip
    place = directory / ".zwrap" / "tok-1" / "verdict.json"
    text = msgspec.json.encode(first).decode()
    job = Job(site, directory, command=script(f"echo '{text}' >{shlex.quote(str(place))}"))
    job.run()
    assert job.payloads(1) == ["Starting processing"]
    assert site.transport().inspector().waiting("out") == 0
    verdict = JobDirectory(job.job_directory).verdict()
    assert verdict
    assert verdict.witness == "slurm"
    [late] = job.job_directory.glob("late-*.json")
    assert json.loads(late.read_text())["outcome"] == "success"


def test_the_last_messages_of_a_verdict_are_sent_by_whoever_comes_next(
    site: Site, directory: Path, wait_until: Wait
) -> None:
    """The first run is killed between verdict and messages; the requeued job sends them."""
    site.spool.write_text("a file where the spool should be")
    job = Job(site, directory, command=["true"])
    process = job.start()
    wait_until(lambda: JobDirectory(job.job_directory).verdict())
    process.kill()
    process.wait()
    site.spool.unlink()
    assert job.run().returncode == 0
    bodies = [body["payload"] for body in site.take("out", 3)]
    assert bodies[0] == "Starting processing"
    assert set(bodies) == {"Starting processing", "Finished processing"}


def test_a_message_that_can_never_be_sent_holds_up_no_other(site: Site, directory: Path) -> None:
    job = Job(site, directory, command=["true"])
    envelope = json.loads(job.file.read_text())
    nodes = envelope["recipe"]
    nodes["4"] = {"queue": "no/queue"}
    nodes["5"] = {"queue": "out", "transport-delay": "soon"}
    nodes["1"]["output"].update(starting=[2, 4], success=[4, 2])
    nodes["1"]["output"]["result-all-files"] = 5
    job.file.write_text(json.dumps(envelope))
    done = job.run()
    assert done.returncode == 0, done.stderr
    assert len(job.payloads(3)) == 3
    letters = JobDirectory(job.job_directory).outbox().dead_letters()
    assert ["'no/queue' cannot be a queue" in reason for _, reason in letters] == [True, True]


def test_what_the_program_prints_is_of_this_run_only(site: Site, directory: Path) -> None:
    job = Job(site, directory, command=["echo", "new"])
    (directory / "command.log").write_text("old\n")
    job.run()
    assert (directory / "command.log").read_text() == "new\n"


def test_modules_loaded_before_the_wrapper_do_not_reach_it_but_the_program(
    site: Site, directory: Path, tmp_path: Path
) -> None:
    (tmp_path / "poison").mkdir()
    (tmp_path / "poison" / "msgspec.py").write_text("raise SystemExit('poisoned')\n")
    job = Job(site, directory, command=script("echo $PYTHONPATH >path"))
    ours = Path(zwrap.__file__).parents[1]  # sites put it there, too
    path = f"{tmp_path / 'poison'}:{ours}:{os.path.relpath(tmp_path / 'poison', directory)}"
    done = site.run(*job.command, env={**job.environment(), "PYTHONPATH": path}, cwd=directory)
    assert done.returncode == 0, done.stderr
    assert (directory / "path").read_text().strip() == path


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        ([], 1, "A wrapper object must be specified."),
        (["--wrap", "command"], 2, "--recipewrapper FILE is needed"),
        (["--wrap", "command", "--recipewrapper", "/gone"], 100, "/gone cannot be read: No such"),
        (["--wrap", "command", "--recipewrapper", "bad"], 100, "file bad is not valid JSON"),
        (["--wrap", "command", "--recipewrapper", "empty"], 100, "file empty is empty"),
        (["--wrap", "command", "--recipewrapper", "other"], 100, "other: The recipe message has"),
        (["--wrap", "command", "--recipewrapper", "bad", "-t", "Spol"], 100, "SpoolTransport"),
        (["--wrap", "command", "--recipewrapper", "bad", "-e", "x"], 100, "Unknown environment"),
    ],
)
def test_bad_usage_ends_in_one_sentence(
    site: Site, arguments: list[str], status: int, complaint: str
) -> None:
    for name, text in (("bad", "{"), ("empty", ""), ("other", "{}")):
        (site.directory / name).write_text(text)
    done = site.run("zocalo.wrap", *arguments)
    assert done.returncode == status
    assert complaint in done.stderr


def test_a_batch_job_without_any_configuration_is_refused(site: Site, directory: Path) -> None:
    job = Job(site, directory, command=["true"])
    done = site.run(*job.command, env={**job.environment(), "ZOCALO_CONFIG": ""})
    assert done.returncode == 100
    assert "neither ZOCALO_CONFIG nor ZWRAP_SPOOL" in done.stderr


def test_a_python_wrapper_of_an_installed_package_is_run(
    site: Site, tmp_path: Path, wait_until: Wait
) -> None:
    job = Job(site, tmp_path / "w")
    process = site.start(
        "zocalo.wrap", "--wrap", "dummy", "--recipewrapper", str(job.file), env=job.environment()
    )
    wait_until(lambda: site.transport().inspector().waiting("out"))  # it has told that it starts
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    assert job.payloads(3)[1] == "The step was stopped by SIGTERM."


def test_the_wrapper_is_light(site: Site, directory: Path) -> None:
    """Packages that a short job does not need are not loaded."""
    job = Job(site, directory, command=["true"])
    code = (
        "import sys; sys.argv = ['zocalo.wrap'] + sys.argv[1:]; from zwrap.cli.wrap import main; "
        "status = main(); "
        "print(sorted({name.split('.')[0] for name in sys.modules} & "
        "{'sqlalchemy', 'jinja2', 'rich', 'psutil', 'asyncio'})); sys.exit(status)"
    )
    done = site.run(sys.executable, "-P", "-c", code, *job.command[1:], env=job.environment())
    assert (done.returncode, done.stdout) == (0, "[]\n")


def test_a_verdict_that_is_not_taken_where_nobody_else_sees_it_is_no_good_end(
    site: Site, directory: Path
) -> None:
    """The batch system is told that the job failed, and the Watcher hears it from there."""
    job = Job(site, directory, command=["true"])
    env = {**job.environment(), "ZWRAP_VERDICT_QUEUE": "no/queue"}
    done = site.run(*job.command, env=env)
    assert done.returncode == 111
    assert "'no/queue' cannot be a queue" in done.stderr
    env["ZWRAP_VERDICT_QUEUE"] = "words"
    other = Job(site, directory.with_name("other"), command=["true"])
    assert site.run(*other.command, env={**env, **other.environment()}).returncode == 0
    [verdict] = site.take("words")
    assert (verdict["outcome"], [each["destination"] for each in verdict["final"]]) == (
        "success", ["out", "out"],
    )  # fmt: skip


REFUSING = """
import sys
from pathlib import Path
from zwrap.cli.wrap import main
from zwrap.errors import QueueFullError, TransportError
from zwrap.transport.failures import TooLargeError
from zwrap.transport.spool.transport import SpoolTransport

when, verdict = sys.argv[1], Path(sys.argv[2])
sent, usual = [], SpoolTransport.send_each

def send_each(self, messages):
    if when == "in time" and not verdict.exists():
        raise TransportError("away")
    late = when == "in time" or "words" in sent
    error = TooLargeError("it is too large") if late else QueueFullError("it is full")
    good = [each for each in messages if each.destination != "large"]
    outcomes = iter(usual(self, good))
    sent.extend(each.destination for each in good)
    return [error if each.destination == "large" else next(outcomes) for each in messages]

SpoolTransport.send_each = send_each
sys.argv = ["zocalo.wrap", *sys.argv[3:]]
sys.exit(main())
"""
"""Wrapper whose transport refuses a result after the verdict, before or after that is told."""


@pytest.mark.parametrize("when", ["in time", "afterwards"])
def test_where_nobody_sees_the_job_it_tells_itself_that_a_result_was_refused(
    site: Site, directory: Path, when: str
) -> None:
    files = [{"pattern": "stdout", "rank": 1}]
    job = Job(site, directory, command=["true"], files=files)
    envelope = json.loads(job.file.read_text())
    envelope["recipe"]["4"] = {"queue": "large"}
    envelope["recipe"]["1"]["output"]["result-all-files"] = 4
    job.file.write_text(json.dumps(envelope))
    env = {**job.environment(), "ZWRAP_VERDICT_QUEUE": "words"}
    verdict = job.job_directory / "verdict.json"
    done = site.run(
        sys.executable, "-P", "-c", REFUSING, when, str(verdict), *job.command[1:], env=env
    )
    assert done.returncode == 111, "what was refused is on that node only"
    verdicts = site.take("words", 1 if when == "in time" else 2)
    told = [(each["outcome"], each["cause"]) for each in verdicts]
    late = "A result was refused: it is too large"
    if when == "in time":
        assert told == [("failure", late)]
    else:
        assert [outcome for outcome, _ in told] == ["success", "success"]
        assert told[1][1] == f"Reported as a success; afterwards: {late}"
        assert late not in told[0][1]
    assert json.loads(verdict.read_text())["cause"] == told[-1][1]
    assert late in done.stderr


def test_nan_in_the_step_travels_on_and_in_results_is_null(site: Site, directory: Path) -> None:
    job = Job(
        site,
        directory,
        command=script("echo '{\"a\": NaN}' >out.json"),
        outputs={"parsed": {"file": "out.json", "parser": "json"}},
        limit=float("nan"),
    )
    body = json.loads(job.file.read_text())
    body["environment"]["x"] = float("-inf")
    body["payload"] = "\ud800"
    job.file.write_text(json.dumps(body))
    done = job.run()
    assert done.returncode == 0, done.stderr
    bodies = site.take("out", 4)
    assert [each["payload"] for each in bodies][1] == {"a": None}
    for each in bodies:
        assert each["environment"]["x"] == float("-inf")
        assert json.dumps(each["recipe"]["1"]["job_parameters"]["limit"]) == "NaN"


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("environment", ["ID"], "Key 'environment' of the recipe message must be an object."),
        ("recipe-path", 5, "Key 'recipe-path' of the recipe message must be a list."),
        ("start", [[1, []]] * 1001, "has 1001 start pairs; up to 1000 are taken"),
    ],
)
def test_a_step_with_a_fault_fails_and_tells_its_recipe(
    site: Site, directory: Path, key: str, value: object, fault: str
) -> None:
    job = Job(site, directory, command=script("touch ran"))
    body = json.loads(job.file.read_text())
    (body["recipe"] if key == "start" else body)[key] = value
    job.file.write_text(json.dumps(body))
    done = job.run()
    assert done.returncode == 100
    assert "Traceback" not in done.stderr
    starting, failure, completed = job.payloads(3)
    assert (starting, completed) == ("Starting processing", "Finished processing")
    assert fault in failure
    (error,) = site.take("errors", 1)
    assert fault in error["payload"]["error"]
    assert not (directory / "ran").exists()


@pytest.mark.parametrize(
    ("section", "key"), [("security", "runer"), ("security", "directories"), ("limits", "nodez")]
)
def test_a_mistake_in_the_site_file_is_told_as_the_failure_of_the_step(
    site: Site, directory: Path, section: str, key: str
) -> None:
    job = Job(site, directory, command=script("touch ran"))
    site.sections["wrong"] = {"plugin": section, key: ["there"]}
    site.write_config()
    done = job.run()
    assert done.returncode == 100
    [_, failure, _] = job.payloads(3)
    assert failure.startswith(f"{site.config}, line ")
    assert key in failure
    assert not (directory / "ran").exists()


def test_progress_is_read_where_the_program_writes_it(site: Site, directory: Path) -> None:
    listener = site.transport()
    listener.subscribe_topic("transient.status")
    job = Job(
        site,
        directory,
        command=script("for i in 1 2 3; do echo STEP $i / 8 >&2; sleep 2; done"),
        progress={"pattern": r"STEP (?P<done>\d+) / (?P<total>\d+)", "file": "stderr"},
    )
    done = job.run()
    assert done.returncode == 0, done.stderr
    beats = []
    while delivery := listener.receive(1):
        beats.append(delivery.message.body)
    last = beats[-1]  # of each sender the last one is kept
    assert (last["progress"], last["progress_done"], last["progress_total"]) == ("3/8", 3, 8)
    assert 0 < last["progress_per_s"] < 2
    assert 2 < last["remaining_s"] < 60


def test_a_pattern_that_takes_for_ever_delays_no_heartbeat(
    site: Site, directory: Path, wait_until: Wait
) -> None:
    listener = site.transport()
    listener.subscribe_topic("transient.status")
    job = Job(
        site,
        directory,
        command=script(f"echo {'a' * 60}!; sleep 7"),
        progress={"pattern": "^(a|aa)+$"},
    )
    done = job.run()
    assert done.returncode == 0, done.stderr
    beats = []
    while delivery := listener.receive(1):
        beats.append(delivery.message.body["elapsed_s"])
    assert len(beats) >= 1  # of each sender the last one is kept
    assert beats[-1] >= 6.0
