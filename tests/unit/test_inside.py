"""A batch system as a process in one of its jobs sees it: which one it is, and why it stops it."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

import zwrap
from zwrap.attempt.record import AskedResources, KeptSubmission
from zwrap.calls import batchjob
from zwrap.calls.batchjob import batch_job
from zwrap.configuration.site import Configuration
from zwrap.host.cgroup import oom_kills
from zwrap.job import BatchJob, Cause, Interruption
from zwrap.plugins import registry
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.scheduler import (
    SIGNALS,
    Command,
    Inside,
    Meaning,
    Options,
    Question,
    Reply,
    Signals,
)
from zwrap.submission.script import Renderer
from zwrap.wrapper.ending import at_time_limit
from zwrap.wrapper.interruption import learned, why_stopped

BEGAN = 1_000_000.7
SLURM = {"SLURM_JOB_ID": "7"}
SGE = {"JOB_ID": "8", "SGE_CELL": "c"}
LOCAL = {"ZWRAP_LOCAL_JOB_ID": "9"}
OWN = list(registry.OWN[registry.INSIDE])


def inside_of(name: str) -> Inside:
    found: Inside = registry.find(registry.INSIDE, name)
    return found


# -- which batch system it is ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "system", "job_id"),
    [
        ({}, "none", None),
        (SLURM, "slurm", "7"),
        ({**SLURM, "SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "2"}, "slurm", "5_2"),
        (SGE, "sge", "8"),
        ({**SGE, "SGE_TASK_ID": "undefined"}, "sge", "8"),
        ({**SGE, "SGE_TASK_ID": "3"}, "sge", "8.3"),
        ({"JOB_ID": "8"}, "none", None),
        (LOCAL, "local", "9"),
        ({**LOCAL, **SGE, **SLURM}, "slurm", "7"),
        ({**LOCAL, **SGE}, "sge", "8"),
        # the job script says which
        ({**LOCAL, **SGE, **SLURM, "ZWRAP_BATCH_SYSTEM": "local"}, "local", "9"),
        ({**SLURM, "ZWRAP_BATCH_SYSTEM": "slurm"}, "slurm", "7"),
        # what it says is not so, or of a site's own that has no inside half
        ({**SLURM, "ZWRAP_BATCH_SYSTEM": "local"}, "slurm", "7"),
        ({**SLURM, "ZWRAP_BATCH_SYSTEM": "pbs"}, "slurm", "7"),
        ({"ZWRAP_BATCH_SYSTEM": "pbs", "PBS_JOBID": "1"}, "none", None),
        ({"ZWRAP_BATCH_SYSTEM": ""}, "none", None),
    ],
)
def test_the_batch_system_is_known_by_its_name_or_its_variables(
    variables: dict[str, str], system: str, job_id: str | None
) -> None:
    job, inside = batch_job(variables)
    assert (job.system, job.job_id) == (system, job_id)
    assert job.fields.get("cluster_JOB_ID") == job_id
    assert inside.signals[signal.SIGTERM] is Meaning.STOP


@pytest.mark.parametrize(
    ("variables", "restarts", "node"),
    [
        ({**SLURM, "SLURM_RESTART_COUNT": "2", "SLURMD_NODENAME": "n1"}, 2, "n1"),
        ({**SLURM, "SLURM_RESTART_COUNT": "x"}, 0, None),
        (SLURM, 0, None),
        ({**SGE, "RESTARTED": "1"}, 1, None),
        (SGE, 0, None),
        ({}, 0, None),
    ],
)
def test_a_job_knows_how_often_it_was_restarted_and_where_it_is(
    variables: dict[str, str], restarts: int, node: str | None
) -> None:
    job, _ = batch_job(variables)
    assert (job.restarts, job.node) == (restarts, node)


@pytest.mark.parametrize(
    ("variables", "usr1", "usr2"),
    [
        ({}, Meaning.IGNORE, Meaning.IGNORE),
        (LOCAL, Meaning.IGNORE, Meaning.IGNORE),
        (SLURM, Meaning.WARN, Meaning.WARN),
        (SGE, Meaning.SUSPEND, Meaning.STOP),
    ],
)
def test_signals_mean_what_the_batch_system_means(
    variables: dict[str, str], usr1: Meaning, usr2: Meaning
) -> None:
    _, inside = batch_job(variables)
    expected = {**SIGNALS, signal.SIGUSR1: usr1, signal.SIGUSR2: usr2}
    assert inside.signals == expected


# -- a site's own ------------------------------------------------------------------------------


class PBS:
    """The inside half of a site's own batch system, which knows nothing of our classes."""

    def __init__(self) -> None:
        self.signals: Signals = {**SIGNALS, signal.SIGUSR1: Meaning.WARN}

    def job(self, environ: Mapping[str, str]) -> BatchJob | None:
        job_id = environ.get("PBS_JOBID")
        return BatchJob(system="pbs", job_id=job_id) if job_id else None

    def why_stopped(self, job: BatchJob, began: float) -> Interruption:
        raise ValueError("a fault of the plug-in")


