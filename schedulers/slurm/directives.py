"""The #SBATCH lines of a job script as fields of a submission to slurmrestd.

slurmrestd ignores these lines. Translated, they let one template serve both ways, and what a site
adds to it is not lost: an option without a field is refused.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from zwrap.errors import RequestError
from zwrap.units import MIB, bytes_of, mib, seconds

LIST_OF_FLAGS = 39
"""N of the version v0.0.N from which on several fields have another form."""


def _text(value: str, where: str) -> str:
    """Return a value as it is."""
    del where
    return value


def _number(value: str, where: str) -> int:
    """Return a whole number; RequestError, with `where` as its subject, for another value."""
    if re.fullmatch(r"-?[0-9]{1,10}", value):
        return int(value)
    raise RequestError(f"{where} is {value!r}; a whole number is expected.")


def _minutes(value: str, where: str) -> int:
    """Return a time limit in minutes, rounded up as sbatch does."""
    return math.ceil(seconds(value, where, in_minutes=True) / 60)


def _mib(value: str, where: str) -> int:
    """Return an amount of memory in mebibytes, the unit of a number without a letter; 0: all."""
    if bytes_of(value) == 0:
        return 0
    return mib(value, where, bare=MIB)


OPTIONS: dict[str, tuple[str, Callable[[str, str], str | int]]] = {
    "account": ("account", _text),
    "begin": ("begin_time", _text),
    "comment": ("comment", _text),
    "constraint": ("constraints", _text),
    "cpus-per-task": ("cpus_per_task", _number),
    "dependency": ("dependency", _text),
    "exclude": ("exclude_nodes", _text),
    "exclusive": ("exclusive", _text),
    "gpus": ("gpus", _text),
    "gpus-per-node": ("gpus_per_node", _text),
    "gres": ("gres", _text),
    "licenses": ("licenses", _text),
    "mail-type": ("mail_type", _text),
    "mail-user": ("mail_user", _text),
    "mem": ("memory_per_node", _mib),
    "mem-per-cpu": ("memory_per_cpu", _mib),
    "nice": ("nice", _number),
    "nodelist": ("nodelist", _text),
    "nodes": ("nodes", _number),
    "ntasks": ("tasks", _number),
    "ntasks-per-node": ("tasks_per_node", _number),
    "partition": ("partition", _text),
    "prefer": ("prefer", _text),
    "priority": ("priority", _number),
    "qos": ("qos", _text),
    "reservation": ("reservation", _text),
    "signal": ("signal", _text),
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
        _refuse_signal(found)
        if found.get("requeue") is False:  # which 22.05 takes for true
            found["no_requeue"] = not found.pop("requeue")
        return found
    if exclusive := found.pop("exclusive", None):
        found["shared"] = ["none" if exclusive == "exclusive" else exclusive]
    for field, name in LISTS.items():
        if field in found:
            found[name] = re.split(r",(?![^[]*\])", str(found.pop(field)))  # not those in n[1,3]
    if "mail_type" in found:
        found["mail_type"] = _mail_types(found["mail_type"])
    if "begin_time" in found:
        found["begin_time"] = _epoch(str(found["begin_time"]))
    if warning := found.pop("signal", None):
        found |= _warning(str(warning))
    return _with_trackable(found)


LISTS = {
    "exclude_nodes": "excluded_nodes", "mail_type": "mail_type", "nodelist": "required_nodes",
}  # fmt: skip
"""Field of a text with commas to the field that is a list from `LIST_OF_FLAGS` on."""


MAIL_TYPES = {
    "ALL": ["BEGIN", "END", "FAIL", "INVALID_DEPENDENCY", "REQUEUE", "STAGE_OUT"],
    "ARRAY_TASKS": ["ARRAY_TASKS"], "BEGIN": ["BEGIN"], "END": ["END"], "FAIL": ["FAIL"],
    "INVALID_DEPEND": ["INVALID_DEPENDENCY"], "NONE": [], "REQUEUE": ["REQUEUE"],
    "STAGE_OUT": ["STAGE_OUT"], "TIME_LIMIT": ["TIME=100%"], "TIME_LIMIT_50": ["TIME=50%"],
    "TIME_LIMIT_80": ["TIME=80%"], "TIME_LIMIT_90": ["TIME=90%"],
}  # fmt: skip
"""Word of sbatch(1) for ``--mail-type`` to those of slurmrestd from `LIST_OF_FLAGS` on, which takes
a job with a word that it does not know, and sends no such mail (24.11)."""


def _mail_types(words: object) -> list[str]:
    """Return the occasions of mail in the words of slurmrestd; RequestError for an unknown one."""
    assert isinstance(words, list)
    found: list[str] = []
    for word in words:
        if word.upper() not in MAIL_TYPES:
            raise RequestError(
                f"The value in line '#SBATCH --mail-type={','.join(words)}' of the job script is "
                f"not understood: {word!r}; known are {', '.join(MAIL_TYPES)}."
            )
        found += [each for each in MAIL_TYPES[word.upper()] if each not in found]
    return found


def _refuse_signal(found: dict[str, object]) -> None:
    """Raise RequestError for a signal to the script of the job, which 22.05 does not take.

    Without ``B:`` it is one to steps that the script starts with srun, and not to the script.
    """
    if str(found.get("signal", "")).startswith("B:"):
        raise RequestError(
            f"slurmrestd takes no signal to the script of a job before v0.0.{LIST_OF_FLAGS}: "
            "remove the key 'signal', or let the cluster be of kind 'slurm'."
        )


def _with_trackable(found: dict[str, object]) -> dict[str, object]:
    """Return fields in which GPUs and generic resources are trackable resources."""
    node = [f"gpu:{found.pop('gpus_per_node')}"] if "gpus_per_node" in found else []
    node += filter(None, str(found.pop("gres", "")).split(","))
    if "gpus" in found:
        found["tres_per_job"] = f"gres/gpu:{found.pop('gpus')}"
    if node:
        found["tres_per_node"] = ",".join(f"gres/{each}" for each in node)
    return found


def _epoch(begin: str) -> int:
    """Return the earliest start of a job, as its script has it, in seconds since the epoch.

    Raises RequestError for a form of sbatch(1) that zwrap's template does not write.
    """
    match = re.fullmatch(r"(now\+|uts)([0-9]{1,12})", begin)
    if match:
        return int(match[2]) + (int(time.time()) if match[1] == "now+" else 0)
    try:
        return int(datetime.fromisoformat(begin).timestamp())
    except ValueError:
        raise RequestError(
            f"The value in line '#SBATCH --begin={begin}' of the job script is not understood; "
            "'now+SECONDS', or a date and time, is expected."
        ) from None


def _warning(signal: str) -> dict[str, object]:
    """Return the fields of a signal before the end of the job."""
    match = re.fullmatch(r"(B:)?(\w+)(?:@([0-9]{1,5}))?", signal)
    if match is None:
        raise RequestError(
            f"The value in line '#SBATCH --signal={signal}' of the job script is not understood; "
            "one such as 'B:USR1@300' is expected."
        )
    flags = {"kill_warning_flags": ["BATCH_JOB"]} if match[1] else {}
    delay = {"kill_warning_delay": int(match[3])} if match[3] else {}
    return {"kill_warning_signal": match[2], **flags, **delay}
