"""Command lines of a definition: words, groups, conditions, and the commands after the first."""

# Annotations are not postponed: msgspec would compile each when a job starts.
import re
from collections.abc import Iterator, Mapping
from typing import Annotated

import msgspec

from zwrap.errors import ProgramError, UnknownNameError
from zwrap.program.keys.marks import FILLED, INPUT_NAME
from zwrap.program.keys.rules import Limits, Progress, Success

_FALSE = frozenset({"", "0", "false", "no", "off"})
"""Texts that are false."""

_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
_LOOP_NAME = r"[A-Za-z_]\w*"

NAME_CHARACTERS = 100
"""Length of the longest name of a command, in characters: files are named after it."""


class When(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Words that stand in a command line if an input is true, or if it is not.

    False are a missing value, false, 0, an empty list, and the texts ``false``, ``no``, ``off`` and
    ``0``; all else is true. Either `if` or `unless` is given.
    """

    if_: Annotated[str | None, INPUT_NAME] = msgspec.field(default=None, name="if")
    """Name of the input that must be true."""
    unless: Annotated[str | None, INPUT_NAME] = None
    """Name of the input that must not be true."""
    then: Annotated[str | list[str], FILLED]
    """One word, or a group of words."""


Part = str | list[str] | When
"""A word; a group of words, dropped or repeated together; or words under a condition."""

CommandLine = list[Part] | str
"""Argument list, run without a shell; or shell text, in which substituted values stay values."""


class Command(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A further command of a definition, run in the same job after those before it."""

    command: Annotated[CommandLine, FILLED]
    """Command line: a list, as that of the definition, or shell text."""
    name: str = ""
    """Name in logs, messages and status, and of the files NAME.log and NAME.err; default: the name
    of the program in the command line, without its directory."""
    set_up: Annotated[list[str], FILLED] = []
    """Shell lines before the command, behind those of the definition."""
    stdin: Annotated[str | None, FILLED] = None
    """Text on standard input, as that of the definition; default: standard input is empty."""
    stdout: Annotated[str | None, FILLED] = None
    """Name of the file that gets standard output; default: NAME.log."""
    directory: Annotated[str | None, FILLED] = None
    """Directory below the working directory; default: that of the definition."""
    environment: Annotated[dict[str, str], FILLED] = {}
    """Variables beside those of the definition."""
    for_each: Annotated[dict[str, str], INPUT_NAME] = {}
    """Name of a placeholder to the input, a list, for each of whose entries the command runs."""
    if_: Annotated[str | None, INPUT_NAME] = msgspec.field(default=None, name="if")
    """Name of the input that must be true for the command to run; default: it always runs."""
    limits: Limits = msgspec.field(default_factory=Limits)
    """Bounds on this command; `timeout` in job_parameters bounds all commands together."""
    success: Success = msgspec.field(default_factory=Success)
    """Rules of success, judged when the command has ended, before the next one starts."""
    progress: Progress | None = None
    """Rule that finds the progress while this command runs."""
    required: bool = True
    """False: if the command fails this is logged, and the step goes on and can be a success."""


class AskedLine(str):
    """A set-up line that a step brought: it runs before the definition's own command only."""

    __slots__ = ()


def is_true(value: object) -> bool:
    """Return True if a value is true for `When`, and for `Command.if_`."""
    return value.strip().lower() not in _FALSE if isinstance(value, str) else bool(value)


def texts(command: CommandLine) -> Iterator[str]:
    """Yield every word of a command line, or its shell text."""
    for part in [command] if isinstance(command, str) else command:
        words = part.then if isinstance(part, When) else part
        yield from [words] if isinstance(words, str) else words


def conditions(command: CommandLine) -> Iterator[str]:
    """Yield the names of the inputs on which words of a command line depend."""
    if not isinstance(command, str):
        for part in command:
            if isinstance(part, When):
                yield part.if_ or part.unless or ""


def default_name(command: CommandLine) -> str:
    """Return the name of the program in a command line; "": it has none that files may have."""
    first = next(texts(command), "").split()
    name = first[0].rpartition("/")[2] if first else ""
    return name if is_name(name) else ""


def is_name(name: str) -> bool:
    """Return True for a name that may be a part of the names of files."""
    return len(name) <= NAME_CHARACTERS and re.fullmatch(_NAME, name) is not None


def check_command(command: CommandLine, where: str) -> None:
    """Raise ProgramError, which begins with `where`, for a command line that cannot be run."""
    if not command:
        raise ProgramError(f"{where}, key 'command' is empty; a list of arguments is expected.")
    for part in [] if isinstance(command, str) else command:
        if isinstance(part, When) and bool(part.if_) == bool(part.unless):
            raise ProgramError(
                f"{where}, key 'command': either 'if' or 'unless' is expected beside 'then', with "
                "the name of an input."
            )
        if isinstance(part, (list, When)) and not (part if isinstance(part, list) else part.then):
            raise ProgramError(f"{where}, key 'command': a group of words is empty.")


def check_loop(for_each: Mapping[str, str], inputs: Mapping[str, object], where: str) -> None:
    """Raise ProgramError, which begins with `where`, for a loop over something that is no input."""
    if len(for_each) > 1:
        raise ProgramError(
            f"{where}, key 'for_each' has {len(for_each)} keys; one is expected: the name of a "
            "placeholder, with the input over which the command goes."
        )
    for name, source in for_each.items():
        taken = next((each for each in (name, f"{name}_number") if each in inputs), None)
        if taken or not re.fullmatch(_LOOP_NAME, name, re.ASCII):
            raise ProgramError(
                f"{where}, key 'for_each': {taken or name!r} is "
                f"{'the name of an input' if taken else 'no name'}; the name of a new placeholder "
                "is expected, of letters, digits and '_'."
            )
        if source not in inputs:
            raise UnknownNameError("input", source, inputs, f"{where}, key 'for_each'")
