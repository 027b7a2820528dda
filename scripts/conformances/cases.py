"""Messages that both sides carry out: each command with all its parameters, and with few."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from zwrap.service.ispyb.commands.table import COMMANDS
from zwrap.service.ispyb.writing import column_of

Given = Mapping[str, Any]
"""Parameters by name."""


class Made(NamedTuple):
    """What messages of a command are made of."""

    few: Given
    """Parameters without which it cannot be carried out."""
    all_: Given
    """A value for each parameter."""
    ids: Given
    """Numbers of known rows."""


class Case(NamedTuple):
    """One message."""

    command: str
    parameters: Mapping[str, Any]
    store: str = ""
    """Name under which what it returns is kept."""


STORED = {
    "program_id": "$program", "autoprocprogramid": "$program", "autoproc_id": "$solution",
    "scaling_id": "$scaling", "rpid": "$job", "screening_id": "$screening",
    "screening_output_id": "$output", "screening_strategy_id": "$strategy",
    "screening_strategy_wedge_id": "$wedge", "mxmr_run_id": "$run",
}  # fmt: skip
"""Parameter with the number of a row to the name under which that row's number was kept."""

ORDER = (
    ("create_ispyb_job", "job"), ("register_processing", "program"),
    ("update_program_name", ""), ("update_processing_status", ""), ("update_program_name", ""),
    ("add_program_message", ""),
    ("add_program_attachment", ""), ("add_datacollection_attachment", ""),
    ("write_autoproc", "solution"), ("insert_scaling", "scaling"),
    ("upsert_integration", "integration"), ("register_integration", ""),
    ("insert_screening", "screening"),
    ("insert_screening_input", ""), ("insert_screening_output", "output"),
    ("insert_screening_output_lattice", ""), ("insert_screening_strategy", "strategy"),
    ("insert_screening_strategy_wedge", "wedge"), ("insert_screening_strategy_sub_wedge", ""),
    ("store_dimple_failure", ""), ("insert_mxmr_run", "run"), ("insert_mxmr_run_blob", "blob"),
    ("insert_phasing_analysis_results", ""), ("store_per_image_analysis_results", ""),
    ("insert_data_collection_group", "group"), ("insert_data_collection", ""),
    ("upsert_data_collection_mx", ""), ("retrieve_programs_for_job_id", ""),
    ("retrieve_program_attachments_for_program_id", ""), ("retrieve_proposal_title", ""),
)  # fmt: skip
"""Commands in an order in which each finds the rows that it needs."""

Messages = list[Given]
"""Parameters of messages of one command."""

Value = Any
"""A parameter."""


def _jobs(made: Made) -> Messages:
    sweep = {"DCID": made.ids["dcid"], "start": 1, "end": 90}
    key = {"key": "d_min", "value": "1.8"}
    least = {"DCID": 0, "source": "user", "triggervariables": [], "parameters": [],
             "sweeps": [sweep], "autostart": False}  # fmt: skip
    most = {"source": "automatic", "DCID": made.ids["dcid"], "parameters": [key, key],
            "sweeps": [sweep, sweep]}  # fmt: skip
    return [{**made.few, **least}, {**least, **made.all_, **most}]


def _programs(made: Made) -> Messages:
    most = {**made.few, "program": "xia2 dials", "cmdline": "xia2 pipeline=dials",
            "environment": {"a": 1, "b": "two"}, "rpid": "$job",
            "scaling_id": None}  # fmt: skip
    return [{}, {**most, "rpid": None}, {**most, "program": "other"}, most]


def _states(made: Made) -> Messages:
    states = (
        {"message": "starting"},
        {"message": "running", "status": "running"},
        {"update_time": "2030-01-01 00:00:00", "message": "later"},
        {"update_time": "2029-01-01 00:00:00", "message": "overtaken"},
        {"start_time": "2020-01-01 00:00:00", "message": "start"},
        {"message": "m" * 300},
        {"status": "failure", "message": "failed"},
        {"status": "success", "message": "no"},
    )
    return [{**made.few, **each} for each in states]


def _files(made: Made) -> Messages:
    kinds = ("log", "Result", "graph", "snapshot", "xy", "pia", "nonsense")
    files = [{**made.few, **made.ids["file"], "file_type": kind} for kind in kinds]
    return [*files, {**files[0], "importance_rank": 2}]


def _scalings(made: Made) -> Messages:
    shells: dict[str, Any] = {shell: {} for shell in ("overall", "innerShell", "outerShell")}
    every = {shell: {**made.all_, "anom": 1} for shell in shells}
    one = {**shells, "overall": {"anom": 0, "r_merge": 0.05, "n_tot_obs": 12345}}
    return [{**made.few, **one}, {**made.few, **every}]


def _qualities(made: Made) -> Messages:
    here = {"dcid": made.ids["dcid"], "file-number": 7}
    other = {**here, "file-pattern-index": 8, "n_spots_total": 0}
    return [{**here, "dozor_score": 1.5}, {**here, **made.all_}, other]


