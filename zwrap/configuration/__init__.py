"""The Zocalo site file: found, read, checked, and turned into one value that is passed in.

Format and meaning are those of python-zocalo (``version: 1``, plugin configurations, and
``environments`` that say which of them are active). There are no global settings.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zwrap import plugins
from zwrap.configuration.environments import resolve_environments
from zwrap.errors import ConfigurationError, UnknownNameError

log = logging.getLogger(__name__)

RESERVED = ("version", "environments", "include")


class Configuration:
    """A site configuration: what the file says, and what the active environments made of it.

    ``configuration.<plugin>`` is what that plugin returned when it was activated, or None.
    """

    def __init__(
        self, text: str | None = None, file: Path | None = None, base: Path | None = None
    ) -> None:
        self.file = file
        self._base = base or (file.parent if file else Path.cwd())
        self._where = str(file) if file else "the configuration"
        self._plugins: dict[str, Any] = {}
        data = _parse(text, self._where) if text is not None else {}
        self._sections = {key: value for key, value in data.items() if key not in RESERVED}
        for name, section in self._sections.items():
            self._check_section(name, section)
        self._environments = resolve_environments(
            data.get("environments"), set(self._sections), self._where
        )
        if data.get("include"):
            raise ConfigurationError(
                f"{self._where}, key 'include': included files are not read by this version; "
                "copy their sections into this file."
            )
        self._active: list[str] = []

    @classmethod
    def from_file(cls, path: Path | str | None = None) -> Configuration:
        """Read a site file; without a path the one that ZOCALO_CONFIG names, if any."""
        path = path or os.environ.get("ZOCALO_CONFIG")
        if not path:
            return cls()
        file = Path(path).expanduser().absolute()
        try:
            return cls(file.read_text(encoding="utf-8"), file)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigurationError(
                f"The site configuration {file} cannot be read: {reason}."
            ) from None

    @classmethod
    def from_string(cls, text: str) -> Configuration:
        """Read a site configuration from text; file references are relative to where we are."""
        return cls(text)

    @property
    def environments(self) -> list[str]:
        """Names of all environments."""
        return sorted(self._environments)

    @property
    def active_environments(self) -> list[str]:
        """Names of the activated environments, in order."""
        return list(self._active)

    @property
    def is_embedded(self) -> bool:
        """Whether there is no site configuration, so that the defaults hold."""
        return not self._sections

    def activate_environment(self, name: str) -> None:
        """Activate the plugins of one environment, in order."""
        if name not in self._environments:
            raise UnknownNameError("environment", name, self._environments, self._where)
        for section in self._environments[name]:
            self._activate(section)
        self._active.append(name)

    def activate(self, names: Sequence[str] = ()) -> Configuration:
        """Activate the named environments, else ZOCALO_DEFAULT_ENV, else ``default``."""
        if not names:
            preset = os.environ.get("ZOCALO_DEFAULT_ENV")
            names = [preset] if preset else ["default"] if "default" in self._environments else []
        for name in names:
            self.activate_environment(name)
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._plugins.get(name)

    def directory(self, key: str) -> Path | None:
        """The directory under a storage key; a relative path counts from the site file."""
        value = (self.storage or {}).get(key)
        return self._base / Path(str(value)).expanduser() if value else None

    def check(self) -> Iterable[str]:
        """Activate nothing, but read every section with its plugin; a line on each."""
        for name in self._sections:
            section = self._section(name)
            plugin = plugins.find(plugins.CONFIGURATION, section["plugin"])
            if plugin is None:
                yield f"warning: section {name}: plugin {section['plugin']!r} is not installed"
                continue
            validate = getattr(plugin, "validate", None)
            if validate:
                validate(section, self._place(name))
            yield f"good: section {name} (plugin {section['plugin']})"

    def _check_section(self, name: str, section: Any) -> None:
        if isinstance(section, str):
            return
        if not isinstance(section, dict) or not isinstance(section.get("plugin"), str):
            raise ConfigurationError(
                f"{self._place(name)} must be a mapping with a text under 'plugin', or the path "
                "of a file that holds one."
            )

    def _place(self, name: str) -> str:
        return f"{self._where}, section {name!r}"

    def _section(self, name: str) -> dict[str, Any]:
        """One plugin configuration; a file reference is read now."""
        section = self._sections[name]
        if isinstance(section, str):
            file = self._base / Path(section.strip()).expanduser()
            try:
                text = file.read_text(encoding="utf-8")
            except OSError as error:
                raise ConfigurationError(
                    f"{self._place(name)} refers to {file}, which cannot be read: {error.strerror}."
                ) from None
            section = _load(text, str(file))
            if not isinstance(section, dict) or not isinstance(section.get("plugin"), str):
                raise ConfigurationError(f"{file} must be a mapping with a text under 'plugin'.")
        return dict(section)

    def _activate(self, name: str) -> None:
        section = self._section(name)
        kind = section["plugin"]
        plugin = plugins.find(plugins.CONFIGURATION, kind)
        if plugin is None:
            log.warning("%s: plugin %r is not installed and does nothing", self._place(name), kind)
            return
        validate = getattr(plugin, "validate", None)
        if validate:
            validate(section, self._place(name))
        import inspect  # slow to load, and seldom needed by a short job

        takes = len(inspect.signature(plugin.activate).parameters)
        self._plugins[kind] = plugin.activate(*(section, self)[:takes])


def _load(text: str, where: str) -> Any:
    import yaml  # not needed without a configuration, as in many a short job

    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except yaml.YAMLError as error:
        detail = " ".join(str(error).split())
        raise ConfigurationError(f"{where} is not valid YAML: {detail}.") from None


def _parse(text: str, where: str) -> Mapping[str, Any]:
    data = _load(text, where)
    if not isinstance(data, dict) or "version" not in data:
        raise ConfigurationError(f"{where} is not a site configuration: it needs 'version: 1'.")
    if data["version"] != 1 or type(data["version"]) is not int:
        raise ConfigurationError(
            f"{where}, key 'version' is {data['version']!r}; the number 1 is expected."
        )
    return data
