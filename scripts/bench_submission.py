"""Side by side on real batch systems: how fast requests become jobs, and what watching them costs.

No job runs meanwhile: the partition of Slurm is down, the queues of Grid Engine are disabled. Each
contestant works in a process of its own; in each round all take turns. CPU is that of the very
process that submits, without the commands that it runs. Run by `scripts/bench submission`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rigs import RIGS

ROUNDS = 5
MANY, SOME = 1000, 200
"""Requests of zwrap and of arrays; jobs of those that submit one by one."""
WATCHED = 10_000

# Each program gets one argument, JSON, and prints [seconds, CPU seconds].

COMMON = """
import json, sys, time, resource, subprocess
given = json.loads(sys.argv[1])
count = given["count"]
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
class Clock:
    def __enter__(self):
        self.wall, self.cpu = time.perf_counter(), cpu()
    def __exit__(self, *_):
        print(json.dumps([time.perf_counter() - self.wall, cpu() - self.cpu]), flush=True)
"""

ZWRAP = (
    COMMON
    + """
from zwrap.configuration import Configuration
from zwrap.recipe.envelope import Envelope
from zwrap.recipe import Recipe
from zwrap.service import loop
from zwrap.service.submitter import Submitter
from zwrap.transport.connect import connect
configuration = Configuration.from_string(given["site"]).activate()
transport = connect(configuration, None)
for number in range(count):
    block = {"commands": "true", "time_limit": "1:00:00"}
    if not given["equal"]:
        block["job_name"] = f"job{number}"
    step = {"queue": "cluster.submission", "output": {"job_submitted": 2}, "parameters": {
        "cluster": block, "workingdir": f"{given['directory']}/w/{number}"}}
    recipe = Recipe({"start": [[1, []]], "1": step, "2": {"queue": "told"}})
    transport.commit(Envelope(recipe, 1, environment={"ID": str(number)}).start())
service = Submitter(configuration, transport)
loop.ONCE_WAIT_S = 0.02
with Clock():
    loop.Loop(service, transport, once=True).run()
    transport.flush()
if transport.inspector().waiting("told") != count:
    sys.exit(f"{transport.inspector().waiting('told')} of {count} were submitted")
transport.close()
"""
)

SENDER = (
    COMMON
    + """
from zwrap.configuration import Configuration
from zwrap.recipe.envelope import Envelope
from zwrap.recipe import Recipe
from zwrap.transport.connect import connect
transport = connect(Configuration.from_string(given["site"]).activate(), None)
for number in range(count):
    step = {"queue": "cluster.submission", "parameters": {
        "cluster": {"commands": "true", "job_name": f"job{number}"},
        "workingdir": f"{given['directory']}/w/{number}"}}
    print(number, time.time())
    transport.commit(Envelope(Recipe({"start": [[1, []]], "1": step}), 1).start())
    time.sleep(0.05)
"""
)

COMMAND_LOOP = (
    COMMON
    + """
from concurrent.futures import ThreadPoolExecutor
def submit(_):
    subprocess.run(given["command"], check=True, capture_output=True)
with ThreadPoolExecutor(given["parallel"]) as pool, Clock():
    list(pool.map(submit, range(count)))
"""
)

REST_LOOP = (
    COMMON
    + """
import httpx
token = open(given["token"]).read().strip()
headers = {"X-SLURM-USER-NAME": given["user"], "X-SLURM-USER-TOKEN": token}
job = {"name": "job", "current_working_directory": "/tmp", "environment": {"PATH": "/usr/bin"}}
body = {"script": "#!/bin/bash\\ntrue\\n", "job": job}
client = httpx.Client(headers=headers)
with Clock():
    for _ in range(count):
        told = client.post(given["url"] + "/slurm/v0.0.38/job/submit", json=body).json()
        assert told["job_id"], told
"""
)

PSIJ = (
    COMMON
    + """
from psij import Job, JobExecutor, JobSpec
executor = JobExecutor.get_instance("slurm")
with Clock():
    for _ in range(count):
        executor.submit(Job(JobSpec(executable="/bin/true")))
import os; os._exit(0)
"""
)

SUBMITIT = (
    COMMON
    + """
