"""Batches of messages: how many a service is given at a time."""

from __future__ import annotations

from typing import Any

import pytest

from zwrap.configuration.site import Configuration
from zwrap.message.content import Message
from zwrap.service.contract import Service
from zwrap.service.intake import BATCH_BYTES, Intake
from zwrap.transport.contract import Delivery
from zwrap.transport.memory import MemoryTransport


class Batching(Service):
    """A service that handles messages in batches."""

    queue = "in"
    prefetch = 1000
    batch_size = 1000


class Sized(MemoryTransport):
    """Hands out messages that are said to have a size, in bytes."""

    def __init__(self, size: int, number: int) -> None:
        super().__init__()
        self.waiting = [
            Delivery(self, Message(n, {}, f"m{n}"), "in", delivery_count=1, topic=False, size=size)
            for n in range(number)
        ]

    def receive(self, timeout_s: float) -> Delivery | None:
        return self.waiting.pop(0) if self.waiting else None


@pytest.mark.parametrize(
    ("size", "batches"),
    [(20_000, [1, 999]), (0, [1, 999]), (BATCH_BYTES // 2 - 1, [1, *[3] * 333]),
     (BATCH_BYTES, [1] * 1000)],
)  # fmt: skip
def test_a_batch_of_large_messages_is_small(size: int, batches: list[int]) -> None:
    """Decoded, and as jobs, they need a multiple of their size."""
    transport: Any = Sized(size, 1000)
    intake = Intake(Batching(Configuration(), transport), transport, lambda _: None)
    found = []
    while first := transport.receive(0):
        found += [len(batch) for batch in intake.batches(first)]
    assert found == batches
