"""Rules of files that are written before a start: their texts, and that no value adds to them."""

from __future__ import annotations

import configparser
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from zwrap.errors import PermanentError, ProgramError
from zwrap.program import invocation
from zwrap.program.definition import SHIPPED_PROGRAMS, Definition
from zwrap.program.files import templating, writing
from zwrap.program.files.dumping import dump
from zwrap.program.files.templating import check_template, rendered
from zwrap.program.keys.options import parameter_files
from zwrap.program.reading import parse_definition, read_definition

DOCS = Path(__file__).parents[2] / "docs" / "programs.md"

INPUTS = {
    "d_min": {"type": "number"},
    "images": {"type": "list", "items": "file"},
    "title": {},
    "cell": {"type": "list", "items": "number"},
    "anomalous": {"type": "boolean"},
}


def definition(*written: dict[str, Any], **values: Any) -> Definition:
    return parse_definition(
        {"command": ["run"], "inputs": INPUTS, "write": list(written), **values},
        "test.yaml",
        "prog",
    )


def content(written: dict[str, Any], payload: object = None, **parameters: Any) -> str:
    """Return the text of the only file of a definition."""
    defined = definition(written)
    known = invocation.values(defined, parameters, payload, {"ID": "guid"})
    [file] = writing.new_files(defined, known)
    return file.content


def names(*written: dict[str, Any], before: str | None = None, **parameters: Any) -> list[str]:
    defined = definition(*written, then=[{"name": "scale", "command": ["scale"]}])
    known = invocation.values(defined, parameters, None, {})
    return [str(file.name) for file in writing.new_files(defined, known, before)]


VALUES = {
    "d_min": "{d_min}",
    "title": "{title}",
    "label": "{title}_1",
    "all": "{images}",
    "each": "{images}:1",
    "from_message": "{payload[dcid]}",
    "kept": "{$REPLACE:payload}",
    "fixed": {"on": True, "off": None, "n": 1.5},
}


def test_values_keep_their_types_and_optional_ones_without_a_value_are_left_out() -> None:
    written = {"file": "job.json", "format": "json", "values": VALUES}
    found = json.loads(content(written, {"dcid": 7}, d_min="2.0", images=["/a b", "/c"]))
    assert found == {
        "d_min": 2.0, "all": ["/a b", "/c"], "each": ["/a b:1", "/c:1"], "from_message": "7",
        "kept": {"dcid": 7}, "fixed": {"on": True, "off": None, "n": 1.5},
    }  # fmt: skip


def test_lists_in_one_text_go_together() -> None:
    written = {"file": "a", "format": "json", "values": {"x": "{images}={cell}"}}
    assert json.loads(content(written, images=["a", "b"], cell=[1, 2])) == {"x": ["a=1", "b=2"]}
    with pytest.raises(ProgramError, match=r"{images} has 1 entries and {cell} has 2 entries"):
        content(written, images=["a"], cell=[1, 2])


def test_yaml_holds_what_was_given() -> None:
    written = {"file": "a.yml", "format": "yaml", "values": VALUES}
    text = content(written, {"dcid": 7}, title="a: b\n- {c} # d", d_min=1)
    assert yaml.safe_load(text) == {
        "d_min": 1, "title": "a: b\n- {c} # d", "label": "a: b\n- {c} # d_1", "from_message": "7",
        "kept": {"dcid": 7}, "fixed": {"on": True, "off": None, "n": 1.5},
    }  # fmt: skip
    assert [*yaml.safe_load(text)][:2] == ["d_min", "title"]


@pytest.mark.parametrize("text", ["a\x85b", "\u2028", "a\u2029\n", "a\r\nb", "\x85#", "a\nb"])
def test_yaml_is_read_as_it_was_written_whatever_ends_its_lines(text: str) -> None:
    values = {"x": text, text: [text]}
    assert yaml.safe_load(dump("yaml", values, "here")) == values


@pytest.mark.parametrize("form", ["phil", "ini", "xds"])
@pytest.mark.parametrize("given", [{"evil": 1}, [{"evil": 1}], [["a"], ["b"]], [[]]])
def test_a_value_adds_keys_and_lines_only_where_the_definition_asks_for_them(
    form: str, given: Any
) -> None:
    with pytest.raises(ProgramError, match=r"key 'write': 'any' is .*\{\$REPLACE:any\} asks for"):
        content({"file": "a", "format": form, "values": {"x": "{any}"}}, any=given)
    with pytest.raises(ProgramError, match="key 'write': 'any' is "):
        content({"file": "a", "format": form, "values": "{any}"}, any=given)


