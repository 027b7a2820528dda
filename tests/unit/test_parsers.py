"""Rules of the parsers: what they read of tables and documents, and when it is too little."""

from __future__ import annotations

import contextlib
import gc
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from zwrap.errors import PermanentError, ProgramError
from zwrap.program.ispyb import SHELLS
from zwrap.program.parsers import generic
from zwrap.program.parsers.gemmi import merging_statistics
from zwrap.program.parsers.table import PARSERS, option_faults, parse

DATA = Path(__file__).parents[1] / "data"
XIA2 = DATA / "xia2/v3.12.0/success_insulin_sad"


def written(directory: Path, text: str, name: str = "f") -> Path:
    (directory / name).write_text(text)
    return directory / name


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parser", "options", "beside", "complaint"),
    [
        ("json", {"keys": "a"}, {}, "Unknown option of parser 'json' 'keys'.*Did you mean 'key'"),
        ("regex", {}, {}, "d.yaml: parser 'regex' needs option 'pattern'"),
        ("regex", {"pattern": 1}, {}, "option of parser 'regex' 'pattern' is 1; pattern"),
        ("table", {"header": "x", "which": "all"}, {}, "is 'all'; one of first, last"),
        ("csv", {"rows": "2"}, {}, "'rows' is '2'; integer"),
        ("csv", {"names": "a"}, {}, "'names' is 'a'; texts"),
        ("regex", {"pattern": "x", "all": 1}, {}, "'all' is 1; boolean"),
        ("xia2", {"report": "r.json"}, {}, "'report' is a file; give it in 'beside'"),
        ("xia2", {}, {"raport": "r.json"}, "'raport'.*Did you mean 'report'"),
        ("text", {"key": "a"}, {}, "Unknown option of parser 'text' 'key'.*Known: none"),
    ],
)
def test_what_is_wrong_with_options_is_told(
    parser: str, options: Any, beside: Any, complaint: str
) -> None:
    [fault] = option_faults(parser, options, beside, "d.yaml")
    with pytest.raises(PermanentError, match=complaint):
        raise fault


def test_options_as_declared_have_no_fault() -> None:
    options = {"header": "x", "names": ["a"], "which": "last", "rows": 0}
    assert list(option_faults("table", options, {}, "d")) == []
    assert list(option_faults("xia2", {}, {"log": "xia2.txt", "report": "r"}, "d")) == []


@pytest.mark.parametrize("name", PARSERS)
def test_every_parser_and_option_is_described(name: str) -> None:
    parser = PARSERS[name]
    assert all([parser.gives, *(option.meaning for option in parser.options.values())])


# -- merging statistics ----------------------------------------------------------------------------

BEGIN = """
            -------------Summary of merging statistics--------------

                                             Overall    Low     High
High resolution limit                           2.01    5.34    2.01
Low resolution limit                           13.22   13.22    2.04
Completeness                                   60.1    54.2    60.0
I/sigma                                         7.0    29.8     0.7
"""


def statistics(directory: Path, text: str, **options: Any) -> dict[str, dict[str, Any]]:
    found = parse("merging-statistics", written(directory, text), options)
    assert isinstance(found, dict)
    return found


def test_rows_without_values_do_not_end_the_table() -> None:
    """Real output: DIALS prints `Anomalous slope` and blanks for weak data."""
    found: Any = parse("merging-statistics", DATA / "dials/weak.scale.log", {})
    assert found["overall"]["n_tot_obs"] == 537
    assert [found[shell]["n_tot_unique_obs"] for shell in SHELLS] == [526, 36, 4]
    assert found["innerShell"]["cc_anom"] == 0.0
    assert found["outerShell"]["mean_i_sig_i"] == -0.0


