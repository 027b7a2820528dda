"""Writing of messages to queues and topics of the spool, those for one queue in one go."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zwrap.message.content import Outgoing
from zwrap.transport.refused import kept_whole
from zwrap.transport.sending import encoded, tell_without_exchange
from zwrap.transport.spool.content import check_times, written
from zwrap.transport.spool.files import named
from zwrap.transport.spool.parallel import do_all
from zwrap.transport.spool.queue import SpoolQueue
from zwrap.transport.spool.topic import SpoolTopic

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

FEW, QUEUES = 3, 16
"""Largest number of queues that are written one after the other, and number of those that are
written in parallel otherwise."""


class Publishing:
    """The sending half of a spool.

    Args:
        root: Directory of the spool.
        queue: Function that returns the directory of a queue.
        topic: Function that returns the directory of a topic.
        wait_s: Time to wait, in all, for room in full queues, in seconds.
    """

    def __init__(
        self,
        root: Path,
        queue: Callable[[str], SpoolQueue],
        topic: Callable[[str], SpoolTopic],
        wait_s: float,
    ) -> None:
        self._root = root
        self._queue = queue
        self._topic = topic
        self.wait_s = wait_s
        """Rest of the time to wait for room in full queues, in seconds."""

    def publish(self, messages: Sequence[Outgoing], *, unit: bool) -> None:
        """Encode all messages, then write them if there is room for all of them.

        `unit`: True if they follow from a delivery; what is refused for good is kept then.
        """
        queues: dict[tuple[SpoolQueue, float, float], list[tuple[Outgoing, bytes]]] = {}
        broadcasts: list[tuple[SpoolTopic, bytes, Outgoing]] = []
        for message in messages:
            with kept_whole(message, unit=unit):
                content = encoded(message, written(message))
                check_times(message)
                if message.topic:
                    broadcasts.append((self._topic(message.destination), content, message))
                else:
                    if message.exchange:
                        tell_without_exchange("The spool", message.exchange, message.destination)
                    queue = self._queue(message.destination)
                    key = (queue, message.delay_s, message.expires_s or 0.0)
                    queues.setdefault(key, []).append((message, content))
        for (queue, _, _), batch in queues.items():
            self._wait_for_room(queue, len(batch))
        for topic, content, message in broadcasts:
            topic.publish(content, message.expires_s, message.replaces)

        def write(
            queue: SpoolQueue, delay_s: float, expires_s: float, batch: list[tuple[Outgoing, bytes]]
        ) -> None:
            with kept_whole(*(each for each, _ in batch), unit=unit), named(self._root):
                queue.write([each for _, each in batch], delay_s=delay_s, expires_s=expires_s)

        writes: dict[SpoolQueue, list[Callable[[], None]]] = {}
        for (queue, delay_s, expires_s), batch in queues.items():
            writes.setdefault(queue, []).append(partial(write, queue, delay_s, expires_s, batch))
        _all([*writes.values()])

    def _wait_for_room(self, queue: SpoolQueue, count: int) -> None:
        """Wait for room in a queue, for the rest of the time that waits may take."""
        began = time.monotonic()
        queue.limit_wait_s = self.wait_s
        try:
            queue.wait_for_room(count)
        finally:
            self.wait_s = max(0.0, self.wait_s - (time.monotonic() - began))


def _all(writes: Sequence[Sequence[Callable[[], None]]]) -> None:
    """Do what is to be written to each of several queues, to many of them in parallel."""
    if len(writes) <= FEW:
        for of_one in writes:
            _in_order(of_one)
        return
    do_all([partial(_in_order, of_one) for of_one in writes], _threads(), QUEUES)


def _in_order(writes: Sequence[Callable[[], None]]) -> None:
    """Do what is to be written to one queue."""
    for write in writes:
        write()


@functools.cache
def _threads() -> ThreadPoolExecutor:
    """Return the threads that write to several queues."""
    from concurrent.futures import ThreadPoolExecutor  # wrappers start sooner without

    return ThreadPoolExecutor(QUEUES, "spool queues")


os.register_at_fork(after_in_child=_threads.cache_clear)  # a child has none of the threads
