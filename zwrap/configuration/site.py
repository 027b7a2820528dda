"""The Zocalo site file, read into one value that is passed to all who need it.

Format and meaning are those of python-zocalo (``version: 1``, plugin configurations, and
``environments`` that select the active ones). There are no global settings::

    import zwrap.configuration
    zc = zwrap.configuration.from_file()       # what ZOCALO_CONFIG names
    zc.activate()                              # environment `default`
    zc.storage["zocalo.recipe_directory"]      # zc.<plugin> is what the plugin returned

zwrap's own code uses ``configuration.site``, which is typed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zwrap.configuration.sections import Site
from zwrap.errors import ConfigurationError, UnknownEntryError
from zwrap.host.paths import default_spool
from zwrap.plugins import registry

if TYPE_CHECKING:  # a short job without configuration loads no YAML
    from zwrap.configuration.logs import LoggingSettings
    from zwrap.configuration.merging import Section
    from zwrap.configuration.reading import Source

log = logging.getLogger(__name__)

ACTING = ("graylog", "logging")
"""Plugins of zwrap that act when they are activated; the others are activated on first use."""


class Configuration:
    """A site configuration: the content of the file, and the values of the active environments.

    ``configuration.<plugin>`` is the value that the plugin returned when it was activated, None if
    it was not, and an AttributeError if no plugin of that name is installed. Plugins of zwrap that
    only hold values are activated when their value is first used.
    """

    environment_cmd_args: tuple[str, ...] = ("-e", "--environment")
    """Names of the option by which a command line selects environments."""

    def __init__(
        self, sections: Mapping[str, Section] | None = None, file: Path | None = None
    ) -> None:
        self.file = file
        """The site file, absolute; None without one."""
        self.sections = dict(sections or {})
        """Plugin configurations by name, included files merged."""
        self.environment_members: dict[str, list[str]] = {}
        """Environment to the names of its sections, in the order of their activation."""
        self.transport_sections: dict[str, list[str]] = {}
        """Environment to the names of the sections in its group ``transport``."""
        self.environment_origins: dict[str, str] = {}
        """Environment to file and line."""
        self._base = file.parent if file else Path.cwd()
        self._active: list[str] = []
        self._in_force: dict[str, list[Section]] = {}
        """Plugin to its active sections, in the order of their activation."""
        self._waiting: dict[str, list[Section]] = {}
        """Plugin to its active sections whose value nobody has used yet."""
        self._plugins: dict[str, Any] = {}
        """Plugin to the value that it returned."""
        self.site = Site(self._in_force, self._base)
        """The active sections that zwrap uses, typed."""

    @classmethod
    def from_file(cls, path: Path | str | None = None) -> Self:
        """Read a site file; without a path the one that ZOCALO_CONFIG names, if any.

        Raises:
            ConfigurationError: The file is not usable; the text names file, line and key.
        """
        path = path or os.environ.get("ZOCALO_CONFIG")
        if not path:
            return cls()
        from zwrap.configuration.reading import read_file

        file = Path(path).expanduser().absolute()
        return cls._from_source(read_file(file, "The site configuration"), file)

    @classmethod
    def from_string(cls, text: str) -> Self:
        """Read a site configuration from YAML; relative paths start from the current directory."""
        from zwrap.configuration.reading import read_text

        return cls._from_source(read_text(text, "the configuration", Path.cwd()), None)

    @classmethod
    def _from_source(cls, source: Source, file: Path | None) -> Self:
        """Return the configuration in a text, with the files that it includes."""
        from zwrap.configuration.environments import resolve_environments, transport_sections
        from zwrap.configuration.merging import merged

        everything = merged(source)
        configuration = cls(everything.sections, file)
        configuration.environment_members = resolve_environments(everything)
        configuration.transport_sections = {
            name: transport_sections(everything, name) for name in everything.environments
        }
        configuration.environment_origins = {
            name: source.origin("environments", name) for name, source in everything.origins.items()
        }
        return configuration

    @property
    def environments(self) -> frozenset[str]:
        """Names of all environments."""
        return frozenset(self.environment_members)

    @property
    def active_environments(self) -> tuple[str, ...]:
        """Names of the activated environments, in order."""
        return tuple(self._active)

    @property
    def is_embedded(self) -> bool:
        """True if there is no site configuration, so that the defaults hold."""
        return not self.sections

    def activate_environment(self, name: str) -> None:
        """Activate the plugins of one environment, in order.

        Raises:
            UnknownEntryError: There is no such environment.
            ConfigurationError: A file that the environment refers to cannot be read, or a plugin
                that acts when it is activated (see `ACTING`, and those of other distributions)
                refuses its section.
        """
        if name not in self.environment_members:
            where = str(self.file) if self.file else "no site configuration"
            raise UnknownEntryError("environment", name, self.environments, where)
        for section in self.environment_members[name]:
            self._activate(self.resolved(section))
        self._active.append(name)

    def activate(self, envs: Iterable[str] | None = None, *, default: bool = True) -> Configuration:
        """Activate the named environments, else ZOCALO_DEFAULT_ENV, else ``default``.

        Returns the configuration itself; see `activate_environment` for errors.
        """
        names = list(envs or ())
        if not names and default:
            preset = os.environ.get("ZOCALO_DEFAULT_ENV")
            names = [preset] if preset else ["default"] if "default" in self.environments else []
        for name in names:
            self.activate_environment(name)
        return self

    def add_command_line_options(self, parser: Any) -> None:  # noqa: ANN401 - of either library
        """Add the option that selects environments to a parser of argparse or optparse."""
        known = ", ".join(sorted(self.environments)) or "none"
        new = "add_argument" in dir(parser)
        add = parser.add_argument if new else parser.add_option
        add(
            *self.environment_cmd_args,
            dest="environment",
            metavar="ENV",
            action="append",
            default=[],
            **({} if new else {"type": "choice"}),
            choices=sorted(self.environments),
            help=f"activate this environment of the site configuration; known: {known}",
        )

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the value of a site's plugin
        if name.startswith("_") or not self._has_plugin(name):
            raise AttributeError(
                f"{name!r} is neither an attribute of a configuration nor a plugin that is "
                f"installed here (entry point group {registry.CONFIGURATION})"
            )
        for section in self._waiting.get(name, ()):
            self._apply(section)
        self._waiting.pop(name, None)  # a wrong section stays and raises the error each time
        return self._plugins.get(name)

    def _has_plugin(self, name: str) -> bool:
        """Return whether a plugin is active or installed; zwrap's own are looked up first."""
        own = registry.OWN[registry.CONFIGURATION]
        return (
            name in self._plugins or name in own or name in registry.names(registry.CONFIGURATION)
        )

    def __str__(self) -> str:
        active = f", active: {', '.join(self._active)}" if self._active else ""
        read = {section.name for sections in self._in_force.values() for section in sections}
        files = {name for name, section in self.sections.items() if isinstance(section.value, str)}
        unread = (
            f" ({len(files - read)} of its sections in files not read yet)" if files - read else ""
        )
        return (
            f"<Configuration {self.file or 'without a file'}{unread}: {len(self.environments)} "
            f"environments, {len(self.sections)} plugin configurations{active}>"
        )

    __repr__ = __str__

    @property
    def log_settings(self) -> LoggingSettings | None:
        """The logging that plugin `logging` set up; None without such a section."""
        settings: LoggingSettings | None = self._plugins.get("logging")
        return settings

    def directory(self, key: str) -> Path | None:
        """Return the directory under a storage key; relative paths start from the site file."""
        return self.site.directory(key)

    def for_jobs(self) -> dict[str, str]:
        """Return environment variables that let a job use this site: file, environment, spool."""
        told = {"ZWRAP_SPOOL": str(default_spool())}
        if self.file:
            told["ZOCALO_CONFIG"] = str(self.file)
        if len(self._active) == 1:
            told["ZOCALO_DEFAULT_ENV"] = self._active[0]
        return told

    def resolved(self, name: str) -> Section:
        """Return one plugin configuration; a file that it refers to is read now.

        Raises:
            ConfigurationError: The file cannot be read or holds no plugin configuration.
        """
        from zwrap.configuration.merging import Section, check_plugin
        from zwrap.configuration.reading import read_file

        section = self.sections[name]
        if not isinstance(section.value, str):
            return section
        file = section.source.base / Path(section.value.strip()).expanduser()
        source = read_file(file, f"{section.place()} refers to a file:")
        referred = Section(name, source.data, source)
        check_plugin(referred)
        return referred

    def check(self) -> Iterator[str]:
        """Read every section with its plugin, activate none, and yield a line on each.

        Raises:
            ConfigurationError: The first section that is wrong; the text names file, line and key.
        """
        for name in self.sections:
            yield from self.check_section(name)

    def check_section(self, name: str) -> list[str]:
        """Read one section with its plugin, do not activate it, and return lines on it.

        Raises:
            ConfigurationError: The section is wrong; the text names file, line and key.
        """
        section = self.resolved(name)
        kind = section.value["plugin"]
        plugin = registry.find(registry.CONFIGURATION, kind)
        if plugin is None:
            return [f"warning: {section.place()}: plugin {kind!r} is not installed"]
        validate(plugin, section)
        told = [
            f"warning: {section.place(key)} means nothing to plugin {kind!r}"
            for key in _unknown_keys(plugin, section)
        ]
        return [*told, f"good: section {name} (plugin {kind})"]

    def act_again(self) -> bool:
        """Activate once more what acts, such as logging; return whether there is any of it."""
        acting = [section for kind in ACTING for section in self._in_force.get(kind, ())]
        for section in acting:
            self._apply(section)
        return bool(acting)

    def _activate(self, section: Section) -> None:
        """Put a section into force; its plugin is activated now if it acts, else on first use."""
        kind = section.value["plugin"]
        self._in_force.setdefault(kind, []).append(section)
        self.site = Site(self._in_force, self._base)
        if kind in registry.OWN[registry.CONFIGURATION] and kind not in ACTING:
            self._waiting.setdefault(kind, []).append(section)
        else:
            self._apply(section)

    def _apply(self, section: Section) -> None:
        """Check and activate a section with its plugin, and keep the value."""
        kind = section.value["plugin"]
        plugin = registry.find(registry.CONFIGURATION, kind)
        if plugin is None:
            log.warning(
                "%s: plugin %r is not installed and does nothing", section.place("plugin"), kind
            )
            return
        validate(plugin, section)
        self._plugins[kind] = _activated(plugin, section, self)


