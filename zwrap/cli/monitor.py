"""`zocalo.queue_monitor`, `zocalo.status_monitor`: show queues, or live services and wrappers."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.table import Table

from zwrap.cli.common import program
from zwrap.configuration.site import Configuration
from zwrap.message import LAST_STATUSES, STATUS_TOPIC
from zwrap.transport.connect import connect
from zwrap.transport.contract import Transport
from zwrap.transport.inspector import Inspector

FORGOTTEN_S = 15.0
"""Silence after which a service or wrapper counts as gone, in seconds."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--once", action="store_true", help="print one table, and end")
    parser.add_argument(
        "--interval", type=float, default=2.0, metavar="S", help="default %(default)s s"
    )


def queue_table(inspector: Inspector) -> Table:
    """Return queues with the numbers of waiting messages and dead letters."""
    table = Table("queue", "waiting", "dead letters")
    dead = inspector.dead_letters()
    for queue, waiting in {**dict.fromkeys(dead, 0), **inspector.queues()}.items():
        table.add_row(queue, str(waiting), str(dead.get(queue, 0)))
    return table


class Participants:
    """Services and wrappers that sent a status message lately."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._heard: dict[str, tuple[float, dict[str, object]]] = {}
        transport.subscribe_topic(STATUS_TOPIC)

    def table(self) -> Table:
        """Receive status messages; return a table with one row per service or wrapper."""
        while said := self._transport.receive(0):
            body = said.message.body
            if isinstance(body, dict) and isinstance(body.get("host"), str):
                self._heard[body["host"]] = (time.monotonic(), body)
        table = Table("host", "service or task", "status", "job", "recipe")
        for host, (heard_at, body) in sorted(self._heard.items()):
            ended = body.get("status") in LAST_STATUSES and time.monotonic() - heard_at > 2
            if time.monotonic() - heard_at > FORGOTTEN_S or ended:
                continue
            name = body.get("service") or body.get("task")
            cells = (
                name,
                body.get("statustext"),
                body.get("cluster_JOB_ID"),
                body.get("recipe_ID"),
            )
            table.add_row(host, *(str(cell) if cell is not None else "" for cell in cells))
        return table


def _displayed(options: argparse.Namespace, table: Callable[[], Table]) -> int:
    """Print a table once, or print it anew at each interval until interrupted."""
    console = Console()
    if options.once:
        console.print(table())
        return 0
    try:
        with Live(table(), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(options.interval)
                live.update(table(), refresh=True)
    except KeyboardInterrupt:
        return 0


def _show_queues(configuration: Configuration, options: argparse.Namespace) -> int:
    """Carry out `zocalo.queue_monitor`."""
    with connect(configuration, options.transport) as transport:
        inspector = transport.inspector()
        return _displayed(options, lambda: queue_table(inspector))


def _show_participants(configuration: Configuration, options: argparse.Namespace) -> int:
    """Carry out `zocalo.status_monitor`."""
    with connect(configuration, options.transport) as transport:
        return _displayed(options, Participants(transport).table)


queue_monitor = program(
    "zocalo.queue_monitor", "Show queues and their dead letters.", declare, _show_queues
)
status_monitor = program(
    "zocalo.status_monitor", "Show services and wrappers at work.", declare, _show_participants
)

if __name__ == "__main__":
    sys.exit(queue_monitor())
