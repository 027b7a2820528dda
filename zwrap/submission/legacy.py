"""Steps written for Grid Engine before 2025: `cluster_commands` and raw options of qsub(1).

They become a `cluster` block as of today. An option that has no key there is refused, not passed
on and not left out.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from zwrap.errors import RequestError
from zwrap.units import mib, seconds

KEYS = (
    "cluster_commands", "cluster_submission_parameters", "cluster_project", "cluster_queue",
)  # fmt: skip

MEMORY = ("h_vmem", "mem_free", "m_mem_free", "s_vmem")
"""Resources that mean memory per slot."""

IMPLIED = ("-notify", "-cwd")
"""Options that say what is so anyway."""

ELSEWHERE = {
    "-o": "'standard_output'",
    "-e": "'standard_error'",
    "-wd": "'workingdir'",
    "-v": "'environment' in a 'cluster' block",
}


def cluster_block(parameters: Mapping[str, Any], where: str) -> Any:
    """The `cluster` block of a step; that of old keys, if it has those."""
    given = parameters.get("cluster")
    old = [key for key in KEYS if parameters.get(key)]
    if not old:
        return given
    if isinstance(given, Mapping):
        raise RequestError(
            f"{where}: {old[0]!r} belongs to the old form, in which 'cluster' is the name of a "
            "cluster. Put what it says into the 'cluster' block."
        )
    block = {
        "scheduler": given,
        "commands": parameters.get("cluster_commands"),
        "account": parameters.get("cluster_project"),
        "partition": parameters.get("cluster_queue"),
    }
    named = {key: value for key, value in block.items() if value}
    place = f"{where}, key 'cluster_submission_parameters'"
    return {**_options(parameters.get("cluster_submission_parameters") or "", place), **named}


def _options(text: Any, where: str) -> dict[str, Any]:
    """Keys of a block from options of qsub."""
    if not isinstance(text, str):
        raise RequestError(f"{where} is {text!r}; a text with options of qsub is expected.")
    try:
        words = iter(shlex.split(text))
    except ValueError as error:
        raise RequestError(f"{where} is {text!r}, which a shell would not take: {error}.") from None
    block: dict[str, Any] = {}
    for word in words:
        if word not in IMPLIED:
            block |= _option(word, words, block, where)
    return block


def _option(word: str, words: Iterator[str], block: dict[str, Any], where: str) -> dict[str, Any]:
    if word in ELSEWHERE:
        raise RequestError(f"{where}: {word} cannot be honoured; {ELSEWHERE[word]} says it.")
    if word not in _READERS:
        known = ", ".join(sorted((*_READERS, *IMPLIED)))
        raise RequestError(f"{where}: option {word!r} cannot be honoured; known are {known}.")
    count = 2 if word == "-pe" else 1
    values = [value for _, value in zip(range(count), words, strict=False)]
    if len(values) < count:
        raise RequestError(f"{where}: {word} lacks a value.")
    try:
        return _READERS[word](values, block, where)
    except ValueError:
        said = " ".join([word, *values])
        raise RequestError(f"{where}: {said!r} is not understood (qsub(1)).") from None


def _slots(values: list[str], *_: object) -> dict[str, Any]:
    environment, number = values
    return {"cpus_per_task" if environment == "smp" else "tasks": int(number)}


def _shell(values: list[str], *_: object) -> dict[str, Any]:
    if values[0] not in ("/bin/bash", "/bin/sh"):
        raise ValueError
    return {}


def _resources(values: list[str], block: dict[str, Any], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    others = [block["constraints"]] if "constraints" in block else []
    for request in values[0].split(","):
        name, _, value = request.partition("=")
        if name == "h_rt":
            found["time_limit"] = seconds(value, f"{where}: -l h_rt")
        elif name in MEMORY:
            found["min_memory_per_cpu"] = mib(value, f"{where}: -l {name}")
        elif name in ("gpu", "gpus"):
            found["gpus"] = int(value or 1)
        elif name in ("exclusive", "excl"):
            found["exclusive"] = value.lower() in ("", "true", "1")
        elif name:
            others.append(f"{name}={value or 'true'}")
        else:
            raise ValueError
    return {**found, **({"constraints": ",".join(others)} if others else {})}


_READERS: dict[str, Callable[[list[str], dict[str, Any], str], dict[str, Any]]] = {
    "-N": lambda values, *_: {"job_name": values[0]},
    "-P": lambda values, *_: {"account": values[0]},
    "-S": _shell,
    "-l": _resources,
    "-pe": _slots,
    "-q": lambda values, *_: {"partition": values[0]},
}
