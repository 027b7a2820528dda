"""What a site permits to the step of a job: which program, and where its files are."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from zwrap.configuration.site import Configuration
from zwrap.errors import ProgramError, UnknownNameError
from zwrap.host.beneath import AllowedDirectories
from zwrap.host.files import write_atomically
from zwrap.program.asked import as_asked, is_all_known
from zwrap.program.definition import Definition
from zwrap.program.reading import INLINE_PROGRAM, SHIPPED_PREFIX, find_program, program_names
from zwrap.recipe.envelope import Envelope

log = logging.getLogger(__name__)


def permitted_program(
    name: str, envelope: Envelope, configuration: Configuration, programs: Path | None
) -> Definition:
    """Return the definition of a program.

    Raises:
        ProgramError: The definition is not usable, the site wants none in a message, or the step
            asks for what the program cannot do.
        UnknownNameError: There is none of that name.
    """
    where, security = f"Node {envelope.pointer}", configuration.site.security
    if name.removeprefix(SHIPPED_PREFIX) == INLINE_PROGRAM:
        security.check_inline_command(where)
    definition = find_program(name, envelope.job_parameters, programs)
    if definition is None:  # it was removed since the job has looked
        raise UnknownNameError("program", name, program_names(programs))
    if not is_all_known(definition, envelope.job_parameters):
        from zwrap.program.checks.parameters import remark  # which few steps need

        if unknown := remark(definition, envelope.job_parameters):
            log.warning("%s, %s", where, unknown)
    return as_asked(
        definition, envelope.job_parameters, where, partial(security.check_inline_command, where)
    )


def write_files(
    directory: Path, place: Path, contents: Mapping[str, str], allowed: AllowedDirectories
) -> None:
    """Write files, contents by name, in a directory that is open as `place`.

    A name may lead elsewhere, relative to the directory or not.

    Raises:
        ProgramError: A file cannot be written.
        OutsideError: A file is outside of the allowed directories.
    """
    for name, content in contents.items():
        path = directory / name
        try:
            if not allowed.is_restricted or path.parent == directory:
                write_atomically(place / name, content)
                continue
            with allowed.directory(path.parent, f"The directory of parameter file {name!r}") as at:
                write_atomically(at / path.name, content)
        except OSError as error:
            raise ProgramError(
                f"The parameter file {path} cannot be written: {error.strerror}."
            ) from None
