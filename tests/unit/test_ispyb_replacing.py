"""Values of the environment in parameters of ISPyB's commands: ``$name`` and ``${name}``."""

from __future__ import annotations

import time
from typing import Any

import pytest

from zwrap.errors import MessageError
from zwrap.service.ispyb.contract import LONGEST_GROWTH, LONGEST_NAME, Call


def replaced(text: object, environment: dict[str, object]) -> object:
    connection: Any = None
    return Call("write", [{"text": text}], environment, connection).get("text")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$a", "1"), ("${a}", "1"), ("$ab", "2"), ("${ab}", "2"), ("$abc", "2c"),
        ("${abc}", "${abc}"), ("$a$ab${a}x", "121x"), ("cost: 5 $", "cost: 5 $"),
        ("$$a", "$1"), ("$", "$"), ("${", "${"),
        ("${a", "${a"), ("${}", "${}"), ("$x-y", "3"), ("$none", "$none"), ("a", "a"), (5, 5),
        ("$list", "[1]"), ("$other", "$a"), ("$" + "l" * LONGEST_NAME, "4"), ("$null", "None"),
    ],
)  # fmt: skip
def test_the_longest_name_is_replaced_and_what_was_put_in_stays(
    text: object, expected: object
) -> None:
    environment = {
        "a": 1, "ab": 2, "x-y": 3, "list": [1], "other": "$a", "": 9, "l" * LONGEST_NAME: 4,
        "l" * (LONGEST_NAME + 1): 5, "null": None,
    }  # fmt: skip
    assert replaced(text, environment) == expected


def test_a_value_that_grows_too_much_is_refused_before_it_fills_the_memory() -> None:
    many = {"a": "x" * 1_000_000}
    with pytest.raises(MessageError, match=f"more than {LONGEST_GROWTH} characters would be put"):
        replaced("$a" * 1_000_000, many)
    assert replaced("$a", many) == many["a"]
    chain = {"n" + "_" * (20 - i): ("$n" + "_" * (19 - i)) * 10 for i in range(12)}
    assert replaced("$n" + "_" * 20, dict(chain)) == chain["n" + "_" * 20]


@pytest.mark.parametrize("text", ["$" * 2_000_000, "${" * 1_000_000, "$" + "x" * 2_000_000])
def test_a_text_of_marks_and_an_environment_of_many_names_take_little_time(text: str) -> None:
    environment: dict[str, object] = {"y" * n: n for n in range(1, 2000)}
    began = time.process_time()
    assert replaced(text, environment) == text
    assert time.process_time() - began < 10
