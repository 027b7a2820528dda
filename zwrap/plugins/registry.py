"""The parts that are found by name: zwrap's own in a table, those of others by their entry points.

zwrap looks into the table first, because reading the entry points of all installed packages takes
longer than the whole start of `zocalo.wrap`. ``setup.py`` registers of it what `PUBLISHED` names:
commands, and what nobody else reads. In the groups of python-zocalo and python-workflows, which
make objects of what they find there, zwrap's parts would stop their programs.
"""

from __future__ import annotations

import logging
from typing import Any

from zwrap.plugins.entrypoints import Entry, entries, load

log = logging.getLogger(__name__)

PROGRAMS = "console_scripts"
SCHEDULERS = "zwrap.schedulers"
INSIDE = "zwrap.schedulers.inside"
TRANSPORTS = "workflows.transport"
SERVICES = "workflows.services"
WRAPPERS = "zocalo.wrappers"
CONFIGURATION = "zocalo.configuration.plugins"
DISPATCHER_READY = "zocalo.services.dispatcher.ready_for_processing"
DISPATCHER_FILTERS = "zocalo.services.dispatcher.filters"

PUBLISHED = (PROGRAMS, SCHEDULERS, INSIDE)
"""Groups in which zwrap registers its own parts."""

OWN: dict[str, dict[str, str]] = {
    PROGRAMS: {
        "zwrap": "zwrap.cli.start:main",
        "amqp-dispatcher": "zwrap.cli.amqp_dispatcher:main",
        "zocalo.configure_rabbitmq": "zwrap.cli.configure_rabbitmq:main",
        "zocalo.dlq_check": "zwrap.cli.dlq_check:main",
        "zocalo.dlq_purge": "zwrap.cli.dlq_purge:main",
        "zocalo.dlq_reinject": "zwrap.cli.dlq_reinject:main",
        "zocalo.go": "zwrap.cli.go:main",
        "zocalo.pickup": "zwrap.cli.pickup:main",
        "zocalo.queue_drain": "zwrap.cli.queue_drain:main",
        "zocalo.queue_monitor": "zwrap.cli.monitor:queue_monitor",
        "zocalo.service": "zwrap.cli.start:service",
        "zocalo.shutdown": "zwrap.cli.shutdown:main",
        "zocalo.status_monitor": "zwrap.cli.monitor:status_monitor",
        "zocalo.wrap": "zwrap.cli.start:wrap",
    },
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
        "ISPyB": "zwrap.service.ispyb.service:ISPyB",
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
        "ispyb": "zwrap.configuration.core:ISPyB",
        "jmx": "zwrap.configuration.core:JMX",
        "ledger": "zwrap.configuration.core:Ledger",
        "limits": "zwrap.configuration.core:Limits",
        "logging": "zwrap.configuration.logs:Logging",
        "pika": "zwrap.configuration.core:Pika",
        "rabbitmqapi": "zwrap.configuration.core:RabbitMQAPI",
        "security": "zwrap.configuration.core:Security",
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


PACKAGES = ("zwrap.", "zwrap_schedulers.")
"""Beginnings of entry points of zwrap's own, of this release or of one that is being installed."""

UPSTREAM = ("workflows.", "zocalo.")
"""Beginnings of entry points of python-workflows and python-zocalo, which are not a site's."""


def names(group: str) -> list[str]:
    """Return the names of all objects that are installed in a group, sorted."""
    return sorted({*OWN.get(group, {}), *(entry.name for entry in entries(group))})


def find(group: str, name: str) -> Any:  # noqa: ANN401 - each group holds another kind
    """Return the object of that name in a group; None if nothing of that name is installed.

    Raises whatever the import of its module raises.
    """
    own = OWN.get(group, {}).get(name)
    if own:
        return load(own)
    for entry in entries(group):
        if entry.name == name:
            return entry.load()
    return None


def candidates(group: str, name: str) -> list[Entry]:
    """Return what is installed under a name, in order: a site's, zwrap's own, python-zocalo's."""
    installed = [entry for entry in entries(group) if entry.name == name]
    own = OWN.get(group, {}).get(name)
    return [
        *(entry for entry in installed if not entry.value.startswith((*PACKAGES, *UPSTREAM))),
        *([Entry(name, own, "zwrap")] if own else []),
        *(entry for entry in installed if entry.value.startswith(UPSTREAM)),
    ]


def find_preferred(group: str, name: str) -> Any:  # noqa: ANN401 - as `find`
    """Return the first of the `candidates` for a name; None if nothing of that name is installed.

    So a site can replace a part of zwrap by its own. Raises whatever the import of a module raises.
    """
    own, found = OWN.get(group, {}).get(name), candidates(group, name)
    if not found or found[0].value == own:
        return find(group, name)
    if own:
        log.info("%r in group %s is %s, which goes before zwrap's own", name, group, found[0].value)
    return found[0].load()


def choice(group: str, name: str, shipped: str) -> str:
    """Return a clause that says what is used under a name, and before what it goes.

    `shipped`: what names zwrap's own, such as ``-s zwrap:NAME``.
    """
    found = candidates(group, name)
    if not found:
        return f"{name!r} is not installed"
    first, *rest = found
    text = f"{name!r} is {first}"
    if rest:
        text += f"; it goes before {' and '.join(map(str, rest))}"
    if any(each.distribution == "zwrap" for each in rest):
        text += f", which {shipped!r} names"
    return text


def foreign(group: str) -> list[Any]:
    """Return the objects that other distributions installed in a group, sorted by name.

    Of several of one name it is the last one, as in python-zocalo, which keeps them by name.
    """
    own, found = OWN.get(group, {}), dict[str, Entry]()
    for entry in entries(group):
        if before := found.get(entry.name):
            log.warning(
                "%r in group %s is installed twice: %s is used, and %s is not",
                entry.name, group, entry.value, before.value,
            )  # fmt: skip
        found[entry.name] = entry
    return [found[name].load() for name in sorted(found) if name not in own]
