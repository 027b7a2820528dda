"""The ID of the recipe at work, on every line of the log."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar

_recipe_id: ContextVar[str | None] = ContextVar("recipe_ID", default=None)


_process_recipe_id: list[str | None] = [None]


@contextlib.contextmanager
def recipe_context(recipe_id: str | None) -> Iterator[None]:
    """Let everything that this thread logs meanwhile carry the recipe ID."""
    token = _recipe_id.set(recipe_id)
    try:
        yield
    finally:
        _recipe_id.reset(token)


def set_process_recipe(recipe_id: str | None) -> None:
    """Let everything that this process logs from now on carry the recipe ID (a job has one)."""
    _process_recipe_id[0] = recipe_id


class RecipeIDFilter(logging.Filter):
    """Gives each log record the attribute `recipe_ID` while there is a recipe at work."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the attribute, and let the record pass."""
        recipe_id = _recipe_id.get() or _process_recipe_id[0]
        if recipe_id is not None and not hasattr(record, "recipe_ID"):
            record.recipe_ID = recipe_id
        return True


def annotate_log_records() -> None:
    """Let every handler that is set up see the recipe ID, whatever logged the line."""
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.Logger.manager.loggerDict)]
    for handler in {handler for logger in loggers for handler in logger.handlers}:
        if not any(isinstance(each, RecipeIDFilter) for each in handler.filters):
            handler.addFilter(RecipeIDFilter())


class RecipeIDFormatter(logging.Formatter):
    """Puts the recipe ID, where there is one, on each line of the log."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record: one line, or more with a traceback."""
        text = super().format(record)
        recipe_id = getattr(record, "recipe_ID", None)
        return f"{text} [recipe {recipe_id}]" if recipe_id else text
