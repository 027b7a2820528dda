"""The merged site configuration for people: each value with its origin, secrets hidden."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from zwrap.configuration.merging import Section
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError
from zwrap.host.hiding import is_secret, of_name

_COLUMN = 60


def lines(configuration: Configuration) -> Iterator[str]:
    """Yield lines of YAML; a comment on each tells the origin of its value."""
    yield "version: 1"
    if configuration.environment_members:
        yield "environments:"
    for name, members in sorted(configuration.environment_members.items()):
        active = ", active" if name in configuration.active_environments else ""
        origin = configuration.environment_origins[name] + active
        yield _line(1, name, _printed(members), origin)
    for name, section in configuration.sections.items():
        yield f"{name}:"
        yield from _section(configuration, name, section)
    if configuration.site.storage:
        yield f"# storage, as {', '.join(configuration.active_environments)} merges it:"
        for key, value in configuration.site.storage.items():
            origin = _storage_origin(configuration, key)
            yield "#   " + _line(0, str(key), _printed(of_name(str(key), value)), origin)


def _section(configuration: Configuration, name: str, section: Section) -> Iterator[str]:
    """Yield the lines of one section, which may be in a file of its own."""
    if isinstance(section.value, str):
        yield f"  # {section.value} ({section.origin()}), read when it is activated"
        try:
            section = configuration.resolved(name)
        except ConfigurationError as error:
            yield f"  # {error}"
            return
    yield from _mapping(section, section.value, (), 1)


def _mapping(
    section: Section, values: dict[object, object], route: tuple[str, ...], depth: int
) -> Iterator[str]:
    """Yield the lines of a mapping inside a section, reached by the keys in `route`."""
    for key, value in values.items():
        here = (*route, str(key))
        if isinstance(value, dict) and value and not is_secret(str(key)):
            yield _line(depth, str(key), "", section.origin(*here))
            yield from _mapping(section, value, here, depth + 1)
        else:
            yield _line(depth, str(key), _printed(of_name(str(key), value)), section.origin(*here))


def _line(depth: int, key: str, value: str, origin: str) -> str:
    """Return one line of YAML with the origin as a comment."""
    text = f"{'  ' * depth}{key}: {value}".rstrip()
    return f"{text:<{_COLUMN}}  # {origin}" if origin else text


def _printed(value: object) -> str:
    """Return a value as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("...").rstrip()


def _storage_origin(configuration: Configuration, key: str) -> str:
    """Return file and line of the value of a storage key that is in force."""
    found = ""
    for environment in configuration.active_environments:
        for name in configuration.environment_members[environment]:
            section = configuration.resolved(name)
            if section.value["plugin"] == "storage" and key in section.value:
                found = section.origin(key)
    return found
