"""Portions of messages that carry the same recipe: few of them are encoded at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zwrap.message.content import Outgoing
from zwrap.message.jsontext import encode

PORTION_BYTES = 32 << 20
"""Size of a portion, in bytes, unless one message is larger."""

FEW = 3
"""Number of messages that are a portion in any case."""


def portions(messages: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Yield messages that are about equally large in portions, in order."""
    number = len(messages)
    if number > FEW:
        number = max(FEW, PORTION_BYTES // max(1, len(encode(messages[0].message))))
    for start in range(0, len(messages), max(1, number)):
        yield list(messages[start : start + number])
