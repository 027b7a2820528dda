"""Reading of shell text: what the shell makes of a value that is put at a place.

The text is read once, from left to right, as bash reads it: words, quotes, comments,
here-documents, expansions, arithmetic. Each place is a NUL in the text, because no shell text can
hold one. Source: POSIX.1, Shell Command Language; bash(1).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from zwrap.recipe.shellexpansions import DEEPEST_NESTING, Expansions
from zwrap.recipe.shellplaces import Found, Frame, Kind, Place, Sense
from zwrap.recipe.shelltokens import (
    ARITHMETIC,
    ASSIGNMENT,
    BRACES,
    CODE,
    COMPARISONS,
    DECLARING,
    DOUBLE,
    HERE,
    MARK,
    NAME_PART,
    NAMES,
    NAMING,
    STILL_FIRST,
    TESTING,
    delimiter_at,
    end_of_document,
)

DEEPEST = 10
"""Depth to which here-documents and backquotes within each other are read."""

MOST_DOCUMENTS = 100
"""Number of here-documents that one line may announce."""


def places(text: str) -> list[Place]:
    """Return the place of each NUL in shell text, in a time that grows with the text."""
    found = Found()
    Commands(text, Frame("code"), found).read()
    for sense in (Sense.NAME, Sense.NUMBER):
        depth = [0] * (len(found.places) + 1)
        for begin, end, given in found.tests:
            if given is sense:
                depth[begin] += 1
                depth[end] -= 1
        within = 0
        for change, place in zip(depth, found.places, strict=False):
            within += change
            place.sense = sense if within else place.sense
    for place in found.places:
        named = place.sense is Sense.NAME and place.subscript
        if named or place.variable in found.calculated:
            place.sense = Sense.NUMBER
    return found.places


class Commands(Expansions):
    """The reading of commands: words, the grammar around them, here-documents."""

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
            _HANDLERS[frame.kind, match.lastgroup](self, frame, match)
        self.end_word(stack[-1], size)
        for frame in stack:
            self._end_test(frame)
        if len(stack) > 1:  # what was opened there is never closed
            for place in self.found.places[stack[1].opened :]:
                place.kind = Kind.UNSURE
        if len(stack) > 1 or stack[0].pending or stack[0].cases:
            self.found.unsure = True

    # -- words -------------------------------------------------------------------------------------

    def on_chunk(self, frame: Frame, match: re.Match[str]) -> None:
        """Read plain characters of a word."""
        self.begin_word(frame, match.start())
        text = match[0]
        if frame.is_name and ASSIGNMENT.match(text):
            frame.assigns = True
        frame.equals |= "=" in text
        if frame.command == "let":
            self.calculate(text)
        frame.is_name = frame.is_name and NAME_PART.fullmatch(text) is not None

    def on_parameter(self, frame: Frame, match: re.Match[str]) -> None:
        """Read ``$name``."""
        self.test_variable(frame, match[0])
        self.on_piece(frame, match)

    def on_piece(self, frame: Frame, match: re.Match[str]) -> None:
        """Read a piece of a word that is no name: an escape, a parameter, a lonely character."""
        if match[0] != "\\\n":
            self.begin_word(frame, match.start())
            frame.plain = frame.is_name = False

    def on_quoted(self, frame: Frame, match: re.Match[str]) -> None:
        """Read ``'...'`` or ``$'...'``."""
        self.begin_word(frame, match.start())
        frame.plain = frame.is_name = False
        ansi = match[0][0] == "$"
        before = match[0].partition(MARK)[0]
        frame.equals |= "=" in before
        frame.bracket |= "[" in match[0]
        if self.sense(frame) is Sense.NUMBER:
            self.calculate(match[0])
        self.found.distrusted |= ansi and "\\'" in match[0]
        self.found.unsure |= len(match[0]) < 2 + ansi or match[0][-1] != "'"
        self.add_all(match[0], Kind.ANSI if ansi else Kind.SINGLE, frame)

    def on_blank(self, frame: Frame, match: re.Match[str]) -> None:
        """End a word at blanks, ``<`` or ``>``; the latter are no part of an array."""
        self.end_word(frame, match.start())
        self.found.unsure |= frame.array and match[0][0] not in " \t"

    def on_bracket(self, frame: Frame, match: re.Match[str]) -> None:
        """Open a subscript, or read ``[`` as a character of a word."""
        named = frame.word >= 0 and frame.is_name and frame.condition < 0 and not frame.in_pattern()
        naming = frame.first or frame.variable or frame.command in DECLARING | NAMING
        if (named and naming) or (frame.array and frame.word < 0):
            self.push("arithmetic", frame, "]")
            frame.is_name = True
        else:
            self.begin_word(frame, match.start())
            frame.is_name = False
            frame.bracket = True

    def end_word(self, frame: Frame, end: int) -> None:
        """End the word at hand, if there is one, and see what it means."""
        if frame.word < 0:
            return
        word = self.text[frame.word : end] if frame.plain else ""
        assigns = frame.assigns
        frame.new_word(-1)
        if frame.cases and frame.cases[-1] != "commands":
            self._word_of_case(frame, word)
        elif frame.condition >= 0:
            self._word_of_test(frame, word)
        elif not frame.first:
            frame.variable = word == "-v" and frame.command in TESTING
            if frame.command in ("for", "select"):
                frame.loop = frame.loop or word
            if word.startswith("-") and frame.command in DECLARING:
                frame.options += "".join(c for c in "aAin" if c in word and c not in frame.options)
            elif frame.argument_sense() is Sense.NUMBER:  # `declare -i name`
                self.calculate(word)
        elif not assigns and word not in STILL_FIRST:
            self._first_word(frame, word)

    def _first_word(self, frame: Frame, word: str) -> None:
        """Read the name of a command, or a word of the grammar."""
        frame.first, frame.command = False, word
        if word == "case":
            frame.cases = (*frame.cases, "subject")
            if len(frame.cases) > DEEPEST_NESTING:
                self.give_up(frame)
        elif word == "esac" and frame.cases:
            frame.cases = frame.cases[:-1]
        elif word == "[[":
            frame.condition, frame.test = len(self.found.places), Sense.WORD
            frame.tested = set()

    def _word_of_case(self, frame: Frame, word: str) -> None:
        """Read a word between ``case`` and the ``)`` of a pattern."""
        if frame.cases[-1] == "subject" and word == "in":
            frame.cases = (*frame.cases[:-1], "pattern")
        elif frame.cases[-1] == "pattern" and word == "esac":
            frame.cases = frame.cases[:-1]
            frame.first = False

    def _word_of_test(self, frame: Frame, word: str) -> None:
        """Read a word between ``[[`` and ``]]``."""
        if word in COMPARISONS:
            frame.test = Sense.NUMBER
        elif word == "-v" and frame.test is Sense.WORD:
            frame.test = Sense.NAME
        elif word == "]]":
            self._end_test(frame)
        else:
            frame.tested.update(NAMES.findall(word))

    def _end_test(self, frame: Frame) -> None:
        """End ``[[ ... ]]``, if there is one."""
        if frame.condition >= 0:
            self.found.tests.append((frame.condition, len(self.found.places), frame.test))
            if frame.test is Sense.NUMBER:
                self.found.calculated |= frame.tested
            frame.condition = -1

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
        frame.pending = ()

    def _document(self, body: str, delimiter: str, frame: Frame, *, quoted: bool) -> None:
        """Read the body of a here-document that was announced in `frame`."""
        root = Frame("here")
        root.nested = frame.nested
        reader = Commands(body, root, self.found, self.depth + 1, self.backquotes)
        reader.delimiter = delimiter
        if quoted:
            reader.add_all(body, Kind.VERBATIM, root)
        else:
            reader.read()

    def on_here(self, frame: Frame, match: re.Match[str]) -> None:
        """Read ``<<`` and the delimiter."""
        self.on_blank(frame, match)
        if match[0] == "<<<":
            return
        delimiter = delimiter_at(self.text, self.at)
        if delimiter is None:
            self.found.unsure = True
            return
        text, quoted, self.at = delimiter
        frame.pending = (*frame.pending, (text, quoted, match[0] == "<<-"))
        if len(frame.pending) > MOST_DOCUMENTS:
            self.give_up(frame)

    def on_parentheses(self, frame: Frame, match: re.Match[str]) -> None:
        """Open ``(`` or ``((``, each of which has several meanings."""
        inside = frame.word >= 0
        self.found.unsure |= frame.array
        array = inside and frame.assigns and self.text[match.start() - 1] == "="
        if frame.condition >= 0 or (frame.in_pattern() and not inside):
            self.end_word(frame, match.start())
            self.at = match.start() + 1
            return
        if match[0] == "((" and not inside and (frame.first or frame.command == "for"):
            self.push("arithmetic", frame, "))")
            return
        self.at = match.start() + 1
        inner = self.push("code", frame, ")")
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
            self.stack.pop()
        else:
            self.found.unsure = True


_Handler = Callable[[Commands, Frame, re.Match[str]], None]

_PATTERNS = {
    "arithmetic": ARITHMETIC, "braces": BRACES, "code": CODE, "double": DOUBLE, "here": HERE,
}  # fmt: skip
_SPECIAL: dict[tuple[str, str], _Handler] = {
    ("arithmetic", "chunk"): Commands.on_calculated,
    ("arithmetic", "newline"): Commands.on_newline_in_arithmetic,
    ("arithmetic", "parameter"): Commands.on_calculated,
    ("arithmetic", "parenthesis"): Commands.on_parenthesis,
    ("braces", "ansi"): Commands.on_unclear,
    ("braces", "chunk"): Commands.on_operator,
    ("braces", "other"): Commands.on_unclear,
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
    ("code", "redirection"): Commands.on_blank,
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
