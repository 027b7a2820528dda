"""What a job may ask of Grid Engine: anything else is refused before Grid Engine is asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from zwrap.errors import RequestError
from zwrap.job import JobRequest, Resources

from .tables import REFUSED

LEAST_PRIORITY, LARGEST_PRIORITY = -1023, 1024
"""Range of priorities (qsub(1), ``-p``)."""


def refuse(name: str, memory: str, request: JobRequest, script: Path) -> None:
    """Raise RequestError for what cannot be expressed.

    Args:
        name: Name of the cluster.
        memory: Resource for memory per slot.
        request: The job.
        script: Path of the job script.
    """
    resources = request.resources
    for key, reason in REFUSED.items():
        if getattr(resources, key):
            raise RequestError(
                f"Cluster {name!r} is Grid Engine, which {reason}: remove the key {key!r}."
            )
    for sentence in _faults(resources, memory):
        raise RequestError(f"Cluster {name!r} is Grid Engine: {sentence}")
    used = (script, request.working_directory, request.standard_output, request.standard_error)
    for path in used:
        if "$" in str(path) or "\n" in str(path):
            raise RequestError(
                f"Grid Engine replaces what follows '$' in a path and ends a path at a line "
                f"break, so {str(path)!r} cannot be used. Choose another 'workingdir'."
            )


def _faults(asked: Resources, memory: str) -> Iterator[str]:
    """Yield a sentence about each resource that has another form, or none, in Grid Engine."""
    if (asked.nodes or 1) > 1:
        yield (
            "a parallel environment and not a job decides there on how many hosts it runs: remove "
            "the key 'nodes'."
        )
    if asked.memory_mib and asked.memory_per_cpu_mib:
        yield (
            f"it counts memory per slot, as {memory}. Give one of 'memory_per_node' and "
            "'min_memory_per_cpu'."
        )
    if asked.memory_mib == 0:
        yield "it has no way to ask for all memory of a host: give 'memory_per_node' as a size."
    if asked.exclusive == "user":
        yield "a host is given to one job, and not to one user: 'exclusive' may be true or false."
    for key, fits, expected in _FORMS:
        value = getattr(asked, key)
        if value is not None and not fits(value):
            yield f"{key!r} is {value!r}; {expected}."
    if asked.nodelist and asked.exclude:
        yield "a job names its host, or hosts to avoid: remove one of 'nodelist' and 'exclude'."
    if asked.nice is not None and asked.priority is not None:
        yield "it has one priority (-p): remove one of 'nice' and 'priority'."


def _matches(pattern: str) -> Callable[[object], bool]:
    """Return a function that tells whether a text is of a form."""
    return lambda value: re.fullmatch(pattern, str(value)) is not None


_FORMS: tuple[tuple[str, Callable[[object], bool], str], ...] = (
    (
        "constraints", _matches(r"(\w+=[^,=\s]+(,(?!$)|$))*"),
        "for Grid Engine resources are expected, such as 'arch=lx-amd64,os=debian12'",
    ),
    ("licenses", _matches(r"\w+:[0-9]+(,\w+:[0-9]+)*"), "resources as 'matlab:2' are expected"),
    ("reservation", _matches("[0-9]+"), "the number of an advance reservation is expected"),
    ("nodelist", _matches(r"[\w.-]+"), "one host is expected"),
    ("comment", _matches("[^,=]+"), "a word without ',' and '=' is expected"),
    ("mail_on", _matches("(begin|end|fail)(,(end|fail))*"), "begin, end and fail are expected"),
    (
        "begin", _matches("[0-9].*"),
        "a local date and time without a zone, such as '2026-11-28T20:00', is expected",
    ),
    (
        "priority", lambda value: LEAST_PRIORITY <= int(str(value)) <= LARGEST_PRIORITY,
        f"{LEAST_PRIORITY} to {LARGEST_PRIORITY} are expected",
    ),
    (
        "nice", lambda value: LEAST_PRIORITY <= -int(str(value)) <= LARGEST_PRIORITY,
        f"{-LARGEST_PRIORITY} to {-LEAST_PRIORITY} are expected",
    ),
)  # fmt: skip
"""Resource, whether a value of it fits, and what is expected instead."""
