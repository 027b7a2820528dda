"""Detection of one unforeseen exception of several messages, or rows, in succession."""

from __future__ import annotations

from pathlib import Path

LIMIT = 5
"""Number of different messages, or rows, after which the same exception counts against none."""

REMEMBERED = 10_000
"""Largest number of messages that are remembered."""

Origin = tuple[str, str, int]
"""Type of an exception, and file and line in which it was raised."""


def origin(error: BaseException) -> Origin:
    """Return type and place of origin of an exception."""
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    frame = error.__traceback__
    if frame is None:
        return kind, "", 0
    while frame.tb_next is not None:
        frame = frame.tb_next
    return kind, frame.tb_frame.f_code.co_filename, frame.tb_lineno


def described(place: Origin) -> str:
    """Return type and place of origin of an exception for people."""
    kind, file, line = place
    name = kind.removeprefix("builtins.")
    return f"{name} in {Path(file).name}, line {line}" if file else name


class Succession:
    """Count of different messages, or rows, that ended in succession with the same exception.

    From the `limit`-th message on the exception is common: a bug, or a broken installation. Any
    other end of a message begins the count anew.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._place: Origin | None = None
        self._messages: set[str] = set()

    @property
    def common(self) -> bool:
        """True if the exception says nothing about the messages that end with it."""
        return len(self._messages) >= self._limit

    def described(self) -> str:
        """Return the exception of the last messages for people."""
        return described(self._place) if self._place else ""

    def add(self, message: str, place: Origin) -> bool:
        """Count a message by its id; return True if it was not counted yet."""
        if place != self._place:
            self._place, self._messages = place, set()
        new = message not in self._messages
        if len(self._messages) < REMEMBERED:
            self._messages.add(message)
        return new

    def end(self) -> bool:
        """Begin anew after another end of a message; return True if the exception was common."""
        was = self.common
        self._place, self._messages = None, set()
        return was
