"""What log lines and status messages say besides: the recipe at work, the batch job around us."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

from zwrap import __version__

_recipe_id: ContextVar[str | None] = ContextVar("recipe_ID", default=None)
_process_recipe_id: list[str | None] = [None]


@contextlib.contextmanager
def recipe_context(recipe_id: str | None) -> Iterator[None]:
    """While this lasts, what this thread logs carries the recipe ID."""
    token = _recipe_id.set(recipe_id)
    try:
        yield
    finally:
        _recipe_id.reset(token)


def set_process_recipe(recipe_id: str | None) -> None:
    """From now on everything that this process logs carries the recipe ID (a job has one)."""
    _process_recipe_id[0] = recipe_id


class RecipeIDFilter(logging.Filter):
    """Gives each log record the attribute `recipe_ID` while there is a recipe at work."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add it, and let the record pass."""
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
        """One line, or more with a traceback."""
        text = super().format(record)
        recipe_id = getattr(record, "recipe_ID", None)
        return f"{text} [recipe {recipe_id}]" if recipe_id else text


class BatchJob(NamedTuple):
    """The batch job that this process is part of."""

    system: str
    """``slurm``, ``sge``, ``local`` or ``none``."""
    job_id: str | None
    fields: dict[str, str]
    """Fields for status messages."""
    restarts: int = 0
    """How often the batch system began this job again, as far as it says."""

    @classmethod
    def from_environment(cls) -> BatchJob:
        """Look at the variables that batch systems set."""
        environment = os.environ
        if job := environment.get("SLURM_JOB_ID"):
            if (array := environment.get("SLURM_ARRAY_JOB_ID")) and (
                task := environment.get("SLURM_ARRAY_TASK_ID")
            ):
                job = f"{array}_{task}"
            restarts = _number(environment.get("SLURM_RESTART_COUNT"))
            return cls("slurm", job, {"cluster_JOB_ID": job}, restarts)
        if (job := environment.get("JOB_ID")) and (cell := environment.get("SGE_CELL")):
            task = environment.get("SGE_TASK_ID", "undefined")
            job = job if task == "undefined" else f"{job}.{task}"
            fields = {"cluster_JOB_ID": job, "cluster_SGE_CELL": cell}
            return cls("sge", job, fields, _number(environment.get("RESTARTED")))
        if job := environment.get("ZWRAP_LOCAL_JOB_ID"):
            return cls("local", job, {"cluster_JOB_ID": job})
        return cls("none", None, {})


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def extended_status_dictionary() -> dict[str, str]:
    """Fields that say where this process runs: version, and batch job if there is one.

    Name and meaning are those of ``zocalo.util.extended_status_dictionary``.
    """
    return {"zocalo": __version__, **BatchJob.from_environment().fields}
