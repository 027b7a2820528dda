"""Plugin `clusters`: the batch systems of a site, each under its own name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec.structs import replace

from zwrap.configuration.joboptions import plain_name, why_not
from zwrap.errors import ConfigurationError, RequestError
from zwrap.job import Cause, Count
from zwrap.message.jsontext import typed
from zwrap.units import seconds

if TYPE_CHECKING:  # a short job without configuration loads no YAML
    from zwrap.configuration.merging import Section
    from zwrap.configuration.site import Configuration

SILENT_S = 60.0
"""Silence after which a wrapper is not heard any more, where `stalled_s` is 0, in seconds."""

LARGEST_FACTOR = 1000.0
"""Largest factor of a resource that a policy may name."""

Factor = Annotated[float, msgspec.Meta(ge=1)]


class Ceiling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Largest resources that a retry asks for: memory in MiB, and time as a duration."""

    memory_per_node: Count | None = None
    min_memory_per_cpu: Count | None = None
    time_limit: int | float | str | None = None


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Causes of death after which another attempt follows, and its resources.

    It is kept without its defaults: an earlier release refuses keys that it does not know.
    """

    on: list[Cause] = []
    limit: Count = 1
    """Number of further attempts."""
    memory_factor: Factor = 1.5
    """Ratio of the next attempt's memory to the last one's after `out_of_memory`."""
    walltime_factor: Factor = 1.5
    """Ratio of the next attempt's time limit to the last one's after `timeout`."""
    ceiling: Ceiling = Ceiling()
    exclude_node: bool = False
    """True if the node that failed is not used again."""
    corrections: bool | list[str] = False
    """True, or the labels of the known errors, if another attempt may follow an error of a program
    with the job parameters that its definition names as a correction."""


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The description of one cluster in a site file."""

    kind: str
    """Name of its batch system: local, slurm, slurmrest, sge, or a site's own."""
    template: str | None = None
    """File name of the job script template; None: that of its kind."""
    defaults: dict[str, object] = {}
    """Values of keys that a step's `cluster` block does not give."""
    max_jobs: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Largest number of live jobs of the user; further messages wait. None: no limit."""
    held_s: Annotated[float, msgspec.Meta(ge=0)] = 14 * 86_400.0
    """Longest time for which a job waits while its batch system does not take it, in seconds."""
    watch_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    """Shortest interval of the Watcher's questions about all jobs, in seconds; it grows up to 1.8
    times longer while nothing changes."""
    give_up_s: Annotated[float, msgspec.Meta(ge=0)] = 600.0
    """Time after which the Watcher cancels a job that waits for a reason that never passes, in
    seconds."""
    stalled_s: Annotated[float, msgspec.Meta(ge=0)] = 60.0
    """Silence of its wrapper after which a running job is called stalled, in seconds; 0: never."""
    lost_s: Annotated[float, msgspec.Meta(ge=0)] = 900.0
    """Time for which a job may be unknown to the batch system before it is lost, in seconds."""
    overtime_s: Annotated[float, msgspec.Meta(ge=0)] = 3600.0
    """Time beyond its time limit for which signs of its wrapper keep a job open that the batch
    system does not know any more, in seconds."""
    pending_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """Longest time for which a job may be pending, in seconds. None: no limit."""
    shared_filesystem: bool = True
    """True if its nodes see the working directories under the same paths as the submit host."""
    retry: Policy | None = None
    """Retry policy of steps without their own; None: no retries."""
    setup: Literal["strict", "lenient"] = "strict"
    """What follows when a line of the template's block `setup` fails: the end of the job, or the
    next line."""
    allowed_options: tuple[str, ...] = ()
    """Names of the batch system's options that steps may give, without dashes."""
    options: dict[str, object] = {}
    """All other keys; the scheduler of its kind decodes them when it is loaded."""
    place: str = ""
    """File, line and key of the description, with which messages about it begin."""

    @property
    def silent_s(self) -> float:
        """Silence after which a wrapper is not heard any more, in seconds."""
        return self.stalled_s or SILENT_S


PATHS = {"": ("programs",), "local": ("programs", "directory")}
"""Kind of a batch system to the keys whose values are paths; empty: of any kind."""

OWN = tuple(name for name in ClusterSettings.__struct_fields__ if name not in ("options", "place"))
"""Keys of a cluster that every kind has."""


