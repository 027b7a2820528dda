"""The disk fills up at every step of a wrapper's life: what it has to say is said, and once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

STEPS = r"""
import errno, json, os, sys, tempfile
from pathlib import Path
from zwrap.configuration.site import Configuration
from zwrap.recipe.envelope import Envelope
from zwrap.errors import ZwrapError
from zwrap.attempt.directory import SUBMISSION, JobDirectory
from zwrap.service.watcher.conclusion import InDirectory
from zwrap.attempt.record import Attempt
from zwrap.message.jsontext import encode
from zwrap.recipe.graph import Recipe
from zwrap.transport.memory import MemoryTransport
from zwrap.wrapper import lifecycle
from zwrap.wrapper.lifecycle import Wrapper

lifecycle.SEND_WAIT_S = 1.0
top, code = Path(sys.argv[1]), sys.argv[2]
real = {name: getattr(os, name) for name in ("open", "write", "mkdir", "posix_fallocate")}

class Disk:
    "Has room for so many steps: a new file or directory, or more in one."

    def __init__(self, directory, room):
        self.directory, self.room, self.steps = str(directory), room, 0
        self.reserved = set()

    def spend(self, path):
        if str(path).startswith(self.directory):
            self.steps += 1
            if self.steps > self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def open(self, path, flags, *more, **options):
        if flags & os.O_CREAT and not os.path.exists(path):
            self.spend(path)
        return real["open"](path, flags, *more, **options)

    def write(self, descriptor, content):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if path not in self.reserved:
            self.spend(path)
        return real["write"](descriptor, content)

    def mkdir(self, path, *more, **options):
        if not os.path.exists(path):
            self.spend(path)
        return real["mkdir"](path, *more, **options)

    def posix_fallocate(self, descriptor, offset, length):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        self.spend(path)
        real["posix_fallocate"](descriptor, offset, length)
        self.reserved.add(path)

def attempt(number, room):
    place = top / f"{number}"
    directory = place / ".zwrap" / "t-1"
    directory.mkdir(parents=True)
    os.chdir(place)
    step = {"queue": "cluster.submission", "error": 5,
            "output": {"starting": 5, "success": 2, "failure": 3, "completed": 4},
            "job_parameters": {"command": ["sh", "-c", f"exit {code}"]}}
    recipe = {"start": [[1, []]], "1": step}
    recipe |= {str(n): {"queue": f"q{n}"} for n in range(2, 6)}
    envelope = Envelope(Recipe(recipe), 1, environment={"ID": "r"})
    (directory / SUBMISSION).write_bytes(encode({"header": {}, "message": envelope.body()}))
    os.environ |= {"ZWRAP_TOKEN": "t-1", "ZWRAP_JOB_DIRECTORY": str(directory),
                   "ZWRAP_LOCAL_JOB_ID": "7"}
    transport = MemoryTransport()
    disk = Disk(directory, room)
    for name in real:
        setattr(os, name, getattr(disk, name))
    try:
        wrapper = Wrapper("command", envelope, Configuration.from_string("{version: 1}").activate(),
                          lambda: MemoryTransport(transport.broker))
        status = wrapper.run()
    except (OSError, ZwrapError) as error:
        status = 111
    finally:
        for name, function in real.items():
            setattr(os, name, function)
    claim = directory / "claim.json"
    if claim.exists():  # the process is this one, and lives
        claim.write_text(json.dumps({**json.loads(claim.read_text()), "process": "elsewhere-7-x"}))
    row = Attempt(token="t-1", recipe_id="r", step=1, cluster="c", job_name="n", job_id="7",
                  job_directory=str(directory), seen_state="failed" if status else "completed",
                  exit_code=status)
    verdict = InDirectory(transport).find(row)
    queues = transport.broker.queues
    said = {name: [str(entry.message.headers["zwrap-id"]) for entry in entries]
            for name, entries in queues.items() if entries}
    left = [str(file) for file in directory.glob(".*") if file.is_file()]
    return disk.steps, [room, status, verdict.outcome.value, verdict.witness, said, left]

whole, first = attempt("whole", 10**6)
results = [first] + [attempt(room, room)[1] for room in range(whole)]
print(json.dumps(results))
"""


@pytest.mark.parametrize(("code", "outcome", "queue"), [(0, "success", "q2"), (3, "failure", "q3")])
def test_a_disk_that_fills_up(tmp_path: Path, code: int, outcome: str, queue: str) -> None:
    """A full disk fails a job, and its end is reported all the same.

    The Watcher reports a job that had no room for its first files, by the batch system's account;
    any other job is reported by its wrapper.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", STEPS, str(tmp_path), str(code)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(done.stdout)
    assert len(results) > 20
    unstarted = [each for each in results if each[1] == 111]
    assert 0 < len(unstarted) < 20
    for room, status, told, witness, said, left in results:
        # a message may come twice, under one id: it was sent, and that could not be written down
        counts = {name: len(set(ids)) for name, ids in said.items() if name != "q5"}
        if status == 111:
            assert (told, witness) == ("failure", "cluster c"), room
            assert counts == {"q3": 1, "q4": 1}, room
        else:
            assert (status, told, witness) == (code, outcome, "wrapper"), (room, done.stderr)
            assert counts == {queue: 1, "q4": 1}, (room, said)
        assert left == [], room