import submitit
executor = submitit.AutoExecutor(folder=given["directory"], cluster="slurm")
executor.update_parameters(timeout_min=60, slurm_array_parallelism=count)
with Clock():
    if given["equal"]:
        executor.map_array(abs, range(count))
    else:
        for number in range(count):
            executor.submit(abs, number)
import os; os._exit(0)
"""
)

PARSL = (
    COMMON
    + """
from parsl.providers import GridEngineProvider, SlurmProvider
import os
os.chdir(given["directory"])
common = {"walltime": "01:00:00", "init_blocks": 0}
if given["system"] == "slurm":
    provider = SlurmProvider(partition="main", exclusive=False, **common)
else:
    provider = GridEngineProvider(**common)
provider.script_dir = given["directory"]
with Clock():
    for number in range(count):
        assert provider.submit("true", 1)
"""
)

DASK = (
    COMMON
    + """
import dask
from dask_jobqueue import SGECluster
cluster = SGECluster(queue="all.q", cores=1, memory="1GB", walltime="01:00:00", interface="lo",
    resource_spec="arch=lx-amd64", shebang="#!/bin/bash", local_directory=given["directory"],
    scheduler_options={"dashboard_address": None})
submitted = lambda: int(subprocess.run("qstat -s p | grep -c dask-work", shell=True,
    capture_output=True, text=True).stdout or 0)
with Clock():
    cluster.scale(jobs=count)
    while submitted() < count:
        time.sleep(0.1)
import os; os._exit(0)
"""
)

WATCHER = (
    COMMON
    + """
from zwrap.submission.clusters import Clusters
from zwrap.configuration import Configuration
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import Attempt
from zwrap.service.watcher.heartbeats import Heartbeats
from zwrap.service.watcher.cluster import WatchedCluster
from zwrap.calls.ask import ask
from zwrap.transport.connect import connect
configuration = Configuration.from_string(given["site"]).activate()
cluster = Clusters(configuration).get("cluster")
ledger = Ledger.of(configuration)
ids = list(ask(cluster.scheduler.states()))
rows = ledger.reserve([Attempt(token=f"{number}-1", recipe_id="r", step=1, cluster="cluster",
    job_name="n", job_directory="/d") for number in ids])
ledger.record({row.token: {"state": "submitted", "job_id": row.token[:-2]} for row in rows})
watch = WatchedCluster(cluster, ledger, connect(configuration, None), Heartbeats())
watch.look(ledger.unconcluded("cluster"))
with Clock():
    watch.look(ledger.unconcluded("cluster"))
print(len(ids), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
)


class Contestant(NamedTuple):
    """Who submits, and how."""

    name: str
    program: str
    jobs: int
    python: str
    given: Mapping[str, Any]


