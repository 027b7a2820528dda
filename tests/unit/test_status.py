"""Rules of the status messages of a service."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from zwrap.configuration.site import Configuration
from zwrap.message.content import Status
from zwrap.service.contract import Service
from zwrap.service.status import ServiceStatus
from zwrap.transport.memory import MemoryTransport

from .clock import ManualClock


class Idle(Service):
    """A service that takes no messages."""


class Telling(MemoryTransport):
    """Calls `act` for each status message."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[Any] = []
        self.act: Callable[[], None] = lambda: None
        self.told = threading.Semaphore(0)

    def broadcast(self, topic: str, body: Any, *more: Any, **options: Any) -> None:
        self.bodies.append(body)
        self.told.release()
        self.act()


def test_the_status_is_told_whatever_becomes_of_one_message() -> None:
    transport = Telling()

    def act() -> None:
        transport.act = lambda: None
        raise RuntimeError("a fault of one message")

    transport.act = act
    status = ServiceStatus(Idle(Configuration(), transport), transport, None)
    with status:
        assert transport.told.acquire(timeout=10)
        status.set(Status.SHUTDOWN)
        assert transport.told.acquire(timeout=10)
    assert [body["status"] for body in transport.bodies] == [1, 5, 6]


def test_the_status_may_change_while_a_message_about_it_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transport, clock = Telling(), ManualClock()
    status = ServiceStatus(Idle(Configuration(), transport), transport, None, clock)

    def changed_meanwhile(share: float, digits: int) -> float:
        status.set(Status.PROCESSING)
        status.set(Status.IDLE)
        return round(share, digits)

    monkeypatch.setattr("zwrap.service.status.round", changed_meanwhile, raising=False)
    clock.move(3)
    status._broadcast(Status.STARTING)
    clock.move(1)
    status._broadcast(Status.IDLE)
    told = [body["utilization"] for body in transport.bodies]
    assert told == [{"1": 1.0}, {"1": 0.0, "4": 0.0, "2": 1.0}]


HELD_S = 0.1
"""Time in which a thread that is not held up has long been done, in seconds."""


@pytest.mark.parametrize("inside", ["set", "broadcast"])
def test_time_is_counted_by_one_thread_after_the_other(inside: str) -> None:
    """The status thread would end if another thread changed the dictionary while it reads it."""
    transport = Telling()
    tasks: list[Callable[[], None]] = [
        lambda: status.set(Status.IDLE),
        lambda: status._broadcast(Status.IDLE),
    ]
    work, others = tasks if inside == "set" else reversed(tasks)
    other = threading.Thread(target=others)
    waited: list[bool] = []

    def clock() -> float:
        """Return a time; at the first call in the work, let the other thread begin."""
        if began and not waited and threading.current_thread() is threading.main_thread():
            other.start()
            other.join(HELD_S)
            waited.append(other.is_alive())
        return 1000.0

    began = False
    status = ServiceStatus(Idle(Configuration(), transport), transport, None, clock)
    began = True
    work()
    other.join(10)
    assert waited == [True]
    assert not other.is_alive()
