"""Values in generated shell text, run by the shells, and how long the reading of a text takes."""

from __future__ import annotations

import contextlib
import subprocess
import time

import pytest
from hypothesis import given, settings, strategies as st

from zwrap.errors import RecipeError
from zwrap.recipe.pieces import Value
from zwrap.recipe.quoting import quoted

VALUES = [
    "$(touch PWNED)", "`touch PWNED`", "x'; touch PWNED; '", 'x"; touch PWNED; "', "x\ntouch y\n",
    "\\'; touch PWNED; \\\\", "} ) )) ]] ; touch PWNED & ${U:-`touch PWNED`} esac", "END", "E", "",
]  # fmt: skip

PLACE = ("{x}", "@")
Piece = tuple[str, str]
"""Shell text, and what the shell makes of it."""


def joined(pieces: list[Piece]) -> Piece:
    return "".join(text for text, _ in pieces), "".join(meaning for _, meaning in pieces)


def around(before: str, piece: Piece, after: str, mark: str = "") -> Piece:
    return before + piece[0] + after, piece[1] + mark


LETTERS = st.sampled_from(["a", "b", "-", "="]).map(lambda char: (char, char))
SINGLE = st.lists(LETTERS | st.just(PLACE) | st.sampled_from(['"', "#", "$U", "`", "(", "<<E"]).map(
    lambda char: (char, char))).map(lambda inner: around("'", joined(inner), "'"))  # fmt: skip


def substituted(word: st.SearchStrategy[Piece]) -> st.SearchStrategy[Piece]:
    """Return substitutions around words; each has a full stop, as the shell drops line ends."""
    return (
        word.map(lambda each: around("$(printf %s. ", each, ")", "."))
        | word.map(
            lambda each: around("$(# it's )\n case a in a) printf %s. ", each, ";; esac)", ".")
        )
        | word.map(lambda each: around("$(true # '\"\nprintf %s. ", each, "\n)", "."))
    )


def in_quotes(word: st.SearchStrategy[Piece]) -> st.SearchStrategy[Piece]:
    special = st.sampled_from(["'", "#", "(", ";", "<<E", " "]).map(lambda char: (char, char))
    escaped = st.sampled_from('"\\$`').map(lambda char: (f"\\{char}", char))
    document = st.lists(LETTERS | st.just(PLACE) | st.just(("it's", "it's"))).map(
        lambda inner: around("$(cat <<E\n", joined(inner), ".\nE\n)", ".")
    )
    default = st.lists(LETTERS | st.just(PLACE) | escaped).map(
        lambda inner: around("${U:-", joined(inner), "}")
    )
    inner = LETTERS | st.just(PLACE) | special | escaped | default | document | substituted(word)
    return st.lists(inner, max_size=4).map(lambda found: around('"', joined(found), '"'))


BARE = LETTERS | st.just(PLACE) | SINGLE | st.sampled_from("'\"\\ ;$#").map(
    lambda char: (f"\\{char}", char)
)  # fmt: skip
WORD = st.recursive(
    st.lists(BARE, min_size=1, max_size=4).map(joined),
    lambda word: st.lists(BARE | in_quotes(word), min_size=1, max_size=3).map(joined),
    max_leaves=8,
)
LINE = WORD.map(lambda word: around("printf %s/ ", word, "\n", "/"))
DOCUMENT = st.lists(LETTERS | st.just(PLACE) | st.sampled_from(["'", '"', "\n", " #"]).map(
    lambda char: (char, char)), max_size=5).map(
    lambda inner: around(
        "cat <<'E F' >/dev/null; cat <<-END\n'\nE F\n", joined(inner), ".\nEND\n", ".\n"
    )
)  # fmt: skip
COMMENT = st.sampled_from(
    ["# don't\n", 'true # "{x}\n', "f() { :; }\n", "case b in b) ;; esac\n"]
).map(lambda text: (text, ""))
SCRIPT = st.lists(LINE | DOCUMENT | COMMENT, min_size=1, max_size=4).map(joined)
ALPHABET = "'\"\\$`;&|<>(){}[]*?~!#=% \t\nabEND"


@settings(max_examples=150, deadline=None)
@given(script=SCRIPT, value=st.text(ALPHABET, max_size=10) | st.sampled_from(VALUES))
def test_whatever_stands_around_it_a_value_arrives_whole(script: Piece, value: str) -> None:
    text, meaning = script
    if "\t" in value and "END" in text:
        value = value.replace("\t", " ")
    pieces: list[str | Value] = []
    for index, part in enumerate(text.split("{x}")):
        pieces += [Value(value, "{x}"), part] if index else [part]
    assignments, [done] = quoted([pieces], RecipeError)
    for shell in ("bash", "dash"):
        printed = subprocess.run(
            [shell, "-c", "\n".join([*assignments, done])],
            cwd="/", env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert printed.stdout == meaning.replace("@", value), (shell, done, printed.stderr)


@settings(max_examples=600, deadline=None)
@given(text=st.text(ALPHABET + "\0", max_size=30), value=st.text(ALPHABET, max_size=6))
def test_any_text_is_filled_in_or_refused_with_a_sentence(text: str, value: str) -> None:
    pieces: list[str | Value] = []
    for index, part in enumerate(text.split("\0")):
        pieces += [Value(value, "{x}"), part] if index else [part]
    with contextlib.suppress(RecipeError):
        assert len(quoted([pieces], RecipeError)[1]) == 1


@pytest.mark.parametrize(
    "text",
    [
        '"' * 250_000,
        "`" * 249_999,
        "$(" * 100_000,
        "${x:-" * 75_000,
        "cat <<E\n" * 50_000,
        "cat <<E\nE\n" * 25_000,
        "$(cat <<E\n" * 25_000,
        "\\`" * 125_000,
        "$((" * 75_000,
        "q[" * 125_000,
        "[[ $( " * 50_000 + "-eq 1 ]] ) " * 25_000,
        "case a in (" * 25_000,
        "a" * 250_000 + "{x}" * 25_000,
        "'" + "{x}" * 50_000,
        "$'" + "\\{x}" * 50_000,
        "E\n" * 125_000,
        "cat <<" + "E" * 1000 + "\n" + ("E" * 999 + "\n") * 1000,
        "\t" * 250_000 + "cat <<-E\n" + "\t" * 250_000,
        "\\" * 500_000,
    ],
    ids=lambda text: text[:12],
)
def test_the_time_of_reading_grows_with_the_text(text: str) -> None:
    pieces: list[str | Value] = [Value("a b", "{x}"), " "]
    for index, part in enumerate(text.split("{x}")):
        pieces += [Value("a b", "{x}"), part] if index else [part]
    began = time.process_time()
    with contextlib.suppress(RecipeError):
        quoted([pieces], RecipeError)
    assert time.process_time() - began < 5.0  # up to 1.5 s; what grows with the square: minutes