@pytest.mark.parametrize("word", ["(error)", "nan", "None", "-  -  -", "********", ""])
def test_words_in_place_of_values_do_not_end_the_table(tmp_path: Path, word: str) -> None:
    text = f"{BEGIN}Rmerge(I+/-)               {word}\nTotal unique         915     148      45\n"
    found = statistics(tmp_path, text)
    assert [found[shell]["n_tot_unique_obs"] for shell in SHELLS] == [915, 148, 45]
    assert found["overall"].get("r_merge") is None


def test_a_word_in_place_of_one_value_leaves_the_others_in_place(tmp_path: Path) -> None:
    found = statistics(tmp_path, BEGIN + "CC half            nan   0.995   0.429\n")
    assert [found[shell]["cc_half"] for shell in SHELLS] == [None, 0.995, 0.429]
    found = statistics(tmp_path, BEGIN + "CC half          0.993  *****    0.429\n")
    assert [found[shell]["cc_half"] for shell in SHELLS] == [0.993, None, 0.429]


AIMLESS = """
Summary data for        Project: P Crystal: X Dataset: D

                                           Overall  InnerShell  OuterShell
{rule}
{indent}Low resolution limit                       40.00     40.00      2.05
{indent}High resolution limit                       2.00      9.00      2.00

{indent}Rmerge  (within I+/I-)                     0.050     0.030     0.500
{indent}Rmerge  (all I+ {also} I-)                 0.060     0.040     0.600
{indent}Rmeas (within I+/I-)                       0.055     0.035     0.550
{indent}Rpim (all I+ {also} I-)                    0.025     0.015     0.250
{indent}Total number of observations               10000      1000       900
{indent}Total number unique                         1500       120       130
{indent}{mean}                             15.0      40.0       2.0
{indent}{half}         0.999     0.998     0.552
{indent}Completeness                                99.0      98.0      97.0

{indent}Anomalous multiplicity                       2.6       3.2       1.0
{indent}{anom}     -0.002     0.279     0.000
{indent}Mid-Slope of Anom Normal Probability       0.945       -         -

Estimates of resolution limits: overall
Completeness                                1.0      1.0      1.0
"""


@pytest.mark.parametrize(
    "form",
    [
        {"rule": "", "indent": "", "also": "and", "mean": "Mean((I)/sd(I))",
         "half": "Mn(I) half-set correlation CC(1/2)",
         "anom": "DelAnom correlation between half-sets"},
        {"rule": " " + "-" * 70, "indent": " ", "also": "&", "mean": "Mean(I)/sd(I)  ",
         "half": "CC(1/2)", "anom": "CC(ano)"},
    ],
    ids=["aimless", "MRFANA"],
)  # fmt: skip
def test_tables_with_blank_lines_and_the_low_limit_first_are_read(
    tmp_path: Path, form: dict[str, str]
) -> None:
    found = statistics(tmp_path, AIMLESS.format(**form))
    assert found["overall"] == {
        "res_lim_low": 40.0, "res_lim_high": 2.0, "r_merge": 0.05, "mean_i_sig_i": 15.0,
        "r_meas_within_iplusi_minus": 0.055, "r_pim_all_iplusi_minus": 0.025, "n_tot_obs": 10000,
        "n_tot_unique_obs": 1500, "completeness": 99.0, "cc_half": 0.999, "cc_anom": -0.002,
        "anom_multiplicity": 2.6,
    }  # fmt: skip
    assert found["outerShell"]["res_lim_low"] == 2.05


def test_a_summary_between_bars_is_read() -> None:
    """Real output of xia2.multiplex."""
    found: Any = parse("merging-statistics", DATA / "xia2_multiplex/xia2.multiplex.log", {})
    assert found["innerShell"] == {
        "res_lim_low": 68.42, "res_lim_high": 4.83, "n_tot_obs": 21172, "n_tot_unique_obs": 1380,
        "multiplicity": 15.3, "completeness": 100.0, "mean_i_sig_i": 57.3, "r_merge": 0.047,
        "r_meas_all_iplusi_minus": 0.049, "r_pim_all_iplusi_minus": 0.012, "cc_half": 0.999,
    }  # fmt: skip
    assert found["overall"]["completeness"] == 85.67


