"""Regular expressions of a definition that find everything, or that can find nothing.

A job does not look at these: a definition with such a complaint runs as it always did.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from zwrap.program.causes.knownerrors import EXIT_STATUS, KnownError, places
from zwrap.program.checks.faults import Fault
from zwrap.program.definition import Definition
from zwrap.program.keys.progress import Progress
from zwrap.program.patterns import shown_pattern
from zwrap.program.plan import commands, route_of

STATUSES = range(256)
"""Exit statuses that a program can have, or 128 + signal."""

_NAME = re.compile(r"(?<!\{)\{([A-Za-z_]\w*)\}")

Route = tuple[str, ...]


def search_faults(definition: Definition) -> Iterator[Fault]:
    """Yield a complaint for each regular expression that no run needs, or that none can match."""
    for number, command in enumerate(commands(definition)):
        route, success = route_of(number), command.success
        for key, rules in (("text", success.text), ("no_text", success.no_text)):
            for place, rule in enumerate(rules):
                here = (*route, "success", key, str(place), "pattern")
                yield from _pattern(rule.pattern, definition.inputs, here)
        if command.progress:
            here = (*route, "progress", "pattern")
            yield from _pattern(command.progress.pattern, definition.inputs, here)
            yield from _totals(command.progress, (*route, "progress"))
    yield from error_faults(definition.errors, definition.inputs)


def error_faults(errors: Iterable[KnownError], inputs: Collection[str] = ()) -> Iterator[Fault]:
    """Yield a complaint for each such pattern of known errors, of a definition or of a table."""
    for place, error in enumerate(errors):
        here = ("errors", str(place), "pattern")
        if EXIT_STATUS in places(error):
            yield from _status(error.pattern, here)
        else:
            yield from _pattern(error.pattern, inputs, here)


def _pattern(pattern: str, inputs: Collection[str], route: Route) -> Iterator[Fault]:
    """Yield a complaint for a pattern that is found in each file, or that names an input."""
    if re.search(pattern, "", re.MULTILINE):
        said = (
            f"{shown_pattern(pattern)} matches an empty text, too, and so is found in every file; "
            "a pattern that needs a character is expected."
        )
        yield Fault(route, said)
    for name in _NAME.findall(pattern):
        if name in inputs:
            said = (
                f"No value is filled in here: '{{{name}}}' is searched as it stands. Write "
                f"'.*', or what values of {name!r} look like."
            )
            yield Fault(route, said)


def _status(pattern: str, route: Route) -> Iterator[Fault]:
    """Yield a complaint for a pattern that no exit status matches as a whole."""
    compiled = re.compile(pattern)
    if not any(compiled.fullmatch(str(status)) for status in STATUSES):
        said = (
            f"{shown_pattern(pattern)} matches no exit status; a number from 0 to 255 is expected, "
            "or a pattern of such numbers, as in '13[79]' (128 + signal for a program that a "
            "signal killed). Texts are looked for in stderr, stdout or a file."
        )
        yield Fault(route, said)


def _totals(progress: Progress, route: Route) -> Iterator[Fault]:
    """Yield a complaint for a number of all things without the number of those that are done."""
    groups = re.compile(progress.pattern).groupindex
    without = [key for key in ("total", "stage") if key in groups]
    if "done" not in groups and (progress.total or without):
        key, what = ("total", "Key 'total'") if progress.total else (
            "pattern", f"Group {without[0]!r} of the pattern"
        )  # fmt: skip
        said = (
            f"{what} has no effect without the number that is done; write (?P<done>...) around it."
        )
        yield Fault((*route, key), said)
