"""Logging of python-workflows: records for a function, and the place of an exception."""

from __future__ import annotations

import linecache
import logging
import os
import sys
from collections.abc import Callable


def get_exception_source() -> tuple[str, str, int, str, str | None]:
    """Return where the exception at hand was raised: path, file, line number, function, line.

    Raises ValueError if no exception is being handled.
    """
    frame = sys.exc_info()[2]
    if frame is None:
        raise ValueError("No exception is being handled, so that there is no place of one.")
    while frame.tb_next is not None:
        frame = frame.tb_next
    code = frame.tb_frame.f_code
    path = code.co_filename
    linecache.checkcache(path)
    line = linecache.getline(path, frame.tb_lineno, frame.tb_frame.f_globals).strip() or None
    return path, os.path.basename(path), frame.tb_lineno, code.co_name, line


class CallbackHandler(logging.Handler):
    """Handler that passes records to a function, in a form that can be pickled."""

    def __init__(self, callback: Callable[[logging.LogRecord], object]) -> None:
        super().__init__()
        self._callback = callback

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Put message and traceback of a record into texts, and drop what cannot be pickled."""
        self.format(record)
        record.msg, record.args, record.exc_info = record.message, None, None
        return record

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on."""
        try:
            self._callback(self.prepare(record))
        except Exception:
            self.handleError(record)
