"""The services that are installed, those of zwrap included, by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from zwrap.plugins import registry


def get_known_services() -> dict[str, Callable[[], Any]]:
    """Return, for each name, the function that loads the class of the service."""
    return {
        name: functools.partial(registry.find_preferred, registry.SERVICES, name)
        for name in registry.names(registry.SERVICES)
    }


def lookup(service: str) -> Any:
    """Return the class of a service; None if nothing of that name is installed."""
    return registry.find_preferred(registry.SERVICES, service)
