"""Whatever a parameter of a command holds, it is written, or refused in one sentence."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator
from typing import Any

import pytest

from zwrap.errors import MessageError, TemporaryError

from ..commanding import Commands

pytestmark = pytest.mark.slow

STRANGE: list[Any] = [
    None, True, -1, 0, 2**31, 2**32, 2**63, 10**400, 1.5, math.nan, math.inf, "", "x", "x" * 300,
    "x" * 70_000, "\ud800", "\0", "\U0001f600\u03c3", [], {}, [[]], [None], [{}], {"a": {"b": []}},
    "2026-13-01", "1e5", "0x10", "NaN", "$p", "${", "'; DROP TABLE AutoProc", "null", [1, 2, 3],
    "/dev/zero", ["/dev/zero"], ["/proc/self/mem"], {"ispyb_command": "buffer"},
]  # fmt: skip
ROUNDS = 40


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if way:
        yield way
    if isinstance(value, (dict, list)):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(each, (*way, key))


def bases(commands: Commands) -> dict[str, dict[str, Any]]:
    program, scaling = commands.program(), commands.scaling()
    shell = {"r_merge": 0.1, "n_tot_obs": 5, "comments": "c"}
    group, collection = commands.ids.group, commands.ids.collection
    return {
        "register_processing": {"program": "p", "environment": {"a": 1}, "scaling_id": [scaling]},
        "update_processing_status": {"program_id": program, "message": "m", "update_time": "2036"},
        "insert_scaling": {
            "autoproc_id": 1, "overall": shell, "innerShell": shell, "outerShell": shell,
        },
        "upsert_integration": {"dcid": collection, "scaling_id": scaling, "integration_id": None},
        "add_program_attachment": {
            "program_id": program, "file_path": "/etc", "file_name": "passwd", "file_type": "log",
        },
        "insert_pdb_files": {"protein_id": 1, "source": "s", "pdb_files": ["/etc/hostname"]},
        "create_ispyb_job": {
            "DCID": collection, "sweeps": [{"DCID": collection, "start": 1, "end": 2}],
            "parameters": [{"key": "k", "value": "v"}], "triggervariables": [{"key": "k"}],
        },
        "insert_xray_centring": {
            "dcgid": group, "status": "success", "type": "3d",
            "results": [{"max_voxel": [1, 2, 3], "bounding_box": [[0, 1, 2], [3, 4, 5]]}],
        },
        "insert_dimple_result": {
            "mxmrrun": {
                "auto_proc_scaling_id": scaling, "auto_proc_program_id": program,
                "rwork_start": 1, "rwork_end": 1, "rfree_start": 1, "rfree_end": 1,
            },
            "blobs": [{"xyz": [1, 2, 3], "height": 1, "map_type": "difference"}],
            "auto_proc_program": {
                "command_line": "c", "programs": "p", "status": 1, "message": "m",
                "start_time": "2026-01-01", "end_time": "2026-01-01",
            },
            "attachments": [],
        },
        "insert_phasing_analysis_results": {
            "scaling_id": scaling,
            "phasing_results": {
                "PhasingContainer": {
                    "PhasingAnalysis": {"recordTimeStamp": "2026-01-01"},
                    "Phasing_has_ScalingContainer": {"PhasingStatistics": [{"binNumber": 1}]},
                    "PhasingProgramRun": [{"phasingPrograms": "p"}],
                }
            },
        },
        "retrieve_proposal_title": {"visit": "cm1-1", "proposalcode": "cm", "proposalnumber": 1},
        "buffer": {
            "program_id": program, "buffer_lookup": {"autoproc_id": 1}, "buffer_store": 2,
            "buffer_command": {"ispyb_command": "write_autoproc"}, "buffer_expiry_time": 1,
        },
    }  # fmt: skip


def test_whatever_a_parameter_holds_it_is_written_or_refused(commands: Commands) -> None:
    chance = random.Random(20)
    written, refused = 0, 0
    for name, base in bases(commands).items():
        for _ in range(ROUNDS):
            given = copy.deepcopy(base)
            *way, last = chance.choice(list(places(given)))
            place: Any = given
            for key in way:
                place = place[key]
            place[last] = chance.choice(STRANGE)
            try:
                commands(name, given)
                written += 1
            except (MessageError, TemporaryError) as error:
                refused += 1
                told = str(error)
                assert told.startswith(("Command '", "Unknown ISPyB command '")), told
                assert len(told) < 1500
    assert written > 20
    assert refused > 200
