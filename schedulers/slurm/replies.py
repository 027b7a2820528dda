"""Reading of replies of Slurm's command line: squeue(1), sacct(1), sbatch(1), scontrol(1)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from msgspec.structs import replace

from zwrap.errors import RejectedError, UnreachableError
from zwrap.job import JobStatus, Limits, State
from zwrap.scheduler import Accepted, Busy, Rejected, Reply, Submission, Unknown

from ..reading import complaint, output_of, quoted, unknown_state, unreachable
from .tables import COMPLAINTS, REFUSED_REASON, STATES, STUCK_REASONS

SLURM = "Slurm"
"""Name of the batch system in sentences."""

NOISE = r"\w+: (error: )?"
"""Regular expression for the beginning of lines on standard error: the program's name."""

FIELDS = ("JobArrayID", "State", "exit_code", "Reason", "NodeList", "StartTime", "Name")
SQUEUE = ",".join(f"{field}:|" for field in FIELDS)
SACCT = "JobID,State,ExitCode,Reason,NodeList,JobName"


def meaning(said: str) -> type[Busy | Unknown | Rejected]:
    """Return the meaning of a complaint about a submission."""
    known = (means for text, means in COMPLAINTS.items() if text in said)
    return next(known, Rejected)


def read_submission(reply: Reply) -> Submission:
    """Return the answer of sbatch to a submission."""
    text = reply.output.strip().partition(";")[0]
    if reply.status == 0 and text.isdecimal():
        return Accepted(text)
    said = complaint(reply, NOISE)
    if reply.status is None or reply.status <= 0:
        return Unknown(quoted(said))
    return meaning(said)(quoted(said))


def read_verdict(reply: Reply) -> str:
    """Return what `sbatch --test-only` said; RejectedError if it would refuse the job."""
    said = complaint(reply, NOISE)
    if reply.status == 0:
        return quoted(said)
    if reply.status is None or meaning(said) is Unknown:
        raise unreachable(SLURM, said)
    raise RejectedError(f"Slurm would refuse the job: {quoted(said)}")


def read_squeue(reply: Reply) -> dict[str, JobStatus]:
    """Return the jobs in the memory of the controller, by job id."""
    if "Invalid job name" in reply.error:
        return {}
    found = {}
    for row in _rows(reply, "squeue", len(FIELDS) + 1):
        job_id, state_code, code, reason, nodes, start, name = map(str.strip, row[:-1])
        status = status_of(job_id, name, state_of(job_id, state_code), reason, nodes)
        if status.state is State.PENDING:
            status = replace(status, starts=_seconds(start))
        if status.state.is_final and code.isdecimal():
            status = replace(status, **ending(int(code)))
        found[job_id] = status
    return found


def read_sacct(reply: Reply) -> dict[str, JobStatus]:
    """Return the jobs in the accounting, by job id."""
    if "accounting storage is disabled" in reply.error:
        return {}
    found = {}
    for job_id, shown, code, reason, nodes, name in _rows(reply, "sacct", 6):
        state = state_of(job_id, shown.partition(" ")[0])
        # Only success is a trustworthy exit code: 22.05 records codes above 127 without their
        # highest bit.
        signal = code.partition(":")[2]
        status = status_of(job_id, name, state, reason, nodes)
        if state is State.COMPLETED:
            status = replace(status, exit_code=0)
        elif state.is_final and signal.isdecimal():
            status = replace(status, signal=int(signal) or None)
        found[job_id] = status
    return found


def _rows(reply: Reply, program: str, width: int) -> list[list[str]]:
    """Return the fields of each line; UnreachableError for a line without `width` fields."""
    rows = [line.split("|") for line in output_of(reply, SLURM, NOISE).splitlines()]
    for row in rows:
        if len(row) != width:
            line = "|".join(row)[:80]
            raise UnreachableError(f"Slurm answered {line!r}, which is not a line of {program}.")
    return rows


def state_of(job_id: str, code: str) -> State:
    """Return the meaning of a state code; UnreachableError for an unknown code."""
    if code not in STATES:
        raise unknown_state(SLURM, job_id, code)
    return STATES[code]


def status_of(job_id: str, name: str, state: State, reason: str, nodes: str) -> JobStatus:
    """Return a status made of Slurm's texts, in which ``None`` stands for no reason."""
    return JobStatus(
        job_id=job_id,
        name=name,
        state=state,
        reason=reason if reason not in ("", "None") else None,
        node=nodes or None,
        stuck=state is State.PENDING and reason in STUCK_REASONS,
    )


def ending(wait_status: int) -> dict[str, int | None]:
    """Return exit code and signal of a wait status (wait(2))."""
    signal = wait_status & 0x7F
    return {"exit_code": None, "signal": signal} if signal else {"exit_code": wait_status >> 8}


def _seconds(text: str) -> float | None:
    """Return a time of squeue, which runs in UTC, in seconds since the epoch; None: not a time."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def taken(found: Mapping[str, JobStatus]) -> list[JobStatus]:
    """Return the jobs that were accepted: Slurm keeps a failed record of some refused jobs."""
    return [
        job
        for job in found.values()
        if not (job.state is State.FAILED and job.reason == REFUSED_REASON)
    ]


def live(found: Mapping[str, JobStatus]) -> dict[str, JobStatus]:
    """Return the jobs that have not ended."""
    return {key: job for key, job in found.items() if not job.state.is_final}


def ended(found: Mapping[str, JobStatus], wanted: Collection[str]) -> dict[str, JobStatus]:
    """Return the wanted jobs that will never run again."""
    return {key: job for key, job in found.items() if key in wanted and job.state.is_final}


def read_nothing(reply: Reply) -> None:
    """Raise UnreachableError unless the command succeeded."""
    output_of(reply, SLURM, NOISE)


def read_limits(reply: Reply) -> Limits:
    """Return the limits of slurm.conf(5), as scontrol shows it."""
    shown = output_of(reply, SLURM, NOISE)
    if not shown.strip():
        raise unreachable(SLURM, "no configuration was shown")
    told = dict(re.findall(r"^(\w+)\s*= (.*)$", shown, re.MULTILINE))
    array, jobs = told.get("MaxArraySize", ""), told.get("MaxJobCount", "")
    return Limits(
        array_size=max(int(array) - 1, 0) if array.isdecimal() else None,  # numbers begin at 1
        submitted_jobs=int(jobs) if jobs.isdecimal() else None,
    )
