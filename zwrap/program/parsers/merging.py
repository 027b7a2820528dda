"""Merging statistics, by the names that xia2 and DIALS print and by those of ISPyB."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from zwrap.errors import ProgramError
from zwrap.program.ispyb import SHELLS
from zwrap.program.parsers.generic import number, read

ISPYB_NAMES = {
    "High resolution limit": "res_lim_high",
    "Low resolution limit": "res_lim_low",
    "Completeness": "completeness",
    "Multiplicity": "multiplicity",
    "CC half": "cc_half",
    "Anomalous completeness": "anom_completeness",
    "Anomalous correlation": "cc_anom",
    "Anomalous multiplicity": "anom_multiplicity",
    "Total observations": "n_tot_obs",
    "Total unique": "n_tot_unique_obs",
    "Rmerge": "r_merge",  # xia2 0.3, before Rmerge(I+/-) had a name of its own
    "Rmerge(I+/-)": "r_merge",
    "Rmeas(I)": "r_meas_all_iplusi_minus",
    "Rmeas(I+/-)": "r_meas_within_iplusi_minus",
    "Rpim(I)": "r_pim_all_iplusi_minus",
    "Rpim(I+/-)": "r_pim_within_iplusi_minus",
    "I/sigma": "mean_i_sig_i",
    "Partial bias": "fract_partial_bias",
}
"""Name of a statistic that programs print to its name in ISPyB."""

_GAP = re.compile(r"\s+")
_BEGIN_OF_NAME, _BEGIN_OF_VALUE = re.compile(r"[A-Za-z]"), re.compile(r"[-\d.]")


def in_ispyb_names(statistics: Mapping[str, Sequence[object]]) -> dict[str, dict[str, object]]:
    """Return the statistics by shell and ISPyB name, from values (overall, inner, outer) by name.

    Newer versions of xia2 print a first column "Suggested", which then counts as overall.
    """
    return {
        shell: {
            name: values[column]
            for statistic, name in ISPYB_NAMES.items()
            if column < len(values := statistics.get(statistic, ()))
        }
        for column, shell in enumerate(SHELLS)
    }


def table(lines: Sequence[str]) -> dict[str, list[float]]:
    """Return the rows of the table in xia2.txt, xia2-summary.dat and dials.scale.log.

    The table ends at the first line that is not a row. Words that are not numbers are left out.
    """
    found: dict[str, list[float]] = {}
    for line in lines:
        row = _row(line.rstrip())
        if row is None:
            break
        values = [number(word) for word in row[1].split()]
        found[row[0]] = [v for v in values if not isinstance(v, str)]
    return found


def _row(line: str) -> tuple[str, str] | None:
    """Return name and values of a row, which a tab or two blanks separate; None: it is none."""
    if not _BEGIN_OF_NAME.match(line):
        return None
    for gap in _GAP.finditer(line):
        wide = "\t" in gap[0] or len(gap[0]) > 1
        if wide and _BEGIN_OF_VALUE.match(line, gap.end()):
            return line[: gap.start()], line[gap.end() :]
        if "\t" in gap[0]:  # no name holds a tab
            return None
    return None


def merging_statistics(path: Path, options: Mapping[str, object]) -> object:
    """Return the last statistics in a log (dials.scale.log), by shell and ISPyB name."""
    del options
    lines = read(path).splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("High resolution limit")]
    if not starts:
        raise ProgramError(f"{path} holds no summary of merging statistics.")
    return in_ispyb_names(table(lines[starts[-1] :]))