@pytest.mark.parametrize(
    ("text", "options", "complaint"),
    [
        ("High resolution limit     1   2   3\n", {},
         "without res_lim_low of overall, completeness of overall, res_lim_low of innerShell"),
        (BEGIN, {"least": ["cc_half"], "shells": ["outerShell"]}, "without cc_half of outerShell"),
        (BEGIN.replace("    54.2    60.0", ""), {}, "without completeness of innerShell"),
        (BEGIN.replace("60.1    54.2    60.0", " nan   (error)   -"), {},
         "without completeness of overall, completeness of innerShell, completeness of outerShell"),
        ("High resolution limit of all\n", {}, "holds no summary of merging statistics"),
    ],
)  # fmt: skip
def test_a_table_with_too_little_is_refused(
    tmp_path: Path, text: str, options: Any, complaint: str
) -> None:
    with pytest.raises(ProgramError, match=complaint):
        statistics(tmp_path, text, **options)


def test_statistics_in_json_are_those_of_the_printed_table() -> None:
    """Real output of xia2: both files are of one run."""
    file = XIA2 / "LogFiles/cm0001v1_xinsu1_SAD_merging-statistics.json"
    found: Any = parse("merging-statistics-json", file, {})
    printed: Any = parse("merging-statistics", XIA2 / "xia2.txt", {})
    for shell in SHELLS:
        for name, value in found[shell].items():
            if name != "r_merge":  # printed within I+ and I-, here over all
                assert value == pytest.approx(printed[shell][name], rel=0.02, abs=0.051), name


def test_statistics_of_one_of_several_data_sets_are_found_by_key(elsewhere: Path) -> None:
    file = elsewhere / "xia2_multiplex/v3.12.0/lcys4/xia2.multiplex.json"
    found: Any = parse(
        "merging-statistics-json", file, {"key": 'datasets."All data".merging_stats'}
    )
    assert found["overall"]["n_tot_obs"] == 11870
    assert found["outerShell"]["res_lim_high"] == pytest.approx(0.59, abs=0.005)
    assert found["innerShell"]["res_lim_low"] == pytest.approx(6.75, abs=0.005)
    options = {"key": "datasets", "below": "merging_stats"}
    assert parse("merging-statistics-json", file, options) == [{"name": "All data", **found}]


# -- documents -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a.0.b", 1), ("a.-1.b", 2), ("a.*.b", [1, 2]), ('"x.y".z', 3), ("'x.y'.z", 3), ("7", 4),
        ("deep.*.*", [[5, 6], []]), ("sp ace", 8), ("star.*", 9),
    ],
)  # fmt: skip
def test_a_key_goes_through_lists_and_quoted_names(tmp_path: Path, key: str, expected: Any) -> None:
    text = (
        '{"a": [{"b": 1}, {"b": 2}], "x.y": {"z": 3}, "7": 4, "deep": [[5, 6], []], "sp ace": 8,'
        ' "star": {"*": 9}}'
    )
    assert parse("json", written(tmp_path, text), {"key": key}) == expected


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ("a.5", r"has no key 'a\.5': there are 2 entries before 5"),
        ("a.*.c", r"has no key 'a\.\*\.c': in place of 'c' there is 'b'"),
        ("b", "has no key 'b': in place of 'b' there are 'a', 'n'"),
        ("n.*", r"has no list for '\*' in key 'n\.\*'"),
        ("n.x", r"has no key 'n\.x': there is no object that has 'x'"),
        ('a."0"', "there is no object that has '0'"),
    ],
)
def test_a_key_that_leads_nowhere_says_where_it_ended(
    tmp_path: Path, key: str, complaint: str
) -> None:
    with pytest.raises(ProgramError, match=complaint):
        parse("json", written(tmp_path, '{"a": [{"b": 1}, {"b": 2}], "n": 1}'), {"key": key})


