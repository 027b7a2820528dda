"""Slurm (Debian's packages): a controller, several nodes on this host, munge and slurmrestd.

As root jobs of any user run, as another user only that user's. Everything listens on 127.0.0.1.
`SLURM_CONF` is all that a client of the command line needs, `url` and the token in the file
`user_token` all that one of slurmrestd needs.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from .base import Rig, RigError, end_processes, free_ports
from .mariadb import MariaDB
from .together import write

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
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key={place}/state/jwt.key
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
DefMemPerCPU=500
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
JobAcctGatherParams=OverMemoryKill
GresTypes=gpu
Licenses=xds:4
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
NodeName=DEFAULT CPUs={cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory=8000 Gres=gpu:a100:2 State=UNKNOWN
{nodes}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=DEFAULT Nodes=ALL DefaultTime=60 MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
PartitionName=main Default=YES
PartitionName=short DefaultTime=1 MaxTime=5
PartitionName=yielding PriorityTier=1 PreemptMode=CANCEL
PartitionName=requeued PriorityTier=1 PreemptMode=REQUEUE
"""  # noqa: E501


TOKEN = """\
umask 077
scontrol token lifespan=360000 >{place}/token.new || exit 1
sed -n 's/^SLURM_JWT=//p' {place}/token.new >{place}/token
rm {place}/token.new
"""


class Slurm(Rig):
    packages: tuple[str, ...] = (
        "munge", "slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins", "slurmrestd",
        "slurm-wlm-jwt-plugin",
    )  # fmt: skip
    needs: tuple[str, ...] = (
        "/usr/sbin/munged", "/usr/sbin/slurmctld", "/usr/sbin/slurmd", "/usr/bin/sbatch",
        "/usr/lib/x86_64-linux-gnu/slurm-wlm/select_cons_tres.so", "/usr/sbin/slurmrestd",
        "/usr/lib/x86_64-linux-gnu/slurm-wlm/auth_jwt.so",
    )  # fmt: skip

    def prepare(self) -> dict[str, Any]:
        place, host = self.directory, socket.gethostname().partition(".")[0]
        for name in ("run", "log", "state", "spool"):
            (place / name).mkdir(parents=True, exist_ok=True)
        place.chmod(0o755)  # munge wants its way to the socket open for all
        (place / "run").chmod(0o755)
        key = place / "munge.key"
        for secret, size in ((key, 128), (place / "state" / "jwt.key", 32)):
            secret.touch(mode=0o600)
            secret.write_bytes(os.urandom(size))
        controller, rest, *ports = free_ports(NODES + 2)
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
        (place / "gres.conf").write_text(
            "Name=gpu Type=a100 File=/dev/null,/dev/zero\n"
        )  # they are counted, not used
        munged = ["munged", "--foreground", "--force", "--num-threads=4"]
        munged += [f"--socket={place}/run/munge.sock", f"--key-file={key}"]
        munged += [f"--pid-file={place}/run/munged.own", f"--log-file={place}/log/munged.log"]
        munged += [f"--seed-file={place}/run/munged.seed"]
        daemons: list[Any] = [
            ["munged", munged, f"{place}/run/munge.sock"],
            *self.accounting(user.strip()),
            ["slurmctld", ["slurmctld", "-D"], f"{place}/run/slurmctld.own"],
            *([f"slurmd.{name}", ["slurmd", "-D", "-N", name], None] for name in names),
            ["", ["sh", "-c", TOKEN.format(place=place)], None],
            ["slurmrestd", self.restd(rest), None],
        ]
        write(place, daemons)
        return {
            "SLURM_CONF": str(place / "slurm.conf"),
            "nodes": names,
            "url": f"http://127.0.0.1:{rest}",
            "user_token": str(place / "token"),
            "api_version": "v0.0.38",
        }

    plugins = "openapi/v0.0.38"
    """Of slurmrestd; it refuses to start with those for an accounting that is not there."""

    def restd(self, port: int) -> list[str]:
        """Return the command line of slurmrestd.

        The daemon refuses to run as root, but other users may not be able to read our directory.
        """
        told = ["env", "SLURM_JWT=daemon", "SLURMRESTD_SECURITY=disable_user_check"]
        served = ["-a", "rest_auth/jwt", "-s", self.plugins, f"127.0.0.1:{port}"]
        return [*told, "slurmrestd", "-t", "8", *served]

    def accounting(self, user: str) -> list[Any]:
        """Daemons that remember ended jobs; none."""
        del user
        return []

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
        with contextlib.suppress(OSError):
            port = int(str(self.connection["url"]).rpartition(":")[2])
            socket.create_connection(("127.0.0.1", port), 1).close()
            return self._idle(told)
        return False

    @staticmethod
    def _idle(told: "subprocess.CompletedProcess[str]") -> bool:
        words = told.stdout.split()
        return (
            told.returncode == 0 and len(words) == NODES and set(words) <= {"idle", "mix", "alloc"}
        )

    def clean(self) -> None:
        """End jobs, and what waits at their end for a controller that is gone."""
        end_processes(f"SLURM_CONF={self.directory / 'slurm.conf'}", "SLURM_JOB_ID", "slurmstepd")
        for place in self.directory.glob("spool/*"):
            shutil.rmtree(place, ignore_errors=True)


