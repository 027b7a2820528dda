"""Image sweeps as recipes name them, and the forms in which programs take them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from string import Formatter

from zwrap.errors import ProgramError, short

FIELDS = ("path", "directory", "name", "template", "id", "first", "last", "number")
"""Names in the form of a sweep: file, its directory and name; the name with ``#`` for the digits of
the image number; letters and digits before those, behind x and the number of the sweep; first and
last image; number of the sweep, from 0."""

LONGEST_SWEEP = 4096
"""Length of the longest sweep, in characters: that of the longest path."""

LARGEST_SWEEPS = 1 << 20
"""Largest number of characters in all sweeps of one input."""

_SWEEP = re.compile(r"(?P<path>.+):(?P<first>\d+):(?P<last>\d+)", re.DOTALL)
_NUMBERED = re.compile(
    r"(?P<before>.*?)(?<!\d)(?P<digits>\d++)(?P<end>(?:\.[A-Za-z]\w*(?:\.\w+)?)?)"
)
_ALL_IN_ONE = (".h5", ".nxs")
"""Ends of the names of files that hold all images of a sweep."""


def parted(value: object, separator: str) -> object:
    """Return a text, or a list with texts, as the list of what separators part in them."""
    if not isinstance(value, (str, list)):
        return value
    found: list[object] = []
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, str):
            found += filter(None, map(str.strip, entry.split(separator)))
        else:
            found.append(entry)
    return found


def formatted(value: object, form: str, where: str) -> object:
    """Return image sweeps in another form; ProgramError, which begins with `where`, for others."""
    entries = value if isinstance(value, list) else [value]
    if sum(len(entry) for entry in entries if isinstance(entry, str)) > LARGEST_SWEEPS:
        raise ProgramError(f"{where} has more than {LARGEST_SWEEPS} characters.")
    return [_formatted(entry, number, form, where) for number, entry in enumerate(entries)]


def _formatted(entry: object, number: int, form: str, where: str) -> str:
    """Return one image sweep in another form."""
    fits = isinstance(entry, str) and len(entry) <= LONGEST_SWEEP
    match = _SWEEP.fullmatch(str(entry)) if fits else None
    if match is None:
        raise ProgramError(
            f"{where} is {short(entry)}; an image with the numbers of the first and the last one, "
            f"such as '/data/x_0001.cbf:1:180', of at most {LONGEST_SWEEP} characters is expected."
        )
    directory, _, name = match["path"].rpartition("/")
    template = before = name
    if name.endswith(_ALL_IN_ONE):
        before = name.removesuffix("_master.h5")
    elif numbered := _NUMBERED.fullmatch(name):
        before = numbered["before"]
        template = before + "#" * len(numbered["digits"]) + numbered["end"]
    return form.format(
        path=match["path"], directory=directory or ("/" if match["path"][0] == "/" else "."),
        name=name, template=template, number=number, first=match["first"], last=match["last"],
        id=f"x{number}{re.sub(r'[^A-Za-z0-9.]', '', before)}",
    )  # fmt: skip


def faults(form: str) -> Iterator[str]:
    """Yield a clause if the form of a sweep holds a placeholder that there is not."""
    try:
        names = [name for _, name, _, _ in Formatter().parse(form) if name is not None]
        form.format(**dict.fromkeys(FIELDS, ""))
    except (ValueError, LookupError, AttributeError):
        names = [""]
    if any(name not in FIELDS for name in names):
        yield f"'sweep' is {short(form)}; a text with {{{'}, {'.join(FIELDS)}}} is expected"
