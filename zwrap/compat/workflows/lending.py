"""Settings of the site for transports of python-workflows itself.

A class that runs unchanged may make such a transport beside the one that it is given. In programs
of python-zocalo the site file's plugins `pika`, `stomp` and `transport` set what it connects to.
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
    theirs: Any = importlib.import_module(f"workflows.transport.{plugin}_transport")
    for option, field in kind.options.items():
        if hasattr(settings, field):
            getattr(theirs, kind.name).defaults[option] = getattr(settings, field)
    if is_default:
        package: Any = importlib.import_module("workflows.transport")
        package.default_transport = kind.name
