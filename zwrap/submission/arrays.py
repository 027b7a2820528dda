"""Arrays: jobs of the same shape are submitted as one, whose script runs the script of each job."""

from __future__ import annotations

import functools
import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from zwrap.host.files import write_atomically
from zwrap.host.modes import OWN_SCRIPT
from zwrap.job import JobRequest
from zwrap.message.identity import new_id
from zwrap.scheduler import ArrayForm, Busy, Rejected
from zwrap.submission.handover import Handover
from zwrap.submission.lookup import FRESH_S
from zwrap.submission.pending import PendingJob
from zwrap.submission.template import Templates

log = logging.getLogger(__name__)

NOWHERE = Path("/dev/null")


class Shape(NamedTuple):
    """Properties that all tasks of an array share: the batch system sees only one script."""

    job_name: str
    first: str
    """First line of the scripts, which names their interpreter."""
    directives: tuple[str, ...]


def shape_of(request: JobRequest, script: str, form: ArrayForm) -> Shape | None:
    """Return the properties that a job must share with others in one array.

    None: the job must be a single one, because it asks for that, or because the directives in its
    script are not known.
    """
    first, _, rest = script.partition("\n")
    lines = rest.split("\n")
    if not request.array or not form.prefix or not first.startswith("#!"):
        return None
    head = next((n for n, line in enumerate(lines) if line and line[0] != "#"), len(lines))
    if form.anywhere and any(line.startswith(form.prefix) for line in lines[head:]):
        return None
    directives = (line for line in lines[:head] if line.startswith(form.prefix))
    return Shape(request.job_name, first, tuple(directives))


def array_request(requests: Sequence[JobRequest]) -> JobRequest:
    """Return the request for an array; its tasks set their own directory and output."""
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

    `variable` is the environment variable that holds the number of a task. Raises OSError if the
    file cannot be written.
    """
    text = _templates().render_array(
        array.token,
        interpreter=shape.first.removeprefix("#!").strip(),
        directives=shape.directives,
        jobs=requests,
        task=variable,
    )
    file = array.job_directory / "array-script"
    write_atomically(file, text, mode=OWN_SCRIPT)
    return file


@functools.cache
def _templates() -> Templates:
    """Return the templates that come with zwrap; a site has none for arrays."""
    return Templates()


def submit_as_arrays(
    handover: Handover, jobs: Sequence[PendingJob], largest: int
) -> list[PendingJob]:
    """Submit jobs of the same shape as arrays of up to `largest` tasks; return all other jobs."""
    form = handover.scheduler.arrays
    if form is None or largest < 2 or len(jobs) < 2:
        return list(jobs)
    by_shape: dict[Shape | None, list[PendingJob]] = defaultdict(list)
    for job in jobs:
        text = job.script.read_text() if job.text is None else job.text
        by_shape[shape_of(job.request, text, form)].append(job)
    left: list[PendingJob] = []
    for shape, alike in by_shape.items():
        if shape and len(alike) > 1:
            left += _submit_shape(handover, shape, handover.with_files(alike), largest)
        else:
            left += alike
    return left


def _submit_shape(
    handover: Handover, shape: Shape, jobs: list[PendingJob], size: int
) -> list[PendingJob]:
    """Submit jobs of one shape as the largest arrays for which there is room; return the others."""
    full = False
    left: list[PendingJob] = []
    while len(jobs) > 1 and size > 1 and not handover.stopped:
        array = array_request([job.request for job in jobs])
        began = handover.clock()
        tasks, jobs = handover.begin(jobs[:size], array), jobs[size:]
        if len(tasks) < 2:
            left += tasks
            continue
        try:
            script = _script(handover, array, shape, tasks)
            question = handover.scheduler.submit(array, script, len(tasks))
        except Exception as error:  # perhaps of one task's directory; each is tried alone
            log.warning("An array of %d jobs cannot be submitted: %s", len(tasks), error)
            left += tasks
            continue
        if handover.clock() - began > FRESH_S:  # a slow disk, say
            left += tasks
            continue
        answer = handover.ask(question, array)
        if isinstance(answer, Busy) and answer.wait_s is None:
            jobs, size, full = [*tasks, *jobs], len(tasks) // 2, True
        elif isinstance(answer, (Busy, Rejected)):
            left += _after_refusal(handover, tasks)
        else:
            handover.conclude([(job, answer) for job in tasks])
            if full:  # less room is left than this array took
                size //= 2
    return [*left, *jobs]


def _script(
    handover: Handover, array: JobRequest, shape: Shape, tasks: Sequence[PendingJob]
) -> Path:
    """Write the script of an array of these jobs, and return its path."""
    form = handover.scheduler.arrays
    assert form
    return write_script(array, shape, [job.request for job in tasks], form.variable)


def _after_refusal(handover: Handover, tasks: list[PendingJob]) -> list[PendingJob]:
    """Submit the first task of a refused array alone; return the jobs that are left.

    If that task is not taken either, the reason is one that all tasks share.
    """
    answer = handover.submit_one(tasks[0])
    if isinstance(answer, (Busy, Rejected)):
        handover.conclude([(job, answer) for job in tasks[1:]])
        return []
    return tasks[1:]
