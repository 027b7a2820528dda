"""Workers written as functions: one function for each queue, and a helper to send to it.

::

    from zwrap.worker import queue_json_publish, worker

    @worker("thumbnails", time_limit_s=60)
    def make_thumbnail(message):              # whatever JSON was sent
        ...

    @worker("counters", batch=100)
    def count(messages):                      # up to 100 at once, at the latest after 1 s
        ...

    queue_json_publish("thumbnails", {"file": "/data/1.h5"})

``zwrap process_queue`` runs them. A function that returns is done with its message; one that raises
gets it again, later and later; after `attempts` times the message is a dead letter, and a line in
the queue's file of errors.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, UnknownNameError
from zwrap.message import JSON
from zwrap.transport.connect import connect
from zwrap.transport.contract import Transport

TIME_LIMIT_S = 30.0
ATTEMPTS = 3
BATCH_WAIT_S = 1.0

Function = TypeVar("Function", bound=Callable[[Any], Any])


class SkipMessage(Exception):  # noqa: N818  (it is no error)
    """Raised by a function that has nothing to do for a message: it is done with, silently."""


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A function, and how it wants its messages."""

    queue: str
    function: Callable[[Any], Any]
    batch: int | None = None
    """Most messages at once; None: one at a time, and not in a list."""
    batch_wait_s: float = BATCH_WAIT_S
    time_limit_s: float | None = TIME_LIMIT_S
    """For each message; a batch has as many times that. None: no limit."""
    attempts: int = ATTEMPTS
    enabled: bool = True
    is_test_queue: bool = False

    @property
    def runs_with_all(self) -> bool:
        """Whether it is meant when all are."""
        return self.enabled and not self.is_test_queue


_workers: dict[str, Worker] = {}


def worker(
    queue: str,
    *,
    batch: int | None = None,
    batch_wait_s: float = BATCH_WAIT_S,
    time_limit_s: float | None = TIME_LIMIT_S,
    attempts: int = ATTEMPTS,
    enabled: bool = True,
    is_test_queue: bool = False,
) -> Callable[[Function], Function]:
    """Make a function the worker of a queue.

    A worker that is not `enabled`, or whose queue is a test queue, runs only when it is named.
    ConfigurationError if a queue is missing or has another worker already.
    """
    if not isinstance(queue, str) or not queue:
        raise ConfigurationError(
            'A worker needs the name of its queue: @worker("thumbnails"), and not @worker.'
        )
    if (batch is not None and batch < 1) or attempts < 1 or (time_limit_s or 1) <= 0:
        raise ConfigurationError(
            f"Worker of queue {queue!r}: batch, attempts and time_limit_s must be above 0."
        )

    def declare(function: Function) -> Function:
        known = _workers.get(queue)
        if known and known.function.__qualname__ != function.__qualname__:
            raise ConfigurationError(
                f"Queue {queue!r} has two workers: {_named(known.function)} and {_named(function)}."
            )
        _workers[queue] = Worker(
            queue=queue, function=function, batch=batch, batch_wait_s=batch_wait_s,
            time_limit_s=time_limit_s, attempts=attempts, enabled=enabled,
            is_test_queue=is_test_queue,
        )  # fmt: skip
        return function

    return declare


def _named(function: Callable[[Any], Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def load(modules: Iterable[str]) -> dict[str, Worker]:
    """Import modules and return the workers of all queues."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ConfigurationError:
            raise
        except (Exception, SystemExit) as error:
            raise ConfigurationError(
                f"Module {module!r} of workers cannot be imported: {type(error).__name__}: {error}"
            ) from error
    return dict(_workers)


def find(queue: str, workers: dict[str, Worker]) -> Worker:
    """The worker of a queue."""
    if queue not in workers:
        raise UnknownNameError("queue of a worker", queue, workers)
    return workers[queue]


_connection: list[tuple[int, Transport]] = []


def use(transport: Transport) -> None:
    """Let `queue_json_publish` send over this connection."""
    _connection[:] = [(os.getpid(), transport)]


def queue_json_publish(queue: str, message: JSON, *, delay_s: float = 0.0) -> None:
    """Send a message to a queue; returns when the other side has taken responsibility for it.

    The connection is that of the site configuration, made at the first call in each process.
    """
    if not _connection or _connection[0][0] != os.getpid():
        use(connect(Configuration.from_file().activate()))
    _connection[0][1].send(queue, message, delay_s=delay_s)
