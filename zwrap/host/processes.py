"""Who am I, and is that other process still alive? Identity of processes across hosts."""

from __future__ import annotations

import functools
import os
import re
import socket
from pathlib import Path
from typing import NamedTuple


def host_name() -> str:
    """Name of this host with every character that is unsafe in a file name replaced."""
    return re.sub(r"[^A-Za-z0-9.]+", "_", socket.gethostname()) or "localhost"


def host_id() -> str:
    """Identity of this process on the wire: reversed host name parts and process id.

    ``node1.site.org``, process 17, is ``org.site.node1.17``, as in python-workflows.
    """
    return ".".join([*reversed(socket.gethostname().split(".")), str(os.getpid())])


class ProcessIdentity(NamedTuple):
    """A process that cannot be mistaken for a later one with the same number."""

    host: str
    pid: int
    start: str
    """Boot, process namespace and start tick; opaque outside this module."""

    def __str__(self) -> str:
        return f"{self.host}-{self.pid}-{self.start}"

    @classmethod
    def parse(cls, text: str) -> ProcessIdentity | None:
        """Read the form that ``str()`` writes; None if it is something else."""
        match = re.fullmatch(r"(.+)-(\d+)-([^-]+)", text)
        return cls(match[1], int(match[2]), match[3]) if match else None


@functools.cache
def _machine() -> str:
    """Boot and process namespace: process numbers mean something only inside one such pair."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    except OSError:
        boot_id = "noboot"
    try:
        namespace = re.sub(r"\D", "", os.readlink("/proc/self/ns/pid"))
    except OSError:
        namespace = "0"
    return f"{boot_id}.{namespace}"


def _start_tick(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot (proc(5), field 22 of stat)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else fields[19].decode()


def process_identity(pid: int) -> ProcessIdentity | None:
    """Identity of a process of this machine, or None when it does not exist."""
    tick = _start_tick(pid)
    return ProcessIdentity(host_name(), pid, f"{_machine()}.{tick}") if tick else None


def this_process() -> ProcessIdentity:
    """Identity of the calling process."""
    return _own_identity(os.getpid())


@functools.lru_cache(maxsize=1)
def _own_identity(pid: int) -> ProcessIdentity:
    return process_identity(pid) or ProcessIdentity(host_name(), pid, "0")


def is_alive(who: ProcessIdentity) -> bool | None:
    """Whether that process lives; None when it cannot be told from here (another machine)."""
    machine, _, tick = who.start.rpartition(".")
    if who.host != host_name() or machine != _machine():
        return None
    return _start_tick(who.pid) == tick
