"""Commands about screening, images and grids write exactly their rows."""

import pytest

from ..commanding import Commands

pytestmark = pytest.mark.slow

# -- screening -------------------------------------------------------------------------------------


def test_screening_with_its_strategies(commands: Commands) -> None:
    dcid = commands.ids.collection
    short = {"shortcomments": "MOSFLM native, more", "comments": "c"}
    screening = commands("insert_screening", {"dcid": dcid, "programversion": "mosflm", **short})
    assert commands.row("Screening") == {
        "screeningId": screening,
        "dataCollectionId": dcid,
        "dataCollectionGroupId": commands.ids.group,
        "programVersion": "mosflm",
        "shortComments": "MOSFLM native, more",
        "comments": "c",
        "bltimeStamp": "now",
    }
    begin = commands("insert_screening_input", {"screening_id": screening, "minsignal2noise": 3})
    assert commands.row("ScreeningInput") == {
        "screeningInputId": begin, "screeningId": screening, "minimumSignalToNoise": 3.0,
    }  # fmt: skip
    output = commands(
        "insert_screening_output",
        {"screening_id": screening, "mosaicity": 0.5, "program": "mosflm", "indexingsuccess": 0},
    )
    assert commands.row("ScreeningOutput") == {
        "screeningOutputId": output,
        "screeningId": screening,
        "mosaicity": 0.5,
        "program": "mosflm",
        "mosaicityEstimated": 1,
        "indexingSuccess": 1,
        "strategySuccess": 1,
        "alignmentSuccess": 0,
        "SCREENINGSUCCESS": 0,
    }
    given: dict[str, object] = {
        "screening_output_id": output, "unitcella": "57.9", "unitcellgamma": 90,
        "raworientationmatrixaz": 0.1, "spacegroup": "P4",
    }  # fmt: skip
    lattice = commands("insert_screening_output_lattice", given)
    assert commands.row("ScreeningOutputLattice") == {
        "screeningOutputLatticeId": lattice,
        "screeningOutputId": output,
        "unitCell_a": 57.9,
        "unitCell_gamma": 90.0,
        "rawOrientationMatrix_a_z": 0.1,
        "spaceGroup": "P4",
        "bltimeStamp": "now",
    }
    given = {"screening_output_id": output, "program": "mosflm", "anomalous": False}
    strategy = commands("insert_screening_strategy", given)
    assert commands.row("ScreeningStrategy") == {
        "screeningStrategyId": strategy,
        "screeningOutputId": output,
        "program": "mosflm",
        "anomalous": 0,
    }
    wedge = commands(
        "insert_screening_strategy_wedge",
        {"screening_strategy_id": strategy, "noimages": 75, "comments": "w"},
    )
    assert commands.row("ScreeningStrategyWedge") == {
        "screeningStrategyWedgeId": wedge,
        "screeningStrategyId": strategy,
        "wedgeNumber": 1,
        "numberOfImages": 75,
        "comments": "w",
    }
    sub = commands(
        "insert_screening_strategy_sub_wedge",
        {
            "screening_strategy_wedge_id": wedge,
            "subwedgenumber": 4,
            "axisstart": "182.0",
            "resolution": 1.47,
            "rotationaxis": "omega",
        },
    )
    assert commands.row("ScreeningStrategySubWedge") == {
        "screeningStrategySubWedgeId": sub,
        "screeningStrategyWedgeId": wedge,
        "subWedgeNumber": 1,
        "axisStart": 182.0,
        "RESOLUTION": 1.47,
        "rotationAxis": "omega",
    }
    assert "screening_id (ScreeningOutput.screeningId) is missing" in commands.refused(
        "insert_screening_output", {}
    )


# -- images and grids ------------------------------------------------------------------------------


def test_quality_of_an_image_is_written_once_and_completed(commands: Commands) -> None:
    name = "store_per_image_analysis_results"
    given: dict[str, object] = {
        "dcid": commands.ids.collection, "file-number": 3, "n_spots_total": 120,
        "n_spots_no_ice": 100, "estimated_d_min": 1.9, "total_intensity": 5e6,
    }  # fmt: skip
    assert commands(name, given) == 1
    later = {"dcid": commands.ids.collection, "file-pattern-index": "3", "dozor_score": 12.5}
    assert commands(name, {**later, "file-number": 9}) == 1
    row = commands.row("ImageQualityIndicators")
    assert {key: float(value) for key, value in row.items()} == {
        "dataCollectionId": commands.ids.collection, "imageNumber": 3, "spotTotal": 120,
        "goodBraggCandidates": 100, "method1Res": 1.9, "method2Res": 1.9,
        "totalIntegratedSignal": 5e6, "dozor_score": 12.5,
    }  # fmt: skip
    assert "one of them is expected" in commands.refused(name, {**given, "n_spots_total": None})
    assert "the number of an image" in commands.refused(name, {**given, "file-number": None})
    assert "dcid (ImageQualityIndicators.dataCollectionId) is missing" in commands.refused(name, {})


@pytest.mark.parametrize("kind", ["2d", "3d"])
def test_centring_by_xrays(commands: Commands, kind: str) -> None:
    number = commands(
        "insert_xray_centring",
        {
            "dcgid": commands.ids.group,
            "status": "success",
            "type": kind,
            "results": [
                {
                    "centre_of_mass": [1.5, 2.5, 3.5],
                    "max_voxel": [1, 2, 3],
                    "n_voxels": 7,
                    "total_count": 99.5,
                    "bounding_box": [[0, 1, 2], [3, 4, 5]],
                    "max_count": 9,
                    "sample_id": None,
                },
                {"sample_id": None},
            ],
        },
    )
    assert commands.row("XrayCentring") == {
        "xrayCentringId": number,
        "dataCollectionGroupId": commands.ids.group,
        "status": "success",
        "xrayCentringType": kind,
    }
    first, second = commands.rows("XrayCentringResult")
    assert second.keys() == {"xrayCentringResultId", "xrayCentringId"}
    expected = {
        "xrayCentringResultId": first["xrayCentringResultId"], "xrayCentringId": number,
        "centreOfMassX": 1.5, "centreOfMassY": 2.5, "centreOfMassZ": 3.5,
        "maxVoxelX": 1, "maxVoxelY": 2, "maxVoxelZ": 3, "numberOfVoxels": 7, "totalCount": 99.5,
        "boundingBoxMinX": 0.0, "boundingBoxMinY": 1.0, "boundingBoxMinZ": 2.0,
        "boundingBoxMaxX": 3.0, "boundingBoxMaxY": 4.0, "boundingBoxMaxZ": 5.0,
    }  # fmt: skip
    if kind == "2d":
        expected = {key: value for key, value in expected.items() if not key.endswith("Z")}
    assert first == expected


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"status": "failure"}, "one of 'success', 'failed', 'pending' is expected"),
        ({"results": None}, "results is missing; a list of mappings is expected"),
        ({"results": [{"max_voxel": [1, 2]}]}, "results[0].max_voxel is [1, 2]; 3 coordinates are"),
        ({"results": [{"bounding_box": [[1]]}]}, "bounding_box is [[1]]; a list of two corners is"),
        ({"results": [{"sample_id": 99}]}, "sample_id (XrayCentringResult.blSampleId) is 99"),
        ({"dcgid": 99}, "is 99, and there is no such row in DataCollectionGroup"),
    ],
)
def test_wrong_centring_is_refused(
    commands: Commands, changes: dict[str, object], said: str
) -> None:
    given = {"dcgid": commands.ids.group, "status": "success", "type": "3d", "results": []}
    assert said in commands.refused("insert_xray_centring", {**given, **changes})
