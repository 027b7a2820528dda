"""Rules of values that are put into shell text, judged by the shell itself."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from zwrap.recipe import quoting
from zwrap.recipe.quoting import AsIs, replace_quoted

PLACE = "@X@"
SPECIAL = "'\"\\$`;&|<>(){}[]*?~!#=% \t\n"
VALUES = st.text(alphabet=SPECIAL + "abné", max_size=12)

Piece = tuple[str, str]
"""A piece of shell text, and what the shell makes of it."""


def words(text: str) -> list[str]:
    """Return the words that /bin/sh makes of shell text, in a directory that is removed."""
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(
            ["/bin/sh", "-c", f"printf '%s\\0' {text}"],
            cwd=place, capture_output=True, text=True, check=True,
        )  # fmt: skip
    return done.stdout.split("\0")[:-1]


def quoted(quote: str, inner: list[Piece]) -> Piece:
    source, meaning = ("".join(side) for side in zip(*inner, strict=True)) if inner else ("", "")
    return f"{quote}{source}{quote}", meaning


def literal(text: str) -> Piece:
    return text, text


HERE: Piece = (PLACE, PLACE)
LETTERS = st.sampled_from("ab").map(literal)
PLACES = st.just(HERE)
BARE = LETTERS | PLACES | st.sampled_from("'\"\\ ;$").map(lambda char: (f"\\{char}", char))
DOUBLE = st.lists(
    LETTERS
    | PLACES
    | st.sampled_from("' ;#\n").map(literal)
    | st.sampled_from('"\\$`').map(lambda char: (f"\\{char}", char))
    | st.just(("\\a", "\\a")),
    max_size=5,
).map(lambda inner: quoted('"', inner))
SINGLE = st.lists(LETTERS | PLACES | st.sampled_from('" ;$`#\n').map(literal), max_size=5).flatmap(
    lambda inner: st.sampled_from([[], [literal("\\")], [literal("\\\\")], [literal("\\a")]]).map(
        lambda end: quoted("'", [*inner, *end])  # a backslash before the quote that ends the text
    )
)
WORDS = st.lists(st.lists(BARE | DOUBLE | SINGLE, min_size=1, max_size=5), min_size=1, max_size=3)


@given(text=WORDS, value=VALUES)
def test_a_value_arrives_whole_whatever_quotes_and_escapes_stand_around_its_place(
    text: list[list[Piece]], value: str
) -> None:
    source = " ".join("".join(source for source, _ in word) for word in text)
    expected = ["".join(meaning for _, meaning in word) for word in text]
    filled = replace_quoted(source, PLACE, lambda _: value)
    assert words(filled) == [word.replace(PLACE, value) for word in expected]


@pytest.mark.parametrize(
    "text",
    [
        # The backslash is itself inside '...', so the quote after it ends the text.
        r"'a\' {x}",
        r"'a\\\' {x}",
        r"'a\'{x}",
        # An escaped quote does not begin or end a text.
        r"\' {x}",
        r"\" {x}",
        r'"a\"" {x}',
        r'"a\" {x}"',
        r'"a\\" {x}',
        r"""'a"' {x}""",
        r"""b"a'" {x}""",
    ],
)
@pytest.mark.parametrize("value", ["b; touch pwned", "$(touch pwned)", "`touch pwned`", "' \"; x"])
def test_no_value_becomes_a_command(text: str, value: str) -> None:
    """The words are those of the same text with a harmless value."""
    filled = replace_quoted(text, r"\{x\}", lambda _: value)
    harmless = replace_quoted(text, r"\{x\}", lambda _: "harmless")
    assert words(filled) == [word.replace("harmless", value) for word in words(harmless)]


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        (r"echo 'a\' {x}", r"echo 'a\' 'b; c'"),
        ('echo "{x}"', 'echo "b; c"'),
        ("echo {x}", "echo 'b; c'"),
    ],
)
def test_each_place_is_quoted_for_the_quotes_around_it(text: str, filled: str) -> None:
    assert replace_quoted(text, r"\{x\}", lambda _: "b; c") == filled


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ('"{x}"', r'"\$HOME \`id\` \"q\" \\"'),
        ("'{x}'", r"""'$HOME `id` "q" \'"""),
    ],
)
def test_inside_quotes_what_is_special_there_is_escaped(text: str, filled: str) -> None:
    assert replace_quoted(text, r"\{x\}", lambda _: '$HOME `id` "q" \\') == filled


def test_a_piece_without_a_value_stays_and_shell_text_is_put_in_unquoted() -> None:
    assert replace_quoted("a {x} '{x}'", r"\{x\}", lambda _: None) == "a {x} '{x}'"
    assert replace_quoted("a {x}", r"\{x\}", lambda _: AsIs("b; c")) == "a b; c"


@settings(max_examples=2000)
@given(st.text("ab '\"\\\n\t\r#\0é", max_size=14))
def test_words_are_those_of_shlex(text: str) -> None:
    def split(splitter: Callable[[str], list[str]]) -> list[str] | str:
        try:
            return splitter(text)
        except ValueError as error:
            return str(error)

    assert split(quoting.words) == split(shlex.split)


@pytest.mark.parametrize(
    "text", ["x" * 3_000_000, '"' + "x" * 3_000_000 + '"', "'" + "x" * 3_000_000, "\\x" * 500_000]
)
def test_one_long_word_is_split_in_a_moment(text: str) -> None:
    began = time.process_time()
    with contextlib.suppress(ValueError):
        quoting.words(text)
    assert time.process_time() - began < 5.0  # shlex.split: minutes
