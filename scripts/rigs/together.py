"""Runs several daemons in the foreground; all end when it is told to, or when one of them ends.

Usage: together.py DIRECTORY, where DIRECTORY/daemons.json is a list of [name, argv, wait], started
in this order; `wait` is a file that must be there before the next starts, or null. The pid of each
is in DIRECTORY/run/NAME.pid. An entry without a name is a command that is tried until it succeeds.
"""

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


def main() -> int:
    directory = Path(sys.argv[1])
    running: list[subprocess.Popen[bytes]] = []
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    for name, argv, wait in json.loads((directory / "daemons.json").read_text()):
        if not name:
            tries = 100
            while subprocess.run(argv, check=False).returncode and tries and not stopped:
                tries -= 1
                time.sleep(0.1)
            continue
        with (directory / "log" / f"{name}.out").open("ab") as log:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        running.append(process)
        (directory / "run" / f"{name}.pid").write_text(f"{process.pid}\n")
        while wait and not Path(wait).exists() and process.poll() is None:
            time.sleep(0.02)
    while not stopped and all(process.poll() is None for process in running):
        time.sleep(0.1)
    for process in reversed(running):
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return 0 if stopped else 1


if __name__ == "__main__":
    sys.exit(main())
