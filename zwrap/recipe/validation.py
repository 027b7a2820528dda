"""Faults of a recipe, each with node and key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

Definition = Mapping[int | str, object]
"""A normalised recipe: integer node keys, beside them ``start`` and ``error``."""


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
    return found


def _key_complaints(recipe: Definition) -> Iterator[str]:
    """Yield a clause for each key without a meaning."""
    for key in recipe:
        if type(key) is not int and key not in ("start", "error"):
            yield f"key {key!r} is neither a node number above 0, nor 'start', nor 'error'"


def _start_complaints(recipe: Definition, nodes: Mapping[int, object]) -> Iterator[str]:
    """Yield the faults of key ``start``."""
    start = recipe.get("start")
    if not isinstance(start, list) or not start:
        yield "key 'start' must be a non-empty list of [node, payload] pairs"
        return
    for index, pair in enumerate(start):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            yield f"key 'start', entry {index}: {pair!r} is not a [node, payload] pair"
        elif type(pair[0]) is not int or pair[0] not in nodes:
            yield f"key 'start', entry {index}: node {pair[0]!r} does not exist"


def _node_complaints(number: int, node: object, nodes: Mapping[int, object]) -> Iterator[str]:
    """Yield the faults of one node."""
    if not isinstance(node, dict):
        yield f"node {number} is a {type(node).__name__}; an object is expected"
        return
    delay = node.get("transport-delay")
    if delay is not None and not isinstance(delay, (int, float)):
        yield f"node {number}, key 'transport-delay': {delay!r} is not a number of seconds"
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
            yield f"{where}: node {value} does not exist"
    elif isinstance(value, list):
        for entry in value:
            yield from _reference_complaints(where, entry, nodes, dicts=False)
    elif isinstance(value, dict) and dicts:
        for name, entry in value.items():
            yield from _reference_complaints(
                f"{where}, output {name!r}", entry, nodes, dicts=True, inside=True
            )
    elif not (value is None and inside):
        expected = "a node number, a list of them" + (" or named outputs" if dicts else "")
        yield f"{where}: {value!r} is not {expected}"


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
        path: list[int] = []
        stack = [iter([root])]
        while stack:
            number = next(stack[-1], None)
            if number is None:
                stack.pop()
                if path:
                    done.add(path.pop())
            elif number in path:
                circle = [*path[path.index(number) :], number]
                yield "the nodes form a cycle: " + " -> ".join(map(str, circle))
                return
            elif number not in done:
                path.append(number)
                stack.append(iter(sorted(following[number])))


def _unreferenced_complaints(
    recipe: Definition, following: Mapping[int, set[int]]
) -> Iterator[str]:
    """Yield a clause for each node to which nothing leads."""
    start = recipe["start"]
    first = [pair[0] for pair in start] if isinstance(start, list) else []
    reached = _numbers([first, recipe.get("error")]).union(*following.values())
    for number in sorted(set(following) - reached):
        yield f"node {number} is reached from nowhere: neither 'start' nor any output leads to it"
