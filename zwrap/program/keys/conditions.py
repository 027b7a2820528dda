"""Conditions on parsed values: what makes a run a success, and whether a message is sent."""

# Annotations are not postponed: msgspec would compile each when a job starts.
from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec

from zwrap.errors import ProgramError, UnknownNameError, short


class Bounds(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a value must be; without any of these anything but null, 0, false and what is empty."""

    equals: str | bool | int | float | None = None
    """The value itself."""
    minimum: float | None = None
    """Least number; a value that is no number does not hold."""
    maximum: float | None = None
    """Greatest number; a value that is no number does not hold."""


class ValueRule(Bounds, forbid_unknown_fields=True, kw_only=True):
    """A value of a parsed output that decides on success."""

    output: str
    """Name of an output, and the way to a value in it, with dots: ``fit.cc``, ``blobs.0.score``."""


def check_value_rules(rules: Iterable[ValueRule], outputs: Collection[str], where: str) -> None:
    """Raise UnknownNameError if a rule speaks of an output that there is not."""
    for rule in rules:
        from zwrap.program.parsers.route import steps

        name = next((name for name, _ in steps(rule.output)), "")
        if name not in outputs and rule.output not in outputs:
            raise UnknownNameError("output", name, outputs, f"{where}, key 'values'")


def found(known: Mapping[str, object], route: str) -> object:
    """Return the value to which a route of names with dots leads; None if there is none."""
    if route in known:
        return known[route]
    from zwrap.program.parsers.route import follow

    try:
        return follow(dict(known), route, "")
    except ProgramError:
        return None


def lies_within(value: object, bounds: Bounds) -> bool:
    """Return True if a value is what `bounds` say."""
    if bounds.equals is not None and value != bounds.equals:
        return False
    if bounds.minimum is None and bounds.maximum is None:
        return bounds.equals is not None or bool(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return not (
        (bounds.minimum is not None and value < bounds.minimum)
        or (bounds.maximum is not None and value > bounds.maximum)
    )


def value_failures(rules: list[ValueRule], parsed: Mapping[str, object]) -> Iterator[str]:
    """Yield a sentence for each rule that does not hold."""
    for rule in rules:
        value = found(parsed, rule.output)
        if not lies_within(value, rule):
            shown = "null" if value is None else short(value)
            yield f"{rule.output} is {shown}; {_expected(rule)} is expected"


def _expected(bounds: Bounds) -> str:
    """Return in words what a value must be."""
    words = [] if bounds.equals is None else [short(bounds.equals)]
    words += [] if bounds.minimum is None else [f"at least {bounds.minimum:g}"]
    words += [] if bounds.maximum is None else [f"at most {bounds.maximum:g}"]
    return ", ".join(words) or "a value"
