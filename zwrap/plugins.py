"""What is found by name: own parts from one table, those of others through entry points.

`setup.py` registers the same table as entry points, so that other tools find zwrap's parts; zwrap
itself looks here first, because reading the entry points of all installed packages takes longer
than the whole start of `zocalo.wrap`. This module must import nothing of zwrap.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
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
    # In the order in which they look for a job of theirs where nothing names the batch system.
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
        "ledger": "zwrap.configuration.ledger:Ledger",
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
    # Nothing of our own: here a site hangs its functions into the Dispatcher.
    DISPATCHER_READY: {},
    DISPATCHER_FILTERS: {},
}


def names(group: str) -> list[str]:
    """Names of everything installed in a group."""
    return sorted({*OWN.get(group, {}), *(entry.name for entry in _entries(group))})


def find(group: str, name: str) -> Any:
    """The object of that name in a group; None if nothing of that name is installed."""
    own = OWN.get(group, {}).get(name)
    if own:
        return pkgutil.resolve_name(own)
    for entry in _entries(group):
        if entry.name == name:
            return entry.load()
    return None


def foreign(group: str) -> list[Any]:
    """The objects that others installed in a group, by name."""
    own = OWN.get(group, {})
    entries = sorted(_entries(group), key=lambda entry: str(entry.name))
    return [entry.load() for entry in entries if entry.name not in own]


class Entry(NamedTuple):
    """One entry point (packaging.python.org/specifications/entry-points)."""

    name: str
    value: str

    def load(self) -> Any:
        """The object."""
        return pkgutil.resolve_name(self.value.partition("[")[0].strip())


def _entries(group: str) -> list[Any]:
    """Entry points of a group, of each package once: that which is first on the path.

    The same as importlib.metadata, without what it takes to load that (20 ms). Archives on the
    path, and eggs, are left to it.
    """
    found: dict[str, list[Entry]] = {}
    for place in sys.path:
        try:
            names = os.listdir(place or ".")
        except NotADirectoryError:
            names = [".egg"]
        except OSError:
            continue
        for name in names:
            if name.endswith(".egg"):
                from importlib import metadata

                return list(metadata.entry_points(group=group))
            if name.endswith((".dist-info", ".egg-info")):
                package = name.partition("-")[0].partition(".")[0].lower()
                found.setdefault(package, _declared(group, Path(place, name, "entry_points.txt")))
    return [entry for entries in found.values() for entry in entries]


def _declared(group: str, file: Path) -> list[Entry]:
    """What a package declares in a group."""
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
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package that gives names when they are asked for.

    `names` maps each name to the module in which it lives. Importing the package loads none of
    them, so that no module waits for its neighbours.
    """

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(names[name]), name)

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *names})

    return get, listed
