"""Rules of typed inputs: what is accepted, what is converted, what a form and a shell get."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from zwrap.configuration.site import Configuration
from zwrap.errors import ProgramError, UnknownNameError
from zwrap.program import invocation
from zwrap.program.checks.forms import completions, schema
from zwrap.program.checks.parameters import remark, unknown_parameters
from zwrap.program.definition import Definition
from zwrap.program.reading import (
    INLINE_PROGRAM,
    SHIPPED_PROGRAMS,
    parse_definition,
    program_names,
    read_definition,
)
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.wrapper.permission import permitted_program


def definition(**values: Any) -> Definition:
    return parse_definition({"command": ["run"], **values}, "test.yaml", "prog")


def value(declared: dict[str, Any], given: Any) -> Any:
    """Return the value of input `x`, to which a step gives `given`."""
    defined = definition(inputs={"x": declared})
    return invocation.values(defined, {"x": given}, None, {})["x"]


@pytest.mark.parametrize(
    ("declared", "given", "expected"),
    [
        ({"type": "integer"}, "3", 3),
        ({"type": "integer"}, 3.0, 3),
        ({"type": "number"}, "1.5", 1.5),
        ({"type": "number"}, " 2e-3 ", 0.002),
        ({"type": "number"}, "7", 7),
        ({"type": "boolean"}, "true", True),
        ({"type": "boolean"}, "No", False),
        ({"type": "boolean"}, 1, True),
        ({"type": "text"}, 19, "19"),
        ({"type": "text"}, "P 21", "P 21"),
        ({"type": "file"}, "/d/a b.cbf", "/d/a b.cbf"),
        ({"type": "list", "items": "integer"}, ["1", 2], [1, 2]),
        ({"type": "list", "items": "number"}, "1.5", [1.5]),
        ({"type": "list"}, "a,b", ["a,b"]),
        ({"type": "number", "choices": [1, 2.5]}, "2.5", 2.5),
        ({"type": "text", "choices": ["dials", "3d"]}, "3d", "3d"),
        ({"type": "number", "minimum": 0.3, "maximum": 50}, "0.3", 0.3),
        ({"type": "text", "pattern": "[a-z]+|x1"}, "x1", "x1"),
        ({"type": "integer"}, "", ""),
        ({"type": "integer"}, None, None),
        ({"type": "list", "items": "file"}, [], []),
        ({}, {"any": ["value"]}, {"any": ["value"]}),
    ],
)
def test_a_value_that_fits_has_the_type_of_its_input(
    declared: dict[str, Any], given: Any, expected: Any
) -> None:
    found = value(declared, given)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("declared", "given", "complaint"),
    [
        ({"type": "integer"}, "3.5", "is '3.5'; a whole number is expected"),
        ({"type": "integer"}, True, "is True; a whole number is expected"),
        ({"type": "number"}, "nan", "a number is expected"),
        ({"type": "number"}, float("inf"), "a number is expected"),
        ({"type": "number"}, "1_000", "a number is expected"),
        ({"type": "number"}, "9" * 101, "a number is expected"),
        ({"type": "boolean"}, "maybe", "is 'maybe'; true or false is expected"),
        ({"type": "boolean"}, 2, "true or false is expected"),
        ({"type": "text"}, ["a"], "a text is expected"),
        ({"type": "text"}, True, "a text is expected"),
        ({"type": "file"}, 5, "the name of a file is expected"),
        ({"type": "file"}, "a\0b", "the name of a file is expected"),
        (
            {"type": "list", "items": "integer", "description": "images"}, [1, "x"],
            r"Input 'x' of program 'prog', entry 2 \(images\) is 'x'; a whole number",
        ),
        ({"type": "text", "choices": ["dials", "3d"]}, "2d", "one of 'dials', '3d' is expected"),
        (
            {"type": "number", "minimum": 0.3, "maximum": 50}, "51",
            "is '51'; a number from 0.3 to 50 is expected",
        ),
        ({"type": "integer", "minimum": 1}, 0, "a whole number of at least 1 is expected"),
        ({"type": "text", "pattern": "[a-z]+"}, "ab\ncd", r"a text that matches \[a-z\]\+"),
        ({"type": "text", "pattern": "(a|aa)+"}, "a" * 5000 + "b", "given up after 1 s|matches"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_refused_with_what_is_accepted(
    declared: dict[str, Any], given: Any, complaint: str
) -> None:
    with pytest.raises(ProgramError, match=complaint):
        value(declared, given)


@pytest.mark.parametrize("kind", ["integer", "number", "text", "boolean", "file"])
def test_a_number_of_thousands_of_digits_is_refused(kind: str) -> None:
    """Python does not write such numbers, which JSON may hold."""
    with pytest.raises(ProgramError, match="is a number of more digits than can be shown; "):
        value({"type": kind}, 10**5000)


@pytest.mark.parametrize(
    ("group", "given", "complaint"),
    [
        ({"one_of": ["a", "b"]}, {"a": "1"}, None),
        (
            {"one_of": ["a", "b"]},
            {"a": "1", "b": "2"},
            "exactly one of the inputs 'a', 'b'.*'a', 'b'",
        ),
        ({"one_of": ["a", "b"]}, {}, "exactly one of the inputs 'a', 'b'.*none of them"),
        ({"any_of": ["a", "b"]}, {"a": "1", "b": "2"}, None),
        ({"any_of": ["a", "b"]}, {"a": ""}, "at least one of the inputs"),
        ({"together": ["a", "b"]}, {}, None),
        ({"together": ["a", "b"]}, {"a": "1", "b": "2"}, None),
        ({"together": ["a", "b"]}, {"b": "2"}, "all of the inputs 'a', 'b', or none.*give 'b'"),
        ({"together": ["a", "flag"]}, {"flag": "no"}, None),
    ],
)
def test_inputs_that_depend_on_each_other_are_checked(
    group: dict[str, Any], given: dict[str, Any], complaint: str | None
) -> None:
    defined = definition(inputs={"a": {}, "b": {}, "flag": {"type": "boolean"}}, groups=[group])
    if complaint is None:
        invocation.values(defined, given, None, {})
        return
    with pytest.raises(ProgramError, match=complaint):
        invocation.values(defined, given, None, {})


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"inputs": {"x": {"type": "txt"}}}, "Unknown word 'txt'"),
        ({"inputs": {"x": {"items": "text"}}}, "input 'x': 'items' .* 'type: list' is expected"),
        ({"inputs": {"x": {"type": "list", "file": True}}}, "of a list, 'items: file'"),
        ({"inputs": {"x": {"choices": ["a"]}}}, "need the type of the value"),
        ({"inputs": {"x": {"type": "text", "minimum": 1}}}, "need 'type: integer' or"),
        ({"inputs": {"x": {"type": "number", "minimum": 2, "maximum": 1}}}, "'minimum' is above"),
        ({"inputs": {"x": {"type": "number", "pattern": "a"}}}, "'pattern' is for"),
        ({"inputs": {"x": {"type": "text", "pattern": "("}}}, "no.* valid regular expression"),
        ({"inputs": {"x": {"type": "integer", "choices": [1, "a"]}}}, "'a' among the 'choices'"),
        ({"inputs": {"x": {"type": "integer", "default": "a"}}}, "its 'default' is 'a'; a whole"),
        ({"groups": [{"one_of": ["a"]}], "inputs": {"a": {}}}, "at least two inputs"),
        ({"groups": [{}]}, "one of 'one_of', 'any_of' and 'together'"),
        (
            {
                "groups": [{"one_of": ["a", "b"], "any_of": ["a", "b"]}],
                "inputs": {"a": {}, "b": {}},
            },
            "one of 'one_of', 'any_of' and 'together'",
        ),
        (
            {"groups": [{"any_of": ["sites", "model"]}], "inputs": {"sites": {}, "mode": {}}},
            "Unknown input 'model'.*Did you mean 'mode'",
        ),
        (
            {"groups": [{"one_of": ["a", "b"]}], "inputs": {"a": {"default": "x"}, "b": {}}},
            "input 'a' has a default",
        ),
    ],
)
def test_a_fault_of_inputs_is_found_when_the_definition_is_read(
    values: dict[str, Any], complaint: str
) -> None:
    with pytest.raises((ProgramError, UnknownNameError), match=complaint):
        definition(**values)


def test_a_default_with_a_placeholder_is_converted_when_it_is_filled_in() -> None:
    defined = definition(inputs={"x": {"type": "integer", "default": "{payload[count]}"}})
    assert invocation.values(defined, {}, {"count": "4"}, {})["x"] == 4


@pytest.mark.parametrize("declared", [{"type": "file"}, {"type": "list", "items": "file"}])
def test_files_of_typed_inputs_must_exist(declared: dict[str, Any], tmp_path: Path) -> None:
    defined = definition(inputs={"x": declared})
    known = invocation.values(defined, {"x": "gone"}, None, {})
    with pytest.raises(ProgramError, match="Input 'x' of program 'prog' is 'gone', which does not"):
        invocation.check_files(defined, known, tmp_path)


# -- job parameters that are not known -------------------------------------------------------------

KNOWN = {
    "inputs": {"d_min": {}, "jobs": {"block": "limits_of"}},
    "options": [{"block": "ispyb_options"}],
    "set_up_key": "commands",
    "ignored": ["s3echo"],
    "outputs": {"o": {"file": "f", "parser": "text", "unless": "no_output"}},
    "files": [{"pattern": "{crystal}.mtz"}],
    "write": [{"file": "a", "template": "{% if sites %}{{ sites }}{% endif %}"}],
    "messages": {"m": "{$REPLACE:scaling_id}", "n": {"if": "with_mail", "then": {"a": 1}}},
}


def test_a_job_parameter_that_nobody_reads_is_named_with_the_nearest_one() -> None:
    defined = definition(**KNOWN)
    used = ["d_min", "limits_of", "ispyb_options", "commands", "s3echo", "no_output", "crystal",
            "sites", "scaling_id", "with_mail", "prog",
            "working_directory", "results_directory", "timeout",
            "create_symlink", "pipeline-final", "dcid"]  # fmt: skip
    assert unknown_parameters(defined, dict.fromkeys(used)) == []
    found = remark(defined, {"dmin": 2, "prog": {"d_mim": 1, "d_min": 2}, "timeout-minutes": 3})
    assert found == (
        "job_parameters: program 'prog' knows no key 'dmin' (did you mean 'd_min'?); no key "
        "'timeout-minutes' (did you mean 'timeout'?); no key 'prog', key 'd_mim' (did you mean "
        "'d_min'?) (test.yaml)"
    )


def test_all_keys_of_a_block_that_is_options_or_an_input_are_known() -> None:
    for values in ({"options": [{"block": "prog"}]}, {"inputs": {"prog": {"required": True}}}):
        assert unknown_parameters(definition(**values), {"prog": {"any.option": 1}}) == []


def test_the_wrapper_warns_of_unknown_job_parameters(caplog: pytest.LogCaptureFixture) -> None:
    node = {"queue": "q", "job_parameters": {"unmerged": "a.mtz", "mergd": "b.mtz"}}
    envelope = Envelope(Recipe({"start": [[1, []]], "1": node}), 1)
    with caplog.at_level(logging.WARNING):
        permitted_program("gemmi-merge", envelope, Configuration.from_string("version: 1"), None)
    assert "Node 1, job_parameters: program 'gemmi-merge' knows no key 'mergd' (did you mean " in (
        caplog.text
    )


# -- forms and shells ------------------------------------------------------------------------------


def test_the_schema_of_a_program_holds_what_a_form_needs() -> None:
    defined = definition(
        description="What it does",
        inputs={
            "model": {"type": "file", "required": True, "description": "a model"},
            "d_min": {"type": "number", "minimum": 0.3, "maximum": 50, "default": 2},
            "mode": {"type": "text", "choices": ["fast", "slow"]},
            "images": {"type": "list", "items": "file"},
            "old": {"file": True},
            "memory": {"type": "integer", "block": "limits_of"},
        },
        groups=[{"any_of": ["mode", "images"]}, {"together": ["mode", "old"]}],
    )
    name = {"type": "string", "format": "path"}
    assert schema(defined) == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "prog",
        "description": "What it does",
        "type": "object",
        "required": ["model"],
        "properties": {
            "model": {**name, "title": "model", "description": "a model", "order": 1},
            "d_min": {"type": "number", "minimum": 0.3, "maximum": 50.0, "default": 2,
                      "title": "d_min", "order": 2},
            "mode": {"type": "string", "enum": ["fast", "slow"], "title": "mode", "order": 3},
            "images": {"type": "array", "items": name, "title": "images", "order": 4},
            "old": {"anyOf": [name, {"type": "array", "items": name}], "title": "old", "order": 5},
            "limits_of": {
                "type": "object",
                "properties": {"memory": {"type": "integer", "title": "memory", "order": 6}},
            },
        },
        "allOf": [
            {"anyOf": [{"required": ["mode"]}, {"required": ["images"]}]},
            {"dependentRequired": {"mode": ["old"], "old": ["mode"]}},
        ],
    }  # fmt: skip


@pytest.mark.parametrize("name", [name for name in program_names() if name != INLINE_PROGRAM])
def test_every_shipped_program_has_a_form(name: str) -> None:
    defined = read_definition(SHIPPED_PROGRAMS / f"{name}.yaml")
    found = schema(defined)["properties"]
    assert isinstance(found, dict)
    assert {*found} >= {key for key, each in defined.inputs.items() if each.block is None}


@pytest.mark.parametrize(
    ("word", "given", "expected"),
    [
        ("", [], ["mode=", "images=", "flag="]),
        ("", ["mode=fast", "images=a"], ["images=", "flag="]),
        ("m", [], ["mode="]),
        ("mode=", [], ["mode=fast", "mode=slow"]),
        ("mode=s", [], ["mode=slow"]),
        ("flag=t", [], ["flag=true"]),
        ("images=/d", [], []),
        ("gone=", [], []),
    ],
)
def test_a_shell_completes_inputs_and_their_choices(
    word: str, given: list[str], expected: list[str]
) -> None:
    defined = definition(
        inputs={
            "mode": {"type": "text", "choices": ["fast", "slow"]},
            "images": {"type": "list", "items": "file"},
            "flag": {"type": "boolean"},
        }
    )
    assert completions(defined, word, given) == expected
