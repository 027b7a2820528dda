"""`zwrap clusters`: which clusters there are, whether they answer, and what they have to do."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table

from zwrap.calls.ask import ask
from zwrap.cli.common import say
from zwrap.configuration.site import Configuration
from zwrap.errors import ZwrapError
from zwrap.job import Limits
from zwrap.message import encode
from zwrap.submission.clusters import Cluster, Clusters

COLUMNS = (
    "cluster", "kind", "default", "pending", "running", "suspended", "max_jobs", "limit",
    "array_limit", "state",
)  # fmt: skip


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("NAME", nargs="*", help="these, else all that the site describes")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Ask each cluster once."""
    clusters = Clusters(configuration)
    names = options.NAME or sorted({*clusters.described(), clusters.default})
    rows = [_row(clusters.get(name), clusters.default) for name in names]
    if options.json:
        for row in rows:
            say(encode(row).decode())
        return 0
    table = Table(*(name.replace("_", " ") for name in COLUMNS))
    for row in rows:
        table.add_row(*("" if row[name] is None else str(row[name]) for name in COLUMNS))
    terminal = Console()
    (terminal if terminal.is_terminal else Console(width=200)).print(table)
    return 0


def _row(cluster: Cluster, default: str) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {"cluster": cluster.name, "kind": cluster.kind, "max_jobs": cluster.max_jobs}
    row["default"] = "yes" if cluster.name == default else None
    try:
        live = ask(cluster.scheduler.states())
        told = cluster.scheduler.limits()
        allowed = told if isinstance(told, Limits) else ask(told)
    except ZwrapError as error:
        return {**row, "state": f"away: {error}"}
    states = Counter(status.state.value for status in live.values())
    counted = {name: states[name] for name in ("pending", "running", "suspended")}
    limits = {"limit": allowed.submitted_jobs, "array_limit": allowed.array_size}
    return {**row, **counted, **limits, "state": "up"}
