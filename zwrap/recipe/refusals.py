"""Refusal of values that cannot be put safely into shell text, with what to write instead."""

from __future__ import annotations

import re
from collections.abc import Sequence

from zwrap.recipe.directives import could_direct
from zwrap.recipe.shellplaces import Kind, Place, Sense

SAFE = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
"""A word that `shlex.quote` leaves as it is."""

_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)")
_NAME = re.compile(r"[A-Za-z0-9_]+")

_AFTER_DOLLAR = (
    "{source} follows a '$', so that the shell would take its value, {value}, for a part of its "
    "own language. Write ${{{source}}} for the variable of the shell, or \\${source} for a dollar "
    "sign and the value."
)
_NO_NUMBER = (
    "{source} stands where the shell calculates, or in a variable with which it does, and its "
    "value is {value}; a number is expected. Compare texts with '=' instead of '-eq'."
)
_NO_NAME = (
    "{source} stands where the shell expects the name of a variable, and its value is {value}; a "
    "text without '[', '(' and '`' is expected. Write the name itself there, instead of a "
    "placeholder."
)
READ_AGAIN = (
    "the text calculates with values, or names variables by them, and {source} has the value "
    "{value}, a part of which the shell could run there; a text without '$(', '${{' and '`' is "
    "expected beside '[' and '('. Give such a value to a program by a text of its own."
)
"""Why a value cannot be put into a text that reads values once more, as a format."""
_COMMAND = (
    "{source} stands where the shell runs its value, {value}, as a command; a word of letters, "
    "digits and @%+=:,./-_ is expected. Write the command itself there, instead of a placeholder."
)
_UNSURE = (
    "the quotes or parentheses before {source} are not balanced as far as can be told, so that its "
    "value, {value}, cannot be put in safely. Begin the text with a line v={source}, and write "
    '"$v" here.'
)
_VERBATIM = (
    "{source} stands in a here-document whose delimiter is quoted, where its value, {value}, "
    "cannot be put in safely. Leave out the quotes around the delimiter, and the value is put in "
    "as it is."
)
_ENDS = (
    "{source} stands in a here-document, whose delimiter its value, {value}, could be. Write "
    "another delimiter, of letters that no value has."
)
_DIRECTIVE = (
    "{source} stands in a here-document whose delimiter is quoted, and a line of its value, "
    "{value}, begins with '#', which a batch system takes for its own. Leave out the quotes around "
    "the delimiter, and the value is put in as it is."
)
_ESCAPED = (
    "a backslash before {source} would become a part of its value, {value}. Leave out the "
    "backslash."
)
OPEN_QUOTE = (
    "a quote of the command has no partner, so that the value of {source}, {value}, would not stay "
    "one word. Close the quote, or write \\' for an apostrophe."
)
"""Why a value cannot be put into a command that is split into words, as a format."""


_READING = re.compile(
    r"\(\(|\$\[|\w\[(?![0-9@*]+\])|\$\{!|\$\{\w+:(?![-=?+])|\$\{[^}]{0,100}@"
    r"|\s-(?:eq|ne|lt|le|gt|ge|v|R)\b|printf\s+['\"]?-"
    r"|\b(?:let|declare|local|typeset|readonly|export|read|unset|wait|mapfile|readarray|getopts"
    r"|compgen|coproc|RANDOM|SRANDOM|OPTIND|HISTCMD|SECONDS|PS4|eval)\b"
)
"""Text in which the shell may evaluate a value once more: as arithmetic, as the name of a variable,
or as the content of an array."""

_TESTING = re.compile(r"\b(?:test|printf)\b|(?:^|[\s;&|({!])\[")
"""Text in which a value could be the operator that makes the shell do so."""

_OPERATOR = re.compile(r"-?\w{1,3}")
"""Value that may be an operator, or a part of it."""


def reads_again(text: str, values: Sequence[str]) -> bool:
    """Return True if the shell may evaluate values of a text as arithmetic or as names."""
    if _READING.search(text):
        return True
    return any(map(_OPERATOR.fullmatch, values)) and _TESTING.search(text) is not None


def could_run(text: str) -> bool:
    """Return True for a value of which a part is a command, if the shell reads it once more."""
    return "`" in text or any(f"${opening}" in text for opening in "([{")


def may_open(text: str) -> bool:
    """Return True for a value in which a subscript, or the content of an array, could begin."""
    return "[" in text or text.lstrip()[:1] == "("


def could_end(text: str, delimiters: Sequence[str]) -> bool:
    """Return True if a value could make a line of a here-document a delimiter.

    Tabs before it count for nothing: ``<<-`` skips them.
    """
    if not delimiters:
        return False
    lines = {line.lstrip("\t") for line in text.split("\n")}
    return any(line in delimiter for delimiter in delimiters for line in lines)


def why_not(place: Place, text: str, line: str) -> str:
    """Return why a value cannot be put safely at a place, as a format; "": it can.

    Args:
        place: The place.
        text: The value.
        line: Beginning of the line before the place.
    """
    as_it_is = place.kind is Kind.UNSURE or place.sense in (Sense.NUMBER, Sense.VARIABLE)
    if as_it_is and text and could_end(text, place.delimiters):
        return _ENDS
    if place.sense is Sense.VARIABLE:
        return "" if _NAME.fullmatch(text) else _AFTER_DOLLAR
    if place.sense is Sense.NUMBER:
        return "" if not text or _NUMBER.fullmatch(text) else _NO_NUMBER
    if place.sense is Sense.NAME and any(character in text for character in "[(`"):
        return _NO_NAME
    if SAFE.fullmatch(text) and place.kind is not Kind.VERBATIM:
        return ""
    if place.sense is Sense.COMMAND:
        return _COMMAND
    if place.kind is Kind.UNSURE:
        return _UNSURE
    if place.kind is Kind.VERBATIM:
        return _why_not_verbatim(place, text, line)
    if place.escaped and (place.backquotes or place.braces or place.kind is Kind.ANSI):
        return _ESCAPED
    return ""


def _why_not_verbatim(place: Place, text: str, line: str) -> str:
    """Return why a value cannot be put safely into a document with a quoted delimiter."""
    sheltered = not (place.nested or place.backquotes or place.distrusted)
    safe = sheltered or SAFE.fullmatch(text)
    if not safe or could_end(text, place.delimiters):
        return _VERBATIM
    return "" if SAFE.fullmatch(text) or not could_direct(text, line) else _DIRECTIVE
