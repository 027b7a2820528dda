"""Texts that each match of a regular expression holds: a search for them is much faster.

Many patterns are looked for in one large log, which holds few of these texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from re import _parser  # type: ignore[attr-defined]
from typing import Any

_REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")


def may_match(pattern: str, text: str) -> bool:
    """Return False if a text cannot hold a match of a pattern, which `re` has accepted."""
    needed = literals(pattern)
    return needed is None or any(each in text for each in needed)


@lru_cache(maxsize=512)
def literals(pattern: str) -> tuple[str, ...] | None:
    """Return texts of which each match holds one at least; None: there are no such texts."""
    parsed = _parser.parse(pattern)
    if parsed.state.flags & re.IGNORECASE:
        return None
    return _of(parsed)


def _of(parts: Iterable[tuple[Any, Any]]) -> tuple[str, ...] | None:
    """Return what `literals` does for parts of a pattern that follow each other."""
    found: list[tuple[str, ...]] = []
    run = ""
    for kind, value in parts:
        if str(kind) == "LITERAL":
            run += chr(value)
            continue
        found.append((run,))
        run = ""
        if inner := _inside(str(kind), value):
            found.append(inner)
    best = max([*found, (run,)], key=lambda texts: min(map(len, texts)))
    return best if all(best) else None


def _inside(kind: str, value: tuple[Any, ...]) -> tuple[str, ...] | None:
    """Return what `literals` does for a group, a choice, or what is repeated once at least."""
    if kind == "SUBPATTERN":
        _, added, _, parts = value
        return None if added & re.IGNORECASE else _of(parts)
    if kind in _REPEATS and value[0] > 0:
        return _of(value[2])
    if kind == "BRANCH":
        branches = [_of(branch) for branch in value[1]]
        if all(branches):
            return tuple(text for branch in branches for text in branch or ())
    return None