def test_a_definition_may_ask_for_keys_and_lines() -> None:
    written = {"file": "a", "format": "phil", "values": {"x": "{$REPLACE:any}"}}
    assert content(written, any={"y": 1}) == "x {\n  y = 1\n}\n"
    written["format"] = "xds"
    assert content(written, any=[[1, 2], [3, 4]]) == "x= 1 2\nx= 3 4\n"
    written = {"file": "a", "format": "json", "values": {"x": "{any}"}}
    assert json.loads(content(written, any=[{"y": 1}])) == {"x": [{"y": 1}]}


def test_phil_has_scopes_and_quotes_what_it_would_read_as_more() -> None:
    values = {
        "spotfinder": {"threshold": 3, "filter": {"min_spot_size": None}},
        "unit_cell": [1, 2.5, 3],
        "image": [["/a b"], ["/c"]],
        "group": [{"id": 1}, {"id": 2}],
        "flag": True,
        "title": "it's $HOME {x} # y ; z \\",
        "none": [],
    }
    assert dump("phil", values, "here").splitlines() == [
        "spotfinder {", "  threshold = 3", "  filter {", "    min_spot_size = None", "  }", "}",
        "unit_cell = 1 2.5 3", "image = '/a b'", "image = /c", "group {", "  id = 1", "}",
        "group {", "  id = 2", "}", "flag = True", r"title = 'it\'s $HOME {x} # y ; z \\'",
    ]  # fmt: skip


HOSTILE = [
    "it's", '"', "'", "\\", "a\\", "$HOME", "$(PATH)", "{", "}", "a } b { c", "# x", ";", "; y = 2",
    "= 3", "!x", "a b", "'''", '"""', "\\'", "include file /etc/passwd", "None", "*", "µm",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("libtbx.python") is None, reason="cctbx is not installed")
