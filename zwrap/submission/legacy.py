"""Steps written for Grid Engine before 2025: `cluster_commands` and raw options of qsub(1).

Such a step is translated into a `cluster` block, and so are the options that a `cluster` block
holds under `qsub_submission_parameters`. An option without a key in the block is refused: it is
neither passed on nor ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from zwrap.errors import RequestError, short
from zwrap.recipe.quoting import words
from zwrap.units import mib, seconds

KEYS = (
    "cluster_commands", "cluster_submission_parameters", "cluster_project", "cluster_queue",
)  # fmt: skip
"""Parameters of the old form."""

Block = dict[str, object]
"""Keys of a `cluster` block."""

QSUB = "qsub_submission_parameters"
"""Key of a `cluster` block that holds raw options; keys beside it go before them."""

ANY_NUMBER = 9_999_999
"""Largest number of a range of slots whose end is open, as Grid Engine stores it (sge_pe(5))."""

MEMORY = ("h_vmem", "mem_free", "m_mem_free", "mfree", "s_vmem")
"""Resources that stand for memory per slot."""

IMPLIED = ("-notify", "-cwd")
"""Options that are in effect anyway."""

ELSEWHERE = {
    "-o": "'standard_output'",
    "-e": "'standard_error'",
    "-wd": "'workingdir'",
    "-v": "'environment' in a 'cluster' block",
}


def option_texts(parameters: Mapping[str, object], where: str) -> Iterator[tuple[str, object]]:
    """Yield the raw options of a step, each with its place; `where`: that of the parameters."""
    old, block = "cluster_submission_parameters", parameters.get("cluster")
    yield f"{where}, key {old!r}", parameters.get(old)
    if isinstance(block, Mapping):
        yield f"{where}, key 'cluster', key {QSUB!r}", block.get(QSUB)


def translated(parameters: Mapping[str, object], where: str) -> object:
    """Return the `cluster` block of a step, made from the old keys if it has any.

    Args:
        parameters: Parameters of the step.
        where: Place of the parameters, for the text of an error.

    Raises:
        RequestError: An option of the old form cannot be honoured.
    """
    given = parameters.get("cluster")
    old = [key for key in KEYS if parameters.get(key)]
    if not old:
        return _without_raw_options(given, where)
    if isinstance(given, Mapping):
        raise RequestError(
            f"{where}: {old[0]!r} belongs to the old form, in which 'cluster' is the name of a "
            "cluster. Put its content into the 'cluster' block."
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


def _without_raw_options(block: object, where: str) -> object:
    """Return a block with the keys that its raw options stand for in their place."""
    if not isinstance(block, Mapping) or QSUB not in block:
        return block
    own = {str(key): value for key, value in block.items() if key != QSUB and value is not None}
    return {**_options(block[QSUB] or "", f"{where}, key 'cluster', key {QSUB!r}"), **own}


def _options(text: object, where: str) -> Block:
    """Return keys of a block from options of qsub."""
    if not isinstance(text, str):
        raise RequestError(f"{where} is {short(text)}; a text with options of qsub is expected.")
    try:
        given = iter(words(text))
    except ValueError as error:
        said = f"{where} is {short(text)}, which a shell would refuse: {error}."
        raise RequestError(said) from None
    block: Block = {}
    for word in given:
        if word not in IMPLIED:
            block |= _option(word, given, block, where)
    return block


def _option(word: str, further: Iterator[str], block: Block, where: str) -> Block:
    """Return the keys for one option, whose values follow it."""
    if word in ELSEWHERE:
        raise RequestError(f"{where}: {word} cannot be honoured; use {ELSEWHERE[word]} instead.")
    if word not in _READERS:
        known = ", ".join(sorted((*_READERS, *IMPLIED)))
        raise RequestError(f"{where}: option {short(word)} cannot be honoured; known are {known}.")
    count = 2 if word == "-pe" else 1
    values = [value for _, value in zip(range(count), further, strict=False)]
    if len(values) < count:
        raise RequestError(f"{where}: {word} lacks a value.")
    try:
        return _READERS[word](values, block, where)
    except ValueError:
        said = short(" ".join([word, *values]))
        raise RequestError(f"{where}: {said} is not understood (qsub(1)).") from None


def _slots(values: list[str], *_: object) -> Block:
    """Return the keys for slots of a parallel environment: a number, or a range of numbers.

    ValueError for anything else.
    """
    environment, given = values
    match = re.fullmatch(r"([0-9]{0,7})-([0-9]{0,7})|([0-9]{1,7})", given)
    if match is None or given == "-":
        raise ValueError
    least, most = (int(match[3]),) * 2 if match[3] else (int(match[1] or 1), _end(match[2]))
    if most < least:
        raise ValueError
    key = "cpus_per_task" if environment == "smp" else "tasks"
    return {key: least, **({"max_slots": most} if most > least else {})}


def _end(text: str) -> int:
    """Return the end of a range of slots."""
    return int(text) if text else ANY_NUMBER


def _shell(values: list[str], *_: object) -> Block:
    """Return no keys for a shell that runs the commands anyway; ValueError for another one."""
    if values[0] not in ("/bin/bash", "/bin/sh"):
        raise ValueError
    return {}


def _resources(values: list[str], block: Block, where: str) -> Block:
    """Return the keys for a list of resources; those without a key become constraints."""
    found: Block = {}
    others = [str(block["constraints"])] if "constraints" in block else []
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


_READERS: dict[str, Callable[[list[str], Block, str], Block]] = {
    "-N": lambda values, *_: {"job_name": values[0]},
    "-P": lambda values, *_: {"account": values[0]},
    "-S": _shell,
    "-l": _resources,
    "-pe": _slots,
    "-q": lambda values, *_: {"partition": values[0]},
}
