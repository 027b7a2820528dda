"""Runs several daemons in the foreground; all end when it is told to, or when one of them ends.

Usage: together.py DIRECTORY, where DIRECTORY/daemons.json is a list of [name, argv, wait], started
in this order; `wait` is a file that must be there before the next starts, or null. The pid of each
is in DIRECTORY/run/NAME.pid. An entry without a name is a command that is tried until it succeeds.

A daemon that was killed with SIGKILL is started again, once there is no file
DIRECTORY/run/NAME.down: so tests try what becomes of everybody else meanwhile.
"""

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def write(directory: Path, daemons: list[Any]) -> None:
    """Write the list that `main` reads."""
    (directory / "daemons.json").write_text(json.dumps(daemons, indent=1))


class Daemon:
    """One of them."""

    def __init__(self, directory: Path, name: str, argv: list[str], wait: str | None) -> None:
        self._directory, self._name, self._argv, self._wait = directory, name, argv, wait
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        with (self._directory / "log" / f"{self._name}.out").open("ab") as log:
            process = subprocess.Popen(self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        (self._directory / "run" / f"{self._name}.pid").write_text(f"{process.pid}\n")
        while self._wait and not Path(self._wait).exists() and process.poll() is None:
            time.sleep(0.02)
        return process

    def lives(self) -> bool:
        """Whether it runs, or was killed and will run again."""
        ended = self.process.poll()
        if ended == -signal.SIGKILL:
            if not (self._directory / "run" / f"{self._name}.down").exists():
                self.process = self._start()
            return True
        return ended is None

    def end(self) -> None:
        """End it, however it feels."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def main() -> int:
    directory = Path(sys.argv[1])
    running: list[Daemon] = []
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    for name, argv, wait in json.loads((directory / "daemons.json").read_text()):
        if name:
            running.append(Daemon(directory, name, argv, wait))
            continue
        tries = 100
        while subprocess.run(argv, check=False).returncode and tries and not stopped:
            tries -= 1
            time.sleep(0.1)
    while not stopped and all(daemon.lives() for daemon in running):
        time.sleep(0.1)
    for daemon in reversed(running):
        daemon.end()
    return 0 if stopped else 1


if __name__ == "__main__":
    sys.exit(main())
