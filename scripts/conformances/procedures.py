"""The commands of the ISPyB service as calls of package ispyb, which call stored procedures.

Which parameter of a message becomes which one of a procedure is that of python-dlstbx's service.
"""

from __future__ import annotations

import datetime as dt
import os.path
from collections.abc import Callable, Mapping
from typing import Any

Given = Mapping[str, Any]
"""Parameters of a message."""

Api = Any
"""Connection of package ispyb."""

Result = Any
"""What a procedure returns, mostly the number of a row."""

SHELLS = ("outerShell", "innerShell", "overall")


def _plain(given: Given) -> dict[str, Any]:
    """Return parameters under names as the package has them inside: small letters, no ``_``."""
    return {name.replace("_", "").lower(): value for name, value in given.items()}


def _values(params: Api, given: Given, **others: object) -> list[Any]:
    """Return the arguments of a procedure: those that are given by name, and others.

    What is given as None counts as not given.
    """
    found = _plain(given)
    for name in params:
        if found.get(name) is not None:
            params[name] = found[name]
    for name, value in others.items():
        params[name] = value
    return list(params.values())


def _register(api: Api, given: Given) -> Result:
    environment = given.get("environment") or {}
    if isinstance(environment, dict):
        environment = ", ".join(f"{name}={value}" for name, value in environment.items())
    return api.mx_processing.upsert_program_ex(
        job_id=given.get("rpid"),
        name=given.get("program"),
        command=given.get("cmdline"),
        environment=environment,
        pipeline_id={"xia2 dials": 6, "autoPROC+STARANISO": 14}.get(str(given.get("program"))),
    )


def _status(api: Api, given: Given) -> Result:
    return api.mx_processing.upsert_program_ex(
        program_id=given["program_id"],
        status={"success": 1, "failure": 0}.get(str(given.get("status"))),
        time_start=given.get("start_time"),
        time_update=given.get("update_time"),
        message=given.get("message"),
    )


def _name(api: Api, given: Given) -> Result:
    return api.mx_processing.upsert_program_ex(
        program_id=given["program_id"], name=given.get("program")
    )


def _message(api: Api, given: Given) -> Result:
    names = ("program_id", "severity", "message", "description")
    return api.mx_processing.upsert_program_message(**{name: given.get(name) for name in names})


def _attachment(api: Api, given: Given) -> Result:
    kind = str(given.get("file_type")).lower()
    params = api.mx_processing.get_program_attachment_params()
    known = kind if kind in ("log", "result", "graph") else "log"
    values = _values(params, given, parentid=given["program_id"], file_type=known)
    return api.mx_processing.upsert_program_attachment(values)


def _collection_file(api: Api, given: Given) -> Result:
    kind = str(given.get("file_type")).lower()
    params = api.mx_acquisition.get_data_collection_file_attachment_params()
    values = _values(
        params,
        {},
        parentid=given["dcid"],
        file_full_path=os.path.join(given["file_path"], given["file_name"]),
        file_type=kind if kind in ("snapshot", "log", "xy", "recip", "pia") else "log",
    )
    return api.mx_acquisition.upsert_data_collection_file_attachment(values)


def _solution(api: Api, given: Given) -> Result:
    params = api.mx_processing.get_processing_params()
    values = _values(params, given, id=given.get("autoproc_id"), parentid=given.get("program_id"))
    return api.mx_processing.upsert_processing(values)


def _scaling(api: Api, given: Given) -> Result:
    columns = []
    for shell in SHELLS:
        params = api.mx_processing.get_overall_scaling_params()
        found = _plain(given[shell])
        columns.append([shell, *(found.get(name) for name in list(params)[1:])])
    return api.mx_processing.insert_scaling(given["autoproc_id"], *columns)


def _integration(api: Api, given: Given) -> Result:
    params = api.mx_processing.get_integration_params()
    ids = {
        "id": given.get("integration_id"),
        "parentid": given.get("scaling_id"),
        "datacollectionid": given.get("dcid"),
        "programid": given.get("program_id"),
        "anom": given.get("anom"),
    }
    return api.mx_processing.upsert_integration(_values(params, given, **ids))


def _job(api: Api, given: Given) -> Result:
    processing = api.mx_processing
    number = processing.upsert_job(
        _values(
            processing.get_job_params(),
            given,
            datacollectionid=given["DCID"] or given["sweeps"][0]["DCID"],
            comments=given.get("comment"),
            automatic=given["source"] == "automatic",
        )
    )
    for each in given["parameters"]:
        params = processing.get_job_parameter_params()
        processing.upsert_job_parameter(
            _values(
                params, {}, job_id=number, parameter_key=each["key"], parameter_value=each["value"]
            )
        )
    for each in given["sweeps"]:
        params = processing.get_job_image_sweep_params()
        ids = {"job_id": number, "datacollectionid": each["DCID"]}
        processing.upsert_job_image_sweep(
            _values(params, {}, start_image=each["start"], end_image=each["end"], **ids)
        )
    return number


def _screening(what: str, **fixed: object) -> Callable[[Api, Given], Result]:
    """Return the call of one kind of row of a screening."""

    def call(api: Api, given: Given) -> Result:
        params = getattr(api.mx_screening, f"get_{what}_params")()
        found = _plain(given)
        for name in params:  # what is not given is null, and not the default of the package
            params[name] = found.get(name)
        for name, value in fixed.items():
            params[name] = value(given) if callable(value) else value
        return getattr(api.mx_screening, f"insert_{what}")(list(params.values()))

    return call


