"""What slurmrestd answers, from v0.0.36 on: a number may be a number or ``{set, number}``, a state
one word or several."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from zwrap.errors import UnreachableError
from zwrap.job import JobStatus, State
from zwrap.scheduler import Accepted, Busy, Rejected, Reply, Submission, Unknown

from .replies import BUSY, MAYBE, STATES, is_stuck

MOST_TASKS = 1000
"""No array of ours has more."""

UNSPECIFIED = "Unspecified error"
"""What slurmrestd says when it could not reach the controller, or its token is not taken."""


def read_submission(reply: Reply) -> Submission:
    """A job id means that the job is there, whatever else is said (a held job has 'errors')."""
    told = _json(reply)
    job_id = _integer(told.get("job_id")) if isinstance(told, dict) else None
    if reply.status == 200 and job_id:
        return Accepted(str(job_id))
    complaint = _complaint(reply, told)
    if reply.status == 400:
        return Rejected(complaint)
    if reply.status != 500 or not isinstance(told, dict):
        return Unknown(complaint)
    if any(words in complaint for words in BUSY):
        return Busy(complaint)
    if any(words in complaint for words in (*MAYBE, UNSPECIFIED)):
        return Unknown(complaint)
    return Rejected(complaint)


def answer(reply: Reply, forgiven: tuple[str, ...] = ()) -> Any:
    """The JSON of a good answer; UnreachableError if it is none."""
    told = _json(reply)
    if isinstance(told, dict) and reply.status == 200 and not told.get("errors"):
        return told
    complaint = _complaint(reply, told)
    if any(words in complaint for words in forgiven):
        return {}
    raise UnreachableError(f"slurmrestd could not be asked: {complaint}.")


def read_jobs(reply: Reply, user: str) -> dict[str, JobStatus]:
    """Jobs of the user that the controller remembers, by job id."""
    told = answer(reply)
    if "jobs" not in told:
        raise UnreachableError("slurmrestd could not be asked: its answer holds no 'jobs'.")
    mine = [job for job in told["jobs"] if job.get("user_name") in (None, "", user)]
    # What an array has yet to start is one record. A task that was started has its own, too.
    waiting = [status for job in mine for status in _unstarted(job)]
    own = [_status(job) for job in mine if _array_tasks(job) is None]
    return {status.job_id: status for status in [*waiting, *own]}


def read_records(reply: Reply) -> dict[str, JobStatus]:
    """Jobs in the accounting; none where there is no accounting."""
    if reply.status == 404:
        return {}
    told = answer(reply, forgiven=("Nothing found", "No results", "Invalid job id"))
    return {status.job_id: status for status in map(_record, told.get("jobs", []))}


def _json(reply: Reply) -> Any:
    try:
        return json.loads(reply.output)
    except ValueError:
        return None


def _complaint(reply: Reply, told: Any) -> str:
    """What was said, in one line."""
    said = []
    for error in (told.get("errors") or []) if isinstance(told, dict) else []:
        words = [error.get("error"), error.get("description")] if isinstance(error, dict) else []
        said += [str(each) for each in words if each]
    if said:
        return "; ".join(dict.fromkeys(said))
    text = " ".join(reply.output.split())[:200] if told is None else ""
    return reply.error or f"HTTP status {reply.status}: {text or 'no word'}"


def _integer(value: Any) -> int | None:
    """A number, or ``{"set": true, "number": N}``."""
    if isinstance(value, dict):
        value = value.get("number") if value.get("set", True) else None
    return value if isinstance(value, int) else None


def _state(job_id: str, words: Any) -> State:
    """The state that a word means, or the strongest of several: a flag goes before a base state."""
    given = [words] if isinstance(words, str) else list(words or [])
    states = [STATES.get(str(word)) for word in given]
    if not states or None in states:
        raise UnreachableError(
            f"Slurm says that job {job_id} is {words!r}, which is not known here."
        )
    known = [state for state in states if state is not None]
    return next((state for state in known if not state.is_final), known[0])


def _array_tasks(job: dict[str, Any]) -> str | None:
    """Numbers of the tasks of an array that this record stands for, such as ``1,4,7-1000``."""
    if not _integer(job.get("array_job_id")) or _integer(job.get("array_task_id")) is not None:
        return None
    return str(job.get("array_task_string") or "") or None


def _unstarted(job: dict[str, Any]) -> Iterator[JobStatus]:
    numbers = (_array_tasks(job) or "").partition("%")[0]  # what follows: so many at a time
    last = 0
    for part in filter(None, numbers.split(",")):
        # "...": Slurm leaves out what does not fit into 64 characters
        shown = f"{last + 1}-{MOST_TASKS}" if part == "..." else part
        first, _, end = shown.partition("-")
        end, _, step = end.partition(":")
        for task in range(int(first), int(end or first) + 1, int(step or 1)):
            yield _status({**job, "array_task_id": task})
            last = task


def _status(job: dict[str, Any]) -> JobStatus:
    """A job of ``/jobs``."""
    array, task = _integer(job.get("array_job_id")), _integer(job.get("array_task_id"))
    job_id = f"{array}_{task}" if array and task is not None else str(job["job_id"])
    state = _state(job_id, job.get("job_state"))
    code, signal = _end(job.get("exit_code")) if state.is_final else (None, None)
    reason = job.get("state_reason")
    return JobStatus(
        job_id=job_id,
        name=str(job.get("name")),
        state=state,
        exit_code=code,
        signal=signal,
        reason=reason if reason not in ("", "None") else None,
        node=job.get("nodes") or None,
        stuck=is_stuck(state, reason),
        starts=_integer(job.get("start_time")) or None if state is State.PENDING else None,
    )


def _end(value: Any) -> tuple[int | None, int | None]:
    """Exit code and signal, of a wait status (wait(2)) or of what later versions make of it."""
    if isinstance(value, dict) and "return_code" in value:
        signal = value.get("signal") or {}
        number = _integer(signal.get("id", signal.get("signal_id")))
        return (None, number) if number else (_integer(value["return_code"]), None)
    status = _integer(value)
    if status is None:
        return None, None
    return (None, status & 0x7F) if status & 0x7F else (status >> 8, None)


def _record(job: dict[str, Any]) -> JobStatus:
    """A job of the accounting. Its exit codes are wrong in 22.05, so only success counts."""
    array = job.get("array") or {}
    number, task = _integer(array.get("job_id")), _integer(array.get("task_id"))
    job_id = f"{number}_{task}" if number and task is not None else str(job["job_id"])
    told = job.get("state") or {}
    state = _state(job_id, told.get("current"))
    reason = told.get("reason")
    return JobStatus(
        job_id=job_id,
        name=str(job.get("name")),
        state=state,
        exit_code=0 if state is State.COMPLETED else None,
        reason=reason if reason not in ("", "None") else None,
        node=job.get("nodes") or None,
    )
