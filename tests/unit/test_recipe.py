"""Rules of recipes: validation, merging, substitution."""

from __future__ import annotations

import copy
import io
import json
import string
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from rich.console import Console

from zwrap.errors import MessageError, RecipeError
from zwrap.recipe import drawing
from zwrap.recipe.graph import Recipe
from zwrap.recipe.remarks import lonely_exchanges, unfilled_remark
from zwrap.recipe.substitution import fill, substitute
from zwrap.recipe.validation import TOLD, complaints

SOUND: dict[str, Any] = {
    "start": [[1, {"a": 1}]],
    "error": 4,
    "1": {"queue": "one", "output": {"x": 2, "many": [2, 3], "none": None, "deep": {"y": 3}}},
    "2": {"queue": "two", "output": 3},
    "3": {"topic": "three"},
    "4": {"queue": "errors"},
}


def test_a_recipe_is_normalised_as_python_workflows_does() -> None:
    recipe = Recipe(SOUND)
    assert recipe.error == [4]
    assert recipe[2]["output"] == [3]
    assert recipe[1]["output"]["x"] == 2
    assert recipe.start == [(1, {"a": 1})]
    assert set(recipe.nodes) == {1, 2, 3, 4}


def test_a_recipe_goes_through_json_unchanged() -> None:
    recipe = Recipe(SOUND)
    assert Recipe(json.loads(recipe.to_json())) == recipe
    assert recipe == recipe.to_json()
    assert recipe == SOUND
    assert recipe != {}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"start": None}, "key 'start' must be a non-empty list"),
        ({"start": []}, "key 'start' must be a non-empty list"),
        ({"start": [[9, 0]]}, "key 'start', entry 0: node 9 does not exist"),
        ({"start": [[1, 0, 0]]}, "key 'start', entry 0: [1, 0, 0] is not a [node, payload] pair"),
        ({"start": [[1]]}, "key 'start', entry 0: [1] is not a [node, payload] pair"),
        ({"0": {}}, "key '0' is neither a node number above 0, nor 'start', nor 'error'"),
        ({"title": "x"}, "key 'title' is neither a node number"),
        ({"5": ["list"]}, "node 5 is a list; an object is expected"),
        (
            {"2": {"output": "3"}},
            "node 2, key 'output': '3' is not a node number, a list of them or named outputs",
        ),
        ({"2": {"output": None}}, "node 2, key 'output': None is not"),
        ({"2": {"output": 7}}, "node 2, key 'output': node 7 does not exist"),
        ({"2": {"output": {"n": 7}}}, "node 2, key 'output', output 'n': node 7 does not exist"),
        ({"2": {"output": [True]}}, "node 2, key 'output': True is not"),
        ({"2": {"output": [{"a": 3}]}}, "node 2, key 'output': {'a': 3} is not"),
        ({"2": {"output": 3, "error": 8}}, "node 2, key 'error': node 8 does not exist"),
        ({"2": {"output": 3, "transport-delay": "x"}}, "key 'transport-delay': 'x' is not a num"),
        ({"error": 9}, "key 'error': node 9 does not exist"),
        ({"error": {"a": 4}}, "key 'error': {'a': 4} is not a node number, a list of them."),
        ({"3": {"output": 1}}, "the nodes form a cycle: 1 -> 2 -> 3 -> 1"),
        ({"3": {"error": 3}}, "the nodes form a cycle: 3 -> 3"),
        ({"6": {"queue": "q"}}, "node 6 is reached from nowhere"),
    ],
)
def test_every_complaint_names_node_and_key(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RecipeError, match="Invalid recipe r: ") as caught:
        Recipe({**SOUND, **change}, "r").validate()
    assert complaint in str(caught.value)


def test_what_is_not_listed_is_counted() -> None:
    def told(count: int) -> str:
        with pytest.raises(RecipeError) as caught:
            Recipe({**SOUND, **{f"x{number}": 0 for number in range(count)}}).validate()
        return str(caught.value)

    assert "further" not in told(TOLD)
    assert told(TOLD + 2).endswith("and 2 further faults.")


def test_all_complaints_are_listed_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe({"x": 1, "start": [[3, 0]], "1": []}).validate()
    for part in ("key 'x' is", "node 3 does not exist", "node 1 is a list"):
        assert part in str(caught.value)


def test_a_null_error_of_a_node_is_as_good_as_none() -> None:
    recipe = {"start": [[1, 0]], 1: {"queue": "q", "error": None}}
    assert complaints(recipe) == []


def test_an_empty_recipe_is_refused() -> None:
    with pytest.raises(RecipeError, match="it is empty"):
        Recipe({}).validate()


