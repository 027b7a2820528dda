"""Names of queues and topics that zwrap keeps for itself, so that no node of a recipe may use them.

Services and jobs use them for messages that belong to no recipe: verdicts and delays
(``zwrap.*``), dead letters (``dlq.*``), and orders to services (topic ``command``). A site opens
names to recipes in its section ``security``, under key ``queues``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from zwrap.errors import RecipeError, short

NAMED = ("queue", "topic", "exchange")
"""Keys of a node that name a destination."""

OWN = ("zwrap.*", "dlq.*")
"""Patterns of zwrap's own queues, topics and exchanges."""

BLANKS = "".join(map(chr, range(33)))
"""Characters around a name that are no part of it."""

COMMAND = "command"
"""Topic on which services hear orders; on RabbitMQ it is an exchange of that name."""


def is_closed(kind: str, name: object, opened: Sequence[str]) -> bool:
    """Return True if a name is one of zwrap's own that is not opened to recipes.

    Args:
        kind: Key of the node, one of `NAMED`.
        name: Value of the key; a number stands for its text.
        opened: Names, or patterns (`fnmatch`), that recipes may use.
    """
    return any(
        _is_own(of_kind, part) and not any(fnmatchcase(part, each) for each in opened)
        for of_kind, part in _parts(kind, str(name))
    )


def _parts(kind: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield kind and name of each part of a name.

    ActiveMQ takes several, with commas, each perhaps with its kind (``queue://``), and with options
    after ``?``; control characters around a name do not count. Only the first one gets the prefix
    of the site, so that another one may bring it, whatever it is.
    """
    for number, part in enumerate(name.split(",")):
        given, _, plain = part.partition("?")[0].strip(BLANKS).rpartition("://")
        of_kind = given.casefold() or kind
        yield of_kind, plain
        if number or given:
            for start, character in enumerate(plain):
                if character == ".":
                    yield of_kind, plain[start + 1 :]


def _is_own(kind: str, name: str) -> bool:
    """Return True if a name is one of zwrap's own; ActiveMQ's dead letters are in capitals."""
    folded = name.casefold()
    if any(fnmatchcase(folded, pattern) for pattern in OWN):
        return True
    return folded == COMMAND and kind != "queue"


def refusal(kind: str, name: object) -> str:
    """Return the clause that tells why a name is no target, and what would make it one."""
    return (
        f"key {kind!r} is {short(name)}, which is zwrap's own and no target for a recipe (section "
        "security, key 'queues', opens names)"
    )


def check_destinations(
    recipe: Mapping[int | str, object], opened: Sequence[str], name: str
) -> None:
    """Raise RecipeError if a node of a normalised recipe, which may have any fault, is closed."""
    for number, node in recipe.items():
        if type(number) is not int or not isinstance(node, dict):
            continue
        for kind in NAMED:
            if node.get(kind) and is_closed(kind, node[kind], opened):
                raise RecipeError(f"Recipe {name}, node {number}, {refusal(kind, node[kind])}.")
