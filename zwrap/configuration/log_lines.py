"""Lines of the log: nothing from outside acts on a terminal, forges a line, or tells a secret."""

from __future__ import annotations

import copy
import logging
import sys

from zwrap.configuration.recipe_id import all_handlers
from zwrap.host.hiding import without_secrets
from zwrap.host.printable import printable, printable_lines

_SEVERAL_LINES = ("exc_text", "stack_info")
"""Attributes of a record that stay in several lines, of which all but the first are indented."""


class PrintableFormatter(logging.Formatter):
    """Formatter that hands to another one only what may be shown.

    The message and all other texts of a record become one line each, tracebacks stay in several.
    What the other formatter itself adds, such as colours, stays.
    """

    def __init__(self, other: logging.Formatter | None) -> None:
        super().__init__()
        self._other = other or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        clean = copy.copy(record)
        clean.msg, clean.args = record.getMessage(), None
        if record.exc_info and not record.exc_text:
            clean.exc_text = self._other.formatException(record.exc_info)
        for name, value in vars(clean).items():
            if isinstance(value, str):
                lines = printable_lines if name in _SEVERAL_LINES else printable
                setattr(clean, name, lines(without_secrets(value)))
        return self._other.format(clean)


def make_logs_printable() -> None:
    """Give every handler that writes lines, and that is set up by now, a `PrintableFormatter`."""
    last = [logging.lastResort] if logging.lastResort else []
    for handler in [*all_handlers(), *last]:
        if _writes_lines(handler) and not isinstance(handler.formatter, PrintableFormatter):
            handler.setFormatter(PrintableFormatter(handler.formatter))


def _writes_lines(handler: logging.Handler) -> bool:
    """Return True if a handler writes lines: to a terminal, a file, or syslog."""
    syslog = getattr(sys.modules.get("logging.handlers"), "SysLogHandler", logging.StreamHandler)
    return isinstance(handler, logging.StreamHandler | syslog)
