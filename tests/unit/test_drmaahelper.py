"""The helper process that loads DRMAA submits for a Submitter that lives, and for no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from zwrap.calls import drmaa
from zwrap.scheduler import DrmaaCall, Reply

LIBRARY = '''
"""A DRMAA library that notes what it is asked, and opens a session when it may."""
import os, time, types
from pathlib import Path

PLACE = Path(os.environ["PLACE"])
errors = types.SimpleNamespace(DrmaaException=OSError)

class Session:
    def initialize(self):
        (PLACE / "opening").write_text(" ".join(sorted(os.environ)))
        while not (PLACE / "may-open").exists():
            time.sleep(0.01)

    def createJobTemplate(self):
        return types.SimpleNamespace()

    def deleteJobTemplate(self, template):
        pass

    def runJob(self, template):
        (PLACE / "submitted").touch()
        return "17"

    def exit(self):
        (PLACE / "left").touch()
'''


@pytest.fixture
def helper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    (tmp_path / "drmaa.py").write_text(LIBRARY)
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "zwrap.calls.drmaahelper"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PLACE": str(tmp_path), "PYTHONPATH": str(tmp_path)},
    ) as process:
        yield process
        process.kill()


def submit(helper: subprocess.Popen[bytes], limit_s: float = 60.0, **how: Any) -> None:
    job = DrmaaCall(
        script="/s", name="n", working_directory="/", standard_output="/o", standard_error="/e",
        native="", **how,
    )  # fmt: skip
    assert helper.stdin
    until_s = time.clock_gettime(time.CLOCK_BOOTTIME) + limit_s
    helper.stdin.write(msgspec.json.encode((job, until_s)) + b"\n")
    helper.stdin.flush()


def submitter_dies(helper: subprocess.Popen[bytes]) -> None:
    """Its end of the pipe is closed, as the kernel does for one that is killed."""
    assert helper.stdin
    helper.stdin.close()


def test_a_job_is_submitted_and_its_id_answered(
    helper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    (tmp_path / "may-open").touch()
    submit(helper)
    assert helper.stdout
    reply = msgspec.json.decode(helper.stdout.readline(), type=Reply)
    assert (reply.status, reply.output) == (0, "17")
    submitter_dies(helper)
    assert helper.wait(30) == 0
    assert (tmp_path / "left").exists(), "it takes leave of the qmaster"


def test_a_session_sees_the_variables_of_the_call_and_no_other(
    helper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """Grid Engine may hand all that it sees on to the job."""
    (tmp_path / "may-open").touch()
    submit(helper, only=True, environment={"SGE_CELL": "c", "DRMAA_LIBRARY_PATH": "/lib"})
    assert helper.stdout
    assert helper.stdout.readline()
    assert (tmp_path / "opening").read_text() == "SGE_CELL"


def test_what_a_dead_submitter_left_in_the_pipe_is_not_submitted(
    helper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """The helper gets to it only when the Submitter is dead: it began slowly."""
    (tmp_path / "may-open").touch()
    os.kill(helper.pid, signal.SIGSTOP)
    submit(helper)
    submitter_dies(helper)
    os.kill(helper.pid, signal.SIGCONT)
    assert helper.wait(30) == 0
    assert not (tmp_path / "submitted").exists()


def test_a_submitter_that_dies_while_the_session_opens_submits_no_job(
    helper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    submit(helper)
    until((tmp_path / "opening").exists)
    submitter_dies(helper)
    (tmp_path / "may-open").touch()
    assert helper.wait(30) == 0
    assert not (tmp_path / "submitted").exists()


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_call_whose_time_is_over_submits_no_job(
    helper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """Its Submitter has given it up, even if nobody could tell the helper, which ends."""
    submit(helper, limit_s=1.0)
    until((tmp_path / "opening").exists)
    assert helper.wait(30) == 1
    (tmp_path / "may-open").touch()
    assert not (tmp_path / "submitted").exists()


def test_a_helper_that_has_died_leaves_no_pipe_open() -> None:
    dead = drmaa._Helper({})
    dead._process.kill()
    dead._process.wait()
    assert drmaa._living([dead]) is None
    assert dead._input.closed
    assert dead._output.closed
