"""What is expected of a definition: finished runs that are kept beside it, and how each is judged.

``zwrap program test NAME`` judges them without running anything.
"""

# Annotations are not postponed: msgspec would compile each when a job starts.
from collections.abc import Mapping
from typing import Literal

import msgspec

from zwrap.program.keys.conditions import found

Status = Literal["tried", "untried"]
"""State of a definition: one that is `untried` has seen no real output of its program."""


class Expectation(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A finished run, and the judgement that is expected on it; all its files count as new."""

    directory: str
    """Directory with the files of the run, relative to the file of the definition."""
    job_parameters: dict[str, object] = {}
    """Job parameters of the run."""
    payload: object = None
    """Message with which the run began."""
    exit_status: int = 0
    """Exit status of the program, or minus the number of the signal that ended it."""
    outcome: Literal["success", "failure"] = "success"
    """Expected outcome."""
    cause: str | None = None
    """Label of the known error that is expected; not given: any, or none."""
    values: dict[str, object] = {}
    """Name of an output, and the way to a value in it, with dots (``statistics.overall.cc_half``,
    ``blobs.0.score``), to the expected value."""


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
