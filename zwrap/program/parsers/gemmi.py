"""Output of the `gemmi` program (gemmi.readthedocs.io/en/latest/program.html)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from zwrap.errors import ProgramError
from zwrap.program.parsers.generic import Value, read, value
from zwrap.program.parsers.printed import table_rows

_SHELL_NAMES = {
    "#obs": "observations",
    "#uniq": "unique",
    "#used": "used",
    "Rmerge": "r_merge",
    "Rmeas": "r_meas",
    "Rpim": "r_pim",
    "CC1/2": "cc_half",
}
_OVERALL = {
    "observations": r"^Observations \(all reflections\):\s*(\d+)",
    "unique": r"^Unique reflections:\s*(\d+)",
    "used": r"^Used refl\. .*:\s*(\d+)",
    "r_merge": r"^R-merge:\s*(\S+)",
    "r_meas": r"^R-meas:\s*(\S+)",
    "r_pim": r"^R-pim:\s*(\S+)",
    "cc_half": r"^CC1/2:\s*(\S+)",
}


def merging_statistics(path: Path, options: Mapping[str, object]) -> object:
    """Read the output of ``gemmi merge --stats``: `overall`, and `shells` by rising resolution.

    Resolution limits `d_max` and `d_min` in Å, R factors and CC1/2 as fractions of one.
    """
    del options
    text = read(path)
    header = re.search(r"^[ \t]*d_max[ \t]+d_min .*$", text, re.MULTILINE)
    if not header:
        raise ProgramError(f"{path} holds no table of merging statistics per resolution shell.")
    names = [_SHELL_NAMES.get(word, word) for word in header[0].split()]
    shells = table_rows(names, text[header.end() :].lstrip("\n").splitlines())
    if not shells:
        raise ProgramError(f"{path} holds no rows in its table of merging statistics.")
    overall: dict[str, Value] = {}
    for name, pattern in _OVERALL.items():
        match = re.search(pattern, text, re.MULTILINE)
        if not match:
            raise ProgramError(f"{path} holds no overall {name}.")
        overall[name] = value(match[1])
    overall.update(d_max=shells[0]["d_max"], d_min=shells[-1]["d_min"])
    return {"overall": overall, "shells": shells}


def column_statistics(path: Path, options: Mapping[str, object]) -> object:
    """Read the output of ``gemmi mtz -s``: resolution limits in Å, and a row for each column."""
    del options
    text = read(path)
    limits = re.search(r"^Resolution:\s*([^\s-]+)\s*-\s*(\S+) A", text, re.MULTILINE)
    columns = []
    row = r"^(\S+)\s+(\S)\s+@(\d+)\s+(\d+) \(\s*([\d.]+)%\)\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s*$"
    for match in re.finditer(row, text, re.MULTILINE):
        keys = ("column", "type", "dataset", "filled", "percent", "min", "max", "mean", "stddev")
        columns.append(
            {key: found if key in ("column", "type") else value(found)
             for key, found in zip(keys, match.groups(), strict=True)}
        )  # fmt: skip
    if not limits or not columns:
        raise ProgramError(f"{path} holds no column statistics of an MTZ file.")
    return {"d_min": value(limits[1]), "d_max": value(limits[2]), "columns": columns}