def test_json_as_python_writes_it_has_null_for_nan(tmp_path: Path) -> None:
    text = '{"sym_op_scores": [{"cc": NaN, "z_cc": Infinity}], "cc_sig_fac": 1.0}'
    assert parse("json", written(tmp_path, text), {}) == {
        "sym_op_scores": [{"cc": None, "z_cc": None}], "cc_sig_fac": 1.0,
    }  # fmt: skip


INI = """\
# remark
top: 1

[workflow]
args:
 a.mtz
 b.pdb
version: 2.6.1
empty =
[refmac5 jelly]
; remark
free_r: 0.25
ini_free_r = *****
free_r: 0.26
url: http://x?y=1
[workflow]
more: 2
"""


def test_an_ini_file_is_a_mapping_of_sections(tmp_path: Path) -> None:
    file = written(tmp_path, INI)
    assert parse("ini", file, {}) == {
        "top": 1,
        "workflow": {"args": "a.mtz\nb.pdb", "version": "2.6.1", "empty": None, "more": 2},
        "refmac5 jelly": {"free_r": 0.26, "ini_free_r": None, "url": "http://x?y=1"},
    }
    assert parse("ini", file, {"key": "refmac5 jelly.free_r"}) == 0.26
    with pytest.raises(ProgramError, match="has no key 'other'"):
        parse("ini", file, {"key": "other"})
    with pytest.raises(ProgramError, match="holds no section, and no value"):
        parse("ini", written(tmp_path, "nothing here\n"), {})


def test_the_real_log_of_dimple_is_an_ini_file(elsewhere: Path) -> None:
    found: Any = parse("ini", elsewhere / "dimple/dimple_blobs.log", {})
    assert found["pointless"]["refl_ref"] == 58812
    assert found["rwcontents"]["input"] == "end"
    assert found["workflow"]["args"] == "input.mtz\nmodel.pdb\ndimple"


def test_csv_has_a_row_for_each_line(tmp_path: Path) -> None:
    file = written(tmp_path, 'name, score,x\n"a,b",1.5,***\nc,,nan\n\n')
    rows = [{"name": "a,b", "score": 1.5, "x": None}, {"name": "c", "score": None, "x": None}]
    assert parse("csv", file, {}) == rows
    file = written(tmp_path, "1;2\n3;4\n")
    assert parse("csv", file, {"delimiter": ";", "names": ["a", "b"]}) == [
        {"a": 1, "b": 2}, {"a": 3, "b": 4},
    ]  # fmt: skip
    with pytest.raises(ProgramError, match=r"holds 2 rows; at least 3"):
        parse("csv", file, {"delimiter": ";", "names": ["a", "b"], "rows": 3})
    with pytest.raises(ProgramError, match=r"has 2 values in row 1 .* the 1 columns are a"):
        parse("csv", file, {"delimiter": ";", "names": ["a"]})


def test_xml_is_a_mapping(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        '<r xmlns="urn:x"><a n="1">2</a><b><c>x</c><c/><d>***</d></b><e>P 21</e></r>',
    )
    whole = {"r": {"a": {"@n": 1, "#text": 2}, "b": {"c": ["x", None], "d": None}, "e": "P 21"}}
    assert parse("xml", file, {}) == whole
    assert parse("xml", file, {"key": "r.b.c.0"}) == "x"
    assert parse("xml", file, {"key": "r.e", "lists": ["e"]}) == ["P 21"]


@pytest.mark.parametrize("parser", ["xml", "ispyb-xml"])
def test_xml_with_entities_of_its_own_is_refused(tmp_path: Path, parser: str) -> None:
    text = '<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><r>&b;</r>'
    with pytest.raises(ProgramError, match="declares the XML entity 'a'; none are accepted"):
        parse(parser, written(tmp_path, text), {})
    outside = '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r>&x;</r>'
    with pytest.raises(ProgramError, match="declares the XML entity 'x'"):
        parse(parser, written(tmp_path, outside), {})


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_an_entity_is_found_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    name = encoding.removesuffix("-le").removesuffix("-be")
    text = f"<?xml version='1.0' encoding='{name}'?>"
    text += '<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa">]><r>&a;</r>'
    (tmp_path / "f").write_bytes(text.encode(encoding))
    with pytest.raises(ProgramError, match="declares the XML entity 'a'"):
        parse("xml", tmp_path / "f", {})


