"""What the parser of shell text keeps: places for values, and the shell constructs around them."""

from __future__ import annotations

import enum

import msgspec

from zwrap.recipe.shelltokens import BRACKETS, CALCULATED, DECLARING, EXPANDED, MAPPING, NAMING


class Kind(enum.Enum):
    """The quotes around a place."""

    PLAIN = enum.auto()
    SINGLE = enum.auto()
    DOUBLE = enum.auto()
    ANSI = enum.auto()
    """``$'...'``."""
    COMMENT = enum.auto()
    HERE = enum.auto()
    """A here-document in which the shell expands variables."""
    VERBATIM = enum.auto()
    """A here-document whose delimiter is quoted."""
    UNSURE = enum.auto()


class Sense(enum.Enum):
    """What the shell does with the value at a place."""

    WORD = enum.auto()
    NUMBER = enum.auto()
    """It evaluates the value as arithmetic, with the commands in a subscript."""
    NAME = enum.auto()
    """It takes the value for the name of a variable, with the commands in a subscript."""
    VARIABLE = enum.auto()
    """It expands the variable of that name: ``${x}`` where a recipe means ``${{x}}``."""
    COMMAND = enum.auto()
    """It runs the value."""


class Part(enum.Enum):
    """What a word is in its command."""

    ARGUMENT = enum.auto()
    NAME = enum.auto()
    """The name of the command, or a word of the grammar."""
    ASSIGNMENT = enum.auto()
    COMPARED = enum.auto()
    """An operand of ``[ ]`` or ``[[ ]]``, the subject of ``case``, or a pattern of it."""
    TARGET = enum.auto()
    """The word behind ``<`` or ``>``."""


class Word(msgspec.Struct, frozen=True):
    """One word in shell text."""

    begin: int
    end: int
    part: Part


class Place(msgspec.Struct):
    """One place in shell text."""

    kind: Kind
    sense: Sense = Sense.WORD
    escaped: bool = False
    """True if a backslash stands before it."""
    first: bool = False
    """True if a command, an assignment or a word of the grammar may begin here."""
    nested: bool = False
    """True inside ``$(...)``."""
    in_array: bool = False
    """True inside ``name=(...)``, of which bash gives up one line only after an error."""
    backquotes: int = 0
    """1 inside plain backquotes; 2 if there are further quotes or substitutions around them."""
    braces: str = ""
    """Operator of the ``${...}`` within double quotes, or within a here-document, around it."""
    delimiters: tuple[str, ...] = ()
    """Delimiters of the here-documents around it, from outside to inside."""
    subscript: bool = False
    """True if ``[`` stands before it in its word."""
    variable: str = ""
    """Name of the variable to which it is assigned."""
    distrusted: bool = False
    """True if shells differ about the quotes before it."""
    word: Word | None = None
    """The word around it; None: there is none, or it is not known where it begins and ends."""


