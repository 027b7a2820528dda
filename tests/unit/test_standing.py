"""Nothing is loaded from where one happens to stand: not by a service, and not by its helpers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from zwrap_schedulers.local import Local, LocalOptions
from zwrap_schedulers.slurm.slurm import Slurm, SlurmOptions

from zwrap.calls import drmaa
from zwrap.calls.command import run
from zwrap.configuration.site import Configuration
from zwrap.errors import ProgramError, TemporaryError
from zwrap.host.programs import found
from zwrap.job import JobRequest
from zwrap.pool.jobs import DONE, LocalBatch
from zwrap.scheduler import Command, DrmaaCall
from zwrap.submission.script import own_programs
from zwrap.wrapper.process import Program

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

MODULES = ("msgspec", "json", "argparse", "logging", "fcntl", "yaml", "drmaa", "psutil", "zwrap")
"""Modules that zwrap, or Python for it, imports at a start."""
PROGRAMS = (
    "sbatch", "squeue", "sacct", "scancel", "scontrol", "qsub", "qstat", "qacct", "qdel", "timeout",
    "python3", "sh", "env", "zocalo.wrap", "zwrap", "site-program",
)  # fmt: skip


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """Return the directory in which hostile modules and programs leave their names."""
    (tmp_path / "ran").mkdir()
    return tmp_path / "ran"


@pytest.fixture
def here(tmp_path: Path, ran: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in a directory of somebody who waits for a service to be started there."""
    place = tmp_path / "here"
    place.mkdir()
    for name in MODULES:
        text = f"open({str(ran / name)!r}, 'w')\nraise SystemExit('hostile {name}')\n"
        (place / f"{name}.py").write_text(text)
    for name in PROGRAMS:
        (place / name).write_text(f"#!/bin/sh\n: >{ran / name}\nexit 3\n")
        (place / name).chmod(0o755)
    monkeypatch.chdir(place)
    yield place
    assert [each.name for each in ran.iterdir()] == [], "hostile files were loaded, or run"


def request_in(directory: Path) -> JobRequest:
    job = directory / ".zwrap" / "t-1"
    return JobRequest(
        cluster="c", job_name="j", token="t-1", working_directory=directory, job_directory=job,
        commands="true", standard_output=job / "job.out", standard_error=job / "job.err",
    )  # fmt: skip


def test_the_hostile_files_are_loaded_by_a_python_that_is_not_told_otherwise(
    tmp_path: Path, ran: Path
) -> None:
    """The trap works: else the other tests of this module would show little."""
    (tmp_path / "msgspec.py").write_text(f"open({str(ran / 'msgspec')!r}, 'w')\n")
    subprocess.run([sys.executable, "-c", "import msgspec"], cwd=tmp_path, check=True)  # no -P
    assert (ran / "msgspec").exists()


def test_the_built_in_batch_system_takes_and_runs_a_job(here: Path, tmp_path: Path) -> None:
    local = Local("local", LocalOptions(directory=str(tmp_path / "batch")))
    (tmp_path / "script").write_text("#!/bin/bash\nexit 0\n")
    question = local.submit(request_in(tmp_path), tmp_path / "script")
    assert isinstance(question.call, Command)
    (tmp_path / ".zwrap" / "t-1").mkdir(parents=True)
    reply = run(question.call)
    assert (reply.status, reply.error) == (0, "")
    batch, until = LocalBatch(tmp_path / "batch"), time.monotonic() + 30
    while not batch.jobs(DONE):
        assert time.monotonic() < until, "the job did not end"
        time.sleep(0.05)


def test_the_helper_that_loads_drmaa_answers(here: Path) -> None:
    call = DrmaaCall(
        script="/nowhere", name="j.t-1", working_directory="/", standard_output="/dev/null",
        standard_error="/dev/null", native="", timeout_s=30.0,
        environment={"DRMAA_LIBRARY_PATH": "/nowhere/libdrmaa.so"},
    )  # fmt: skip
    reply = drmaa.submit(call)
    assert reply.status == -1, reply  # the library of that name cannot be loaded
    assert "hostile" not in reply.error


