"""A cluster that is watched, with a batch system that says what it is told to say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.errors import UnreachableError
from zwrap.job import Cause, JobStatus, State
from zwrap.scheduler import ArrayForm, Command, Question
from zwrap.service.watcher.cluster import WatchedCluster
from zwrap.transport.memory import MemoryTransport


class Clock:
    """Tells the time that it is told to tell."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Told:
    """A batch system that says what it is told to say."""

    arrays = ArrayForm("_", "TASK")

    error_patterns: ClassVar[dict[str, Cause]] = {}

    def __init__(self) -> None:
        self.live: dict[str, JobStatus] = {}
        self.ended: dict[str, JobStatus] = {}
        self.reachable = True
        self.questions: list[str] = []
        self.named: list[JobStatus] = []
        """Answer to `find`."""
        self.cancelled: list[list[str]] = []
        self.can_cancel = True

    def _answer(self, name: str, value: Any) -> Any:
        def read(reply: object) -> Any:
            self.questions.append(name)
            if not self.reachable:
                raise UnreachableError("It could not be asked.")
            return dict(value)

        return Question(Command(argv=["true"]), read)

    def states(self) -> Any:
        return self._answer("states", self.live)

    def accounting(self, gone_s: Any) -> Any:
        return self._answer("accounting", self.ended)

    def find(self, name: str) -> Any:
        return Question(
            Command(argv=["true"]), lambda _: [each for each in self.named if each.name == name]
        )

    def cancel(self, job_ids: Sequence[str]) -> Any:
        def read(reply: object) -> None:
            if not self.can_cancel:
                raise UnreachableError("It could not be asked.")
            self.cancelled.append(list(job_ids))

        return Question(Command(argv=["true"]), read)


def status(job_id: str, state: State, **values: Any) -> JobStatus:
    return JobStatus(**{"job_id": job_id, "name": f"n.t{job_id}-1", "state": state, **values})


def told(transport: MemoryTransport, topic: str) -> list[Any]:
    bodies = []
    while delivery := transport.receive(0.01):
        if delivery.source == topic:
            bodies.append(delivery.message.body)
    return bodies


def turn(watch: WatchedCluster, ledger: Ledger) -> None:
    """Do what the Watcher does when a cluster is due."""
    attempts = ledger.unconcluded("c")
    watch.look([each for each in attempts if each.ended is None])
    watch.conclude([each for each in attempts if each.ended is not None])
