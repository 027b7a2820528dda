"""A site file and the files that it includes, merged; each part keeps its origin.

A file is read first, then each file that it includes, in order and to any depth; later ones win.
A section replaces an earlier section of the same name as a whole. In environments of the same name
a group replaces an earlier one of the same name, but lists under ``plugins`` are joined.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from zwrap.configuration.faults import Faults
from zwrap.configuration.reading import Source, read_file
from zwrap.errors import ConfigurationError

RESERVED = ("version", "environments", "include")


class Section(msgspec.Struct, frozen=True):
    """One plugin configuration, and the text that holds it."""

    name: str
    value: Any
    """A mapping, or the path of a file that holds one."""
    source: Source

    def place(self, *route: str) -> str:
        """Return file, line and key of a value in the section."""
        inside = self.source.lines.get((self.name,)) is not None
        return self.source.place(*((self.name, *route) if inside else route))

    def origin(self, *route: str) -> str:
        """Return file and line of a value in the section."""
        inside = self.source.lines.get((self.name,)) is not None
        return self.source.origin(*((self.name, *route) if inside else route))


class Merged(msgspec.Struct):
    """Sections by name, and environments by name and group, of all files."""

    faults: Faults
    sections: dict[str, Section] = {}
    environments: dict[str, object] = {}
    """Environment to its alias (text), or to its groups of section names (mapping)."""
    origins: dict[str, Source] = {}
    """Environment to the text that last defined it."""

    def place(self, environment: str) -> str:
        """Return file, line and key of an environment, with which a message may begin."""
        return self.origins[environment].place("environments", environment)


def merged(source: Source) -> Merged:
    """Return the sections and environments of a site file and its included files.

    What is wrong with one of them is kept in `faults`, and it is as if it were right.

    Raises:
        ConfigurationError: The file is not a site configuration.
    """
    result = Merged(Faults())
    _merge(source, result, [])
    return result


def _merge(source: Source, result: Merged, route: list[str]) -> None:
    """Add a file, and those that it includes, to the result; `route` led to it."""
    if source.label in route:
        circle = " -> ".join([*route, source.label])
        raise ConfigurationError(f"{source.place('include')} goes in a circle: {circle}.")
    _check_version(source)
    for name, value in source.data.items():
        if name not in RESERVED:
            section = Section(str(name), value, source)
            result.sections[section.name] = section
            if not isinstance(value, str):
                with result.faults.collected():
                    check_plugin(section)
    with result.faults.collected():
        _merge_environments(source, result)
    for file in _included(source, result.faults):
        with result.faults.collected():
            included = read_file(file, f"{source.place('include')}: the file")
            _merge(included, result, [*route, source.label])


def _check_version(source: Source) -> None:
    """Raise ConfigurationError unless the file has version 1."""
    data = source.data
    if not isinstance(data, dict) or "version" not in data:
        raise ConfigurationError(
            f"Invalid configuration: {source.label} is not a site configuration: "
            "'version: 1' is missing."
        )
    if data["version"] != 1 or type(data["version"]) is not int:
        raise ConfigurationError(
            f"{source.place('version')} is {data['version']!r}; the number 1 is expected, "
            "because zwrap does not understand other versions."
        )


def check_plugin(section: Section) -> None:
    """Raise ConfigurationError unless the section is a mapping that names its plugin."""
    value = section.value
    if isinstance(value, dict) and isinstance(value.get("plugin"), str):
        return
    hint = ""
    if isinstance(value, dict):
        import difflib

        close = difflib.get_close_matches("plugin", [str(key) for key in value], n=1)
        hint = f" Is {close[0]!r} a misspelt 'plugin'?" if close else ""
    raise ConfigurationError(
        f"{section.place()} must be a mapping with a text under 'plugin', or the path of a file "
        f"that holds one.{hint}"
    )


def _merge_environments(source: Source, result: Merged) -> None:
    """Add the environments of a file to the result."""
    given = source.data.get("environments")
    if given is None:
        return
    if not isinstance(given, dict):
        raise ConfigurationError(f"{source.place('environments')} must be a mapping.")
    for name, value in given.items():
        key = str(name)
        groups = {"plugins": value} if isinstance(value, list) else value
        before = result.environments.get(key)
        if isinstance(groups, dict) and isinstance(before, dict):
            groups = _joined(before, groups)
        result.environments[key] = groups
        result.origins[key] = source


def _joined(before: dict[str, object], after: dict[str, object]) -> dict[str, object]:
    """Return the groups of an environment that is defined twice."""
    both = {**before, **after}
    lists = before.get("plugins"), after.get("plugins")
    if isinstance(lists[0], list) and isinstance(lists[1], list):
        both["plugins"] = [*lists[0], *lists[1]]
    return both


def _included(source: Source, faults: Faults) -> list[Path]:
    """Return the files that a file includes; relative paths start from its directory."""
    files = source.data.get("include") or []
    place = source.place("include")
    if isinstance(files, str) or not isinstance(files, list):
        faults.add(ConfigurationError(f"{place} must be a list of files."))
        return []
    found = []
    for file in files:
        if isinstance(file, str):
            found.append((source.base / Path(file).expanduser()).absolute())
        else:
            text = f"{place} names {file!r}; a list of files is expected."
            faults.add(ConfigurationError(text))
    return found
