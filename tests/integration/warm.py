"""Commands whose start costs little: each is a process of its own, in which all is loaded already.

This file, run as a program, loads what the console scripts use, and forks a child for each command.
A command that is started like this differs from the real one in that alone; `Site.start` has the
real ones.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import NoReturn

HANGS_S = 60
"""Time after which a command that has not ended is taken to hang, in seconds."""


@functools.cache
def targets() -> dict[str, str]:
    """Return what each console script calls, as MODULE:FUNCTION."""
    scripts = distribution("zwrap").entry_points.select(group="console_scripts")
    return {script.name: script.value for script in scripts}


class Warm:
    """The program that forks, and the way to ask it."""

    def __init__(self) -> None:
        kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        self._program = subprocess.Popen(
            [sys.executable, __file__], env={**kept, "PATH": "/usr/bin:/bin"}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self._program.wait(HANGS_S)  # see `detach`
        atexit.register(self.end)

    @property
    def session(self) -> int:
        """Session, and process group, of the program and the commands."""
        return self._program.pid

    def run(
        self, command: Sequence[str], environment: dict[str, str], directory: Path
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as error:
            files = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (output, error)]
            order = [list(command), environment, str(directory), *files]
            assert self._program.stdin
            assert self._program.stdout
            try:
                self._program.stdin.write(json.dumps(order) + "\n")
                self._program.stdin.flush()
            except BrokenPipeError:
                raise self._died(command) from None
            if not select.select([self._program.stdout], [], [], HANGS_S)[0]:
                os.killpg(self.session, signal.SIGKILL)
                warm.cache_clear()
                raise subprocess.TimeoutExpired(list(command), HANGS_S)
            if not (answer := self._program.stdout.readline()):
                raise self._died(command)
            status = int(answer)
            texts = []
            for file in (output, error):
                file.seek(0)
                texts.append(file.read().decode().replace("\r\n", "\n"))
        return subprocess.CompletedProcess(command, status, *texts)

    def _died(self, command: Sequence[str]) -> RuntimeError:
        """Return an error that tells of the program's death; the next command gets another one."""
        warm.cache_clear()
        return RuntimeError(f"the program that forks is gone at {list(command)}")

    def end(self) -> None:
        """Let it go; commands that run go on."""
        self._program.communicate()


@functools.cache
def warm() -> Warm:
    """Return the one program of this process."""
    return Warm()


def detach() -> None:
    """Go on as no child of the tests: a wrapper in their process would end this one, too."""
    if os.fork():
        os._exit(0)


def load() -> None:
    """Load what the commands load."""
    for target in targets().values():
        importlib.import_module(target.partition(":")[0])
    commands = importlib.import_module("zwrap.cli.zwrap").COMMANDS
    for module, _ in commands.values():
        importlib.import_module(f"zwrap.cli.{module}")
    for name in ("dispatcher", "submitter", "watcher.watcher"):
        importlib.import_module(f"zwrap.service.{name}")


def serve() -> None:
    """Fork a child for each order that comes, one after the other."""
    for line in sys.stdin:
        command, environment, directory, *files = json.loads(line)
        if not (child := os.fork()):
            become(command, environment, directory, files)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def become(
    command: list[str], environment: dict[str, str], directory: str, files: list[str]
) -> NoReturn:
    """Be the command in this process, to its end."""
    for number, file in enumerate(["/dev/null", *files]):
        opened = os.open(file, os.O_WRONLY | os.O_APPEND if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    sys.argv = command
    module, _, function = targets()[command[0]].partition(":")
    sys.exit(getattr(importlib.import_module(module), function)())


if __name__ == "__main__":
    del sys.path[0]  # the directory of this file
    detach()
    load()
    serve()
