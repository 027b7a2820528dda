"""``zocalo.configuration.plugin_logging``: handlers and a filter that site files name."""

from __future__ import annotations

from zwrap.configuration.logs import (
    DowngradeFilter as DowngradeFilter,
    GraylogTCPHandler as GraylogTCPHandler,
    GraylogUDPHandler as GraylogUDPHandler,
)
from zwrap.plugins.offering import offer

_ITSELF = "zwrap registers plugin 'logging' itself, and zc.logging has its verbosity."

__getattr__, _ = offer(__name__, {}, {"Logging": _ITSELF, "LoggingIncrementer": _ITSELF})
