"""Patterns: those of others are limited in time, and the shipped ones are linear."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings, strategies as st

from zwrap.errors import ProgramError
from zwrap.program import judgement
from zwrap.program.causes.errortables import read_table
from zwrap.program.causes.knownerrors import EXIT_STATUS, places
from zwrap.program.definition import SHIPPED_PROGRAMS
from zwrap.program.keys.progress import Progress
from zwrap.program.parsers import gemmi, ispyb_xml, merging, xia2
from zwrap.program.parsers.table import parse
from zwrap.program.patterns import LONGEST_PATTERN, Pattern, check_pattern, shown_pattern
from zwrap.program.reading import parse_definition, read_definition
from zwrap.program.run import Run
from zwrap.wrapper.output import Output
from zwrap.wrapper.progress import ProgressReader

SLOW = r"^(a|aa)+$"
LINE = "a" * 60 + "!"


def test_a_search_that_takes_too_long_is_given_up_with_a_sentence() -> None:
    with pytest.raises(ProgramError, match=r"here: the search for .* given up after 0\.1 s; "):
        Pattern(SLOW, "here", 0.1).search(LINE)


def test_a_sentence_shows_a_pattern_as_it_is_written(tmp_path: Path) -> None:
    """Whoever reads it can search with it: no backslash is doubled."""
    log = tmp_path / "log"
    log.touch()
    pattern = r"^\|\s+(?P<rows>\d+)"
    for parser, option in (("regex", "pattern"), ("table", "header")):
        with pytest.raises(ProgramError, match=re.escape(f"'{pattern}'")):
            parse(parser, log, {option: pattern})
    run = Run(directory=tmp_path, stdout=log, stderr=log, began=0.0, exit_status=0)
    rule = {"success": {"text": [{"file": "stdout", "pattern": pattern}]}}
    defined = parse_definition({"command": ["true"], **rule}, "here", "prog")
    assert f"'{pattern}'" in judgement.failures(defined, run)[0]
    with pytest.raises(ProgramError, match=re.escape(r"here: '\s(' is not a valid")):
        check_pattern(r"\s(", "here")
    with pytest.raises(ProgramError, match=re.escape(r"the search for '^(\S|\S\S)+$' was given")):
        Pattern(r"^(\S|\S\S)+$", "here", 0.1).search(LINE + " ")
    assert shown_pattern("a\nb\x1b") == r"'a\nb\u001b'"
    assert len(shown_pattern("x" * 500)) < 210


def test_all_searches_of_a_pattern_have_one_limit() -> None:
    now = 0.0
    pattern = Pattern("a", "here", 10, clock=lambda: now)
    assert pattern.search("xax")
    now = 11.0
    with pytest.raises(ProgramError, match="given up after 10 s"):
        pattern.search("xax")


def test_other_threads_run_meanwhile() -> None:
    def search() -> None:
        with contextlib.suppress(ProgramError):
            Pattern(SLOW, "here", 1.0).search(LINE)

    searching = threading.Thread(target=search)
    searching.start()
    turns = 0
    while searching.is_alive():
        time.sleep(0.001)
        turns += 1
    assert turns > 20


def test_progress_is_found_beside_the_heartbeat_and_given_up_if_it_is_slow(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "log"
    log.write_text(f"{LINE}\n")
    slow = ProgressReader(Progress(pattern=SLOW), Output("stdout", tmp_path, {"stdout": log}))
    began = time.monotonic()
    assert slow.fields() == {}
    assert time.monotonic() - began < 0.9  # the search goes on for a second
    assert slow._thread
    slow._thread.join()
    log.write_text("a\n")
    assert slow.fields() == {}
    assert caplog.text.count("The progress is not shown: key 'progress': the search for") == 1


@pytest.mark.parametrize(
    "pattern", ["a{99999999999}", "(" * 5000, "(?P<1>a)", "[", "x" * (LONGEST_PATTERN + 1), "a**"]
)
def test_a_pattern_that_is_none_is_told_with_its_place(pattern: str) -> None:
    with pytest.raises(ProgramError, match=r"^there: ") as caught:
        check_pattern(pattern, "there")
    assert len(str(caught.value)) < 500
    for change in ({"progress": {"pattern": pattern}},
                   {"success": {"no_text": [{"file": "stdout", "pattern": pattern}]}},
                   {"outputs": {"o": {"file": "f", "parser": "regex",
                                      "options": {"pattern": pattern}}}}):  # fmt: skip
        with pytest.raises(ProgramError, match=r"^d: |^d, "):
            parse_definition({"command": ["x"], **change}, "d", "d")


def test_a_rule_that_takes_too_long_is_a_failure_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judgement, "Pattern", lambda pattern, where: Pattern(pattern, where, 0.1))
    log = tmp_path / "d.log"
    log.write_text(LINE)
    run = Run(directory=tmp_path, stdout=log, stderr=log, began=0.0, exit_status=0)
    for key in ("text", "no_text"):
        rules = {"success": {key: [{"file": "stdout", "pattern": SLOW}]}}
        definition = parse_definition({"command": ["x"], **rules}, "d", "d")
        (sentence,) = judgement.failures(definition, run)
        assert sentence.startswith("success rule for stdout: the search for '^(a|aa)+$' was")


def test_the_last_match_counts_and_no_list_of_all_is_made(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("".join(f"n={n}\n" for n in range(20_000)))
    assert parse("regex", file, {"pattern": r"^n=(?P<n>\d+)$"}) == {"n": 19_999}


# -- definitions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("description: 2020-13-45\n", "line 2, is not valid YAML: month must be in 1..12"),
        ("limits: {time: " + "9" * 5000 + "}\n", "line 2, is not valid YAML: Exceeds the limit"),
        ("description: a\ndescription: b\n", "line 3: key 'description' is there twice"),
        ("description: !!timestamp x\n", "line 2, is not valid YAML"),
        ("description: !!int ''\n", "line 2, is not valid YAML"),
        ("description: !!bool x\n", "line 2, is not valid YAML"),
        ("progress:\n  pattern: 'a{99999999999}'\n", ":2, key 'progress': .* not a valid regular"),
        ("description: x\nlimits:\n  grace_s: x\n", ":4, key 'limits.grace_s': It is a text"),
        ("limits: {grace_s: 99999999999999999999}\n", ":2, key 'limits.grace_s': "),
        ("success: {exit_status: [x]}\n", ":2, key 'success.exit_status.0': It is a text"),
    ],
)
def test_a_fault_of_a_definition_is_told_with_file_and_line(
    tmp_path: Path, text: str, complaint: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("command: ['true']\n" + text)
    with pytest.raises(ProgramError, match=rf"mine\.yaml.*{complaint}"):
        read_definition(file)


@settings(max_examples=200)
@given(st.text("abc:{}[]!&*<>-? \n'\"#|%@`012.tno", max_size=60))
def test_any_text_is_a_definition_or_a_fault_that_names_the_file(
    tmp_path_factory: Any, text: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(text)
    try:
        named = read_definition(file).name
    except ProgramError as error:
        named = str(error)
    assert "any" in named


# -- NaN -------------------------------------------------------------------------------------------


def test_results_have_null_for_nan_and_infinity(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text('{"a": [NaN, 1.5, {"b": -Infinity}]}')
    assert parse("json", file, {}) == {"a": [None, 1.5, {"b": None}]}
    file.write_text("a nan\nb 1e999\n")
    both = r"a (?P<a>\S+)\nb (?P<b>\S+)"
    assert parse("regex", file, {"pattern": both}) == {"a": None, "b": None}
    file.write_text("x y\nnan 1\n")
    assert parse("table", file, {"header": "^x"}) == [{"x": None, "y": 1}]
    file.write_text(
        "High resolution limit      1.0   nan  2.0\nLow resolution limit   9  9  nan\n"
        "Completeness    nan  99.0   98.0\n"
    )
    found = parse("merging-statistics", file, {})
    assert isinstance(found, dict)
    assert found["innerShell"]["res_lim_high"] is None


@pytest.mark.parametrize(
    "text",
    ["<a><b>NaN</b></a>", '<?xml version="1.0" encoding="foo"?><a/>', "<a>", "", "[" * 100_000,
     '<?xml version="1.0" encoding="utf-7"?><a/>', "<a>" * 50_000],
)  # fmt: skip
def test_xml_of_any_form_raises_documented_errors(tmp_path: Path, text: str) -> None:
    file = tmp_path / "ispyb.xml"
    file.write_text(text)
    with pytest.raises(ProgramError, match=r"ispyb\.xml"):
        parse("ispyb-xml", file, {})


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "", "\ufeff1", '{"a":' * 3000])
def test_json_of_any_form_raises_documented_errors(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    for parser in ("json", "fast_dp", "xia2"):
        with pytest.raises(ProgramError, match=r"x\.json"):
            parse(parser, file, {})


# -- shipped patterns are linear -------------------------------------------------------------------

SIZE = 20_000
"""Length of a line, in characters."""


def definition_patterns() -> list[str]:
    """Return the patterns in the shipped definitions."""
    found: list[str] = []

    def look(value: object) -> None:
        for key, each in value.items() if isinstance(value, dict) else ():
            if key in ("pattern", "header") and isinstance(each, str):
                found.append(each)
            elif key != "files":  # whose patterns are those of names
                look(each)
        for each in value if isinstance(value, list) else ():
            look(each)

    for file in SHIPPED_PROGRAMS.glob("*.yaml"):
        look(yaml.safe_load(file.read_text()))
    return found


def pieces(pattern: str) -> list[str]:
    """Return what a line of a pattern's kind is made of."""
    words = re.findall(r"[A-Za-z()/]{2,}[:]?", pattern)
    return ["a", "1", " ", "-", ":", "/", ".", "\t", "1.", "- ", ": ", "a ", "1 ", "@1", *words]


