"""`zwrap clusters`: show the clusters of the site, whether they answer, and their jobs."""

from __future__ import annotations

import argparse
from collections import Counter

from zwrap.calls.ask import ask
from zwrap.cli.output import show
from zwrap.configuration.site import Configuration
from zwrap.errors import ZwrapError
from zwrap.job import Limits
from zwrap.submission.clusters import Cluster, Clusters

KEYS = (
    "cluster", "kind", "default", "pending", "running", "suspended", "max_jobs", "limit",
    "array_limit", "state",
)  # fmt: skip
COLUMNS = {key: key.replace("_", " ") for key in KEYS}


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("NAME", nargs="*", help="cluster to show; default: all of the site")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Ask each cluster once, and show its answer."""
    clusters = Clusters(configuration)
    names = options.NAME or clusters.shown()
    rows = [_row(clusters.get(name), clusters.default) for name in names]
    show(rows, COLUMNS, as_json=options.json)
    return 0


def _row(cluster: Cluster, default: str) -> dict[str, object]:
    """Return the row of a cluster; one that cannot be asked is `away`, with the reason."""
    row: dict[str, object] = dict.fromkeys(KEYS)
    row |= {
        "cluster": cluster.name,
        "kind": cluster.settings.kind,
        "max_jobs": cluster.settings.max_jobs,
    }
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
