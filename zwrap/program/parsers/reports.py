"""What programs that are run after data reduction add to its results."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from zwrap.errors import ProgramError
from zwrap.program.ispyb import Scaling, Solution
from zwrap.program.parsers.document import Place, read_document
from zwrap.program.parsers.generic import Options, beside, first_character, read, texts

_LIMIT = re.compile(r"^Resolution Mn\(I/sig\):\s*([\d.]+)\s*$", re.MULTILINE)


def xtriage(options: Options) -> list[dict[str, object]]:
    """Return the xtriage entries of a report: `level`, `text`, `summary`.

    Option `report` is the report, a JSON file, and option `leave_out` holds texts of entries that
    are left out. Without the report there are none.
    """
    report = beside(options, "report")
    found = read_document(report).get("xtriage") if report else None
    if found is None:
        return []
    unwanted = texts(options, "leave_out")
    return [
        entry.mapping() for entry in _entries(found) if entry.mapping().get("text") not in unwanted
    ]


def _entries(place: Place) -> list[Place]:
    """Return the entries of a list, or of the lists by severity that xia2.multiplex writes."""
    if isinstance(place.value, dict):
        return [entry for entries in place.values() for entry in entries.entries()]
    return place.entries()


def with_resolution(solutions: Sequence[Solution], options: Options) -> Sequence[Solution]:
    """Return solutions with the resolution at which the mean of I over its error is 2, in Å.

    Option `resolution` is the log, or the JSON, of `dials.estimate_resolution misigma=2`. It speaks
    of one scaling, so nothing is added where there are several.
    """
    log = beside(options, "resolution")
    scalings = [scaling for solution in solutions for scaling in solution.scalings]
    limit = resolution_limit(log) if log and len(scalings) == 1 else None
    if limit is None:
        return solutions
    [scaling] = scalings
    overall = {**scaling.statistics["overall"], "res_i_sig_i_2": limit}
    only = Scaling({**scaling.statistics, "overall": overall}, scaling.integrations)
    return [replace(each, scalings=[only] if each.scalings else []) for each in solutions]


def resolution_limit(file: Path) -> float | None:
    """Return the limit by Mn(I/sig) that dials.estimate_resolution found, in Å; None: it has none.

    The file is its log, or its JSON, where the limit is a line at 1/d². Raises ProgramError if it
    is no number.
    """
    if first_character(file) == "{":
        plot = read_document(file).get("misigma")
        for entry in plot["data"].entries() if plot else ():
            name = entry.get("name")
            if name and name.text().startswith("d_min") and 0 < (x := entry["x"][0].number()) < 1e9:
                return 1 / math.sqrt(x)
        return None
    found = _LIMIT.findall(read(file))
    try:
        return float(found[-1]) if found else None
    except ValueError:
        raise ProgramError(f"{file} gives {found[-1][:20]!r} as a resolution limit.") from None
