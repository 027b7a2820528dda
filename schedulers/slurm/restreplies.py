"""Reading of replies of slurmrestd, from v0.0.36 on.

A number may be a number or ``{"set": true, "number": N}``, a state one code or a list of codes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from zwrap.job import JobStatus, State
from zwrap.scheduler import Accepted, Rejected, Reply, Submission, Unknown

from ..reading import MOST_DIGITS, quoted, unreachable
from .complaints import ASKED, meaning
from .replies import ending, status_of

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

    A job id means that the job exists, whatever else the answer says: Slurm 23.02 answers with
    status 500 if a job has to wait for its partition or nodes.
    """
    told = _json(reply)
    if job_id := _integer(_object(told).get("job_id")):
        return Accepted(str(job_id))
    said = _complaint(reply, told)
    if reply.status == 400:
        return Rejected(quoted(said))
    if reply.status not in (500, 422) or not isinstance(told, dict):  # 422: of 26.05
        return Unknown(quoted(said))
    # slurmrestd passes on what the controller says, in its words and without sbatch's.
    means = Unknown if UNSPECIFIED in said else meaning(f"{ASKED}: {said}")
    return means(quoted(said))


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


def read_foreign(reply: Reply, user: str) -> set[str]:
    """Return the ids of jobs, and of arrays, of other users."""
    others = [job for job in _jobs(answer(reply)) if job.get("user_name") not in (None, "", user)]
    return {str(_integer(job.get(key))) for job in others for key in ("job_id", "array_job_id")}


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
    except (ValueError, RecursionError):
        return None


def _object(value: object) -> Fields:
    """Return a JSON object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    """Return a value as text; an empty text for null and the like."""
    return str(value or "")


def _complaint(reply: Reply, told: object) -> str:
    """Return the errors in an answer as one line, else the error or status of the request.

    What each submission that fails is described with by later versions, as 24.11, says no more.
    """
    errors = _object(told).get("errors")
    parts = [
        _text(_object(error).get(key))
        for error in (errors if isinstance(errors, list) else [])
        for key in ("error", "description")
    ]
    if said := "; ".join(dict.fromkeys(part for part in parts if part not in ("", ASKED))):
        return said
    text = " ".join(reply.output.split())[:200] if told is None else ""
    return reply.error or f"HTTP status {reply.status}: {text or 'no message'}"


def _integer(value: object) -> int | None:
    """Return a number; None if it is not set, or has more than `MOST_DIGITS` digits."""
    if isinstance(value, dict):
        value = value.get("number") if value.get("set", True) else None
    return value if isinstance(value, int) and abs(value) < 10**MOST_DIGITS else None


def _codes(value: object) -> list[str]:
    """Return a state code, or a base state and its flags, as a list."""
    return [_text(code) for code in value] if isinstance(value, list) else [_text(value)]


def _array_tasks(job: Fields) -> str | None:
    """Return the tasks of an array that a record stands for, such as ``1,4,7-1000``."""
    if not _integer(job.get("array_job_id")) or _integer(job.get("array_task_id")) is not None:
        return None
    return _text(job.get("array_task_string")) or None


def _unstarted(job: Fields) -> Iterator[JobStatus]:
    """Yield the tasks of an array that a record stands for, one by one.

    Tasks above `MOST_TASKS` are of no array of zwrap. Raises UnreachableError if what the record
    holds is no list of tasks.
    """
    numbers = (_array_tasks(job) or "").partition("%")[0]  # after it: the number at a time
    last = 0
    for part in filter(None, numbers.split(",")):
        # "...": Slurm shows 64 characters and leaves out the rest
        shown = f"{last + 1}-{MOST_TASKS}" if part == "..." else part
        match = re.fullmatch(r"(\d{1,10})(?:-(\d{1,10})(?::0*([1-9]\d{0,9}))?)?", shown)
        if match is None:
            raise unreachable("slurmrestd", f"{shown[:80]!r} is no list of tasks")
        first, end, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        for task in range(first, min(end, MOST_TASKS) + 1, step):
            yield _status({**job, "array_task_id": task})
            last = task


def _job_id(job: Fields, array: object, task: object) -> str:
    """Return the job id of a record; a task's consists of the array's id and the task's number."""
    first, second = _integer(array), _integer(task)
    return f"{first}_{second}" if first and second is not None else str(job.get("job_id"))


def _status(job: Fields) -> JobStatus:
    """Return the status of a job in a record of ``/jobs``."""
    job_id = _job_id(job, job.get("array_job_id"), job.get("array_task_id"))
    reason, nodes = _text(job.get("state_reason")), _text(job.get("nodes"))
    name, codes = _text(job.get("name")), _codes(job.get("job_state"))
    status = status_of(job_id, name, codes, reason, nodes)
    if status.state is State.PENDING:
        return replace(status, starts=_integer(job.get("start_time")) or None)
    return replace(status, **_end(job.get("exit_code"))) if status.state.is_final else status


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
    reason, nodes = _text(told.get("reason")), _text(job.get("nodes"))
    name, codes = _text(job.get("name")), _codes(told.get("current"))
    status = status_of(job_id, name, codes, reason, nodes)
    return replace(status, exit_code=0 if status.state is State.COMPLETED else None)
