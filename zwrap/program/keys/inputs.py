"""Inputs of a program: their types, and the checks of the values that a step gives them."""

# Annotations are not postponed: msgspec would compile each when a job starts.
import re
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Annotated, Literal

import msgspec

from zwrap.errors import ProgramError, UnknownNameError, short
from zwrap.program.keys.marks import FILLED, INPUT_NAME
from zwrap.program.patterns import Pattern, check_pattern

Item = Literal["text", "integer", "number", "boolean", "file"]
"""Type of a single value."""

MATCH_S = 1.0
"""Longest time of the comparison of one value with the pattern of its input, in seconds."""

LONGEST_MATCHED = 10_000
"""Length of the longest value that is compared with a pattern, in characters."""

LONGEST_NUMBER = 100
"""Largest number of digits, and length of the longest text that is a number, in characters."""

_NUMBER = r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?"
_WORDS = {"true": True, "yes": True, "on": True, "1": True,
          "false": False, "no": False, "off": False, "0": False}  # fmt: skip
"""Text to the value of a boolean, as recipes with placeholders give it."""

Place = Callable[..., str]
"""Function from keys of a definition, from the outermost, to file and line."""


class Input(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One value that the command line may use.

    What is no value is null, an empty text and an empty list. A value that does not fit is a
    failure of the step.
    """

    description: str = ""
    """Meaning of the value, with its unit; forms and sentences about it show it."""
    required: bool = False
    """True if the program cannot run without a value."""
    default: Annotated[object, FILLED] = None
    """Value of an input to which the step gives none; a text may hold placeholders."""
    type: Literal["text", "integer", "number", "boolean", "file", "list"] | None = None
    """Type of the value; None: any value, which is taken as it is. A text is converted to a number
    (``"1.5"``) or to true or false (``"true"``, ``"no"``, ``"1"``), because recipes with
    placeholders make texts; a single value is a list of one entry."""
    items: Item | None = None
    """Type of the entries of a list; None: any."""
    choices: list[str | int | float | bool] = []
    """Accepted values, in the order in which a form shows them; empty: any."""
    minimum: float | None = None
    """Smallest accepted number; None: any."""
    maximum: float | None = None
    """Largest accepted number; None: any."""
    pattern: str | None = None
    """Regular expression that the whole text, or name of a file, must match; None: any."""
    file: bool = False
    """True if the value names a file, or a list of them, that must exist when the job starts; the
    older form of ``type: file`` and of a list with ``items: file``."""
    block: str | None = None
    """Block of `job_parameters` that holds the value; None: one of the definition's `blocks`, else
    the block of the program's name, else `job_parameters` itself."""
    split: str | None = None
    """Text that separates entries, such as ``;``: the value is the list of what it separates in a
    text, or in each text of a list. None: a text is one value."""
    sweep: str | None = None
    """Form of each entry, which is a sweep of images as recipes name it (``/d/x_0001.cbf:1:180``):
    a text with ``{path}``, ``{directory}``, ``{name}``, ``{template}`` (the name with ``#`` for its
    digits), ``{first}``, ``{last}``, ``{number}`` (of the sweep, from 0) and ``{id}`` (a word of
    these). None: a sweep is a text as others."""

    @property
    def item(self) -> Item | None:
        """Type of the value, or of each entry of a list; None: any."""
        return self.items if self.type == "list" else self.type

    @property
    def names_file(self) -> bool:
        """True if the value names files that must exist."""
        return self.file or self.item == "file"


class Group(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Inputs that depend on each other; one of the three keys is given.

    An input that is false counts as one without a value.
    """

    one_of: Annotated[list[str], INPUT_NAME] = []
    """Names of inputs, of which exactly one must have a value."""
    any_of: Annotated[list[str], INPUT_NAME] = []
    """Names of inputs, of which at least one must have a value."""
    together: Annotated[list[str], INPUT_NAME] = []
    """Names of inputs, of which all must have a value, or none."""

    @property
    def names(self) -> list[str]:
        """Names of its inputs."""
        return self.one_of or self.any_of or self.together


def is_given(value: object) -> bool:
    """Return False for what is no value: null, an empty text, an empty list."""
    return value not in (None, "", [])


def converted(declared: Input, value: object, where: str) -> object:
    """Return the value of an input in its type.

    Raises:
        ProgramError: The value does not fit; the text begins with `where`.
    """
    if declared.split or declared.sweep:
        from zwrap.program import sweeps  # which few inputs need

        value = sweeps.parted(value, declared.split) if declared.split else value
        if declared.sweep and is_given(value):
            value = sweeps.formatted(value, declared.sweep, where)
    if declared.type is None or not is_given(value):
        return value
    if declared.type != "list":
        return _fitting(declared, value, where)
    entries = value if isinstance(value, list) else [value]
    if declared.items is None:
        return list(entries)
    return [
        _fitting(declared, entry, f"{where}, entry {number}")
        for number, entry in enumerate(entries, 1)
    ]


def check_groups(
    groups: list[Group], known: Mapping[str, object], program: str, later: Container[str] = ()
) -> None:
    """Raise ProgramError if inputs that depend on each other do not fit together.

    Args:
        groups: The groups.
        known: Values by name.
        program: Name of the program, for the sentence.
        later: Names of inputs whose values are not known yet.
    """
    for group in groups:
        if any(name in later for name in group.names):
            continue
        have = [name for name in group.names if is_given(known[name]) and known[name] is not False]
        whole, got = len(group.names), len(have)
        if (
            (group.one_of and got != 1)
            or (group.any_of and not got)
            or (group.together and got not in (0, whole))
        ):
            listing = ", ".join(map(repr, group.names))
            needed = (
                f"exactly one of the inputs {listing}" if group.one_of
                else f"at least one of the inputs {listing}" if group.any_of
                else f"all of the inputs {listing}, or none"
            )  # fmt: skip
            what = ", ".join(map(repr, have)) or "none of them"
            raise ProgramError(
                f"Program {program!r} needs {needed}; job_parameters and defaults give {what}."
            )


def expected(declared: Input) -> str:
    """Return what an input, or an entry of it, accepts, for a sentence."""
    if declared.choices:
        return f"one of {', '.join(map(repr, declared.choices))}"
    words = {"integer": "a whole number", "number": "a number", "boolean": "true or false",
             "file": "the name of a file", "text": "a text", None: "a value"}  # fmt: skip
    low, high = declared.minimum, declared.maximum
    bounds = (
        f" from {low:g} to {high:g}" if low is not None and high is not None
        else f" of at least {low:g}" if low is not None
        else f" of at most {high:g}" if high is not None else ""
    )  # fmt: skip
    form = f" that matches {declared.pattern}" if declared.pattern else ""
    return f"{words[declared.item]}{bounds}{form}"


# -- one value -------------------------------------------------------------------------------------


def _fitting(declared: Input, value: object, where: str) -> object:
    """Return a single value in its type; ProgramError, which begins with `where`, if it is none."""
    assert declared.item
    found = _READERS[declared.item](value)
    if found is None or not _is_accepted(declared, found, where):
        about = f" ({declared.description})" if declared.description else ""
        raise ProgramError(f"{where}{about} is {short(value)}; {expected(declared)} is expected.")
    return found


def _is_accepted(declared: Input, value: object, where: str) -> bool:
    """Return True if a value in its type is within bounds, among the choices, and of the form."""
    assert declared.item
    read = _READERS[declared.item]
    if declared.choices and value not in [read(choice) for choice in declared.choices]:
        return False
    if isinstance(value, (int, float)):
        low, high = declared.minimum, declared.maximum
        return (low is None or value >= low) and (high is None or value <= high)
    if declared.pattern is None:
        return True
    text = str(value)
    if len(text) > LONGEST_MATCHED:
        return False
    return Pattern(declared.pattern, f"{where}, pattern", MATCH_S).is_whole(text)


def _as_text(value: object) -> str | None:
    """Return a text, or a number as text; None for any other value."""
    if isinstance(value, str):
        return value
    return None if isinstance(value, bool) or _as_number(value) is None else str(value)


def _as_number(value: object) -> int | float | None:
    """Return a finite number, also one that is given as text; None for any other value."""
    if isinstance(value, str):
        text = value.strip()
        if len(text) > LONGEST_NUMBER or not re.fullmatch(_NUMBER, text, re.ASCII):
            return None
        value = float(text) if re.search("[.eE]", text) else int(text)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if abs(value) < 10**LONGEST_NUMBER else None  # NaN is not less than anything


def _as_integer(value: object) -> int | None:
    """Return a whole number, also one that is given as text; None for any other value."""
    number = _as_number(value)
    if isinstance(number, float):
        return int(number) if number.is_integer() and abs(number) < 2**53 else None
    return number


def _as_boolean(value: object) -> bool | None:
    """Return true or false, also if a word or number says so; None for any other value."""
    if isinstance(value, str):
        return _WORDS.get(value.strip().lower())
    return bool(value) if isinstance(value, int) and value in (0, 1) else None


def _as_file(value: object) -> str | None:
    """Return the name of a file; None for what can be none."""
    return value if isinstance(value, str) and value.strip() and "\0" not in value else None


_READERS: Mapping[Item, Callable[[object], object]] = {
    "text": _as_text,
    "integer": _as_integer,
    "number": _as_number,
    "boolean": _as_boolean,
    "file": _as_file,
}
"""Type of a value to the function that returns it in that type; None: it has another type."""


# -- the definition itself -------------------------------------------------------------------------


def check_inputs(inputs: Mapping[str, Input], groups: list[Group], at: Place) -> None:
    """Raise ProgramError for faults of inputs and groups that their types do not exclude."""
    for name, declared in inputs.items():
        place = f"{at('inputs', name)}, input {name!r}"
        for fault in _faults(declared, place):
            raise ProgramError(f"{place}: {fault}.")
    for number, group in enumerate(groups):
        _check_group(group, inputs, at("groups", str(number)))


def _faults(declared: Input, place: str) -> Iterator[str]:
    """Yield a clause for each fault of one input."""
    item = declared.item
    if declared.sweep:
        from zwrap.program import sweeps

        yield from sweeps.faults(declared.sweep)
    if declared.items and declared.type != "list":
        yield "'items' is the type of the entries of a list; 'type: list' is expected beside it"
    if declared.file and declared.type not in (None, "file"):
        yield "'file: true' is 'type: file'; of a list, 'items: file' is expected"
    if (declared.choices or declared.pattern is not None) and item is None:
        yield "'choices' and 'pattern' need the type of the value; 'type: text' is expected, say"
    yield from _bound_faults(declared)
    if declared.pattern is not None:
        check_pattern(declared.pattern, f"{place}, pattern")
        if item not in ("text", "file"):
            yield "'pattern' is for 'type: text' and 'type: file'"
    for choice in declared.choices:
        if item and _READERS[item](choice) is None:
            yield f"{short(choice)} among the 'choices' has another type than the input"
    if not (isinstance(declared.default, str) and "{" in declared.default):
        converted(declared, declared.default, f"{place}: its 'default'")


def _bound_faults(declared: Input) -> Iterator[str]:
    """Yield a clause for each fault of the bounds of an input."""
    low, high = declared.minimum, declared.maximum
    if (low, high) != (None, None) and declared.item not in ("integer", "number"):
        yield "'minimum' and 'maximum' need 'type: integer' or 'type: number'"
    if low is not None and high is not None and low > high:
        yield "'minimum' is above 'maximum'"


def _check_group(group: Group, inputs: Mapping[str, Input], place: str) -> None:
    """Raise ProgramError, or UnknownNameError, for the fault of a group."""
    keys = [key for key in Group.__struct_fields__ if getattr(group, key)]
    if len(keys) != 1 or len(set(group.names)) < 2:
        raise ProgramError(
            f"{place}, key 'groups': one of 'one_of', 'any_of' and 'together' with the names of at "
            "least two inputs is expected in each group."
        )
    for name in group.names:
        if name not in inputs:
            raise UnknownNameError("input", name, inputs, f"{place}, key 'groups'")
        default = inputs[name].default
        if keys != ["any_of"] and is_given(default) and default is not False:
            raise ProgramError(
                f"{place}, key 'groups': input {name!r} has a default, so that it has a value "
                f"always; one without is expected under {keys[0]!r}."
            )
