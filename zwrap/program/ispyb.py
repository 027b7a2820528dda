"""Results of data reduction as commands for the ISPyB service (`ispyb_connector`).

One command list makes the records of one program run: a command may name with ``$name`` what an
earlier one stored under `store_result`. Form and names are those that Diamond's wrappers send.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

Values = Mapping[str, object]
"""Values of a record by the names of ISPyB's commands."""

SHELLS = ("overall", "innerShell", "outerShell")
"""Names of the resolution shells that have statistics."""

_SEVERITY = {0: "INFO", 1: "WARNING", 2: "ERROR"}


class Scaling(msgspec.Struct, frozen=True):
    """Statistics of one scaled data set, and the integrated sweeps behind it."""

    statistics: Mapping[str, Values]
    """Per shell of `SHELLS`; resolution in Å, completeness in per cent, R factors as fractions."""
    integrations: Sequence[Values] = ()


class Solution(msgspec.Struct, frozen=True):
    """Space group and cell of one crystal, and what was scaled in it."""

    refined: Values
    """`spacegroup`, and `refinedcell_a` (Å) to `refinedcell_gamma` (degrees)."""
    scalings: Sequence[Scaling]


def command_list(
    solutions: Iterable[Solution], messages: Iterable[Values] = ()
) -> dict[str, list[dict[str, object]]]:
    """Return the payload of output `ispyb`.

    Only the first integration may be linked to a record that was made in advance; for the others
    `integration_id` is null. After several scalings ``$ispyb_autoprocscaling_id`` is the last.

    Args:
        solutions: one for each crystal.
        messages: `level` (0 info, 1 warning, 2 error), `text` and `summary` of program messages.
    """
    commands: list[dict[str, object]] = []
    first = True
    for solution in solutions:
        commands.append(
            {
                "ispyb_command": "write_autoproc",
                "autoproc_id": None,
                "store_result": "ispyb_autoproc_id",
                **solution.refined,
            }
        )
        for scaling in solution.scalings:
            commands.append(
                {
                    "ispyb_command": "insert_scaling",
                    "autoproc_id": "$ispyb_autoproc_id",
                    "store_result": "ispyb_autoprocscaling_id",
                    **scaling.statistics,
                }
            )
            for integration in scaling.integrations:
                commands.append(
                    {
                        "ispyb_command": "upsert_integration",
                        "scaling_id": "$ispyb_autoprocscaling_id",
                        **({} if first else {"integration_id": None}),
                        **integration,
                    }
                )
                first = False
    commands += [
        {
            "ispyb_command": "add_program_message",
            "program_id": "$ispyb_autoprocprogram_id",
            "message": message.get("text"),
            "description": message.get("summary"),
            "severity": _severity(message.get("level")),
        }
        for message in messages
    ]
    return {"ispyb_command_list": commands}


def _severity(level: object) -> str:
    return _SEVERITY.get(level, "INFO") if isinstance(level, int) else "INFO"


def refined(spacegroup: str, cell: Sequence[float]) -> dict[str, object]:
    """Return values of a solution: space group and the six cell parameters (Å, degrees)."""
    names = ("a", "b", "c", "alpha", "beta", "gamma")
    return {
        "spacegroup": spacegroup,
        **{f"refinedcell_{name}": value for name, value in zip(names, cell, strict=True)},
    }


def cell(values: Sequence[float]) -> dict[str, float]:
    """Return values of an integration: the six cell parameters (Å, degrees)."""
    names = ("a", "b", "c", "alpha", "beta", "gamma")
    return {f"cell_{name}": value for name, value in zip(names, values, strict=True)}
