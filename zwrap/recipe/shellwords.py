"""Parser of shell text, middle part: words, and what a command does with each of them."""

from __future__ import annotations

import re

from zwrap.recipe.shellexpansions import DEEPEST_NESTING, Expansions
from zwrap.recipe.shellplaces import Frame, Kind, Sense, Word
from zwrap.recipe.shelltokens import (
    ASSIGNMENT,
    BRACED_NAME,
    COMPARISONS,
    COMPOUND,
    DECLARING,
    DESCRIPTOR,
    LOOPS,
    MAPPING,
    MARK,
    NAME_PART,
    NAMES,
    NAMING,
    PREFIXES,
    STILL_FIRST,
    TESTING,
    unquoted,
)

_OPTIONS = {**dict.fromkeys(DECLARING, "aAin"), **dict.fromkeys(MAPPING, "C")}
"""Name of a command to its options that matter."""


class Words(Expansions):
    """The reading of words in commands."""

    def on_chunk(self, frame: Frame, match: re.Match[str]) -> None:
        """Read plain characters of a word."""
        self.begin_word(frame, match.start())
        text = match[0]
        if frame.is_name and ASSIGNMENT.match(text):
            frame.assigns = True
        frame.equals |= "=" in text
        self.use(frame, text)
        frame.is_name = frame.is_name and NAME_PART.fullmatch(text) is not None

    def on_parameter(self, frame: Frame, match: re.Match[str]) -> None:
        """Read ``$name``."""
        self.on_piece(frame, match)
        self.use(frame, match[0])

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
        frame.bracket |= "[" in match[0]
        if not frame.equals:  # `declare 'a[n]=1'`
            self.use(frame, match[0].partition("=")[0])
        frame.equals |= "=" in before
        self.use(frame, match[0])
        self.found.distrusted |= ansi and "\\'" in match[0]
        self.found.unsure |= len(match[0]) < 2 + ansi or match[0][-1] != "'"
        self.add_all(match[0], Kind.ANSI if ansi else Kind.SINGLE, frame)

    def on_blank(self, frame: Frame, match: re.Match[str]) -> None:
        """End a word at blanks, ``<`` or ``>``; the latter are no part of an array."""
        self.end_word(frame, match.start())
        self.found.unsure |= frame.array and match[0][0] not in " \t"

    def on_redirection(self, frame: Frame, match: re.Match[str]) -> None:
        """Read ``<``, ``>`` and the like, behind which a word stands that is no argument."""
        if frame.word >= 0 and DESCRIPTOR.fullmatch(self.text, frame.word, match.start()):
            frame.new_word(-1)
        self.on_blank(frame, match)
        frame.target = frame.condition < 0

    def on_bracket(self, frame: Frame, match: re.Match[str]) -> None:
        """Open a subscript, or read ``[`` as a character of a word."""
        named = frame.word >= 0 and frame.is_name and frame.condition < 0 and not frame.in_pattern()
        naming = frame.first or frame.variable or frame.command in DECLARING | NAMING
        braced = frame.word >= 0 and BRACED_NAME.fullmatch(self.text, frame.word, match.start())
        if (named and naming) or braced or (frame.array and frame.word < 0):
            begins = frame.word < 0
            self.push("arithmetic", frame, "]")
            frame.is_name = True
            frame.begin = match.start() if begins else frame.begin
        else:
            self.begin_word(frame, match.start())
            frame.is_name = False
            frame.bracket = True

    def end_word(self, frame: Frame, end: int) -> None:
        """End the word at hand, if there is one, and see what it means."""
        if frame.word < 0:
            return
        text = self.text[frame.word : end]
        word = text.replace("\\\n", "") if frame.plain else ""
        assigns = frame.assigns
        if frame.inside and self.base is not None:
            around = Word(self.base + frame.begin, self.base + end, frame.part())
            for place in frame.inside:
                place.word = around
        frame.new_word(-1)
        if frame.target:
            frame.target = False
        elif frame.cases and frame.cases[-1] != "commands":
            self._word_of_case(frame, word)
        elif frame.condition >= 0:
            self._word_of_test(frame, word)
        elif not frame.first:
            self._argument(frame, word, unquoted(text))
        elif not assigns:
            self._first_word(frame, word, unquoted(text))

    def _argument(self, frame: Frame, word: str, bare: str) -> None:
        """Read a word behind the name of a command; `word` is "" if it has quotes."""
        command = frame.command
        again = word in STILL_FIRST and command in COMPOUND and not frame.listing
        if again or word == "{" or command == "function":
            frame.new_command()
            return
        operands = frame.operands and command == "printf"
        frame.operands |= not frame.variable and (bare == "--" or not bare.startswith("-"))
        frame.variable = bare == "-v" and command in TESTING and not operands
        if command in LOOPS:
            frame.listing = bool(frame.loop)
            frame.loop = frame.loop or word
        if bare.startswith("-") and command in _OPTIONS:
            frame.options += "".join(
                c for c in _OPTIONS[command] if c in bare and c not in frame.options
            )
        elif frame.argument_sense() is Sense.NUMBER:  # `declare -i name`
            self.calculate(bare)
        elif command in DECLARING and "n" in frame.options:  # `declare -n name`
            self.found.named.update(NAMES.findall(bare))

    def _first_word(self, frame: Frame, word: str, bare: str) -> None:
        """Read the name of a command, or a word of the grammar; `word` is "" if it has quotes."""
        if word in STILL_FIRST or bare in PREFIXES or bare.startswith("-"):  # such as `time -p`
            return
        frame.first, frame.command = False, bare
        if word == "case":
            frame.cases = (*frame.cases, "subject")
            if len(frame.cases) > DEEPEST_NESTING:
                self.give_up(frame)
        elif word == "esac" and frame.cases:
            frame.cases = frame.cases[:-1]
        elif word == "[[":
            frame.condition, frame.compares = len(self.found.places), False
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
        frame.variable = word == "-v"
        if word in COMPARISONS:
            frame.compares = True
        elif word == "]]":
            self.end_test(frame)
        else:
            frame.tested.update(NAMES.findall(word))

    def end_test(self, frame: Frame) -> None:
        """End ``[[ ... ]]``, if there is one."""
        if frame.condition >= 0 and frame.compares:
            self.found.tests.append((frame.condition, len(self.found.places)))
            self.found.calculated |= frame.tested
        frame.condition = -1
