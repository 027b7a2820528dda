"""Rules of a definition's messages: values, rows, conditions, commands that are added to others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zwrap.errors import PermanentError, ProgramError
from zwrap.program import judgement
from zwrap.program.checks.references import complaints
from zwrap.program.definition import Definition
from zwrap.program.keys.conditions import value_failures
from zwrap.program.keys.messages import outgoing
from zwrap.program.parsers.table import parse
from zwrap.program.reading import parse_definition
from zwrap.program.run import Run
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.wrapper.heartbeat import Heartbeat
from zwrap.wrapper.step import ProgramStep

from ..saved_runs import staraniso

DATA = Path(__file__).parents[1] / "data"
FAST_DP = Path(__file__).parents[1] / "data/fast_dp/fast_dp.json"


def definition(**values: Any) -> Definition:
    outputs = values.pop("outputs", {}) | {
        name: {"file": f"{name}.json", "parser": "json"}
        for name in ("fit", "blobs", "ispyb", "statistics")
    }
    return parse_definition({"command": ["run"], "outputs": outputs, **values}, "test.yaml", "prog")


def sent(messages: Any, parsed: Any = None, **known: Any) -> list[tuple[str, Any]]:
    found = outgoing(definition(messages=messages), known, parsed or {})
    return [(each.channel, each.payload) for each in found]


BLOBS = [{"score": 104.9, "x": 3.62}, {"score": 87.4, "x": -9.39}]
COMMANDS = {"ispyb_command_list": [{"ispyb_command": "write_autoproc"}]}


def test_a_value_of_an_output_stays_a_number() -> None:
    statistics = {"overall": {"cc_half": 0.999, "n_tot_obs": 1406, "r_merge": None}}
    [first, last] = sent(
        {
            "report": {
                "cc": "{$REPLACE:statistics[overall][cc_half]}",
                "n": "{$REPLACE:statistics[overall][n_tot_obs]}",
                "none": "{$REPLACE:statistics[overall][r_merge]}",
                "absent": "{$REPLACE:statistics[outer][r_merge]}",
                "text": "CC {statistics[overall][cc_half]} of {name}",
            }
        },
        {"statistics": statistics},
        name="x",
    )
    assert first == ("statistics", statistics)
    assert last == (
        "report", {"cc": 0.999, "n": 1406, "none": None, "absent": None, "text": "CC 0.999 of x"},
    )  # fmt: skip


def test_each_row_makes_a_command() -> None:
    [_, (channel, payload)] = sent(
        {
            "peaks": {
                "ispyb_command_list": [
                    {"ispyb_command": "insert_mxmr_run", "store_result": "ispyb_mxmr_run_id"},
                    {
                        "each": "blobs",
                        "as": "blob",
                        "then": {
                            "ispyb_command": "insert_mxmr_run_blob",
                            "mxmr_run_id": "$ispyb_mxmr_run_id",
                            "number": "{$REPLACE:blob_number}",
                            "height": "{$REPLACE:blob[score]}",
                            "view": "blob{blob_number}.png",
                        },
                    },
                ]
            }
        },
        {"blobs": BLOBS},
    )
    assert channel == "peaks"
    first, *blobs = payload["ispyb_command_list"]
    assert first["ispyb_command"] == "insert_mxmr_run"
    assert blobs == [
        {"ispyb_command": "insert_mxmr_run_blob", "mxmr_run_id": "$ispyb_mxmr_run_id",
         "number": number, "height": blob["score"], "view": f"blob{number}.png"}
        for number, blob in enumerate(BLOBS, 1)
    ]  # fmt: skip


def test_each_row_may_make_several_commands_or_messages() -> None:
    part = {"each": "blobs", "then": [{"a": "{$REPLACE:row[x]}"}, "{row_number}"]}
    assert sent({"m": [part, "end"]}, {"blobs": BLOBS})[1:] == [
        ("m", [{"a": 3.62}, "1", {"a": -9.39}, "2", "end"])
    ]
    assert sent({"m": {**part, "channel": "peak"}}, {"blobs": BLOBS})[1:] == [
        ("peak", [{"a": 3.62}, "1"]), ("peak", [{"a": -9.39}, "2"]),
    ]  # fmt: skip
    assert sent({"m": {"all": part}}, {"blobs": BLOBS})[1:] == [
        ("m", {"all": [{"a": 3.62}, "1", {"a": -9.39}, "2"]})
    ]


def test_rows_within_rows_and_rows_deep_in_an_output() -> None:
    parsed = {"fit": {"runs": [{"w": [1, 2]}, {"w": []}, {"w": [3]}]}}
    inner = {"each": "run.w", "as": "wedge", "then": "{run_number}/{wedge}"}
    part = {"each": "fit.runs", "as": "run", "then": [inner]}
    assert sent({"m": [part]}, parsed)[1:] == [("m", ["1/1", "1/2", "3/3"])]
    assert sent({"m": [{"each": "fit.runs.*.w.*", "then": 0}]}, {}) == [("m", [])]


def test_rows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zwrap.program.keys.messages.MOST_MADE", 12)
    inner = {"each": "blobs", "as": "other", "then": 1}
    assert sent({"m": [{"each": "blobs", "then": [inner, inner]}]}, {"blobs": BLOBS})
    with pytest.raises(ProgramError, match="rows of 'blobs' make more than 12 entries"):
        sent({"m": [{"each": "blobs", "then": [inner, inner, inner]}]}, {"blobs": BLOBS})


def test_an_object_gives_rows_with_key_and_value() -> None:
    parsed = {"fit": {"runs": {"all": {"n": 2}, "cluster 1": {"n": 1}}}}
    part = {"each": "fit.runs", "then": ["{row[key]}", "{$REPLACE:row[value][n]}"]}
    assert sent({"m": [part]}, parsed)[1:] == [("m", ["all", 2, "cluster 1", 1])]


def test_a_placeholder_without_a_value_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert sent({"m": "a {fit[cc]} {$REPLACE:x}"}, {"fit": {}})[1:] == [
        ("m", "a {fit[cc]} {$REPLACE:x}")
    ]
    assert "A message holds {fit[cc]}, which has no value, in 'a {fit[cc]}" in caplog.text


def test_a_job_parameter_does_not_stand_for_an_output_that_was_not_parsed() -> None:
    messages = {"out": {"fit": "{$REPLACE:fit[cc]}", "all": "{$REPLACE:blobs}"}}
    found = sent(messages, {"blobs": [1]}, fit={"cc": "forged"}, blobs="forged")
    assert found[-1] == ("out", {"fit": None, "all": [1]})
    rows = {"out": {"each": "fit.rows", "then": "{row}"}}
    assert sent(rows, fit={"rows": ["forged"]}) == []


def test_rows_that_are_no_list_are_a_failure() -> None:
    with pytest.raises(ProgramError, match=r"'fit.cc' is 0\.5; a list is expected for 'each'"):
        sent({"m": [{"each": "fit.cc", "then": 1}]}, {"fit": {"cc": 0.5}})


@pytest.mark.parametrize(
    ("condition", "applies"),
    [
        ("fit", True), ("fit.cc", True), ("fit.none", False), ("fit.zero", False),
        ("fit.absent", False), ("anomalous", True), ("nobody", False),
        ({"value": "fit.cc", "minimum": 0.7}, True), ({"value": "fit.cc", "minimum": 0.8}, False),
        ({"value": "fit.cc", "maximum": 0.7}, True), ({"value": "fit.zero", "equals": 0}, True),
        ({"value": "fit.zero", "equals": 1}, False), ({"value": "fit.none", "minimum": 0}, False),
        ({"value": "fit.name", "equals": "a"}, True), ({"value": "fit.name", "minimum": 0}, False),
        ({"value": "fit.rows.0", "maximum": 9}, True), ({"value": "fit.gone", "equals": ""}, False),
    ],
)  # fmt: skip
def test_a_part_is_made_only_on_its_condition(condition: Any, applies: bool) -> None:
    parsed = {"fit": {"cc": 0.7, "none": None, "zero": 0, "name": "a", "rows": [7]}}
    messages = {
        "yes": {"if": condition, "then": {"a": 1}},
        "no": {"unless": condition, "then": {"a": 2}},
        "in": {"x": {"if": condition, "then": "{fit[cc]}"}, "y": [{"if": condition, "then": 1}]},
    }
    found = dict(sent(messages, parsed, anomalous=True))
    assert ("yes" in found, "no" in found) == (applies, not applies)
    assert found["in"] == ({"x": "0.7", "y": [1]} if applies else {"y": []})


def test_a_condition_may_be_one_of_the_row() -> None:
    condition = {"value": "row.score", "minimum": 100}
    part = {"each": "blobs", "if": condition, "then": "{$REPLACE:row[score]}"}
    assert sent({"m": [part]}, {"blobs": BLOBS})[1:] == [("m", [104.9])]


def test_commands_are_added_to_another_output() -> None:
    messages = {
        "files": {
            "append_to": "ispyb",
            "then": [{"each": "result_files", "then": {
                "ispyb_command": "add_program_attachment",
                "program_id": "$ispyb_autoprocprogram_id",
                "file_name": "{row[file_name]}",
                "importance_rank": "{$REPLACE:row[importance_rank]}",
            }}],
        },
        "state": {"append_to": "ispyb", "then": {"ispyb_command": "update_program_name"}},
        "more": {"append_to": "ispyb", "each": "blobs", "then": {"ispyb_command_list": [1]}},
    }  # fmt: skip
    records = [{"file_name": "a.mtz", "importance_rank": 1}]
    parsed = {"ispyb": COMMANDS, "blobs": BLOBS}
    [(_, blobs), (channel, payload)] = sent(messages, parsed, result_files=records)
    assert (blobs, channel) == (BLOBS, "ispyb")
    assert payload["ispyb_command_list"] == [
        {"ispyb_command": "write_autoproc"},
        {"ispyb_command": "add_program_attachment", "program_id": "$ispyb_autoprocprogram_id",
         "file_name": "a.mtz", "importance_rank": 1},
        {"ispyb_command": "update_program_name"}, 1, 1,
    ]  # fmt: skip
    assert COMMANDS["ispyb_command_list"] == [{"ispyb_command": "write_autoproc"}]
    assert sent(messages, {"blobs": BLOBS}) == [("blobs", BLOBS)]  # there is no output `ispyb`


def test_commands_cannot_be_added_to_what_is_no_list_of_commands() -> None:
    with pytest.raises(ProgramError, match="'m' cannot be added to 'fit', which has no list"):
        sent({"m": {"append_to": "fit", "then": 1}}, {"fit": {"cc": 1}})


def test_a_payload_that_only_looks_alike_stays(tmp_path: Path) -> None:
    payload = {"then": {"x": 1}, "also": 2}
    assert sent({"m": payload, "n": {"if": "x"}, "o": [{"then": 1}]}) == [
        ("m", payload), ("n", {"if": "x"}), ("o", [{"then": 1}]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ({"m": {"if": "a", "them": 1, "then": 2}}, "message 'm': .*unknown field `them`.*Known"),
        ({"m": [{"each": 1, "then": 2}]}, "message 'm': Expected `str | null`"),
        ({"m": {"if": {"value": "a", "least": 1}, "then": 2}}, "unknown field `least`"),
        ({"m": {"append_to": "ispbi", "then": 1}}, "Unknown output or message 'ispbi'.*'ispyb'"),
        ({"m": {"append_to": "m", "then": 1}}, "Unknown output or message 'm'"),
    ],
)
def test_a_wrong_part_is_refused_before_anything_runs(messages: Any, complaint: str) -> None:
    with pytest.raises(PermanentError, match=complaint):
        definition(messages=messages)


def test_a_message_that_is_nested_too_deeply_is_refused() -> None:
    deep: Any = 1
    for _ in range(60):
        deep = [deep]
    with pytest.raises(ProgramError, match="nested more than 50 deep"):
        definition(messages={"m": deep})


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ({"m": {"each": "blobs", "as": "b", "then": "{b[x]} {b_number} {fit[cc]}"}}, []),
        ({"m": [{"each": "result_files", "if": "row.partial", "then": "{row[file_name]}"}]}, []),
        ({"m": {"each": "blobz", "then": 1}}, ["Unknown value in 'each' 'blobz'"]),
        ({"m": {"if": {"value": "fot.cc"}, "then": 1}}, ["Unknown value in 'if' 'fot'"]),
        ({"m": {"each": "blobs", "then": "{bow[x]}"}}, ["Unknown placeholder 'bow'"]),
        ({"m": {"each": "blobs", "then": 1}, "n": "{row[x]}"}, ["Unknown placeholder 'row'"]),
    ],
)  # fmt: skip
def test_what_messages_refer_to_is_checked(messages: Any, said: list[str]) -> None:
    found = [fault.said for fault in complaints(definition(messages=messages))]
    assert len(found) == len(said)
    assert all(text.startswith(begin) for text, begin in zip(found, said, strict=True))


# -- success by a value ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"output": "fit.cc", "minimum": 0.7}, []),
        ({"output": "fit.cc", "minimum": 0.75}, ["fit.cc is 0.7; at least 0.75 is expected"]),
        ({"output": "fit.cc", "minimum": 0, "maximum": 0.5},
         ["fit.cc is 0.7; at least 0, at most 0.5 is expected"]),
        ({"output": "fit.state", "equals": "done"}, ["fit.state is 'bad'; 'done' is expected"]),
        ({"output": "fit.gone"}, ["fit.gone is null; a value is expected"]),
        ({"output": "fit"}, []),
    ],
)  # fmt: skip
def test_a_parsed_value_decides_on_success(rule: Any, said: list[str]) -> None:
    defined = definition(success={"values": [rule]})
    parsed = {"fit": {"cc": 0.7, "state": "bad"}}
    assert list(value_failures(defined.success.values, parsed)) == said


def test_a_rule_on_an_unknown_output_is_refused() -> None:
    with pytest.raises(PermanentError, match=r"Unknown output 'fut'.*Did you mean 'fit'"):
        definition(success={"values": [{"output": "fut.cc", "minimum": 1}]})


# -- result files ----------------------------------------------------------------------------------


def test_a_result_file_may_be_named_by_a_parsed_value(tmp_path: Path) -> None:
    defined = definition(files=[{"pattern": "{fit[best]}.mtz"}, {"pattern": "gone{fit[x]}"}])
    for name in ("a.mtz", "b.mtz", "out", "err"):
        (tmp_path / name).write_text("x")
    run = Run(
        directory=tmp_path, stdout=tmp_path / "out", stderr=tmp_path / "err", began=0.0,
        exit_status=0,
    )  # fmt: skip
    parsed = {"fit": {"best": "b"}}
    records = judgement.result_files(defined, run, failed=False, parsed=parsed)
    assert [record["file_name"] for record in records] == ["b.mtz"]
    assert judgement.result_files(defined, run, failed=False) == []


# -- commands for ISPyB ----------------------------------------------------------------------------

STARANISO = DATA / "autoPROC/autoPROC_staraniso.xml"


def commands(parser: str, file: Path, **options: Any) -> list[dict[str, Any]]:
    found: Any = parse(parser, file, options)
    return list(found["ispyb_command_list"])


def test_autoproc_is_stored_as_diamond_stores_it() -> None:
    """Real output: four sweeps, whose scaling containers repeat the statistics."""
    every = commands("ispyb-xml", STARANISO)
    assert [each["ispyb_command"] for each in every].count("insert_scaling") == 4
    options = {"scaling": "last", "swap_beam": True}
    autoproc, scaling, integration = commands("ispyb-xml", STARANISO, **options)
    assert autoproc["spacegroup"] == "P 3 2 1"
    assert scaling["overall"]["completeness"] == 94.3
    assert (integration["refined_xbeam"], integration["refined_ybeam"]) == (223.66, 206.536)
    assert [integration[f"beam_vec_{axis}"] for axis in "xyz"] == [-0.005698, -0.007358, 1.035735]
    assert [integration[f"rot_axis_{axis}"] for axis in "xyz"] == [0.999934, 0.001838, 0.011359]
    assert "integration_id" not in integration


def test_the_results_of_a_second_program_have_a_record_of_their_own(tmp_path: Path) -> None:
    options = {"scaling": "last", "program": "autoPROC+STARANISO", "attachments": True}
    first, *rest, last = commands("ispyb-xml", staraniso(tmp_path), **options)
    assert first == {
        "ispyb_command": "register_processing", "program": "autoPROC+STARANISO",
        "cmdline": "autoPROC+STARANISO", "environment": "",
        "store_result": "ispyb_autoprocprogram_id",
    }  # fmt: skip
    assert last == {
        "ispyb_command": "update_processing_status", "program_id": "$ispyb_autoprocprogram_id",
        "message": "processing successful", "status": "success",
    }  # fmt: skip
    [integration] = [each for each in rest if each["ispyb_command"] == "upsert_integration"]
    assert integration["integration_id"] is None
    attachments = [each for each in rest if each["ispyb_command"] == "add_program_attachment"]
    assert [each["file_name"] for each in attachments] == [
        "summary.html", "summary.tar.gz", "staraniso_alldata-unique.mtz",
        "staraniso_alldata-unique.table1", "staraniso_alldata-unique.stats",
    ]  # fmt: skip
    assert {each["file_type"] for each in attachments} == {"log", "result"}
    assert all(each["program_id"] == "$ispyb_autoprocprogram_id" for each in attachments)


def test_attachments_that_are_not_there_are_left_out_with_a_remark(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """ISPyB would refuse them, and the whole list of commands with them."""
    file = staraniso(tmp_path)
    (tmp_path / "summary.html").unlink()
    (tmp_path / "summary.tar.gz").unlink()
    (tmp_path / "summary.tar.gz").mkdir()
    found = [each.get("file_name") for each in commands("ispyb-xml", file, attachments=True)]
    assert [each for each in found if each] == [
        "staraniso_alldata-unique.mtz", "staraniso_alldata-unique.table1",
        "staraniso_alldata-unique.stats",
    ]  # fmt: skip
    missing = tmp_path / "summary.html"
    assert f"{file} names the file {missing}, which is not there and is left out" in caplog.text
    assert len(caplog.records) == 2


def test_the_directory_of_an_attachment_may_begin_at_that_of_the_document(tmp_path: Path) -> None:
    file = staraniso(tmp_path)
    file.write_text(file.read_text().replace(f"<filePath>{tmp_path}<", "<filePath>.<"))
    found = [each.get("file_path") for each in commands("ispyb-xml", file, attachments=True)]
    assert [each for each in found if each] == [str(tmp_path)] * 5


@pytest.mark.parametrize("message", ["no spots found", ""])
def test_a_program_that_says_that_it_failed_is_a_failure(tmp_path: Path, message: str) -> None:
    text = STARANISO.read_text()
    text = text.replace("<processingStatus>1<", "<processingStatus>0<")
    text = text.replace("<processingMessage><", f"<processingMessage>{message}<")
    (tmp_path / "a.xml").write_text(text)
    complaint = r"says that processing failed \(processingStatus 0\)"
    with pytest.raises(ProgramError, match=f"{complaint}{f': {message}' if message else ''}"):
        commands("ispyb-xml", tmp_path / "a.xml")


def test_a_statistic_that_did_not_fit_its_place_is_missing(tmp_path: Path) -> None:
    text = STARANISO.read_text().replace("<rMerge>3.341<", "<rMerge>********<")
    text = text.replace("<ccHalf>0.977</ccHalf>", "<ccHalf>0.977</ccHalf><anomalous>1</anomalous>")
    (tmp_path / "a.xml").write_text(text)
    _, scaling, _ = commands("ispyb-xml", tmp_path / "a.xml", scaling="last")
    assert scaling["outerShell"]["r_merge"] is None
    assert scaling["outerShell"]["r_meas_all_iplusi_minus"] == 3.861
    assert scaling["overall"]["anom"] == 1


def test_the_limit_at_which_i_is_twice_its_error_is_added_to_the_overall_statistics() -> None:
    """Real output of dials.estimate_resolution."""
    log = DATA / "dials/quartz.estimate_resolution.log"
    xia2 = DATA / "xia2/v3.12.0/success_insulin_sad/xia2.json"
    for found in (
        commands("xia2", xia2, resolution=log),
        commands("ispyb-xml", STARANISO, scaling="last", resolution=log),
    ):
        assert found[1]["overall"]["res_i_sig_i_2"] == 0.59
        assert "res_i_sig_i_2" not in found[1]["outerShell"]
    several = commands("ispyb-xml", STARANISO, resolution=log)
    assert not any("res_i_sig_i_2" in each.get("overall", ()) for each in several)


def test_the_limit_is_read_from_json_too(elsewhere: Path) -> None:
    file = elsewhere / "dials/v3.12.1_quartz/dials.estimate_resolution.json"
    found = commands("ispyb-xml", STARANISO, scaling="last", resolution=file)
    assert found[1]["overall"]["res_i_sig_i_2"] == pytest.approx(0.59, abs=0.005)
    without = elsewhere / "xia2_multiplex/v3.12.0/lcys4/4_dials.estimate_resolution.json"
    found = commands("ispyb-xml", STARANISO, scaling="last", resolution=without)
    assert "res_i_sig_i_2" not in found[1]["overall"]


@pytest.mark.parametrize("change", ["null", "absent"])
def test_fast_dp_without_a_refined_beam_is_a_success_with_null(tmp_path: Path, change: str) -> None:
    beam = '"refined_beam": [206.45053836697736, 211.11095943078706], '
    text = FAST_DP.read_text()
    assert beam in text
    changed = text.replace(beam, '"refined_beam": null, ' if change == "null" else "")
    (tmp_path / "fast_dp.json").write_text(changed)
    *_, integration = commands("fast_dp", tmp_path / "fast_dp.json")
    assert (integration["refined_xbeam"], integration["refined_ybeam"]) == (None, None)
    assert integration["cell_a"] == 77.9622


def test_xtriage_entries_become_messages_of_the_program_but_not_those_left_out() -> None:
    report = DATA / "xia2/v3.12.0/success_insulin_sad/xia2-report.json"
    every = commands("fast_dp", FAST_DP, report=report)[3:]
    assert {each["ispyb_command"] for each in every} == {"add_program_message"}
    unwanted = every[0]["message"]
    less = commands("fast_dp", FAST_DP, report=report, leave_out=[unwanted])[3:]
    assert less == [each for each in every if each["message"] != unwanted]
    assert len(less) < len(every)


def test_xtriage_entries_by_severity_are_read(elsewhere: Path, tmp_path: Path) -> None:
    source = elsewhere / "xia2_multiplex/v3.12.0/lcys4/xia2.multiplex.json"
    entries = json.loads(source.read_text())["datasets"]["All data"]["xtriage"]
    (tmp_path / "report.json").write_text(json.dumps({"xtriage": entries}))
    found = commands("fast_dp", FAST_DP, report=tmp_path / "report.json")[3:]
    assert len(found) == sum(map(len, entries.values()))
    assert {each["severity"] for each in found} == {"INFO", "WARNING", "ERROR"}


# -- the step --------------------------------------------------------------------------------------


def judged(directory: Path, found: str, **values: Any) -> tuple[list[str], list[tuple[str, Any]]]:
    """Return failures and messages of a step whose run left `fit.json`."""
    (directory / "fit.json").write_text(found)
    channels = ["fit", "peaks", "result-individual-file", "result-all-files"]
    nodes = {str(number): {"queue": name} for number, name in enumerate(channels, 2)}
    output = {name: number for number, name in enumerate(channels, 2)}
    parameters = {"working_directory": str(directory), **values.pop("parameters", {})}
    first = {"queue": "q", "job_parameters": parameters, "output": output}
    recipe = Recipe({"start": [[1, []]], "1": first, **nodes})
    defined = parse_definition(
        {"command": ["run"], "outputs": {"fit": {"file": "fit.json", "parser": "json"}},
         "files": [{"pattern": "fit.json"}], **values}, "test.yaml", "prog",
    )  # fmt: skip
    step = ProgramStep(defined, Envelope(recipe, 1), Heartbeat("prog", "prog", {}))
    ended = step.judge(0.0, 0, copy=False)
    bodies: list[Any] = [message.message for message in ended.messages]
    names = [message.destination for message in ended.messages]
    return ended.failures, [
        (name, body["payload"]) for name, body in zip(names, bodies, strict=True)
    ]


def test_a_step_sends_files_outputs_and_further_messages_in_this_order(tmp_path: Path) -> None:
    messages = {"peaks": [{"each": "fit.rows", "then": "{row} of {result_files[0][file_name]}"}]}
    failures, sent_ = judged(tmp_path, '{"rows": [1, 2]}', messages=messages)
    assert failures == []
    assert [name for name, _ in sent_] == [
        "result-individual-file", "fit", "peaks", "result-all-files",
    ]  # fmt: skip
    assert sent_[2][1] == ["1 of fit.json", "2 of fit.json"]


def test_a_job_parameter_does_not_stand_for_an_output_without_a_file(tmp_path: Path) -> None:
    outputs = {"fit": {"file": "fit.json", "parser": "json"},
               "other": {"file": "{model}", "parser": "json"}}  # fmt: skip
    failures, sent_ = judged(
        tmp_path, "{}", inputs={"model": {}}, outputs=outputs, parameters={"other": "forged"},
        messages={"peaks": "{$REPLACE:other}"},
    )  # fmt: skip
    assert failures == []
    assert dict(sent_)["peaks"] is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"messages": {"peaks": {"each": "fit.rows", "then": 1}}},
         "prog: 'fit.rows' is 7; a list is expected for 'each'"),
        ({"success": {"values": [{"output": "fit.rows", "minimum": 8}]}},
         "prog: fit.rows is 7; at least 8 is expected"),
    ],
)  # fmt: skip
def test_a_step_fails_if_a_value_is_not_as_it_must_be(
    tmp_path: Path, values: Any, said: str
) -> None:
    failures, sent_ = judged(tmp_path, '{"rows": 7}', **values)
    assert failures == [said]
    assert {name for name, _ in sent_} <= {"result-individual-file", "result-all-files"}