class Clusters:
    """Plugin `clusters`, whose active sections are merged: a later cluster replaces an earlier."""

    @staticmethod
    def validate(section: Section) -> None:
        """Raise ConfigurationError, which names the first wrong cluster of a section."""
        described(section)

    @staticmethod
    def activate(config_object: Configuration) -> dict[str, ClusterSettings]:
        """Return the clusters of all sections activated so far, by name."""
        return dict(config_object.site.clusters)


def described(section: Section) -> dict[str, ClusterSettings]:
    """Return the clusters that a section describes, by name.

    Raises:
        ConfigurationError: A cluster is wrong; the text names its file, line and key.
    """
    given = {str(name): value for name, value in section.value.items() if name != "plugin"}
    base = section.source.base
    return {
        name: _with_checked_options(_cluster(value, section.place(name), base), section, name)
        for name, value in given.items()
    }


def _with_checked_options(
    settings: ClusterSettings, section: Section, name: str
) -> ClusterSettings:
    """Return settings with plain names of allowed options; ConfigurationError for a refused one."""
    for option in settings.allowed_options:
        if reason := why_not(option, settings.kind):
            place = section.place(name, "allowed_options")
            raise ConfigurationError(f"{place}: steps cannot give the option {option!r}: {reason}.")
    return replace(settings, allowed_options=tuple(map(plain_name, settings.allowed_options)))


def _cluster(value: object, place: str, base: Path) -> ClusterSettings:
    """Return the settings of one cluster; ConfigurationError if they are wrong.

    Relative paths in it start from `base`.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
        raise ConfigurationError(
            f"{place}: a cluster is a mapping with a text under 'kind' (local, slurm, slurmrest, "
            "sge, or a site's own)."
        )
    retry = of_site(value.get("retry"), place)
    own = {key: value[key] for key in OWN if key in value and key != "retry"}
    options = {str(key): item for key, item in value.items() if key not in OWN}
    for key in PATHS.get(str(value["kind"]), PATHS[""]):
        path = options.get(key)
        if isinstance(path, str) and path:
            options[key] = str((base / os.path.expanduser(path)).absolute())  # noqa: PTH111
    try:
        settings = typed({**own, "options": options, "place": place}, ClusterSettings)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{place}: {error}.") from None
    return replace(settings, retry=retry)


EXPECTED = (
    "Expected: 'on' (node_fail, preempted, out_of_memory, timeout, lost), 'limit', "
    "'memory_factor', 'walltime_factor', 'ceiling', 'exclude_node', 'corrections'; or false."
)


def policy_of(given: object, site: Policy | None, where: str) -> Policy | None:
    """Return the retry policy of a step: its own, none (`false`), or the site's.

    Raises:
        RequestError: The step's own policy is not valid; the text begins with `where`.
    """
    if given is None:
        return site
    return None if given is False else _policy(given, where)


def of_site(given: object, place: str) -> Policy | None:
    """Return the retry policy in the description of a cluster.

    Raises:
        ConfigurationError: The policy is not valid; the text begins with `place`.
    """
    try:
        return policy_of(given, None, place)
    except RequestError as error:
        raise ConfigurationError(str(error)) from None


def _policy(given: object, where: str) -> Policy:
    """Return a policy, the ceiling of its time limit in seconds; RequestError if it is wrong."""
    place = f"{where}, key 'retry'"
    if isinstance(given, dict):  # YAML reads a bare `on` as true
        given = {"on" if key is True else key: value for key, value in given.items()}
    try:
        policy = typed(given, Policy)
        if isinstance(given, dict) and "on" not in given and not policy.corrections:
            raise RequestError(f"{place}: Object missing required field `on` or `corrections`.")
        for key in ("memory_factor", "walltime_factor"):
            if not getattr(policy, key) <= LARGEST_FACTOR:
                raise RequestError(f"{place}: '{key}' is above {LARGEST_FACTOR:g}.")
        ceiling = policy.ceiling
        if ceiling.time_limit is None:
            return policy
        limit_s = seconds(ceiling.time_limit, f"{place}: 'ceiling.time_limit'")
    except msgspec.ValidationError as error:
        raise RequestError(f"{place}: {error}. {EXPECTED}") from None
    except RequestError as error:
        raise RequestError(f"{error} {EXPECTED}") from None
    return replace(policy, ceiling=replace(ceiling, time_limit=limit_s))
