"""Refusal of subclasses of python-zocalo's services whose methods zwrap would never call."""

from __future__ import annotations

from collections.abc import Collection

from zwrap.errors import ConfigurationError
from zwrap.service.contract import Service


class UnportedError(ConfigurationError, TypeError):
    """A class was written for a service of python-zocalo, and zwrap would not call it."""


def refuse_replaced(kind: type[Service], names: Collection[str]) -> None:
    """Raise UnportedError if a subclass replaces methods that zwrap's service does not have.

    Args:
        kind: The subclass.
        names: Methods of python-zocalo's service.
    """
    replaced = sorted(set(names) & set(vars(kind)))
    if replaced:
        raise UnportedError(
            f"{kind.__module__}.{kind.__qualname__} replaces {', '.join(replaced)} of a service of "
            "python-zocalo; zwrap's has no such method and would never call it. Filters and hooks "
            "of the Dispatcher are entry points (zocalo.services.dispatcher.*); other services are "
            "subclasses of zwrap.service.Service (docs/compat-zocalo.md)."
        )
