"""The #SBATCH lines of a job script as fields of a submission to slurmrestd.

slurmrestd does not look at them. So one template serves both ways, and what a site adds to it is
not lost: an option without a field is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from zwrap.errors import RequestError

LIST_OF_FLAGS = 39
"""From v0.0.39 on several fields have another form."""


def _text(value: str) -> str:
    return value


def _minutes(value: str) -> int:
    """Minutes of a time limit: MINUTES, MINUTES:SECONDS, H:M:S, D-H, D-H:M or D-H:M:S."""
    days, dash, rest = value.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash or len(parts) == 3:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    else:
        hours, (minutes, seconds) = 0, [*parts, 0][:2]
    return int(days or 0) * 1440 + hours * 60 + minutes + (seconds > 0)


def _mib(value: str) -> int:
    match = re.fullmatch(r"(\d+)([KMGT]?)B?", value.upper())
    if match is None:
        raise ValueError(value)
    factor = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024**2}[match[2]]
    return max(1, int(int(match[1]) * factor))


OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "account": ("account", _text),
    "comment": ("comment", _text),
    "constraint": ("constraints", _text),
    "cpus-per-task": ("cpus_per_task", int),
    "dependency": ("dependency", _text),
    "exclude": ("exclude_nodes", _text),
    "gpus": ("gpus", _text),
    "gpus-per-node": ("gpus_per_node", _text),
    "gres": ("gres", _text),
    "licenses": ("licenses", _text),
    "mem": ("memory_per_node", _mib),
    "mem-per-cpu": ("memory_per_cpu", _mib),
    "nice": ("nice", int),
    "nodes": ("nodes", int),
    "ntasks": ("tasks", int),
    "partition": ("partition", _text),
    "prefer": ("prefer", _text),
    "qos": ("qos", _text),
    "reservation": ("reservation", _text),
    "time": ("time_limit", _minutes),
}
"""Options of sbatch(1) with one value, and their fields."""

FLAGS: dict[str, tuple[str, Any]] = {
    "exclusive": ("exclusive", "exclusive"),  # the specification says "true", which is refused
    "requeue": ("requeue", True),
    "no-requeue": ("requeue", False),
}


def fields(script: str, version: int) -> dict[str, object]:
    """Return the fields of a job for v0.0.<version>; RequestError for an option without a field."""
    found: dict[str, object] = {}
    for line in re.findall(r"^#SBATCH\s+(.*?)\s*$", script, re.MULTILINE):
        match = re.fullmatch(r"--([a-z-]+)(?:=(\S+))?", line)
        name, value = match.groups() if match else (None, None)
        if name in FLAGS and value is None:
            field, found_value = FLAGS[name]
            found[field] = found_value
        elif name in OPTIONS and value is not None:
            field, convert = OPTIONS[name]
            try:
                found[field] = convert(value)
            except ValueError:
                raise RequestError(
                    f"The value in line '#SBATCH {line}' of the job script is not understood."
                ) from None
        else:
            known = ", ".join(f"--{option}" for option in sorted({*OPTIONS, *FLAGS}))
            raise RequestError(
                f"The line '#SBATCH {line}' of the job script cannot be given to slurmrestd. One "
                f"option is expected, as --name=value; known are {known}."
            )
    return _for_version(found, version)


def _for_version(found: dict[str, object], version: int) -> dict[str, object]:
    """Return fields in the form of a version: lists of flags, TRES and ranges of nodes."""
    nodes = found.pop("nodes", None)
    if version < LIST_OF_FLAGS:
        return found | ({"nodes": [nodes, nodes]} if nodes else {})
    if nodes:
        found["nodes"] = str(nodes)
    if excluded := found.pop("exclude_nodes", None):
        found["excluded_nodes"] = str(excluded).split(",")
    if found.pop("exclusive", None):
        found["shared"] = ["none"]
    for field, tres in (("gpus", "tres_per_job"), ("gpus_per_node", "tres_per_node")):
        if field in found:
            found[tres] = f"gres/gpu:{found.pop(field)}"
    return found
