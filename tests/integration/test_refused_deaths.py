"""A sender that dies at any call leaves an end that the next one tells once, and without doubt.

One result of a step that succeeded is refused after the verdict. A child sends the messages and
kills itself just before its n-th call that changes the disk, for every n until it gets through; the
Watcher sends the rest. Somebody is told of success or of failure, never of both.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.directory import SUBMISSION, JobDirectory
from zwrap.attempt.finals import OutboxError
from zwrap.attempt.progress import Progress
from zwrap.attempt.record import Attempt
from zwrap.attempt.refusals import AFTERWARDS, Ending
from zwrap.attempt.verdict import Verdict, final_messages
from zwrap.errors import QueueFullError
from zwrap.job import Outcome
from zwrap.message.content import Outgoing
from zwrap.message.jsontext import encode
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.service.watcher.conclusion import InDirectory
from zwrap.transport import mover
from zwrap.transport.failures import TooLargeError
from zwrap.transport.spool.queue import SpoolQueue
from zwrap.transport.spool.transport import SpoolTransport
from zwrap.wrapper.outbox import Outbox

from .test_spool_deaths import CALLS

REFUSED = TooLargeError("it is too large")
FULL = QueueFullError("it is full")


class Refusing(SpoolTransport):
    """Takes no result that is large, for a given reason."""

    def __init__(self, place: Path, error: Exception) -> None:
        super().__init__(place)
        self.error = error

    def send_each(self, messages: Sequence[Outgoing]) -> list[Exception | None]:
        good = [each for each in messages if each.destination != "large"]
        failures = iter(super().send_each(good))
        return [self.error if each.destination == "large" else next(failures) for each in messages]


def envelope() -> Envelope:
    output = {"success": 2, "failure": 3, "completed": 4}
    recipe: dict[str, Any] = {"start": [[1, []]], "1": {"queue": "job", "output": output}}
    recipe |= {str(n): {"queue": f"q{n}"} for n in range(2, 5)}
    return Envelope(Recipe(recipe), 1)


def ended(place: Path) -> JobDirectory:
    """Return the directory of a step that succeeded, with two results that wait."""
    directory = JobDirectory(place / "job")
    directory.make()
    submission = {"header": {}, "message": envelope().body()}
    (directory.path / SUBMISSION).write_bytes(encode(submission))
    mover.store(
        directory.outbox(), [Outgoing(name, 1, {"zwrap-id": name}) for name in ("good", "large")]
    )
    told = final_messages(envelope(), Outcome.SUCCESS, "finished", {})
    verdict = Verdict(
        token="t-1", outcome=Outcome.SUCCESS, witness="wrapper", cause="finished", job_id="7",
        exit_status=0, final=[each.with_id(f"final {n}") for n, each in enumerate(told)],
    )  # fmt: skip
    directory.put_verdict(verdict)
    return directory


def by_watcher(place: Path, error: Exception) -> Verdict | None:
    """Send the messages as the Watcher does."""
    attempt = Attempt(
        token="t-1", recipe_id="r", step=1, cluster="c", job_name="n", job_id="7",
        job_directory=str(place / "job"), seen_state="completed",
    )  # fmt: skip
    try:
        return InDirectory(Refusing(place / "spool", error)).find(attempt)
    except OutboxError:
        return None


def by_wrapper(place: Path, error: Exception) -> None:
    """Send the messages as the wrapper does at its end."""
    directory = JobDirectory(place / "job")
    verdict = directory.verdict()
    assert verdict
    outbox = Outbox(lambda: Refusing(place / "spool", error), directory, dict)
    outbox.start()
    outbox.end_with(Ending(verdict, Progress(directory.progress), directory, envelope()))
    if outbox.finish(10 if error is REFUSED else 0.1):
        directory.mark_sent()
    outbox.close()


def dying(act: Callable[[], object], place: Path, last: int) -> bool:
    """Let a child do something and die before its call number `last`; False: it got through."""
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        assert status in (0, signal.SIGKILL)
        return status != 0
    made = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **options: Any) -> Any:
            nonlocal made
            if str(place) in str(arguments[0]) or isinstance(arguments[0], int):
                made += 1
                if made == last:
                    os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return counting

    for name in (*CALLS, "replace"):
        setattr(os, name, counted(getattr(os, name)))
    try:
        act()
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)
    os._exit(0)


def said(place: Path) -> Iterator[tuple[str, str]]:
    """Yield the queue and the id of each message that was sent."""
    for queue in (place / "spool").iterdir():
        if (queue / "incoming").is_dir():
            for claimed in SpoolQueue(queue).peek():
                identity = json.loads(claimed.content)["headers"]["zwrap-id"]
                yield queue.name, identity


@pytest.mark.parametrize("error", [REFUSED, FULL], ids=["refused", "full before it is refused"])
@pytest.mark.parametrize("act", [by_watcher, by_wrapper])
def test_whenever_a_sender_dies_one_end_is_told(
    tmp_path: Path, act: Callable[[Path, Exception], object], error: Exception
) -> None:
    outcomes = set()
    for last in range(1, 500):
        place = tmp_path / str(last)
        directory = ended(place)
        died = dying(lambda: act(place, error), place, last)  # noqa: B023
        verdict = by_watcher(place, REFUSED)
        assert verdict == directory.verdict()
        assert verdict
        messages = set(said(place))
        queues = sorted(queue for queue, _ in messages)
        outcomes.add(verdict.outcome)
        if verdict.outcome is Outcome.SUCCESS:
            assert verdict.cause.startswith(AFTERWARDS)
            assert queues == ["good", "q2", "q4"], "each under one id"
        else:
            assert verdict.cause == "A result was refused: it is too large"
            assert queues == ["good", "q3", "q4"], "each under one id"
        if not died:
            break
    else:
        pytest.fail("the child never got through")
    assert last > 20, "the child's calls were not counted"
    assert outcomes == {Outcome.FAILURE} | ({Outcome.SUCCESS} if error is FULL else set())
