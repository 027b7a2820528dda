"""The plugins whose sections hold plain settings, with the value of ``zc.<plugin>`` for each.

The values are those that python-zocalo's plugins return, for code written for it; zwrap itself uses
the types of `zwrap.configuration.sections`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Generic

from zwrap.configuration.merging import Section
from zwrap.configuration.security import SecuritySettings
from zwrap.configuration.settings import (
    ConsumersSettings,
    ISPyBSettings,
    JMXSettings,
    LedgerSettings,
    PikaSettings,
    RabbitMQAPISettings,
    S,
    SlurmSettings,
    SMTPSettings,
    SpoolSettings,
    StompSettings,
    TransportSettings,
    WorkersSettings,
    decoded,
    keys,
)
from zwrap.message import limits

if TYPE_CHECKING:
    from zwrap.configuration.site import Configuration


def _as_it_stands(settings: object, given: Mapping[str, object]) -> object:
    """Return the section itself."""
    del settings
    return given


class Plugin(Generic[S]):
    """A plugin of plain settings.

    Args:
        settings: Type of the section.
        value: Function that makes the value of ``zc.<plugin>`` from the typed settings and from a
            copy of the section.
    """

    def __init__(
        self,
        settings: type[S],
        value: Callable[[S, Mapping[str, object]], object] = _as_it_stands,
    ) -> None:
        self._settings = settings
        self._value = value

    def validate(self, section: Section) -> None:
        """Raise ConfigurationError, which names the first wrong key of a section."""
        decoded(section, self._settings)

    def known_keys(self) -> tuple[str, ...]:
        """Return the keys that have a meaning."""
        return keys(self._settings)

    def activate(self, section: Section) -> object:
        """Return the value of ``zc.<plugin>``."""
        return self._value(decoded(section, self._settings), copy.deepcopy(section.value))


Consumers = Plugin(
    ConsumersSettings,
    lambda _, given: {key: value for key, value in given.items() if key != "plugin"},
)
ISPyB = Plugin(ISPyBSettings)
JMX = Plugin(JMXSettings)
Ledger = Plugin(LedgerSettings)
Limits = Plugin(limits.Sizes)
Pika = Plugin(PikaSettings)
RabbitMQAPI = Plugin(RabbitMQAPISettings, lambda _, given: {"vhost": "/", **given})
Security = Plugin(SecuritySettings)
Slurm = Plugin(SlurmSettings)
SMTP = Plugin(SMTPSettings)
Spool = Plugin(SpoolSettings, lambda settings, _: settings)
Stomp = Plugin(StompSettings)
Transport = Plugin(TransportSettings, lambda settings, _: settings.default)
Workers = Plugin(
    WorkersSettings,
    lambda settings, _: {"modules": settings.modules, "errors": settings.errors},
)


class Storage:
    """Plugin `storage`: free keys and values; active sections are merged, and later ones win."""

    @staticmethod
    def activate(config_object: Configuration) -> dict[str, object]:
        """Return the merged values of all sections activated so far."""
        return copy.deepcopy(config_object.site.storage)
