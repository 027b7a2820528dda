"""The batch job around this process, and the inside half of its batch system."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterator, Mapping

from zwrap import plugins
from zwrap.job import BatchJob
from zwrap.scheduler import SIGNALS, Inside, Signals

log = logging.getLogger(__name__)

VARIABLE = "ZWRAP_BATCH_SYSTEM"
"""Variable in which a job script says which inside half its job has."""


class Nowhere:
    """The inside half of a process that is in no batch job, or in one of which nothing is known."""

    signals: Signals = SIGNALS

    def job(self, environ: Mapping[str, str]) -> BatchJob:
        """Return the job that stands for none."""
        del environ
        return BatchJob()

    def why_stopped(self, job: BatchJob, began: float) -> None:
        """Say nothing: nobody can be asked."""
        del job, began


def batch_job(environ: Mapping[str, str] = os.environ) -> tuple[BatchJob, Inside]:
    """Return the batch job that environment variables tell of, and how to deal with it.

    The job script names the batch system. Where nothing does (a script of an earlier release, or of
    somebody else), or the name is not installed here, each shipped inside half looks for its own
    variables, then those that others have installed.
    """
    for inside in _candidates(environ.get(VARIABLE)):
        try:
            job = inside.job(environ)
        except Exception as error:  # perhaps a site's own; it must not end the job
            log.warning("An inside half (%s) failed: %s", type(inside).__name__, error)
            continue
        if job:
            return job, inside
    return BatchJob(), Nowhere()


def _candidates(named: str | None) -> Iterator[Inside]:
    """Give one inside half after the other; each is loaded only if it is asked for."""
    own = plugins.OWN[plugins.INSIDE]
    if named and (inside := _load(named)):
        yield inside
    for name in own:
        if inside := _load(name):
            yield inside
    for name in _foreign():
        if inside := _load(name):
            yield inside


@functools.cache
def _load(name: str) -> Inside | None:
    """Load an inside half; one that cannot be loaded must not end the job."""
    try:
        inside: Inside | None = plugins.find(plugins.INSIDE, name)
    except Exception as error:
        log.warning("The inside half of batch system %r cannot be loaded: %s", name, error)
        return None
    return inside


@functools.cache
def _foreign() -> list[str]:
    """Return the names of inside halves that others have installed, which takes a millisecond."""
    own = plugins.OWN[plugins.INSIDE]
    return [name for name in plugins.names(plugins.INSIDE) if name not in own]