PBS_INSIDE = PBS()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install a site's distribution with an inside half that works and a broken one."""
    info = tmp_path / "site_pbs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: site-pbs\nVersion: 1.0\n")
    entries = info / "entry_points.txt"
    group = registry.INSIDE
    entries.write_text(
        f"[{group}]\nbroken = no_such_module:Inside\npbs = site_pbs:PBS_INSIDE\n\n"
        f"[{registry.SCHEDULERS}]\npbs = site_pbs:PBSOutside\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "site_pbs", sys.modules[__name__])
    batchjob._load.cache_clear()
    batchjob._foreign.cache_clear()
    yield entries
    batchjob._load.cache_clear()
    batchjob._foreign.cache_clear()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("named", [{"ZWRAP_BATCH_SYSTEM": "pbs"}, {}])
def test_a_site_s_own_inside_half_is_found_by_its_name_or_its_variables(
    named: dict[str, str],
) -> None:
    job, inside = batch_job({"PBS_JOBID": "1.s", **named})
    assert (job.system, job.job_id) == ("pbs", "1.s")
    assert inside is PBS_INSIDE


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("variables", [SLURM, SGE, LOCAL])
def test_others_are_looked_for_only_where_no_shipped_one_answers(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "entries", lambda group: pytest.fail("the path was searched"))
    job, _ = batch_job(variables)
    assert job.job_id


@pytest.mark.usefixtures("installed")
def test_one_that_cannot_be_loaded_does_not_end_the_job(caplog: pytest.LogCaptureFixture) -> None:
    job, _ = batch_job({**SLURM, "ZWRAP_BATCH_SYSTEM": "broken"})
    assert job.system == "slurm"
    assert "'broken' cannot be loaded: No module named 'no_such_module'" in caplog.text


@pytest.mark.usefixtures("installed")
def test_one_that_fails_to_tell_the_job_does_not_end_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def job(*_: object) -> BatchJob:
        raise KeyError("PBS_JOBID")

    monkeypatch.setattr(PBS_INSIDE, "job", job)
    found, _ = batch_job({**SLURM, "ZWRAP_BATCH_SYSTEM": "pbs"})
    assert found.system == "slurm"
    assert "failed: 'PBS_JOBID'" in caplog.text


def test_a_fault_of_a_site_s_own_does_not_keep_the_job_from_being_stopped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = why_stopped(PBS_INSIDE, BatchJob(system="pbs"), BEGAN)
    assert learned(told) == Interruption()
    assert "a fault of the plug-in" in caplog.text

    def read(reply: Reply) -> Interruption:
        raise ValueError("another fault")

    assert learned(Question(Command(argv=["true"]), read)) == Interruption()
    assert "another fault" in caplog.text


class PBSOutside:
    """The part of an outside half that writing a job script needs.

    It was written before there were inside halves.
    """

    options_type = Options
    template = "local.sh.j2"

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.options = options

    def _never(self, *_: object) -> None:
        pytest.fail("A script is written without asking anybody.")

    submit = states = find = accounting = cancel = _never


CLUSTER = {"commands": "true", "scheduler": "prod"}
STEP = {"queue": "x", "parameters": {"cluster": CLUSTER, "workingdir": "/w"}}


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ({"kind": "slurm"}, "slurm"),
        ({"kind": "slurmrest", "url": "http://x"}, "slurm"),
        ({"kind": "sge"}, "sge"),
        ({"kind": "local"}, "local"),
        ({"kind": "pbs"}, "pbs"),
    ],
)
def test_the_job_script_says_which_batch_system_it_is_for(kind: dict[str, str], named: str) -> None:
    site = {"version": 1, "environments": {"default": ["c"]},
            "c": {"plugin": "clusters", "prod": kind}}  # fmt: skip
    renderer = Renderer(Configuration.from_string(json.dumps(site)).activate())
    envelope = Envelope(Recipe({"start": [[1, []]], "1": STEP}), 1)
    prepared, cluster = renderer.prepare(envelope, "t-1")
    script = renderer.script(prepared.request, cluster)
    assert f"export ZWRAP_BATCH_SYSTEM={named}\n" in script
    assert bool(cluster.scheduler.error_patterns) == (named == "slurm")


