"""`zocalo.queue_monitor`, `zocalo.status_monitor`: show queues, or live services and wrappers."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from zwrap.cli.common import program
from zwrap.cli.output import show_always, show_table, table
from zwrap.configuration.site import Configuration
from zwrap.message.content import LAST_STATUSES, STATUS_TOPIC
from zwrap.transport.connect import connect
from zwrap.transport.contract import Transport
from zwrap.transport.inspector import Inspector
from zwrap.units import LONGEST_S, duration

FORGOTTEN_S = 15.0
"""Silence after which a service or wrapper counts as gone, in seconds."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--once", action="store_true", help="print one table, and end")
    parser.add_argument(
        "--interval", type=float, default=2.0, metavar="S", help="default %(default)s s"
    )


Rows = list[tuple[object, ...]]
QUEUE_TITLES = ("queue", "waiting", "dead letters")
PARTICIPANT_TITLES = ("host", "service or task", "status", "job", "recipe", "progress")


def queue_rows(inspector: Inspector) -> Rows:
    """Return queues with the numbers of waiting messages and dead letters."""
    dead = inspector.dead_letters()
    waiting = {**dict.fromkeys(dead, 0), **inspector.queues()}
    return [(queue, count, dead.get(queue, 0)) for queue, count in waiting.items()]


class Participants:
    """Services and wrappers that sent a status message lately."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._heard: dict[str, tuple[float, dict[str, object]]] = {}
        transport.subscribe_topic(STATUS_TOPIC)

    def rows(self) -> Rows:
        """Receive status messages; return one row per service or wrapper."""
        while said := self._transport.receive(0):
            body = said.message.body
            if isinstance(body, dict) and isinstance(body.get("host"), str):
                self._heard[body["host"]] = (time.monotonic(), body)
        rows: Rows = []
        for host, (heard_at, body) in sorted(self._heard.items()):
            silent_s = time.monotonic() - heard_at
            if silent_s > (2 if body.get("status") in LAST_STATUSES else FORGOTTEN_S):
                del self._heard[host]
                continue
            name = body.get("service") or body.get("task")
            facts = (body.get(key) for key in ("statustext", "cluster_JOB_ID", "recipe_ID"))
            rows.append((host, name, *facts, _progress(body)))
        return rows


def _progress(body: Mapping[str, object]) -> str | None:
    """Return the progress in a heartbeat, with the time left if it is known; None: it has none."""
    text, left_s = body.get("progress"), body.get("remaining_s")
    if not isinstance(text, str):
        return None
    if isinstance(left_s, (int, float)) and 0 <= left_s <= LONGEST_S:
        return f"{text}, {duration(left_s)} left"
    return text


def _displayed(options: argparse.Namespace, titles: Sequence[str], rows: Callable[[], Rows]) -> int:
    """Print a table once, or print it anew at each interval until interrupted."""
    if options.once:
        show_table(titles, rows())
        return 0
    with contextlib.suppress(KeyboardInterrupt):
        show_always(lambda: table(titles, rows()), options.interval)
    return 0


def _show_queues(configuration: Configuration, options: argparse.Namespace) -> int:
    """Carry out `zocalo.queue_monitor`."""
    with connect(configuration, options.transport) as transport:
        inspector = transport.inspector()
        return _displayed(options, QUEUE_TITLES, lambda: queue_rows(inspector))


def _show_participants(configuration: Configuration, options: argparse.Namespace) -> int:
    """Carry out `zocalo.status_monitor`."""
    with connect(configuration, options.transport) as transport:
        return _displayed(options, PARTICIPANT_TITLES, Participants(transport).rows)


queue_monitor = program(
    "zocalo.queue_monitor", "Show queues and their dead letters.", declare, _show_queues
)
status_monitor = program(
    "zocalo.status_monitor", "Show services and wrappers at work.", declare, _show_participants
)

if __name__ == "__main__":
    sys.exit(queue_monitor())
