"""Rules of identity."""

from __future__ import annotations

import decimal
import json
import math

import msgspec
import pytest
from hypothesis import given, strategies as st

from zwrap.errors import MessageError, UnknownNameError
from zwrap.message.content import Message, Outgoing
from zwrap.message.identity import LONGEST_ID_BYTES, child_id, identify, token_of
from zwrap.message.jsontext import decode, encode, encode_finite, indented, pretty

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


# -- what json.dumps of python-workflows writes ----------------------------------------------------

VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(),
        st.text(st.characters(categories=["Cs"]), min_size=1), st.just(10**40), st.just(-(2**64)),
    ),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=20,
)  # fmt: skip


def said(value: object) -> str:
    """Return a value as text, by which NaN equals NaN."""
    return json.dumps(value, sort_keys=True)


@given(VALUES)
def test_whatever_python_writes_as_json_is_read_and_travels_on_unchanged(value: object) -> None:
    body = decode(json.dumps(value).encode())
    assert said(body) == said(value)
    assert said(json.loads(encode(body))) == said(value)
    kept = msgspec.convert(decode(encode(Outgoing("q", body))), Outgoing)
    assert said(kept.message) == said(value)


@given(VALUES)
def test_what_is_for_all_readers_has_null_for_nan_and_infinity(value: object) -> None:
    def without(part: object) -> object:
        if isinstance(part, dict):
            return {key: without(each) for key, each in part.items()}
        if isinstance(part, list):
            return [without(each) for each in part]
        return None if isinstance(part, float) and not math.isfinite(part) else part

    assert said(json.loads(encode_finite(value))) == said(without(value))
    assert said(json.loads(pretty(value))) == said(without(value))
    assert said(json.loads(indented(value))) == said(value)


@given(VALUES)
def test_the_id_of_a_recipe_message_repeats(value: object) -> None:
    first, again = (identify({"a": value, "b": 1}, RECIPE_HEADER) for _ in range(2))
    assert first == again == identify({"b": 1, "a": value}, RECIPE_HEADER)


def test_keys_that_python_writes_are_written() -> None:
    assert encode({None: 1, True: 2, 3: 4}) == b'{"null":1,"true":2,"3":4}'


def test_of_keys_that_are_there_twice_the_last_counts() -> None:
    assert decode(b'{"a": 1, "a": 2}') == {"a": 2}
    assert decode(b'{"a": NaN, "a": 2}') == {"a": 2}


@pytest.mark.parametrize(
    "data",
    [b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b"[" * 5000, b"9" * 5000, b"[NaN", b"nan", b"[1] 2",
     b'"\\udc"', b"-", b"{1: 2}", b"\x00"],
)  # fmt: skip
def test_what_python_refuses_too_is_told_in_a_sentence(data: bytes) -> None:
    with pytest.raises(MessageError, match=r"^The message is ") as caught:
        decode(data)
    assert len(str(caught.value)) < 500


def test_what_is_too_large_is_not_decoded() -> None:
    assert decode(b'"abc"', largest=5) == "abc"
    with pytest.raises(MessageError, match=r"has 6 bytes.*key 'body_bytes'"):
        decode(b'"abcd"', largest=5)


def test_an_id_that_is_too_long_or_no_text_gives_a_short_one_that_repeats() -> None:
    for given_id in ("é" * LONGEST_ID_BYTES, "x" * 10**6):
        short = identify({}, {"zwrap-id": given_id})
        assert short == identify({"other": 1}, {"zwrap-id": given_id})
        assert len(short) < 50
    assert token_of(Message({}, {}, "\udce9")) == token_of(Message({}, {}, "\udce9"))
    assert child_id("\udce9", 1) != child_id("\udcea", 1)


@pytest.mark.parametrize("number", [10**300, -(10**300), 2**63])
def test_a_number_of_an_attempt_that_cannot_be_is_refused(number: int) -> None:
    with pytest.raises(MessageError, match="'zwrap-attempt'"):
        token_of(Message({}, {"zwrap-attempt": number}, "m"))