CGROUPS = Path("/sys/fs/cgroup")
KEPT_BY_KERNEL = """\
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
ConstrainRAMSpace=yes
ConstrainCores=no
ConstrainDevices=no
"""


class SlurmCgroup(Slurm):
    """The same, with jobs that the kernel keeps to their memory (cgroups, version 1); as root."""

    def prepare(self) -> dict[str, Any]:
        if not os.access(CGROUPS / "memory", os.W_OK):
            raise RigError(
                f"It needs {CGROUPS}/memory (control groups, version 1), writable: root, and a "
                "kernel that is started with systemd.unified_cgroup_hierarchy=0."
            )
        told = super().prepare()
        file = self.directory / "slurm.conf"
        text = file.read_text()
        for word, instead in {
            "ProctrackType=proctrack/linuxproc": "ProctrackType=proctrack/cgroup",
            "TaskPlugin=task/none": "TaskPlugin=task/cgroup",
            "JobAcctGatherParams=OverMemoryKill\n": "",
        }.items():
            text = text.replace(word, instead)
        file.write_text(text)
        (self.directory / "cgroup.conf").write_text(KEPT_BY_KERNEL)
        return told

    def clean(self) -> None:
        super().clean()
        for name in (
            self.connection["nodes"] if (self.directory / "connection.json").exists() else ()
        ):
            for place in sorted(CGROUPS.glob(f"*/slurm_{name}/**/"), reverse=True):
                with contextlib.suppress(OSError):
                    place.rmdir()


DATABASE = """\
AuthType=auth/munge
AuthInfo=socket={place}/run/munge.sock
CommunicationParameters=NoInAddrAny
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={user}
LogFile={place}/log/slurmdbd.log
PidFile={place}/run/slurmdbd.own
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=slurm
StoragePass=rig
StorageLoc=slurm_acct
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key={place}/state/jwt.key
"""


class SlurmAccounting(Slurm):
    """Slurm with slurmdbd and MariaDB.

    Its controller forgets ended jobs after seconds, and enforces limits of users
    (`sacctmgr modify user where name=... set MaxSubmitJobs=...`).
    """

    plugins = "openapi/v0.0.38,openapi/dbv0.0.38"
    packages = (*Slurm.packages, "slurmdbd", "slurm-wlm-mysql-plugin", *MariaDB.packages)
    needs = (*Slurm.needs, "/usr/sbin/slurmdbd", *MariaDB.needs)

    def accounting(self, user: str) -> list[Any]:
        place = self.directory
        port, database = free_ports(2)
        socket_file = f"{place}/run/my.sock"
        file = place / "slurmdbd.conf"
        file.touch(mode=0o600)
        file.write_text(DATABASE.format(place=place, port=port, database=database, user=user))
        with (place / "slurm.conf").open("a") as configuration:
            configuration.write(
                "AccountingStorageType=accounting_storage/slurmdbd\n"
                "AccountingStorageHost=127.0.0.1\n"
                f"AccountingStoragePort={port}\n"
                f"AccountingStoragePass={place}/run/munge.sock\n"
                "AccountingStorageEnforce=limits,qos\n"
            )
        text = (place / "slurm.conf").read_text()
        (place / "slurm.conf").write_text(text.replace("MinJobAge=300", "MinJobAge=5"))
        made = ["mariadb-install-db", "--no-defaults", f"--datadir={place}/db", f"--user={user}"]
        made += ["--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(made, check=True, capture_output=True)
        server = [
            "mariadbd", "--no-defaults", f"--user={user}", f"--datadir={place}/db",
            f"--socket={socket_file}", f"--pid-file={place}/run/mariadb.own",
            "--bind-address=127.0.0.1", f"--port={database}",
            f"--log-error={place}/log/mariadb.log", "--innodb-log-file-size=16M",
            "--innodb-lock-wait-timeout=900", "--innodb-flush-log-at-trx-commit=0",
            "--innodb-doublewrite=0", "--skip-log-bin", "--skip-name-resolve",
        ]  # fmt: skip
        grant = (
            "create database if not exists slurm_acct; "
            "create user if not exists slurm@'127.0.0.1' identified by 'rig'; "
            "grant all on slurm_acct.* to slurm@'127.0.0.1'"
        )
        client = ["mariadb", "--no-defaults", "-uroot", "-S", socket_file, "-e", grant]
        asked = "sacctmgr -n list cluster | grep -q rig || sacctmgr -i add cluster rig"
        if user != "root":  # who has an account from the beginning
            asked += f"; sacctmgr -i add account rig; sacctmgr -i add user {user} account=rig"
        return [
            ["mariadbd", server, socket_file],
            ["", client, None],
            ["slurmdbd", ["slurmdbd", "-D"], f"{place}/run/slurmdbd.own"],
            ["", ["sh", "-c", asked], None],
        ]