def hostile_lines(begin: str, pattern: str, size: int) -> list[str]:
    """Return lines that begin as the pattern does, and go on with one thing, repeated."""
    return [f"{begin}{(piece * size)[:size]}{end}"
            for piece in dict.fromkeys(pieces(pattern)) for end in ("", "x", "!", " ")]  # fmt: skip


def seconds_of(search: Callable[[str], object], lines: list[str]) -> float:
    began = time.process_time()
    for line in lines:
        search(line)
    return time.process_time() - began


def is_linear(search: Callable[[str], object], begins: list[str], pattern: str) -> None:
    for begin in begins:
        short = hostile_lines(begin, pattern, SIZE // 8)
        long = hostile_lines(begin, pattern, SIZE)
        taken_s = seconds_of(search, long)
        assert taken_s < 0.5 or taken_s < 24 * seconds_of(search, short)


BEGINS = [
    "", "- ", "---- x", "High resolution limit", "Resolution: ", "Resolution:1", "For a/", "x",
    "Used refl. ", "Assuming spacegroup: ", "Unit cell", "Unit cell:", "XIA2 ", "a b @1 1 (",
]  # fmt: skip


@pytest.mark.parametrize("pattern", definition_patterns())
def test_shipped_definitions_have_linear_patterns(pattern: str) -> None:
    compiled = re.compile(pattern, re.MULTILINE)
    is_linear(lambda line: list(compiled.finditer(line)), BEGINS, pattern)


def table_patterns(table: Path) -> list[str]:
    """Return the patterns of a shipped table of known errors, as they are searched for."""
    return [each.pattern for each in read_table(table) if EXIT_STATUS not in places(each)]


TABLES = sorted(SHIPPED_PROGRAMS.glob("errors/*.yaml"))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.stem)
def test_shipped_tables_of_errors_have_linear_patterns(table: Path) -> None:
    for pattern in table_patterns(table):
        compiled = re.compile(pattern, re.MULTILINE)
        begins = ["", "ValueError: ", " ".join(re.findall(r"[A-Za-z]{2,}", pattern)[:2])]
        is_linear(lambda line: list(compiled.finditer(line)), begins, pattern)  # noqa: B023


