"""Values in texts that are composed at random, run by the shells: none becomes a command."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from zwrap.errors import RecipeError
from zwrap.recipe.pieces import Piece, Texts, Value
from zwrap.recipe.quoting import quoted
from zwrap.recipe.shellrepeats import repeated

from .shell_contexts import ENDINGS, HOSTILE, Contexts

TEXTS = 150
"""Number of texts for each shell."""


def filled(text: str, value: str, only: int | None = None) -> str:
    """Return a text with a value at each ``{x}``, or with a number at all but one."""
    parts = text.split("{x}")
    pieces: list[str | Value] = [parts[0]]
    for index, part in enumerate(parts[1:]):
        pieces += [Value("12" if only not in (None, index) else value, "{x}"), part]
    assignments, [done] = quoted([pieces], RecipeError)
    return "\n".join([*assignments, done])


def has_run(shell: str, text: str, directory: Path) -> bool:
    """Return True if a value became a command of a shell."""
    subprocess.run(
        [shell, "-c", text], cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, check=False, timeout=20,
    )  # fmt: skip
    return (directory / "PWNED").exists()


def tried(shell: str, seed: int, directory: Path, hostile: Sequence[str] = HOSTILE) -> str | None:
    """Return the text of a seed as it was run with a hostile value; None: that was refused.

    Raises:
        AssertionError: The value became a command, or one without special characters is changed.
    """
    contexts = Contexts(seed, posix=shell == "dash")
    text = contexts.documents() if hostile is ENDINGS else contexts.text()
    assert filled(text, "12") == text.replace("{x}", "12")
    choice = random.Random(seed)
    value, places = choice.choice(hostile), text.count("{x}")
    only = choice.randrange(places) if places and seed % 3 else None
    try:
        done = filled(text, value, only)
    except RecipeError:
        return None
    written = [line for line in done.split("\n") if line.startswith("#$")]
    assert not written, f"seed {seed}: a value became a directive in {done!r}"
    assert not has_run(shell, done, directory), f"seed {seed}: {shell} ran a value in {done!r}"
    return done


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_in_no_context_a_value_becomes_a_command(shell: str, tmp_path: Path) -> None:
    accepted = sum(tried(shell, seed, tmp_path) is not None for seed in range(TEXTS))
    assert accepted > TEXTS // 4  # the texts are not refused as a whole


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_in_no_nesting_a_value_ends_a_here_document(shell: str, tmp_path: Path) -> None:
    """Substitutions and backquotes in a here-document, with further documents in them."""
    tries = [tried(shell, seed, tmp_path, ENDINGS) for seed in range(4 * TEXTS)]
    assert sum(each is not None for each in tries) > TEXTS


def repeats(text: str, choice: random.Random) -> list[Piece]:
    """Return a text in which each ``{x}`` is a hostile list, or is missing."""
    first, *rest = text.split("{x}")
    pieces: list[Piece] = [first]
    for part in rest:
        count = choice.choice((0, 1, 2, 2))
        pieces += [Value(Texts.of(tuple(choice.choices(HOSTILE, k=count))), "{x}"), part]
    return pieces


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_in_no_context_an_entry_of_a_list_becomes_a_command(shell: str, tmp_path: Path) -> None:
    """Words and lines are repeated and left out as well."""
    accepted = 0
    for seed in range(TEXTS):
        choice = random.Random(seed)
        pieces = repeats(Contexts(seed, posix=shell == "dash").text(), choice)
        try:
            assignments, [done] = quoted([repeated(pieces, RecipeError)], RecipeError)
        except RecipeError:
            continue
        accepted += 1
        ran = has_run(shell, "\n".join([*assignments, done]), tmp_path)
        assert not ran, f"seed {seed}: {shell} ran an entry in {done!r}"
    assert accepted > TEXTS // 10
