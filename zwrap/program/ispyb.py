"""Results of data reduction as commands for the ISPyB service (``ispyb_connector``).

One command list creates the records of one program run: with ``$name`` a command refers to the
value that an earlier one stored under ``store_result``. Form and names are those that Diamond's
wrappers send.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

Values = Mapping[str, object]
"""Name in ISPyB's commands to the value of a record."""

SHELLS = ("overall", "innerShell", "outerShell")
"""Names of the resolution shells with statistics."""

_SEVERITY = {0: "INFO", 1: "WARNING", 2: "ERROR"}

_PROGRAM: dict[str, object] = {"program_id": "$ispyb_autoprocprogram_id"}
"""Reference to the record of the program run."""

_SUCCEEDED = {
    "ispyb_command": "update_processing_status",
    **_PROGRAM,
    "message": "processing successful",
    "status": "success",
}
"""Command that ends the record of a second program."""


class Scaling(msgspec.Struct, frozen=True):
    """Statistics of one scaled data set, and the integrated sweeps behind it."""

    statistics: Mapping[str, Values]
    """Shell of `SHELLS` to its statistics: resolution in Å, completeness in per cent, R factors as
    fractions."""
    integrations: Sequence[Values] = ()


class Solution(msgspec.Struct, frozen=True):
    """Space group and cell of one crystal, and its scaled data sets."""

    refined: Values
    """``spacegroup``, and ``refinedcell_a`` (Å) to ``refinedcell_gamma`` (degrees)."""
    scalings: Sequence[Scaling]


def command_list(
    solutions: Iterable[Solution],
    messages: Iterable[Values] = (),
    attachments: Iterable[Values] = (),
    program: str | None = None,
) -> dict[str, list[dict[str, object]]]:
    """Return the payload of output `ispyb`.

    Only the first integration may be linked to a record that was created in advance; for the others
    ``integration_id`` is null. After several scalings ``$ispyb_autoprocscaling_id`` is the last.

    Args:
        solutions: Solution of each crystal.
        messages: Program messages: ``level`` (0 info, 1 warning, 2 error), ``text``, ``summary``.
        attachments: Files: ``file_name``, ``file_path``, ``file_type`` (log, result, graph).
        program: Name of a second program, which is registered for these results; None: they are
            those of the program that was registered before the job.
    """
    commands: list[dict[str, object]] = [_registered(program)] if program else []
    first = not program
    for solution in solutions:
        written = {"autoproc_id": None, "store_result": "ispyb_autoproc_id", **solution.refined}
        commands.append({"ispyb_command": "write_autoproc", **written})
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
            **_PROGRAM,
            "message": message.get("text"),
            "description": message.get("summary"),
            "severity": _severity(message.get("level")),
        }
        for message in messages
    ]
    commands += [
        {"ispyb_command": "add_program_attachment", **_PROGRAM, **attachment}
        for attachment in attachments
    ]
    return {"ispyb_command_list": [*commands, *([_SUCCEEDED] if program else [])]}


def _registered(program: str) -> dict[str, object]:
    """Return the command that creates the record of a second program, which later ones refer to."""
    return {
        "ispyb_command": "register_processing",
        "program": program,
        "cmdline": program,
        "environment": "",
        "store_result": "ispyb_autoprocprogram_id",
    }


def _severity(level: object) -> str:
    """Return ISPyB's name of a level; INFO for an unknown one."""
    return _SEVERITY.get(level, "INFO") if isinstance(level, int) else "INFO"


def refined(spacegroup: str, cell: Sequence[float | None]) -> dict[str, object]:
    """Return `Solution.refined` for a space group and six cell parameters (Å, degrees)."""
    names = ("a", "b", "c", "alpha", "beta", "gamma")
    return {
        "spacegroup": spacegroup,
        **{f"refinedcell_{name}": value for name, value in zip(names, cell, strict=True)},
    }


def cell(values: Sequence[float | None]) -> dict[str, float | None]:
    """Return the six cell parameters (Å, degrees) as values of an integration."""
    names = ("a", "b", "c", "alpha", "beta", "gamma")
    return {f"cell_{name}": value for name, value in zip(names, values, strict=True)}