# -- why a job is stopped ----------------------------------------------------------------------

PREEMPTED = Interruption(
    cause=Cause.PREEMPTED, words="the batch system preempted it for another job"
)
NODE_FAIL = Interruption(cause=Cause.NODE_FAIL, words="its node failed, or was taken down")
NOT_KNOWN = Interruption()
RUNS_AGAIN = Interruption(runs_again=True)


@pytest.mark.parametrize(
    ("answer", "restarts", "why"),
    [
        ("0|N/A|None|", 0, NOT_KNOWN),
        ("1|N/A|None|", 0, RUNS_AGAIN),
        ("2|N/A|None|", 2, NOT_KNOWN),  # restarted before, and not now
        ("3|N/A|None|", 2, RUNS_AGAIN),
        ("0|1000000|None|", 0, PREEMPTED),
        ("0|999999|None|", 0, NOT_KNOWN),  # in an earlier run
        ("0|N/A|NodeDown|", 0, NODE_FAIL),
        ("", 0, NOT_KNOWN),
        ("slurm_load_jobs error: Unable to contact slurm controller", 0, NOT_KNOWN),
    ],
)
def test_what_squeue_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, restarts: int, why: Interruption
) -> None:
    squeue = tmp_path / "squeue"
    squeue.write_text(
        f"#!/bin/sh\n[ \"$SLURM_TIME_FORMAT $4 $5\" = '%s -j 7' ] && echo '{answer}'\nexit 1\n"
    )
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    job, inside = batch_job(SLURM)
    told = why_stopped(inside, replace(job, restarts=restarts), BEGAN)
    assert isinstance(told, Question)
    assert learned(told) == why


def test_where_nobody_answers_in_time_no_end_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wrapper must say so before the batch system kills the job."""
    told = why_stopped(inside_of("slurm"), BatchJob(job_id="7"), BEGAN)
    assert isinstance(told, Question)
    assert isinstance(told.call, Command)
    assert told.call.timeout_s == 3
    monkeypatch.setenv("PATH", str(tmp_path))
    assert learned(told) == NOT_KNOWN


@pytest.mark.parametrize("variables", [{}, LOCAL, SGE])
def test_a_batch_system_that_cannot_tell_is_not_asked(variables: dict[str, str]) -> None:
    job, inside = batch_job(variables)
    told = why_stopped(inside, job, BEGAN)
    assert told is None
    assert learned(told) == NOT_KNOWN


def test_the_built_in_batch_system_notes_a_time_limit_before_it_signals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late the wrapper began."""
    noted = tmp_path / "timeout"
    monkeypatch.setenv("ZWRAP_LOCAL_TIMEOUT", str(noted))
    job, inside = batch_job(LOCAL)
    assert why_stopped(inside, job, BEGAN) is None, "it was cancelled"
    noted.touch()
    assert why_stopped(inside, job, BEGAN) == Interruption(cause=Cause.TIMEOUT)


AT_LIMIT_OF_9_S = "that was at the batch system's time limit of 9 s"


@pytest.mark.parametrize(
    ("known", "ran_s", "cause", "words"),
    [
        (Interruption(by="SIGTERM"), 8.2, Cause.TIMEOUT, AT_LIMIT_OF_9_S),
        (Interruption(by="SIGTERM"), 8.0, None, ""),
        (Interruption(by="SIGTERM", cause=Cause.TIMEOUT), 1.0, Cause.TIMEOUT, AT_LIMIT_OF_9_S),
        (Interruption(by="SIGTERM", cause=Cause.PREEMPTED), 8.2, Cause.PREEMPTED, ""),
        (replace(NODE_FAIL, by="SIGTERM"), 8.2, Cause.NODE_FAIL, NODE_FAIL.words),
        (Interruption(), 8.2, None, ""),
    ],
)
def test_what_a_time_limit_explains(
    known: Interruption, ran_s: float, cause: Cause | None, words: str
) -> None:
    submission = KeptSubmission({}, {}, asked=AskedResources(time_limit=9))
    told = at_time_limit(known, ran_s, submission)
    assert (told.cause, told.words) == (cause, words)


STARTED_LATE = """
import sys, time
from zwrap.job import BatchJob
from zwrap.wrapper.stopping import Stopping
for job_id in ("1", None):
    step = Stopping.in_job(BatchJob(job_id=job_id), None, print)
    print(step.ran_s)
"""


