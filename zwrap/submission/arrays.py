"""Jobs of the same shape as one array: its script sends each task to the script of its own job."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from zwrap.host.files import write_atomically
from zwrap.job import JobRequest
from zwrap.message import new_id
from zwrap.scheduler import ArrayForm
from zwrap.submission.template import Templates

NOWHERE = Path("/dev/null")


class Shape(NamedTuple):
    """Common properties of the tasks of an array, of which the batch system sees one script."""

    job_name: str
    first: str
    """First line of the scripts, which names their interpreter."""
    directives: tuple[str, ...]


def shape_of(request: JobRequest, script: str, form: ArrayForm) -> Shape | None:
    """Return what a job must share with others to be in one array; None: it must be by itself.

    By itself is a job that asks for that, and one whose directives cannot be told from its script.
    """
    first, _, rest = script.partition("\n")
    lines = rest.splitlines()
    if not request.array or not form.prefix or not first.startswith("#!"):
        return None
    head = next((n for n, line in enumerate(lines) if line and line[0] != "#"), len(lines))
    if form.anywhere and any(line.startswith(form.prefix) for line in lines[head:]):
        return None
    directives = (line for line in lines[:head] if line.startswith(form.prefix))
    return Shape(request.job_name, first, tuple(directives))


def array_request(requests: Sequence[JobRequest]) -> JobRequest:
    """Return the array as a job. Its tasks say where they work and where their output goes."""
    return replace(
        requests[0],
        token=f"{new_id().replace('-', '')}-array",
        working_directory=Path("/"),
        standard_output=NOWHERE,
        standard_error=NOWHERE,
    )


def write_script(
    array: JobRequest, shape: Shape, requests: Sequence[JobRequest], variable: str
) -> Path:
    """Write the script of an array beside that of its first task, and return its path.

    `variable` is the environment variable that tells a task its number. OSError where the file
    cannot be written.
    """
    text = _templates().render_array(
        array.token,
        interpreter=shape.first.removeprefix("#!").strip(),
        directives=shape.directives,
        jobs=requests,
        task=variable,
    )
    file = array.job_directory / "array-script"
    write_atomically(file, text, mode=0o750)
    return file


@functools.cache
def _templates() -> Templates:
    """Return the shipped templates: a site has none for arrays."""
    return Templates()