def test_phil_is_read_as_it_was_written() -> None:
    """The reader is that of cctbx, of which DIALS, xia2 and PHENIX make use."""
    values = {f"v{number}": value for number, value in enumerate(HOSTILE)}
    program = (
        "import json, sys, libtbx.phil\n"
        "scope = libtbx.phil.parse(sys.stdin.read())\n"
        "filled = scope.fetch(source=scope)\n"
        "print(json.dumps([[o.name, [w.value for w in o.words]] for o in filled.objects]))\n"
    )
    done = subprocess.run(
        ["libtbx.python", "-c", program], input=dump("phil", values, "here"),
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert json.loads(done.stdout) == [[name, [value]] for name, value in values.items()]


def test_ini_has_values_first_and_then_sections() -> None:
    text = dump("ini", {"a": {"x": 1, "y": "b c"}, "top": True, "b": {"z": None}}, "here")
    assert text == "top = True\n\n[a]\nx = 1\ny = b c\n\n[b]\nz =\n"
    reader = configparser.RawConfigParser()
    reader.read_string(dump("ini", {"a": {"x": 'it\'s = "50 %"'}}, "here"))
    assert dict(reader["a"]) == {"x": 'it\'s = "50 %"'}


def test_xds_inp_has_a_key_and_its_words_on_each_line() -> None:
    values = {
        "JOB": "XYCORR INIT", "UNIT_CELL_CONSTANTS": [78.1, 78.1, 36.9, 90, 90, 90],
        "SPOT_RANGE": [[1, 10], [80, 90]], "FRIEDEL'S_LAW": "FALSE", "STRICT_ABSORPTION": True,
        "REFINE(INTEGRATE)": "CELL", "X-RAY_WAVELENGTH": 0.9795,
    }  # fmt: skip
    assert dump("xds", values, "here").splitlines() == [
        "JOB= XYCORR INIT", "UNIT_CELL_CONSTANTS= 78.1 78.1 36.9 90 90 90", "SPOT_RANGE= 1 10",
        "SPOT_RANGE= 80 90", "FRIEDEL'S_LAW= FALSE", "STRICT_ABSORPTION= TRUE",
        "REFINE(INTEGRATE)= CELL", "X-RAY_WAVELENGTH= 0.9795",
    ]  # fmt: skip


BREAKS = ["a\nb", "a\rb", "a\x0bb", "a\x0cb", "a\x85b", "a\u2028b", "a\0b", "a\x1bb"]


@pytest.mark.parametrize("form", ["phil", "ini", "xds"])
@pytest.mark.parametrize("value", BREAKS)
def test_no_value_ends_its_line(form: Any, value: str) -> None:
    """Else a job parameter could add keys that the definition does not give to senders."""
    with pytest.raises(ProgramError, match=r"here.*key 'x' is .*: a line break"):
        dump(form, {"s": {"x": value}} if form != "xds" else {"x": value}, "here")


@pytest.mark.parametrize(
    ("form", "values", "complaint"),
    [
        ("ini", {"s": {"x": "a ; b"}}, "section 's', key 'x' is 'a ; b': '#' or ';' begins a com"),
        ("ini", {"s": {"x": "# b"}}, "begins a comment"),
        ("ini", {"s": {"x": "%(password)s"}}, "put other values in place"),
        ("ini", {"s": {"x": "${other:key}"}}, "put other values in place"),
        ("ini", {"s": {"x": [1, 2]}}, "which this format cannot hold"),
        ("ini", {"s": {"[t]": 1}}, "cannot be a key"),
        ("ini", {"s": {"a = 1": 1}}, "cannot be a key"),
        ("ini", {"s": {" a": 1}}, "cannot be a key"),
        ("ini", {"a]\n[b": {}}, "cannot be the name of a section"),
        ("xds", {"X": "1 ! 2"}, "'!' begins a comment in XDS.INP"),
        ("xds", {"X": "1 Y= 2"}, "'=' makes a key"),
        ("xds", {"X= 1 Y": 2}, "cannot be a key"),
        ("xds", {"X": {"y": 1}}, "which this format cannot hold"),
        ("phil", {"x": float("nan")}, "which this format cannot hold"),
        ("phil", {"include": "file x"}, "'include' cannot be a key"),
        ("phil", {"a = 1": 2}, "cannot be a key"),
        ("phil", {"a\nb": 2}, "cannot be a key"),
        ("phil", [1], "values by key are expected"),
    ],
)  # fmt: skip
def test_what_would_be_read_as_more_than_a_value_is_refused(
    form: Any, values: Any, complaint: str
) -> None:
    with pytest.raises(ProgramError, match=complaint):
        dump(form, values, "here")


def test_keys_that_a_message_brings_are_checked_too() -> None:
    written = {"file": "XDS.INP", "format": "xds", "values": "{$REPLACE:payload}"}
    assert content(written, {"NX": 1}) == "NX= 1\n"
    with pytest.raises(ProgramError, match="cannot be a key"):
        content(written, {"NX= 1\nLIB": "evil.so"})


@pytest.mark.parametrize("form", ["json", "yaml", "phil", "ini", "xds"])
def test_a_value_that_no_text_can_hold_is_told(form: Any) -> None:
    with pytest.raises(ProgramError, match="here: the values cannot be written: Exceeds the limit"):
        dump(form, {"x": 10**5000}, "here")


@pytest.mark.parametrize(
    "parameters",
    [
        {"xia2": {"spotfinder.threshold": "3\nspotfinder.mask = x"}},
        {
            "xia2": {"dials.integrate.phil_file": "memory.phil"},
            "dials.integrate.phil_file": {"max_memory_usage": "0.9\n}\nextra = 1"},
        },
    ],
)
def test_no_value_adds_a_line_to_the_file_of_an_option(parameters: dict[str, Any]) -> None:
    defined = read_definition(SHIPPED_PROGRAMS / "xia2.yaml")
    known = invocation.values(defined, parameters, None, {})
    with pytest.raises(ProgramError, match=r"file for option .* has several lines; one"):
        parameter_files(defined, known)


def test_a_file_has_a_largest_size() -> None:
    with pytest.raises(ProgramError, match="more than 33554432 bytes"):
        dump("json", ["x" * 1000] * 40_000, "here")


# -- templates -------------------------------------------------------------------------------------


def test_a_template_sees_the_values_of_the_step() -> None:
    text = (
        "{% for image in images %}\nimage {{ image }}\n{% endfor %}\n"
        "{% if d_min is not none %}\nres {{ '%6.2f'|format(d_min) }}\n{% endif %}\n"
        "id {{ payload.dcid }} {{ environment.ID }} {{ title.upper() }}\n"
    )
    found = content({"file": "a", "template": text}, {"dcid": 7}, images=["/a b"], title="x")
    assert found == "image /a b\nid 7 guid X\n"
    found = content({"file": "a", "template": text}, {"dcid": 7}, d_min="2", title="x", images=[])
    assert "res   2.00\n" in found


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{{ gone }}", "line 1 of the template: 'gone' is undefined"),
        ("a\n{{ payload.gone }}", "line 2 of the template: .*has no attribute 'gone'"),
        ("\n{{ title }}", "line 2 of the template: 'a.*' has a line break.*filter 'lines'"),
        ("{{ d_min }}", "is null; {% if NAME is not none %}"),
        ("{{ images }}", r"\['/a'\] is printed; a single value is expected"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ title.__class__ }}", "unsafe"),
        ("{{ title.format(1) }}", "unsafe"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ self._TemplateReference__context }}", "unsafe"),
        ("{{ environ }}", "'environ' is undefined"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{{ 'x' * 1000000000 }}", "numbers of a usual size"),
        ("{{ 9 ** 99999 }}", "numbers of a usual size"),
        ("{{ '%99999d'|format(1) }}", "a width of more than 999"),
        ("{{ title|center(999999999) }}", "No filter named 'center'"),
        ("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
         "given up after 1000000 steps"),
        ("{{ long|join(long) }}", "'replace' and 'join' make more than 33554432 characters"),
        ("{{ long|replace('', long) }}", "'replace' and 'join' make more than"),
        ("{{ range(9999)|map('replace', '1', long)|list|length }}", "'replace' and 'join' make"),
        ("{{ [gone]|join }}", "'gone' is undefined"),
        ("{{ [1]|batch(999999999)|list }}", "No filter named 'batch'"),
        ("{{ [1]|slice(999999999)|list }}", "No filter named 'slice'"),
        ("{% for a in range(100001) %}{% endfor %}", "Range too big"),
        ("{% for a in range(90000) %}{{ long }}{% endfor %}", "more than 33554432 characters"),
    ],
)  # fmt: skip
def test_a_template_that_asks_for_more_is_refused(text: str, complaint: str) -> None:
    values: dict[str, Any] = {
        "title": "a\nb", "images": ["/a"], "d_min": None, "payload": {}, "long": "x" * 10_000,
    }  # fmt: skip
    with pytest.raises(ProgramError, match=complaint):
        rendered(text, values, "here")


