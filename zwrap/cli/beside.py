"""Lines of `zwrap check` on what else is installed under names of zwrap, commands and parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zwrap.host.commands import other_owner
from zwrap.host.programs import own_directory, own_script
from zwrap.plugins import entrypoints
from zwrap.plugins.registry import (
    CONFIGURATION,
    OWN,
    PROGRAMS,
    SERVICES,
    UPSTREAM,
    candidates,
    choice,
    names as names_in,
)
from zwrap.program.choice import Choice, names
from zwrap.program.reading import SHIPPED_PREFIX

BACK = "'pip install --force-reinstall --no-deps zwrap' gives them to zwrap"
"""Clause that says how zwrap gets its commands back."""


def lines(programs: Path | None) -> Iterator[str]:
    """Yield a line for each clash of names; `programs`: the site's directory of definitions."""
    yield from _commands()
    yield from _wrappers(programs)
    yield from _services()
    yield from _configuration_plugins()


def _commands() -> Iterator[str]:
    """Yield lines on commands that another distribution has, has removed, or could remove."""
    script = own_script("zwrap")
    place = Path(script).parent if script else Path(own_directory())
    gone, taken = [], {}
    for name in sorted(OWN[PROGRAMS]):
        file = place / name
        if not file.exists():
            gone.append(name)
        elif owner := other_owner(file):
            taken[name] = owner
    if taken:
        owned = ", ".join(f"{name} ({owner})" for name, owner in taken.items())
        yield (
            f"warning: commands in {place} are those of another distribution: {owned}. zwrap's are "
            f"there as 'zwrap {next(iter(taken))}' and so on, which its jobs use; {BACK} "
            "(docs/beside.md)"
        )
    if gone:
        yield (
            f"warning: commands are missing in {place}: {', '.join(gone)}. 'pip uninstall' of a "
            "distribution that has commands of the same names removes them; until then "
            f"'zwrap {gone[0]}' and so on do the same; {BACK} (docs/beside.md)"
        )
    version = entrypoints.version_of("zocalo")
    if version is not None and not taken and not gone:
        yield (
            f"warning: zocalo {version} is installed here, too, with commands of the same names, "
            f"which are zwrap's now; 'pip uninstall zocalo' removes them, then {BACK} "
            "(docs/beside.md)"
        )


def _wrappers(programs: Path | None) -> Iterator[str]:
    """Yield lines on names of wrappers under which several are installed."""
    for name in names(programs):
        choice = Choice.of(name, programs)
        if len(choice.candidates) > 1:
            yield str(choice)


def _services() -> Iterator[str]:
    """Yield lines on names of services under which several are installed."""
    for name in names_in(SERVICES):
        if len(candidates(SERVICES, name)) > 1:
            yield f"service {choice(SERVICES, name, f'-s {SHIPPED_PREFIX}{name}')}"


def _configuration_plugins() -> Iterator[str]:
    """Yield warnings about plug-ins of a site that are hidden by those of zwrap."""
    for name in sorted(OWN[CONFIGURATION]):
        for entry in candidates(CONFIGURATION, name):
            if entry.distribution != "zwrap" and not entry.value.startswith(UPSTREAM):
                yield (
                    f"warning: configuration plugin {name!r} is zwrap's own; {entry} is not used. "
                    "Register it under another name, and write that in the site file"
                )