def test_a_time_limit_counts_from_the_start_of_the_job_script() -> None:
    script = ["sh", "-c", 'sleep 1; "$@"; :', "sh", sys.executable, "-P", "-c", STARTED_LATE]
    done = subprocess.run(script, capture_output=True, text=True, check=True, process_group=0)
    in_job_s, outside_s = map(float, done.stdout.split())
    assert in_job_s >= 1 > outside_s


MEASURED = """
import resource, subprocess, sys, time
import zwrap
from zwrap.plugins import registry
from zwrap.job import BatchJob
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, -1))
inside = registry.find(registry.INSIDE, "sge")
def told():
    why = inside.why_stopped(BatchJob(), 0.0)
    return why and why.words
holds = "import mmap; m = mmap.mmap(-1, {} << 20); print(flush=True); input()"
one = [sys.executable, "-P", "-c", holds.format(900)]
two = ["sh", "-c", '"$@"; :', "sh", *one]  # a grandchild
children = []
print(told())
for argv in (one, two, one):
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    children.append(child)
    child.stdout.readline()
print(told())
for child in children:
    child.communicate(b"x")
print(told())
"""


def test_processes_that_have_too_much_address_space_in_sum() -> None:
    """Grid Engine sums over all of a job, and its limit is that of each process, too."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", MEASURED], capture_output=True, text=True, check=True
    )
    over = "its processes in sum had more memory than the job may have"
    assert done.stdout.splitlines() == ["None", over, "None"]
    assert inside_of("sge").why_stopped(BatchJob(), 0.0) is None, "there is no limit"


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


# -- what it costs, and where it is ------------------------------------------------------------

LOADED = """
import json, sys
import zwrap.cli.wrap
from zwrap.calls.batchjob import batch_job
batch_job(json.loads(sys.argv[1]))
print(*sorted(name for name in sys.modules if name.startswith("zwrap_schedulers.")))
"""


@pytest.mark.parametrize(
    ("variables", "loaded"),
    [
        ({**SLURM, "ZWRAP_BATCH_SYSTEM": "slurm"}, "slurm slurm.inside"),
        ({**SGE, "ZWRAP_BATCH_SYSTEM": "sge"}, "sge sge.inside"),
        ({**LOCAL, "ZWRAP_BATCH_SYSTEM": "local"}, "local_inside"),
        (LOCAL, "local_inside sge sge.inside slurm slurm.inside"),
        ({}, "local_inside sge sge.inside slurm slurm.inside"),
    ],
)
def test_a_job_loads_its_inside_half_and_no_outside_half(
    variables: dict[str, str], loaded: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", LOADED, json.dumps(variables)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [f"zwrap_schedulers.{name}" for name in loaded.split()]


@pytest.mark.parametrize("name", OWN)
def test_an_inside_half_imports_its_contract_only(name: str) -> None:
    file = Path(str(importlib.import_module(registry.OWN[registry.INSIDE][name]).__file__))
    tree = ast.parse(file.read_text())
    modules = {
        str(module)
        for node in ast.walk(tree)
        for module in (
            [node.module] if isinstance(node, ast.ImportFrom)
            else [each.name for each in node.names] if isinstance(node, ast.Import) else []
        )
    }  # fmt: skip
    others = {module for module in modules if module.split(".")[0] not in sys.stdlib_module_names}
    assert others <= {"zwrap.job", "zwrap.scheduler"}


NAMES = re.compile(r"(?i)slurm|grid.?engine|\bsge\b|sbatch|squeue|qsub|qstat")
MAY_NAME = (
    "plugins/registry.py", "configuration/", "submission/legacy.py", "compat/zocalo/util/",
    "program/shipped/errors/",
)  # fmt: skip
"""Files of zwrap that may name a batch system: the table of own parts, what speaks of
python-zocalo's plugins and of steps of old, what has python-zocalo's names, and texts that programs
and batch systems write."""


def documented(text: str) -> set[int]:
    """Return the numbers of the lines of a module that are docstrings."""
    return {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or 0) + 1)
    }


def test_no_other_file_of_zwrap_names_a_batch_system() -> None:
    """Docstrings may name some as examples."""
    package = Path(str(zwrap.__file__)).parent
    found = []
    for file in package.rglob("*"):
        name = str(file.relative_to(package))
        if not file.is_file() or file.suffix == ".pyc" or name.startswith(MAY_NAME):
            continue
        text = file.read_text()
        free = documented(text) if file.suffix == ".py" else set()
        found += [
            f"{name}:{number}: {line.strip()}"
            for number, line in enumerate(text.splitlines(), 1)
            if NAMES.search(line) and number not in free
        ]
    assert found == []
