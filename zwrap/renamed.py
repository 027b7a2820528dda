"""Former names in the contracts that plug-ins of sites are written to.

A plug-in that uses a former name goes on working, and the log says once for each class what the
name is now.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)


@functools.cache
def tell(kind: str, old: str, new: str) -> None:
    """Log, once for each class and name, what a former name is now.

    Args:
        kind: Full name of the class, or of the module, that has or uses the former name.
        old: The former name.
        new: The present name.
    """
    log.warning("%s: %r is the former name of %r; please use the new one", kind, old, new)


class Former:
    """A former name of an attribute: it reads and sets the attribute under its present name."""

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
    """A former method that is now one of the object which another method returns."""

    def __init__(self, home: str) -> None:
        self._home = home

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> Callable[..., object]:
        tell(_named(owner), self._name, f"{self._home}().{self._name}")
        moved: Callable[..., object] = getattr(getattr(instance, self._home)(), self._name)
        return moved


def adopt(kind: type, names: Mapping[str, str]) -> None:
    """Give a class under present names what it, or a class before its contract, has under former.

    Args:
        kind: A class that inherits from a contract; the contract has all of the names.
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
    """Hand the keys of a mapping, as a list, to a method that was written to take that.

    Args:
        kind: The class.
        method: Name of its method, which takes one argument.
        old: Name of the parameter when it was a sequence; a method without it is left alone.
        new: Name of the parameter since it is a mapping.
    """
    import inspect  # slow to load, and no job has to do with such classes

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
    return f"{kind.__module__}.{kind.__qualname__}"
