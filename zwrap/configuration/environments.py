"""The sections that an environment activates, given as lists, groups or aliases."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from zwrap.configuration.merging import RESERVED, Merged
from zwrap.errors import ConfigurationError, UnknownEntryError


def resolve_environments(merged: Merged) -> dict[str, list[str]]:
    """Return the sections that each environment activates, in order, each once.

    Groups are in alphabetical order, the group ``plugins`` last. A text is an alias, which may name
    another alias.

    Raises:
        ConfigurationError: An environment is wrong, or anything that `merged` has found before.
        UnknownEntryError: A section or environment is named that does not exist.
        FaultsError: There are several such faults.
    """
    data, place, faults = merged.environments, merged.place, merged.faults
    aliases = {name: value for name, value in data.items() if isinstance(value, str)}
    environments: dict[str, list[str]] = {name: [] for name in data if name not in aliases}
    for name in environments:
        with faults.collected():
            environments[name] = _flattened(data[name], place(name))
        for member in environments[name]:
            with faults.collected():
                _check_member(member, merged, place(name))
    for name in aliases:
        with faults.collected():
            environments[name] = environments[_target(name, aliases, set(environments), place)]
    faults.check()
    return environments


def _check_member(member: str, merged: Merged, where: str) -> None:
    """Raise ConfigurationError if an environment names no section."""
    if member in RESERVED:
        raise ConfigurationError(f"{where} names {member!r}, which is not a section but reserved.")
    if member not in merged.sections:
        raise UnknownEntryError("section", member, merged.sections, where)


def transport_sections(merged: Merged, environment: str) -> list[str]:
    """Return the sections that the group ``transport`` of an environment names."""
    groups = merged.environments[environment]
    while isinstance(groups, str):
        groups = merged.environments[groups]
    named = groups.get("transport") if isinstance(groups, dict) else None
    return [str(each) for each in (named if isinstance(named, list) else [named]) if each]


def _flattened(value: object, where: str) -> list[str]:
    """Return the sections in the groups of one environment; ConfigurationError for other forms."""
    if not isinstance(value, dict):
        raise ConfigurationError(
            f"{where} is {value!r}; a list of sections, a mapping of groups, or the name of "
            "another environment is expected."
        )
    members: list[object] = []
    for group in sorted(value, key=lambda name: (name == "plugins", str(name))):
        entries = value[group]
        if isinstance(entries, str):
            entries = [entries]
        if entries is not None and not isinstance(entries, list):
            raise ConfigurationError(
                f"{where}, group {group!r} is {entries!r}; a section or a list of them is expected."
            )
        members += entries or []
    for member in members:
        if not isinstance(member, str):
            raise ConfigurationError(f"{where} names {member!r}, which is not a section name.")
    return list(dict.fromkeys(str(member) for member in members))


def _target(
    name: str, aliases: Mapping[str, str], known: set[str], place: Callable[[str], str]
) -> str:
    """Return the environment for which an alias stands, through any number of aliases."""
    route = [name]
    while route[-1] in aliases:
        following = aliases[route[-1]]
        if following in route:
            circle = " -> ".join([*route, following])
            raise ConfigurationError(f"{place(name)} is an alias of itself: {circle} (circular).")
        if following not in aliases and following not in known:
            where = f"{place(route[-1])}, an alias of something undefined"
            raise UnknownEntryError("environment", following, {*known, *aliases}, where)
        route.append(following)
    return route[-1]