class System:
    """A real batch system on which no job starts."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.directory = directory
        (directory / "job.sh").write_text("#!/bin/bash\ntrue\n")
        self.script = str(directory / "job.sh")
        self.rig = RIGS[kind](directory / kind)
        self.rig.up()
        told = json.loads((directory / kind / "connection.json").read_text())
        self.told = told
        known = {key: text for key, text in told.items() if isinstance(text, str)}
        if kind == "slurm":
            known = {"SLURM_CONF": told["SLURM_CONF"]}
        self.environment = {**os.environ, **known}
        if kind == "sge":
            self.environment["PATH"] = f"{told['PATH']}:{os.environ['PATH']}"
        self.known = known
        if kind == "slurm":
            self.run("scontrol", "update", "PartitionName=main", "State=DOWN")
        else:
            self.run("qmod", "-d", "*")

    def run(self, *command: str) -> None:
        subprocess.run(command, env=self.environment, check=True, capture_output=True)

    def empty(self) -> None:
        """Cancel all jobs."""
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True)
        name = user.stdout.strip()
        command = ["scancel", "-u", name] if self.kind == "slurm" else ["qdel", "-u", name]
        subprocess.run(command, env=self.environment, check=False, capture_output=True)
        count = ["squeue", "-h"] if self.kind == "slurm" else ["qstat", "-s", "pr"]
        while subprocess.run(
            count, env=self.environment, capture_output=True, check=True
        ).stdout.strip():
            time.sleep(0.2)

    def site(self, directory: Path, kind: str) -> str:
        """Return a site file with this cluster and a spool in the directory."""
        cluster = {"kind": kind, "environment": self.known}
        if kind == "slurmrest":
            cluster |= {"url": self.told["url"], "user_token": self.told["user_token"]}
        return json.dumps({
            "version": 1, "environments": {"default": ["c", "f", "s"]},
            "c": {"plugin": "clusters", "cluster": cluster},
            "f": {"plugin": "spool", "path": str(directory / "spool")},
            "s": {"plugin": "storage", "scheduler": "cluster"},
        })  # fmt: skip

    def measure(self, contestant: Contestant) -> tuple[float, float]:
        """Seconds and CPU seconds per job."""
        directory = Path(tempfile.mkdtemp(dir=self.directory))
        given = {
            "count": contestant.jobs, "directory": str(directory), "system": self.kind,
            **contestant.given,
        }  # fmt: skip
        if kind := given.pop("site_kind", None):
            given["site"] = self.site(directory, kind)
        environment = {**self.environment, "ZWRAP_STATE": str(directory / "state")}
        done = subprocess.run(
            [contestant.python, "-P", "-c", contestant.program, json.dumps(given)],
            env=environment, cwd=directory, capture_output=True, text=True, check=False,
            timeout=300,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"{contestant.name}: {done.stderr[-2000:]}")
        self.empty()
        shutil.rmtree(directory, ignore_errors=True)
        wall, cpu = json.loads(done.stdout.splitlines()[0])
        return wall / contestant.jobs, cpu / contestant.jobs


def race(system: System, contestants: list[Contestant], rounds: int) -> None:
    """Print the medians."""
    found: dict[str, list[tuple[float, float]]] = {each.name: [] for each in contestants}
    for _ in range(rounds):
        for each in contestants:
            found[each.name].append(system.measure(each))
    first = statistics.median(wall for wall, _ in found[contestants[0].name])
    print("| | jobs | jobs/s | of the first row | own CPU per job |")
    print("|---|---|---|---|---|")
    for each in contestants:
        wall = statistics.median(wall for wall, _ in found[each.name])
        cpu = statistics.median(cpu for _, cpu in found[each.name])
        print(
            f"| {each.name} | {each.jobs} | {1 / wall:,.0f} | {first / wall:.2f}x "
            f"| {cpu * 1000:.2f} ms |",
            flush=True,
        )


def slurm(system: System, peers: str, rounds: int) -> None:
    ours = sys.executable
    sbatch = {"command": ["sbatch", "--parsable", "-o", "/dev/null", system.script]}
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    rest = {"url": system.told["url"], "token": system.told["user_token"], "user": user}
    print("\n## Slurm 22.05: requests that wait become jobs that wait\n")
    race(
        system,
        [
            Contestant("sbatch, one after the other", COMMAND_LOOP, SOME, ours,
                       {**sbatch, "parallel": 1}),
            Contestant("sbatch, 4 at a time", COMMAND_LOOP, SOME, ours, {**sbatch, "parallel": 4}),
            Contestant("slurmrestd, one connection kept", REST_LOOP, SOME, ours, rest),
            Contestant("**zwrap, equal requests**", ZWRAP, MANY, ours,
                       {"equal": True, "site_kind": "slurm"}),
            Contestant("**zwrap, all different, sbatch**", ZWRAP, MANY, ours,
                       {"equal": False, "site_kind": "slurm"}),
            Contestant("**zwrap, all different, slurmrestd**", ZWRAP, MANY, ours,
                       {"equal": False, "site_kind": "slurmrest"}),
            Contestant("submitit, an array", SUBMITIT, MANY, peers, {"equal": True}),
            Contestant("submitit, one by one", SUBMITIT, 10, peers, {"equal": False}),
            Contestant("psij-python", PSIJ, SOME, peers, {}),
            Contestant("parsl SlurmProvider", PARSL, SOME, peers, {}),
        ],
        rounds,
    )  # fmt: skip


def sge(system: System, peers: str, rounds: int) -> None:
    ours = sys.executable
    qsub = ["qsub", "-terse", "-o", "/dev/null", "-j", "y", system.script]
    print("\n## Grid Engine 8.1.9: requests that wait become jobs that wait\n")
    race(
        system,
        [
            Contestant("qsub, one after the other", COMMAND_LOOP, SOME, ours,
                       {"command": qsub, "parallel": 1}),
            Contestant("**zwrap, equal requests**", ZWRAP, MANY, ours,
                       {"equal": True, "site_kind": "sge"}),
            Contestant("**zwrap, all different**", ZWRAP, MANY, ours,
                       {"equal": False, "site_kind": "sge"}),
            Contestant("parsl GridEngineProvider", PARSL, SOME, peers, {}),
            Contestant("dask-jobqueue SGECluster", DASK, SOME, peers, {}),
        ],
        rounds,
    )  # fmt: skip


def latency(system: System) -> None:
    """From sending a message to the start of the command that submits its job."""
    directory = Path(tempfile.mkdtemp(dir=system.directory))
    log, real = directory / "log", shutil.which("sbatch")
    programs = directory / "programs"
    programs.mkdir()
    (programs / "sbatch").write_text(
        f'#!/bin/bash\necho $EPOCHREALTIME "$@" >>{log}\nexec {real} "$@"\n'
    )
    (programs / "sbatch").chmod(0o755)
    site = json.loads(system.site(directory, "slurm"))
    site["c"]["cluster"]["programs"] = str(programs)
    (directory / "site.json").write_text(json.dumps(site))
    environment = {
        **system.environment, "ZWRAP_STATE": str(directory / "state"),
        "ZOCALO_CONFIG": str(directory / "site.json"),
    }  # fmt: skip
    with subprocess.Popen(
        [Path(sys.executable).with_name("zocalo.service"), "-s", "Submitter"],
        env=environment, stderr=subprocess.DEVNULL,
    ) as service:  # fmt: skip
        time.sleep(3)
        given = {"site": json.dumps(site), "count": SOME, "directory": str(directory)}
        done = subprocess.run(
            [sys.executable, "-P", "-c", SENDER, json.dumps(given)],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        time.sleep(3)
        service.terminate()
    sent = dict(line.split() for line in done.stdout.splitlines())
    waits = sorted(
        float(line.split()[0]) - float(sent[line.partition("--job-name=job")[2].split(".")[0]])
        for line in log.read_text().splitlines()
    )
    system.empty()
    if len(waits) != SOME:
        sys.exit(f"{len(waits)} of {SOME} were submitted")
    print(
        f"\nFrom message sent to `sbatch` started, {SOME} messages 50 ms apart over the spool: "
        f"median {waits[SOME // 2] * 1000:.0f} ms, p99 {waits[SOME * 99 // 100] * 1000:.0f} ms."
    )


def watching(system: System) -> None:
    """One look at many jobs."""
    many = ("-o", "/dev/null", system.script)
    for _ in range(WATCHED // 1000):
        array = ["--array=1-1000"] if system.kind == "slurm" else ["-j", "y", "-t", "1-1000"]
        program = "sbatch" if system.kind == "slurm" else "qsub"
        system.run(program, *array, *many)
    directory = Path(tempfile.mkdtemp(dir=system.directory))
    given = {"count": 1, "site": system.site(directory, system.kind)}
    environment = {**system.environment, "ZWRAP_STATE": str(directory / "state")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", WATCHER, json.dumps(given)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (wall, cpu), counted = json.loads(done.stdout.splitlines()[0]), done.stdout.split()[-2:]
    print(f"| {system.kind} | {counted[0]} | 1 | {wall:.2f} s | {cpu:.2f} s | {counted[1]} MB |",
          flush=True)  # fmt: skip
    system.empty()


@contextmanager
def running(kind: str, directory: Path) -> Iterator[System]:
    system = System(kind, directory)
    try:
        yield system
    finally:
        system.rig.down()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", required=True, help="Python with the peers")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where to measure")
    parser.add_argument("--only", choices=("slurm", "sge"))
    options = parser.parse_args()
    races: dict[str, Callable[[System, str, int], None]] = {"slurm": slurm, "sge": sge}
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        for kind, compare in races.items():
            if options.only in (None, kind):
                with running(kind, Path(directory)) as system:
                    print("\n| one look at | jobs | status commands | time | own CPU | memory |")
                    print("|---|---|---|---|---|---|")
                    watching(system)
                    if kind == "slurm":
                        latency(system)
                    compare(system, options.peers, options.rounds)


if __name__ == "__main__":
    main()
