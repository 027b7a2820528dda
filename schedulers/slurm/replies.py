"""Reading of replies of Slurm's command line: squeue(1), sacct(1), sbatch(1), scontrol(1)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from msgspec.structs import replace

from zwrap.errors import RejectedError, UnreachableError
from zwrap.job import JobStatus, Limits, State
from zwrap.scheduler import Accepted, Reply, Submission, Unknown

from ..reading import complaint, output_of, quoted, unknown_status, unreachable, whole
from .complaints import meaning
from .tables import REFUSED_REASON, STATES, STUCK

SLURM = "Slurm"
"""Name of the batch system in sentences."""

NOISE = r"\w+: (error: )?"
"""Regular expression for the beginning of lines on standard error: the program's name."""

OWN = (1, 255)
"""Exit statuses with which sbatch refuses a job. Others are those of the program around it, such as
a shell that does not find it (127), or of one that was killed."""

GONE = "Invalid job id specified"
"""Text about a job that has ended, or is not known, in the complaints of scancel."""

FIELDS = ("JobArrayID", "State", "exit_code", "Reason", "NodeList", "StartTime", "Name")
SQUEUE = ",".join(f"{field}:|" for field in FIELDS)
SACCT = "JobID,State,ExitCode,Reason,NodeList,JobName"


def read_submission(reply: Reply) -> Submission:
    """Return the answer of sbatch to a submission.

    Its last line is the job id, with the name of the cluster in a federation. Programs that a site
    has put in the place of sbatch may write other lines before.
    """
    answered = re.search(r"^(\d{1,18})(?:;\S+)?\s*\Z", reply.output, re.MULTILINE)
    if reply.status == 0 and answered:
        return Accepted(answered[1])
    said = complaint(reply, NOISE)
    if reply.status not in OWN:
        if reply.error.strip() and reply.output.strip():
            said = f"{said}; it wrote: {'; '.join(filter(None, reply.output.splitlines()))}"
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
    for row in _rows(reply, "squeue", len(FIELDS), end="|"):
        job_id, state_code, code, reason, nodes, start, name = map(str.strip, row)
        status = status_of(job_id, name, state_code, reason, nodes)
        if status.state is State.PENDING:
            status = replace(status, starts=_seconds(start))
        if status.state.is_final:
            status = replace(status, **_end(code))
        found[job_id] = status
    return found


def read_sacct(reply: Reply) -> dict[str, JobStatus]:
    """Return the jobs in the accounting, by job id."""
    if "accounting storage is disabled" in reply.error:
        return {}
    found = {}
    for job_id, shown, code, reason, nodes, name in _rows(reply, "sacct", 6):
        status = status_of(job_id, name, shown.partition(" ")[0], reason, nodes)
        # Only success is a trustworthy exit code: 22.05 records codes above 127 without their
        # highest bit.
        signal = code.partition(":")[2]
        if status.state is State.COMPLETED:
            status = replace(status, exit_code=0)
        elif status.state.is_final:
            status = replace(status, signal=whole(signal) or None)
        found[job_id] = status
    return found


def _rows(reply: Reply, program: str, width: int, end: str = "") -> list[list[str]]:
    """Return the fields of each line; UnreachableError for a line without `width` fields.

    `end`: text at the end of each line; with it the last field may hold what separates fields.
    """
    rows = []
    for line in output_of(reply, SLURM, NOISE).splitlines():
        row = line.removesuffix(end).split("|", width - 1 if end else -1)
        if len(row) != width or not line.endswith(end):
            raise UnreachableError(
                f"Slurm answered {line[:80]!r}, which is not a line of {program}."
            )
        rows.append(row)
    return rows


def status_of(job_id: str, name: str, codes: str | list[str], reason: str, nodes: str) -> JobStatus:
    """Return a status made of Slurm's texts, in which ``None`` stands for no reason.

    `codes`: a state code, or a base state and its flags. A flag that tells that the job has not
    ended counts more than a final state; one that is not known says nothing beside a known state.
    """
    given = [codes] if isinstance(codes, str) else codes
    states = [STATES[code] for code in given if code in STATES]
    state = next((each for each in states if not each.is_final), states[0] if states else None)
    if state is None:
        return unknown_status(job_id, name, " ".join(given))
    return JobStatus(
        job_id=job_id,
        name=name,
        state=state,
        reason=reason if reason not in ("", "None") else None,
        node=nodes if nodes not in ("", "None assigned") else None,
        stuck=state is State.PENDING and STUCK.fullmatch(reason) is not None,
    )


def ending(wait_status: int) -> dict[str, int | None]:
    """Return exit code and signal of a wait status (wait(2))."""
    signal = wait_status & 0x7F
    return {"exit_code": None, "signal": signal} if signal else {"exit_code": wait_status >> 8}


def _end(code: str) -> dict[str, int | None]:
    """Return exit code and signal of a wait status, or of ``CODE:SIGNAL`` as in 24.11."""
    numbers = [whole(part) for part in code.split(":")]
    match numbers:
        case [int(wait_status)]:
            return ending(wait_status)
        case [int(exit_code), int(signal)]:
            return {"exit_code": None, "signal": signal} if signal else {"exit_code": exit_code}
    return {}


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


def read_cancelled(reply: Reply) -> None:
    """Raise UnreachableError unless scancel succeeded, or found some of the jobs gone."""
    wrong = [line for line in reply.error.splitlines() if line.strip() and GONE not in line]
    if reply.status != 1 or wrong or GONE not in reply.error:
        output_of(reply, SLURM, NOISE)


def read_limits(reply: Reply) -> Limits:
    """Return the limits of slurm.conf(5), as scontrol shows it."""
    shown = output_of(reply, SLURM, NOISE)
    if not shown.strip():
        raise unreachable(SLURM, "no configuration was shown")
    told = dict(re.findall(r"^(\w+)\s*= (.*)$", shown, re.MULTILINE))
    array = whole(told.get("MaxArraySize", ""))
    return Limits(
        array_size=None if array is None else max(array - 1, 0),  # numbers begin at 1
        submitted_jobs=whole(told.get("MaxJobCount", "")),
    )