def test_a_long_chain_needs_no_recursion() -> None:
    nodes: dict[Any, Any] = {number: {"output": number + 1} for number in range(1, 5000)}
    assert complaints({"start": [[1, 0]], **nodes, 5000: {}}) == []
    [found] = complaints({"start": [[1, 0]], **nodes, 5000: {"output": 1}})
    assert found.startswith("the nodes form a cycle: 1 -> 2 -> 3")


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"x"'])
def test_a_file_that_is_no_recipe_is_refused_with_its_name(text: str, tmp_path: Path) -> None:
    file = tmp_path / "odd.json"
    file.write_text(text)
    with pytest.raises((RecipeError, MessageError), match=r"odd\.json"):
        Recipe.from_file(file)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"/x\.json cannot be read: No such file"):
        Recipe.from_file(tmp_path / "x.json")


def test_merging_renumbers_the_second_and_changes_neither() -> None:
    first, second = Recipe(SOUND), Recipe(SOUND)
    before = first.as_dict()
    merged = first.merged(second)
    merged.validate()
    assert first.as_dict() == second.as_dict() == before
    assert set(merged.nodes) == set(range(1, 9))
    assert merged[5]["output"] == {"x": 6, "many": [6, 7], "none": None, "deep": {"y": 7}}
    assert merged.start == [(1, {"a": 1}), (5, {"a": 1})]
    assert merged.error == [4, 8]


def test_lists_of_error_nodes_may_be_nested_as_lists_of_outputs_may() -> None:
    recipe = Recipe({**SOUND, "error": [[4], 3]})
    recipe.validate()
    assert recipe.error == [4, 3]
    assert recipe.merged(Recipe(SOUND)).error == [4, 3, 8]
    assert Recipe({**SOUND, "error": None}).error == []


def test_a_start_or_node_of_another_form_is_said_where_it_is_used() -> None:
    odd = Recipe({"start": [[1]], 1: ["list"]}, "odd")
    with pytest.raises(RecipeError, match=r"Recipe odd, key 'start': \[1\] is not"):
        _ = odd.start
    with pytest.raises(RecipeError, match="Recipe odd, node 1 is a list; an object is expected"):
        odd.node(1)
    with pytest.raises(KeyError):
        odd.node(2)


def test_error_nodes_of_either_recipe_are_kept_when_they_are_merged() -> None:
    plain = Recipe({"start": [[1, 0]], "1": {"queue": "q"}})
    assert plain.merged(Recipe(SOUND)).error == [5]
    assert Recipe(SOUND).merged(plain).error == [4]
    assert "error" not in plain.merged(plain)


def test_only_valid_recipes_are_merged() -> None:
    odd = Recipe({**SOUND, "9": {}}, "odd")
    for first, second in ((odd, Recipe(SOUND)), (Recipe(SOUND), odd)):
        with pytest.raises(RecipeError, match="Invalid recipe odd: node 9 is reached from nowhere"):
            first.merged(second)


def test_merging_with_an_empty_recipe_gives_the_other() -> None:
    assert Recipe().merged(Recipe(SOUND)) == Recipe(SOUND)
    assert Recipe(SOUND).merged(Recipe()) == Recipe(SOUND)


def test_what_is_handed_out_is_a_copy() -> None:
    definition = copy.deepcopy(SOUND)
    recipe = Recipe(definition)
    definition["1"]["queue"] = "changed"
    recipe.nodes[1]["queue"] = "changed"
    recipe.for_wire()["1"]["queue"] = "changed"
    assert recipe[1]["queue"] == "one"


class Sly:
    secret = "seen"

    def __str__(self) -> str:
        return "sly"