_OUTPUT = _screening(
    "screening_output",
    alignmentSuccess=lambda given: 1 if given.get("alignmentSuccess") else 0,
    mosaicityEstimated=lambda given: 1 if given.get("mosaicity") else 0,
    indexingSuccess=1,
    strategySuccess=1,
)


def _dimple_failure(api: Api, given: Given) -> Result:
    values = _values(
        api.mx_processing.get_run_params(),
        {},
        parentid=given["scaling_id"],
        pipeline="dimple",
        success=0,
        message="Unknown error",
        run_dir=given.get("directory"),
    )
    return api.mx_processing.upsert_run(values)


def _run(api: Api, given: Given) -> Result:
    params = api.mx_processing.get_run_params()
    return api.mx_processing.upsert_run(_values(params, given, parentid=given["scaling_id"]))


def _blob(api: Api, given: Given) -> Result:
    params = api.mx_processing.get_run_blob_params()
    return api.mx_processing.upsert_run_blob(_values(params, given, parentid=given["mxmr_run_id"]))


def _phasing(api: Api, given: Given) -> Result:
    return api.mx_processing.insert_phasing_analysis_results(
        given["phasing_results"], given["scaling_id"]
    )


def _quality(api: Api, given: Given) -> Result:
    spots = given.get("n_spots_total")
    none = ("icerings", "maxunitcell", "pctsaturationtop50peaks", "inresolutionovrlspots",
            "binpopcutoffmethod2res")  # fmt: skip
    values = _values(
        api.mx_processing.get_quality_indicators_params(),
        {},
        datacollectionid=given["dcid"],
        image_number=given.get("file-pattern-index") or given.get("file-number"),
        dozor_score=given.get("dozor_score"),
        spot_total=spots,
        in_res_total=spots,
        total_integrated_signal=given.get("total_intensity"),
        good_bragg_candidates=given.get("n_spots_no_ice"),
        method1_res=given.get("estimated_d_min"),
        method2_res=given.get("estimated_d_min"),
        **(dict.fromkeys(none, 0) if spots is not None else {}),
    )
    return api.mx_processing.upsert_quality_indicators(values)


def _group(api: Api, given: Given) -> Result:
    values = _values(
        api.em_acquisition.get_data_collection_group_params(),
        {},
        parentid=given["session_id"],
        experimenttype=given.get("experiment_type"),
        starttime=given.get("start_time"),
        comments="Created for Murfey",
    )
    return api.em_acquisition.upsert_data_collection_group(values)


def _collection(api: Api, given: Given) -> Result:
    values = _values(
        api.em_acquisition.get_data_collection_params(),
        {},
        parentid=given["dcgid"],
        starttime=given.get("start_time"),
        imgdir=given.get("image_directory"),
        imgsuffix=given.get("image_suffix"),
        visitid=given.get("session_id"),
        voltage=given.get("voltage"),
    )
    return api.em_acquisition.upsert_data_collection(values)


def _snapshots(api: Api, given: Given) -> Result:
    params = api.mx_acquisition.get_data_collection_params()
    ids = {"id": given.get("dcid"), "parentid": given.get("dcgid")}
    return api.mx_acquisition.upsert_data_collection(_values(params, given, **ids))


def _runs(api: Api, given: Given) -> Result:
    rows = api.mx_processing.retrieve_programs_for_job_id(given["rpid"])
    return [  # python-dlstbx's service leaves out what JSON does not know
        {name: value for name, value in row.items() if not isinstance(value, dt.datetime)}
        for row in rows
    ]


PROCEDURES: Mapping[str, Callable[[Api, Given], Result]] = {
    "register_processing": _register,
    "update_processing_status": _status,
    "update_program_name": _name,
    "add_program_message": _message,
    "add_program_attachment": _attachment,
    "add_datacollection_attachment": _collection_file,
    "write_autoproc": _solution,
    "insert_scaling": _scaling,
    "upsert_integration": _integration,
    "register_integration": _integration,
    "create_ispyb_job": _job,
    "insert_screening": _screening("screening"),
    "insert_screening_input": _screening("screening_input"),
    "insert_screening_output": _OUTPUT,
    "insert_screening_output_lattice": _screening("screening_output_lattice"),
    "insert_screening_strategy": _screening(
        "screening_strategy", anomalous=lambda given: given.get("anomalous") or 0
    ),
    "insert_screening_strategy_wedge": _screening(
        "screening_strategy_wedge", wedgenumber=lambda given: given.get("wedgenumber") or "1"
    ),
    "insert_screening_strategy_sub_wedge": _screening(
        "screening_strategy_sub_wedge", subwedgenumber="1"
    ),
    "store_dimple_failure": _dimple_failure,
    "insert_mxmr_run": _run,
    "insert_mxmr_run_blob": _blob,
    "insert_phasing_analysis_results": _phasing,
    "store_per_image_analysis_results": _quality,
    "insert_data_collection_group": _group,
    "insert_data_collection": _collection,
    "upsert_data_collection_mx": _snapshots,
    "retrieve_programs_for_job_id": _runs,
    "retrieve_program_attachments_for_program_id": lambda api, given: (
        api.mx_processing.retrieve_program_attachments_for_program_id(given["program_id"])
    ),
    "retrieve_proposal_title": lambda api, given: api.core.retrieve_proposal_title(
        given["proposalcode"], given["proposalnumber"]
    )[0]["title"],
}
"""Name of a command to the call that does the same; others have none."""
