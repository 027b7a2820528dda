"""Reopening of log files that were moved away, as logrotate does it."""

from __future__ import annotations

import logging


def reopen() -> None:
    """Let each handler that writes to a file open it again for its next line."""
    for handler in {each for logger in _loggers() for each in logger.handlers}:
        if isinstance(handler, logging.FileHandler):
            handler.acquire()
            try:
                if handler.stream:
                    handler.stream.close()
                    handler.stream = None  # as FileHandler itself does
            finally:
                handler.release()


def _loggers() -> list[logging.Logger]:
    """Return all loggers that may have handlers."""
    named = logging.Logger.manager.loggerDict.values()
    return [logging.getLogger(), *(each for each in named if isinstance(each, logging.Logger))]
