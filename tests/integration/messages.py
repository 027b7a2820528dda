"""Consumers for tests that count what was lost and what came twice."""

from __future__ import annotations

import threading
from collections import Counter

from zwrap.message import Outgoing
from zwrap.transport import Transport


def forward(transport: Transport, seen: Counter[int], stop: threading.Event) -> None:
    """Send each message of queue `in` on to queue `out`."""
    while not stop.is_set():
        if delivery := transport.receive(0.2):
            seen[delivery.message.body] += 1
            with transport.unit(delivery) as unit:
                unit.send(Outgoing("out", delivery.message.body))


def drained(transport: Transport, queue: str) -> Counter[str]:
    """Ids of what waits in a queue, how often each."""
    transport.subscribe(queue, 500)
    ids: Counter[str] = Counter()
    while delivery := transport.receive(2):
        ids[delivery.message.id] += 1
        delivery.ack()
    transport.flush()
    return ids


FORWARDER = """
import sys
from zwrap.configuration import Configuration
from zwrap.message import Outgoing
from zwrap.transport.connect import connect
transport = connect(Configuration.from_string(sys.argv[1]).activate(), sys.argv[2])
transport.subscribe("in", 20)
while delivery := transport.receive(3):
    with transport.unit(delivery) as unit:
        unit.send(Outgoing("out", delivery.message.body))
transport.flush()
transport.close()
"""
"""A process that does the same until nothing more comes; arguments: site file, transport."""
