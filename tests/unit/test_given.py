"""Rules for values of a step: blocks of job parameters, texts that hold lists, options."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from zwrap.errors import ProgramError, RecipeError
from zwrap.message.limits import Limits
from zwrap.program import invocation
from zwrap.program.checks.parameters import unknown_parameters
from zwrap.program.definition import Definition
from zwrap.program.keys.options import option_arguments
from zwrap.program.parsers.table import parse
from zwrap.program.reading import parse_definition


def definition(**values: Any) -> Definition:
    return parse_definition({"command": ["run"], **values}, "test.yaml", "prog")


def known(defined: Definition, **parameters: Any) -> dict[str, Any]:
    return invocation.values(defined, parameters, None, {})


BLOCKS = definition(blocks=["first", "second"], inputs={"a": {}, "b": {"default": 0}})


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"a": 1}, 1),
        ({"a": 1, "prog": {"a": 2}}, 2),
        ({"a": 1, "prog": {"a": 2}, "second": {"a": 3}}, 3),
        ({"a": 1, "second": {"a": 3}, "first": {"a": 4}}, 4),
        ({"a": 1, "second": {"a": ""}, "first": {"a": []}}, 1),
        ({"a": 1, "first": None, "second": [2]}, 1),
    ],
)
def test_entries_of_blocks_go_before_the_rest_the_first_block_before_all(
    given: dict[str, Any], value: int
) -> None:
    assert known(BLOCKS, **given)["a"] == value


def test_a_block_is_no_unknown_parameter() -> None:
    assert unknown_parameters(BLOCKS, {"first": {"a": 1}}) == []


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("x.expt;x.refl", ["x.expt", "x.refl"]),
        (["x.expt; x.refl", "y.expt;"], ["x.expt", "x.refl", "y.expt"]),
        ([1, "x"], [1, "x"]),
        (5, 5),
        (None, None),
    ],
)
def test_a_text_with_separators_is_a_list(given: object, value: object) -> None:
    defined = definition(inputs={"data": {"split": ";"}})
    assert known(defined, data=given)["data"] == value


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("/d/x_0001.cbf:1:180", "x_####.cbf /d 1-180 x0x"),
        ("/d/1/a2_00042.cbf.gz:3:9", "a2_#####.cbf.gz /d/1 3-9 x0a2"),
        ("/d/a.0001:1:2", "a.#### /d 1-2 x0a."),
        ("/y_1_master.h5:1:50", "y_1_master.h5 / 1-50 x0y1"),
        ("only.cbf:1:1", "only.cbf . 1-1 x0only.cbf"),
    ],
)
def test_a_sweep_of_images_is_given_in_the_form_that_a_program_takes(
    given: str, value: str
) -> None:
    form = "{template} {directory} {first}-{last} {id}"
    defined = definition(inputs={"images": {"sweep": form}})
    assert known(defined, images=given)["images"] == [value]
    assert known(defined)["images"] is None


@pytest.mark.parametrize("given", ["/d/x_0001.cbf", "/d/x:1", 5, "", ["/d/x_0001.cbf:1:2", "/d"]])
def test_what_is_no_sweep_is_said(given: object) -> None:
    defined = definition(inputs={"images": {"sweep": "{path}"}})
    if given == "":
        assert known(defined, images=given)["images"] == ""
        return
    with pytest.raises(ProgramError, match=r"Input 'images' of program 'prog' is .*0001.cbf:1:180"):
        known(defined, images=given)


def test_sweeps_of_any_names_are_read_in_a_moment() -> None:
    defined = definition(inputs={"images": {"sweep": "{template}"}})
    name = "1" * 4000 + "!"
    began = time.process_time()
    assert known(defined, images=[f"/d/{name}:1:2"] * 250)["images"] == [name] * 250
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("given", "why"),
    [("/d/" + "a" * 4096 + ":1:2", "at most 4096 characters"),
     (["/d/" + "a" * 4000 + ":1:2"] * 300, "more than 1048576 characters")],
)  # fmt: skip
def test_sweeps_have_a_largest_size(given: object, why: str) -> None:
    with pytest.raises(ProgramError, match=f"Input 'images' of program 'prog' .*{why}"):
        known(definition(inputs={"images": {"sweep": "{path}"}}), images=given)


def test_all_inputs_of_a_step_share_one_bound_on_what_is_filled_in() -> None:
    inputs = {name: {} for name in "abcd"}
    parameters = dict.fromkeys(inputs, "{large}") | {"large": "x" * 300}
    limits = Limits(filled_bytes=1000)
    defined = definition(inputs=inputs)
    with pytest.raises(RecipeError, match="more than 1000 bytes"):
        invocation.values(defined, parameters, None, {}, limits=limits)
    parameters["d"] = "small"
    assert invocation.values(defined, parameters, None, {}, limits=Limits(filled_bytes=1200))


@pytest.mark.parametrize("form", ["{paths}", "{path", "{}", "{path.x}", "{path[0]}", "{0}"])
def test_a_form_of_sweeps_with_another_placeholder_is_a_fault(form: str) -> None:
    with pytest.raises(ProgramError, match=r"input 'images': 'sweep' is .*\{path\}, \{directory\}"):
        definition(inputs={"images": {"sweep": form}})


def options(block: dict[str, Any], **option: Any) -> list[str]:
    defined = definition(options=[{"block": "block", **option}])
    return option_arguments(defined, known(defined, block=block))


def test_a_list_of_an_option_is_one_argument_if_the_definition_says_so() -> None:
    block = {"rlims": [1.5, 2], "other": [1, 2]}
    assert options(block, join=["rlims"]) == ["rlims=1.5,2", "other=1", "other=2"]


def test_entries_that_are_no_options_are_left_out() -> None:
    assert options({"sample_id": 1, "d_min": 2}, without=["sample_id"]) == ["d_min=2"]


# -- columns of JSON -----------------------------------------------------------------------------


def test_an_object_of_lists_becomes_rows(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"x": {"a": [1, 2], "b": [NaN, "c"]}}')
    rows = parse("json", file, {"key": "x", "columns": True})
    assert rows == [{"a": 1, "b": None}, {"a": 2, "b": "c"}]


@pytest.mark.parametrize("text", ["{}", "[[1]]", '{"a": [1], "b": [1, 2]}', '{"a": 1}'])
def test_what_has_no_columns_of_one_length_is_a_complaint(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(ProgramError, match=r"a\.json holds no object of lists of one length"):
        parse("json", file, {"columns": True})
