"""The plugins that set up logging: `logging`, with its handlers and filter, and `graylog`.

Names, arguments and meaning are those of ``zocalo.configuration.plugin_logging``; paths of that
module's classes in existing site files stand for the classes here.
"""

from __future__ import annotations

import copy
import logging
import logging.config
import socket
from collections.abc import Mapping
from typing import Self

from zwrap.configuration.merging import Section
from zwrap.configuration.settings import Settings, decoded, keys
from zwrap.errors import ConfigurationError

_OLD_HOME = "zocalo.configuration.plugin_logging."
_NO_INCREMENT = ("filters", "formatters", "handlers")


class LoggingSettings:
    """The logging that was set up, whose verbosity can only rise."""

    def __init__(self, verbose: list[dict[str, object]]) -> None:
        self._verbose = verbose
        self._verbosity = 0

    @property
    def verbosity(self) -> int:
        """Number of `verbose` blocks in force."""
        return self._verbosity

    @verbosity.setter
    def verbosity(self, level: int) -> None:
        for block in self._verbose[self._verbosity : level]:
            logging.config.dictConfig(block)
        self._verbosity = max(self._verbosity, min(level, len(self._verbose)))

    def __repr__(self) -> str:
        return f"<LoggingSettings verbosity={self._verbosity}>"


class Logging:
    """Plugin `logging`: a dictionary for `logging.config.dictConfig`.

    Key `verbose` is a list of incremental dictionaries, for -v, -vv and so on.
    """

    @staticmethod
    def validate(section: Section) -> None:
        """Check a section, as far as that is possible without setting up logging.

        Raises:
            ConfigurationError: A block is wrong; the text names file, line and key.
        """
        verbose = section.value.get("verbose")
        if verbose is not None and not isinstance(verbose, list):
            raise ConfigurationError(
                f"{section.place('verbose')} must be a list: what -v, -vv, ... add."
            )
        if section.value.get("incremental"):
            _check_increment(section, section.value, ())
        for number, block in enumerate(verbose or []):
            if not isinstance(block, dict):
                raise ConfigurationError(
                    f"{section.place('verbose', str(number))} must be a mapping."
                )
            if block.get("incremental", True):
                _check_increment(section, block, ("verbose", str(number)))

    @staticmethod
    def activate(section: Section) -> LoggingSettings:
        """Set up logging; its verbosity can be raised afterwards.

        Raises:
            ConfigurationError: Python's logging does not accept the section.
        """
        given = {key: _resolved(value) for key, value in copy.deepcopy(section.value).items()}
        del given["plugin"]
        verbose = given.pop("verbose", None)
        blocks = verbose if isinstance(verbose, list) else []
        settings = {"version": 1, "disable_existing_loggers": False, **given}
        try:
            logging.config.dictConfig(settings)
        except (ValueError, TypeError, AttributeError, ImportError) as error:
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            raise ConfigurationError(
                f"{section.place()} cannot be used: {error}{cause}. See Python's "
                "logging.config.dictConfig."
            ) from None
        return LoggingSettings([{"version": 1, "incremental": True, **block} for block in blocks])


def _check_increment(section: Section, block: Mapping[str, object], route: tuple[str, ...]) -> None:
    """Raise ConfigurationError unless a block changes levels only.

    Source: Python's documentation of logging.config, Incremental Configuration.
    """
    loggers = block.get("loggers") or {}
    places: dict[tuple[str, ...], object] = {(): block, ("root",): block.get("root")}
    if isinstance(loggers, dict):
        places.update({("loggers", str(name)): value for name, value in loggers.items()})
    for inside, value in places.items():
        for key in _NO_INCREMENT:
            if isinstance(value, dict) and key in value:
                raise ConfigurationError(
                    f"{section.place(*route, *inside, key)} cannot be changed by an incremental "
                    "block; levels can."
                )


