"""MariaDB (Debian's packages) with one empty database, on 127.0.0.1.

Its files lie in the directory of the rig, so that it can be killed and come up again with the same
data on the same port. They are never flushed to the disk, which takes most of the time elsewhere:
what is committed outlives the death of the server, not that of the machine.
"""

import os
import socket
import subprocess
from typing import Any

from .base import Rig, RigError, free_ports

SERVER = "/usr/sbin/mariadbd"
PASSWORD = "rig"
PROTOCOL = 10
"""Version with which a server greets a client; 0xff is that of an error."""


class MariaDB(Rig):
    packages = ("mariadb-server-core", "mariadb-client-core")
    needs = (SERVER, "/usr/bin/mariadb")
    unflushed: tuple[str, ...] = ("--debug-no-sync", "--innodb-flush-method=nosync")
    """Options with which the server flushes no file to the disk."""

    def prepare(self) -> dict[str, Any]:
        made = [
            "mariadb-install-db", "--no-defaults", f"--datadir={self.directory}/db",
            "--auth-root-authentication-method=normal", "--skip-test-db", *self._as_user(),
            "--innodb-flush-method=nosync", "--innodb-log-file-size=16M",
        ]  # fmt: skip
        done = subprocess.run(made, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RigError(f"mariadb-install-db failed: {(done.stdout + done.stderr)[-1000:]}")
        (self.directory / "start.sql").write_text(
            "CREATE DATABASE IF NOT EXISTS ispyb;\n"
            f"CREATE USER IF NOT EXISTS rig@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
            "GRANT ALL ON *.* TO rig@'127.0.0.1' WITH GRANT OPTION;\n"
        )
        [port] = free_ports(1)
        return {
            "host": "127.0.0.1",
            "port": port,
            "username": "rig",
            "password": PASSWORD,
            "database": "ispyb",
        }

    @staticmethod
    def _as_user() -> list[str]:
        """Return the option without which the server refuses to be root."""
        return ["--user=root"] if os.geteuid() == 0 else []

    def command(self) -> tuple[list[str], dict[str, str]]:
        served = [
            SERVER, "--no-defaults", *self._as_user(), f"--datadir={self.directory}/db",
            f"--socket={self.directory}/my.sock", f"--pid-file={self.directory}/pid.own",
            "--bind-address=127.0.0.1", f"--port={self.connection['port']}",
            f"--init-file={self.directory}/start.sql", "--skip-name-resolve", "--skip-log-bin",
            "--character-set-server=utf8mb4", "--collation-server=utf8mb4_general_ci",
            *self.unflushed, "--innodb-flush-log-at-trx-commit=1",
            "--innodb-log-file-size=16M", "--innodb-buffer-pool-size=64M",
        ]  # fmt: skip
        return served, {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}

    def answers(self) -> bool:
        address = ("127.0.0.1", self.connection["port"])
        try:
            with socket.create_connection(address, timeout=2) as client:
                greeting = client.recv(5)
        except OSError:
            return False
        return len(greeting) == 5 and greeting[4] == PROTOCOL
