"""Warnings about recipes that are valid: keys given twice, placeholders without a value."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence

from zwrap.errors import short

TOLD = 20
"""Number of oddities of one kind that are told; a recipe may have thousands."""


def repeated_keys(text: bytes | str) -> tuple[str, ...]:
    """Return a clause for each key that is more than once in one object of a valid JSON text.

    JSON readers, and those of python-workflows, take the last value of such a key, silently.
    """
    import json  # which a job need not load

    found: dict[int, tuple[object, list[str]]] = {}

    def made(pairs: list[tuple[str, object]]) -> dict[str, object]:
        value = dict(pairs)
        if len(value) < len(pairs):
            count = Counter(name for name, _ in pairs)
            twice = [name for name in value if count[name] > 1]
            found[id(value)] = value, twice  # with the object, so that no other gets its id
        return value

    try:
        whole = json.loads(text, object_pairs_hook=made)
    except (ValueError, RecursionError):  # the other reader took it
        return ()
    if not found:
        return ()
    places = (
        (place, found[id(value)][1]) for place, value in _objects(whole) if id(value) in found
    )
    return tuple(_listed([_clause(place, name) for place, twice in places for name in twice]))


def _objects(whole: object) -> Iterator[tuple[list[str], object]]:
    """Yield each object in a JSON value, the outermost first, with the keys that lead to it."""
    waiting: deque[tuple[list[str], object]] = deque([([], whole)])
    while waiting:
        keys, value = waiting.popleft()
        if isinstance(value, dict):
            yield keys, value
            waiting += [([*keys, key], each) for key, each in value.items()]
        elif isinstance(value, list):
            waiting += [([*keys, str(number)], each) for number, each in enumerate(value)]


def _clause(keys: Sequence[str], name: str) -> str:
    """Return the clause for a key that an object has more than once."""
    if not keys:
        return f"key {short(name)} is there more than once"
    inner = [f"key {short(key)}" for key in keys[1:]]
    place = ", ".join([f"node {keys[0]}" if keys[0].isdecimal() else f"key {keys[0]!r}", *inner])
    return f"{place}: key {short(name)} is there more than once"


def repeated_remark(name: str, repeated: Sequence[str]) -> str:
    """Return the sentence about the keys that a recipe has more than once."""
    return (
        f"Recipe {name}: {'; '.join(repeated)}. Only the last value counts, for all readers of "
        "JSON; give each key once."
    )


def unfilled_remark(unfilled: Sequence[str]) -> str:
    """Return the clause about placeholders without a value."""
    shown = _listed([each if len(each) <= 100 else f"{each[:97]}..." for each in unfilled])
    lost = any(each.startswith("{$REPLACE:") for each in unfilled)
    return (
        f"no parameter gives a value to {', '.join(shown)}; the text stays as it is"
        + ", and where $REPLACE is all of it, it becomes null" * lost
    )


def lonely_exchanges(nodes: Mapping[int, Mapping[str, object]]) -> list[str]:
    """Return a clause for each node with an exchange and without the queue that it needs."""
    return [
        f"node {number} has key 'exchange' ({short(node['exchange'])}) and no key 'queue', which "
        "is the routing key of its messages: no message goes to the exchange"
        for number, node in nodes.items()
        if node.get("exchange") and not node.get("queue")
    ]


def _listed(clauses: list[str]) -> list[str]:
    """Return the first of many clauses, and how many more there are."""
    more = len(clauses) - TOLD
    return [*clauses[:TOLD], f"and {more} more"] if more > 0 else clauses
