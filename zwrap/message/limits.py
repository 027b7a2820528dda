"""Limits of sizes, each enforced where a message enters, so that no message can hold up others.

A site changes them in a section with ``plugin: limits``; a refusal names the key.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from zwrap.units import MIB

Size = Annotated[int, msgspec.Meta(ge=1)]
"""A whole number above 0."""

LARGEST_DEPTH = 250
"""Largest depth of nesting that Python code, which works on values by recursion, can reach."""

Depth = Annotated[int, msgspec.Meta(ge=10, le=LARGEST_DEPTH)]
"""A depth of nesting."""

Seconds = Annotated[float, msgspec.Meta(gt=0, le=4_294_967)]
"""A delay that all brokers accept: RabbitMQ counts it as 32-bit milliseconds."""


class Sizes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limits of sizes of one site: the keys of section ``limits``."""

    body_bytes: Size = 32 * MIB
    """Size of the body of a message for a service, in bytes, before it is decoded, and of one that
    `zwrap publish` reads."""
    depth: Depth = 100
    """Depth of nesting of the body of a message, and of a recipe."""
    nodes: Size = 5_000
    """Number of nodes of a recipe."""
    rounds: Size = 100
    """Number of times that a message may pass each node of its recipe, on average: the Dispatcher
    starts no recipe in which one goes round, but others may."""
    start: Size = 1_000
    """Number of pairs under ``start`` of a recipe."""
    outputs: Size = 10_000
    """Number of references to nodes in a recipe, of all outputs and ``error`` keys."""
    recipes: Size = 200
    """Number of recipes that one request names."""
    filled_bytes: Size = 32 * MIB
    """Size of what parameters put into a recipe, in bytes of text; a list or object counts whole
    each time it is put in, and each placeholder for some bytes of its own."""
    sent_bytes: Size = 256 * MIB
    """Size of all messages to the first nodes of a recipe, or to the nodes behind one output, in
    bytes; the recipe, which each of them carries, counts once. Size of what
    `zwrap publish --lines` reads."""
    copies_bytes: Size = 4096 * MIB
    """Size of all copies of the recipe in these messages, in bytes."""
    format_width: Size = 1_000
    """Width, and precision, in a placeholder such as ``{x:>10}``."""
    name_bytes: Size = 200
    """Length of the name of a queue, a topic or a recipe, in bytes."""
    commands_bytes: Size = 4 * MIB
    """Size of shell commands, or of options of qsub, in one step, in bytes."""
    tasks: Size = 1_000
    """Number of tasks of one step, each of which is a job and a message of its own."""
    commands: Size = 1_000
    """Number of commands that the Runner runs for one step; each takes some milliseconds."""
    recipients: Size = 2_000
    """Number of recipients of a mail."""
    delay_s: Seconds = 30 * 86_400.0
    """Longest delay of a message (``transport-delay``), in seconds."""


class Limits(Sizes, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limits of one site: of sizes, and of names that recipes may use."""

    open_names: tuple[str, ...] = ()
    """Names, or patterns, of queues and topics that recipes may use although zwrap does (section
    security, key ``queues``)."""


DEFAULTS = Limits()
"""Limits of a site without a section of its own."""

ANY_SIZE = Limits(
    nodes=2**31, rounds=2**31, start=2**31, outputs=2**31, name_bytes=2**31, delay_s=float("inf")
)
"""Limits for the recipe of a job that was submitted, which has error nodes whatever its size."""


def of_submitted(limits: Limits) -> Limits:
    """Return limits for the recipe of a job that was submitted: any size, the names of the site."""
    return msgspec.structs.replace(ANY_SIZE, open_names=limits.open_names)


_NESTED = (dict, list, tuple)
"""Types of the values that hold others."""


def weight(value: object) -> int:
    """Return about the size of a JSON value as text, in bytes."""
    total = 0
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += each
            waiting += each.values()
        elif isinstance(each, (list, tuple)):
            waiting += each
        total += len(each) if isinstance(each, str) else 8
    return total


def is_deeper(value: object, depth: int, *, made_by_code: bool = False) -> bool:
    """Return True if lists and objects in a value are nested more than `depth` deep.

    `made_by_code`: True if the value may refer to itself, so that it has no end, or many times to
    the same list or object, as no value of a text does.
    """
    level = [value] if isinstance(value, _NESTED) else []
    for _ in range(depth + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, _NESTED)
        ]
        if made_by_code:
            level = list({id(inner): inner for inner in level}.values())
        if not level:
            return False
    return True
