"""The parts that are found by name: zwrap's in a table, those of others by their entry points.

``setup.py`` registers the same table as entry points, so that other tools find zwrap's parts. zwrap
itself looks here first, because reading the entry points of all installed packages takes longer
than the whole start of `zocalo.wrap`. This module must import nothing of zwrap.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

SCHEDULERS = "zwrap.schedulers"
INSIDE = "zwrap.schedulers.inside"
TRANSPORTS = "workflows.transport"
SERVICES = "workflows.services"
WRAPPERS = "zocalo.wrappers"
CONFIGURATION = "zocalo.configuration.plugins"
DISPATCHER_READY = "zocalo.services.dispatcher.ready_for_processing"
DISPATCHER_FILTERS = "zocalo.services.dispatcher.filters"

OWN: dict[str, dict[str, str]] = {
    SCHEDULERS: {
        "local": "zwrap_schedulers.local:Local",
        "sge": "zwrap_schedulers.sge.sge:GridEngine",
        "slurm": "zwrap_schedulers.slurm.slurm:Slurm",
        "slurmrest": "zwrap_schedulers.slurm.rest:SlurmRest",
    },
    # In the order in which they are tried in a job whose batch system nothing names.
    INSIDE: {
        "slurm": "zwrap_schedulers.slurm.inside",
        "sge": "zwrap_schedulers.sge.inside",
        "local": "zwrap_schedulers.local_inside",
    },
    TRANSPORTS: {
        "PikaTransport": "zwrap.transport.rabbitmq.transport:RabbitMQTransport",
        "SpoolTransport": "zwrap.transport.spool.transport:SpoolTransport",
        "StompTransport": "zwrap.transport.stomp.transport:StompTransport",
    },
    SERVICES: {
        "Dispatcher": "zwrap.service.dispatcher:Dispatcher",
        "JSONLines": "zwrap.service.jsonlines:JSONLines",
        "Mailer": "zwrap.service.mailer:Mailer",
        "Runner": "zwrap.service.runner:Runner",
        "Schlockmeister": "zwrap.service.schlockmeister:Schlockmeister",
        "Submitter": "zwrap.service.submitter:Submitter",
        "Watcher": "zwrap.service.watcher.watcher:Watcher",
    },
    WRAPPERS: {"dummy": "zwrap.wrapper.python:DummyWrapper"},
    CONFIGURATION: {
        "clusters": "zwrap.configuration.clusters:Clusters",
        "consumers": "zwrap.configuration.core:Consumers",
        "graylog": "zwrap.configuration.logs:Graylog",
        "iris": "zwrap.configuration.core:Slurm",
        "jmx": "zwrap.configuration.core:JMX",
        "ledger": "zwrap.configuration.core:Ledger",
        "logging": "zwrap.configuration.logs:Logging",
        "pika": "zwrap.configuration.core:Pika",
        "rabbitmqapi": "zwrap.configuration.core:RabbitMQAPI",
        "slurm": "zwrap.configuration.core:Slurm",
        "smtp": "zwrap.configuration.core:SMTP",
        "spool": "zwrap.configuration.core:Spool",
        "stomp": "zwrap.configuration.core:Stomp",
        "storage": "zwrap.configuration.core:Storage",
        "transport": "zwrap.configuration.core:Transport",
        "workers": "zwrap.configuration.core:Workers",
    },
    # zwrap has none: in these groups a site adds functions to the Dispatcher.
    DISPATCHER_READY: {},
    DISPATCHER_FILTERS: {},
}


def names(group: str) -> list[str]:
    """Return the names of all objects that are installed in a group, sorted."""
    return sorted({*OWN.get(group, {}), *(entry.name for entry in _entries(group))})


def find(group: str, name: str) -> Any:  # noqa: ANN401 - each group holds another kind
    """Return the object of that name in a group; None if nothing of that name is installed.

    Raises whatever the import of its module raises.
    """
    own = OWN.get(group, {}).get(name)
    if own:
        return pkgutil.resolve_name(own)
    for entry in _entries(group):
        if entry.name == name:
            return entry.load()
    return None


def foreign(group: str) -> list[Any]:
    """Return the objects that other distributions installed in a group, sorted by name."""
    own = OWN.get(group, {})
    entries = sorted(_entries(group), key=lambda entry: entry.name)
    return [entry.load() for entry in entries if entry.name not in own]


class Entry(NamedTuple):
    """One entry point (packaging.python.org/specifications/entry-points)."""

    name: str
    value: str

    def load(self) -> object:
        """Import the object and return it."""
        return pkgutil.resolve_name(self.value.partition("[")[0].strip())


def _entries(group: str) -> list[Entry]:
    """Return the entry points of a group, from the first copy of each distribution on the path.

    The result is that of importlib.metadata, without the 25 ms that loading it takes
    (`scripts/bench starting`). Archives on the path, and eggs, are left to importlib.metadata.
    """
    found: dict[str, list[Entry]] = {}
    for place in sys.path:
        try:
            files = os.listdir(place or ".")
        except NotADirectoryError:
            files = [".egg"]
        except OSError:
            continue
        for file in files:
            if file.endswith(".egg"):
                from importlib import metadata

                entries = metadata.entry_points(group=group)
                return [Entry(entry.name, entry.value) for entry in entries]
            if file.endswith((".dist-info", ".egg-info")):
                declared = _declared(group, Path(place, file, "entry_points.txt"))
                found.setdefault(_distribution(file), declared)
    return [entry for entries in found.values() for entry in entries]


def _distribution(directory: str) -> str:
    """Return the normalised name of the distribution whose metadata is in a directory.

    Source: packaging.python.org/specifications/recording-installed-packages; older tools leave dots
    and capital letters in the name of the directory.
    """
    name = directory.rpartition(".")[0].partition("-")[0]
    return re.sub(r"[-_.]+", "_", name).lower()


def _declared(group: str, file: Path) -> list[Entry]:
    """Return the entry points that one distribution declares in a group."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError:
        return []
    if f"[{group}]" not in text:
        return []
    section = text.partition(f"[{group}]")[2].partition("\n[")[0]
    lines = (line.strip() for line in section.splitlines())
    pairs = [line.partition("=") for line in lines if line and line[0] not in "#;"]
    return [Entry(name.strip(), value.strip()) for name, _, value in pairs]


def offer(
    package: str, names: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package that loads names when they are first used.

    Importing the package loads none of them, so that no module waits for its neighbours.

    Args:
        package: Full name of the package.
        names: Each offered name to the module in which it lives.
    """

    def get(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(names[name]), name)

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *names})

    return get, listed
