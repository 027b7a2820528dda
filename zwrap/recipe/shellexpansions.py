"""Parser of shell text, lowest part: quotes, parameters, arithmetic, substitutions."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod

from zwrap.recipe.shellplaces import Found, Frame, Kind, Place, Sense
from zwrap.recipe.shelltokens import (
    ASSIGNED,
    MAPPING,
    MARK,
    NAME_PART,
    NAMES,
    OPERATOR,
    PARAMETER,
    TICKED,
)

DEEPEST_NESTING = 200
"""Depth to which quotes, substitutions and the like within each other are read."""

_MARKS = re.compile(r"\0")
_OPTION = re.compile(r"[$\"'\\]{0,2}-[\"'\\]{0,2}([v\0]?)")
_ESCAPES = re.compile(r"\\.|\0", re.DOTALL)


class Expansions(ABC):
    """The reading of one text: of commands, or of a here-document."""

    def __init__(
        self,
        text: str,
        frame: Frame,
        found: Found,
        depth: int = 0,
        backquotes: int = 0,
        base: int | None = 0,
    ) -> None:
        self.text, self.found, self.base = text, found, base
        self.stack = [frame]
        self.depth, self.backquotes = depth, backquotes
        self.at = 0
        self.delimiters: tuple[str, ...] = ()
        """Delimiters of the here-documents around the text, from outside to inside."""

    @abstractmethod
    def read(self) -> None:
        """Read the text to its end."""

    def begin_word(self, frame: Frame, at: int) -> None:
        """Begin a word unless there is one."""
        if frame.word < 0:
            frame.new_word(at)

    # -- places, and what stands in all frames -----------------------------------------------------

    def on_place(self, frame: Frame, match: re.Match[str]) -> None:
        """Note a place."""
        escaped = match[0][0] == "\\"
        if frame.kind == "code":
            self.begin_word(frame, match.start())
            self.add(Kind.PLAIN, frame, escaped=escaped, sense=self.sense(frame))
            if not frame.is_name:
                frame.plain = False
            return
        kind = {"here": Kind.HERE, "double": Kind.DOUBLE}.get(frame.kind, Kind.PLAIN)
        sense = self.sense(frame)
        if frame.kind == "braces" and frame.stage == "name" and sense is not Sense.NUMBER:
            sense = Sense.VARIABLE
        self.add(kind, frame, escaped=escaped, sense=sense)

    def on_dollar(self, frame: Frame, match: re.Match[str]) -> None:
        """Note a place after ``$``."""
        if frame.kind == "code":
            self.begin_word(frame, match.start())
            frame.plain = frame.is_name = False
        kind = {"here": Kind.HERE, "double": Kind.DOUBLE}.get(frame.kind, Kind.PLAIN)
        sense = Sense.NUMBER if frame.kind == "arithmetic" else Sense.VARIABLE
        self.add(kind, frame, sense=sense)

    def sense(self, frame: Frame) -> Sense:
        """Return the sense of a place in a frame, which quotes take from the command around."""
        if frame.kind != "code":
            return frame.sense
        sense = frame.argument_sense()
        if frame.command != "printf" and frame.command not in MAPPING:
            return sense
        option = _OPTION.match(self.text, frame.word) if frame.word >= 0 else None
        if frame.target or frame.operands or option is None:
            return sense
        if frame.command in MAPPING:  # such as `-Ccommand`
            return Sense.COMMAND
        return Sense.NAME if option[1] else sense  # `-va[1]`

    def add(
        self, kind: Kind, frame: Frame, sense: Sense = Sense.WORD, *, escaped: bool = False
    ) -> None:
        """Note a place of the given kind and sense."""
        found = self.found
        first = frame.kind == "code" and frame.first and frame.is_name and not frame.target
        place = Place(
            kind=Kind.UNSURE if found.unsure else kind,
            sense=sense,
            escaped=escaped,
            first=first,
            nested=frame.nested,
            in_array=frame.in_array,
            backquotes=self.backquotes,
            braces=frame.braces,
            delimiters=self.delimiters,
            subscript=frame.bracket,
            variable=self.assigned(frame),
            distrusted=found.distrusted,
        )
        found.places.append(place)
        self._put_in_word(place)

    def _put_in_word(self, place: Place) -> None:
        """Note a place as one of the word around it, which is in the innermost command."""
        for frame in reversed(self.stack):
            if frame.kind == "code":
                if frame.word >= 0:
                    frame.inside = frame.inside or []
                    frame.inside.append(place)
                return
            if frame.grouping:  # ((...)) is no word
                return

    def assigned(self, frame: Frame) -> str:
        """Return the name of the variable to which the word at hand is assigned; "": to none."""
        if frame.loop or frame.array or frame.kind != "code" or not frame.equals:
            return frame.loop or frame.assigned
        name = ASSIGNED.match(self.text, frame.word)
        return name[1] if name else ""

    def calculate(self, text: str) -> None:
        """Note the names of variables in arithmetic."""
        self.found.calculated.update(NAMES.findall(text))

    def use(self, frame: Frame, text: str) -> None:
        """Note how the shell uses the variables that are named in a piece of a frame."""
        names, sense = NAMES.findall(text), self.sense(frame)
        if sense is Sense.NUMBER:
            self.found.calculated.update(names)
        elif sense is Sense.NAME and (text[0] == "$" or frame.bracket):
            self.found.named.update(names)
        if names and (variable := self.assigned(frame)):
            self.found.flows.setdefault(variable, set()).update(names)
        around = next((each for each in reversed(self.stack) if each.kind == "code"), frame)
        if around.condition >= 0:
            around.tested.update(names)

    def add_all(self, text: str, kind: Kind, frame: Frame) -> None:
        """Note each place in a piece of the text."""
        if MARK not in text:
            return
        sense = Sense.WORD if kind is Kind.COMMENT else self.sense(frame)
        for match in (_ESCAPES if kind is Kind.ANSI else _MARKS).finditer(text):
            if match[0][-1] == MARK:
                self.add(kind, frame, sense, escaped=len(match[0]) > 1)

    def on_skip(self, frame: Frame, match: re.Match[str]) -> None:  # noqa: B027  (it does nothing)
        """Go on behind text of no further meaning."""

    def on_unclear(self, frame: Frame, match: re.Match[str]) -> None:
        """Note that the quotes around all further places cannot be determined."""
        del frame, match
        self.found.unsure = True

    def give_up(self, frame: Frame) -> None:
        """Stop reading this text, and treat all places that follow as unsure."""
        self.found.unsure = True
        self.add_all(self.text[self.at :], Kind.UNSURE, frame)
        self.at = len(self.text)

    def push(self, kind: str, frame: Frame, closer: str = "") -> Frame:
        """Open a construct."""
        if frame.kind == "code":
            self.begin_word(frame, self.at)
            frame.plain = frame.is_name = False
        sense = Sense.NUMBER if kind == "arithmetic" else self.sense(frame)
        inner = Frame(kind, closer, sense)
        inner.nested, inner.in_array = frame.nested, frame.in_array
        inner.opened = len(self.found.places)
        if kind != "code":
            inner.braces, inner.bracket = frame.braces, frame.bracket
            inner.assigned = self.assigned(frame)
        self.stack.append(inner)
        if len(self.stack) > DEEPEST_NESTING:
            self.give_up(frame)
        return inner

    def on_open(self, frame: Frame, match: re.Match[str]) -> None:
        """Open a construct that begins alike in words and in quotes."""
        opening, begins = match[0], frame.kind == "code" and frame.word < 0
        if opening == "`":
            self.backquoted(frame)
        elif opening == "${":
            self.open_braces(frame)
        elif opening == "$(":
            self.push("code", frame, ")").nested = True
        elif opening == "$[":
            self.push("arithmetic", frame, "]")
        elif opening == "$((":
            self.push("arithmetic", frame, "))")
        else:
            self.push("double", frame)
        if begins:
            frame.begin = match.start()

    def on_close(self, frame: Frame, match: re.Match[str]) -> None:
        """Close the innermost construct."""
        del frame, match
        self.close()

    def close(self) -> None:
        """Close the innermost construct; commands in parentheses are no part of a word."""
        if self.stack.pop().grouping:
            self.end_word(self.stack[-1], self.at)

    @abstractmethod
    def end_word(self, frame: Frame, end: int) -> None:
        """End the word at hand, if there is one."""

    def backquoted(self, frame: Frame) -> None:
        """Read what stands in backquotes, with the escapes that belong to them removed."""
        content = TICKED.match(self.text, self.at)
        assert content is not None
        self.at = content.end() + 1
        self.found.unsure |= self.at > len(self.text)
        pattern = r'\\([\\`$"])' if frame.kind == "double" else r"\\([\\`$])"
        text = re.sub(pattern, r"\1", content[0])
        outer = frame.kind != "code" or frame.nested or self.backquotes
        if frame.kind == "code":
            self.begin_word(frame, content.start())
            frame.plain = frame.is_name = False
        if text:
            quotes = 2 if outer else 1
            frame = Frame("code")
            inner = type(self)(text, frame, self.found, self.depth + 1, quotes, base=None)
            inner.delimiters = self.delimiters
            inner.read()

    def on_quoted_chunk(self, frame: Frame, match: re.Match[str]) -> None:
        """Read plain characters in quotes, which may hold the end of a name, or a subscript."""
        text, outer = match[0], self.stack[-2]
        if "[" in text:
            frame.bracket = outer.bracket = True
        if outer.kind == "code":
            if not outer.equals and "[" in text:  # `declare "a[n]=1"`
                self.use(frame, text.partition("=")[0] or "=")
            outer.equals |= "=" in text
            frame.sense, frame.assigned = self.sense(outer), self.assigned(outer)
        self.use(frame, text)

    def on_quoted_parameter(self, frame: Frame, match: re.Match[str]) -> None:
        """Read ``$name`` in quotes, or in ``${...}``."""
        self.use(frame, match[0])

    # -- arithmetic and parameters -----------------------------------------------------------------

    def open_braces(self, frame: Frame) -> None:
        """Open ``${``, and read the name of the parameter."""
        quoted = frame.kind in ("double", "here") or bool(frame.braces)
        inner = self.push("braces", frame)
        inner.stage = "name"
        inner.braces = "-" if quoted else ""
        name = PARAMETER.match(self.text, self.at)
        assert name is not None
        self.at = name.end()
        inner.parameter = name[0].lstrip("!#")
        if name[0].startswith("!"):  # the variable whose name another one holds
            inner.sense = Sense.NUMBER
        if not name[0].startswith("#"):  # no length
            self.use(inner, f"${name[0]}")

    def on_operator(self, frame: Frame, match: re.Match[str]) -> None:
        """Read the operator behind the name of a parameter; elsewhere it is plain text."""
        if frame.stage != "name":
            self.use(frame, match[0])
            return
        if name := NAME_PART.match(match[0]):  # behind a placeholder
            self.at = match.start() + name.end()
            return
        if match[0][0] == "[":
            self.at = match.start() + 1
            self.push("arithmetic", frame, "]")
            return
        operator = OPERATOR.match(self.text, match.start())
        if operator is None:
            self.found.unsure = True
            return
        self.at = operator.end()
        frame.stage = operator[0]
        if operator[0].endswith("="):
            frame.assigned = frame.parameter
        if operator[0] == "@" and self.text[self.at : self.at + 1] in ("P", MARK, "$", "`"):
            self.found.named.add(frame.parameter)  # bash runs the commands in its value
        if operator[0] == ":":
            frame.sense = Sense.NUMBER
            self.found.unsure |= self.text.startswith("}", self.at)  # dash reads on
            self.calculate(match[0])
        if frame.braces:
            frame.braces = operator[0]

    def on_single_in_braces(self, frame: Frame, match: re.Match[str]) -> None:
        """Read ``'`` in ``${...}``, which is no quote in ``"${x:-'}"``."""
        del match
        if frame.braces and frame.stage.endswith(("-", "=", "?", "+")):
            return
        end = self.text.find("'", self.at)
        self.found.unsure |= end < 0
        end = len(self.text) if end < 0 else end
        self.add_all(self.text[self.at : end], Kind.SINGLE, frame)
        self.at = end + 1

    def on_calculated(self, frame: Frame, match: re.Match[str]) -> None:
        """Read a piece of arithmetic."""
        del frame
        self.calculate(match[0])

    def on_parenthesis(self, frame: Frame, match: re.Match[str]) -> None:
        """Count ``( ) [ ]`` of arithmetic, up to its end."""
        character = match[0]
        if character not in ("()" if frame.closer == "))" else "[]"):
            return
        if character in "([":
            frame.depth += 1
        elif frame.depth:
            frame.depth -= 1
        elif self.text.startswith(frame.closer, match.start()):
            self.at = match.start() + len(frame.closer)
            self.close()
        else:  # `$((a) ...)`: commands in parentheses within a substitution
            self.found.unsure = True
            self.stack.pop()

    def on_newline_in_arithmetic(self, frame: Frame, match: re.Match[str]) -> None:
        """Give up what looked like a subscript at the end of the line."""
        if frame.closer == "]" and self.stack[-2].kind == "code":
            self.stack.pop()
            self.at = match.start()
            self.found.unsure = True
