"""Slurm (Debian's packages): a controller, several nodes on this host, and munge, in a directory.

As root jobs of any user run, as another user only that user's. Everything listens on 127.0.0.1.
`SLURM_CONF` is all that a client needs.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from .base import Rig, free_ports

NODES = 2
CPUS = 8

CONFIGURATION = """\
ClusterName=rig
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={place}/run/munge.sock,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool/%n
SlurmctldPidFile={place}/run/slurmctld.own
SlurmdPidFile={place}/run/slurmd.%n.own
SlurmctldLogFile={place}/log/slurmctld.log
SlurmdLogFile={place}/log/slurmd.%n.log
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1
ReturnToService=2
KillWait=2
MinJobAge=300
MaxJobCount=20000
MaxArraySize=10001
SlurmdTimeout=30
MessageTimeout=10
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
NodeName=DEFAULT CPUs={cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory=8000 State=UNKNOWN
{nodes}
PartitionName=main Nodes=ALL Default=YES DefaultTime=60 MaxTime=INFINITE
PartitionName=short Nodes=ALL DefaultTime=1 MaxTime=5
"""  # noqa: E501


class Slurm(Rig):
    packages = ("munge", "slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins")
    needs = (
        "/usr/sbin/munged", "/usr/sbin/slurmctld", "/usr/sbin/slurmd", "/usr/bin/sbatch",
        "/usr/lib/x86_64-linux-gnu/slurm-wlm/select_cons_tres.so",
    )  # fmt: skip

    def prepare(self) -> dict[str, Any]:
        place, host = self.directory, socket.gethostname().partition(".")[0]
        for name in ("run", "log", "state", "spool"):
            (place / name).mkdir(parents=True, exist_ok=True)
        place.chmod(0o755)  # munge wants its way to the socket open for all
        (place / "run").chmod(0o755)
        key = place / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        controller, *ports = free_ports(NODES + 1)
        names = [f"r{controller}n{number}" for number in range(1, NODES + 1)]
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
            for name, port in zip(names, ports, strict=True)
        )
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout
        (place / "slurm.conf").write_text(
            CONFIGURATION.format(
                host=host, controller=controller, user=user.strip(), place=place, nodes=nodes,
                cpus=CPUS,
            )
        )  # fmt: skip
        munged = ["munged", "--foreground", "--force", "--num-threads=4"]
        munged += [f"--socket={place}/run/munge.sock", f"--key-file={key}"]
        munged += [f"--pid-file={place}/run/munged.own", f"--log-file={place}/log/munged.log"]
        munged += [f"--seed-file={place}/run/munged.seed"]
        daemons: list[Any] = [
            ["munged", munged, f"{place}/run/munge.sock"],
            ["slurmctld", ["slurmctld", "-D"], f"{place}/run/slurmctld.own"],
            *([f"slurmd.{name}", ["slurmd", "-D", "-N", name], None] for name in names),
        ]
        (place / "daemons.json").write_text(json.dumps(daemons, indent=1))
        return {"SLURM_CONF": str(place / "slurm.conf"), "nodes": names}

    def environment(self) -> dict[str, str]:
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        return {"PATH": path, "LANG": "C.UTF-8", "SLURM_CONF": str(self.directory / "slurm.conf")}

    def command(self) -> tuple[list[str], dict[str, str]]:
        together = Path(__file__).with_name("together.py")
        return [sys.executable, str(together), str(self.directory)], self.environment()

    def answers(self) -> bool:
        try:
            told = subprocess.run(
                ["sinfo", "-h", "-N", "-p", "main", "-o", "%t"],
                env=self.environment(), capture_output=True, text=True, timeout=5, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return False
        words = told.stdout.split()
        return (
            told.returncode == 0 and len(words) == NODES and set(words) <= {"idle", "mix", "alloc"}
        )

    def clean(self) -> None:
        """End what jobs left running."""
        for place in self.directory.glob("spool/*"):
            shutil.rmtree(place, ignore_errors=True)