def test_elements_of_one_name_are_a_list_wherever_they_stand(tmp_path: Path) -> None:
    text = "<r z='01' y=' a '>\n x <a>1</a><b/><a> 2 </a><c>***</c><a n='3'/>y</r>"
    assert parse("xml", written(tmp_path, text), {"lists": ["b"]}) == {
        "r": {"@z": 1, "@y": " a ", "a": [1, 2, {"@n": 3}], "b": [None], "c": None, "#text": "x"}
    }


def test_xml_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    assert parse("xml", written(tmp_path, "<a>" * 200 + "</a>" * 200), {})
    with pytest.raises(ProgramError, match="nested more than 200 elements deep"):
        parse("xml", written(tmp_path, "<a>" * 201 + "</a>" * 201), {})
    with pytest.raises(ProgramError, match="nested more than 200 elements deep"):
        parse("xml", written(tmp_path, "<a>" * 300 + "</a>" * 300), {})


# -- patterns and tables ---------------------------------------------------------------------------


def test_all_matches_of_a_pattern_are_rows() -> None:
    """Real output of dimple."""
    pattern = (
        r"^#\d+ +(?P<grid_points>\d+) grid points, score (?P<score>[\d.]+) +"
        r"\( *(?P<x>[-\d.]+), *(?P<y>[-\d.]+), *(?P<z>[-\d.]+)\)"
    )
    file = DATA / "dimple/find-blobs.log"
    found: Any = parse("regex", file, {"pattern": pattern, "all": True})
    assert len(found) == 4
    assert found[1] == {"grid_points": 147, "score": 87.42, "x": -9.39, "y": 36.17, "z": 11.3}
    with pytest.raises(ProgramError, match=r"holds 4 matches of .*; at least 5"):
        parse("regex", file, {"pattern": pattern, "all": True, "rows": 5})


def test_no_match_at_all_is_too_little_unless_that_is_said(tmp_path: Path) -> None:
    file = written(tmp_path, "x\n")
    with pytest.raises(ProgramError, match="holds 0 matches of 'y'; at least 1"):
        parse("regex", file, {"pattern": "y", "all": True})
    assert parse("regex", file, {"pattern": "y", "all": True, "rows": 0}) == []
    found = parse("regex", file, {"pattern": "(?P<a>x)|(?P<b>y)", "all": True})
    assert found == [{"a": "x", "b": None}]


def test_a_table_between_bars_has_units_in_its_names() -> None:
    """Real output of dials.index."""
    file = DATA / "dials/betalactamase.index.log"
    assert parse("table", file, {"header": r"^\| +Imageset"}) == [
        {"Imageset": 0, "# indexed": 111252, "# unindexed total": 769,
         "# unindexed non-ice": 654, "% indexed": 99.3}
    ]  # fmt: skip
    steps: Any = parse("table", file, {"header": r"^\| +Step", "rows": 4})
    assert steps[-1] == {
        "Step": 3, "Nref": 36000, "RMSD_X (mm)": 0.049601, "RMSD_Y (mm)": 0.049228,
        "RMSD_Phi (deg)": 0.10674,
    }  # fmt: skip
    names = ["exp", "nref", "x", "y", "z"]
    assert parse("table", file, {"header": r"^\| +Exp", "names": names}) == [
        {"exp": 0, "nref": 36000, "x": 0.28838, "y": 0.28621, "z": 0.21348}
    ]
    with pytest.raises(ProgramError, match=r"a table of 5 columns .* 'names' holds 1 names"):
        parse("table", file, {"header": r"^\| +Exp", "names": ["exp"]})


