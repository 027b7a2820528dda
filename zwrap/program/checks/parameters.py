"""Job parameters that a definition does not know, which are misspelt most often."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from zwrap.errors import short
from zwrap.program.asked import COMMON, keys_of
from zwrap.program.definition import Definition
from zwrap.program.keys.marks import INPUT_NAME, marked

TOLD = 20
"""Number of unknown job parameters that are told."""

_NAMES = r"\{(?:\$REPLACE:)?([\w-]+)"


def unknown_parameters(definition: Definition, job_parameters: Mapping[str, object]) -> list[str]:
    """Return a clause for each job parameter with which the definition does nothing."""
    known = {*COMMON, *keys_of(definition)}
    if any(key not in known for key in job_parameters):
        known |= set(used_names(definition))
    unknown = [(key, f"key {short(key)}") for key in job_parameters if key not in known]
    block = job_parameters.get(definition.name)
    if isinstance(block, Mapping) and not _holds_any(definition):
        inside = f"key {definition.name!r}, key "
        unknown += [(key, f"{inside}{short(key)}") for key in block if key not in known]
    return [f"{place}{_nearest(str(key), known)}" for key, place in unknown[:TOLD]]


def remark(definition: Definition, job_parameters: Mapping[str, object]) -> str:
    """Return the clause about job parameters that are not known; empty: all of them are."""
    clauses = unknown_parameters(definition, job_parameters)
    if not clauses:
        return ""
    return (
        f"job_parameters: program {definition.name!r} knows no {'; no '.join(clauses)} "
        f"({definition.source})"
    )


def _holds_any(definition: Definition) -> bool:
    """Return True if the block of the program's name is an input, or all its keys are options."""
    name = definition.name
    return name in definition.inputs or any(option.block == name for option in definition.options)


def used_names(definition: Definition) -> Iterator[str]:
    """Yield the names of job parameters that a definition uses beside its inputs."""
    yield definition.name
    if definition.set_up_key:
        yield definition.set_up_key
    yield from definition.refused
    yield from definition.ignored
    yield from definition.blocks
    yield from (option.block for option in definition.options)
    for declared in definition.inputs.values():
        if declared.block:
            yield declared.block
    for output in definition.outputs.values():
        yield from output.only_if.values()
        if output.unless:
            yield output.unless
    yield from (text for _, text, _ in marked(definition, INPUT_NAME))
    if definition.messages:
        from zwrap.program.keys.messages import parts  # which few definitions need

        for payload in definition.messages.values():
            yield from (way.split(".")[0] for part in parts(payload) for _, way in part.ways())
    yield from re.findall(_NAMES, msgspec.json.encode(definition).decode())
    yield from _asked_by_templates(definition)


def _asked_by_templates(definition: Definition) -> Iterator[str]:
    """Yield the names of values for which the templates of a definition ask."""
    for written in definition.write:
        if written.format is None:
            from zwrap.program.files.templating import names_in
            from zwrap.program.keys.written import template_of

            yield from names_in(template_of(written, definition.source))


def _nearest(key: str, known: set[str]) -> str:
    """Return a question about the known key that is nearest to an unknown one; empty: none is."""
    import difflib  # 2 ms that a job without a mistake need not wait for

    close = difflib.get_close_matches(key[:200], sorted(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
