"""The site configuration as ``zocalo.configuration`` has it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from zwrap.compat.workflows.transport import site as transport_site
from zwrap.compat.zocalo.configuration.argparse import get_specified_environments
from zwrap.configuration import site
from zwrap.configuration.merging import Section
from zwrap.errors import ConfigurationError
from zwrap.plugins import registry

log = logging.getLogger(__name__)

CHECKED_WHEN_ACTIVATED = ("logging",)
"""Plugins whose sections python-zocalo does not check when it reads the file."""


class Configuration(site.Configuration):
    """zwrap's `Configuration` whose `activate` answers as python-zocalo's does."""

    def activate(  # type: ignore[override]
        self, envs: Iterable[str] | None = None, *, default: bool = True
    ) -> tuple[str, ...]:
        """Activate environments in order, and return their names.

        Args:
            envs: Names of environments; None: those that the command line of this process selects.
            default: True if without names ZOCALO_DEFAULT_ENV, else ``default``, is activated.

        Raises:
            ConfigurationError: There is no such environment, or one cannot be activated.
        """
        if envs is None:
            envs = get_specified_environments(arguments=self.environment_cmd_args)
        before = len(self.active_environments)
        super().activate(list(envs), default=default)
        transport_site.use(self)  # for transports of the other half, which take no configuration
        return self.active_environments[before:]

    def resolved(self, name: str) -> Section:
        """Return one plugin configuration; a file that it refers to is read now.

        Raises ConfigurationError, and the system's error, if the file cannot be read.
        """
        try:
            return super().resolved(name)
        except ConfigurationError as error:
            raise _also_of_the_system(error) from None

    def check_sections(self) -> None:
        """Check the sections that are in the file itself.

        A plugin that is not installed is a warning.

        Raises:
            ConfigurationError: A section is wrong; the text names file, line and key.
        """
        for section in self.sections.values():
            kind = "" if isinstance(section.value, str) else section.value["plugin"]
            if not kind or kind in CHECKED_WHEN_ACTIVATED:
                continue
            plugin = registry.find(registry.CONFIGURATION, kind)
            if plugin is None:
                log.warning("%s: plugin %r is not installed", section.place("plugin"), kind)
            else:
                site.validate(plugin, section)


def from_file(config_file: Path | str | None = None) -> Configuration:
    """Read a site file, and check it; without a name the one that ZOCALO_CONFIG names, if any.

    Raises:
        ConfigurationError: The file is not usable; the text names file, line and key.
    """
    return _checked(lambda: Configuration.from_file(config_file))


def from_string(configuration: str) -> Configuration:
    """Read a site configuration from YAML text, and check it.

    Raises:
        ConfigurationError: The text is not usable; the error names line and key.
    """
    return _checked(lambda: Configuration.from_string(configuration))


def _checked(read: Callable[[], Configuration]) -> Configuration:
    """Read a configuration and check its sections."""
    try:
        configuration = read()
    except ConfigurationError as error:
        raise _also_of_the_system(error) from None
    configuration.check_sections()
    return configuration


def _also_of_the_system(error: ConfigurationError) -> ConfigurationError:
    """Return an error that is the system's, too, if that is why a file could not be read.

    python-zocalo lets those pass for files that a site file refers to.
    """
    for kind in (FileNotFoundError, PermissionError):
        if isinstance(error.__context__, kind):
            both: type[ConfigurationError] = type(kind.__name__, (ConfigurationError, kind), {})
            return both(str(error))
    return error