def test_marks_behind_numbers_are_left_out_and_empty_cells_are_null() -> None:
    """Real output of xia2.multiplex."""
    file = DATA / "xia2_multiplex/xia2.multiplex.log"
    shells: Any = parse("table", file, {"header": r"^\| Resolution \(Å\) +\| +N\(obs\)"})
    assert len(shells) == 20
    assert (shells[0]["CC½"], shells[-1]["CCano"]) == (0.999, 0)
    summary: Any = parse("table", file, {"header": r"^\| +\| Overall"})
    assert summary[4] == {
        "column 1": "Completeness", "Overall": 85.67, "Low resolution": 100.0,
        "High resolution": 10.61,
    }  # fmt: skip


def test_a_table_below_a_rule_of_groups_has_cells_with_blanks() -> None:
    """Real output of xia2.multiplex, which prints two such tables."""
    file = DATA / "xia2_multiplex/xia2.multiplex.log"
    header = "No. datasets"
    first: Any = parse("table", file, {"header": header})
    assert first == [] or len(first) == 3
    last: Any = parse("table", file, {"header": header, "which": "last"})
    assert last[2] == {
        "Cluster": 3, "No. datasets": 4, "Datasets": "0 1 2 3", "Height": 0.12,
        "Multiplicity": 10.4, "Completeness": 0.86,
    }  # fmt: skip


def test_a_table_of_words_with_a_rule_below_its_header_is_read(tmp_path: Path) -> None:
    file = written(tmp_path, "d  cc\n---------\n\n4.1 0.98*\n2.0 ****\n\n1 2\n")
    assert parse("table", file, {"header": "^d"}) == [
        {"d": 4.1, "cc": 0.98}, {"d": 2.0, "cc": None},
    ]  # fmt: skip


def test_a_table_without_rows_is_too_little(tmp_path: Path) -> None:
    file = written(tmp_path, "h1 h2\n")
    with pytest.raises(ProgramError, match=r"holds 0 rows below a header like '.h1'; at least 1"):
        parse("table", file, {"header": "^h1"})
    assert parse("table", file, {"header": "^h1", "rows": 0}) == []


def test_only_what_a_program_prints_as_a_number_is_one(tmp_path: Path) -> None:
    file = written(tmp_path, "a b c d\n1_000 1e3 ** *\n")
    found: Any = parse("table", file, {"header": "^a"})
    assert found[0] == {"a": "1_000", "b": 1000.0, "c": None, "d": "*"}


def test_tables_of_xds_are_read_with_names_given(elsewhere: Path) -> None:
    """Their header has two lines, whose words are not the columns."""
    names = [
        "limit", "observed", "unique", "possible", "completeness", "r_observed", "r_expected",
        "compared", "i_sigma", "r_meas", "cc_half", "anom_corr", "sig_ano", "n_ano",
    ]  # fmt: skip
    options = {"header": "LIMIT +OBSERVED", "names": names, "which": "last"}
    shells: Any = parse("table", elsewhere / "xds/edna_XSCALE.LP", options)
    assert shells[0] == dict(
        zip(names, [4.62, 64888, 10851, 10884, 99.7, 3.4, 3.7, 64883, 43.96, 3.7, 99.8, 16, 0.87,
                    4902], strict=True)
    )  # fmt: skip
    assert shells[-1]["limit"] == "total"


def test_key_figures_of_other_programs_are_found_by_pattern(elsewhere: Path) -> None:
    pattern = r"^ +Completeness \[%\] +(?P<all>[\d.]+) \((?P<outer>[\d.]+)\)|^ +ISa +(?P<isa>\S+)"
    assert parse("regex", elsewhere / "xdsapp/results_xdsapp3.txt", {"pattern": pattern}) == {
        "all": 99.8, "outer": 99.5, "isa": 30.04,
    }  # fmt: skip
    pattern = r"^Best Solution: +(?:space|point) group (?P<group>.*\S)"
    found: Any = parse("regex", elsewhere / "pointless/pointless.log", {"pattern": pattern})
    assert found["group"]


