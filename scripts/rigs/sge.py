"""Grid Engine (Debian's Son of Grid Engine 8.1.9) in a directory: qmaster, one host, two queues.

As root jobs of any user run, as another user only that user's. `connection.json` holds the
environment that a client needs. The queues have 16 slots each, whatever the host has, and a
parallel environment `smp`; a job may ask for `gpu` (2 of them) and for a host of its own
(`exclusive`).
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from .base import Rig, end_processes, free_ports
from .together import write

LIBRARY = Path("/usr/lib/gridengine")
SHARE = Path("/usr/share/gridengine")
QUEUES = ("all.q", "long.q")
SLOTS = 16

BOOTSTRAP = """\
admin_user              {admin}
default_domain          none
ignore_fqdn             true
spooling_method         berkeleydb
spooling_lib            libspoolb
spooling_params         {place}/spool/db
binary_path             {library}
qmaster_spool_dir       {place}/spool/qmaster
security_mode           none
listener_threads        2
worker_threads          2
scheduler_threads       1
jvm_threads             0
"""

GLOBAL = {
    "execd_spool_dir": "{place}/spool/execd",
    "mailer": "/bin/true",
    "administrator_mail": "none",
    "min_uid": "0",  # root may have jobs
    "min_gid": "0",
    "login_shells": "none",  # a job does not wait for what its user's ~/.profile does
    "load_report_time": "00:00:05",
    "finished_jobs": "1000",
    "reporting_params": "accounting=true reporting=false flush_time=00:00:01 "
    "accounting_flush_time=00:00:01 joblog=false sharelog=00:00:00",
    "execd_params": "INHERIT_ENV=false",  # jobs see nothing of who started the daemon
}

SCHEDULER = {  # at once, not every 15 s
    "schedule_interval": "0:0:1",
    "flush_submit_sec": "1",
    "flush_finish_sec": "1",
    "job_load_adjustments": "NONE",
    "load_adjustment_decay_time": "0:0:0",
    "schedd_job_info": "true",
}

HOST = {
    "hostname": "{host}", "load_scaling": "NONE", "complex_values": "gpu=2,exclusive=true",
    "user_lists": "NONE", "xuser_lists": "NONE", "projects": "NONE", "xprojects": "NONE",
    "usage_scaling": "NONE", "report_variables": "NONE",
}  # fmt: skip

COMPLEXES = """\
gpu         gpu    INT   <=    YES  JOB        0        0
exclusive   excl   BOOL  EXCL  YES  YES        0        1000
"""

_UNLIMITED = "rt cpu fsize data stack core rss vmem"

QUEUE = {
    "qname": "{queue}", "hostlist": "@allhosts", "seq_no": "0", "load_thresholds": "NONE",
    "suspend_thresholds": "NONE", "nsuspend": "1", "suspend_interval": "00:05:00", "priority": "0",
    "min_cpu_interval": "00:05:00", "processors": "UNDEFINED", "qtype": "BATCH INTERACTIVE",
    "ckpt_list": "NONE", "pe_list": "smp", "rerun": "FALSE", "slots": str(SLOTS),
    "tmpdir": "{place}/tmp", "shell": "/bin/sh", "prolog": "NONE", "epilog": "NONE",
    "shell_start_mode": "posix_compliant", "starter_method": "NONE", "suspend_method": "NONE",
    "resume_method": "NONE", "terminate_method": "NONE", "notify": "00:00:05",
    "owner_list": "NONE", "user_lists": "NONE", "xuser_lists": "NONE", "subordinate_list": "NONE",
    "complex_values": "NONE", "projects": "NONE", "xprojects": "NONE", "calendar": "NONE",
    "initial_state": "default",
    **{f"{kind}_{limit}": "INFINITY" for limit in _UNLIMITED.split() for kind in "sh"},
}  # fmt: skip


class GridEngine(Rig):
    packages = (
        "gridengine-master", "gridengine-exec", "gridengine-client", "gridengine-drmaa1.0", "tcc",
    )  # fmt: skip
    needs = (
        "/usr/lib/gridengine/sge_qmaster", "/usr/lib/gridengine/sge_execd",
        "/usr/lib/gridengine/qsub", "/usr/lib/gridengine-drmaa/lib/libdrmaa.so.1.0",
        "/usr/bin/tcc",
    )  # fmt: skip
    answers_of_packages = tuple(
        f"gridengine-{part} shared/gridengineconfig boolean false"  # no cluster of the system's
        for part in ("master", "common", "client", "exec")
    )

    def prepare(self) -> dict[str, Any]:
        place = self.directory
        place.chmod(0o755)
        common = place / "root" / "default" / "common"
        for name in ("spool/qmaster/job_scripts", "spool/db", "spool/execd", "tmp", "run", "log"):
            (place / name).mkdir(parents=True)
        common.mkdir(parents=True)
        (place / "tmp").chmod(0o1777)
        for name in ("bin", "lib", "utilbin"):
            (place / "root" / name).mkdir()
            (place / "root" / name / "lx-amd64").symlink_to(LIBRARY)
        (place / "root" / "util").symlink_to(SHARE / "util")
        ports = free_ports(2)
        connection = {
            "SGE_ROOT": str(place / "root"),
            "SGE_CELL": "default",
            "SGE_ARCH": "lx-amd64",
            "SGE_CLUSTER_NAME": f"p{ports[0]}",
            "SGE_QMASTER_PORT": str(ports[0]),
            "SGE_EXECD_PORT": str(ports[1]),
            "PATH": f"{LIBRARY}:/usr/bin:/bin",
            "DRMAA_LIBRARY_PATH": "/usr/lib/gridengine-drmaa/lib/libdrmaa.so.1.0",
        }
        self._spool(connection, common)
        self._loopback()
        daemon = ["env", f"LD_PRELOAD={place}/loopback.so", "SGE_ND=1"]
        write(place, [
            ["qmaster", [*daemon, str(LIBRARY / "sge_qmaster")], None],
            ["", ["sh", str(self._first_steps(connection))], None],
            ["execd", [*daemon, str(LIBRARY / "sge_execd")], None],
        ])  # fmt: skip
        return connection

    def _spool(self, connection: dict[str, str], common: Path) -> None:
        """Create the files and the database from which the qmaster starts."""
        place, user = self.directory, _output("id", "-un")
        host = re.findall(r"Hostname: *(\S+)", _output(str(LIBRARY / "gethostname")))[0]
        admin = "none" if os.geteuid() == 0 else user  # else the daemons mistrust each other
        values = {"admin": admin, "place": place, "library": LIBRARY}
        (common / "bootstrap").write_text(BOOTSTRAP.format(**values))
        (common / "cluster_name").write_text(connection["SGE_CLUSTER_NAME"] + "\n")
        # The host is 127.0.0.1 to its clients, whose name is localhost.
        (common / "host_aliases").write_text(f"{host} localhost\n")
        (common / "act_qmaster").write_text(f"{host}\n")
        (common / "accounting").touch()  # without it nobody could say that a job is not recorded
        text = (SHARE / "default-configuration").read_text()
        (place / "configuration").write_text(_changed(text, GLOBAL, place=place))
        environment = {**connection, "LD_LIBRARY_PATH": str(LIBRARY)}
        defaults, resources = str(LIBRARY / "spooldefaults.bin"), SHARE / "util" / "resources"
        for command in (
            [str(LIBRARY / "spoolinit"), "berkeleydb", "libspoolb", f"{place}/spool/db", "init"],
            [defaults, "configuration", f"{place}/configuration"],
            [defaults, "complexes", f"{resources}/centry"],
            [defaults, "usersets", f"{resources}/usersets"],
            [defaults, "managers", user, "root"],
            [defaults, "operators", user, "root"],
        ):
            subprocess.run(command, env=environment, check=True, capture_output=True)

    def _loopback(self) -> None:
        """Build a library that keeps the daemons, which have no such setting, on 127.0.0.1."""
        source, made = Path(__file__).with_name("loopback.c"), self.directory / "loopback.so"
        subprocess.run(["tcc", "-shared", "-nostdlib", "-o", made, source], check=True)

    def _first_steps(self, connection: dict[str, str]) -> Path:
        """Write a shell script that tells a new qmaster its host and queues; safe to run again."""
        place = self.directory
        host = (Path(connection["SGE_ROOT"]) / "default/common/act_qmaster").read_text().strip()
        (place / "host.cf").write_text(_lines(HOST, host=host))
        (place / "group.cf").write_text(f"group_name @allhosts\nhostlist {host}\n")
        (place / "complexes").write_text(COMPLEXES)
        (place / "scheduler.sed").write_text(
            "".join(f"s#^{key} .*#{key} {value}#\n" for key, value in SCHEDULER.items())
        )
        lines = [
            "set -e", f"cd {place}", "qconf -sss >/dev/null", "test -e configured && exit 0",
            f"qconf -ah {host} || true", f"qconf -as {host} || true",
            "{ qconf -sc; cat complexes; } >all-complexes; qconf -Mc all-complexes",
            "qconf -Ae host.cf || qconf -Me host.cf",
            "qconf -Ahgrp group.cf || qconf -Mhgrp group.cf",
            f"qconf -Ap {SHARE}/util/resources/pe/smp || true",
            "qconf -ssconf | sed -f scheduler.sed >scheduler.cf; qconf -Msconf scheduler.cf",
        ]  # fmt: skip
        for queue in QUEUES:
            (place / f"{queue}.cf").write_text(_lines(QUEUE, queue=queue, place=place))
            lines.append(f"qconf -Aq {queue}.cf || qconf -Mq {queue}.cf")
        script = place / "first-steps.sh"
        script.write_text("\n".join([*lines, "touch configured"]) + "\n")
        return script

    def environment(self) -> dict[str, str]:
        return {**self.connection, "LANG": "C.UTF-8"}

    def command(self) -> tuple[list[str], dict[str, str]]:
        together = Path(__file__).with_name("together.py")
        return [sys.executable, str(together), str(self.directory)], self.environment()

    def answers(self) -> bool:
        """Whether the queues are there and none is in a state such as `au`."""
        try:
            told = subprocess.run(
                ["qstat", "-f"],
                env=self.environment(), capture_output=True, text=True, timeout=5, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return False
        lines = [line.split() for line in told.stdout.splitlines() if "@" in line]
        return len(lines) == len(QUEUES) and all(len(fields) == 5 for fields in lines)

    def clean(self) -> None:
        """End jobs and those who watch over them."""
        end_processes(f"SGE_ROOT={self.directory / 'root'}", "SGE_JOB_SPOOL_DIR", "sge_")
        shutil.rmtree(self.directory / "spool" / "execd", ignore_errors=True)
        (self.directory / "spool" / "execd").mkdir(exist_ok=True)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _lines(values: dict[str, str], **names: object) -> str:
    return "".join(f"{key} {value.format(**names)}\n" for key, value in values.items())


def _changed(text: str, values: dict[str, str], **names: object) -> str:
    """Return a configuration with some of its lines replaced."""
    for key, value in values.items():
        text = re.sub(rf"^{key} .*$", f"{key} {value.format(**names)}", text, flags=re.MULTILINE)
    return text
