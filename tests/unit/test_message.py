"""Rules of identity."""

from __future__ import annotations

import decimal

import pytest

from zwrap.errors import MessageError, UnknownNameError
from zwrap.message import Message, Outgoing, child_id, decode, encode, identify, token_of

RECIPE_HEADER = {"workflows-recipe": "True"}


def test_the_id_is_the_header_then_the_broker_s_then_the_content_s() -> None:
    body = {"b": 1, "a": 2}
    assert identify(body, {"zwrap-id": "own", **RECIPE_HEADER}, "broker") == "own"
    assert identify(body, RECIPE_HEADER, "broker") == identify({}, {}, "broker") != ""
    assert isinstance(identify({}, {}, "broker"), str)
    assert identify({}, {}, "broker") != identify({}, {}, "other")
    assert identify(body, RECIPE_HEADER, "broker") != identify(body, RECIPE_HEADER)
    assert identify(body, {"zwrap-id": ""}, "broker") == identify({}, {}, "broker")
    assert identify(body, RECIPE_HEADER) == identify({"a": 2, "b": 1}, RECIPE_HEADER)
    assert identify(body, RECIPE_HEADER) != identify({"a": 2}, RECIPE_HEADER)
    assert identify(body, {}) != identify(body, {})


def test_ids_of_children_are_stable_and_differ() -> None:
    assert child_id("a", 0) == child_id("a", 0)
    assert len({child_id("a", 0), child_id("a", 1), child_id("b", 0)}) == 3


def test_a_token_names_message_and_attempt() -> None:
    first = token_of(Message({}, {}, "m"))
    assert first == token_of(Message({}, {"other": 1}, "m"))
    assert first.endswith("-1")
    again = token_of(Message({}, {"dlq-reinjected": "True"}, "m"))
    assert again == first[:-1] + "2"
    assert token_of(Message({}, {"zwrap-attempt": 3}, "m")) == first[:-1] + "3"
    assert token_of(Message({}, {"zwrap-attempt": "/../../x"}, "m")) == first


@pytest.mark.parametrize("value", [True, "True", "true", 1])
def test_each_form_of_the_recipe_header_is_understood(value: object) -> None:
    assert Message({}, {"workflows-recipe": value}, "m").is_recipe


@pytest.mark.parametrize("value", [False, "False", None, 0, "yes"])
def test_other_values_of_the_recipe_header_mean_no(value: object) -> None:
    assert not Message({}, {"workflows-recipe": value}, "m").is_recipe


def test_an_id_once_given_is_kept() -> None:
    message = Outgoing("q", 1).with_id("first")
    assert message.with_id("second").headers == {"zwrap-id": "first"}


def test_decimals_become_numbers() -> None:
    assert encode({"a": decimal.Decimal("1.50")}) == b'{"a":1.50}'


@pytest.mark.parametrize(
    ("data", "complaint"),
    [(b"", "is empty"), (b"  \n", "is empty"), (b"{bad", "not valid JSON"), (b"\xff", "not valid")],
)
def test_what_is_no_json_is_said(data: bytes, complaint: str) -> None:
    with pytest.raises(MessageError, match=complaint):
        decode(data)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    error = UnknownNameError("wrapper", "gemi-merge", ["gemmi-merge", "dummy"])
    assert str(error) == (
        "Unknown wrapper 'gemi-merge'. Did you mean 'gemmi-merge'? Known: dummy, gemmi-merge."
    )
