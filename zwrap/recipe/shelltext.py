"""Parser of shell text: it finds out what the shell does with a value at each place for one.

The text is read once, from left to right, as bash reads it: words, quotes, comments,
here-documents, expansions, arithmetic. Each place is a NUL in the text, because no shell text can
hold one. Source: POSIX.1, Shell Command Language; bash(1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from zwrap.recipe.pieces import Piece, Value
from zwrap.recipe.shellplaces import Found, Frame, Kind, Part, Place, Sense
from zwrap.recipe.shelltokens import (
    ARITHMETIC,
    BRACES,
    CODE,
    DOUBLE,
    HERE,
    LOOPS,
    MARK,
    STILL_FIRST,
    delimiter_at,
    end_of_document,
)
from zwrap.recipe.shellwords import Words

DEEPEST = 10
"""Depth to which here-documents and backquotes within each other are read."""

MOST_DOCUMENTS = 100
"""Number of here-documents that one line may announce."""


_UNCLEAR = re.compile(r"\$\\\n|\w\[([\"'])(?=[^\"'\n]*\])[^\"'\n]*+\1")
"""A dollar sign at the end of a line that goes on, and a subscript with a quoted bracket: neither
is read here as shells read it."""


def places(text: str) -> list[Place]:
    """Return the place of each NUL in shell text, in a time that grows with the text."""
    found = Found()
    found.unsure = _UNCLEAR.search(text) is not None
    Commands(text, Frame("code"), found).read()
    depth = [0] * (len(found.places) + 1)
    for begin, end in found.tests:
        depth[begin] += 1
        depth[end] -= 1
    within = 0
    for change, place in zip(depth, found.places, strict=False):
        within += change
        place.sense = Sense.NUMBER if within else place.sense
    found.settle()
    return found.places


def takes_arguments(text: Sequence[Piece], count: int) -> bool:
    """Return True if the last values of a text, `count` of them, are arguments, or a comment."""
    found = places("".join(MARK if isinstance(piece, Value) else piece for piece in text))
    return all(
        place.kind is Kind.COMMENT
        or (place.kind is Kind.PLAIN and place.word and place.word.part is Part.ARGUMENT)
        for place in found[-count:]
    )


class Commands(Words):
    """The reading of commands: the grammar around words, here-documents."""

    announced = 0
    """Number of open constructs with here-documents whose bodies follow."""

    def read(self) -> None:
        """Read the text to its end."""
        if self.depth > DEEPEST:
            self.give_up(self.stack[0])
            return
        text, size, stack = self.text, len(self.text), self.stack
        while self.at < size:
            frame = stack[-1]
            match = _PATTERNS[frame.kind].match(text, self.at)
            assert match is not None
            assert match.lastgroup is not None
            self.at = match.end()
            if "\n" in match[0] and self.announced > bool(frame.pending):
                self.found.unsure = True  # a here-document of a command around this one begins
            _HANDLERS[frame.kind, match.lastgroup](self, frame, match)
        self.end_word(stack[-1], size)
        for frame in stack:
            self.end_test(frame)
        if len(stack) > 1:  # what was opened there is never closed
            for place in self.found.places[stack[1].opened :]:
                place.kind = Kind.UNSURE
        if len(stack) > 1 or stack[0].pending or stack[0].cases:
            self.found.unsure = True

    # -- between words -----------------------------------------------------------------------------

    def on_comment(self, frame: Frame, match: re.Match[str]) -> None:
        """Skip a comment; within a word ``#`` is a character."""
        del match
        if frame.word >= 0:
            frame.is_name = False
            return
        end = self.text.find("\n", self.at)
        end = len(self.text) if end < 0 else end
        self.add_all(self.text[self.at : end], Kind.COMMENT, frame)
        self.at = end

    def on_separator(self, frame: Frame, match: re.Match[str]) -> None:
        """End a command; an array holds none."""
        self.end_word(frame, match.start())
        self.found.unsure |= frame.array and match[0] != "\n"
        if frame.condition >= 0:
            return
        if match[0] == "\n" and frame.command in LOOPS and frame.loop and not frame.listing:
            return  # `in` or `do` follows
        if frame.cases and match[0][0] == ";" and len(match[0]) > 1:
            frame.cases = (*frame.cases[:-1], "pattern")
        frame.new_command()

    def on_newline(self, frame: Frame, match: re.Match[str]) -> None:
        """End a line, and read the here-documents that it announced."""
        self.on_separator(frame, match)
        for delimiter, quoted, tabs in frame.pending:
            end, after = end_of_document(
                self.text, self.at, delimiter, tabs=tabs, joined=not quoted
            )
            body = self.text[self.at : end]
            self.found.unsure |= after < 0
            self._document(body, delimiter, frame, quoted=quoted)
            self.at = len(self.text) if after < 0 else after + 1
        self.announced -= bool(frame.pending)
        frame.pending = ()

    def _document(self, body: str, delimiter: str, frame: Frame, *, quoted: bool) -> None:
        """Read the body of a here-document that was announced in `frame`."""
        root = Frame("here")
        root.nested = frame.nested
        base = None if self.base is None else self.base + self.at
        reader = Commands(body, root, self.found, self.depth + 1, self.backquotes, base)
        reader.delimiters = (*self.delimiters, delimiter)
        if quoted:
            reader.add_all(body, Kind.VERBATIM, root)
        else:
            reader.read()

    def on_here(self, frame: Frame, match: re.Match[str]) -> None:
        """Read ``<<`` and the delimiter."""
        self.on_redirection(frame, match)
        if match[0] == "<<<":
            return
        frame.target = False
        delimiter = delimiter_at(self.text, self.at)
        if delimiter is None:
            self.found.unsure = True
            return
        text, quoted, self.at = delimiter
        self.announced += not frame.pending
        frame.pending = (*frame.pending, (text, quoted, match[0] == "<<-"))
        if len(frame.pending) > MOST_DOCUMENTS:
            self.give_up(frame)

    def on_parentheses(self, frame: Frame, match: re.Match[str]) -> None:
        """Open ``(`` or ``((``, each of which has several meanings."""
        word = self.text[frame.word : match.start()] if frame.word >= 0 and frame.plain else ""
        if frame.first and word in STILL_FIRST | LOOPS:  # `if((1))`
            self.end_word(frame, match.start())
        inside = frame.word >= 0
        self.found.unsure |= frame.array
        array = inside and frame.assigns and self.text[match.start() - 1] == "="
        if frame.condition >= 0 or (frame.in_pattern() and not inside):
            self.end_word(frame, match.start())
            self.at = match.start() + 1
            return
        if match[0] == "((" and not inside and (frame.first or frame.command == "for"):
            self.push("arithmetic", frame, "))").grouping = True
            return
        self.at = match.start() + 1
        inner = self.push("code", frame, ")")
        inner.grouping = not inside
        inner.assigned = self.assigned(frame) if array else ""
        inner.array = array
        inner.in_array |= array
        inner.first = not array

    def on_function(self, frame: Frame, match: re.Match[str]) -> None:
        """Read ``()`` behind the name of a function."""
        self.end_word(frame, match.start())
        frame.new_command()

    def on_closing(self, frame: Frame, match: re.Match[str]) -> None:
        """Read ``)``: the end of a pattern of ``case``, or of commands."""
        self.end_word(frame, match.start())
        if frame.condition >= 0:
            return
        if frame.in_pattern():
            frame.cases = (*frame.cases[:-1], "commands")
            frame.new_command()
        elif frame.closer == ")":
            self.found.unsure |= bool(frame.pending or frame.cases)
            self.close()
        else:
            self.found.unsure = True


