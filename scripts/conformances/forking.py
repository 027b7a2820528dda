"""Programs that start quickly: each is a process of its own, in which everything is loaded already.

This file, run as a program, loads the modules of one distribution and forks a child for each order;
what a child runs is the function behind the console script of that name. When its standard input
ends it kills what still runs.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import NoReturn

REAP_S = 0.05
"""Longest time after which the end of a child is noticed, in seconds."""

DIRTY_S = 20.0
"""Longest time that the program which forks may take to end, in seconds."""


class Program:
    """A program that was started."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.command, self.log = " ".join(command), log
        self.ended = threading.Event()
        self.status: int | None = None

    def wait(self, limit_s: float) -> int | None:
        """Wait for its end; return its status, None if it has not ended."""
        self.ended.wait(limit_s)
        return self.status

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")


class Forks:
    """The program that forks, for one distribution."""

    def __init__(
        self, distribution: str, modules: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, distribution, *modules], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self._lock = threading.Lock()
        self._programs: list[Program] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], directory: Path, log: Path
    ) -> Program:
        """Start a program; its output and its errors go to `log`."""
        program = Program(command, log)
        with self._lock:
            order = [len(self._programs), list(command), dict(environment), str(directory)]
            self._programs.append(program)
            assert self._process.stdin
            self._process.stdin.write(json.dumps([*order, str(log)]) + "\n")
            self._process.stdin.flush()
        return program

    def _listen(self) -> None:
        """Note the status of each program that ends."""
        assert self._process.stdout
        for line in self._process.stdout:
            number, status = json.loads(line)
            self._programs[number].status = status
            self._programs[number].ended.set()

    def close(self) -> None:
        """End it, and what it started."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(DIRTY_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()


def serve(distribution: str, modules: Sequence[str]) -> None:
    """Fork a child for each order that comes, and tell the status of each that ends."""
    for module in modules:
        importlib.import_module(module)
    scripts = metadata.distribution(distribution).entry_points.select(group="console_scripts")
    targets = {each.name: each.value for each in scripts}
    gc.collect()
    gc.freeze()
    children: dict[int, int] = {}
    with open(0, "rb", buffering=0, closefd=False) as orders:
        while True:
            if select.select([orders], [], [], REAP_S)[0]:
                line = orders.readline()
                if not line:
                    break
                number, command, environment, directory, log = json.loads(line)
                if not (child := os.fork()):
                    become(targets[command[0]], command, environment, directory, log)
                children[child] = number
            tell_ended(children)
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)


def tell_ended(children: dict[int, int]) -> None:
    """Print number and status of each child that has ended."""
    while children:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            return
        print(json.dumps([children.pop(child), os.waitstatus_to_exitcode(status)]), flush=True)


def become(
    target: str, command: list[str], environment: dict[str, str], directory: str, log: str
) -> NoReturn:
    """Be the program in this process, to its end."""
    os.setsid()
    read = os.open(os.devnull, os.O_RDONLY)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for source, number in ((read, 0), (written, 1), (written, 2)):
        os.dup2(source, number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    sys.argv = command
    module, _, function = target.partition(":")
    sys.exit(getattr(importlib.import_module(module), function)())


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
