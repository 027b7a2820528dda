"""Workers written as functions: one function for each queue, and a way to send to it.

::

    from zwrap.worker import queue_json_publish, worker

    @worker("thumbnails", time_limit_s=60)
    def make_thumbnail(message):              # the JSON value that was sent
        ...

    @worker("counters", batch=100)
    def count(messages):                      # up to 100 in a batch, at the latest after 1 s
        ...

    queue_json_publish("thumbnails", {"file": "/data/1.h5"})

``zwrap process_queue`` runs them. If a function returns, its message is acknowledged; if it raises
an error, it gets the message again after 1, 2, 4, ... s. After `attempts` tries the message is a
dead letter, and a line in the queue's file of errors.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import msgspec

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, UnknownNameError
from zwrap.transport.connect import connect
from zwrap.transport.contract import Transport

TIME_LIMIT_S = 30.0
"""Default of the time limit of a call for each of its messages, in seconds."""

ATTEMPTS = 3
"""Default of the number of times that a message is tried."""

BATCH_WAIT_S = 1.0
"""Default of the time for which a batch waits for further messages, in seconds."""


class NamedFunction(Protocol):
    """A function of a site, which takes the value of a message, or a list of values."""

    __module__: str
    __qualname__: str

    def __call__(self, message: Any, /) -> object:  # noqa: ANN401 - what its author expects
        """Handle a message, or a batch of messages."""


Function = TypeVar("Function", bound=NamedFunction)


class SkipMessage(Exception):  # noqa: N818  (it is not an error)
    """A function has nothing to do for a message, which is acknowledged without further notice."""


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A function, its queue, and the way in which it gets messages."""

    queue: str
    function: NamedFunction
    batch: int | None = None
    """Largest number of messages in a batch; None: one at a time, and not in a list."""
    batch_wait_s: float = BATCH_WAIT_S
    """Time for which a batch waits for further messages, in seconds."""
    time_limit_s: float | None = TIME_LIMIT_S
    """Time limit for each message, in seconds; a batch has the sum. None: no limit."""
    attempts: int = ATTEMPTS
    """Number of times that a message is tried."""
    enabled: bool = True
    is_test_queue: bool = False

    @property
    def runs_with_all(self) -> bool:
        """True if the worker runs with ``process_queue --all``."""
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
    """Return a decorator that makes a function the worker of a queue.

    Args:
        queue: Name of the queue.
        batch: Largest number of messages in a batch, which the function gets as a list; None: it
            gets one message at a time.
        batch_wait_s: Time for which a batch waits for further messages, in seconds.
        time_limit_s: Time limit for each message, in seconds; None: no limit.
        attempts: Number of times that a message is tried.
        enabled: False if the worker runs only when it is named.
        is_test_queue: True if the worker runs only when it is named.

    Raises:
        ConfigurationError: An argument is wrong, or the queue has another worker already.
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


def _named(function: NamedFunction) -> str:
    """Return module and name of a function."""
    return f"{function.__module__}.{function.__qualname__}"


def load(modules: Iterable[str]) -> dict[str, Worker]:
    """Import modules and return the workers by queue; ConfigurationError if an import fails."""
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
    """Return the worker of a queue; UnknownNameError if it has none."""
    if queue not in workers:
        raise UnknownNameError("queue of a worker", queue, workers)
    return workers[queue]


_connection: list[tuple[int, Transport]] = []


def use(transport: Transport) -> None:
    """Let `queue_json_publish` use this connection."""
    _connection[:] = [(os.getpid(), transport)]


def queue_json_publish(queue: str, message: object, *, delay_s: float = 0.0) -> None:
    """Send a message to a queue; return when the transport has taken responsibility for it.

    The connection is that of the site configuration, opened at the first call in each process.

    Args:
        queue: Name of the queue.
        message: JSON value.
        delay_s: Time until the message may be received, in seconds.
    """
    if not _connection or _connection[0][0] != os.getpid():
        use(connect(Configuration.from_file().activate()))
    _connection[0][1].send(queue, message, delay_s=delay_s)
