"""The recipes of a site by their names: `a/b` is ``a/b.json`` in the recipe directory."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from zwrap.errors import MessageError, RecipeError, UnknownNameError, short
from zwrap.host.faults import of_named_paths
from zwrap.message.limits import Limits
from zwrap.recipe.graph import Recipe

PART = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
"""Pattern of one part of a name, which never begins with a dot."""


SHOWN = 20
"""Number of names in the sentence about an unknown one."""

LOOKED_AT = 1000
"""Number of names among which one is looked for that was meant, for each unknown name."""


def names(directory: Path) -> list[str]:
    """Return the names of all recipes below a directory, sorted."""
    return sorted(_below(directory))


def _below(directory: Path) -> Iterator[str]:
    """Yield the names of all recipes below a directory."""
    for place, below, files in os.walk(directory):
        below[:] = [name for name in below if re.fullmatch(PART, name)]
        yield from _names_of(directory, Path(place), files)


def _names_of(directory: Path, place: Path, files: list[str]) -> Iterator[str]:
    """Yield the names of the recipes among files at a place in the directory."""
    begin = place.relative_to(directory)
    for file in files:
        stem = file.removesuffix(".json")
        if stem != file and re.fullmatch(PART, stem):
            name = str(begin / stem)
            if _link(directory, name) is None:
                yield name


def named_recipe(name: object, directory: Path, limits: Limits) -> Recipe:
    """Return the recipe of that name; the name may come from a message.

    Raises:
        MessageError: It is no name of a recipe.
        UnknownNameError: There is no such recipe.
        RecipeError: It cannot be read, or a link is on the way to it.
    """
    if not isinstance(name, str) or not re.fullmatch(f"{PART}(?:/{PART})*", name):
        raise MessageError(
            f"{short(name)} is not a valid recipe name: letters, digits and '_.+-' are expected, "
            "in parts with one '/' between them, none of which begins with one of '.+-'."
        )
    if len(name) > limits.name_bytes:
        raise MessageError(
            f"{short(name)} is the name of no recipe: it is longer than {limits.name_bytes} bytes "
            "(section limits, key 'name_bytes')."
        )
    file = directory / f"{name}.json"
    with of_named_paths(f"Recipe {name[:200]!r} cannot be read", RecipeError):
        if link := _link(directory, name):
            raise RecipeError(
                f"Recipe {name[:200]!r} is not read: {link} is a link, and none is followed in "
                "directories below that of the recipes."
            )
        if not file.is_file():
            raise _unknown(name, directory)
        return Recipe.from_file(file, limits)


def _unknown(name: str, directory: Path) -> UnknownNameError:
    """Return the error about an unknown name, with the nearest name and some that are known.

    A request may be one of many, and there may be any number of recipes, so not all are looked at;
    those beside which the recipe would be come first.
    """
    place = (directory / name).parent
    beside = _names_of(directory, place, os.listdir(place)) if place.is_dir() else iter(())
    taken = list(itertools.islice(itertools.chain(beside, _below(directory)), LOOKED_AT))
    found = sorted(set(taken))
    where = f"in {directory}"
    if len(found) <= SHOWN:
        return UnknownNameError("recipe", name, found, where)
    import difflib

    near = difflib.get_close_matches(name[:200], found, n=SHOWN)
    shown = {*near, *found[: SHOWN - len(near)]}
    others = f"There are {len(found) - len(shown)} others"
    more = " or more" if len(taken) == LOOKED_AT else ""
    return UnknownNameError("recipe", name, shown, where, f"{others}{more}.")


def _link(directory: Path, name: str) -> Path | None:
    """Return the first link on the way to a recipe; None without any.

    A recipe in the directory itself may be one, because only the site's staff puts it there.
    """
    if "/" not in name:
        return None
    *parents, last = name.split("/")
    place = directory
    for part in (*parents, f"{last}.json"):
        place /= part
        if place.is_symlink():
            return place
    return None
