"""The contract of commands of the ISPyB service: what each is given, and what it may answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from zwrap.errors import MessageError
from zwrap.host.beneath import ANYWHERE, AllowedDirectories

Value = object
"""A JSON value."""

LONGEST_GROWTH = 1 << 20
"""Largest number of characters that are put into a text for ``$name``."""

LONGEST_NAME = 200
"""Length of the longest name that is replaced, in characters."""


class Sent(NamedTuple):
    """A message that a command sends to an output of the recipe step, beside the answer."""

    output: str
    payload: Value


class Call:
    """One command of a message, inside the database transaction of that message.

    Args:
        command: Name of the command.
        sources: Mappings in which a parameter is looked up, in this order: those of the command in
            a command list, of the payload, and of the recipe step.
        environment: Environment of the recipe, from which ``$name`` and ``${name}`` are replaced.
        connection: Connection to the database, in a transaction.
        allowed: Directories in which files that a message names may be.
        reinjected: True if a person sent the message again from the dead letters.
        first_s: Time at which the service was first given the message, in seconds since 1970; None:
            now.
    """

    def __init__(
        self,
        command: str,
        sources: Sequence[Mapping[str, Value]],
        environment: Mapping[str, Value],
        connection: sa.Connection,
        *,
        allowed: AllowedDirectories = ANYWHERE,
        reinjected: bool = False,
        first_s: float | None = None,
    ) -> None:
        self.command = command
        self.environment = environment
        self.connection = connection
        self.allowed = allowed
        self.reinjected = reinjected
        self.first_s = time.time() if first_s is None else first_s
        self.sent: list[Sent] = []
        self._sources = sources

    def __contains__(self, name: str) -> bool:
        return any(name in source for source in self._sources)

    def raw(self, name: str, default: Value = None) -> Value:
        """Return a parameter as it was sent; `default` if it was not."""
        for source in self._sources:
            if name in source:
                return source[name]
        return default

    def get(self, name: str, default: Value = None) -> Value:
        """Return a parameter with ``$name`` and ``${name}`` replaced from the environment.

        Raises:
            MessageError: More than `LONGEST_GROWTH` characters would be put in.
        """
        value = self.raw(name, default)
        if not isinstance(value, str) or "$" not in value:
            return value
        parts: list[str] = []
        growth = 0
        for given, put_in in self._replaced(value):
            parts += given, put_in
            growth += len(put_in)
            if growth > LONGEST_GROWTH:
                raise MessageError(
                    f"Command {self.command!r}: more than {LONGEST_GROWTH} characters would be put "
                    f"into {name} for $name; shorter values of the environment are expected."
                )
        return "".join(parts)

    def _replaced(self, text: str) -> Iterator[tuple[str, str]]:
        """Yield the parts of a text, each with what comes behind it from the environment.

        Where several names begin alike the longest one counts. What was put in is not looked at
        again: python-dlstbx's service does so, and thereby a value of few bytes can become one
        that fills the memory.
        """
        lengths = sorted({len(each) for each in self.environment if 0 < len(each) <= LONGEST_NAME})
        begin, at = 0, text.find("$")
        while at >= 0:
            further = text.find("$", at + 1)
            end = further if further >= 0 else len(text)
            found = self._name(text[at + 1 : min(end, at + 3 + LONGEST_NAME)], lengths)
            if found is not None:
                name, length = found
                yield text[begin:at], str(self.environment[name])
                begin = at + 1 + length
            at = further
        yield text[begin:], ""

    def _name(self, text: str, lengths: Sequence[int]) -> tuple[str, int] | None:
        """Return the name with which a text begins, and its length with braces; None: none."""
        if text.startswith("{") and (end := text.find("}")) > 1 and text[1:end] in self.environment:
            return text[1:end], end + 1
        found = 0
        for length in lengths:
            if length > len(text):
                break
            if text[:length] in self.environment:
                found = length
        return (text[:found], found) if found else None

    def send(self, output: str, payload: Value) -> None:
        """Send a message to an output of the recipe step, in the unit of the answer."""
        self.sent.append(Sent(output, payload))

    def inner(self, command: str, parameters: Mapping[str, Value]) -> Call:
        """Return the call of a command inside this one, with parameters that come before its own.

        What it sends is sent by this one.
        """
        call = Call(
            command,
            [parameters, *self._sources],
            self.environment,
            self.connection,
            allowed=self.allowed,
            reinjected=self.reinjected,
            first_s=self.first_s,
        )
        call.sent = self.sent
        return call


Function = Callable[[Call], Value]
"""Function that carries out a command and returns its value.

Raises:
    MessageError: The message is at fault; one sentence names command, field, and table.column.
    TemporaryError: The message is to come again later (`retry_after_s`).
    OutageError: The database is away.
"""


class Field(NamedTuple):
    """A parameter that a command reads."""

    column: str
    """Where its value goes: ``table.column``; empty: it has no column of its own."""
    meaning: str
    """What it means, for people, with its unit."""
    required: bool = False
    """True if the command cannot be carried out without it."""
    literal: bool = False
    """True if ``$name`` stays as it is: names of files may have a dollar sign."""


class Command(NamedTuple):
    """One entry of the table of commands."""

    name: str
    """Value of parameter ``ispyb_command``."""
    function: Function
    fields: Mapping[str, Field]
    """Parameters that it reads by name; those in a mapping have a dot: ``mxmrrun.rwork_end``."""
    meaning: str
    """What it does, for people."""