_PART = {"spaceGroupId": 5, "lowRes": 40.5, "highRes": 1.5}
PHASING: Given = {
    "PhasingContainer": {
        "PhasingAnalysis": {"recordTimeStamp": "2026-11-29 01:20:38"},
        "PhasingProgramRun": {
            "phasingCommandLine": "fast_ep sad=x", "phasingPrograms": "fast_ep",
            "phasingStatus": 1, "phasingMessage": "ended", "phasingEndTime": "2026-11-29 01:20:38",
            "phasingStartTime": "2026-11-29 01:10:38",
        },
        "PhasingProgramAttachment": [
            {"fileType": kind, "fileName": f"{kind}.x", "filePath": "/data",
             "recordTimeStamp": "2026-11-29 01:20:38"} for kind in ("Map", "Logfile")
        ],
        "PreparePhasingData": _PART,
        "SubstructureDetermination": {**_PART, "method": "SAD"},
        "Phasing": {**_PART, "method": "shelxe", "solventContent": 0.5, "enantiomorph": 1},
        "ModelBuilding": _PART,
        "Phasing_has_ScalingContainer": {
            "PhasingStatistics": [
                {"numberOfBins": 10, "binNumber": bin_, "lowRes": 40.5, "highRes": 1.5,
                 "metric": "FOM", "statisticsValue": 0.6, "nReflections": 100} for bin_ in (1, 2)
            ]
        },
    }
}  # fmt: skip
"""Results of experimental phasing, in the form of python-dlstbx's wrapper of fast_ep."""

SPECIAL: Mapping[str, Callable[[Made], Messages]] = {
    "create_ispyb_job": _jobs,
    "register_processing": _programs,
    "update_processing_status": _states,
    "update_program_name": lambda made: [{**made.few, "program": "another"}],
    "add_program_message": lambda made: [
        made.few, made.all_, {**made.all_, "severity": "INFO", "message": "m" * 300},
    ],
    "add_program_attachment": _files,
    "add_datacollection_attachment": _files,
    "write_autoproc": lambda made: [
        made.few, made.all_, {"autoproc_id": "$solution", "spacegroup": "C2"}, made.all_,
    ],
    "insert_scaling": _scalings,
    "upsert_integration": lambda made: [
        made.few, made.all_,
        {**made.all_, "integration_id": "$integration", "cell_a": 99, "cell_b": None},
    ],
    "insert_mxmr_run": lambda made: [
        made.few, made.all_, {**made.few, "id": "$run", "rend": 0.2, "success": 0},
    ],
    "insert_mxmr_run_blob": lambda made: [
        made.few, made.all_, {**made.few, "id": "$blob", "view2": "other.png"},
    ],
    "insert_phasing_analysis_results": lambda made: [{**made.few, "phasing_results": PHASING}],
    "store_per_image_analysis_results": _qualities,
    "insert_data_collection_group": lambda made: [
        made.few, {**made.all_, "experiment_type": "SAD"},
    ],
    "upsert_data_collection_mx": lambda made: [
        made.all_, {**made.few, "dcid": made.ids["dcid"], "xtal_snapshot2": "/b.png"},
    ],
    "retrieve_proposal_title": lambda made: [
        {key: made.ids[key] for key in ("proposalcode", "proposalnumber")}
    ],
}  # fmt: skip
"""Command to its messages, made of few parameters, of all, and of known numbers; those that are not
here have a message with few, and one with all."""


class Cases:
    """The messages about one data collection.

    Args:
        ids: Numbers of `dcid`, `dcgid` and `session_id`, and code and number of a proposal.
        file: A file that is there.
    """

    def __init__(self, ids: Mapping[str, Any], file: Path) -> None:
        self._ids = {**ids, "file": {"file_path": str(file.parent), "file_name": file.name}}

    def __iter__(self) -> Iterator[Case]:
        for command, store in ORDER:
            made = Made(self._few(command), self._all(command), self._ids)
            special = SPECIAL.get(command)
            for parameters in special(made) if special else [made.few, made.all_]:
                yield Case(command, parameters, store)

    def _few(self, command: str) -> dict[str, Any]:
        """Return the parameters without which a command cannot be carried out."""
        fields = COMMANDS[command].fields
        ids = {name for name in fields if name in STORED or name in self._ids}
        wanted = ids - {"autoproc_id"} if command == "write_autoproc" else ids
        return {name: self._value(command, name) for name in fields if name in wanted}

    def _all(self, command: str) -> dict[str, Any]:
        """Return a value for each parameter, by the type of its column; shells are one mapping."""
        fields = COMMANDS[command].fields
        names = {name: name.rpartition("SHELL.")[2] for name in fields if "[" not in name}
        given = {short: self._value(command, name) for name, short in names.items()}
        own = {"autoproc_id", "integration_id", "id", "phasing_results"}
        return {name: value for name, value in given.items() if name not in own}

    def _value(self, command: str, name: str) -> Value:
        if name in STORED:
            return STORED[name]
        if name in self._ids:
            return self._ids[name]
        field = COMMANDS[command].fields[name]
        if not field.column:
            return 1
        column = column_of(field.column)
        number = sum(map(ord, name)) % 97  # another one for each parameter
        if isinstance(column.type, sa.Enum):
            return column.type.enums[0]
        if isinstance(column.type, sa.DateTime):
            return "2026-11-29 01:20:38"
        if isinstance(column.type, sa.Integer):
            return number % 2 if type(column.type).__name__ == "TINYINT" else number
        if isinstance(column.type, sa.Float):
            return number + 0.5
        return name[: getattr(column.type, "length", None) or 9]
