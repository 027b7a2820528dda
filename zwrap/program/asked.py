"""What a step asks of a program beside its inputs: set-up lines, and keys that it cannot have."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from zwrap.errors import ProgramError
from zwrap.program.definition import Definition
from zwrap.program.keys.commandline import AskedLine
from zwrap.program.reading import INLINE_PROGRAM

log = logging.getLogger(__name__)


COMMON = frozenset((
    "working_directory", "timeout", "results_directory", "create_symlink", "pipeline-final",
    "ispyb_parameters", "do_not_write_to_ispyb",
    "dcid", "rpid", "ispyb_process", "beamline", "visit", "dc_end_time",
))  # fmt: skip
"""Job parameters that every program may get: those that zwrap itself uses, and those that say whose
data they are, as Diamond's recipes give them to all wrappers."""


def keys_of(definition: Definition) -> set[str]:
    """Return the inputs of a definition and, if it is in job parameters itself, its keys there."""
    is_inline = definition.name == INLINE_PROGRAM or definition.source == "job_parameters"
    return {*definition.inputs, *(Definition.__struct_fields__ if is_inline else ())}


def is_all_known(definition: Definition, job_parameters: Mapping[str, object]) -> bool:
    """Return True if all job parameters are inputs, or are known for any program."""
    return COMMON.union(keys_of(definition)).issuperset(job_parameters)


def as_asked(
    definition: Definition,
    job_parameters: Mapping[str, object],
    where: str,
    check_commands: Callable[[str], None],
) -> Definition:
    """Return the definition with the set-up lines of a step.

    Args:
        definition: The definition.
        job_parameters: Those of the step.
        where: Place of the step, for sentences.
        check_commands: Function that raises ProgramError if a step may bring no shell lines under
            a key.

    Raises:
        ProgramError: The step has a key with which the program is not run, or a wrong value.
    """
    for key, why in definition.refused.items():
        if job_parameters.get(key) not in (None, ""):
            raise ProgramError(f"{where}, job_parameters, key {key!r}: {why}")
    for key in definition.ignored:
        if job_parameters.get(key):
            log.warning(
                "%s, job_parameters, key %r has no effect on program %r (%s)",
                where, key, definition.name, definition.source,
            )  # fmt: skip
    key = definition.set_up_key or ""
    given = job_parameters.get(key)
    if not key or given in (None, "", []):
        return definition
    lines = [given] if isinstance(given, str) else given
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise ProgramError(
            f"{where}, job_parameters, key {key!r} holds a {type(given).__name__}; shell lines are "
            "expected, as a text or a list of texts."
        )
    check_commands(key)
    return replace(definition, set_up=[*definition.set_up, *map(_asked, lines)])


def _asked(line: str) -> AskedLine:
    """Return a shell line in which braces are no placeholders: a Dispatcher has filled them in."""
    return AskedLine(line.replace("{", "{{").replace("}", "}}"))
