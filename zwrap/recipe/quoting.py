"""Quoting of values in shell text, and the splitting of commands into words.

How a value is written depends on the quotes around its place (`zwrap.recipe.shelltext`): quoted
where that is sure, else as a variable that is set at the beginning of the text. A value that is
safe in neither way is refused (`zwrap.recipe.refusals`).
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Sequence

from zwrap.errors import PermanentError, RecipeError, short
from zwrap.recipe.directives import (
    beginning,
    could_direct,
    shell_word,
    sheltered,
    single_quoted,
)
from zwrap.recipe.pieces import Piece, Value
from zwrap.recipe.refusals import (
    OPEN_QUOTE,
    READ_AGAIN,
    SAFE,
    could_end,
    could_run,
    may_open,
    reads_again,
    why_not,
)
from zwrap.recipe.shellplaces import Kind, Place, Sense
from zwrap.recipe.shelltext import places
from zwrap.recipe.shelltokens import ASSIGNMENT, GRAMMAR, MARK

Fault = Callable[[str], PermanentError]
"""Function that returns the error of a sentence about shell text."""

Replacement = Callable[[str], str | None]
"""Function that returns the replacement of a match; None: the match stays."""

VARIABLE = "ZWRAP_VALUE_"
"""Beginning of the names of variables that hold values."""

_VARIABLES = re.compile(rf"{VARIABLE}([0-9]{{1,9}})")


class AsIs(str):
    """Shell text, which is put in without quoting."""

    __slots__ = ()


def quoted(texts: Sequence[Sequence[Piece]], fault: Fault) -> tuple[list[str], list[str]]:
    """Return assignments, and texts that one shell reads after them, with their values in place.

    Each value reaches the shell as it is, and as one word where the place is one. Text around the
    values is never changed, but for a backslash before a value.

    Args:
        texts: Pieces of each text, of which the shell reads one after the other, in lines.
        fault: Function that returns the error for a value that cannot be put in safely.
    """
    skeletons = ["".join(MARK if isinstance(p, Value) else p for p in text) for text in texts]
    values = [piece for text in texts for piece in text if isinstance(piece, Value)]
    if not values:
        return [], skeletons
    whole = "\n".join(skeletons)
    if whole.count(MARK) != len(values):
        raise fault("shell text cannot hold a NUL.")
    writer = _Writer(whole, [value.text for value in values], fault)
    found = iter(places(whole))
    filled = []
    for text in texts:
        done: list[str] = []
        writer.line = ""
        for piece, following in itertools.zip_longest(text, text[1:]):
            if isinstance(piece, Value):
                writer.redirects = isinstance(following, str) and following[:1] in {"<", ">"}
                writer.write(done, next(found), piece)
            elif piece:
                done.append(piece)
            writer.line = beginning(writer.line, done[-1] if done else "")
        filled.append("".join(done))
    return writer.assignments, filled


class _Writer:
    """The writing of values at their places in one text."""

    def __init__(self, skeleton: str, values: Sequence[str], fault: Fault) -> None:
        self._fault = fault
        # A substitution in one value, and the bracket before it perhaps in another one.
        self._is_run = any(map(may_open, values)) and reads_again(skeleton, values)
        self._names: dict[str, str] = {}
        taken = (int(number) for number in _VARIABLES.findall(skeleton))
        self._next = max(taken, default=0) + 1
        self.assignments: list[str] = []
        """A line for each variable that holds a value."""
        self.line = ""
        """Beginning of the line at hand."""
        self.redirects = False
        """True if ``<`` or ``>`` follows, before which a number would be that of a descriptor."""

    def write(self, done: list[str], place: Place, value: Value) -> None:
        """Append a value, as it is written at a place, to the finished part of the text."""
        text = self._written(place, value)
        if place.escaped and not SAFE.fullmatch(text):
            before = done.pop()  # ends in a backslash, which would quote a part of the value
            done.append(before[:-1] if place.kind is Kind.PLAIN else before + "\\")
        done.append(text)

    def _written(self, place: Place, value: Value) -> str:
        """Return a value as it is written at a place."""
        self._check(place, value)
        text, kind = value.text, place.kind
        if place.sense in (Sense.NUMBER, Sense.VARIABLE):
            return text
        if kind is Kind.COMMENT:
            return _commented(text, place)
        if kind in (Kind.VERBATIM, Kind.UNSURE):
            return text
        if SAFE.fullmatch(text) and not could_end(text, place.delimiters):
            assigns = ASSIGNMENT.match(text) or text in GRAMMAR
            is_number = kind is Kind.PLAIN and self.redirects and text.isdecimal()
            return f"'{text}'" if is_number or (place.first and assigns) else text
        if _is_direct(text, place, self.line):
            return _direct(text, place, self.line)
        return self._by_variable(text, place)

    def _check(self, place: Place, value: Value) -> None:
        """Raise the error of a value that cannot be put safely at a place."""
        reason = why_not(place, value.text, self.line)
        if not reason and self._is_run and place.kind is not Kind.COMMENT:
            reason = READ_AGAIN if could_run(value.text) else ""
        if reason:
            source = value.source[:60]
            raise self._fault(reason.format(source=source, value=short(value.text)))

    def _by_variable(self, text: str, place: Place) -> str:
        """Return a value as the variable that holds it."""
        name = self._names.get(text)
        if name is None:
            name = self._names[text] = f"{VARIABLE}{self._next}"
            self._next += 1
            self.assignments.append(f"{name}={shell_word(text)}")
        if place.kind is Kind.SINGLE:
            return f"'\"${name}\"'"
        if place.kind is Kind.ANSI:
            return f"'\"${name}\"$'"
        inside = place.kind in (Kind.DOUBLE, Kind.HERE) or _is_default(place)
        if not inside:
            return f'"${name}"'
        joined = "\\\n" if self.line == "#" else ""  # no line begins with "#$"
        return f"{joined}${{{name}}}"


def _is_default(place: Place) -> bool:
    """Return True in the default value of ``"${x:-value}"``, which the quotes around it quote."""
    return place.kind is Kind.PLAIN and place.braces.endswith(("-", "=", "?", "+"))


def _commented(text: str, place: Place) -> str:
    """Return a value for a comment, which it must not end."""
    if place.distrusted:
        return re.sub(r"[^\w@%+=:,./ -]", "?", text)
    special = r"[\x00-\x1f\x7f`\\]" if place.backquotes else r"[\x00-\x1f\x7f]"
    return shlex.quote(re.sub(special, "?", text))


def _is_direct(text: str, place: Place, line: str) -> bool:
    """Return True if quoting makes a value, which is not a safe word, safe at a place."""
    kind = place.kind
    in_ticks = kind is Kind.DOUBLE and place.backquotes > 0
    if could_direct(text, line) and (in_ticks or place.braces or kind in (Kind.HERE, Kind.ANSI)):
        return False  # empty quotes have no place there
    if in_ticks and "\n" in text:
        return False
    if place.distrusted or could_end(text, place.delimiters) or (place.in_array and "\n" in text):
        return False
    if place.delimiters and set(text) & set("\n\t"):  # `<<-` takes the tabs away
        return False
    if kind is Kind.ANSI:
        return not place.backquotes and not set(text) & set("'\\")
    if kind is Kind.HERE:
        special = "$`\\'\"()#" if place.nested else "$`\\"
        return not place.backquotes and not place.escaped and not set(text) & set(special)
    if place.braces:
        return _is_default(place) and not (
            place.backquotes or place.delimiters or set(text) & set("}'\\")
        )
    if place.backquotes == 1 and not place.nested:
        return not set(text) & set('`\\$"' if kind is Kind.DOUBLE else "`\\")
    return not place.backquotes or not set(text) & set("`\\$\"'")


def _direct(text: str, place: Place, line: str) -> str:
    """Return a value as it is quoted at a place."""
    if place.kind in (Kind.HERE, Kind.ANSI):
        return text
    if place.kind is Kind.SINGLE:
        return single_quoted(text, line)
    if place.kind is Kind.DOUBLE or place.braces:
        escaped = re.sub(r'([\\$"`])', r"\\\1", text)
        return escaped if place.braces else sheltered(escaped, line, '""')
    return shell_word(text)


def _unsafe(sentence: str) -> PermanentError:
    """Return the error of shell text of which only the text is known."""
    return RecipeError(f"Shell text: {sentence}")


def replace_quoted(text: str, pattern: str, value: Replacement, fault: Fault = _unsafe) -> str:
    """Return shell text in which each match of `pattern` is replaced by `value(match)`, quoted.

    A match after a backslash stays. Variables that hold values are set in lines before the text.
    """
    pieces: list[Piece] = []
    at = 0
    for match in re.finditer(rf"(?P<place>{pattern})|\\.", text, re.DOTALL):
        replacement = None if match["place"] is None else value(match[0])
        if replacement is not None:
            as_is = isinstance(replacement, AsIs)
            pieces.append(text[at : match.start()])
            pieces.append(str(replacement) if as_is else Value(replacement, match[0]))
            at = match.end()
    assignments, [filled] = quoted([[*pieces, text[at:]]], fault)
    return "\n".join([*assignments, filled])


# -- texts that are split into words, and run without a shell -------------------------------------

_QUOTES = re.compile(r"\\?\0|\\.|['\"]", re.DOTALL)


def quoted_words(text: Sequence[Piece], fault: Fault) -> str:
    """Return a text for `words` with its values in place, each within one word."""
    given = [piece for piece in text if isinstance(piece, Value)]
    values = iter(given)
    skeleton = "".join(MARK if isinstance(piece, Value) else piece for piece in text)
    if skeleton.count(MARK) != len(given):
        raise fault("a command cannot hold a NUL.")
    quote = ""

    def found(match: re.Match[str]) -> str:
        nonlocal quote
        piece = match[0]
        if piece[-1] == MARK:
            return _word_part(piece[:-1], next(values).text, quote)
        if piece in "'\"":
            quote = piece if not quote else "" if quote == piece else quote
        elif quote == "'" and piece[1] == "'":
            quote = ""
        return piece

    filled = _QUOTES.sub(found, skeleton)
    unsafe = [piece for piece in given if not SAFE.fullmatch(piece.text)]
    is_open = (len(skeleton) - len(skeleton.rstrip("\\"))) % 2 == 1
    if (quote or is_open) and unsafe:
        reason = OPEN_QUOTE.format(source=unsafe[0].source[:60], value=short(unsafe[0].text))
        raise fault(reason)
    return filled


def _word_part(escape: str, text: str, quote: str) -> str:
    """Return a value in a text for `words`, after a backslash if `escape` is one."""
    if quote == "'":
        return escape + text.replace("'", "'\\''")
    if quote == '"':
        return 2 * escape + re.sub(r'([\\"])', r"\\\1", text)
    return shlex.quote(text)


_PIECE = re.compile(
    r"""(?P<blank>[ \t\r\n]+)|(?P<plain>[^ \t\r\n'"\\]+)|\\(?P<escaped>.)"""
    r"""|'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]++|\\.)*+)"|(?P<fault>.)""",
    re.DOTALL,
)
_OPEN_ESCAPE = re.compile(r"""(?:"(?:[^"\\]++|\\.)*+)?\\""", re.DOTALL)


def words(text: str) -> list[str]:
    """Return the words of shell text, as `shlex.split` does, in a time that grows with the text.

    `shlex.split` takes minutes for one word of a megabyte.

    Raises:
        ValueError: A quote or a backslash at the end lacks its partner.
    """
    found: list[str] = []
    word: list[str] | None = None
    for piece in _PIECE.finditer(text):
        kind, content = piece.lastgroup, piece[piece.lastgroup or 0]
        if kind == "blank":
            if word is not None:
                found.append("".join(word))
            word = None
            continue
        if kind == "fault":
            escape = _OPEN_ESCAPE.fullmatch(text, piece.start())
            raise ValueError("No escaped character" if escape else "No closing quotation")
        if kind == "double":
            content = re.sub(r'\\(["\\])', r"\1", content)
        word = word or []
        word.append(content)
    return found if word is None else [*found, "".join(word)]
