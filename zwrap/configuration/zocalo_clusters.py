"""Clusters that python-zocalo's plugins `slurm` and `iris` describe, each with a slurmrestd."""

from __future__ import annotations

from zwrap.configuration.clusters import ClusterSettings
from zwrap.configuration.sections import Site

KEYS = ("url", "api_version", "user", "user_token")
"""Keys of the plugins that are options of a cluster of zwrap, too."""

USUAL = "slurm"
"""Name of the cluster for steps that name none, in Diamond's cluster submission service."""


def clusters_of_zocalo(site: Site) -> dict[str, ClusterSettings]:
    """Return the described clusters by the name of their plugin."""
    found = {}
    for name, given in (("slurm", site.slurm), ("iris", site.iris)):
        if given is not None:
            options = {key: value for key in KEYS if (value := getattr(given, key))}
            place = f"Plugin {name!r}"
            found[name] = ClusterSettings(kind="slurmrest", options=options, place=place)
    return found
