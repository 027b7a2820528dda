"""Why a job was ended from outside, as its wrapper can learn."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zwrap.calls.batchjob import BatchJob
from zwrap.wrapper.interruption import NODE_FAIL, PREEMPTED, Why, oom_kills, why_stopped

BEGAN = 1_000_000.7


def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, status: int = 0) -> Why:
    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\necho '{answer}'\nexit {status}\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return why_stopped(BatchJob("slurm", "7", {}), BEGAN)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("0|N/A|None|", Why()),
        ("1|N/A|None|", Why(again=True)),
        ("0|1000000|None|", PREEMPTED),
        ("0|999999|None|", Why()),  # in an earlier run
        ("0|N/A|NodeDown|", NODE_FAIL),
        ("", Why()),
        ("slurm_load_jobs error: Unable to contact slurm controller", Why()),
    ],
)
def test_what_squeue_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, why: Why
) -> None:
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    assert asked(tmp_path, monkeypatch, answer) == why


def test_a_restart_of_before_is_none_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert asked(tmp_path, monkeypatch, "2|N/A|None|") == Why()
    assert asked(tmp_path, monkeypatch, "3|N/A|None|").again


def test_other_batch_systems_are_not_asked() -> None:
    assert why_stopped(BatchJob("sge", "7", {}), BEGAN) == Why()


@pytest.mark.parametrize(
    ("own", "file", "content", "kills"),
    [
        ("4:memory:/slurm/job_1", "memory/slurm/job_1/memory.oom_control",
         "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", 2),
        ("3:cpu,memory:/j", "memory/j/memory.oom_control", "oom_kill 1\n", 1),
        ("0::/system.slice/j", "system.slice/j/memory.events", "oom 3\noom_kill 3\n", 3),
        ("5:cpuset:/j", "memory/j/memory.oom_control", "oom_kill 1\n", 0),
        ("4:memory:/gone", "memory/j/memory.oom_control", "oom_kill 1\n", 0),
    ],
)  # fmt: skip
def test_what_the_kernel_killed_for_want_of_memory(
    tmp_path: Path, own: str, file: str, content: str, kills: int
) -> None:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(f"1:pids:/\n{own}\n")
    counted = tmp_path / "cgroups" / file
    counted.parent.mkdir(parents=True)
    counted.write_text(content)
    assert oom_kills(tmp_path / "proc", tmp_path / "cgroups") == kills