def test_an_empty_first_cell_keeps_its_place(tmp_path: Path) -> None:
    file = written(tmp_path, "|a|b|c|\n|-----|\n||2||\n|1||3|\n")
    assert parse("table", file, {"header": "^.a"}) == [
        {"a": None, "b": 2, "c": None}, {"a": 1, "b": None, "c": 3},
    ]  # fmt: skip


# -- crystallographic files ------------------------------------------------------------------------


def test_an_mtz_file_tells_cell_space_group_and_columns() -> None:
    """A real file of xia2."""
    file = Path(__file__).parents[2] / "examples/demo/data/cm0001v1_xinsu1_scaled.mtz"
    found: Any = parse("mtz", file, {})
    assert found["space_group"] == "I 2 3"
    assert found["cell"][0] == pytest.approx(77.9, abs=0.1)
    assert found["d_min"] == pytest.approx(1.89, abs=0.01)
    assert ("IMEAN", "J") in [(each["label"], each["type"]) for each in found["columns"]]
    assert found["reflections"] > 0


def test_values_and_loops_of_a_cif_are_found_by_name(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "data_one\n_cell.length_a 77.90267(19)\n_symmetry.name 'I 2 3'\n_refine.x ?\n"
        "loop_\n_shell.d_low\n_shell.d_high\n_shell.n\n31.8 5.1 10\n5.1 . 12\n"
        "data_two\n_a.b 3\n",
    )
    options: Any = {"values": ["_cell.length_a", "_symmetry.name", "_refine.x"]}
    found: Any = parse("cif", file, {**options, "loops": ["_shell"]})
    assert found == {
        "block": "one",
        "values": {"_cell.length_a": 77.90267, "_symmetry.name": "I 2 3", "_refine.x": None},
        "loops": {"_shell": [{"d_low": 31.8, "d_high": 5.1, "n": 10},
                             {"d_low": 5.1, "d_high": None, "n": 12}]},
    }  # fmt: skip
    assert parse("cif", file, {"block": "two", "values": ["_a.b"]}) == {
        "block": "two", "values": {"_a.b": 3}, "loops": {},
    }  # fmt: skip
    with pytest.raises(ProgramError, match=r"block 'one', has no _cell.length_b, _none"):
        parse("cif", file, {"values": ["_cell.length_b"], "loops": ["_none"]})
    with pytest.raises(ProgramError, match=r"has no data block 'three'. Known: one, two"):
        parse("cif", file, {"block": "three"})


def test_a_log_with_a_table_of_shells_alone_has_merging_statistics(tmp_path: Path) -> None:
    """DIALS 2 printed no other; xia2 keeps the JSON of the same statistics beside it."""
    log = XIA2 / "LogFiles/cm0001v1_xinsu1_SAD_merging-statistics.txt"
    printed: Any = parse("merging-statistics", log, {})
    exact: Any = parse("merging-statistics-json", log.with_suffix(".json"), {})
    shells = {"overall": (31.80, 1.89, 0.038), "innerShell": (31.81, 5.12, 0.013),
              "outerShell": (1.92, 1.89, 0.311)}  # fmt: skip
    names = ("res_lim_low", "res_lim_high", "r_merge")
    assert {key: tuple(printed[key][name] for name in names) for key in printed} == shells
    rounded = {"mean_i_sig_i": 0.05, **dict.fromkeys(
        ("res_lim_low", "res_lim_high", "multiplicity", "completeness"), 0.005)}  # fmt: skip
    for shell in shells:
        for name in printed[shell].keys() & exact[shell].keys():
            half = rounded.get(name, 0.0005)  # of the last digit that is printed
            assert printed[shell][name] == pytest.approx(exact[shell][name], abs=half), name

    cut = log.read_text().splitlines()[:-1]
    with pytest.raises(ProgramError, match="holds no summary"):
        parse("merging-statistics", written(tmp_path, "\n".join(cut)), {})


