"""Node numbers that a parameter names, such as key `dependency` of a cluster block."""

from __future__ import annotations

from collections.abc import Mapping

from zwrap.units import whole_number


def numbers_in(given: object) -> list[int] | None:
    """Return the numbers of nodes that a value names, each once: a number, a text ``1,3``, a list.

    None: the value is nothing of that kind.
    """
    if isinstance(given, bool) or not isinstance(given, (int, str, list)):
        return None
    items = given if isinstance(given, list) else str(given).split(",")
    found: dict[int, None] = {}
    for item in items:
        is_text = isinstance(item, (int, str)) and not isinstance(item, bool)
        number = whole_number(str(item).strip()) if is_text else None
        if number is None:
            return None
        found[number] = None
    return list(found)


def entries_in(given: object) -> int:
    """Return how many numbers such a value holds, repeated ones included; none is read."""
    if isinstance(given, str):
        return given.count(",") + 1
    return len(given) if isinstance(given, list) else 1


def renumbered(given: object, numbers: Mapping[int, int]) -> object:
    """Return such a value with new node numbers; a value of another kind as it is."""
    named = numbers_in(given)
    if named is None:
        return given
    new = [numbers.get(number, number) for number in named]
    return new[0] if isinstance(given, int) else new
