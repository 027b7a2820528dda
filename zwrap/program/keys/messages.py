"""Messages of a success: parsed outputs, and further ones that are made of inputs and outputs.

The payload of a further message is any JSON value, in which texts are filled in. Parts of it, and
the whole, may depend on a condition or be repeated for each row of an output (`Part`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from zwrap.errors import ProgramError, UnknownNameError, short
from zwrap.message.jsontext import copied, typed
from zwrap.program.definition import Definition
from zwrap.program.keys.conditions import Bounds, found, lies_within
from zwrap.program.keys.inputs import Place
from zwrap.recipe.substitution import Filling

log = logging.getLogger(__name__)

COMMANDS = "ispyb_command_list"
"""Key of a payload that holds the commands for ISPyB, to which others are added."""

MOST_MADE = 100_000
"""Largest number of rows for which the messages of one run have entries."""

DEEPEST = 50
"""Depth of nesting of the deepest value in a message of a definition."""


class Condition(Bounds, forbid_unknown_fields=True, kw_only=True):
    """A condition on an input, or on a value of a parsed output."""

    value: str
    """Name of an input or an output, and the way to a value in it, with dots: ``phasing.cc``."""


class Part(
    msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename={"as_": "as", "if_": "if"}
):
    """A payload, or a value in one, that is made only on a condition, or once for each row.

    In a list, each row makes an entry (several, if `then` is a list), and a condition that does not
    hold none; the key of an object is left out. As a whole message, each row makes a message.
    """

    then: object
    """What is made: any JSON value, in which ``{name}`` and ``{$REPLACE:name[key]}`` are filled in
    and which may hold parts again."""
    each: str | None = None
    """List over which it is repeated: an output, and the way to the list in it, with dots. An
    object gives rows with `key` and `value`."""
    as_: str = "row"
    """Name of the entry in `then`; its number, from 1, has ``_number`` behind it."""
    if_: str | Condition | None = None
    """Name of a value that must be something, or a condition; it may be one of the row."""
    unless: str | Condition | None = None
    """Name of a value that must be nothing, or a condition that must not hold."""
    channel: str | None = None
    """For a whole message: output channel; None: the name of the message."""
    append_to: str | None = None
    """For a whole message: name of an output, or of another message, to whose
    ``ispyb_command_list`` (or list) it is added, in place of a message of its own. Without that
    one nothing is sent."""

    def ways(self) -> Iterator[tuple[str, str]]:
        """Yield the keys with a value on which the part depends, and the way to that value."""
        for key, given in (("each", self.each), ("if", self.if_), ("unless", self.unless)):
            if given is not None:
                yield key, given if isinstance(given, str) else given.value


_KEYS = frozenset(field.encode_name for field in msgspec.structs.fields(Part)) - {"then"}


class Outgoing(NamedTuple):
    """One message: the output or message of the definition that it is of, and where it goes."""

    name: str
    channel: str
    payload: object


def part_of(value: object) -> Part | None:
    """Return a value as a part; None if it is an ordinary one. ProgramError for a wrong part."""
    if not isinstance(value, Mapping) or "then" not in value or not _KEYS & value.keys():
        return None
    try:
        return typed(value, Part)
    except msgspec.ValidationError as error:
        known = ", ".join(["then", *sorted(_KEYS)])
        raise ProgramError(f"{error}. Known keys of a part with 'then': {known}") from None


def parts(value: object) -> Iterator[Part]:
    """Yield the parts in a payload, and the parts in those."""
    part = part_of(value)
    inner: Iterable[object] = value if isinstance(value, list) else ()
    if part is not None:
        yield part
        inner = [part.then]
    elif isinstance(value, Mapping):
        inner = value.values()
    for each in inner:
        yield from parts(each)


def row_names(value: object) -> list[str]:
    """Return the names of rows, and of their numbers, in the parts of a payload."""
    names = [part.as_ for part in parts(value) if part.each is not None]
    return [each for name in names for each in (name, f"{name}_number")]


def check_messages(definition: Definition, at: Place) -> None:
    """Raise ProgramError, or UnknownNameError, for a message that could not be made.

    `at`: function from keys, from the outermost, to file and line.
    """
    names = [*definition.outputs, *definition.messages]
    for name, body in definition.messages.items():
        where = f"{at('messages', name)}, key 'messages', message {name!r}"
        try:
            _check_parts(body)
        except ProgramError as error:
            raise ProgramError(f"{where}: {error}.") from None
        part = part_of(body)
        target = part.append_to if part else None
        if target is not None and (target not in names or target == name):
            where = f"{at('messages', name, 'append_to')}, message {name!r}, key 'append_to'"
            raise UnknownNameError("output or message", target, names, where)


def _check_parts(value: object, depth: int = 0) -> None:
    """Raise ProgramError for a wrong part in a value, and for a value that is nested too deeply."""
    if depth > DEEPEST:
        raise ProgramError(f"it is nested more than {DEEPEST} deep")
    part = part_of(value)
    inner: Iterable[object] = value if isinstance(value, list) else ()
    if isinstance(value, Mapping):
        inner = [part.then] if part else value.values()
    for each in inner:
        _check_parts(each, depth + 1)


def outgoing(
    definition: Definition, known: Mapping[str, object], parsed: Mapping[str, object]
) -> list[Outgoing]:
    """Return the messages of a success in the order in which they are sent, outputs first.

    Args:
        definition: The definition.
        known: Values by name: inputs, and `files` and `result_files` of the run.
        parsed: Parsed outputs by name.

    Raises:
        ProgramError: A message cannot be made of what was parsed.
    """
    # Neither a job parameter nor an input stands for an output that was not parsed.
    everything = {key: value for key, value in known.items() if key not in definition.outputs}
    everything |= parsed
    sent = [
        Outgoing(name, output.channel or name, parsed[name])
        for name, output in definition.outputs.items()
        if name in parsed and not known.get(output.unless or "")
    ]
    making = _Making()
    added: dict[tuple[str, str], list[object]] = {}
    for name, body in definition.messages.items():
        part = part_of(body)
        made = list(making.made(body, everything))
        if part and part.append_to:
            added[part.append_to, name] = made
        else:
            channel = part.channel if part and part.channel else name
            sent += [Outgoing(name, channel, each) for each in made]
    for (target, name), further in added.items():
        sent = [_with(each, further, name) if each.name == target else each for each in sent]
    return sent


def _with(message: Outgoing, further: Iterable[object], name: str) -> Outgoing:
    """Return a message with further commands, those of message `name`, at its end."""
    more: list[object] = []
    for each in further:
        commands = each.get(COMMANDS) if isinstance(each, Mapping) else each
        more += commands if isinstance(commands, list) else [each]
    payload = message.payload
    if isinstance(payload, list):
        return message._replace(payload=[*payload, *more])
    if isinstance(payload, Mapping) and isinstance(payload.get(COMMANDS), list):
        return message._replace(payload={**payload, COMMANDS: [*payload[COMMANDS], *more]})
    raise ProgramError(
        f"message {name!r} cannot be added to {message.name!r}, which has no list {COMMANDS!r}"
    )


def _applies(part: Part, known: Mapping[str, object]) -> bool:
    """Return True if the conditions of a part hold."""
    if part.if_ is not None and not _holds(part.if_, known):
        return False
    return part.unless is None or not _holds(part.unless, known)


def _holds(condition: str | Condition, known: Mapping[str, object]) -> bool:
    """Return True if a condition holds; a name alone asks for a value that is something."""
    if isinstance(condition, str):
        return bool(found(known, condition))
    return lies_within(found(known, condition.value), condition)


class _Making:
    """The making of the messages of one definition, of which no more is made than `MOST_MADE`."""

    def __init__(self) -> None:
        self._left = MOST_MADE

    def made(self, value: object, known: Mapping[str, object]) -> Iterator[object]:
        """Yield what a value makes: one value, or of a part none or several."""
        part = part_of(value)
        if part is None:
            yield self._filled(value, known)
            return
        for row in self._rows(part, known):
            if _applies(part, row):
                yield from self.made(part.then, row)

    def _rows(self, part: Part, known: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
        """Yield the known values for each row of a part; ProgramError if its rows are no list."""
        if part.each is None:
            yield known
            return
        rows = found(known, part.each)
        if isinstance(rows, Mapping):
            rows = [{"key": key, "value": value} for key, value in rows.items()]
        if rows is not None and not isinstance(rows, list):
            raise ProgramError(f"{part.each!r} is {short(rows)}; a list is expected for 'each'")
        for number, row in enumerate(rows or (), 1):
            self._left -= 1
            if self._left < 0:
                raise ProgramError(f"the rows of {part.each!r} make more than {MOST_MADE} entries")
            yield {**known, part.as_: row, f"{part.as_}_number": number}

    def _filled(self, value: object, known: Mapping[str, object]) -> object:
        """Return a copy of a value that is no part, filled in, with the parts in it made."""
        if isinstance(value, Mapping):
            keys = Filling(known)
            return {
                keys.key(key): made
                for key, entry in value.items()
                for made in self._entry(entry, known)
            }
        if isinstance(value, list):
            return [each for entry in value for each in self._entries(entry, known)]
        if not isinstance(value, str):
            return copied(value)
        filling = Filling(known)
        filled = filling.value(value)
        for placeholder in filling.unfilled:
            log.warning("A message holds %s, which has no value, in %s.", placeholder, short(value))
        return filled

    def _entry(self, value: object, known: Mapping[str, object]) -> Iterator[object]:
        """Yield the value of a key: none on a condition that does not hold, a list for `each`."""
        part = part_of(value)
        if part is not None and part.each is not None:
            yield list(self._entries(value, known))
        else:
            yield from self.made(value, known)

    def _entries(self, value: object, known: Mapping[str, object]) -> Iterator[object]:
        """Yield the entries of a list that a value makes; a part whose `then` is a list its."""
        is_part = part_of(value) is not None
        for made in self.made(value, known):
            if isinstance(made, list) and is_part:
                yield from made
            else:
                yield made
