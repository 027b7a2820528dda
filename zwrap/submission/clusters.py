"""The clusters of a site, by name: the scheduler of each, its template and its defaults.

A name that the site does not describe stands for the batch system of that kind that the environment
selects: ``local``, ``slurm`` (SLURM_CONF) and ``sge`` (SGE_ROOT) need no description. Plugins
`slurm` and `iris` of python-zocalo each describe a slurmrestd under their name. A step that names
no cluster means the site's default, else the only cluster that it describes, or of several the one
called `slurm`. Only where none is described it means this machine.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from zwrap.configuration.clusters import OWN, ClusterSettings
from zwrap.configuration.site import Configuration
from zwrap.configuration.zocalo_clusters import USUAL, clusters_of_zocalo
from zwrap.errors import ConfigurationError, RequestError, UnknownNameError
from zwrap.host.beneath import ANYWHERE, AllowedDirectories
from zwrap.message.jsontext import typed
from zwrap.message.limits import DEFAULTS, Limits
from zwrap.plugins import registry
from zwrap.scheduler import Options, Scheduler

UNDESCRIBED = "local"
"""Name of the cluster for steps that name none, where the site describes no cluster."""


class Cluster(msgspec.Struct, frozen=True):
    """One batch system of the site."""

    name: str
    settings: ClusterSettings
    """Description of the cluster in the site file."""
    scheduler: Scheduler
    limits: Limits = DEFAULTS
    """Limits of the site."""
    allowed: AllowedDirectories = ANYWHERE
    """Directories of the site below which messages may name paths."""

    @property
    def template(self) -> str:
        """File name of the job script template."""
        return self.settings.template or self.scheduler.template


class Clusters:
    """All clusters of a site; each batch system is loaded when it is first used."""

    def __init__(self, configuration: Configuration) -> None:
        site = self._site = configuration.site
        self._described = {**clusters_of_zocalo(site), **site.clusters}
        self._loaded: dict[str, Cluster] = {}
        self.default = site.scheduler or _default_of(self._described)
        """Name of the cluster for steps that name none; empty: they are refused, because the site
        describes several clusters and chooses none."""

    def names(self) -> list[str]:
        """Return the names of described clusters, and of those that need no description."""
        return sorted({*self._described, *registry.names(registry.SCHEDULERS)})

    def described(self) -> list[str]:
        """Return the names of the clusters that the site describes, else its default."""
        return sorted(self._described) or [self.default]

    def shown(self) -> list[str]:
        """Return the names of the described clusters, and of the default if there is one."""
        return sorted({*self.described(), *filter(None, [self.default])})

    @property
    def missing_default(self) -> str:
        """A sentence about the want of a default; empty: there is one."""
        if self.default:
            return ""
        return (
            f"Steps that name no cluster are refused: of the clusters {', '.join(self.described())}"
            " none is named under storage key 'scheduler' (as 'scheduler: local' such steps run on "
            "the host of the service, see docs/site.md)."
        )

    @property
    def any_remote(self) -> bool:
        """True if the nodes of a cluster share no filesystem with this host."""
        return not all(each.shared_filesystem for each in self._described.values())

    def get(self, name: str) -> Cluster:
        """Return the cluster of that name, and load its batch system if it is not loaded yet.

        Raises:
            RequestError: The name is empty, because neither step nor site chooses a cluster.
            UnknownNameError: There is no cluster, or no kind of cluster, of that name.
            ConfigurationError: Its options, or the class of its batch system, are wrong.
        """
        if not name:
            raise RequestError(
                "The step names no cluster, and the site describes several: "
                f"{', '.join(self.described())}. Name one in the step (key 'scheduler'), or for "
                "all such steps in the site file (storage key 'scheduler'; as 'scheduler: local' "
                "they run on the host of the service)."
            )
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> Cluster:
        """Load the batch system of a cluster."""
        known = self._described.get(name)
        settings = known or ClusterSettings(kind=name, place=f"Cluster {name!r} is not described")
        found = registry.find_preferred(registry.SCHEDULERS, settings.kind)
        if found is None and known:
            kinds = registry.names(registry.SCHEDULERS)
            raise UnknownNameError("kind of cluster", settings.kind, kinds, settings.place)
        if found is None:
            raise UnknownNameError("scheduler", name, self.names())
        whole = completed(found, settings.place)
        scheduler = whole(name, _options(whole.options_type, settings))
        return Cluster(name, settings, scheduler, self._site.limits, self._site.allowed)


def _default_of(described: Mapping[str, ClusterSettings]) -> str:
    """Return the name of the cluster for steps that name none, if the site does not give it.

    Empty: there are several, and none has a name that such steps mean elsewhere: under
    python-zocalo, or in this library, as long as the site itself describes that one.
    """
    if not described:
        return UNDESCRIBED
    if len(described) == 1:
        return next(iter(described))
    return next((name for name in (USUAL, UNDESCRIBED) if name in described), "")


def completed(kind: type, where: str) -> type[Scheduler]:
    """Return the class of a batch system as a subclass of `Scheduler`, whose defaults it gets.

    A class need not inherit from `Scheduler`. Raises ConfigurationError, whose message begins with
    `where`, for a class that lacks something without a default.
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


def _options(kind: type[Options], settings: ClusterSettings) -> Options:
    """Return the typed options of a cluster; ConfigurationError if they are wrong."""
    try:
        return typed(settings.options, kind)
    except msgspec.ValidationError as error:
        known = ", ".join(sorted((*kind.__struct_fields__, *OWN)))
        raise ConfigurationError(
            f"{settings.place}: {error}. Keys of a cluster of kind {settings.kind!r}: {known}."
        ) from None
