"""Names that a package offers, each loaded when it is first used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Collection, Mapping


def offer(
    package: str,
    names: Mapping[str, str],
    absent: Mapping[str, str] | None = None,
    modules: Collection[str] = (),
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package that loads names when they are first used.

    Importing the package loads none of them, so that no module waits for its neighbours.

    Args:
        package: Full name of the package, or of a module.
        names: Each offered name to the module in which it lives.
        absent: Each name of another library's module that this one does not have, to a sentence
            that says what there is instead; asking for it raises ImportError with that sentence.
        modules: Modules of the package that are attributes of it without having been imported,
            because another library's package of the same names imports its own itself.
    """

    def get(name: str) -> object:
        if absent and name in absent:
            raise ImportError(f"{package} has no {name}: {absent[name]}", name=package)
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(names[name]), name)

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *names, *modules})

    return get, listed
