"""Which ends of a child process have a reason, and which are followed by another start."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from zwrap.cli import restarting
from zwrap.cli.restarting import restarted

CHILD = """
import os, sys, time
from pathlib import Path
from zwrap.cli.restarting import tell_orderly_end
tell_orderly_end()
lives = Path({file!r})
with lives.open("a") as file:
    file.write(".")
if len(lives.read_text()) > 2:
    sys.exit(0)
{end}
"""


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarting, "FIRST_S", 0.001)


def lives(tmp_path: Path, end: str) -> tuple[int, int]:
    """Run children that end so until they may; return the number of lives, and the status."""
    file = tmp_path / "lives"
    status = restarted([["-c", CHILD.format(file=str(file), end=end)]])
    return len(file.read_text()), status


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("sys.exit(0)", (1, 0)),
        ("sys.exit(100)", (1, 100)),
        ("sys.exit(111)", (3, 0)),
        ("raise ValueError", (3, 0)),
        ("os._exit(0)", (3, 0)),
        ("os._exit(100)", (3, 0)),
        ("os.kill(os.getpid(), 9)", (3, 0)),
        ("os.fork() or sys.exit(0)\nos._exit(0)", (3, 0)),
    ],
)
def test_only_an_orderly_end_is_the_last_one(
    tmp_path: Path, end: str, expected: tuple[int, int]
) -> None:
    assert lives(tmp_path, end) == expected


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ("os._exit(0)", "the service ended with status 0, and was not asked to"),
        ("os.kill(os.getpid(), 9)", "the service was ended by signal 9"),
        ("sys.exit(111)", "the service ended with status 111;"),
    ],
)
def test_the_log_says_why_a_child_is_replaced(
    tmp_path: Path, end: str, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    lives(tmp_path, end)
    told = capfd.readouterr().err
    assert told.count(why) == 2
    assert "it is started again in 0.001 s" in told


def test_a_child_that_cannot_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [OSError(11, "Resource temporarily unavailable")] * 2
    start = restarting.subprocess.Popen

    def starting(*given: object, **more: object) -> object:
        if failures:
            raise failures.pop()
        return start(*given, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(restarting.subprocess, "Popen", starting)
    assert lives(tmp_path, "sys.exit(0)") == (1, 0)


HUNG_UP = """
import signal, sys, time
from pathlib import Path
from zwrap.cli.restarting import tell_orderly_end
tell_orderly_end()
said = Path({file!r})
for number, word in ((signal.SIGHUP, "again "), (signal.SIGTERM, "end ")):
    def handle(number, frame, word=word):
        with said.open("a") as file:
            file.write(word)
        if number == signal.SIGTERM:
            sys.exit(0)
    signal.signal(number, handle)
said.write_text("ready ")
while True:
    time.sleep(0.01)
"""


@pytest.fixture
def usual_signals() -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("usual_signals")
def test_a_child_that_reads_its_configuration_again_lives_on_after_a_hangup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarting, "has_terminal", lambda: False)
    file = tmp_path / "said"

    def send() -> None:
        for word, number in (("ready ", signal.SIGHUP), ("again ", signal.SIGTERM)):
            deadline = time.monotonic() + 20
            while not (file.exists() and word in file.read_text()) and time.monotonic() < deadline:
                time.sleep(0.01)
            os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    status = restarted([["-c", HUNG_UP.format(file=str(file))]], renewed=True)
    thread.join()
    assert (status, file.read_text()) == (0, "ready again end ")