def test_a_file_of_blank_lines_is_read_in_a_moment(tmp_path: Path) -> None:
    (tmp_path / "merge.log").write_text("\n" * 300_000)
    began = time.process_time()
    with pytest.raises(ProgramError, match="no table of merging statistics"):
        merging_statistics(tmp_path / "merge.log", {})
    assert time.process_time() - began < 5


@pytest.mark.parametrize("parser", ["cif", "mtz"])
def test_without_gemmi_the_extra_is_named(
    tmp_path: Path, parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gemmi", None)
    with pytest.raises(ProgramError, match=r"f needs the gemmi library.*'zwrap\[gemmi\]'"):
        parse(parser, written(tmp_path, "data_x\n"), {})


# -- work and time ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parser", "head", "line", "end", "options"),
    [
        ("csv", "a,b\n", "{0}, x\n", "", {}),
        ("table", "a b\n", "{0} x\n", "", {"header": "^a b"}),
        ("xml", "<r>", "<p a='{0}'><b>x</b></p>", "</r>", {}),
    ],
)
def test_a_text_that_a_file_repeats_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parser: str, head: str, line: str, end: str,
    options: Any,
) -> None:  # fmt: skip
    read: list[str] = []
    number = generic.number
    monkeypatch.setattr(generic, "number", lambda text: (read.append(text), number(text))[1])
    body = "".join(line.format(count % 7) for count in range(1000))
    parse(parser, written(tmp_path, f"{head}{body}{end}"), options)
    assert sorted(read) == ["0", "1", "2", "3", "4", "5", "6", "x"]


def test_values_of_many_different_texts_are_not_all_kept() -> None:
    known = generic.KnownValues()
    texts = [str(each) for each in range(generic.MOST_KEPT + 10)]
    assert [known[text] for text in texts] == [*range(generic.MOST_KEPT + 10)]
    assert len(known) == generic.MOST_KEPT


@pytest.mark.parametrize("text", ["[1]", "no JSON"])
@pytest.mark.parametrize("before", [True, False])
def test_the_search_for_garbage_goes_on_after_a_parser_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, before: bool
) -> None:
    during: list[bool] = []
    monkeypatch.setattr(
        generic, "content", lambda _: (during.append(gc.isenabled()), text.encode())[1]
    )
    was = gc.isenabled()
    try:
        gc.enable() if before else gc.disable()
        with contextlib.suppress(ProgramError):
            parse("json", written(tmp_path, text), {})
        assert gc.isenabled() == before
    finally:
        gc.enable() if was else gc.disable()
    assert during == [False]


LINE = "some line of a log: 1.0 2.0 | 3.0 resolution limit and so on, as programs print it\n"
LOG = LINE * (10_000_000 // len(LINE))
"""A log of 10 MB."""


@pytest.mark.parametrize(
    ("parser", "text", "options"),
    [
        ("merging-statistics", BEGIN + LOG, {}),
        ("merging-statistics", LOG + BEGIN, {}),
        ("table", LOG + "a b\n1 2\n", {"header": "^a b"}),
        ("table", "a b\n" + "1 2\n" * 100_000 + LOG, {"header": "^a b"}),
        ("regex", LOG + "n = 5\n", {"pattern": r"^n = (?P<n>\d+)"}),
        ("ini", f"[a]\nb: 1\n{LOG}", {}),
        ("text", LOG, {}),
    ],
)
def test_ten_megabytes_are_read_in_half_a_second(
    tmp_path: Path, parser: str, text: str, options: Any
) -> None:
    file = written(tmp_path, text)
    taken = []
    for _ in range(3):  # the least of several: others use the machine, too
        began = time.process_time()
        parse(parser, file, options)
        taken.append(time.process_time() - began)
    assert min(taken) < 0.5
