"""Which plugin configurations an environment stands for: lists, groups and aliases."""

from __future__ import annotations

from typing import Any

from zwrap.errors import ConfigurationError, UnknownNameError


def resolve_environments(data: Any, sections: set[str], where: str) -> dict[str, list[str]]:
    """Environment name to the sections that it activates, in order, each once.

    Groups count alphabetically, the group ``plugins`` last. A text is an alias; aliases chain.
    """
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigurationError(f"{where}, key 'environments' must be a mapping.")
    place = f"{where}, environment"
    environments = {
        str(name): _flattened(value, f"{place} {name!r}")
        for name, value in data.items()
        if not isinstance(value, str)
    }
    aliases = {str(name): value for name, value in data.items() if isinstance(value, str)}
    for name, members in environments.items():
        for member in members:
            if member not in sections:
                raise UnknownNameError("section", member, sections, f"{place} {name!r}")
    for name in aliases:
        environments[name] = environments[_target(name, aliases, set(environments), place)]
    return environments


def _flattened(value: Any, where: str) -> list[str]:
    if isinstance(value, list):
        groups: list[Any] = [value]
    elif isinstance(value, dict):
        names = sorted(value, key=lambda name: (name == "plugins", str(name)))
        groups = [value[name] for name in names]
    else:
        raise ConfigurationError(
            f"{where} is {value!r}; a list of sections, a mapping of groups, or the name of "
            "another environment is expected."
        )
    members = [
        entry for group in groups for entry in ([group] if isinstance(group, str) else group or [])
    ]
    for member in members:
        if not isinstance(member, str):
            raise ConfigurationError(f"{where} names {member!r}, which is no section name.")
    return list(dict.fromkeys(members))


def _target(name: str, aliases: dict[str, str], known: set[str], place: str) -> str:
    """The environment that an alias ends at."""
    route = [name]
    while route[-1] in aliases:
        following = aliases[route[-1]]
        if following in route:
            circle = " -> ".join([*route, following])
            raise ConfigurationError(f"{place} {name!r} is an alias of itself: {circle}.")
        if following not in aliases and following not in known:
            raise UnknownNameError(
                "environment", following, {*known, *aliases}, f"{place} {route[-1]!r}"
            )
        route.append(following)
    return route[-1]
