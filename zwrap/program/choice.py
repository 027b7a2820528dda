"""What runs under the name of a wrapper: what a site installs goes before what zwrap ships.

The order is: a definition in the site's program directory; a class that a distribution installs in
the entry point group ``zocalo.wrappers``, in this environment or in an absolute directory of
PYTHONPATH; what zwrap ships; what python-zocalo ships. ``zwrap:NAME`` names what zwrap ships.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from zwrap import __version__
from zwrap.errors import PermanentError, UnknownNameError
from zwrap.plugins import registry
from zwrap.plugins.entrypoints import Entry, entries
from zwrap.program.definition import SHIPPED_PROGRAMS
from zwrap.program.reading import INLINE_PROGRAM, SHIPPED_PREFIX, program_names

UPSTREAM = ("workflows", "zocalo")
"""Distributions of python-zocalo, normalised; what they ship is not a site's."""


class Candidate(msgspec.Struct, frozen=True):
    """One part that is installed under the name of a wrapper; one of the two is not None."""

    file: Path | None = None
    """File of a definition; that of the wrapper `command` is the step itself."""
    entry: Entry | None = None
    """Class."""

    @property
    def is_shipped(self) -> bool:
        """True if it comes with zwrap."""
        if self.entry is not None:
            return self.entry.distribution == "zwrap"
        return self.file is not None and self.file.parent == SHIPPED_PROGRAMS

    def __str__(self) -> str:
        if self.entry is not None:
            return str(self.entry)
        if self.file is not None and self.file.name == INLINE_PROGRAM:
            return "the command in the step's job_parameters"
        return f"definition {self.file}"


class Choice(msgspec.Struct, frozen=True):
    """The parts that are installed under the name of a wrapper; the first one runs."""

    name: str
    candidates: list[Candidate]

    @classmethod
    def of(cls, name: str, site_directory: Path | None = None) -> Choice:
        """Find what is installed under a name.

        Args:
            name: Name of the wrapper, perhaps with ``zwrap:`` in front.
            site_directory: Directory of the site's definitions.

        Raises:
            UnknownNameError: There is none of that name.
        """
        bare = name.removeprefix(SHIPPED_PREFIX)
        found = list(_shipped(bare) if name != bare else _candidates(bare, site_directory))
        if not found:
            known = names(site_directory)
            further = f"{_misnamed(bare, site_directory)} {_searched()}".strip()
            raise UnknownNameError("wrapper", name, known, further=further)
        return cls(bare, found)

    @property
    def entry(self) -> Entry | None:
        """Class that runs; None: it is a definition."""
        return self.candidates[0].entry

    def __str__(self) -> str:
        first, *rest = self.candidates
        text = f"wrapper {self.name!r} is {first}"
        if rest:
            text += f"; it goes before {' and '.join(map(str, rest))}"
        if any(each.is_shipped for each in rest):
            text += f", which '--wrap {SHIPPED_PREFIX}{self.name}' names"
        return text


def names(site_directory: Path | None = None) -> list[str]:
    """Return the names of all wrappers, sorted."""
    installed = [entry.name for entry in _installed()]
    return sorted({*program_names(site_directory), *registry.OWN[registry.WRAPPERS], *installed})


def load(entry: Entry) -> object:
    """Return the class of an entry point; one of a site may use modules in PYTHONPATH, too.

    Modules of this environment go before those.

    Raises:
        PermanentError: The class cannot be imported; the text says why.
    """
    if entry.distribution != "zwrap":
        sys.path.extend(_further())
    try:
        return entry.load()
    except (Exception, SystemExit) as error:
        raise PermanentError(
            f"The {entry} cannot be imported: {type(error).__name__}: {error}. Modules are looked "
            f"for in the environment of zwrap, {sys.prefix}, and in absolute directories of "
            "PYTHONPATH."
        ) from error


def _candidates(name: str, site_directory: Path | None) -> Iterator[Candidate]:
    """Yield what is installed under a name; the first one runs."""
    if site_directory is not None:
        yield from _definition(name, site_directory)
    installed = [entry for entry in _installed() if entry.name == name]
    yield from (Candidate(entry=each) for each in installed if each.distribution not in UPSTREAM)
    yield from _shipped(name)
    yield from (Candidate(entry=each) for each in installed if each.distribution in UPSTREAM)


def _shipped(name: str) -> Iterator[Candidate]:
    """Yield what zwrap ships under a name."""
    if name == INLINE_PROGRAM:
        yield Candidate(file=SHIPPED_PROGRAMS / INLINE_PROGRAM)
    yield from _definition(name, SHIPPED_PROGRAMS)
    if own := registry.OWN[registry.WRAPPERS].get(name):
        yield Candidate(entry=Entry(name, own, "zwrap", __version__))


def _definition(name: str, directory: Path) -> Iterator[Candidate]:
    """Yield the definition of that name in a directory, if there is one."""
    file = directory / f"{name}.yaml"
    if "/" not in name and file.is_file():
        yield Candidate(file=file)


def _installed() -> list[Entry]:
    """Return the wrappers of all distributions but zwrap, those in PYTHONPATH last."""
    found = entries(registry.WRAPPERS, [*sys.path, *_further()])
    return [entry for entry in found if entry.distribution != "zwrap"]


def _further() -> list[str]:
    """Return the absolute directories in PYTHONPATH from which no module is imported yet.

    `zwrap.cli.start` takes them from the path: they must not decide what zwrap itself imports.
    """
    if sys.flags.ignore_environment:
        return []
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [place for place in given if place.startswith(os.sep) and place not in sys.path]


def _misnamed(name: str, site_directory: Path | None) -> str:
    """Return a sentence about a file that would be the definition if its name ended in .yaml."""
    file = site_directory / f"{name}.yml" if site_directory and "/" not in name else None
    return f"{file} is never read: its name has to end in .yaml." if file and file.exists() else ""


def _searched() -> str:
    """Return a sentence that says where classes were looked for, if PYTHONPATH names places."""
    given = os.environ.get("PYTHONPATH", "")
    if not given:
        return ""
    skipped = [place for place in given.split(os.pathsep) if not place.startswith(os.sep)]
    but = (
        f" Of its entries {skipped} do not count, because they are not absolute." if skipped else ""
    )
    return (
        f"Entry points {registry.WRAPPERS!r} were looked for in the environment of zwrap, "
        f"{sys.prefix}, and in PYTHONPATH, {given}.{but}"
    )
