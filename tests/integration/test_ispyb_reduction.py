"""Commands about data reduction, jobs and data collections write exactly their rows."""

import pytest

from ..commanding import Commands, at

pytestmark = pytest.mark.slow

# -- data reduction --------------------------------------------------------------------------------


def test_solution_is_written_and_changed(commands: Commands) -> None:
    cell = {f"refinedcell_{axis}": 57.9 for axis in "abc"}
    number = commands("write_autoproc", {"autoproc_id": None, "spacegroup": "P43212", **cell})
    commands("write_autoproc", {"autoproc_id": number, "refinedcell_alpha": "90.0"})
    assert commands.row("AutoProc") == {
        "autoProcId": number,
        "spaceGroup": "P43212",
        **{f"refinedCell_{axis}": 57.9 for axis in "abc"},
        "refinedCell_alpha": 90.0,
        "recordTimeStamp": "now",
    }
    assert commands("write_autoproc", {"autoproc_id": number + 5}) == number + 5
    assert commands.refused("write_autoproc", {"autoproc_id": 2**31}) == (
        "Command 'write_autoproc': autoproc_id (AutoProc.autoProcId) is 2147483648, which is out "
        "of the range of the column."
    )


def test_scaling_has_three_shells(commands: Commands) -> None:
    solution = commands("write_autoproc", {})
    shells: dict[str, dict[str, object]] = {
        "overall": {"res_lim_low": 50, "res_lim_high": 1.5, "n_tot_obs": 1234.0, "anom": True},
        "innerShell": {"r_merge": 0.021, "cc_half": 0.999, "comments": "c" * 256},
        "outerShell": {"mean_i_sig_i": "1.2", "res_i_sig_i_2": None, "unknown": "x"},
    }
    number = commands("insert_scaling", {"autoproc_id": str(solution), **shells})
    scaling = {"autoProcScalingId": number, "recordTimeStamp": "now"}
    assert commands.row("AutoProcScaling") == {**scaling, "autoProcId": solution}
    found = commands.rows("AutoProcScalingStatistics")
    for row in found:
        del row["autoProcScalingStatisticsId"]
    assert found == [
        {**scaling, "scalingStatisticsType": "outerShell", "meanIOverSigI": 1.2},
        {
            **scaling,
            "scalingStatisticsType": "innerShell",
            "rMerge": 0.021,
            "ccHalf": 0.999,
            "comments": "c" * 252 + "...",
        },
        {
            **scaling,
            "scalingStatisticsType": "overall",
            "resolutionLimitLow": 50.0,
            "resolutionLimitHigh": 1.5,
            "nTotalObservations": 1234,
            "anomalous": 1,
        },
    ]


def test_wrong_scalings_are_refused(commands: Commands) -> None:
    solution = commands("write_autoproc", {})
    shells: dict[str, object] = {"overall": {}, "innerShell": {}, "outerShell": {}}

    def said(**changes: object) -> str:
        return commands.refused("insert_scaling", {"autoproc_id": solution, **shells, **changes})

    assert said(overall=None) == (
        "Command 'insert_scaling': overall is missing; a mapping of names to values is expected."
    )
    assert said(autoproc_id=None) == (
        "Command 'insert_scaling': autoproc_id (AutoProcScaling.autoProcId) is missing: number of "
        "the solution."
    )
    assert said(autoproc_id=99).endswith("is 99, and there is no such row in AutoProc.autoProcId.")
    assert said(outerShell={"r_merge": float("nan")}) == (
        "Command 'insert_scaling': outerShell.r_merge (AutoProcScalingStatistics.rMerge) is nan; "
        "the database holds no such number; a number is expected, or null."
    )
    assert said(innerShell={"n_tot_obs": 3000000000}) == (
        "Command 'insert_scaling': innerShell.n_tot_obs "
        "(AutoProcScalingStatistics.nTotalObservations) is 3000000000, which is out of the range "
        "of the column."
    ), "one statement for three rows, and it is told whose value the database refused"
    assert commands.rows("AutoProcScalingStatistics") == []


def test_integration_is_written_changed_and_linked(commands: Commands) -> None:
    scaling, other = commands.scaling(), commands.scaling()
    program = commands.program()
    number = commands(
        "upsert_integration",
        {
            "dcid": commands.ids.collection,
            "program_id": program,
            "scaling_id": scaling,
            "integration_id": None,
            "start_image_no": 1,
            "end_image_no": 1800,
            "cell_a": 57.9,
            "beam_vec_z": 1,
            "rot_axis_x": "1.0",
            "refined_xbeam": 215.1,
        },
    )
    integration = {
        "autoProcIntegrationId": number,
        "dataCollectionId": commands.ids.collection,
        "autoProcProgramId": program,
        "startImageNumber": 1,
        "endImageNumber": 1800,
        "cell_a": 57.9,
        "beamVectorZ": 1.0,
        "rotationAxisX": 1.0,
        "refinedXBeam": 215.1,
        "recordTimeStamp": "now",
    }
    assert commands.row("AutoProcIntegration") == integration
    link = commands.row("AutoProcScaling_has_Int")
    assert (link["autoProcScalingId"], link["autoProcIntegrationId"]) == (scaling, number)
    changes = {"integration_id": number, "scaling_id": other, "end_image_no": 900, "anom": 1}
    assert commands("register_integration", changes) == number
    assert commands.row("AutoProcIntegration") == {
        **integration, "endImageNumber": 900, "anomalous": 1,
    }  # fmt: skip
    assert commands.row("AutoProcScaling_has_Int")["autoProcScalingId"] == other
    said = commands.refused("upsert_integration", {"scaling_id": scaling})
    assert said == (
        "Command 'upsert_integration': dcid (AutoProcIntegration.dataCollectionId) is missing, and "
        "a value is expected."
    )


