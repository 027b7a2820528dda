"""What all rigs share: a directory, a process in it, and the packages behind it."""

import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOWEST_PORT = 15000
"""Lowest port of a server; those below are used by well-known ones."""


class RigError(Exception):
    """A rig cannot be brought up; the message says what to do."""


class Rig(ABC):
    """A server in a directory. Subclasses say how it is prepared, started and asked."""

    packages: tuple[str, ...]
    """Debian packages."""
    needs: tuple[str, ...]
    """A file of each package."""
    answers_of_packages: tuple[str, ...] = ()
    """What their installation would ask (debconf-set-selections(1))."""
    start_s = 60.0
    stop_s = 30.0

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @abstractmethod
    def prepare(self) -> dict[str, Any]:
        """Write configuration files; how to reach the server."""

    @abstractmethod
    def command(self) -> tuple[list[str], dict[str, str]]:
        """Command line and environment of the server."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether clients are served."""

    def clean(self) -> None:  # noqa: B027  (most servers leave nothing)
        """End what the server leaves behind."""

    @property
    def connection(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.directory / "connection.json").read_text())
        return content

    def up(self) -> None:
        if self.runs():
            return
        self.install()
        self.directory.mkdir(parents=True, exist_ok=True)
        if not (self.directory / "connection.json").exists():
            content = json.dumps(self.prepare(), indent=1)
            (self.directory / "connection.json").write_text(content + "\n")
        argv, environment = self.command()
        with (self.directory / "server.log").open("ab") as log:
            process = subprocess.Popen(
                argv,
                env=environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (self.directory / "pid").write_text(f"{process.pid}\n")
        deadline = time.monotonic() + self.start_s
        while not self.answers():
            if process.poll() is not None or time.monotonic() > deadline:
                end = (self.directory / "server.log").read_text(errors="replace")[-2000:]
                self.down()
                raise RigError(f"it did not come up; the end of its log:\n{end}")
            time.sleep(0.2)

    def down(self) -> None:
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + self.stop_s
            while self.pid() is not None:
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.1)
        self.clean()
        (self.directory / "pid").unlink(missing_ok=True)

    def pid(self) -> int | None:
        """Return the id of the server's process; None if it does not live."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int((self.directory / "pid").read_text())
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            return None if state == "Z" else pid
        return None

    def runs(self) -> bool:
        return self.pid() is not None and self.answers()

    def status(self) -> str:
        if self.pid() is None:
            return "down"
        state = "up" if self.answers() else "started, but it does not answer"
        return f"{state}; {self.directory / 'connection.json'} says how to reach it"

    def install(self) -> None:
        """Install the packages behind it; rigs that come up together do so in turn."""
        with (Path(tempfile.gettempdir()) / f"rig-install-{os.geteuid()}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._install()

    def _install(self) -> None:
        missing = [file for file in self.needs if not Path(file).exists()]
        if not missing:
            return
        packages = " ".join(self.packages)
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise RigError(
                f"{missing[0]} is missing. On Debian 12, as root: "
                f"apt-get install --no-install-recommends {packages}"
            )
        answers = "".join(f"{line}\n" for line in self.answers_of_packages)
        with nothing_started():
            if answers:
                subprocess.run(["debconf-set-selections"], input=answers, text=True, check=True)
            for arguments in (
                ["update"],
                ["install", "-y", "--no-install-recommends", *self.packages],
            ):
                done = subprocess.run(
                    ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=600", *arguments],
                    env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.returncode:
                    raise RigError(f"apt-get {arguments[0]} failed: {done.stderr[-1000:]}")


def end_processes(ours: str, variable: str, daemon: str) -> None:
    """Kill the jobs and daemons of a batch system whose environment has `ours` (NAME=value).

    Jobs are processes that have `variable`, too; the names of daemons begin with `daemon`.
    """
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            told = (process / "environ").read_bytes().split(b"\0")
            names = {each.partition(b"=")[0] for each in told}
            is_daemon = (process / "comm").read_text().startswith(daemon)
            if ours.encode() in told and (is_daemon or variable.encode() in names):
                os.kill(int(process.name), signal.SIGKILL)


@contextlib.contextmanager
def nothing_started() -> Iterator[None]:
    """While this lasts, Debian starts no server that it installs (policy-rc.d)."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)


def certificate(directory: Path) -> tuple[Path, Path]:
    """Create a self-signed certificate for 127.0.0.1 and its key; return their files."""
    made, key = directory / "certificate.pem", directory / "key.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "365",
            "-subj", "/CN=rig", "-addext", "subjectAltName=IP:127.0.0.1",
            "-keyout", str(key), "-out", str(made),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return made, key


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody uses now.

    They are none of those that the kernel gives to clients, one of which could have it before the
    server listens.
    """
    first, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    offered = range(LOWEST_PORT, first) if first - LOWEST_PORT > 1000 else [0] * 1000
    ports: list[int] = []
    with contextlib.ExitStack() as stack:
        for port in random.sample(offered, len(offered)):
            each = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                each.bind(("127.0.0.1", port))
                ports.append(each.getsockname()[1])
            if len(ports) == count:
                return ports
    raise RigError(f"{count} free ports are needed on 127.0.0.1.")