def from_file(config_file: Path | str | None = None) -> Configuration:
    """Read a site file; without a name the one that ZOCALO_CONFIG names, if any."""
    return Configuration.from_file(config_file)


def from_string(configuration: str) -> Configuration:
    """Read a site configuration from YAML text."""
    return Configuration.from_string(configuration)


def _activated(  # a plugin may be any object with such a method
    plugin: Any,  # noqa: ANN401
    section: Section,
    configuration: Configuration,
) -> object:
    """Call `activate` of a plugin as python-zocalo does: with the arguments that it takes."""
    import copy
    import inspect  # slow to load, and seldom needed by a short job

    given = {
        "configuration": copy.deepcopy(section.value),
        "config_object": configuration,
        "section": section,
    }
    takes = inspect.signature(plugin.activate).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values()):
        given.pop("section")
        return plugin.activate(**given)
    if not set(takes) & set(given):  # arguments under other names: by position
        return plugin.activate(*list(given.values())[: len(takes)])
    return plugin.activate(**{name: given[name] for name in takes if name in given})


def validate(plugin: Any, section: Section) -> None:  # noqa: ANN401 - as above
    """Check a section with the plugin's `validate`, or with its marshmallow `Schema`."""
    if hasattr(plugin, "validate"):
        plugin.validate(section)
    elif hasattr(plugin, "Schema"):
        complaints = plugin.Schema(unknown="exclude").validate(section.value)
        for key, complaint in complaints.items() if isinstance(complaints, dict) else ():
            text = " ".join(map(str, complaint)) if isinstance(complaint, list) else str(complaint)
            raise ConfigurationError(f"{section.place(str(key))}: {text}")


def _unknown_keys(plugin: object, section: Section) -> list[str]:
    """Return the keys without a meaning to the plugin, if it tells which keys have one."""
    known = getattr(plugin, "known_keys", lambda: None)()
    return [] if known is None else [key for key in section.value if key not in known]
