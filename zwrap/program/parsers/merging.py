"""Merging statistics, by the names that programs print and by those of ISPyB."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from zwrap.errors import ProgramError
from zwrap.program.ispyb import SHELLS
from zwrap.program.parsers.generic import Options, number, read, texts
from zwrap.program.parsers.printed import cell, cells_of

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
"""Name of a statistic that xia2 and DIALS print to its name in ISPyB."""

_FORMS = {
    # aimless (CCP4) and MRFANA (autoPROC); (I) is over all, (I+/-) within I+ and I-
    "rmerge(withini+/i-)": "Rmerge(I+/-)",
    "rmeas(alli+&i-)": "Rmeas(I)",
    "rmeas(withini+/i-)": "Rmeas(I+/-)",
    "rpim(alli+&i-)": "Rpim(I)",
    "rpim(withini+/i-)": "Rpim(I+/-)",
    "fractionalpartialbias": "Partial bias",
    "totalnumberofobservations": "Total observations",
    "totalnumberunique": "Total unique",
    "mean((i)/sd(i))": "I/sigma",
    "mean(i)/sd(i)": "I/sigma",
    "mn(i)half-setcorrelationcc(1/2)": "CC half",
    "cc(1/2)": "CC half",
    "completeness(ellipsoidal)": "Completeness",
    "anomalouscompleteness(ellipsoidal)": "Anomalous completeness",
    "delanomcorrelationbetweenhalf-sets": "Anomalous correlation",
    "cc(ano)": "Anomalous correlation",
    # xia2.multiplex
    "observations": "Total observations",
    "uniquereflections": "Total unique",
    "meani/σ(i)": "I/sigma",  # noqa: RUF001
    "rmeas": "Rmeas(I)",
    "rpim": "Rpim(I)",
    "cc½": "CC half",
}
"""Name in other programs, in small letters without blanks, to the name in `ISPYB_NAMES`."""

_WITHOUT_VALUE = frozenset(
    {*ISPYB_NAMES, "Rmerge(I)", "Wilson B factor", "Anomalous slope", "dF/F", "dI/s(dI)"}
)
"""Names that stand alone in a line of a table if there is no value."""

_LEAST = ("res_lim_high", "res_lim_low", "completeness")
"""Statistics without which a table is not one of merging statistics."""

_MISSING = frozenset({"nan", "-nan", "inf", "-inf", "(error)", "-", "--", "none", "n/a", "na"})
"""Words in place of a value, in small letters."""

_OF_BINS = {
    "d_max": "Low resolution limit",
    "d_min": "High resolution limit",
    "#obs": "Total observations",
    "#uniq": "Total unique",
    "mult.": "Multiplicity",
    "%comp": "Completeness",
    "<I/sI>": "I/sigma",
    "r_mrg": "Rmerge",
    "r_meas": "Rmeas(I)",
    "r_pim": "Rpim(I)",
    "cc1/2": "CC half",
    "cc_ano": "Anomalous correlation",
}
"""Column of a table of shells of cctbx, to the name in `ISPYB_NAMES`."""

_BINS = re.compile(r"\s*d_max +d_min +#obs ")
_BARS = re.compile(r"\|\s*\|\s*(?:Suggested|Overall)\b.*\|")
_GAP, _GAPS = re.compile(r"\s+"), re.compile(r"\t| {2,}")
_BEGIN_OF_NAME, _BEGIN_OF_VALUE = re.compile(r"[A-Za-z]"), re.compile(r"[-\d.]")

Values = list[float | None]


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


def table(lines: Iterable[str]) -> dict[str, Values]:
    """Return the rows of a table of xia2, DIALS, aimless or MRFANA, by names of `ISPYB_NAMES`.

    Rows without values, blank lines and rules are passed over; the table ends at any other line
    that is not a row. A value that is not a number is None.
    """
    found: dict[str, Values] = {}
    for line in map(str.strip, lines):
        if line in _WITHOUT_VALUE or not line.strip("-= "):
            continue
        row = _row(line) or _missing(line)
        if row is None:
            break
        name, values = _split(*row)
        if not any(value is not None for value in found.get(name, ())):
            found[name] = values
    return found


def _split(name: str, values: str) -> tuple[str, Values]:
    """Return the name and the values of a row; words such as ``nan`` may stand before numbers."""
    parts = _GAPS.split(name)
    words = values.split()
    while len(parts) > 1 and _is_missing(parts[-1]):
        words[:0] = parts.pop().split()
    return _known(" ".join(filter(None, parts))), [_value(word) for word in words]


def _known(name: str) -> str:
    """Return the name of a statistic in `ISPYB_NAMES`; another one stays."""
    return _FORMS.get("".join(name.split()).lower().replace("and", "&"), name)


def _is_missing(text: str) -> bool:
    """Return True if a text holds only words in place of values."""
    return all(not word.strip("*") or word.lower() in _MISSING for word in text.split())


def _value(word: str) -> float | None:
    """Return the number that a word holds, with or without a mark behind it; None: none."""
    found = number(word) if _BEGIN_OF_VALUE.match(word) else None
    found = cell(word) if isinstance(found, str) else found
    return None if isinstance(found, str) else found


def _missing(line: str) -> tuple[str, str] | None:
    """Return the name of a row that has no value at all, but words in place of values."""
    name, *rest = _GAPS.split(line, maxsplit=1)
    return (name, rest[0]) if rest and rest[0].strip() and _is_missing(rest[0]) else None


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


def merging_statistics(path: Path, options: Options) -> object:
    """Return the last summary in a log, by shell and ISPyB name.

    Raises ProgramError unless each shell of option `shells` has the statistics of option `least`.
    """
    found = in_ispyb_names(_last_summary(read(path).splitlines(), path))
    least = texts(options, "least") or _LEAST
    shells = texts(options, "shells") or SHELLS
    without = {name for name in least if all(s.get(name) is None for s in found.values())}
    missing = [
        f"{name} of {shell}"
        for shell in shells
        for name in least
        if name in without or name not in found.get(shell, {})
    ]
    if missing:
        raise ProgramError(
            f"{path} holds a summary of merging statistics without {', '.join(missing)[:300]}."
        )
    return found


def _last_summary(lines: Sequence[str], path: Path) -> dict[str, Values]:
    """Return the rows of the summary that stands last in a log; ProgramError: there is none."""
    for start in range(len(lines) - 1, -1, -1):
        line = lines[start]
        if "|" in line and _BARS.match(line.strip()):
            return dict(_between_bars(lines[start + 1 :]))
        if _is_limit(line) and (_row(line.strip()) or _missing(line.strip())):
            first = start - 1 if start and _is_limit(lines[start - 1]) else start
            return table(lines[first:])
    if found := _of_bins(lines):
        return found
    raise ProgramError(f"{path} holds no summary of merging statistics.")


def _of_bins(lines: Sequence[str]) -> dict[str, Values]:
    """Return the rows of a summary by the last table of shells; DIALS 1 and 2 print no other.

    It has a line for each shell, and one for all behind them. Empty: there is no such table.
    """
    behind = (number + 1 for number in range(len(lines) - 1, -1, -1) if _BINS.match(lines[number]))
    start = next(behind, 0)
    if not start:
        return {}
    names = lines[start - 1].split()
    words = (line.split() for line in lines[start:])
    table_rows = itertools.takewhile(lambda row: len(row) == len(names), words)
    rows = [dict(zip(names, map(_value, row), strict=True)) for row in table_rows]
    if len(rows) < 2 or rows[-1]["d_min"] != rows[-2]["d_min"]:
        return {}
    shells = (rows[-1], rows[0], rows[-2])
    return {
        known: [row[name] for row in shells] for name, known in _OF_BINS.items() if name in names
    }


def _is_limit(line: str) -> bool:
    """Return True for one of the two lines with which a summary begins, in either order."""
    return "resolution limit" in line and line.lstrip().startswith(("High res", "Low res"))


def _between_bars(lines: Iterable[str]) -> Iterator[tuple[str, Values]]:
    """Yield the rows of a summary whose columns stand between ``|``."""
    for line in map(str.strip, lines):
        if not line.startswith("|"):
            return
        name, *cells = cells_of(line)
        if name.startswith("Resolution"):
            ends = [each.partition(" - ") for each in cells]
            yield "Low resolution limit", [_value(low) for low, _, _ in ends]
            yield "High resolution limit", [_value(high) for _, _, high in ends]
        elif cells and any(cells):
            yield _known(name), [_value(each) for each in cells]