PARAMETERS: dict[str, Any] = {
    "x": "X",
    "n": 7,
    "list": [1, "two"],
    "dict": {"key": "value", "inner": [0, {"z": "deep"}]},
    "USER": "me",
    "sly": Sly(),
    "width": 6,
}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        # What str.format gives, is given.
        ("plain", "plain"),
        ("{x}", "X"),
        ("a {x} b {n} c", "a X b 7 c"),
        ("{n:05d}", "00007"),
        ("{x!r}", "'X'"),
        ("{n:{width}d}", "     7"),
        ("{dict[key]}", "value"),
        ("{list[1]}", "two"),
        ("{dict[inner][1][z]}", "deep"),
        ("{{x}}", "{x}"),
        ("{{{x}}}", "{X}"),
        ("{sly}", "sly"),
        ("${HOME}", "${HOME}"),
        ("${USER}", "$me"),
        # What str.format would refuse, stays.
        ("{}", "{}"),
        ("{0}", "{0}"),
        ("{", "{"),
        ("}", "}"),
        ("{x} and {", "X and {"),
        ("{unknown} and {", "{unknown} and {"),
        ("find . -exec ls {} ; # {x}", "find . -exec ls {} ; # X"),
        ("awk '{print $1}' {x}", "awk '{print $1}' X"),
        ('{"a": {"b": "{x}"}}', '{"a": {"b": "X"}}'),
        ("{unknown}", "{unknown}"),
        ("{unknown[a]}", "{unknown[a]}"),
        ("{unknown:03d}", "{unknown:03d}"),
        ("{unknown!r:>4}", "{unknown!r:>4}"),
        ("{dict[missing]}", "{dict[missing]}"),
        ("{list[9]}", "{list[9]}"),
        ("{list[two]}", "{list[two]}"),
        ("{x:d}", "{x:d}"),
        # Attributes are never looked at.
        ("{sly.secret}", "{sly.secret}"),
        ("{x.__class__.__mro__}", "{x.__class__.__mro__}"),
        ("{dict[key].__class__}", "{dict[key].__class__}"),
        # A structure is inserted for a whole text only.
        ("{$REPLACE:dict} and {x}", "{$REPLACE:dict} and X"),
        ("{$REPLACE:dict}{x}", "{$REPLACE:dict}X"),
    ],
)
def test_filling_in(text: str, filled: str) -> None:
    assert fill(text, PARAMETERS) == filled


@given(st.text(alphabet="{}x[]!:.0 n", max_size=12))
def test_no_text_can_raise(text: str) -> None:
    assert isinstance(fill(text, PARAMETERS), str)


@given(st.text(alphabet=string.ascii_letters + "{}", max_size=12))
def test_whatever_str_format_fills_in_is_filled_in_so(text: str) -> None:
    parameters = {name: f"<{name}>" for name in ("a", "b", "ab")}
    try:
        expected = text.format(**parameters)
    except (KeyError, ValueError, IndexError):
        return
    assert fill(text, parameters) == expected


WORDS = {"x": "a b; $(c) 'd' \"e\" {{f}}\n", "n": 7, "d": {"k": "v w"}}


@pytest.mark.parametrize(
    ("commands", "words"),
    [
        ("printf '%s|' {x} --n={n}", f"{WORDS['x']}|--n=7|"),
        ("printf '%s|' \"{x}\" '{x}'", f"{WORDS['x']}|{WORDS['x']}|"),
        ("printf '%s|' pre{d[k]}post", "prev wpost|"),
        ("printf '%s|' '{{print}}' {unknown} {}", "{print}|{unknown}|{}|"),
        ("{{ printf '%s|' {n}; }}", "7|"),
        ("printf '%s|' {n} }} '{'", "7|}}|{|"),
    ],
)
def test_in_commands_each_value_stays_one_word_when_the_site_says_so(
    commands: str, words: str
) -> None:
    """The shell itself splits the text into words."""
    definition = {"start": [[1, "{x}"]], "1": {"cluster": {"commands": [commands], "{n}": "{x}"}}}
    recipe = Recipe(definition).apply_parameters(WORDS, quote_commands=True)
    assert recipe.start == [(1, WORDS["x"])]
    assert recipe[1]["cluster"]["7"] == WORDS["x"]
    [text] = recipe[1]["cluster"]["commands"]
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout == words


def test_replace_inserts_a_copy_of_the_structure() -> None:
    value = substitute({"k": "{$REPLACE:dict}", "m": "{$REPLACE:missing}"}, PARAMETERS)
    assert value == {"k": PARAMETERS["dict"], "m": None}
    assert value["k"] is not PARAMETERS["dict"]
    assert value["k"]["inner"] is not PARAMETERS["dict"]["inner"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dict[inner]", [0, {"z": "deep"}]),
        ("dict[inner][1]", {"z": "deep"}),
        ("dict[inner][1][z]", "deep"),
        ("list[0]", 1),
        ("n!s", "7"),
        ("dict[missing]", None),
        ("list[9]", None),
        ("dict.keys", None),
        ("unknown[key]", None),
        ("odd.name", "whole"),
    ],
)
def test_replace_finds_what_a_plain_placeholder_finds(name: str, value: object) -> None:
    """The rules are those of python-workflows 3.5, but attributes are never read."""
    parameters = {**PARAMETERS, "odd.name": "whole"}
    assert substitute(f"{{$REPLACE:{name}}}", parameters) == value


def test_what_replace_finds_is_a_copy_and_may_be_a_key() -> None:
    found = substitute({"{$REPLACE:n}": "{$REPLACE:dict[inner]}"}, PARAMETERS)
    assert found == {"7": PARAMETERS["dict"]["inner"]}
    assert found["7"] is not PARAMETERS["dict"]["inner"]
    assert found["7"][1] is not PARAMETERS["dict"]["inner"][1]


