"""xia2: its command line, what it leaves, and what becomes of it; beside it fast_dp and DIALS."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from zwrap.errors import ProgramError
from zwrap.program import invocation
from zwrap.program.argv import argv
from zwrap.program.asked import as_asked
from zwrap.program.keys.options import parameter_files
from zwrap.program.parsers.table import PARSERS, parse
from zwrap.program.plan import plan
from zwrap.program.reading import find_program

RUN = Path(__file__).parents[1] / "data/xia2/v3.12.0/success_insulin_sad"


def arguments(name: str, **job_parameters: Any) -> list[str]:
    defined = find_program(name, job_parameters)
    assert defined
    return argv(plan(defined, invocation.values(defined, job_parameters, None, {}))[0])


def files(name: str, **job_parameters: Any) -> dict[str, str]:
    defined = find_program(name, job_parameters)
    assert defined
    return parameter_files(defined, invocation.values(defined, job_parameters, None, {}))


def commands(directory: Path, file: str = "xia2.json", **options: Any) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = parse("xia2", directory / file, options)["ispyb_command_list"]
    return result


# -- the command line ------------------------------------------------------------------------


def test_entries_become_options_images_and_lists_are_repeated() -> None:
    found = arguments(
        "xia2",
        xia2={
            "pipeline": "dials",
            "nproc": 20,
            "images": "/a/x_0001.cbf:1:60,/a/y_0001.cbf:1:60",
            "atom": "",
            "trust_beam_centre": None,
            "project": ["p", "q"],
            "small_molecule": True,
        },
    )
    assert found == [
        "xia2", "pipeline=dials", "nproc=20", "image=/a/x_0001.cbf:1:60",
        "image=/a/y_0001.cbf:1:60", "project=p", "project=q", "small_molecule=True",
    ]  # fmt: skip


def test_what_the_user_asked_for_comes_after_and_under_the_names_of_xia2() -> None:
    found = arguments(
        "xia2",
        xia2={"pipeline": "3dii", "images": ""},
        ispyb_parameters={
            "d_min": "1.8",
            "spacegroup": ["P212121"],
            "unit_cell": "1,2,3,90,90,90",
            "resolution.cc_half": 0.3,
        },
    )
    assert found == [
        "xia2", "pipeline=3dii", "xia2.settings.resolution.d_min=1.8",
        "xia2.settings.space_group=P212121", "xia2.settings.unit_cell=1,2,3,90,90,90",
        "resolution.cc_half=0.3",
    ]  # fmt: skip


def test_overrides_of_spot_finding_go_to_a_file_of_their_own() -> None:
    overrides = {"spotfinder.filter.min_spot_size": 3, "spotfinder.threshold.algorithm": "radial"}
    given = {"xia2": {"nproc": 1}, "ispyb_parameters": overrides}
    assert arguments("xia2", **given) == ["xia2", "nproc=1", "find_spots.phil_file=spots.phil"]
    assert files("xia2", **given) == {
        "spots.phil": "spotfinder.filter.min_spot_size=3\nspotfinder.threshold.algorithm=radial\n"
    }


def test_the_command_line_of_xia2_03() -> None:
    old = {"arguments": ["-3daii", "-atom", "s"], "executable": "/sw/xia2"}
    assert arguments("xia2", xia2=old) == ["/sw/xia2", "-3daii", "-atom", "s"]


def test_an_option_that_is_no_value_is_named() -> None:
    with pytest.raises(ProgramError, match="key 'xia2', key 'nproc' holds a dict"):
        arguments("xia2", xia2={"nproc": {}})
    with pytest.raises(ProgramError, match="key 'xia2' holds a list; an object"):
        arguments("xia2", xia2=["nproc=1"])


def test_the_directory_of_a_run_is_named_after_the_pipeline_and_never_outside() -> None:
    def directory(pipeline: str) -> str:
        given = {"xia2": {"pipeline": pipeline}}
        defined = find_program("xia2", given)
        assert defined
        known = invocation.values(defined, given, None, {})
        return invocation.with_file_names(defined, known).directory

    assert directory("3dii") == "xia2-3dii"
    with pytest.raises(ProgramError, match="below the working directory"):
        directory("x/../../y")


def test_fast_dp_takes_the_three_parameters_that_it_knows() -> None:
    given = {
        "fast_dp": {"filename": "/a/x_0001.cbf:1:200"},
        "ispyb_parameters": {"d_min": "1.8", "spacegroup": "I23", "other": 1},
    }
    assert arguments("fast_dp", **given) == [
        "fast_dp", "--atom=S", "-j", "0", "-J", "18", "-l", "durin-plugin.so",
        "/a/x_0001.cbf:1:200", "--resolution-high=1.8", "--spacegroup=I23",
    ]  # fmt: skip


def test_the_file_for_dials_integrate_is_written_where_the_option_names_it() -> None:
    given: dict[str, Any] = {"xia2": {"dials.integrate.phil_file": "mem.phil"}}
    assert arguments("xia2", **given) == ["xia2", "dials.integrate.phil_file=mem.phil"]
    text = "integration {\n  block {\n    max_memory_usage = %s\n  }\n}\n"
    assert files("xia2", **given) == {"mem.phil": text % 0.9}
    block = {"dials.integrate.phil_file": {"max_memory_usage": 0.5}}
    assert files("xia2", **given, **block) == {"mem.phil": text % 0.5}
    assert files("xia2", xia2={}, **block) == {}


def asked(check: Callable[[str], None] = lambda key: None, **parameters: Any) -> list[str]:
    """Return the argument list of xia2 with what the step asks for beside its inputs."""
    defined = find_program("xia2", parameters)
    assert defined
    defined = as_asked(defined, parameters, "Node 1", check)
    return argv(plan(defined, invocation.values(defined, parameters, None, {}))[0])


@pytest.mark.parametrize(
    "commands", ["module load xia2\nX=${Y:-{z}}", ["module load xia2", "X=${Y:-{z}}"]]
)
def test_shell_lines_of_the_step_come_before_xia2(commands: Any) -> None:
    shell = asked(commands=commands, xia2={"nproc": 2}, z="filled in")
    assert shell[:2] == ["/bin/bash", "-c"]
    assert shell[2].endswith("\nmodule load xia2\nX=${Y:-{z}}\nexec xia2 nproc=2")
    assert shell[2].startswith("# `module` belongs to login shells.")
    assert asked(commands="", xia2={}) == asked(xia2={}) == ["xia2"]


def test_shell_lines_of_the_step_are_refused_where_they_may_not_be() -> None:
    def check(key: str) -> None:
        raise ProgramError(f"not {key}")

    with pytest.raises(ProgramError, match="not commands"):
        asked(check, commands="module load xia2")
    assert asked(check, xia2={})
    with pytest.raises(ProgramError, match="Node 1, job_parameters, key 'commands' holds a dict"):
        asked(commands={"a": 1})


def test_what_zwraps_xia2_does_not_do_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert asked(stage=None, singularity_image="", xia2={}) == ["xia2"]
    assert caplog.records == []
    with pytest.raises(ProgramError, match="key 'stage': zwrap's xia2 prepares, runs and reports"):
        asked(stage="setup", xia2={})
    asked(singularity_image="/x.sif", xia2={})
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "key 'singularity_image' has no effect on program 'xia2'" in record.getMessage()


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({}, True),
        ({"store_xtriage_results": 1}, True),
        ({"store_xtriage_results": False}, False),
    ],
)
def test_xtriage_messages_are_left_out_on_request(given: dict[str, Any], left: bool) -> None:
    defined = find_program("xia2", given)
    assert defined
    known = invocation.values(defined, given, None, {})
    output = invocation.with_file_names(defined, known).outputs["ispyb"]
    assert output.beside["log"] == "xia2.txt"
    assert ("report" in output.beside) == left


def test_dials_programs_take_the_options_under_their_name() -> None:
    given = {"experiments": "a.expt", "reflections": "a.refl", "dials.scale": {"d_min": 2}}
    assert arguments("dials.scale", **given) == ["dials.scale", "a.expt", "a.refl", "d_min=2"]


# -- xia2.json -------------------------------------------------------------------------------


def test_the_command_list_equals_xia2s_own_mapping_value_by_value() -> None:
    oracle = json.loads((RUN / "zocalo_object.json").read_text())
    autoproc, scaling, integration = commands(RUN)
    assert autoproc == {
        "ispyb_command": "write_autoproc",
        "autoproc_id": None,
        "store_result": "ispyb_autoproc_id",
        **oracle["refined_results"],
    }
    assert scaling == {
        "ispyb_command": "insert_scaling",
        "autoproc_id": "$ispyb_autoproc_id",
        "store_result": "ispyb_autoprocscaling_id",
        **oracle["scaling_statistics"],
    }
    expected = oracle["integrations"][0]
    assert {
        "ispyb_command": "upsert_integration",
        "scaling_id": "$ispyb_autoprocscaling_id",
        **expected,
    }.keys() == integration.keys()
    for key, value in expected.items():
        # Rays are intersected here in another order of operations: equal to the last bits.
        assert math.isclose(integration[key], value, rel_tol=1e-15), key


def test_xtriage_entries_become_program_messages() -> None:
    found = commands(RUN, report=RUN / "xia2-report.json")[3:]
    entries = json.loads((RUN / "xia2-report.json").read_text())["xtriage"]
    assert [message["message"] for message in found] == [entry["text"] for entry in entries]
    assert found[0] == {
        "ispyb_command": "add_program_message",
        "program_id": "$ispyb_autoprocprogram_id",
        "message": entries[0]["text"],
        "description": entries[0]["summary"],
        "severity": "INFO",
    }


@pytest.mark.parametrize(
    ("level", "severity"),
    [(0, "INFO"), (1, "WARNING"), (2, "ERROR"), (7, "INFO"), (None, "INFO"), ([1], "INFO")],
)
def test_the_severity_of_a_program_message_is_in_the_words_of_ispyb(
    tmp_path: Path, level: object, severity: str
) -> None:
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"xtriage": [{"level": level, "text": "t", "summary": "s"}]}))
    [message] = commands(RUN, report=report)[3:]
    assert message["severity"] == severity


def changed(tmp_path: Path, change: Any) -> Path:
    document = json.loads((RUN / "xia2.json").read_text())
    change(document)
    (tmp_path / "xia2.json").write_text(json.dumps(document))
    return tmp_path


def test_each_wavelength_has_its_scaling_and_its_sweeps(tmp_path: Path) -> None:
    def two_wavelengths(document: dict[str, Any]) -> None:
        crystal = document["_crystals"]["xinsu1"]
        crystal["_wavelengths"] = {
            "PEAK": crystal["_wavelengths"]["SAD"],
            **crystal["_wavelengths"],
        }
        scaler = crystal["_scaler"]
        [integrater] = scaler["_scalr_integraters"].values()
        for epoch, images in (("63072009.0", [61, 90]), ("63072010.0", [1, 60])):
            second = {**copy.deepcopy(integrater), "_intgr_dname": "PEAK", "_intgr_wedge": images}
            scaler["_scalr_integraters"][epoch] = second
        statistics = scaler["_scalr_statistics"]
        statistics['["cm0001v1", "xinsu1", "PEAK"]'] = copy.deepcopy(
            statistics['["cm0001v1", "xinsu1", "SAD"]']
        )
        statistics['["cm0001v1", "xinsu1", "PEAK"]']["Completeness"] = [99.0, 98.0, 97.0]

    found = commands(changed(tmp_path, two_wavelengths))
    assert [command["ispyb_command"] for command in found] == [
        "write_autoproc", "insert_scaling", "upsert_integration", "upsert_integration",
        "insert_scaling", "upsert_integration",
    ]  # fmt: skip
    assert found[1]["overall"]["completeness"] == 99.0
    assert [command.get("start_image_no") for command in found] == [None, None, 61, 1, None, 1]
    assert "integration_id" not in found[2]
    assert found[3]["integration_id"] is None
    assert found[5]["integration_id"] is None


def test_each_crystal_has_its_solution(tmp_path: Path) -> None:
    def two_crystals(document: dict[str, Any]) -> None:
        second = copy.deepcopy(document["_crystals"]["xinsu1"])
        second["_scaler"]["_scalr_likely_spacegroups"] = ["P 1"]
        document["_crystals"]["second"] = second

    found = commands(changed(tmp_path, two_crystals))
    groups = [c["spacegroup"] for c in found if c["ispyb_command"] == "write_autoproc"]
    assert groups == ["I 2 3", "P 1"]


def test_without_scaling_results_xia2_json_is_not_usable(tmp_path: Path) -> None:
    def unscaled(document: dict[str, Any]) -> None:
        document["_crystals"]["xinsu1"]["_scaler"] = None

    with pytest.raises(ProgramError, match=r"holds no scaling results \(_scaler is null\)"):
        commands(changed(tmp_path, unscaled))


@pytest.mark.parametrize(
    ("route", "value", "complaint"),
    [
        (["_crystals"], [], "holds \\[\\] at /_crystals; an object is expected"),
        (["_crystals"], None, "holds null at /_crystals"),
        (["_crystals", "xinsu1", "_scaler", "_scalr_cell"], [1, 2], "2 values at .*; 6 are expect"),
        (["_crystals", "xinsu1", "_scaler", "_scalr_statistics"], {}, "no statistics"),
        (["_crystals", "xinsu1", "_scaler", "_scalr_statistics"], {"SAD": {}}, "has key 'SAD'"),
        (["_crystals", "xinsu1", "_scaler", "_scalr_likely_spacegroups"], [], "spacegroups/0"),
        (["_crystals", "xinsu1", "_scaler", "_scalr_likely_spacegroups"], "I 2 3", "spacegroups/0"),
    ],
)
def test_what_cannot_be_read_of_xia2_json_is_named(
    tmp_path: Path, route: list[str], value: Any, complaint: str
) -> None:
    def change(document: dict[str, Any]) -> None:
        for key in route[:-1]:
            document = document[key]
        document[route[-1]] = value

    with pytest.raises(ProgramError, match=complaint):
        commands(changed(tmp_path, change))


# -- xia2.txt and its relatives --------------------------------------------------------------

OLD = """XIA2 0.3.6.3
For p/x/SAD
High resolution limit                   \t  2.04\t  9.12\t  2.04
Low resolution limit                    \t 37.14\t 37.14\t  2.09
Completeness                            \t 99.5\t 98.5\t 99.5
Rmerge                                  \t0.073\t0.028\t0.604
Rmeas(I+/-)                             \t0.086\t0.032\t0.711
Wilson B factor                         \t24.212
Anomalous slope                         \t1.052\t0.000\t0.000
Total observations                      \t99053\t1246\t7648
Assuming spacegroup: C 2 2 21
Unit cell:
83.500  96.740  57.970
90.000  90.000  90.000
Status: normal termination
"""


def test_xia2_03_is_read_from_what_it_printed(tmp_path: Path) -> None:
    (tmp_path / "xia2.txt").write_text(OLD)
    autoproc, scaling = commands(tmp_path, "xia2.txt")
    assert autoproc["spacegroup"] == "C 2 2 21"
    assert autoproc["refinedcell_c"] == 57.97
    assert scaling["overall"] == {
        "res_lim_high": 2.04, "res_lim_low": 37.14, "completeness": 99.5, "n_tot_obs": 99053,
        "r_merge": 0.073, "r_meas_within_iplusi_minus": 0.086,
    }  # fmt: skip
    assert scaling["outerShell"]["n_tot_obs"] == 7648


def test_a_newer_xia2_without_xia2_json_has_no_results(saved: Path) -> None:
    with pytest.raises(ProgramError, match=r"was written by xia2 3.12.0, which left no xia2.json"):
        parse("xia2", RUN / "xia2.txt", {})
    failed = saved / "xia2/v3.12.0/fail_environment/xia2.txt"
    with pytest.raises(ProgramError, match="a program that does not say its version"):
        parse("xia2", failed, {})


def test_the_xml_says_what_xia2_json_says() -> None:
    oracle = json.loads((RUN / "zocalo_object.json").read_text())
    found = parse("ispyb-xml", RUN / "ispyb.xml", {})["ispyb_command_list"]
    autoproc, scaling, integration = found
    assert autoproc["spacegroup"] == oracle["refined_results"]["spacegroup"]
    for shell, values in oracle["scaling_statistics"].items():
        assert scaling[shell] == pytest.approx(values, rel=1e-9)
    del integration["ispyb_command"], integration["scaling_id"]
    assert integration == pytest.approx(oracle["integrations"][0], rel=1e-5)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("<AutoProcContainer>", "<Other>"), "is not valid XML: mismatched tag"),
        (("AutoProcScalingContainer>", "Container>"), "holds no element AutoProcScalingContainer"),
        pytest.param(
            ("<spaceGroup>I 2 3<", "<spaceGroup><"),
            "nothing in element spaceGroup of AutoProc",
            id="empty element",
        ),
        (("outerShell", "outer"), "holds no AutoProcScalingStatistics of outerShell"),
        (("<startImageNumber>1<", "<startImageNumber>one<"), "'one' in element startImageNumber"),
    ],
)
def test_what_cannot_be_read_of_the_xml_is_named(
    tmp_path: Path, change: tuple[str, str], complaint: str
) -> None:
    text = (RUN / "ispyb.xml").read_text()
    assert change[0] in text
    (tmp_path / "ispyb.xml").write_text(text.replace(*change))
    with pytest.raises(ProgramError, match=complaint):
        parse("ispyb-xml", tmp_path / "ispyb.xml", {})


def test_the_xml_of_a_newer_xia2_does_not_stand_in_for_its_xia2_json() -> None:
    with pytest.raises(ProgramError, match=r"xia2 3\.12\.0, which left no xia2\.json"):
        parse("xia2", RUN / "ispyb.xml", {"log": RUN / "xia2.txt"})


def test_the_printed_table_says_what_xia2_json_says() -> None:
    printed = parse("merging-statistics", RUN / "xia2.txt", {})
    exact = commands(RUN)[1]
    for shell, values in printed.items():
        assert values.keys() == exact[shell].keys()
        for name, value in values.items():
            assert value == pytest.approx(exact[shell][name], rel=0.02, abs=0.051), name


def test_the_real_run_of_xia2_03(elsewhere: Path) -> None:
    autoproc, scaling = commands(elsewhere / "xia2/BAZ2BA_x839/3daii-run", "xia2.txt")
    assert autoproc["spacegroup"] == "C 2 2 21"
    assert [autoproc[f"refinedcell_{name}"] for name in "abc"] == [83.5, 96.74, 57.97]
    assert scaling["overall"]["r_merge"] == 0.073
    assert scaling["innerShell"]["cc_anom"] == -0.144
    assert scaling["outerShell"]["n_tot_unique_obs"] == 1115


def test_real_xml_of_other_programs(elsewhere: Path) -> None:
    old = parse("ispyb-xml", elsewhere / "xia2/BAZ2BA_x839/3daii-run/ispyb.xml", {})
    _, scaling, integration = old["ispyb_command_list"]
    assert scaling["overall"]["n_tot_obs"] == 99053
    assert (integration["end_image_no"], integration["refined_xbeam"]) == (1800, 144.42152)
    for name in ("autoPROC", "autoPROC_staraniso"):
        file = elsewhere / f"autoPROC/AutoProcessingWrappers/{name}.xml"
        commands_ = parse("ispyb-xml", file, {})["ispyb_command_list"]
        assert {c["ispyb_command"] for c in commands_} == {
            "write_autoproc", "insert_scaling", "upsert_integration",
        }  # fmt: skip
    edna = parse("ispyb-xml", elsewhere / "edna/autoproc_data.xml", {})["ispyb_command_list"]
    assert edna[0]["spacegroup"] == "I 2 3"


def test_real_tables_of_other_ages(elsewhere: Path) -> None:
    later = parse("merging-statistics", elsewhere / "xia2/doc_blocks/xia2_0.6.257_dials.txt", {})
    assert later["overall"]["cc_half"] == 0.998
    assert later["outerShell"]["n_tot_unique_obs"] == 328
    scaled = parse("merging-statistics", elsewhere / "dials/v3.12.1_quartz/dials.scale.log", {})
    assert scaled["overall"]["n_tot_obs"] == 1406


def test_the_real_result_of_fast_dp(elsewhere: Path) -> None:
    file = elsewhere / "fast_dp/fast_dp.json"
    oracle = json.loads(file.read_text())
    autoproc, scaling, integration = parse("fast_dp", file, {})["ispyb_command_list"]
    assert autoproc["spacegroup"] == oracle["spacegroup"]
    for shell, values in oracle["scaling_statistics"].items():
        assert scaling[shell] == values
    assert [integration["refined_xbeam"], integration["refined_ybeam"]] == oracle["refined_beam"]
    assert integration["cell_gamma"] == 90.0


# -- bad text --------------------------------------------------------------------------------

KEYS = (
    "_crystals", "_scaler", "_scalr_cell", "_scalr_statistics", "_wavelengths", "xtriage",
    "_scalr_likely_spacegroups", "scaling_statistics", "unit_cell", "refined_beam", "x",
)  # fmt: skip


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
DOCUMENTS = st.recursive(LEAVES, containers, max_leaves=30)
OPTIONS = {"regex": {"pattern": "(?P<a>x)"}, "table": {"header": "x"}}


def check_outcome(tmp_path: Path, parser: str, content: bytes, suffix: str) -> None:
    """Check that a parser reads, or says what of which file it could not read; nothing else."""
    file = tmp_path / f"file{suffix}"
    file.write_bytes(content)
    complaint = str(file)
    try:
        parse(parser, file, OPTIONS.get(parser, {}))
    except ProgramError as error:
        complaint = str(error)
    assert str(file) in complaint


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("suffix", [".json", ".txt", ".xml"])
@given(
    content=st.binary(max_size=200)
    | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace"))
)
def test_no_parser_raises_on_any_bytes(
    tmp_path: Path, parser: str, suffix: str, content: bytes
) -> None:
    check_outcome(tmp_path, parser, content, suffix)


@pytest.mark.parametrize("parser", ["xia2", "fast_dp", "json"])
@given(document=DOCUMENTS)
def test_no_parser_raises_on_any_json(tmp_path: Path, parser: str, document: Any) -> None:
    check_outcome(tmp_path, parser, json.dumps(document).encode(), ".json")


@pytest.mark.parametrize("parser", ["xia2", "fast_dp", "json"])
def test_no_parser_raises_on_nesting_without_end(tmp_path: Path, parser: str) -> None:
    check_outcome(tmp_path, parser, b"[" * 100_000, ".json")


@given(cut=st.integers(0, 5000), where=st.integers(0, 5000), junk=st.binary(max_size=20))
def test_no_parser_raises_on_a_damaged_real_file(
    tmp_path: Path, cut: int, where: int, junk: bytes
) -> None:
    text = (RUN / "xia2.txt").read_bytes().replace(b"XIA2 3.12.0", b"XIA2 0.3.6")
    damaged = text[:where] + junk + text[where + 3 : len(text) - cut]
    check_outcome(tmp_path, "xia2", damaged, ".txt")
    check_outcome(tmp_path, "merging-statistics", damaged, ".txt")
    xml = (RUN / "ispyb.xml").read_bytes()
    check_outcome(
        tmp_path, "ispyb-xml", xml[:where] + junk + xml[where + 3 : len(xml) - cut], ".xml"
    )
    check_outcome(tmp_path, "xia2", (RUN / "xia2.json").read_bytes()[: where * 20], ".json")


def test_statistics_of_any_shape_do_not_raise(tmp_path: Path) -> None:
    @given(values=st.lists(DOCUMENTS, max_size=5), cell=DOCUMENTS, dname=DOCUMENTS)
    def check(values: list[Any], cell: Any, dname: Any) -> None:
        def change(document: dict[str, Any]) -> None:
            scaler = document["_crystals"]["xinsu1"]["_scaler"]
            [statistics] = scaler["_scalr_statistics"].values()
            statistics["Completeness"] = values
            [integrater] = scaler["_scalr_integraters"].values()
            integrater["_intgr_cell"] = cell
            integrater["_intgr_dname"] = dname

        directory = changed(tmp_path, change)
        check_outcome(tmp_path, "xia2", (directory / "xia2.json").read_bytes(), ".json")

    check()
