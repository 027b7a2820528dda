"""Settings of the site for transports of python-workflows itself.

A class that runs unchanged may make such a transport beside the one that it is given. In programs
of python-zocalo the site file's plugins `pika`, `stomp` and `transport` set what it connects to,
before the module of the class is imported: what that sets itself, such as the address of a second
broker, stays. Here the module is imported already, so that only values of the library are replaced.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

from zwrap.compat.workflows.transport.pika_transport import PikaTransport
from zwrap.compat.workflows.transport.site_transport import SiteTransport
from zwrap.compat.workflows.transport.stomp_transport import StompTransport
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError
from zwrap.transport.connect import default_transport

log = logging.getLogger(__name__)

LENT: dict[str, type[SiteTransport]] = {"pika": PikaTransport, "stomp": StompTransport}
"""Plugin to the transport here that has the names and options of the one in python-workflows."""

OWN: dict[str, object] = {
    "--rabbit-host": "localhost",
    "--rabbit-port": 5672,
    "--rabbit-user": "guest",
    "--rabbit-pass": "guest",
    "--rabbit-vhost": "/",
    "--stomp-host": "localhost",
    "--stomp-port": 61613,
    "--stomp-user": "admin",
    "--stomp-pass": "password",
    "--stomp-prfx": "",
}
"""Option to the value that it has in python-workflows before anybody sets it."""

OWN_DEFAULT = PikaTransport.name
"""Transport that python-workflows uses before anybody chooses one."""

_lent: dict[str, object] = {}
"""Option to the value that was lent last, which a site file that is read once more may replace;
under an empty name the default transport."""


def lend(configuration: Configuration) -> None:
    """Let transports of python-workflows connect by default as the site file says.

    A section that is wrong is told in the log, because the class may never need it.
    """
    for plugin, kind in LENT.items():
        try:
            settings: object = getattr(configuration.site, plugin)
            if settings is not None:
                is_default = default_transport(configuration) == kind.name
                _lend(kind, plugin, settings, is_default=is_default)
        except ConfigurationError as error:
            log.warning(
                "A %s of python-workflows that the service makes itself connects to its own "
                "default address: %s", kind.name, error,
            )  # fmt: skip


def _lend(kind: type[SiteTransport], plugin: str, settings: object, *, is_default: bool) -> None:
    """Give a transport the settings of a section; `is_default`: the site uses it."""
    try:
        theirs: Any = importlib.import_module(f"workflows.transport.{plugin}_transport")
        package: Any = importlib.import_module("workflows.transport")
    except ImportError:  # an old release, or without the client library: no class can use it either
        return
    defaults: dict[str, object] = getattr(theirs, kind.name).defaults
    for option, field in kind.options.items():
        if hasattr(settings, field) and _is_unset(option, defaults.get(option), OWN.get(option)):
            defaults[option] = _lent[option] = getattr(settings, field)
    chosen = getattr(package, "default_transport", OWN_DEFAULT)
    if is_default and _is_unset("", chosen, OWN_DEFAULT):
        package.default_transport = _lent[""] = kind.name


def _is_unset(option: str, value: object, own: object) -> bool:
    """Return True unless the site's code has set an option; empty: the default transport."""
    return value is None or value in (own, _lent.get(option))