@pytest.mark.parametrize(
    ("text", "unfilled"),
    [
        ("{x} {n:05d} {dict[key]}", ""),
        ("{$REPLACE:list[1]}", ""),
        ("{y} and {z[a][0]} and {y}", "{y} {z[a][0]}"),
        ("{x.y}", "{x.y}"),
        ("{dict[other]}", "{dict[other]}"),
        ("{x:d}", "{x}"),
        ("{$REPLACE:y}", "{$REPLACE:y}"),
        ("{$REPLACE:dict[y]}", "{$REPLACE:dict[y]}"),
        ("the list {$REPLACE:list}", "{$REPLACE:list}"),
        ("${HOME}/{y} }", "{y}"),
        # What asks for no parameter.
        ("{} {0} {{y}} ${HOME} {print $1} {a,b} {1..5}", ""),
    ],
)
def test_placeholders_without_a_value_are_known(text: str, unfilled: str) -> None:
    recipe = Recipe({"start": [[1, []]], "1": {"queue": "q", "a": text}})
    assert " ".join(recipe.apply_parameters(PARAMETERS).unfilled) == unfilled
    assert " ".join(recipe.apply_parameters(PARAMETERS, quote_commands=True).unfilled) == unfilled


def test_the_sentence_about_placeholders_without_a_value_is_short() -> None:
    assert unfilled_remark(["{a}", "{b[c]}"]) == (
        "no parameter gives a value to {a}, {b[c]}; the text stays as it is"
    )
    assert "it becomes null" in unfilled_remark(["{$REPLACE:a}"])
    assert len(unfilled_remark([f"{{{'x' * 500}{n}}}" for n in range(500)])) < 2500


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ('{"1": {}, "start": [[1, []]]}', []),
        (
            '{"1": {"a": 1}, "1": {}, "start": [[1, []]], "start": [[1, []]]}',
            ["key '1' is there more than once", "key 'start' is there more than once"],
        ),
        (
            '{"1": {"p": {"x": 1, "x": 1}, "l": [{"y": 1, "y": 2}]}, "start": [[1, []]]}',
            ["node 1, key 'p': key 'x' is there more", "node 1, key 'l', key '0': key 'y' is"],
        ),
        ('{"1": {"a": NaN, "a": 1}, "start": [[1, []]]}', ["node 1: key 'a' is there more than"]),
    ],
)
def test_a_key_that_is_there_twice_is_known_with_its_place(text: str, repeated: list[str]) -> None:
    found = Recipe.from_json(text).repeated
    assert len(found) == len(repeated)
    for clause, beginning in zip(found, repeated, strict=True):
        assert clause.startswith(beginning)


@pytest.mark.parametrize("other", ["01", "\u0661", "1 "])
def test_another_way_to_write_the_number_of_a_node_is_no_second_node(other: str) -> None:
    text = json.dumps({"start": [[1, []]], "1": {"queue": "a"}, other: {"queue": "b"}})
    with pytest.raises(RecipeError, match=r"Invalid recipe r\.json: key "):
        Recipe.from_json(text, "r.json")


def test_an_exchange_without_a_queue_is_told() -> None:
    nodes: dict[int, dict[str, object]] = {
        1: {"queue": "a", "exchange": "e"}, 2: {"exchange": "e"}, 3: {"topic": "t"},
    }  # fmt: skip
    [clause] = lonely_exchanges(nodes)
    assert clause.startswith("node 2 has key 'exchange' ('e') and no key 'queue'")


def test_keys_and_queues_are_filled_in_and_the_input_stays() -> None:
    definition = {"start": [[1, "{x}"]], "1": {"queue": "{x}", "parameters": {"{n}": ["{x}", 1]}}}
    before = copy.deepcopy(definition)
    recipe = Recipe(definition).apply_parameters(PARAMETERS)
    assert recipe[1] == {"queue": "X", "parameters": {"7": ["X", 1]}}
    assert recipe.start == [(1, "X")]
    assert definition == before


def test_the_tree_holds_every_node_and_the_branches_of_each_once() -> None:
    recipe = Recipe({
        "start": [[1, []], [2, []]],
        "1": {"queue": "a", "output": 2}, "2": {"queue": "b", "output": 3}, "3": {"queue": "c"},
    })  # fmt: skip
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(drawing.tree(recipe))
    text = console.export_text()
    assert [text.count(queue) for queue in ("queue a", "queue b", "queue c")] == [1, 2, 1]
    assert text.count("(above)") == 1


def test_the_picture_names_every_node_and_output() -> None:
    text = drawing.dot(Recipe(SOUND, 'odd "name"'))
    assert text.startswith('digraph "odd \\"name\\"" {')
    for piece in ('1 -> 2 [label="x"]', '1 -> 3 [label="deep.y"]', 'label="4 · queue errors"'):
        assert piece in text
