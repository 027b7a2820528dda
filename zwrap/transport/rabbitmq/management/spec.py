"""The base of the values of RabbitMQ's management API: fields by annotation, checked when made."""

from __future__ import annotations

import copy
import enum
import functools
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, dataclass_transform

import msgspec

from zwrap.errors import MessageError


class SpecError(MessageError, ValueError):
    """A value of the management API has a wrong field, or lacks one."""


Reader = Callable[[object], object]
"""Function that returns the value of a field for what a server or a caller gives."""


@dataclass_transform(kw_only_default=True)
class Spec:
    """A value that is sent to, and read from, the server.

    Fields are given by keyword; those that are not named here are ignored, because servers send
    more. Members of an enumeration stand for their values, and the other way round.

    Raises:
        SpecError: A field is missing or has a wrong type.
    """

    wire_names: ClassVar[Mapping[str, str]] = {}
    """Field to its name in messages, where that differs; either name may be given."""
    readers: ClassVar[Mapping[str, Reader]] = {}
    """Field to what reads it, where its type does not say that."""

    def __init__(self, **given: Any) -> None:  # noqa: ANN401 - checked here
        for name, kind in _fields(type(self)).items():  # type: ignore[arg-type]  # a class can be hashed
            wire_name = self.wire_names.get(name, name)
            if name in given or wire_name in given:
                value = given[name] if name in given else given[wire_name]
                setattr(self, name, self._read(name, kind, value))
            elif hasattr(type(self), name):
                setattr(self, name, copy.copy(getattr(type(self), name)))
            else:
                raise SpecError(f"A {type(self).__name__} needs the field {name!r}.")

    def _read(self, name: str, kind: object, value: object) -> object:
        """Return the value of a field."""
        reader = self.readers.get(name)
        if reader is not None:
            return reader(value)
        if isinstance(value, enum.Enum):
            value = value.value
        try:
            return msgspec.convert(value, kind, strict=False)
        except msgspec.ValidationError as error:
            raise SpecError(
                f"Field {name!r} of a {type(self).__name__} is wrong: {error}."
            ) from None

    def content(
        self, leave_out: Collection[str] = (), *, defaults: bool = True
    ) -> dict[str, object]:
        """Return the fields as they are sent, under their names in messages.

        Args:
            leave_out: Fields that the path of the request tells.
            defaults: False leaves out the fields that have their default.
        """
        return {
            self.wire_names.get(name, name): _plain(value)
            for name, value in vars(self).items()
            if name not in leave_out and (defaults or value != getattr(type(self), name, ...))
        }

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # its fields can be changed

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({shown})"


@functools.cache
def _fields(kind: type) -> dict[str, Any]:
    """Return the fields of a class, and of those that it extends, with their types."""
    hints = typing.get_type_hints(kind)
    return {name: hint for name, hint in hints.items() if typing.get_origin(hint) is not ClassVar}


def _plain(value: object) -> object:
    """Return a field as a value of JSON."""
    return value.value if isinstance(value, enum.Enum) else value


def member_of(kind: type[enum.Enum]) -> Reader:
    """Return a reader that takes the texts of an enumeration, and leaves all others as they are."""

    def read(value: object) -> object:
        known = any(value == each.value for each in kind)
        return kind(value) if known else value

    return read
