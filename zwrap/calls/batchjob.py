"""The batch job around this process, and the inside half of its batch system."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterator, Mapping

from zwrap.job import BatchJob
from zwrap.plugins import registry
from zwrap.scheduler import SIGNALS, Inside, Signals

log = logging.getLogger(__name__)

VARIABLE = "ZWRAP_BATCH_SYSTEM"
"""Environment variable by which a job script names the inside half of its batch system."""


class Nowhere:
    """The inside half of a process outside batch jobs, or in a job of an unknown batch system."""

    signals: Signals = SIGNALS

    def job(self, environ: Mapping[str, str]) -> BatchJob:
        """Return an empty job."""
        del environ
        return BatchJob()

    def why_stopped(self, job: BatchJob, began: float) -> None:
        """Return None: no batch system can be asked."""
        del job, began


def batch_job(environ: Mapping[str, str] = os.environ) -> tuple[BatchJob, Inside]:
    """Return the batch job that environment variables describe, and its inside half.

    The job script names the batch system. Without a name (in a script of an earlier release, or a
    foreign one), or if the name is not installed here, each inside half looks for its own
    variables: first those of zwrap, then those of other distributions.
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
    """Yield one inside half after the other; each is loaded only when its turn comes."""
    own = registry.OWN[registry.INSIDE]
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
    """Load an inside half; None, and a warning, if that fails: it must not end the job."""
    try:
        inside: Inside | None = registry.find(registry.INSIDE, name)
    except Exception as error:
        log.warning("The inside half of batch system %r cannot be loaded: %s", name, error)
        return None
    return inside


@functools.cache
def _foreign() -> list[str]:
    """Return the names of inside halves of other distributions; looking takes a millisecond."""
    own = registry.OWN[registry.INSIDE]
    return [name for name in registry.names(registry.INSIDE) if name not in own]
