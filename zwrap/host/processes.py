"""Processes of this host as /proc shows them, and their identity across hosts."""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec


def host_name() -> str:
    """Return the name of this host, without characters that are unsafe in a file name."""
    return re.sub(r"[^A-Za-z0-9.]+", "_", os.uname().nodename) or "localhost"


def host_id() -> str:
    """Return the identity of this process on the wire: reversed host name parts and process id.

    ``node1.site.org``, process 17, is ``org.site.node1.17``, as in python-workflows.
    """
    return ".".join([*reversed(os.uname().nodename.split(".")), str(os.getpid())])


class ProcessStatus(msgspec.Struct, frozen=True):
    """Status of one process, as the kernel reports it (proc(5), ``/proc/PID/stat``)."""

    pid: int
    state: str
    """One letter, such as ``R``, ``S`` or ``Z`` (zombie)."""
    parent: int
    group: int
    session: int
    start_tick: int
    """Start time in clock ticks since boot."""

    @property
    def is_dead(self) -> bool:
        """True if the process has ended, though its parent may not have waited for it."""
        return self.state in ("Z", "X")


def process_status(pid: int) -> ProcessStatus | None:
    """Return the status of a process of this host; None if it does not exist."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123  (a walk opens hundreds)
            state, *fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    parent, group, session = (int(field) for field in fields[:3])
    return ProcessStatus(pid, state.decode(), parent, group, session, int(fields[18]))


def process_user(pid: int) -> int | None:
    """Return the id of the user of a process of this host; None if it does not exist."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"^Uid:\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else None


def processes() -> Iterator[ProcessStatus]:
    """Yield the status of every process of this host that this user may see."""
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and (status := process_status(int(entry))):
            yield status


class ProcessIdentity(msgspec.Struct, frozen=True):
    """A process that cannot be mistaken for a later one with the same number."""

    host: str
    pid: int
    start: str
    """Boot, process namespace and start tick; opaque outside this module."""

    def __str__(self) -> str:
        return f"{self.host}-{self.pid}-{self.start}"

    @classmethod
    def parse(cls, text: str) -> ProcessIdentity | None:
        """Return the identity in a text that ``str()`` wrote; None for any other text."""
        match = re.fullmatch(r"(.+)-([0-9]{1,10})-([^-]+)", text)
        return cls(match[1], int(match[2]), match[3]) if match else None


@functools.cache
def _machine() -> str:
    """Return boot and process namespace, within which a process number is unique."""
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
    """Return the start tick of a live process; None if it has ended."""
    status = process_status(pid)
    return None if status is None or status.is_dead else str(status.start_tick)


def process_identity(pid: int) -> ProcessIdentity | None:
    """Return the identity of a process of this host; None if it does not exist."""
    tick = _start_tick(pid)
    return ProcessIdentity(host_name(), pid, f"{_machine()}.{tick}") if tick else None


def group_age_s() -> float:
    """Return the time since the start of the leader of this process's group, in seconds.

    It is 0 if the leader has ended, or is outside this process namespace.
    """
    leader = process_status(os.getpgrp())
    if leader is None or leader.is_dead:
        return 0.0
    started = leader.start_tick / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)


def this_process() -> ProcessIdentity:
    """Return the identity of the calling process."""
    return _own_identity(os.getpid())


@functools.lru_cache(maxsize=1)
def _own_identity(pid: int) -> ProcessIdentity:
    """Return the identity of this process, which is read from /proc once."""
    return process_identity(pid) or ProcessIdentity(host_name(), pid, "0")


def is_alive(who: ProcessIdentity) -> bool | None:
    """Return whether a process lives; None if this host cannot tell, such as for another host."""
    machine, _, tick = who.start.rpartition(".")
    if who.host != host_name() or machine != _machine():
        return None
    return _start_tick(who.pid) == tick
