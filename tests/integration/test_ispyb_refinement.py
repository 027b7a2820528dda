"""Commands about refinement and phasing write exactly their rows, and refuse others."""

from typing import Any

import pytest

from ..commanding import Commands, at

pytestmark = pytest.mark.slow

# -- refinement ------------------------------------------------------------------------------------


def dimple_result(scaling: int, program: int | None) -> dict[str, Any]:
    return {
        "mxmrrun": {
            "auto_proc_scaling_id": scaling,
            "auto_proc_program_id": program,
            "rwork_start": 0.35,
            "rwork_end": 0.2,
            "rfree_start": 0.36,
            "rfree_end": 0.25,
        },
        "blobs": [
            {
                "xyz": [0.1, -0.2, 0.3],
                "height": 7.5,
                "map_type": "anomalous",
                "occupancy": 0.5,
                "nearest_atom": {"name": "SG", "chain_id": "A", "res_seq": 76, "res_name": "CYS"},
                "nearest_atom_distance": 0.4,
                "filepath": "/r",
                "view1": "1.png",
            },
            {"xyz": [1, 2, 3], "height": 6, "map_type": "difference"},
        ],
        "auto_proc_program": {
            "command_line": "dimple a b c",
            "programs": "dimple",
            "status": 1,
            "message": "m" * 300,
            "start_time": "2026-11-29T01:00:00",
            "end_time": "2026-11-29T01:10:00",
        },
        "attachments": [
            {
                "file_type": "result",
                "file_path": "/r",
                "file_name": "final.mtz",
                "timestamp": "2026-11-29T01:10:00",
                "importance_rank": 1,
            }
        ],
    }


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("name", ["insert_dimple_result", "insert_metal_id_result"])
def test_result_of_refinement(commands: Commands, known: bool, name: str) -> None:
    scaling = commands.scaling()
    program = commands.program() if known else None
    run = commands(name, dimple_result(scaling, program))
    ran = commands.rows("AutoProcProgram")[-1]
    assert {key: ran[key] for key in ran if key not in (
        "recordTimeStamp", "processingEnvironment", "processingPipelineId")} == {
        "autoProcProgramId": program or ran["autoProcProgramId"],
        "processingCommandLine": "dimple a b c",
        "processingPrograms": "dimple",
        "processingStatus": 1,
        "processingMessage": "m" * 252 + "...",
        "processingStartTime": at("2026-11-29 01:00:00"),
        "processingEndTime": at("2026-11-29 01:10:00"),
    }  # fmt: skip
    assert ("recordTimeStamp" in ran) == known
    assert commands.row("MXMRRun") == {
        "mxMRRunId": run,
        "autoProcScalingId": scaling,
        "autoProcProgramId": ran["autoProcProgramId"],
        "rValueStart": 0.35,
        "rValueEnd": 0.2,
        "rFreeValueStart": 0.36,
        "rFreeValueEnd": 0.25,
    }
    first, second = commands.rows("MXMRRunBlob")
    del first["mxMRRunBlobId"], second["mxMRRunBlobId"]
    assert first == {
        "mxMRRunId": run, "x": 0.1, "y": -0.2, "z": 0.3, "height": 7.5, "mapType": "anomalous",
        "occupancy": 0.5, "nearestAtomName": "SG", "nearestAtomChainId": "A",
        "nearestAtomResSeq": 76, "nearestAtomResName": "CYS", "nearestAtomDistance": 0.4,
        "filePath": "/r", "view1": "1.png",
    }  # fmt: skip
    assert second == {
        "mxMRRunId": run, "x": 1.0, "y": 2.0, "z": 3.0, "height": 6.0, "mapType": "difference",
    }  # fmt: skip
    file = commands.row("AutoProcProgramAttachment")
    assert file == {
        "autoProcProgramAttachmentId": file["autoProcProgramAttachmentId"],
        "autoProcProgramId": ran["autoProcProgramId"],
        "fileType": "Result",
        "filePath": "/r",
        "fileName": "final.mtz",
        "importanceRank": 1,
        "recordTimeStamp": at("2026-11-29 01:10:00"),
        "deleted": 0,
    }


