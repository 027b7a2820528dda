"""Reading of replies of slurmrestd, from v0.0.36 on.

A number may be a number or ``{"set": true, "number": N}``, a state one code or a list of codes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from zwrap.errors import UnreachableError
from zwrap.job import JobStatus, State
from zwrap.scheduler import Accepted, Rejected, Reply, Submission, Unknown

from ..reading import quoted, unknown_state, unreachable
from .replies import SLURM, ending, meaning, state_of, status_of

Fields = Mapping[str, object]
"""A JSON object."""

MOST_TASKS = 1000
"""Size of the largest array that zwrap submits."""

UNSPECIFIED = "Unspecified error"
"""Complaint of slurmrestd if it could not reach the controller, or its token was not accepted."""

NO_RECORD = ("Nothing found", "No results", "Invalid job id")
"""Complaints of slurmrestd if the accounting has no such job."""


def read_submission(reply: Reply) -> Submission:
    """Return the answer to a submission.

    A job id means that the job exists, even if the answer has errors, as for a held job.
    """
    told = _json(reply)
    job_id = _integer(_object(told).get("job_id"))
    if reply.status == 200 and job_id:
        return Accepted(str(job_id))
    said = _complaint(reply, told)
    if reply.status == 400:
        return Rejected(quoted(said))
    if reply.status != 500 or not isinstance(told, dict):
        return Unknown(quoted(said))
    means = meaning(said)
    return (Unknown if means is Rejected and UNSPECIFIED in said else means)(quoted(said))


def answer(reply: Reply, forgiven: tuple[str, ...] = ()) -> Fields:
    """Return the JSON object of a successful answer.

    An answer with one of the complaints in `forgiven` counts as an answer without jobs. Raises
    UnreachableError for any other answer.
    """
    told = _json(reply)
    if isinstance(told, dict) and reply.status == 200 and not told.get("errors"):
        return told
    said = _complaint(reply, told)
    if any(text in said for text in forgiven):
        return {"jobs": []}
    raise unreachable("slurmrestd", said)


def read_jobs(reply: Reply, user: str) -> dict[str, JobStatus]:
    """Return the jobs of a user that the controller remembers, by job id.

    One record stands for all tasks of an array that have not started; each task that has started
    has its own.
    """
    mine = [job for job in _jobs(answer(reply)) if job.get("user_name") in (None, "", user)]
    waiting = [status for job in mine for status in _unstarted(job)]
    own = [_status(job) for job in mine if _array_tasks(job) is None]
    return {status.job_id: status for status in [*waiting, *own]}


def read_records(reply: Reply) -> dict[str, JobStatus]:
    """Return the jobs in the accounting, by job id; no jobs if there is no accounting."""
    if reply.status == 404:
        return {}
    jobs = _jobs(answer(reply, forgiven=NO_RECORD))
    return {status.job_id: status for status in map(_record, jobs)}


def _jobs(told: Fields) -> list[Fields]:
    """Return the records in an answer; UnreachableError if it holds no list of jobs."""
    jobs = told.get("jobs")
    if not isinstance(jobs, list):
        raise unreachable("slurmrestd", "its answer holds no 'jobs'")
    return [_object(job) for job in jobs]


def _json(reply: Reply) -> object:
    """Return the content of a reply; None if it is not JSON."""
    try:
        return json.loads(reply.output)
    except ValueError:
        return None


def _object(value: object) -> Fields:
    """Return a JSON object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    """Return a value as text; an empty text for null and the like."""
    return str(value or "")


def _complaint(reply: Reply, told: object) -> str:
    """Return the errors in an answer as one line, else the error or status of the request."""
    errors = _object(told).get("errors")
    parts = [
        _text(_object(error).get(key))
        for error in (errors if isinstance(errors, list) else [])
        for key in ("error", "description")
    ]
    if said := "; ".join(dict.fromkeys(filter(None, parts))):
        return said
    text = " ".join(reply.output.split())[:200] if told is None else ""
    return reply.error or f"HTTP status {reply.status}: {text or 'no message'}"


def _integer(value: object) -> int | None:
    """Return a number; None if it is not set."""
    if isinstance(value, dict):
        value = value.get("number") if value.get("set", True) else None
    return value if isinstance(value, int) else None


def _state(job_id: str, codes: object) -> State:
    """Return the meaning of a state code or a list of codes.

    A flag beside a base state tells that the job has not ended. Raises UnreachableError for a code
    that is not known.
    """
    given = list(codes) if isinstance(codes, list) else [_text(codes)]
    try:
        states = [state_of(job_id, str(code)) for code in given]
    except UnreachableError:
        raise unknown_state(SLURM, job_id, codes) from None
    if not states:
        raise unknown_state(SLURM, job_id, codes)
    return next((state for state in states if not state.is_final), states[0])


def _array_tasks(job: Fields) -> str | None:
    """Return the tasks of an array that a record stands for, such as ``1,4,7-1000``."""
    if not _integer(job.get("array_job_id")) or _integer(job.get("array_task_id")) is not None:
        return None
    return _text(job.get("array_task_string")) or None


def _unstarted(job: Fields) -> Iterator[JobStatus]:
    """Yield the tasks of an array that a record stands for, one by one."""
    numbers = (_array_tasks(job) or "").partition("%")[0]  # after it: the number at a time
    last = 0
    for part in filter(None, numbers.split(",")):
        # "...": Slurm shows 64 characters and leaves out the rest
        shown = f"{last + 1}-{MOST_TASKS}" if part == "..." else part
        first, _, end = shown.partition("-")
        end, _, step = end.partition(":")
        for task in range(int(first), int(end or first) + 1, int(step or 1)):
            yield _status({**job, "array_task_id": task})
            last = task


def _job_id(job: Fields, array: object, task: object) -> str:
    """Return the job id of a record; a task's consists of the array's id and the task's number."""
    first, second = _integer(array), _integer(task)
    return f"{first}_{second}" if first and second is not None else str(job.get("job_id"))


def _status(job: Fields) -> JobStatus:
    """Return the status of a job in a record of ``/jobs``."""
    job_id = _job_id(job, job.get("array_job_id"), job.get("array_task_id"))
    state = _state(job_id, job.get("job_state"))
    reason, nodes = _text(job.get("state_reason")), _text(job.get("nodes"))
    status = status_of(job_id, _text(job.get("name")), state, reason, nodes)
    if state is State.PENDING:
        return replace(status, starts=_integer(job.get("start_time")) or None)
    return replace(status, **_end(job.get("exit_code"))) if state.is_final else status


def _end(value: object) -> dict[str, int | None]:
    """Return exit code and signal of a wait status, or of the object of later versions."""
    told = _object(value)
    if "return_code" in told:
        signal = _object(told.get("signal"))
        number = _integer(signal.get("id", signal.get("signal_id")))
        return {"signal": number} if number else {"exit_code": _integer(told["return_code"])}
    status = _integer(value)
    return {} if status is None else ending(status)


def _record(job: Fields) -> JobStatus:
    """Return the status of a job in the accounting.

    Exit codes are wrong there in 22.05, so only that of success is used.
    """
    array, told = _object(job.get("array")), _object(job.get("state"))
    job_id = _job_id(job, array.get("job_id"), array.get("task_id"))
    state = _state(job_id, told.get("current"))
    reason, nodes = _text(told.get("reason")), _text(job.get("nodes"))
    status = status_of(job_id, _text(job.get("name")), state, reason, nodes)
    return replace(status, exit_code=0 if state is State.COMPLETED else None)
