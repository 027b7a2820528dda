"""Results of xia2.multiplex and of dials.merge: merging statistics that cctbx writes as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from zwrap.errors import ProgramError
from zwrap.program.ispyb import Scaling, Solution, cell, command_list, refined
from zwrap.program.parsers.document import Place, read_document
from zwrap.program.parsers.generic import beside, texts
from zwrap.program.parsers.mtzheader import read_mtz_header

_STATISTICS = {
    "cc_half": "cc_one_half",
    "completeness": "completeness",
    "mean_i_sig_i": "i_over_sigma_mean",
    "multiplicity": "multiplicity",
    "n_tot_obs": "n_obs",
    "n_tot_unique_obs": "n_uniq",
    "r_merge": "r_merge",
}
"""Name in ISPyB's commands to that in the statistics of merged data."""

_ANOMALOUS = {
    "anom_completeness": "anom_completeness",
    "anom_multiplicity": "multiplicity",
    "cc_anom": "cc_anom",
    "r_meas_all_iplusi_minus": "r_meas",
}
"""Name in ISPyB's commands to that in the statistics with Friedel mates apart."""

_BINS = {"innerShell": 0, "outerShell": -1}


def multiplex_commands(path: Path, options: Mapping[str, object]) -> object:
    """Return commands for ISPyB from xia2.multiplex.json; option `mtz` is an MTZ file of the run.

    They are those of the data set that option `dataset` names, else of all data together; the
    integration is the one that was created in advance.
    """
    data = read_document(path)["datasets"][str(options.get("dataset", "All data"))]
    integration = {"integration_id": "$ispyb_integration_id"}
    return _commands(path, options, data, data.get("xtriage"), integration)


def merge_commands(path: Path, options: Mapping[str, object]) -> object:
    """Return commands for ISPyB from the JSON file of dials.merge; option `mtz` is the MTZ file.

    They are those of the first wavelength.
    """
    wavelengths = list(read_document(path).values())
    if not wavelengths:
        raise ProgramError(f"{path} holds the statistics of no wavelength.")
    data = wavelengths[0]
    return _commands(path, options, data, data.get("xtriage_output"), {})


def _commands(
    path: Path,
    options: Mapping[str, object],
    data: Place,
    xtriage: Place | None,
    integration: Mapping[str, object],
) -> object:
    """Return commands for one solution, with cell and space group of the MTZ file.

    Entries of xtriage become program messages, but for those whose text option `leave_out` holds.
    """
    mtz = beside(options, "mtz")
    if mtz is None:
        raise ProgramError(f"The MTZ file to {path} is missing; it has cell and space group.")
    header = read_mtz_header(mtz)
    merged, anomalous = data["merging_stats"], data.get("merging_stats_anom")
    statistics = {
        shell: _shell(merged, anomalous, shell) for shell in ("overall", "innerShell", "outerShell")
    }
    solution = Solution(
        refined(header.spacegroup, header.cell),
        [Scaling(statistics, [{**integration, **cell(header.cell)}])],
    )
    levels = xtriage.values() if xtriage else ()
    entries = [entry.mapping() for level in levels for entry in level.entries()]
    left_out = texts(options, "leave_out")
    return command_list(
        [solution], [entry for entry in entries if entry.get("text") not in left_out]
    )


def _shell(merged: Place, anomalous: Place | None, shell: str) -> dict[str, object]:
    """Return the statistics of a shell by their names in ISPyB's commands, limits in Å."""
    values: dict[str, object] = {
        name: _value(merged, item, shell).value for name, item in _STATISTICS.items()
    }
    values["res_lim_high"] = _value(merged, "d_star_sq_min", shell).number() ** -0.5
    values["res_lim_low"] = _value(merged, "d_star_sq_max", shell).number() ** -0.5
    if anomalous:
        values |= {name: _value(anomalous, item, shell).value for name, item in _ANOMALOUS.items()}
    return values


def _value(statistics: Place, item: str, shell: str) -> Place:
    """Return a statistic of a shell."""
    if shell == "overall":
        return statistics["overall"][item]
    return statistics[item][_BINS[shell]]
