"""The plugins of the core: storage, logging, transport and spool."""

from __future__ import annotations

import copy
import logging
import logging.config
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from zwrap.errors import ConfigurationError


class Storage:
    """Free keys and values; several active blocks are merged, later ones win."""

    @staticmethod
    def activate(section: Mapping[str, Any], configuration: Any) -> dict[str, Any]:
        """The merged values of all blocks so far."""
        values = {key: copy.deepcopy(value) for key, value in section.items() if key != "plugin"}
        return {**(configuration.storage or {}), **values}


class LoggingSettings:
    """Logging that was set up; its verbosity can only rise."""

    def __init__(self, verbose: list[dict[str, Any]]) -> None:
        self._verbose = verbose
        self._verbosity = 0

    @property
    def verbosity(self) -> int:
        """How many of the `verbose` blocks are in force."""
        return self._verbosity

    @verbosity.setter
    def verbosity(self, level: int) -> None:
        for block in self._verbose[self._verbosity : level]:
            logging.config.dictConfig({"version": 1, "incremental": True, **block})
        self._verbosity = max(self._verbosity, min(level, len(self._verbose)))


class Logging:
    """A `logging.config.dictConfig` dictionary, and `verbose`: incremental ones for -v, -vv, ..."""

    @staticmethod
    def activate(section: Mapping[str, Any], configuration: Any) -> LoggingSettings:
        """Set up logging."""
        settings = {
            key: value for key, value in section.items() if key not in ("plugin", "verbose")
        }
        verbose = section.get("verbose") or []
        try:
            logging.config.dictConfig(
                {"version": 1, "disable_existing_loggers": False, **copy.deepcopy(settings)}
            )
        except (ValueError, TypeError, AttributeError, ImportError) as error:
            cause = error.__cause__ or error
            raise ConfigurationError(
                f"The logging section of {configuration.file or 'the configuration'} cannot be "
                f"used: {error} ({cause}). See Python's logging.config.dictConfig."
            ) from None
        return LoggingSettings(list(verbose))


class Transport:
    """Name of the transport that is used when `-t` names no other."""

    @staticmethod
    def validate(section: Mapping[str, Any], where: str) -> None:
        """Check the keys."""
        if not isinstance(section.get("default"), str):
            raise ConfigurationError(
                f"{where}, key 'default' must name a transport, such as SpoolTransport."
            )

    @staticmethod
    def activate(section: Mapping[str, Any], configuration: Any) -> str:
        """The name."""
        del configuration
        name: str = section["default"]
        return name


class SpoolSettings(msgspec.Struct, forbid_unknown_fields=True):
    """Keys of plugin `spool`."""

    plugin: str
    path: str
    durable: bool = True
    """Survive a power cut (fsync), not only the death of processes."""
    out_limit: int = 10_000
    out_wait: float = 10.0


class Spool:
    """The directory of the file spool and how careful to be with it."""

    @staticmethod
    def validate(section: Mapping[str, Any], where: str) -> None:
        """Check the keys."""
        settings(section, SpoolSettings, where)

    @staticmethod
    def activate(section: Mapping[str, Any], configuration: Any) -> SpoolSettings:
        """The settings, with an absolute path."""
        values = settings(section, SpoolSettings, "plugin spool")
        base = configuration.file.parent if configuration.file else Path.cwd()
        return msgspec.structs.replace(values, path=str(base / Path(values.path).expanduser()))


def settings(section: Mapping[str, Any], kind: type[SpoolSettings], where: str) -> SpoolSettings:
    """The typed values of a section, or ConfigurationError that names the key."""
    try:
        return msgspec.convert(dict(section), kind)
    except msgspec.ValidationError as error:
        known = ", ".join(kind.__struct_fields__)
        raise ConfigurationError(f"{where}: {error}. Known keys: {known}.") from None
