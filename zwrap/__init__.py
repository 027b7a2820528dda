"""zwrap: a wrapper-centric Zocalo for batch clusters.

The way of the data, one module per station::

  request -> transport -> dispatcher -> recipe -> submitter -> template -> scheduler -> (batch)
                                                                                            |
  next step <- transport <- envelope <- program <- wrapper (heartbeat, limits) <------------'
                                ^
                              watcher (concludes jobs whose wrapper cannot)

Each module on this way names its station in the first line of its docstring; docs/architecture.md
lists them in order. The names that programs of a site import are offered here, too, and loaded on
first use (docs/compat-zocalo.md).
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_OFFERED = {
    "BaseWrapper": "zwrap.wrapper.python",
    "Configuration": "zwrap.configuration.site",
    "ConfigurationError": "zwrap.errors",
    "RabbitMQAPI": "zwrap.transport.rabbitmq.management.api",
    "create_parent_symlink": "zwrap.host.links",
    "extended_status_dictionary": "zwrap.service.status",
    "hash_password": "zwrap.transport.rabbitmq.management.api",
    "http_api_request": "zwrap.transport.rabbitmq.management.api",
}
"""Name to the module in which it lives."""


def __getattr__(name: str) -> Any:  # noqa: ANN401 - names of many kinds
    module = _OFFERED.get(name)
    if module is None:
        raise AttributeError(f"module 'zwrap' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_OFFERED})
