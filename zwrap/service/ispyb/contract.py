"""The contract of commands of the ISPyB service: what each is given, and what it may answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from zwrap.host.beneath import ANYWHERE, AllowedDirectories

Value = object
"""A JSON value."""


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

        The longest names are replaced first, as python-dlstbx's service does.
        """
        value = self.raw(name, default)
        if not isinstance(value, str) or "$" not in value:
            return value
        for key in sorted(self.environment, key=len, reverse=True):
            for form in (f"${{{key}}}", f"${key}"):
                if form in value:
                    value = value.replace(form, str(self.environment[key]))
        return value

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
