"""The #SBATCH lines of a job script as fields of a submission to slurmrestd.

slurmrestd ignores these lines. Translated, they let one template serve both ways, and what a site
adds to it is not lost: an option without a field is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from zwrap.errors import RequestError
from zwrap.units import MIB, mib, seconds

LIST_OF_FLAGS = 39
"""N of the version v0.0.N from which on several fields have another form."""


def _text(value: str, where: str) -> str:
    """Return a value as it is."""
    del where
    return value


def _number(value: str, where: str) -> int:
    """Return a whole number; RequestError, with `where` as its subject, for another value."""
    if re.fullmatch(r"-?[0-9]{1,9}", value):
        return int(value)
    raise RequestError(f"{where} is {value!r}; a whole number is expected.")


def _minutes(value: str, where: str) -> int:
    """Return a time limit in minutes, rounded up as sbatch does."""
    return math.ceil(seconds(value, where, in_minutes=True) / 60)


def _mib(value: str, where: str) -> int:
    """Return an amount of memory in mebibytes, the unit of a number without a letter."""
    return mib(value, where, bare=MIB)


OPTIONS: dict[str, tuple[str, Callable[[str, str], str | int]]] = {
    "account": ("account", _text),
    "comment": ("comment", _text),
    "constraint": ("constraints", _text),
    "cpus-per-task": ("cpus_per_task", _number),
    "dependency": ("dependency", _text),
    "exclude": ("exclude_nodes", _text),
    "gpus": ("gpus", _text),
    "gpus-per-node": ("gpus_per_node", _text),
    "gres": ("gres", _text),
    "licenses": ("licenses", _text),
    "mem": ("memory_per_node", _mib),
    "mem-per-cpu": ("memory_per_cpu", _mib),
    "nice": ("nice", _number),
    "nodes": ("nodes", _number),
    "ntasks": ("tasks", _number),
    "partition": ("partition", _text),
    "prefer": ("prefer", _text),
    "qos": ("qos", _text),
    "reservation": ("reservation", _text),
    "time": ("time_limit", _minutes),
}
"""Option of sbatch(1) with one value to its field and the function that reads the value."""

FLAGS: dict[str, tuple[str, Any]] = {
    "exclusive": ("exclusive", "exclusive"),  # the specification says "true", which is refused
    "requeue": ("requeue", True),
    "no-requeue": ("requeue", False),
}
"""Option of sbatch(1) without a value to its field and the field's value."""


PARTS = re.compile(r"#SBATCH\s+(hetjob|packjob)\b")
"""Line of a job script between the parts of a heterogeneous job; the second word is its name before
Slurm 20.02."""


def refuse_parts(script: str) -> None:
    """Raise RequestError, which names the line, for the script of a heterogeneous job.

    Such a job has several ids, of which sbatch tells the first.
    """
    for number, line in _head(script):
        if PARTS.match(line):
            raise RequestError(
                f"Line {number} of the job script is {line.strip()!r}, which makes it a "
                "heterogeneous job; zwrap submits jobs of one part only. Remove the line, and the "
                "options of further parts, from the template; ask for the resources of all parts "
                "in one job, or make each part a step of its own."
            )


def _head(script: str) -> Iterator[tuple[int, str]]:
    """Yield number and text of the lines before the first command.

    sbatch(1) reads no directive after it; there such a line may be part of a value.
    """
    for number, line in enumerate(script.split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            return
        yield number, line


def fields(script: str, version: int) -> dict[str, object]:
    """Return the fields of a job for v0.0.<version>; RequestError for an option without a field."""
    found: dict[str, object] = {}
    directives = (re.fullmatch(r"#SBATCH\s+(.*?)\s*", line) for _, line in _head(script))
    for line in [directive[1] for directive in directives if directive]:
        match = re.fullmatch(r"--([a-z-]+)(?:=(\S+))?", line)
        name, value = match.groups() if match else (None, None)
        if name in FLAGS and value is None:
            field, found_value = FLAGS[name]
            found[field] = found_value
        elif name in OPTIONS and value is not None:
            field, convert = OPTIONS[name]
            found[field] = convert(value, f"The value in line '#SBATCH {line}' of the job script")
        else:
            known = ", ".join(f"--{option}" for option in sorted({*OPTIONS, *FLAGS}))
            raise RequestError(
                f"The line '#SBATCH {line}' of the job script cannot be given to slurmrestd. One "
                f"option is expected, as --name=value; known are {known}."
            )
    return _for_version(found, version)


def _for_version(found: dict[str, object], version: int) -> dict[str, object]:
    """Return fields in the form of a version: flags and trackable resources."""
    if "nodes" in found:  # 22.05 takes the list of its specification, and does not heed it
        found["nodes"] = str(found["nodes"])
    if version < LIST_OF_FLAGS:
        return found
    if excluded := found.pop("exclude_nodes", None):
        found["excluded_nodes"] = str(excluded).split(",")
    if found.pop("exclusive", None):
        found["shared"] = ["none"]
    for field, tres in (("gpus", "tres_per_job"), ("gpus_per_node", "tres_per_node")):
        if field in found:
            found[tres] = f"gres/gpu:{found.pop(field)}"
    return found
