"""Plugin `clusters`: the batch systems of a site, each under its own name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from zwrap.errors import ConfigurationError, RequestError
from zwrap.job import Count, seconds

if TYPE_CHECKING:  # a job reads its policy of retries, and loads no YAML for it
    from zwrap.configuration.merging import Section


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a site says of one cluster."""

    kind: str
    """Name of the code that talks to it: local, slurm, sge, or a site's own."""
    template: str | None = None
    """Job script template; default: that of its kind."""
    defaults: dict[str, Any] = {}
    """Keys of a step's `cluster` block that hold where the step says nothing."""
    max_jobs: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """No more live jobs of the user at a time; further messages wait."""
    watch_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    """The Watcher asks about all jobs so often at most, in seconds; four times less often when
    nothing changes."""
    give_up_s: Annotated[float, msgspec.Meta(ge=0)] = 600.0
    """The Watcher cancels a job that has waited so long for what will never come, in seconds."""
    stalled_s: Annotated[float, msgspec.Meta(ge=0)] = 60.0
    """A running job whose wrapper is not heard of for so long is called stalled; 0: never."""
    lost_s: Annotated[float, msgspec.Meta(ge=0)] = 900.0
    """So long a job may be unknown to the batch system until it is lost, in seconds."""
    shared_filesystem: bool = True
    """Whether its nodes see the working directories under the same paths as the submit host."""
    retry: dict[str, Any] | None = None
    """Which deaths of jobs are followed by another attempt (`Policy`)."""
    options: dict[str, Any] = {}
    """All other keys: they are its kind's."""
    place: str = ""
    """File, line and key, for a complaint to begin with."""


OWN = (
    "kind",
    "template",
    "defaults",
    "max_jobs",
    "watch_s",
    "give_up_s",
    "stalled_s",
    "lost_s",
    "retry",
    "shared_filesystem",
)


class Clusters:
    """Several active sections are merged; a cluster of a later one replaces that of an earlier."""

    @classmethod
    def validate(cls, section: Section) -> None:
        """Raise ConfigurationError that names the first cluster that is described wrongly."""
        _read(section)

    @classmethod
    def activate(cls, section: Section, config_object: Any) -> dict[str, ClusterSettings]:
        """All clusters so far, by name."""
        return {**(config_object.clusters or {}), **_read(section)}


def _read(section: Section) -> dict[str, ClusterSettings]:
    described = {name: value for name, value in section.value.items() if name != "plugin"}
    return {str(name): _cluster(section, str(name), value) for name, value in described.items()}


def _cluster(section: Section, name: str, value: Any) -> ClusterSettings:
    if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
        raise ConfigurationError(
            f"{section.place(name)}: a cluster is a mapping with a text under 'kind' (local, "
            "slurm, sge, or a site's own)."
        )
    own = {key: value[key] for key in OWN if key in value}
    options = {str(key): item for key, item in value.items() if key not in OWN}
    own |= {"options": options, "place": section.place(name)}
    try:
        return msgspec.convert(own, ClusterSettings)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{section.place(name)}: {error}.") from None


Factor = Annotated[float, msgspec.Meta(ge=1)]


class Ceiling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a retry never asks for more of: memory in MB, and time."""

    memory_per_node: Count | None = None
    min_memory_per_cpu: Count | None = None
    time_limit: Any = None


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which deaths are followed by another attempt."""

    on: list[Literal["node_fail", "preempted", "out_of_memory", "timeout", "lost"]]
    limit: Count = 1
    """So many further attempts."""
    memory_factor: Factor = 1.5
    """So much more memory after `out_of_memory`."""
    walltime_factor: Factor = 1.5
    """So much more time after `timeout`."""
    ceiling: Ceiling = Ceiling()
    exclude_node: bool = False
    """Whether the node that failed is not to be used again."""


def policy_of(given: Any, site: Policy | None, where: str) -> Policy | None:
    """The policy of a step: its own, none (`false`), or the site's; RequestError if it is none."""
    if given is None:
        return site
    if given is False:
        return None
    try:
        return checked(given)
    except msgspec.ValidationError as error:
        raise RequestError(f"{where}, key 'retry': {error}. {EXPECTED}") from None


EXPECTED = (
    "Expected: 'on' (node_fail, preempted, out_of_memory, timeout, lost), 'limit', "
    "'memory_factor', 'walltime_factor', 'ceiling', 'exclude_node'; or false."
)


def checked(given: Any) -> Policy:
    """A policy; msgspec.ValidationError if it is none."""
    policy = msgspec.convert(given, Policy)
    if policy.ceiling.time_limit is not None:
        try:
            seconds(policy.ceiling.time_limit, "time_limit")
        except RequestError as error:
            raise msgspec.ValidationError(str(error).rstrip(".")) from None
    return policy


def of_site(given: Any, place: str) -> Policy | None:
    """The policy of a cluster's description."""
    try:
        return None if given in (None, False) else checked(given)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{place}, key 'retry': {error}. {EXPECTED}") from None