@pytest.mark.parametrize(
    ("way", "value", "said"),
    [
        (["mxmrrun", "rwork_end"], None, "mxmrrun.rwork_end (MXMRRun.rValueEnd) is missing"),
        (["mxmrrun", "auto_proc_scaling_id"], 99, "in AutoProcScaling.autoProcScalingId"),
        (["mxmrrun", "auto_proc_program_id"], 99, "is 99, and there is no such row"),
        (["mxmrrun"], None, "mxmrrun is missing; a mapping of names to values is expected"),
        (["blobs"], None, "blobs is missing; a list of mappings is expected"),
        (["blobs", 1, "xyz"], [1, 2], "blobs[1].xyz is [1, 2]; three numbers are expected"),
        (["blobs", 1, "xyz"], [1, 2, "c"], "blobs[1].xyz.z (MXMRRunBlob.z) is 'c'"),
        (["blobs", 0, "map_type"], "x", "one of 'anomalous', 'difference' is expected"),
        (["blobs", 0, "nearest_atom", "name"], "LONGER", "it has 6 characters, and at most 4"),
        (["auto_proc_program", "status"], "good", "a whole number is expected"),
        (["attachments", 0, "timestamp"], "then", "attachments[0].timestamp (AutoProcProgramAtta"),
        (["attachments", 0, "file_name"], "f" * 256, "at most 255 are accepted"),
    ],
)
def test_wrong_result_of_refinement_is_refused(
    commands: Commands, way: list[Any], value: object, said: str
) -> None:
    given = dimple_result(commands.scaling(), None)
    place: Any = given
    for key in way[:-1]:
        place = place[key]
    place[way[-1]] = value
    assert said in commands.refused("insert_dimple_result", given)


def test_run_by_its_columns(commands: Commands) -> None:
    scaling = commands.scaling()
    given: dict[str, object] = {
        "scaling_id": scaling,
        "success": 1,
        "message": "fine",
        "pipeline": "dimple",
        "rundir": "/r/d",
        "inputcoordfile": "/r/d/in.pdb",
        "outputmtzfile": "final.mtz",
        "logfile": "/r/d/x/dimple.log",
        "rstart": 0.3,
        "rfreeend": 0.2,
        "endtime": "2026-11-29 01:10:00",
    }
    run = commands("insert_mxmr_run", given)
    program = commands.rows("AutoProcProgram")[-1]
    number = program["autoProcProgramId"]
    ran = {
        "autoProcProgramId": number,
        "processingPrograms": "dimple",
        "processingStatus": 1,
        "processingMessage": "fine",
        "processingStartTime": "now",
        "processingEndTime": at("2026-11-29 01:10:00"),
        "recordTimeStamp": at("2026-11-29 01:10:00"),
    }
    assert program == ran
    assert commands.row("MXMRRun") == {
        "mxMRRunId": run, "autoProcScalingId": scaling, "autoProcProgramId": number,
        "rValueStart": 0.3, "rFreeValueEnd": 0.2,
    }  # fmt: skip
    files = [
        (row["fileType"], row["filePath"], row["fileName"], row.get("importanceRank"))
        for row in commands.rows("AutoProcProgramAttachment")
    ]
    assert files == [
        ("Input", "/r/d", "in.pdb", None),
        ("Result", "/r/d", "final.mtz", None),
        ("Log", "/r/d", "x/dimple.log", 0),
    ]
    changed = {"id": run, "scaling_id": scaling, "success": 0, "rend": 0.25}
    assert commands("insert_mxmr_run", changed) == run
    assert commands.rows("AutoProcProgram")[-1] == {**ran, "processingStatus": 0}
    assert commands.row("MXMRRun")["rValueEnd"] == 0.25
    blob = commands("insert_mxmr_run_blob", {"mxmr_run_id": run, "view1": "/r/1.png"})
    assert commands.row("MXMRRunBlob") == {
        "mxMRRunBlobId": blob, "mxMRRunId": run, "view1": "/r/1.png",
    }  # fmt: skip


