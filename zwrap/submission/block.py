"""The `cluster` block of a step: its keys, and the resources that they ask for.

The keys are those of Diamond's cluster submission service, and further ones of sbatch(1), under
their names there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from zwrap.configuration.clusters import ClusterSettings
from zwrap.errors import RequestError, UnknownNameError
from zwrap.job import Count, Niceness, Priority, Resources
from zwrap.message.jsontext import typed
from zwrap.submission import values
from zwrap.submission.execution import check_environment
from zwrap.units import seconds


class ClusterBlock(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The `cluster` block of a step's parameters; values of type `object` have several forms."""

    commands: str | list[str]
    scheduler: str | None = None
    job_name: str | None = None
    environment: dict[str, object] | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    reservation: str | None = None
    nodes: Count | None = None
    tasks: Count | None = None
    ntasks_per_node: Count | None = None
    cpus_per_task: Count | None = None
    max_slots: Count | None = None
    """Largest number of slots that Grid Engine may give, from ``-pe smp 16-20``."""
    memory_per_node: object = None
    min_memory_per_cpu: object = None
    gpus: Count | None = None
    gpus_per_node: Count | None = None
    gres: str | None = None
    licenses: str | None = None
    time_limit: object = None
    begin: object = None
    dependency: object = None
    """Nodes of the recipe whose jobs must have succeeded before."""
    exclusive: object = False
    constraints: str | None = None
    prefer: str | None = None
    nodelist: str | None = None
    exclude: str | None = None
    nice: Niceness | None = None
    priority: Priority | None = None
    requeue: bool | None = None
    signal: str | None = None
    mail: str | None = None
    mail_on: object = None
    comment: str | None = None
    options: dict[str, object] | None = None
    """Further options of the batch system, of which the site allows some by name."""
    template: dict[str, object] | None = None
    """Values for the site's own job script template."""
    array: object = True
    """Numbers of the step's tasks; True if the job may be joined to others that wait."""


AS_GIVEN = (
    "nodes", "tasks", "ntasks_per_node", "cpus_per_task", "max_slots", "gpus", "gpus_per_node",
    "nice", "priority", "requeue",
)  # fmt: skip
"""Keys of numbers and truth values, which have the same name and value in `Resources`."""

WORDS = (
    "partition", "account", "qos", "reservation", "licenses", "constraints", "prefer", "comment",
)  # fmt: skip
"""Keys whose value is one word, under the same name in `Resources`."""


def check_defaults(settings: ClusterSettings, where: str) -> None:
    """Raise RequestError if a site's defaults for cluster blocks are not valid."""
    block = cluster_block({"commands": "true"}, settings.defaults, where)
    resources_of(block, where, settings.allowed_options)


def cluster_block(block: object, defaults: Mapping[str, object], where: str) -> ClusterBlock:
    """Return a cluster block, with `defaults` for missing keys.

    Raises RequestError, which begins with `where`, if it is wrong.
    """
    if not isinstance(block, Mapping):
        raise RequestError(f"{where}: an object with at least 'commands' is expected.")
    if not isinstance(defaults.get("array", True), bool):
        raise RequestError(f"{where}: the default of 'array' may be true or false.")
    merged = {**defaults, **block}
    for key in merged:
        if key not in ClusterBlock.__struct_fields__:
            raise UnknownNameError("key", key, ClusterBlock.__struct_fields__, where)
    try:
        cluster = typed(merged, ClusterBlock, strict=False)
    except (msgspec.ValidationError, OverflowError, ValueError) as error:
        raise RequestError(f"{where}: {error}.") from None
    if not cluster.commands:
        raise RequestError(f"{where}, key 'commands' is empty; shell text is expected.")
    return cluster


def environment_of(cluster: ClusterBlock, where: str) -> dict[str, str]:
    """Return the environment variables of a cluster block as text, which a job can have."""
    found = {name: str(value) for name, value in (cluster.environment or {}).items()}
    check_environment(found, f"{where}, environment")
    return found


def resources_of(
    cluster: ClusterBlock, where: str, allowed_options: Sequence[str] = ()
) -> Resources:
    """Return the resources of a cluster block, with units in the names.

    Raises RequestError, which begins with `where` and names the key, for a value of no use.
    `allowed_options`: names of options that steps may give on the cluster.
    """

    def place(key: str) -> str:
        return f"{where}, key {key!r}"

    found: dict[str, Any] = {key: getattr(cluster, key) for key in AS_GIVEN}
    for key, read in {**dict.fromkeys(WORDS, values.word), **READERS}.items():
        if (given := getattr(cluster, key)) not in (None, ""):
            found[key] = read(given, place(key))
    if cluster.memory_per_node is not None:
        given, at = cluster.memory_per_node, place("memory_per_node")
        found["memory_mib"] = values.memory_mib(given, at, zero=True)
    if cluster.min_memory_per_cpu is not None:
        given, at = cluster.min_memory_per_cpu, place("min_memory_per_cpu")
        found["memory_per_cpu_mib"] = values.memory_mib(given, at)
    if cluster.time_limit is not None:
        found["walltime_s"] = seconds(cluster.time_limit, place("time_limit"))
    if found.get("mail") and not found.get("mail_on"):
        found["mail_on"] = "end,fail"
    found["options"] = values.options(cluster.options or {}, allowed_options, place("options"))
    resources = Resources(**found)
    _check_slots(resources, place("max_slots"))
    return resources


READERS: Mapping[str, Callable[[Any, str], object]] = {
    "begin": values.begin,
    "exclude": values.nodes,
    "exclusive": values.exclusive,
    "gres": values.gres,
    "mail": values.mail,
    "mail_on": values.mail_on,
    "nodelist": values.nodes,
    "signal": values.signal,
}
"""Key to the reader of its value, which has the same name in `Resources`."""


def _check_slots(resources: Resources, where: str) -> None:
    """Raise RequestError unless the range of slots begins with the number that is asked for."""
    least = (resources.tasks or 1) * (resources.cpus_per_task or 1)
    if resources.max_slots is not None and resources.max_slots < least:
        raise RequestError(f"{where} is {resources.max_slots}; {least} or more are expected.")