@pytest.mark.parametrize("module", [gemmi, merging, xia2, ispyb_xml], ids=lambda m: m.__name__)
def test_shipped_parsers_are_linear(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches: list[Callable[[str], object]] = {
        gemmi: [gemmi.merging_statistics, gemmi.column_statistics],
        merging: [merging.merging_statistics],
        xia2: [xia2.printed_solutions, xia2.check_age],
        ispyb_xml: [],
    }[module]
    for search in searches:

        def read(text: str, search: Callable[..., object] = search) -> None:
            if module is not xia2:
                monkeypatch.setattr(module, "read", lambda _: text)
            else:
                monkeypatch.setattr(module, "read", lambda _: f"{text}\nUnit cell:\n{text}\n{text}")
            arguments = (Path("x"), {}) if module is not xia2 else (Path("x"),)
            with contextlib.suppress(ProgramError, KeyError):
                search(*arguments)

        is_linear(read, BEGINS, "")


OLD_ROW = re.compile(r"(?P<name>[A-Za-z][^\t]*?)(?:\s*\t|\s{2,})\s*(?P<values>[-\d.].*)")


@settings(max_examples=2000)
@given(st.text("ab \t1-.\u00a0", max_size=12))
def test_rows_are_those_of_the_pattern_that_was_replaced(line: str) -> None:
    line = line.rstrip()
    old = OLD_ROW.fullmatch(line)
    assert merging._row(line) == ((old["name"], old["values"]) if old else None)


def test_a_row_of_blanks_is_read_at_once() -> None:
    assert merging.table([f"High resolution limit{' ' * SIZE}x"]) == {}
