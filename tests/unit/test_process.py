"""Rules of a program's run: its limit, how it is stopped, and that nothing of it is left.

Each runs in a process of its own, for a `Program` adopts and ends whatever that process left.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

SETUP = """
import json, os, signal, sys, threading
from pathlib import Path
from zwrap.errors import ProgramError
from zwrap.wrapper.process import Program

here = Path.cwd()
ready = here / "ready"
os.mkfifo(ready)

def start(text, **how):
    values = {"directory": here, "environment": os.environ, "stdout": here / "out",
              "stderr": here / "err", **how}
    return Program.start(["/bin/sh", "-c", text], **values)

def when_ready():
    ready.read_text()  # until the program has opened, written and closed it

def show(ended, **more):
    print(json.dumps({"code": ended.returncode, "status": ended.exit_status,
        "timed_out": ended.timed_out, "stopped_by": ended.stopped_by, "saved": ended.saved,
        "leftovers": ended.leftovers, "elapsed_s": ended.elapsed_s, **more}))
"""


def run(directory: Path, text: str) -> dict[str, Any]:
    code = SETUP + textwrap.dedent(text)
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=directory, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ended: dict[str, Any] = json.loads(done.stdout)
    return ended


def test_a_program_that_ends_by_itself(tmp_path: Path) -> None:
    ended = run(tmp_path, "show(start('echo a; echo b >&2; exit 3').wait(60))")
    assert (ended["code"], ended["status"], ended["leftovers"]) == (3, 3, 0)
    assert (ended["timed_out"], ended["stopped_by"], ended["saved"]) == (False, None, False)
    assert ((tmp_path / "out").read_text(), (tmp_path / "err").read_text()) == ("a\n", "b\n")


def test_the_time_limit_asks_with_sigterm_and_saves_no_checkpoint(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        program = start("exec sleep 60", stop_signal=signal.SIGUSR1, save=lambda left: 1 / 0)
        show(program.wait(0.3))
        """,
    )
    assert (ended["code"], ended["status"]) == (-15, 143)
    assert (ended["timed_out"], ended["stopped_by"], ended["saved"]) == (True, None, False)
    assert 0.3 <= ended["elapsed_s"] < 30


def test_one_that_does_not_end_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        program = start("trap '' TERM; echo >ready; while :; do sleep 0.1; done", grace_s=600)
        when_ready()
        program.stop("SIGTERM", 0.3)
        show(program.wait(60))
        """,
    )
    assert (ended["code"], ended["timed_out"], ended["stopped_by"]) == (-9, False, "SIGTERM")
    assert ended["saved"] is False, "it was killed before it could"
    assert ended["elapsed_s"] < 30


def test_a_second_stop_cuts_the_grace_period_off_and_the_first_is_named(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        program = start("trap '' TERM; echo >ready; while :; do sleep 0.1; done", grace_s=600)
        when_ready()
        program.stop("SIGTERM")
        threading.Timer(0.3, program.stop, ["SIGINT"]).start()
        show(program.wait())
        """,
    )
    assert (ended["code"], ended["stopped_by"]) == (-9, "SIGTERM")
    assert 0.3 <= ended["elapsed_s"] < 30


@pytest.mark.parametrize(
    ("how", "saved"),
    [
        ("", True),
        ("stop_signal=signal.SIGUSR1", False),
        ("save=lambda left: 1 / 0", False),
    ],
)
def test_a_program_that_the_batch_system_signalled_first_has_saved(
    tmp_path: Path, how: str, saved: bool
) -> None:
    """Slurm signals all processes of a job, so the program may end before its wrapper asks it."""
    ended = run(
        tmp_path,
        f"""
        program = start("trap 'exit 85' TERM; echo >ready; sleep 60 & wait", {how})
        when_ready()
        os.kill(program.pid, signal.SIGTERM)
        os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
        program.stop("SIGTERM")
        show(program.wait(60))
        """,
    )
    assert (ended["status"], ended["stopped_by"], ended["saved"]) == (85, "SIGTERM", saved)


