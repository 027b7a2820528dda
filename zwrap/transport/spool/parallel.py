"""Writing in parallel: filesystems combine syncs that are made at the same time."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future


def do_all(tasks: Sequence[Callable[[], object]], executor: Executor, threads: int) -> None:
    """Do tasks on this thread and up to `threads` others.

    Each has been done once, and none is under way any more, when the first failure is raised: no
    file appears later than its writer, which may write it again, was told. Where no thread can be
    started this one does all of the work.
    """
    left = deque(enumerate(tasks))
    failures: dict[int, Exception] = {}

    def work() -> None:
        while left:
            try:
                number, task = left.popleft()
            except IndexError:  # another thread was first
                return
            try:
                task()
            except Exception as error:
                failures[number] = error

    helpers: list[Future[None]] = []
    with contextlib.suppress(RuntimeError):  # what was not begun finds nothing left to do
        helpers.extend(executor.submit(work) for _ in range(min(threads, len(tasks) - 1)))
    try:
        work()
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.result()
    if failures:
        raise failures[min(failures)]
