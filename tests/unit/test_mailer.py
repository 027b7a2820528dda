"""The text of a mail: fields of the payload are filled in as by python-zocalo."""

from __future__ import annotations

import pytest

from zwrap.errors import RecipeError
from zwrap.message.limits import Limits
from zwrap.service.mailer import filled


class _SafeDict(dict[str, object]):
    """Mapping of python-zocalo's Mailer, which leaves unknown names as they are."""

    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


PAYLOAD = {"file": "a.cbf", "cells": [78.1, 37.2], "n": {"x": 1}}


@pytest.mark.parametrize(
    "content",
    [
        "{payload}",
        "{payload[file]} and {payload[cells][0]:.3f}",
        "{payload!r}",
        "{payload[n][x]:>5}",
        "{pprint_payload}",
        "{{payload}} {{ }}",
        "{other}",
    ],
)
def test_a_text_is_what_python_zocalo_makes_of_it(content: str) -> None:
    mapping = _SafeDict(payload=PAYLOAD, pprint_payload=filled("{pprint_payload}", PAYLOAD))
    assert filled(content, PAYLOAD) == content.format_map(mapping)


@pytest.mark.parametrize(
    "content", ["{payload.__class__}", "{payload[absent]}", "{payload", "}{", "{payload:Q}", "{}"]
)
def test_what_cannot_be_filled_in_stays(content: str) -> None:
    assert filled(content, PAYLOAD) == content


def test_a_list_has_a_line_for_each_entry() -> None:
    assert filled("{pprint_payload}", ["a", 2]) == "a\n2"


def test_a_text_has_the_limits_of_the_site() -> None:
    with pytest.raises(RecipeError, match="filled_bytes"):
        filled("{payload}" * 100, "x" * 100, Limits(filled_bytes=5000))