def test_failure_of_dimple(commands: Commands) -> None:
    scaling = commands.scaling()
    given = {"scaling_id": scaling, "directory": "/r", "logfile": "not read"}
    run = commands("store_dimple_failure", given)
    program = commands.rows("AutoProcProgram")[-1]
    assert program == {
        "autoProcProgramId": program["autoProcProgramId"],
        "processingPrograms": "dimple",
        "processingStatus": 0,
        "processingMessage": "Unknown error",
        "processingStartTime": "now",
        "recordTimeStamp": "now",
    }
    assert commands.row("MXMRRun") == {
        "mxMRRunId": run, "autoProcScalingId": scaling,
        "autoProcProgramId": program["autoProcProgramId"],
    }  # fmt: skip
    assert commands.rows("AutoProcProgramAttachment") == []


# -- phasing ---------------------------------------------------------------------------------------


def test_results_of_phasing(commands: Commands) -> None:
    scaling = commands.scaling()
    group = commands.database.insert("SpaceGroup", spaceGroupShortName="P4")
    statistics: dict[str, object] = {
        "numberOfBins": 10, "binNumber": "999", "lowRes": 50, "highRes": 2.0, "metric": "FOM",
        "statisticsValue": 0.71, "nReflections": None,
    }  # fmt: skip
    container: dict[str, Any] = {
        "PhasingAnalysis": {"recordTimeStamp": "2026-11-29T01:00:00"},
        "Phasing_has_ScalingContainer": {
            "PhasingStatistics": [statistics, {**statistics, "metric": "CC"}]
        },
        "PhasingProgramRun": [{"phasingPrograms": "fast_ep", "phasingStatus": 1}, {}],
        "PreparePhasingData": {"spaceGroupId": group, "lowRes": 50},
        "Phasing": {"method": "shelxe", "solventContent": 0.5, "enantiomorph": 1},
        "SubstructureDetermination": {"method": "SAD"},
        "PhasingProgramAttachment": {"fileType": "Logfile", "fileName": "a", "filePath": "/r"},
    }
    given = {"phasing_results": {"PhasingContainer": container}, "scaling_id": str(scaling)}
    number = commands("insert_phasing_analysis_results", given)
    assert commands.row("PhasingAnalysis") == {
        "phasingAnalysisId": number, "recordTimeStamp": at("2026-11-29 01:00:00"),
    }  # fmt: skip
    link = commands.row("Phasing_has_Scaling")
    assert (link["phasingAnalysisId"], link["autoProcScalingId"]) == (number, scaling)
    found = commands.rows("PhasingStatistics")
    assert [row["metric"] for row in found] == ["FOM", "CC"]
    assert found[0]["phasingHasScalingId1"] == link["phasingHasScalingId"]
    assert (found[0]["binNumber"], float(found[0]["statisticsValue"])) == (999, 0.71)
    run = commands.row("PhasingProgramRun")
    assert (run["phasingPrograms"], run["phasingStatus"]) == ("fast_ep", 1)
    for table in ("PreparePhasingData", "Phasing", "SubstructureDetermination"):
        row = commands.row(table)
        assert row["phasingAnalysisId"] == number
        assert row["phasingProgramRunId"] == run["phasingProgramRunId"]
    assert commands.row("Phasing")["method"] == "shelxe"
    assert commands.rows("ModelBuilding") == []
    assert commands.row("PhasingProgramAttachment")["fileType"] == "Logfile"

    def said(**changes: object) -> str:
        results = {"PhasingContainer": {**container, **changes}}
        return commands.refused(
            "insert_phasing_analysis_results", {**given, "phasing_results": results}
        )

    at_ = "phasing_results.PhasingContainer"
    assert f"{at_}.PhasingAnalysis is missing" in said(PhasingAnalysis=None)
    assert f"{at_}.Phasing[0].method (Phasing.method) is 'x'; one of" in said(
        Phasing=[{"method": "x"}]
    )
    assert "PhasingContainer is missing" in commands.refused(
        "insert_phasing_analysis_results", {**given, "phasing_results": {}}
    )
