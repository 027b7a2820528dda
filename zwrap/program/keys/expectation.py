"""What is expected of a definition: finished runs that are kept beside it, and how each is judged.

``zwrap program test NAME`` judges them without running anything.
"""

from __future__ import annotations

from collections.abc import Mapping

from zwrap.program.definition import Expectation as Expectation
from zwrap.program.keys.conditions import found


def disappointments(
    expected: Expectation, *, failed: bool, cause: str, outputs: Mapping[str, object]
) -> list[str]:
    """Return a sentence for each expectation that does not hold.

    Args:
        expected: The expectations.
        failed: True if the run is judged a failure.
        cause: Label of the known error; empty: none was found.
        outputs: Parsed outputs by name.
    """
    said = []
    if failed != (expected.outcome == "failure"):
        outcome = "failure" if failed else "success"
        said.append(f"a {expected.outcome} was expected, and it is a {outcome}.")
    if expected.cause is not None and cause != expected.cause:
        said.append(f"cause {expected.cause!r} was expected, and {cause or 'none'!r} was found.")
    for way, wanted in expected.values.items():
        value = found(outputs, way)
        if value != wanted:
            said.append(f"{way} was expected to be {_shown(wanted)}, and it is {_shown(value)}.")
    return said


def _shown(value: object) -> str:
    """Return a value as a definition may hold it."""
    return "null" if value is None else repr(value)
