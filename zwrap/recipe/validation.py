"""Validation of a recipe: each fault is reported with its node and key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from typing import TypeGuard

from zwrap.errors import short

Definition = Mapping[int | str, object]
"""A normalised recipe: integer node keys, beside them ``start`` and ``error``."""

LARGEST_NODE = 2**31 - 1
"""Largest number of a node; the ledger has a column for it."""

TOLD = 20
"""Number of faults that are told; a recipe may have thousands."""


def is_number(value: object) -> TypeGuard[float]:
    """Return True for a number that is neither true or false, nor NaN or Infinity."""
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, float) and isfinite(value))


def complaints(recipe: Definition) -> list[str]:
    """Return a clause for each fault of a normalised recipe; none if it is valid."""
    if not recipe:
        return ["it is empty; at least one node and 'start' are expected"]
    nodes = {key: node for key, node in recipe.items() if type(key) is int}
    found = [*_key_complaints(recipe), *_start_complaints(recipe, nodes)]
    if "error" in recipe:
        found += _reference_complaints("key 'error'", recipe["error"], nodes, dicts=False)
    for number, node in nodes.items():
        found += _node_complaints(number, node, nodes)
    if not found:
        following = {number: successors(node) for number, node in nodes.items()}
        found += _cycle_complaints(following)
        found += _unreferenced_complaints(recipe, following)
    more = len(found) - TOLD
    return [*found[:TOLD], f"and {more} further faults"] if more > 0 else found


def _key_complaints(recipe: Definition) -> Iterator[str]:
    """Yield a clause for each key without a meaning."""
    for key in recipe:
        if type(key) is int:
            if not 0 < key <= LARGEST_NODE:
                yield f"node {short(key)} is not a number from 1 to {LARGEST_NODE}"
        elif key in ("start", "error"):
            continue
        elif isinstance(key, str) and key.isdecimal() and key.strip("0"):
            yield (
                f"key {short(key)} is no further node: numbers go from 1 to {LARGEST_NODE}, and "
                "each is there once, however it is written"
            )
        else:
            yield f"key {short(key)} is neither a node number above 0, nor 'start', nor 'error'"


def _start_complaints(recipe: Definition, nodes: Mapping[int, object]) -> Iterator[str]:
    """Yield the faults of key ``start``."""
    start = recipe.get("start")
    if not isinstance(start, list) or not start:
        yield "key 'start' must be a non-empty list of [node, payload] pairs"
        return
    for index, pair in enumerate(start):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            yield f"key 'start', entry {index}: {short(pair)} is not a [node, payload] pair"
        elif type(pair[0]) is not int or pair[0] not in nodes:
            yield f"key 'start', entry {index}: node {short(pair[0])} does not exist"


def _node_complaints(number: int, node: object, nodes: Mapping[int, object]) -> Iterator[str]:
    """Yield the faults of one node."""
    if not isinstance(node, dict):
        yield f"node {number} is a {type(node).__name__}; an object is expected"
        return
    delay = node.get("transport-delay")
    if delay is not None and not (is_number(delay) and delay >= 0):
        yield f"node {number}, key 'transport-delay': {short(delay)} is not a number of seconds"
    for key in ("output", "error"):
        if key in node and not (key == "error" and node[key] is None):
            where = f"node {number}, key {key!r}"
            yield from _reference_complaints(where, node[key], nodes, dicts=True)


def _reference_complaints(
    where: str, value: object, nodes: Mapping[int, object], *, dicts: bool, inside: bool = False
) -> Iterator[str]:
    """Yield the faults of a reference to nodes: a number, a list, or, with `dicts`, a mapping."""
    if type(value) is int:
        if value not in nodes:
            yield f"{where}: node {short(value)} does not exist"
    elif isinstance(value, list):
        for entry in value:
            yield from _reference_complaints(where, entry, nodes, dicts=False)
    elif isinstance(value, dict) and dicts:
        for name, entry in value.items():
            yield from _reference_complaints(
                f"{where}, output {short(name)}", entry, nodes, dicts=True, inside=True
            )
    elif not (value is None and inside):
        expected = "a node number, a list of them" + (" or named outputs" if dicts else "")
        yield f"{where}: {short(value)} is not {expected}"


def successors(node: object) -> set[int]:
    """Return the numbers of the nodes to which a valid node leads, by `output` and `error`."""
    return _numbers([node.get("output"), node.get("error")]) if isinstance(node, dict) else set()


def _numbers(references: Iterable[object]) -> set[int]:
    """Return all node numbers in references, at any depth."""
    found: set[int] = set()
    waiting = list(references)
    while waiting:
        value = waiting.pop()
        if type(value) is int:
            found.add(value)
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return found


def _cycle_complaints(following: Mapping[int, set[int]]) -> Iterator[str]:
    """Yield the first cycle that is found, depth first; without recursion, for any length."""
    done: set[int] = set()
    for root in following:
        path: dict[int, None] = {}  # in the order of the path, and found without a search
        stack = [iter([root])]
        while stack:
            number = next(stack[-1], None)
            if number is None:
                stack.pop()
                if path:
                    done.add(path.popitem()[0])
            elif number in path:
                nodes = list(path)
                circle = [*nodes[nodes.index(number) :], number]
                yield f"the nodes form a cycle: {_route(circle)}"
                return
            elif number not in done:
                path[number] = None
                stack.append(iter(sorted(following[number])))


def _route(numbers: list[int]) -> str:
    """Return a route through nodes as text; of a long one its ends."""
    shown = list(map(str, numbers))
    return " -> ".join(shown if len(shown) <= TOLD else [*shown[:9], "...", *shown[-9:]])


def _unreferenced_complaints(
    recipe: Definition, following: Mapping[int, set[int]]
) -> Iterator[str]:
    """Yield a clause for each node to which nothing leads."""
    start = recipe["start"]
    first = [pair[0] for pair in start] if isinstance(start, list) else []
    reached = _numbers([first, recipe.get("error")]).union(*following.values())
    for number in sorted(set(following) - reached):
        yield f"node {number} is reached from nowhere: neither 'start' nor any output leads to it"