def test_filters_that_join_and_replace_do_it_as_those_of_jinja() -> None:
    rows = [{"n": 1}, {"n": None}]
    text = "{{ rows|join(', ', attribute='n') }} {{ [1, 'b']|join }} {{ 'aaa'|replace('a', x, 2) }}"
    assert rendered(text, {"rows": rows, "x": 5}, "here") == "1, None 1b 55a"
    assert rendered("{{ 'abab'|replace('b', '') }}{{ ''|join(x) }}", {"x": "y"}, "here") == "aa"


def test_a_template_that_is_only_checked_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what is constant in it would take time and memory of those who check a definition."""
    ran: list[str] = []
    monkeypatch.setattr(templating, "_formatted", lambda form: ran.append(form) or form)
    text = "{{ 'a'|format }}{% if 'b'|format == 'b' %}{% endif %}{% set x = 'c'|format %}"
    check_template(text, "here")
    assert ran == []
    assert rendered(text, {}, "here") == "a"
    assert ran == ["a", "b", "c"]


def test_a_text_of_several_lines_is_printed_where_the_template_says_so() -> None:
    assert (
        rendered("> a\n{{ sequence|lines }}\n", {"sequence": "MK\nLV"}, "here") == "> a\nMK\nLV\n"
    )


def test_a_template_quotes_values_as_its_format_wants_them() -> None:
    text = "{{ x|phil }} {{ y|phil }} {{ x|tojson }}"
    assert rendered(text, {"x": "$HOME }", "y": 1.5}, "here") == "'$HOME }' 1.5 \"$HOME }\""
    with pytest.raises(ProgramError, match=r"line 1 of the template: it is .*: a line break"):
        rendered(text, {"x": "a\nb", "y": None}, "here")


def test_the_process_s_environment_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hidden")
    defined = definition({"file": "a", "template": "{{ environment }}"})
    known = invocation.values(defined, {}, None, {"ID": "guid"})
    with pytest.raises(ProgramError) as caught:
        writing.new_files(defined, known)
    assert "hidden" not in str(caught.value)


def test_a_template_may_lie_beside_its_definition(tmp_path: Path) -> None:
    file = tmp_path / "prog.yaml"
    file.write_text(
        "command: [run]\nwrite: [{file: run.inp, template_file: parts/run.inp.j2}]\n"
        "inputs: {x: {}}\n"
    )
    with pytest.raises(ProgramError, match=r"parts/run\.inp\.j2 cannot be read: No such file"):
        read_definition(file)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "run.inp.j2").write_text("x {{ x }}")
    [made] = writing.new_files(defined := read_definition(file), {"x": 1})
    assert (made.content, str(made.name)) == ("x 1", "run.inp")
    assert defined.write[0].overwrite is False


@pytest.mark.parametrize("name", ["/etc/passwd", "../up.j2"])
def test_a_template_lies_nowhere_else(tmp_path: Path, name: str) -> None:
    file = tmp_path / "prog.yaml"
    file.write_text(f"command: [run]\nwrite: [{{file: a, template_file: {name}}}]\n")
    with pytest.raises(ProgramError, match="is not beside the definition"):
        read_definition(file)
    with pytest.raises(ProgramError, match="is not beside the definition"):
        parse_definition(
            {"command": ["a"], "write": [{"file": "a", "template_file": "b"}]},
            "job_parameters",
            "c",
        )


# -- which files -----------------------------------------------------------------------------------


def test_a_file_whose_input_has_no_value_is_not_written() -> None:
    plain = {"format": "json", "values": {"a": 1}}
    written = [
        {"file": "{title}.json", **plain},
        {"file": "flag.json", "only_if": "anomalous", **plain},
        {"file": "later.json", "before": "scale", **plain},
    ]
    assert names(*written) == []
    assert names(*written, title="t", anomalous="false") == ["t.json"]
    assert names(*written, anomalous="true") == ["flag.json"]
    assert names(*written, before="scale") == ["later.json"]


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ({"file": "a"}, "one of 'format' .with 'values'., 'template' and 'template_file'"),
        ({"file": "a", "format": "json"}, "'format' and 'values' belong together"),
        ({"file": "a", "template": "x", "values": {"a": 1}}, "belong together"),
        ({"file": "../a", "template": "x"}, "below the directory of the run"),
        ({"file": "/a", "template": "x"}, "below the directory of the run"),
        ({"file": ".zwrap/a", "template": "x"}, "below the directory of the run"),
        ({"file": "a", "template": "{% if %}"}, r"test\.yaml, file 'a', line 1 of the template"),
        ({"file": "a", "template": "x", "only_if": "anomalos"}, "Did you mean 'anomalous'"),
        ({"file": "a", "format": "toml", "values": {"a": 1}}, "Unknown word 'toml'"),
    ],
)
def test_a_fault_of_a_file_is_found_when_the_definition_is_read(
    written: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(PermanentError, match=complaint):
        definition(written)


@pytest.mark.parametrize("key", ["link", "copy"])
@pytest.mark.parametrize("name", ["../a", "/a", ".zwrap/x", "../", ""])
def test_a_name_of_a_definition_leads_nowhere_else(key: str, name: str) -> None:
    with pytest.raises(ProgramError, match=f"key '{key}': the name .* leads out of the directory"):
        definition(**{key: {name: "/d/a.pdb"}})
    assert definition(**{key: {"data/": "/d/a.pdb", "{title}": "/d/b.pdb"}})


@pytest.mark.parametrize("title", ["../../etc/x", "/etc/x", "..", ".zwrap/t/outbox/x", "a\0b"])
def test_a_name_that_a_step_gives_leads_nowhere_else(title: str) -> None:
    with pytest.raises(ProgramError, match="leads out of the directory of the run"):
        names({"file": "{title}", "template": "x"}, title=title)
    defined = definition(link={"{title}": "/d/a.pdb"})
    known = invocation.values(defined, {"title": title}, None, {})
    with pytest.raises(ProgramError, match="leads out of the directory of the run"):
        list(writing.placed_files(defined, known, "link"))


def test_files_of_a_list_go_into_a_directory_under_their_names() -> None:
    defined = definition(copy={"data/": "{images}", "x.pdb": "{title}"})
    known = invocation.values(defined, {"images": ["/d/1.cbf", "/e/2.cbf"]}, None, {})
    found = [(str(each.name), each.source) for each in writing.placed_files(defined, known, "copy")]
    assert found == [("data/1.cbf", "/d/1.cbf"), ("data/2.cbf", "/e/2.cbf")]
    known = invocation.values(defined, {"images": ["/d/1.cbf", "/e/1.cbf"]}, None, {})
    with pytest.raises(ProgramError, match="several of the files have the same name"):
        list(writing.placed_files(defined, known, "copy"))
    defined = definition(copy={"one": "{images}"})
    with pytest.raises(ProgramError, match="2 files cannot have one name"):
        list(writing.placed_files(defined, known, "copy"))


@pytest.mark.parametrize("heading", ["Inputs", "Files before the start"])
def test_the_example_of_each_section_is_a_definition(heading: str) -> None:
    section = DOCS.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    example = yaml.safe_load(section.partition("```yaml\n")[2].partition("```")[0])
    names = ("cell", "space_group", "images", "d_min", "model")
    values = {"command": ["run"], "inputs": {name: {} for name in names}, **example}
    assert parse_definition(values, "docs", "prog").name == "prog"
