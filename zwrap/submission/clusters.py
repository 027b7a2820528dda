"""The clusters of a site, by name: the code that talks to each, its template and its defaults.

A name that the site does not describe means the batch system of that kind as the environment
shows it: ``local``, ``slurm`` (SLURM_CONF) and ``sge`` (SGE_ROOT) need no description. Plugins
`slurm` and `iris` of python-zocalo describe a slurmrestd under their name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from zwrap import plugins
from zwrap.configuration.clusters import OWN, ClusterSettings, Policy, of_site
from zwrap.configuration.site import Configuration
from zwrap.configuration.zocalo_clusters import clusters_of_zocalo
from zwrap.errors import ConfigurationError, UnknownNameError
from zwrap.scheduler import Scheduler

DEFAULT = "local"


class Cluster(msgspec.Struct, frozen=True):
    """One batch system of the site."""

    name: str
    kind: str
    scheduler: Scheduler
    template: str
    defaults: Mapping[str, Any]
    max_jobs: int | None = None
    watch_s: float = 30.0
    give_up_s: float = 600.0
    retry: Policy | None = None
    stalled_s: float = 60.0
    lost_s: float = 900.0
    shared_filesystem: bool = True


class Clusters:
    """All batch systems of a site; each is loaded when it is first asked for."""

    def __init__(self, configuration: Configuration) -> None:
        self._described = {**clusters_of_zocalo(configuration), **(configuration.clusters or {})}
        self._loaded: dict[str, Cluster] = {}
        self.default = str((configuration.storage or {}).get("scheduler") or DEFAULT)
        """Name of the cluster of a step that names none."""

    def names(self) -> list[str]:
        """Names of the described clusters, and of what needs no description."""
        return sorted({*self._described, *plugins.names(plugins.SCHEDULERS)})

    def described(self) -> list[str]:
        """Names of the clusters that the site describes; without any its default."""
        return sorted(self._described) or [self.default]

    @property
    def any_remote(self) -> bool:
        """Whether there is one whose nodes share no filesystem with this host."""
        return not all(each.shared_filesystem for each in self._described.values())

    def get(self, name: str) -> Cluster:
        """The cluster of that name."""
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> Cluster:
        described = self._described.get(name)
        kind = described.kind if described else name
        found = plugins.find(plugins.SCHEDULERS, kind)
        if found is None and described:
            known = plugins.names(plugins.SCHEDULERS)
            raise UnknownNameError("kind of cluster", kind, known, described.place)
        if found is None:
            raise UnknownNameError("scheduler", name, self.names())
        whole = completed(found, described.place if described else f"Cluster {name!r}")
        scheduler = whole(name, _options(name, whole.options_type, described))
        if described is None:
            return Cluster(name, kind, scheduler, scheduler.template, {})
        template = described.template or scheduler.template
        return Cluster(
            name,
            kind,
            scheduler,
            template,
            described.defaults,
            described.max_jobs,
            described.watch_s,
            described.give_up_s,
            of_site(described.retry, described.place),
            described.stalled_s,
            described.lost_s,
            described.shared_filesystem,
        )


def completed(kind: type, where: str) -> type[Scheduler]:
    """Return the class of a batch system with what `Scheduler` gives to classes that lack it.

    A class need not inherit from `Scheduler`. `where` begins the message of a ConfigurationError,
    which is raised for a class that lacks what has no default.
    """
    own, named = issubclass(kind, Scheduler), {"__module__": kind.__module__}
    whole: type[Scheduler] = kind if own else type(kind.__name__, (kind, Scheduler), named)
    missing = sorted(whole.__abstractmethods__)
    if not isinstance(getattr(whole, "template", None), str):
        missing.append("template")
    if missing:
        raise ConfigurationError(
            f"{where}: the batch system {kind.__module__}.{kind.__qualname__} lacks "
            f"{', '.join(missing)}; the class zwrap.scheduler.Scheduler says what is expected."
        )
    return whole


def _options(name: str, kind: type[Any], described: ClusterSettings | None) -> Any:
    """The typed options of a kind of cluster, or ConfigurationError that says what is wrong."""
    given = described or ClusterSettings(kind=name, place=f"Cluster {name!r} is not described")
    try:
        return msgspec.convert(given.options, kind)
    except msgspec.ValidationError as error:
        fields = (*kind.__struct_fields__, *OWN)
        known = ", ".join(sorted(fields))
        raise ConfigurationError(
            f"{given.place}: {error}. Keys of a cluster of kind {given.kind!r}: {known}."
        ) from None
