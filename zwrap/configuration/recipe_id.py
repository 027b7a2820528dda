"""Recipe IDs in the log: each line carries the ID of the recipe that is being processed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar

_recipe_id: ContextVar[str | None] = ContextVar("recipe_ID", default=None)


_process_recipe_id: list[str | None] = [None]


@contextlib.contextmanager
def recipe_context(recipe_id: str | None) -> Iterator[None]:
    """Add the recipe ID to everything that this thread logs inside the context."""
    token = _recipe_id.set(recipe_id)
    try:
        yield
    finally:
        _recipe_id.reset(token)


def set_process_recipe(recipe_id: str | None) -> None:
    """Add the recipe ID to everything that this process, a job, logs from now on."""
    _process_recipe_id[0] = recipe_id


class RecipeIDFilter(logging.Filter):
    """Filter that gives log records the attribute `recipe_ID` while a recipe is processed."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the attribute to the record; return True, so that it passes."""
        recipe_id = _recipe_id.get() or _process_recipe_id[0]
        if recipe_id is not None and not hasattr(record, "recipe_ID"):
            record.recipe_ID = recipe_id
        return True


def all_handlers() -> set[logging.Handler]:
    """Return the handlers of all loggers."""
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.Logger.manager.loggerDict)]
    return {handler for logger in loggers for handler in logger.handlers}


def annotate_log_records() -> None:
    """Add a `RecipeIDFilter` to every handler that is set up."""
    for handler in all_handlers():
        if not any(isinstance(each, RecipeIDFilter) for each in handler.filters):
            handler.addFilter(RecipeIDFilter())


class RecipeIDFormatter(logging.Formatter):
    """Formatter that appends the recipe ID, if a record has one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record, of several lines if it has a traceback."""
        text = super().format(record)
        recipe_id = getattr(record, "recipe_ID", None)
        return f"{text} [recipe {recipe_id}]" if recipe_id else text
