"""A process that dies before any one of its system calls leaves a spool that the next repairs.

A child process does one thing to a queue and ends itself just before its n-th call that changes
the disk, for every n until it gets through. Whatever n was, the message must be there afterwards,
whole, once, unless the call that forgets it was made.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from zwrap.transport.spool.queue import SpoolQueue

CALLS = ("rename", "unlink", "open", "write", "fsync", "mkdir", "rmdir", "chmod", "utime", "link")

CHILD = """
import os, signal, sys
from pathlib import Path

place, act, last = sys.argv[1], sys.argv[2], int(sys.argv[3])
made = 0

def counted(call):
    def counting(*arguments, **options):
        global made
        if place in str(arguments[0]) or isinstance(arguments[0], int):
            made += 1
            if made == last:
                os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return counting

from zwrap.transport.spool.queue import SpoolQueue
for name in {calls!r}:
    setattr(os, name, counted(getattr(os, name)))

queue = SpoolQueue(Path(place))
if act == "put":
    queue.put([b"second", b"third"])
else:
    claimed = queue.claim()
    assert claimed.content == b"first"
    if act == "release":
        queue.release(claimed)
    elif act == "dead_letter":
        queue.dead_letter(claimed, "because")
    else:
        queue.ack(claimed)
queue.close()
"""


def deaths(place: Path, act: str) -> Iterator[int]:
    """Let the child die before its first, second, ... call; the number of each, until it lives."""
    for last in range(1, 200):
        command = [sys.executable, "-P", "-c", CHILD.replace("{calls!r}", repr(CALLS))]
        done = subprocess.run(
            [*command, str(place), act, str(last)], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            assert last > 5, "the child's calls were not counted"
            return
        assert done.returncode == -signal.SIGKILL, done.stderr
        yield last
    pytest.fail("the child never got through")


def contents(queue: SpoolQueue) -> list[bytes]:
    """Return the contents of what can be claimed after recovery."""
    queue.recover()
    found = []
    while claimed := queue.claim():
        found.append(claimed.content)
        queue.release(claimed)
        if len(found) > 9:
            break
    return sorted(set(found))


@pytest.fixture
def queue(tmp_path: Path) -> SpoolQueue:
    return SpoolQueue(tmp_path / "q")


@pytest.mark.slow
def test_dying_while_putting_shows_no_partial_message(queue: SpoolQueue) -> None:
    queue.put([b"first"])
    for last in deaths(queue.path, "put"):
        for content in contents(queue):
            assert content in (b"first", b"second", b"third"), f"call {last}"
        assert b"first" in contents(queue)
    assert contents(queue) == [b"first", b"second", b"third"]


@pytest.mark.slow
@pytest.mark.parametrize("act", ["release", "dead_letter", "ack"])
def test_dying_while_consuming_keeps_every_message(queue: SpoolQueue, act: str) -> None:
    queue.put([b"first"])
    for last in deaths(queue.path, act):
        found = contents(queue)
        letters = [file.read_bytes() for file, _ in queue.dead_letters()]
        if not found:  # the last call that mattered was made: forgotten, or a dead letter
            assert act != "release", f"call {last}: the message is lost"
            assert letters == ([b"first"] if act == "dead_letter" else []), f"call {last}"
            for file, _ in queue.dead_letters():
                os.unlink(file)
        else:
            assert found == [b"first"], f"call {last}"
            assert letters == [], f"call {last}: the message is there twice"
            while claimed := queue.claim():
                queue.ack(claimed)
        queue.put([b"first"])  # one that was never delivered: each death counts
