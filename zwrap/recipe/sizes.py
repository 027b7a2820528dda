"""Limits of sizes of a recipe, checked before any work whose cost depends on them."""

from __future__ import annotations

from collections.abc import Mapping

from zwrap.errors import RecipeError
from zwrap.message.limits import Limits, is_deeper
from zwrap.recipe.destinations import NAMED

LONGEST_CHARACTER = 6
"""Size of the longest character, half of one with its escape, in bytes."""


def check_sizes(recipe: Mapping[int | str, object], limits: Limits, name: str) -> None:
    """Raise RecipeError if a normalised recipe, which may have any fault, exceeds a limit."""
    nodes = [key for key in recipe if type(key) is int]
    _check(len(nodes), limits.nodes, "nodes", name, "nodes")
    start = recipe.get("start")
    _check(len(start) if isinstance(start, list) else 1, limits.start, "start pairs", name, "start")
    if is_deeper(recipe, limits.depth):
        raise RecipeError(
            f"Recipe {name} is nested more than {limits.depth} deep (section limits, key 'depth'); "
            "flatter values are expected."
        )
    targets: list[object] = [recipe.get("error")]
    for number in nodes:
        node = recipe[number]
        if isinstance(node, dict):
            targets += (node.get("output"), node.get("error"))
            _check_node(number, node, limits, name)
    _check(_count(targets), limits.outputs, "references to nodes", name, "outputs")


def _check(number: int, limit: int, what: str, name: str, key: str) -> None:
    """Raise RecipeError if a number exceeds the limit under `key`."""
    if number > limit:
        raise RecipeError(
            f"Recipe {name} has {number} {what}; up to {limit} are taken (section limits, key "
            f"{key!r})."
        )


def _check_node(number: int, node: Mapping[str, object], limits: Limits, name: str) -> None:
    """Raise RecipeError if a name or the delay of a node exceeds its limit."""
    for key in NAMED:
        place = node.get(key)
        if isinstance(place, str) and is_long(place, limits.name_bytes):
            raise RecipeError(
                f"Recipe {name}, node {number}, key {key!r} is a name of more than "
                f"{limits.name_bytes} bytes (section limits, key 'name_bytes')."
            )
    delay = node.get("transport-delay")
    if isinstance(delay, (int, float)) and not delay <= limits.delay_s:
        raise RecipeError(
            f"Recipe {name}, node {number}, key 'transport-delay' is longer than "
            f"{limits.delay_s:g} s (section limits, key 'delay_s')."
        )


def is_long(text: str, limit_bytes: int) -> bool:
    """Return True if a text has more than `limit_bytes` bytes of UTF-8."""
    if len(text) * LONGEST_CHARACTER <= limit_bytes:
        return False
    return len(text) > limit_bytes or len(text.encode(errors="backslashreplace")) > limit_bytes


def _count(targets: list[object]) -> int:
    """Return the number of references to nodes in outputs, at any depth."""
    number = 0
    while targets:
        target = targets.pop()
        if isinstance(target, dict):
            targets += target.values()
        elif isinstance(target, list):
            targets += target
        elif target is not None:
            number += 1
    return number
