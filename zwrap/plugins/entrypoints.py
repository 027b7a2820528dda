"""Entry points of the distributions that are installed, read from their metadata.

The result is that of importlib.metadata, without the 25 ms that loading it takes
(`scripts/bench starting`). Archives on the path, and eggs, are left to importlib.metadata.
"""

from __future__ import annotations

import functools
import importlib
import operator
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """One entry point (packaging.python.org/specifications/entry-points)."""

    name: str
    value: str
    distribution: str = ""
    """Normalised name of the distribution, such as ``my_site``."""
    version: str = ""
    place: str = ""
    """Directory in which the distribution is installed."""

    def load(self) -> object:
        """Import the object and return it."""
        return load(self.value.partition("[")[0])

    def __str__(self) -> str:
        owner = f"{self.distribution} {self.version}".strip()
        place = f" in {self.place}" if self.place else ""
        return f"class {self.value.partition('[')[0].strip()} of distribution {owner}{place}"


def load(reference: str) -> object:
    """Import what an object reference names: a module, or after a colon something in it.

    Source: packaging.python.org/specifications/entry-points.
    """
    module, _, name = reference.replace(" ", "").partition(":")
    found = importlib.import_module(module)
    return operator.attrgetter(name)(found) if name else found


def entries(group: str, path: Iterable[str] | None = None) -> list[Entry]:
    """Return the entry points of a group, from the first copy of each distribution on the path.

    They are in the order of the path and, within a directory, of the distributions' names.
    `path`: directories; None: those from which modules are imported.
    """
    places = list(sys.path if path is None else path)
    found: dict[str, list[Entry]] = {}
    for place in places:
        try:
            files = sorted(os.listdir(place or "."))
        except NotADirectoryError:
            files = [".egg"]
        except OSError:
            continue
        for file in files:
            if file.endswith(".egg"):
                return _of_metadata(group, places)
            if file.endswith((".dist-info", ".egg-info")):
                name = _distribution(file)
                if name not in found:
                    found[name] = _declared(group, name, place, file)
    return [entry for entries in found.values() for entry in entries]


def version_of(distribution: str) -> str | None:
    """Return the version of an installed distribution, by its normalised name; None: it is not."""
    for place in sys.path:
        try:
            files = os.listdir(place or ".")
        except OSError:
            continue
        for file in files:
            if file.endswith((".dist-info", ".egg-info")) and _distribution(file) == distribution:
                return _version(file)
    return None


def _of_metadata(group: str, path: list[str]) -> list[Entry]:
    """Return the entry points of a group as importlib.metadata finds them."""
    from importlib import metadata

    found: dict[str, list[Entry]] = {}
    for each in metadata.distributions(path=path):
        name = _normalised(each.metadata["Name"] or "")
        declared = each.entry_points.select(group=group)
        entries = [Entry(entry.name, entry.value, name, each.version) for entry in declared]
        found.setdefault(name, entries)
    return [entry for entries in found.values() for entry in entries]


def _distribution(directory: str) -> str:
    """Return the normalised name of the distribution whose metadata is in a directory.

    Source: packaging.python.org/specifications/recording-installed-packages; older tools leave dots
    and capital letters in the name of the directory.
    """
    return _normalised(directory.rpartition(".")[0].partition("-")[0])


def _normalised(name: str) -> str:
    """Return the name of a distribution as directories of metadata spell it."""
    return re.sub(r"[-_.]+", "_", name).lower()


def _version(directory: str) -> str:
    """Return the version of the distribution whose metadata is in a directory; empty: not told."""
    return directory.rpartition(".")[0].partition("-")[2]


def _declared(group: str, distribution: str, place: str, directory: str) -> list[Entry]:
    """Return the entry points that one distribution declares in a group."""
    text = _text(Path(place, directory, "entry_points.txt"))
    if f"[{group}]" not in text:
        return []
    section = text.partition(f"[{group}]")[2].partition("\n[")[0]
    lines = (line.strip() for line in section.splitlines())
    pairs = [line.partition("=") for line in lines if line and line[0] not in "#;"]
    version = _version(directory)
    return [
        Entry(name.strip(), value.strip(), distribution, version, place) for name, _, value in pairs
    ]


@functools.lru_cache(maxsize=1000)
def _text(file: Path) -> str:
    """Return the entry points of one distribution as text; empty without any."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