# -- jobs ------------------------------------------------------------------------------------------


def job_parameters(collection: int) -> dict[str, object]:
    return {
        "DCID": str(collection),
        "source": "automatic",
        "comment": "c" * 256,
        "displayname": "xia2",
        "recipe": "xia2-dials",
        "sweeps": [],
        "parameters": [{"key": "d_min", "value": 1.5}, {"key": "anom", "value": True}],
        "triggervariables": [{"key": "visit", "value": "cm1-1"}],
        "autostart": True,
    }


def test_job_is_created_and_sent_on(commands: Commands) -> None:
    collection = commands.ids.collection
    job = commands("create_ispyb_job", job_parameters(collection))
    assert commands.row("ProcessingJob") == {
        "processingJobId": job,
        "dataCollectionId": collection,
        "displayName": "xia2",
        "comments": "c" * 252 + "...",
        "recipe": "xia2-dials",
        "automatic": 1,
        "recordTimestamp": "now",
    }
    assert [
        (row["processingJobId"], row["parameterKey"], row["parameterValue"])
        for row in commands.rows("ProcessingJobParameter")
    ] == [(job, "d_min", "1.5"), (job, "anom", "1")]
    sweep = commands.row("ProcessingJobImageSweep")
    assert (sweep["dataCollectionId"], sweep["startImage"], sweep["endImage"]) == (
        collection, 1, 1800,
    )  # fmt: skip
    request = {"parameters": {"visit": "cm1-1", "ispyb_process": job}}
    assert commands.sent == [("trigger", request)]


def test_job_of_sweeps_may_be_held(commands: Commands) -> None:
    collection = commands.ids.collection
    sweeps = [
        {"DCID": collection, "start": 1, "end": 10},
        {"DCID": collection, "start": 11, "end": 20},
    ]
    given = {**job_parameters(0), "sweeps": sweeps, "autostart": False, "source": "user"}
    job = commands("create_ispyb_job", given)
    assert commands.row("ProcessingJob")["dataCollectionId"] == collection
    assert commands.row("ProcessingJob")["automatic"] == 0
    assert [row["startImage"] for row in commands.rows("ProcessingJobImageSweep")] == [1, 11]
    assert commands.sent == [("held", {"parameters": {"visit": "cm1-1", "ispyb_process": job}})]


def test_wrong_jobs_are_refused(commands: Commands) -> None:
    given = job_parameters(commands.ids.collection)

    def said(**changes: object) -> str:
        return commands.refused("create_ispyb_job", {**given, **changes})

    assert "DCID and sweeps are missing" in said(DCID=None)
    assert "is 99, and there is no such row" in said(DCID=99)
    assert "sweeps[0].DCID (ProcessingJobImageSweep.dataCollectionId) is missing" in said(
        sweeps=[{"start": 1}]
    )
    assert "parameters[0] is 'x'; a mapping" in said(parameters=["x"])
    assert "parameters[0].value (ProcessingJobParameter.parameterValue)" in said(
        parameters=[{"key": "k", "value": "v" * 1025}]
    )
    empty = commands.database.insert(
        "DataCollection", dataCollectionGroupId=commands.ids.group, numberOfImages=0
    )
    assert "has no startImageNumber or numberOfImages" in said(DCID=empty)


# -- data collections ------------------------------------------------------------------------------


def test_data_collections(commands: Commands) -> None:
    kind = commands.database.insert("ExperimentType", active=1)
    with commands.database.engine.connect() as connection:
        connection.exec_driver_sql("UPDATE ExperimentType SET name = 'OSC'")
    group = commands(
        "insert_data_collection_group",
        {
            "session_id": commands.ids.session,
            "experiment_type": "OSC",
            "start_time": "2026-11-29 01:00:00",
        },
    )
    assert commands.rows("DataCollectionGroup")[-1] == {
        "dataCollectionGroupId": group,
        "sessionId": commands.ids.session,
        "experimentType": "OSC",
        "experimentTypeId": kind,
        "startTime": at("2026-11-29 01:00:00"),
        "comments": "Created for Murfey",
    }
    collection = commands(
        "insert_data_collection",
        {
            "dcgid": group,
            "session_id": commands.ids.session,
            "image_directory": "/d",
            "image_suffix": "cbf",
            "voltage": 300,
        },
    )
    expected = {
        "dataCollectionId": collection,
        "dataCollectionGroupId": group,
        "SESSIONID": commands.ids.session,
        "imageDirectory": "/d",
        "imageSuffix": "cbf",
        "voltage": 300.0,
        "printableForReport": 1,
    }
    assert commands.rows("DataCollection")[-1] == expected
    given = {"dcid": collection, "dcgid": group, "xtal_snapshot2": "/s/2.png"}
    assert commands("upsert_data_collection_mx", given) == collection
    assert commands.rows("DataCollection")[-1] == {
        **expected, "xtalSnapshotFullPath2": "/s/2.png",
    }  # fmt: skip
    assert "dcgid (DataCollection.dataCollectionGroupId) is missing" in commands.refused(
        "upsert_data_collection_mx", {}
    )
