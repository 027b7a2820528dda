"""Faults of a site configuration, which are collected, so that all are reported at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from zwrap.errors import FaultsError, PermanentError


class Faults:
    """The faults that were found so far."""

    def __init__(self) -> None:
        self._found: list[PermanentError] = []

    @contextlib.contextmanager
    def collected(self) -> Iterator[None]:
        """Keep the fault with which the work inside the context ends, if it has one."""
        try:
            yield
        except PermanentError as error:
            self.add(error)

    def add(self, error: PermanentError) -> None:
        """Keep a fault, or several."""
        self._found += error.faults if isinstance(error, FaultsError) else [error]

    def check(self) -> None:
        """Raise the fault that was found, or a FaultsError of several."""
        raise_all(self._found)


def raise_all(faults: Sequence[PermanentError]) -> None:
    """Raise the only fault, or a FaultsError of several; return if there is none."""
    if len(faults) > 1:
        raise FaultsError(faults)
    if faults:
        raise faults[0]
