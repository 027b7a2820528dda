"""What goes over a queue, and how two of these differ."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Frame:
    """One message as a broker has it."""

    place: str
    """Queue or topic."""
    body: bytes
    headers: Mapping[str, Any] = field(default_factory=dict)
    """Those that its sender gave it."""
    properties: Mapping[str, Any] = field(default_factory=dict)
    """What the broker's protocol has besides."""

    @property
    def content(self) -> Any:  # noqa: ANN401 (JSON)
        return json.loads(self.body)

    def with_content(self, content: object) -> Frame:
        """Return it with another body."""
        return replace(self, body=json.dumps(content).encode())


_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_DEATH = re.compile(r"'time': \d+\.\d+")
"""Time in a header x-death that became a text."""

LISTED = (
    ("", r"header zwrap-[a-z]+ is added", "zwrap's own headers"),
    ("", r"body\.environment\.zwrap-request is added", "who sent the request, by `zocalo.go`"),
    ("", r"property timestamp is added", "time of sending"),
    ("put back by ours", r"header dlq-reinjected is added", "mark of what was put back"),
    (
        "exported by ours, put back by theirs",
        r"header (destination|dlq-reason|original-destination|timestamp) is added",
        "what zwrap's export tells besides",
    ),
    (
        "exported by ours, put back by theirs",
        r"header subscription is missing",
        "the delivery to their export",
    ),
    (
        "activemq/dlq_check",
        r"body\.lines\.0 is 'DLQ for a (.*)', not 'DLQ for zocalo\.tools\.a \1'",
        "the prefix of the site is left out",
    ),
)
"""Differences from what python-zocalo sends: part of the name of a row, pattern of the difference,
and what it is. docs/zocalo.md has them under "What is different on purpose"."""


def reason(row: str, difference: str) -> str:
    """Return what a listed difference is; empty for another one."""
    return next(
        (why for part, pattern, why in LISTED if part in row and re.fullmatch(pattern, difference)),
        "",
    )


class Comparison:
    """Comparison of frames, but for UUIDs and texts that are different in each chain."""

    def __init__(self, words: Mapping[str, str], *, with_properties: bool = True) -> None:
        """Keep what is compared.

        Args:
            words: Each text that differs, such as a directory, to what it is replaced by.
            with_properties: Whether the frames are of one protocol.
        """
        self._words = words
        self._with_properties = with_properties

    def differences(self, got: Sequence[Frame], expected: Sequence[Frame]) -> list[str]:
        """Return how frames differ from those expected, in whatever order they came."""
        mine, other = self._sorted(got), self._sorted(expected)
        places, wanted = [each[0] for each in mine], [each[0] for each in other]
        if places != wanted:
            return [f"there are messages in {places}, not in {wanted}"]
        found: dict[str, None] = {}
        for one, two in zip(mine, other, strict=True):
            for what, left, right in zip(
                ("property", "header", "body"), one[1:], two[1:], strict=True
            ):
                found |= dict.fromkeys(unequal(left, right, what))
        return list(found)

    def _sorted(self, frames: Sequence[Frame]) -> list[tuple[str, Any, Any, Any]]:
        plain = [
            (
                f.place,
                self._plain(f.properties if self._with_properties else {}),
                self._plain(f.headers),
                self._plain(f.content),
            )
            for f in frames
        ]
        return sorted(plain, key=lambda each: json.dumps([each[0], each[3]], sort_keys=True))

    def _plain(self, value: object) -> Any:  # noqa: ANN401 (JSON)
        """Return a value with its texts replaced."""
        text = json.dumps(value, ensure_ascii=False, default=repr)
        for word, name in self._words.items():
            text = text.replace(word, name)
        return json.loads(_DEATH.sub("'time': TIME", _UUID.sub("UUID", text)))


def unequal(left: object, right: object, path: str) -> Iterator[str]:
    """Yield each difference of one JSON value from another, with the types of numbers."""
    if isinstance(left, dict) and isinstance(right, dict):
        separator = " " if path in ("header", "property") else "."
        for key in {**right, **left}:
            place = f"{path}{separator}{key}"
            if key not in right:
                yield f"{place} is added"
            elif key not in left:
                yield f"{place} is missing"
            else:
                yield from unequal(left[key], right[key], place)
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for number, (one, other) in enumerate(zip(left, right, strict=True)):
            yield from unequal(one, other, f"{path}.{number}")
    elif repr(left) != repr(right):  # NaN is equal to itself
        yield f"{path} is {left!r}, not {right!r}"


def shape(value: object) -> object:
    """Return the types in a JSON value; numbers of one key may be whole or not."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items() if not key.isdigit()}
    return "number" if type(value) in (int, float) else type(value).__name__