def _resolved(value: object) -> object:
    """Return a value of the section with the paths of python-zocalo's classes replaced by ours."""
    if isinstance(value, dict):
        return {key: _resolved(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_resolved(entry) for entry in value]
    if isinstance(value, str) and _OLD_HOME in value:
        return value.replace(_OLD_HOME, f"{__name__}.")
    return value


def syslog_level(level: int) -> int:
    """Return the syslog severity (RFC 5424, 6.2.1) of a level of Python's logging."""
    limits = ((20, 7), (25, 6), (30, 5), (40, 4), (50, 3), (60, 2))
    return next((severity for limit, severity in limits if level < limit), 1)


def _address(host: str) -> str:
    """Return the address of a host, which is then not looked up for each line of the log."""
    try:
        return socket.gethostbyname(host)
    except OSError:
        return host


def _handler(kind: str, host: str, port: int) -> logging.Handler:
    """Return a handler of package graypy that sends the levels of syslog."""
    import graypy  # only where Graylog is used

    class Handler(getattr(graypy, kind)):  # type: ignore[misc]  # graypy has no types
        def _make_gelf_dict(self, record: logging.LogRecord) -> dict[str, object]:
            message: dict[str, object] = super()._make_gelf_dict(record)
            message["level"] = syslog_level(record.levelno)
            return message

    handler: logging.Handler = Handler(_address(host), port, level_names=True)
    return handler


def GraylogUDPHandler(*, host: str, port: int) -> logging.Handler:  # noqa: N802 (a name in use)
    """Return a handler that sends GELF datagrams to Graylog, long ones in chunks."""
    return _handler("GELFUDPHandler", host, int(port))


def GraylogTCPHandler(*, host: str, port: int) -> logging.Handler:  # noqa: N802
    """Return a handler that sends GELF over a TCP connection to Graylog."""
    return _handler("GELFTCPHandler", host, int(port))


class DowngradeFilter(logging.Filter):
    """Filter that reduces levels above `reduce_to` and below `only_below` to `reduce_to`."""

    def __init__(self, reduce_to: str = "WARNING", *, only_below: str = "CRITICAL") -> None:
        super().__init__()
        self._name = reduce_to
        self._level, self._limit = (_level(name) for name in (reduce_to, only_below))
        if self._limit <= self._level:
            raise ValueError(f"'reduce_to' ({reduce_to}) must be below 'only_below' ({only_below})")

    def filter(self, record: logging.LogRecord) -> bool:
        """Reduce the record's level if it is in the range; return True, so that it passes."""
        if self._level < record.levelno < self._limit:
            record.levelno = self._level
            record.levelname = self._name
        return True


def _level(name: str) -> int:
    """Return the number of a level; ValueError for an unknown name."""
    level = logging.getLevelName(name)
    if not isinstance(level, int):
        raise ValueError(f"{name!r} is not a valid level of logging, such as INFO or WARNING")
    return level


class GraylogSettings(Settings, frozen=True, kw_only=True):
    """Keys of plugin `graylog`."""

    protocol: str
    host: str
    port: int

    def checked(self, section: Section) -> Self:
        """Return the settings; ConfigurationError unless the protocol is UDP or TCP."""
        if self.protocol not in ("UDP", "TCP"):
            raise ConfigurationError(
                f"{section.place('protocol')} is {self.protocol!r}; UDP or TCP is expected."
            )
        return self


class Graylog:
    """Plugin `graylog`: send everything that is logged to Graylog.

    Deprecated in python-zocalo; use plugin `logging`.
    """

    @staticmethod
    def validate(section: Section) -> None:
        """Raise ConfigurationError, which names the first wrong key."""
        decoded(section, GraylogSettings)

    @staticmethod
    def known_keys() -> tuple[str, ...]:
        """Return the keys that have a meaning."""
        return keys(GraylogSettings)

    @staticmethod
    def activate(section: Section) -> logging.Handler:
        """Add a handler to the root logger, and return it."""
        given = decoded(section, GraylogSettings)
        make = GraylogUDPHandler if given.protocol == "UDP" else GraylogTCPHandler
        handler = make(host=given.host, port=given.port)
        logging.getLogger().addHandler(handler)
        return handler
