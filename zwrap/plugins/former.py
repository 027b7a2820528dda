"""Former names in the contracts of parts that sites bring.

A plug-in that uses a former name of an attribute, a method or a parameter still works; the present
name is logged once for each class.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)


@functools.cache
def tell(kind: str, old: str, new: str) -> None:
    """Log the present name for a former one, once for each class and name.

    Args:
        kind: Full name of the class, or of the module, that has or uses the former name.
        old: The former name.
        new: The present name.
    """
    log.warning("%s: %r is the former name of %r; please use the new one", kind, old, new)


class Former:
    """Former name of an attribute; reads and sets the attribute under its present name."""

    def __init__(self, new: str) -> None:
        self._new = new

    def __set_name__(self, owner: type, name: str) -> None:
        self._old = name

    def __get__(self, instance: object, owner: type) -> object:
        tell(_named(owner), self._old, self._new)
        return getattr(owner if instance is None else instance, self._new)

    def __set__(self, instance: object, value: object) -> None:
        tell(_named(type(instance)), self._old, self._new)
        setattr(instance, self._new, value)


class Moved:
    """Former method that now belongs to the object which another method returns."""

    def __init__(self, home: str) -> None:
        self._home = home

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> Callable[..., object]:
        tell(_named(owner), self._name, f"{self._home}().{self._name}")
        moved: Callable[..., object] = getattr(getattr(instance, self._home)(), self._name)
        return moved


def adopt(kind: type, names: Mapping[str, str]) -> None:
    """Copy what a class defines under former names to the present names.

    Names that a base class defines count, too, if it comes before the contract in the order of
    resolution.

    Args:
        kind: A class that inherits from a contract, which has all of the names.
        names: Former name to present name.
    """
    for old, new in names.items():
        if _depth(kind, old) < _depth(kind, new):
            tell(_named(kind), old, new)
            value = vars(kind.__mro__[_depth(kind, old)])[old]
            setattr(kind, new, value)
            if old in vars(kind) and not callable(value):
                delattr(kind, old)  # so that setting it on an object goes through `Former`


def adopt_parameter(kind: type, method: str, old: str, new: str) -> None:
    """Wrap a method that was written for a sequence, so that it gets the keys of a mapping.

    Args:
        kind: The class.
        method: Name of its method, which takes one argument.
        old: Former name of the parameter, a sequence; a method without it is left unchanged.
        new: Present name of the parameter, a mapping.
    """
    import inspect  # slow to load, and no job needs it

    former: Callable[..., object] = getattr(kind, method)
    if old not in inspect.signature(former).parameters:
        return

    def adopted(self: object, argument: Mapping[str, object]) -> object:
        return former(self, list(argument))

    tell(_named(kind), f"{method}({old})", f"{method}({new})")
    setattr(kind, method, adopted)


def _depth(kind: type, name: str) -> int:
    """Return the position of the class that defines a name in the order of resolution."""
    return next(depth for depth, base in enumerate(kind.__mro__) if name in vars(base))


def _named(kind: type) -> str:
    """Return the full name of a class, for the log."""
    return f"{kind.__module__}.{kind.__qualname__}"
