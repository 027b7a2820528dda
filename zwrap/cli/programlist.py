"""`zwrap program list`: every program with a definition, its file, and what it hides."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

from zwrap.cli.common import complain
from zwrap.configuration.site import Configuration
from zwrap.errors import ZwrapError
from zwrap.program.choice import Choice
from zwrap.program.definition import SHIPPED_PROGRAMS
from zwrap.program.reading import program_directories, read_definition

COLUMNS = {
    "program": "program",
    "status": "status",
    "source": "source",
    "description": "description",
    "note": "note",
}


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """List all programs; those whose definition is wrong are told on standard error."""
    from zwrap.cli.output import show

    found = list(_programs(configuration.site.program_directory))
    show(found, COLUMNS, as_json=options.json)
    return 0


def _programs(site: Path | None) -> Iterator[Mapping[str, object]]:
    """Yield an object for each definition, by name; one that hides another stands before it."""
    files = [
        (file.stem, order, file)
        for order, directory in enumerate(program_directories(site))
        for file in directory.glob("*.yaml")
        if not file.is_dir()
    ]
    for name, _, file in sorted(files):
        try:
            definition = read_definition(file)
        except ZwrapError as error:
            complain(str(error))
            continue
        shipped = file.parent == SHIPPED_PROGRAMS
        yield {
            "program": name,
            "status": definition.status,
            "source": "zwrap" if shipped else str(file),
            "description": definition.description,
            "note": _note(name, file, site),
        }


def _note(name: str, file: Path, site: Path | None) -> str:
    """Return what goes before a definition under its name, or what it goes before."""
    first, *others = Choice.of(name, site).candidates
    if first.file != file:
        return f"not used: {first} goes before it (zwrap:{name} names this one)"
    return f"goes before {' and '.join(map(str, others))}" if others else ""