def test_it_is_stopped_by_the_signal_on_which_it_saves(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        program = start("trap 'exit 85' USR1; echo >ready; while :; do sleep 0.1; done",
                        stop_signal=signal.SIGUSR1)
        when_ready()
        program.stop("SIGTERM")
        show(program.wait(60))
        """,
    )
    assert (ended["code"], ended["stopped_by"], ended["saved"]) == (85, "SIGTERM", True)


@pytest.mark.parametrize("succeeds", [True, False])
def test_a_command_that_saves_has_the_time_that_is_left(tmp_path: Path, succeeds: bool) -> None:
    ended = run(
        tmp_path,
        f"""
        left = []
        def save(left_s):
            os.kill(program.pid, 0)  # it runs still
            left.append(left_s)
            return {succeeds}
        program = start("echo >ready; exec sleep 60", grace_s=30, save=save)
        when_ready()
        program.stop("SIGTERM")
        show(program.wait(60), left_s=left)
        """,
    )
    assert (ended["code"], ended["saved"]) == (-15, succeeds)
    [left_s] = ended["left_s"]
    assert 25 < left_s <= 30


def test_a_suspended_program_is_continued_so_that_it_can_end(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        program = start("echo >ready; exec sleep 60", grace_s=600)
        when_ready()
        program.signal(signal.SIGSTOP)
        program.stop("SIGTERM")
        show(program.wait(60))
        """,
    )
    assert ended["code"] == -15
    assert ended["elapsed_s"] < 30


def test_it_is_stopped_with_its_descendants_wherever_they_went(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        stray = 'trap "touch heard; exit" TERM; echo >ready; while :; do sleep 0.1; done'
        program = start(f"trap : TERM; setsid sh -c '{stray}' & "
                        "until [ -e heard ]; do sleep 0.1; done; exit 7", grace_s=30)
        when_ready()
        program.stop("SIGTERM")
        show(program.wait(60))
        """,
    )
    assert (ended["code"], ended["leftovers"]) == (7, 0)


def test_what_it_leaves_behind_is_ended_wherever_it_went(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        ended = start("sleep 301.7 & setsid sleep 302.7 & (setsid sleep 303.7 &) ; exit 0").wait(60)
        alive = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if any(mark in entry.read_bytes() for mark in (b"301.7", b"302.7", b"303.7")):
                    alive.append(entry.parent.name)
            except OSError:
                pass
        show(ended, alive=[pid for pid in alive if int(pid) != os.getpid()])
        """,
    )
    assert (ended["code"], ended["leftovers"], ended["alive"]) == (0, 3, [])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Program.start(['no such program'], **values)", "'no such program' was not found on PATH"),
        ("Program.start([str(here)], **values)", "is not executable: Permission denied"),
        ("Program.start(['a\\0b'], **values)", "cannot be run: embedded null byte"),
        (
            "Program.start(['true'], **{**values, 'directory': here / 'gone'})",
            "gone does not exist.",
        ),
    ],
)
def test_why_it_cannot_be_started_is_said(tmp_path: Path, text: str, complaint: str) -> None:
    code = f"""
values = {{"directory": here, "environment": os.environ, "stdout": here / "out",
          "stderr": here / "err"}}
before = len(os.listdir("/proc/self/fd"))
try:
    {text}
except ProgramError as error:
    print(json.dumps({{"said": str(error), "left": len(os.listdir("/proc/self/fd")) - before}}))
"""
    said = run(tmp_path, code)
    assert complaint in said["said"]
    assert said["left"] == 0, "nothing is left open"


def test_a_program_gets_a_text_of_any_size_on_standard_input(tmp_path: Path) -> None:
    """It need not read it, and may read it again."""
    text = """
    large = "x" * (1 << 20)
    start("wc -c; wc -c </dev/stdin", stdin=large).wait(60)
    start("wc -c").wait(60)
    show(start("exit 3", stdin=large).wait(60))
    """
    assert run(tmp_path, text)["code"] == 3
    assert (tmp_path / "out").read_text().split() == ["1048576", "1048576", "0"]


def test_arguments_that_are_too_long_are_told_with_what_to_do(tmp_path: Path) -> None:
    text = """
    try:
        start("true", environment={"LONG": "x" * (1 << 20)})
    except ProgramError as error:
        print(json.dumps({"said": str(error)}))
    """
    said = run(tmp_path, text)["said"]
    assert said.startswith("The program '/bin/sh' cannot be started: its arguments and variables")
    assert said.endswith("Put long lists into a file (write, stdin), or into a list of arguments.")
