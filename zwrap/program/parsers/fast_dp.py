"""Results of fast_dp (github.com/DiamondLightSource/fast_dp): fast_dp.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from zwrap.program.ispyb import SHELLS, Scaling, Solution, cell, command_list, refined
from zwrap.program.parsers.document import read_document
from zwrap.program.parsers.reports import xtriage


def ispyb_commands(path: Path, options: Mapping[str, object]) -> object:
    """Return commands for ISPyB; fast_dp uses ISPyB's names of statistics. Beam centre in mm.

    A run whose beam was not refined has null in its place. Option `report` is as `xtriage` says.
    """
    result = read_document(path)
    unit_cell = result["unit_cell"].numbers(6)
    beam = result.get("refined_beam")
    x, y = beam.numbers(2) if beam else (None, None)
    statistics = {shell: result["scaling_statistics"][shell].mapping() for shell in SHELLS}
    integration = {**cell(unit_cell), "refined_xbeam": x, "refined_ybeam": y}
    solution = Solution(
        refined(result["spacegroup"].text(), unit_cell), [Scaling(statistics, [integration])]
    )
    return command_list([solution], xtriage(options))