@pytest.mark.parametrize(
    "command",
    [
        ["zocalo.service", "-s", "Dispatcher", "--once"],
        ["zocalo.service", "-s", "Dispatcher", "--once", "--restart"],
        ["zwrap", "process_queue", "--queue_name", "q", "-m", "site_workers", "--once"],
        ["zwrap", "process_queue", "--all", "-m", "site_workers", "--once"],
        ["zocalo.go", "--help"],
        ["zwrap", "jobs"],
        ["zwrap", "check"],
    ],
    ids=" ".join,
)
def test_commands_and_what_they_start(here: Path, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "site_workers.py").write_text(
        "from zwrap.worker import worker\n\n@worker('q')\ndef handle(message):\n    pass\n"
    )
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        env={
            "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(tmp_path / "site"),
            "ZWRAP_STATE": str(tmp_path / "state"), "ZWRAP_SPOOL": str(tmp_path / "spool"),
        },
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrapper_that_is_started_in_its_job_s_directory(here: Path, ran: Path) -> None:
    """Jobs start it by a link in their directory, which may hold any file."""
    (here / "bin").mkdir()
    (here / "bin" / "zocalo.wrap").symlink_to(BIN / "zocalo.wrap")
    for name in MODULES:
        (here / "bin" / f"{name}.py").write_text((here / f"{name}.py").read_text())
    done = subprocess.run(
        ["zocalo.wrap", "--help"], env={"PATH": f"{here}/bin:/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_workers_are_not_found_where_one_stands(here: Path, ran: Path, tmp_path: Path) -> None:
    """A module of a site is installed, or in PYTHONPATH; `--all` once found it here, too."""
    (here / "site_workers.py").write_text(f"open({str(ran / 'site_workers')!r}, 'w')\n")
    for which in (["--all"], ["--queue_name", "q"]):
        done = subprocess.run(
            [str(BIN / "zwrap"), "process_queue", *which, "-m", "site_workers", "--once"],
            env={"PATH": "/usr/bin:/bin", "ZWRAP_STATE": str(tmp_path / "state"),
                 "ZWRAP_SPOOL": str(tmp_path / "spool")},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 100
        assert "Module 'site_workers' of workers cannot be" in done.stderr


PATHS = ["", ".", ":/usr/bin:/bin", "/usr/bin:.:/bin", "/usr/bin:/bin:", "here:/usr/bin", "../here"]


@pytest.mark.parametrize("path", PATHS)
def test_programs_of_a_batch_system_are_not_found_where_one_stands(
    here: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("PATH", path)
    slurm = Slurm("c", SlurmOptions())
    calls = [slurm.submit(request_in(here), here / "sbatch").call, slurm.states().call]
    calls += [Command(argv=[name]) for name in ("qsub", "site-program", "./sbatch", "here/sbatch")]
    for call in calls:
        assert isinstance(call, Command)
        if not found(call.argv[0], "/usr/bin:/bin"):  # this host has none of its own
            reply = run(call)
            assert (reply.status, reply.unsent) == (None, True)
            assert reply.error == f"{call.argv[0]} cannot be run: No such file or directory"


def test_a_program_runs_where_nobody_else_writes(here: Path, tmp_path: Path) -> None:
    """Relative entries of PATH, PYTHONPATH and LD_LIBRARY_PATH find no file there."""
    (tmp_path / "bin").mkdir()
    script = "#!/bin/sh\npwd\nsite-program\npython3 -c 'import msgspec, sys; print(1)'\n"
    (tmp_path / "bin" / "asks").write_text(script)
    (tmp_path / "bin" / "asks").chmod(0o755)
    path = f"{tmp_path}/bin:.:/usr/bin:/bin"
    reply = run(Command(argv=["asks"], environment={"PATH": path, "PYTHONPATH": ":."}))
    assert reply.output.splitlines()[0] == "/"


def test_a_relative_state_directory_means_the_same_to_what_is_called(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZWRAP_STATE", "state")
    reply = run(Command(argv=["/bin/sh", "-c", "echo $ZWRAP_STATE"]))
    assert reply.output == f"{here}/state\n"


def test_a_program_is_found_once(tmp_path: Path) -> None:
    """Who may write to an earlier directory of PATH later on changes nothing; an update does."""
    first, second = tmp_path / "first", tmp_path / "second"
    for place in (first, second):
        place.mkdir()
    path = f"{first}:{second}"
    assert found("asks", path) is None
    for place in (second, first):
        (place / "asks").write_text("")
        assert found("asks", path) == (None if place is second else f"{second}/asks")
        (place / "asks").chmod(0o755)
        assert found("asks", path) == f"{second}/asks"
    (second / "asks").unlink()
    assert found("asks", path) == f"{first}/asks"
    assert found("first/asks", path) is None
    assert found(f"{first}/asks", "") == f"{first}/asks"


def test_zwrap_s_own_programs_are_not_found_where_one_stands(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setenv("PATH", ".::/usr/bin:/bin")
    with pytest.raises(TemporaryError, match="was not found"):
        own_programs()


def test_a_program_of_a_step_is_not_found_where_one_stands(here: Path) -> None:
    for path in (".:/usr/bin:/bin", "/usr/bin:/bin:"):
        with pytest.raises(ProgramError, match="'site-program' was not found on PATH"):
            Program.start(
                ["site-program"], directory=here, environment={"PATH": path},
                stdout=here / "log", stderr=here / "log",
            )  # fmt: skip


def test_directories_of_a_cluster_count_from_the_site_file(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = {
        "batch": {
            "plugin": "clusters",
            "one": {"kind": "slurm", "programs": "slurm/bin"},
            "two": {"kind": "local", "directory": "jobs"},
            "three": {"kind": "own", "directory": "a word"},
        },
        "environments": {"default": ["batch"]},
    }
    (tmp_path / "site.yml").write_text(json.dumps({"version": 1, **site}))
    monkeypatch.setenv("ZOCALO_CONFIG", str(tmp_path / "site.yml"))
    clusters = Configuration.from_file().activate().site.clusters
    assert clusters["one"].options == {"programs": f"{tmp_path}/slurm/bin"}
    assert clusters["two"].options == {"directory": f"{tmp_path}/jobs"}
    assert clusters["three"].options == {"directory": "a word"}


STARTED = re.compile(r'executable,\s*"-(?!P")|executable\)?\} -(?!P)')
"""A Python that is started with an option other than the first one that it always needs."""


@pytest.mark.parametrize("folder", ["zwrap", "schedulers", "scripts", "tests"])
def test_each_python_that_is_started_has_a_safe_path(folder: str) -> None:
    """Tests, too: else they would try the tree, in which they are run, and not the wheel."""
    bare = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and file.suffix in ("", ".py")
        for line in file.read_text(errors="replace").splitlines()
        if STARTED.search(line) and "# no -P" not in line and "STARTED" not in line
    ]
    assert bare == []


def test_python_is_started_through_one_door() -> None:
    """`own_python`, and the built-in batch system, which may not import it."""
    users = {
        str(file.relative_to(ROOT))
        for folder in ("zwrap", "schedulers")
        for file in (ROOT / folder).rglob("*.py")
        if "sys.executable" in file.read_text()
    }
    assert users == {"schedulers/local.py", "zwrap/host/programs.py"}


def test_no_test_tries_the_tree_in_place_of_the_wheel() -> None:
    code = "import zwrap, zwrap_schedulers; print(zwrap.__file__, zwrap_schedulers.__file__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
        env={name: text for name, text in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    assert all("site-packages" in place for place in done.stdout.split())