_Handler = Callable[[Commands, Frame, re.Match[str]], None]

_PATTERNS = {
    "arithmetic": ARITHMETIC, "braces": BRACES, "code": CODE, "double": DOUBLE, "here": HERE,
}  # fmt: skip
_SPECIAL: dict[tuple[str, str], _Handler] = {
    ("arithmetic", "chunk"): Commands.on_calculated,
    ("arithmetic", "newline"): Commands.on_newline_in_arithmetic,
    ("arithmetic", "parameter"): Commands.on_quoted_parameter,
    ("arithmetic", "parenthesis"): Commands.on_parenthesis,
    ("braces", "ansi"): Commands.on_unclear,
    ("braces", "chunk"): Commands.on_operator,
    ("braces", "other"): Commands.on_unclear,
    ("braces", "parameter"): Commands.on_quoted_parameter,
    ("braces", "single"): Commands.on_single_in_braces,
    ("code", "blank"): Commands.on_blank,
    ("code", "bracket"): Commands.on_bracket,
    ("code", "chunk"): Commands.on_chunk,
    ("code", "closing"): Commands.on_closing,
    ("code", "comment"): Commands.on_comment,
    ("code", "escape"): Commands.on_piece,
    ("code", "function"): Commands.on_function,
    ("code", "here"): Commands.on_here,
    ("code", "newline"): Commands.on_newline,
    ("code", "other"): Commands.on_piece,
    ("code", "parameter"): Commands.on_parameter,
    ("code", "parentheses"): Commands.on_parentheses,
    ("code", "quoted"): Commands.on_quoted,
    ("code", "redirection"): Commands.on_redirection,
    ("code", "separator"): Commands.on_separator,
    ("double", "chunk"): Commands.on_quoted_chunk,
    ("double", "parameter"): Commands.on_quoted_parameter,
}
_COMMON: dict[str, _Handler] = {
    "close": Commands.on_close,
    "dollar": Commands.on_dollar,
    "double": Commands.on_open,
    "open": Commands.on_open,
    "place": Commands.on_place,
    "unclear": Commands.on_unclear,
}
_HANDLERS: dict[tuple[str, str], _Handler] = {
    (kind, group): _SPECIAL.get((kind, group)) or _COMMON.get(group) or Commands.on_skip
    for kind, pattern in _PATTERNS.items()
    for group in pattern.groupindex
}
