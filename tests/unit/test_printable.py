"""Rules of what is shown: nothing in it acts on a terminal, forges a line, or tells a secret."""

from __future__ import annotations

import json
import time
import unicodedata
from urllib.parse import quote

import pytest
from hypothesis import given, strategies as st

from zwrap.host.hiding import HIDDEN, is_secret, without_secret_values, without_secrets
from zwrap.host.printable import INDENT, printable, printable_lines

ANY = st.text(st.characters(exclude_categories=()))
"""Texts of all characters, lone surrogates and control characters included."""

ACTING = ["Cc", "Cs", "Zl", "Zp"]
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@given(ANY)
def test_no_character_of_a_printable_text_acts_on_a_terminal(text: str) -> None:
    shown = printable(text)
    assert not any(unicodedata.category(each) in ACTING or each in BIDI for each in shown)
    shown.encode()
    assert printable(shown) == shown


@given(st.text(st.characters(exclude_categories=ACTING, exclude_characters=BIDI)))
def test_ordinary_text_in_any_script_stays(text: str) -> None:
    assert printable(text) == text


@given(st.recursive(ANY, lambda inner: st.lists(inner) | st.dictionaries(ANY, inner)))
def test_json_stays_json_with_the_same_values(value: object) -> None:
    shown = printable(json.dumps(value, ensure_ascii=False))
    assert json.dumps(json.loads(shown)) == json.dumps(json.loads(json.dumps(value)))


def test_escapes_tell_which_character_it_was() -> None:
    assert printable("a\n\t\x1b[31m\x9b\u202e\udcff") == r"a\n\t\u001b[31m\u009b\u202e\udcff"


@given(ANY)
def test_only_the_first_of_several_lines_begins_at_the_left(text: str) -> None:
    first, *others = printable_lines(text).split("\n")
    assert all(each.startswith(INDENT) for each in others)
    assert [first, *(each.removeprefix(INDENT) for each in others)] == [
        printable(line) for line in text.split("\n")
    ]


SECRET = st.text(min_size=1).filter(lambda text: text.strip()).map(lambda text: f"<{text}|s3>")
"""Secrets that cannot be part of what is around them."""

NAMES = st.sampled_from([
    "password", "sslpassword", "PGPASSWORD", "SLURM_JWT", "MY_TOKEN", "API_KEY", "SSHKEY", "secret",
    "client-secret", "AWS_SECRET_ACCESS_KEY", "db_pass", "passphrase", "X-SLURM-USER-TOKEN",
])  # fmt: skip


@given(SECRET, st.sampled_from(["", "u", "bl%2fi03"]), st.sampled_from(["", ":5672", "/a?b=c@d"]))
def test_a_password_in_a_url_is_hidden(secret: str, user: str, rest: str) -> None:
    encoded = quote(secret, safe="")
    shown = without_secrets(f"No reply of 'amqp://{user}:{encoded}@host{rest}' yet.")
    assert shown == f"No reply of 'amqp://{user}:{HIDDEN}@host{rest}' yet."


UNENCODED = st.text(st.characters(exclude_categories=["Cc", "Zl", "Zp"], exclude_characters="@"))


@given(UNENCODED.filter(lambda text: "://" not in text).map(lambda text: f"{text}s3"))
def test_a_password_that_is_not_encoded_is_hidden_too(password: str) -> None:
    shown = without_secrets(f"the URL postgresql://u:x{password}@host is not valid")
    assert "s3" not in shown
    assert shown.startswith("the URL postgresql://u:")
    assert shown.endswith("@host is not valid")


@given(SECRET, NAMES, st.sampled_from("?&; "))
def test_a_secret_among_parameters_is_hidden(secret: str, name: str, before: str) -> None:
    text = f"postgresql://h/d{before}{name}={quote(secret, safe='')}&a=b"
    assert without_secrets(text) == f"postgresql://h/d{before}{name}={HIDDEN}&a=b"
    assert without_secrets(f"host=h {name}='a s3' user=u") == f"host=h {name}={HIDDEN} user=u"


@given(SECRET, NAMES)
def test_a_secret_in_a_mapping_is_hidden_at_any_depth(secret: str, name: str) -> None:
    given_value = {"a": [{"environment": {name: secret, "HOME": "/home/u"}}], name: {"x": secret}}
    shown = {"a": [{"environment": {name: HIDDEN, "HOME": "/home/u"}}], name: HIDDEN}
    assert without_secret_values(given_value) == shown
    for text in (str({name: "s3"}), json.dumps({name: "s3"})):
        assert "s3" not in without_secrets(text)


@pytest.mark.parametrize(
    "text",
    [
        "-s 'x' is not usable; KEY=VALUE is expected.", "http://host:80/mail?to=a@b", "PWD=/home/u",
        "http://[::1]:8080/a@b", "ZWRAP_TOKEN=0123-1", "routing_key=a.b", "http://host/a:b@c",
        "line 5, key 'password': a text is expected", "https://host: refuses user a@b", "a=b c=d",
        "monkey=1", "bearer of news", "amqp://user@host:1/v",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secrets(text) == text


@pytest.mark.parametrize("name", ["PATH", "HOME", "monkey", "ZWRAP_TOKEN", "job_name", "PWD"])
def test_ordinary_names_are_not_those_of_secrets(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    "text",
    ["Authorization: Bearer s3s3s3s3", "eyJhbGciOiJIUzI1.eyJzdWIi.s3", "'token': 's3'"],
)
def test_tokens_of_http_are_hidden(text: str) -> None:
    assert "s3" not in without_secrets(f"Illegal header value b'{text}'")


@pytest.mark.parametrize(
    "unit",
    [
        "://a:",
        "a-",
        "a=",
        "a='",
        "'a': ",
        "'a'",
        "eyJ",
        "Bearer ",
        "eyJa.",
        "\x1b",
        "@://x:",
        "pass",
    ],
)
def test_time_is_in_proportion_to_the_length(unit: str) -> None:
    text = unit * (200_000 // len(unit)) + "@"
    began = time.process_time()
    printable_lines(without_secrets(text))
    assert time.process_time() - began < 2.0