class Frame:
    """One open construct: commands, quotes, ``${...}``, arithmetic, or a here-document.

    Defaults are attributes of the class, because a text may open hundreds of thousands of frames.
    """

    nested = in_array = False
    """True inside ``$(...)``; inside ``name=(...)``."""
    opened = 0
    """Number of places before it."""
    depth = 0
    """Number of open parentheses, or brackets, of arithmetic."""
    braces = stage = ""
    """Operator of ``${...}``: of one within quotes; of this one, and before it ``name``."""
    assigned = ""
    """Name of the variable to which the word around it is assigned."""
    parameter = ""
    """Name of the parameter of ``${...}``."""

    # of commands
    array = grouping = False
    """True between the parentheses of an array; between those of ``(...)`` and ``((...))``."""
    first = True
    """True where the name of a command is expected."""
    command = options = loop = ""
    """Name of the command, options that matter, and the variable of ``for``."""
    variable = operands = listing = target = False
    """True behind an option -v that takes the name of a variable; behind all options; behind
    ``for name in``; behind ``<`` or ``>``."""
    cases: tuple[str, ...] = ()
    """Stage of each open ``case``: ``subject``, ``pattern``, ``commands``."""
    pending: tuple[tuple[str, bool, bool], ...] = ()
    """Here-documents whose bodies follow: delimiter, whether it is quoted, whether tabs count."""
    condition = -1
    """Number of places before the open ``[[``; -1: there is none."""
    compares = False
    """True if numbers are compared in ``[[ ]]``."""
    tested: set[str]
    """Names of the variables in ``[[ ]]``."""

    # of the word at hand
    word = begin = -1
    """Position of its beginning, behind a quote or the like; -1: there is none. That with it."""
    plain = is_name = True
    """True if it has no quotes or expansions; if it may be the name of a variable."""
    assigns = equals = bracket = False
    """True if it is an assignment; if ``=``, or ``[``, stands in it."""
    inside: list[Place] | None = None
    """Places in it; None: there are none."""

    def __init__(self, kind: str, closer: str = "", sense: Sense = Sense.WORD) -> None:
        self.kind, self.closer, self.sense = kind, closer, sense

    def new_word(self, start: int) -> None:
        """Begin a word at a position; -1: there is none."""
        self.word = self.begin = start
        self.plain = self.is_name = True
        self.assigns = self.equals = self.bracket = False
        self.inside = None

    def new_command(self) -> None:
        """Begin a command."""
        self.first = not self.array
        self.command = self.options = self.loop = ""
        self.variable = self.operands = self.listing = self.target = False

    def in_pattern(self) -> bool:
        """Return True before the ``)`` of a pattern of ``case``."""
        return bool(self.cases) and self.cases[-1] == "pattern"

    def part(self) -> Part:
        """Return what the word at hand is in its command."""
        if self.target:
            return Part.TARGET
        if self.condition >= 0 or (self.cases and self.cases[-1] != "commands"):
            return Part.COMPARED
        if self.first:
            return Part.ASSIGNMENT if self.assigns else Part.NAME
        if self.command in BRACKETS:
            return Part.COMPARED
        declares = self.assigns and self.command in DECLARING
        return Part.ASSIGNMENT if declares else Part.ARGUMENT

    def argument_sense(self) -> Sense:
        """Return what the command does with the word at hand."""
        if self.array:  # values in (...) are not read again, but numbers are
            return self.sense if self.sense is Sense.NUMBER else Sense.WORD
        if self.target:
            return Sense.WORD
        if self.command in MAPPING and "C" in self.options:
            return Sense.COMMAND
        if self.variable or self.command in NAMING:
            return Sense.NAME
        if self.command == "let" or (self.command in DECLARING and "i" in self.options):
            return Sense.NUMBER
        if self.command in DECLARING and (not self.equals or set(self.options) - {"i"}):
            return Sense.NAME
        return Sense.WORD


class Found:
    """What has been found in a text, its here-documents and backquotes."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.tests: list[tuple[int, int]] = []
        """Ranges of places between ``[[`` and ``]]`` where numbers are compared."""
        self.unsure = self.distrusted = False
        self.calculated = set(CALCULATED)
        """Names of the variables with which the text calculates."""
        self.named = set(EXPANDED)
        """Names of the variables that hold names of variables, or text with commands."""
        self.flows: dict[str, set[str]] = {}
        """Name of each variable to the names that stand in what is assigned to it."""

    def settle(self) -> None:
        """Set the sense of each place whose value reaches another variable by assignments."""
        for names in (self.calculated, self.named):
            waiting = list(names)
            while waiting:
                more = self.flows.get(waiting.pop(), set()) - names
                names.update(more)
                waiting += more
        for place in self.places:
            named = place.sense is Sense.NAME and place.subscript
            if named or place.variable in self.calculated:
                place.sense = Sense.NUMBER
            elif place.sense is Sense.WORD and place.variable in self.named:
                place.sense = Sense.NAME
