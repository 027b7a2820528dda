"""PostgreSQL (Debian's packages) with one database, on 127.0.0.1.

It refuses to be root: then its files belong to user postgres, in a directory of their own below
/tmp, which goes when it is brought down.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from .base import Rig, free_ports

PROGRAMS = Path("/usr/lib/postgresql/15/bin")
PASSWORD = "rig"


class PostgreSQL(Rig):
    packages = ("postgresql-15",)
    needs = (f"{PROGRAMS}/initdb", f"{PROGRAMS}/postgres")

    def prepare(self) -> dict[str, Any]:
        data = self.directory / "data"
        if os.geteuid() == 0:
            data = Path(tempfile.mkdtemp(prefix="rig-postgresql-"))
            shutil.chown(data, "postgres")
            (self.directory / "data").symlink_to(data)
        data.mkdir(exist_ok=True)
        (data / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            shutil.chown(data / "password", "postgres")
        made = [f"{PROGRAMS}/initdb", "-D", f"{data}/db", "-U", "rig", "--auth=scram-sha-256"]
        made += [f"--pwfile={data}/password", "--no-locale", "--encoding=UTF8", "--no-sync"]
        subprocess.run(self._as_user(made), check=True, capture_output=True, cwd=data)
        [port] = free_ports(1)
        return {
            "url": f"postgresql+psycopg://rig:{PASSWORD}@127.0.0.1:{port}/postgres",
            "port": port,
        }

    @staticmethod
    def _as_user(command: list[str]) -> list[str]:
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command] if (
            os.geteuid() == 0
        ) else command  # fmt: skip

    def command(self) -> tuple[list[str], dict[str, str]]:
        data = (self.directory / "data").resolve()
        served = [f"{PROGRAMS}/postgres", "-D", f"{data}/db", "-h", "127.0.0.1", "-k", ""]
        served += ["-p", str(self.connection["port"]), "-c", "fsync=off"]
        return self._as_user(served), {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}

    def answers(self) -> bool:
        told = subprocess.run(
            [f"{PROGRAMS}/pg_isready", "-h", "127.0.0.1", "-p", str(self.connection["port"])],
            capture_output=True, check=False,
        )  # fmt: skip
        return told.returncode == 0

    def clean(self) -> None:
        """Forget the database, which is not in our directory."""
        with contextlib.suppress(OSError):
            place = (self.directory / "data").resolve()
            if place != self.directory / "data":
                shutil.rmtree(place)
                (self.directory / "data").unlink()
                (self.directory / "connection.json").unlink()
