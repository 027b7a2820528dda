"""Clusters that python-zocalo's plugins `slurm` and `iris` describe: a slurmrestd each."""

from __future__ import annotations

from collections.abc import Mapping

from zwrap.configuration.clusters import ClusterSettings
from zwrap.configuration.site import Configuration

KEYS = ("url", "api_version", "user", "user_token")
"""Keys of the plugins that are options of a cluster of ours, too."""


def clusters_of_zocalo(configuration: Configuration) -> dict[str, ClusterSettings]:
    """Return the described clusters by the name of their plugin."""
    found = {}
    for name in ("slurm", "iris"):
        given: Mapping[str, object] = getattr(configuration, name) or {}
        options = {key: given[key] for key in KEYS if given.get(key)}
        if options:
            place = f"Plugin {name!r}"
            found[name] = ClusterSettings(kind="slurmrest", options=options, place=place)
    return found
