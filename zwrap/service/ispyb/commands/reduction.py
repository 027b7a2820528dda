"""Commands about data reduction: solutions, scalings and integrated sweeps."""

from __future__ import annotations

import sqlalchemy as sa

from zwrap.service.ispyb.commands.recording import fields, mapping, recorded
from zwrap.service.ispyb.contract import Call, Command, Field
from zwrap.service.ispyb.writing import Row, insert_all, parameter, table

_AXES = {"a": "Å", "b": "Å", "c": "Å", "alpha": "degrees", "beta": "degrees", "gamma": "degrees"}
"""Parameter of a cell to its unit."""

SOLUTION = recorded(
    "write_autoproc",
    "One solution: space group and refined cell",
    "AutoProc",
    {
        "autoproc_id": Field("autoProcId", "number of a solution to change; null: a new one"),
        "program_id": Field("autoProcProgramId", "number of the program run"),
        "spacegroup": Field("spaceGroup", "space group"),
        **{
            f"refinedcell_{axis}": Field(f"refinedCell_{axis}", f"refined cell, {unit}")
            for axis, unit in _AXES.items()
        },
    },
    number="autoproc_id",
    stamp="recordTimeStamp",
)

SHELLS = ("outerShell", "innerShell", "overall")
"""Shells of a scaling, in the order of their rows."""

_STATISTICS = fields(
    "AutoProcScalingStatistics",
    {
        "comments": Field("comments", "remarks, for people"),
        "res_lim_low": Field("resolutionLimitLow", "low resolution limit, Å"),
        "res_lim_high": Field("resolutionLimitHigh", "high resolution limit, Å"),
        "r_merge": Field("rMerge", "Rmerge, a fraction"),
        "r_meas_within_iplusi_minus": Field("rMeasWithinIPlusIMinus", "Rmeas within I+ and I-"),
        "r_meas_all_iplusi_minus": Field("rMeasAllIPlusIMinus", "Rmeas of I+ and I- together"),
        "r_pim_within_iplusi_minus": Field("rPimWithinIPlusIMinus", "Rpim within I+ and I-"),
        "r_pim_all_iplusi_minus": Field("rPimAllIPlusIMinus", "Rpim of I+ and I- together"),
        "fract_partial_bias": Field("fractionalPartialBias", "bias of partial reflections"),
        "n_tot_obs": Field("nTotalObservations", "number of observations"),
        "n_tot_unique_obs": Field("nTotalUniqueObservations", "number of unique reflections"),
        "mean_i_sig_i": Field("meanIOverSigI", "mean I/sigma(I)"),
        "res_i_sig_i_2": Field("resIOverSigI2", "resolution where the mean I/sigma(I) is 2, Å"),
        "completeness": Field("completeness", "completeness, per cent"),
        "multiplicity": Field("multiplicity", "multiplicity"),
        "anom": Field("anomalous", "1 if Friedel mates were kept apart, else 0"),
        "anom_completeness": Field("anomalousCompleteness", "anomalous completeness, per cent"),
        "anom_multiplicity": Field("anomalousMultiplicity", "anomalous multiplicity"),
        "cc_half": Field("ccHalf", "CC1/2"),
        "cc_anom": Field("ccAnomalous", "anomalous correlation"),
    },
)
_SCALING = fields(
    "AutoProcScaling",
    {"autoproc_id": Field("autoProcId", "number of the solution", required=True)},
)


def _insert_scaling(call: Call) -> int:
    """Write a scaling with the statistics of its three shells; return its number."""
    shells = {shell: mapping(call, shell) for shell in SHELLS}
    scaling = Row(call, "AutoProcScaling", stamp="recordTimeStamp").take(_SCALING).insert()
    rows = []
    for shell, statistics in shells.items():
        row = Row(call, "AutoProcScalingStatistics", stamp="recordTimeStamp")
        row.put("autoProcScalingId", scaling).put("scalingStatisticsType", shell)
        rows.append(row.take(_STATISTICS, statistics, f"{shell}."))
    insert_all(call, rows)
    return scaling


SCALING = Command(
    "insert_scaling",
    _insert_scaling,
    {**_SCALING, **{f"SHELL.{name}": each for name, each in _STATISTICS.items()}},
    "One scaled data set, with statistics of the shells `overall`, `innerShell` and `outerShell`, "
    "a mapping each",
)

_INTEGRATION = {
    **fields(
        "AutoProcIntegration",
        {
            "integration_id": Field(
                "autoProcIntegrationId", "number of an integration to change; null: a new one"
            ),
            "dcid": Field("dataCollectionId", "number of the data collection"),
            "program_id": Field("autoProcProgramId", "number of the program run"),
            "start_image_no": Field("startImageNumber", "number of the first image"),
            "end_image_no": Field("endImageNumber", "number of the last image"),
            "refined_detector_dist": Field("refinedDetectorDistance", "detector distance, mm"),
            "refined_xbeam": Field("refinedXBeam", "beam centre in x, mm"),
            "refined_ybeam": Field("refinedYBeam", "beam centre in y, mm"),
            **{
                f"rot_axis_{axis}": Field(
                    f"rotationAxis{axis.upper()}", "rotation axis, unit vector"
                )
                for axis in "xyz"
            },
            **{
                f"beam_vec_{axis}": Field(
                    f"beamVector{axis.upper()}", "direction of the beam, vector"
                )
                for axis in "xyz"
            },
            **{
                f"cell_{axis}": Field(f"cell_{axis}", f"cell of the sweep, {unit}")
                for axis, unit in _AXES.items()
            },
            "anom": Field("anomalous", "1 if Friedel mates were kept apart, else 0"),
        },
    ),
    "scaling_id": Field(
        "AutoProcScaling_has_Int.autoProcScalingId", "number of the scaling that it went into"
    ),
}


def _upsert_integration(call: Call) -> int:
    """Write or change an integrated sweep, and link it to its scaling; return its number."""
    known = parameter(call, "integration_id", _INTEGRATION)
    others = {name: each for name, each in _INTEGRATION.items() if name != "integration_id"}
    link = Row(call, "AutoProcScaling_has_Int", stamp="recordTimeStamp").take(others)
    row = Row(call, "AutoProcIntegration", stamp="recordTimeStamp").take(others)
    number = row.upsert(known if isinstance(known, int) else None, "integration_id")
    if link.values["autoProcScalingId"] is not None:
        if known is not None:
            links = table("AutoProcScaling_has_Int")
            former = links.columns.autoProcIntegrationId == number
            call.connection.execute(sa.delete(links).where(former))
        link.put("autoProcIntegrationId", number).insert()
    return number


INTEGRATION = Command(
    "upsert_integration",
    _upsert_integration,
    _INTEGRATION,
    "One integrated sweep, and its link to a scaling; of one that is changed, the links before",
)
REGISTERED_INTEGRATION = INTEGRATION._replace(
    name="register_integration", meaning="Former name of `upsert_integration`"
)
