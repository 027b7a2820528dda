"""What Grid Engine says: the XML of qstat(1) and the records of qacct(1), see accounting(5)."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import NamedTuple

from msgspec.structs import replace

from zwrap.errors import UnreachableError
from zwrap.job import JobStatus, State
from zwrap.scheduler import Reply
from zwrap.units import bytes_of

LETTERS = {
    "q": State.PENDING,
    "w": State.PENDING,
    "h": State.PENDING,  # held
    "R": State.PENDING,  # restarted
    "E": State.PENDING,  # error: waits for a person
    "t": State.RUNNING,  # on its way to a host
    "r": State.RUNNING,
    "d": State.RUNNING,  # being deleted; it may live for the time of -notify and longer
    "s": State.SUSPENDED,  # by a person
    "S": State.SUSPENDED,  # with its queue
    "T": State.SUSPENDED,  # by a threshold
    "N": State.SUSPENDED,  # by a subordination of queues
    "P": State.SUSPENDED,  # pre-empted
}
"""Letters of the column `state` of qstat(1), which stand together."""

ENDED = "z"

RESCHEDULED = (24, 25, 30)
"""Values of `failed` after which a job runs again: migrating, rescheduling, application error."""

NODE = (19, 21, 36)
"""Values of `failed` that lay the blame on the host: it has lost who watched over the job, or the
job itself, as after a crash; daemons not configured."""

LIMIT = 37
"""The qmaster, or the execution daemon, enforced h_rt, h_cpu or h_vmem."""

AFTER_JOB = 100
"""The job ran and ended by a signal."""

USR2 = 12


class ListedJob(NamedTuple):
    """A job that the qmaster knows."""

    status: JobStatus
    ended: bool


class Record(NamedTuple):
    """A line of the accounting."""

    status: JobStatus
    rescheduled: bool
    """It ran, and will run again."""


def read_jobs(reply: Reply) -> dict[str, JobStatus]:
    """Live jobs, by job id."""
    return {job.status.job_id: job.status for job in read_qstat(reply) if not job.ended}


def read_qstat(reply: Reply) -> list[ListedJob]:
    """All jobs in the answer; UnreachableError if it is none."""
    if reply.status != 0:
        said = " ".join(reply.error.split()) or f"exit status {reply.status} and no word"
        raise UnreachableError(f"Grid Engine could not be asked: {said}.")
    try:
        return list(_jobs(reply.output))
    except ET.ParseError as error:
        raise UnreachableError(f"Grid Engine answered what is no XML: {error}.") from None


def _jobs(text: str) -> Iterator[ListedJob]:
    """One after the other: the tree of 10 000 jobs would take 50 MB."""
    source = io.BytesIO(_clean(text).encode())
    events = ET.iterparse(source, events=("start", "end"))  # noqa: S314  (the site's own qmaster)
    _, root = next(events)
    if root.tag != "job_info":
        raise UnreachableError(f"Grid Engine answered {root.tag!r} instead of 'job_info'.")
    for event, element in events:
        if event == "end" and element.tag == "job_list":
            yield _job(element)
            element.clear()


def _clean(text: str) -> str:
    """XML without the control characters that names may bring in."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "?", text)


def _job(element: ET.Element) -> ListedJob:
    told = {child.tag: (child.text or "").strip() for child in element}
    number, task = told["JB_job_number"], told.get("tasks")
    job_id = f"{number}.{task}" if task else number
    letters = told["state"]
    queue = told.get("queue_name", "")
    ended = ENDED in letters
    return ListedJob(
        JobStatus(
            job_id=job_id,
            name=told["JB_name"],
            state=State.CANCELLED if ended else _state(letters, job_id),
            node=queue.partition("@")[2] or None,
            reason=_reason(letters, job_id, ended),
            stuck="E" in letters and not ended,
        ),
        ended,
    )


def _state(letters: str, job_id: str) -> State:
    """The state that the letters mean together."""
    for letter in letters:
        if letter not in LETTERS:
            raise UnreachableError(
                f"Grid Engine says that job {job_id} is {letters!r}, of which {letter!r} is not "
                "known here."
            )
    states = {LETTERS[letter] for letter in letters}
    if "q" in letters or "E" in letters:  # being deleted or restarted, it still only waits
        return State.PENDING
    return next(
        state for state in (State.SUSPENDED, State.RUNNING, State.PENDING) if state in states
    )


def _reason(letters: str, job_id: str, ended: bool) -> str | None:
    if ended:
        return "it was deleted before it started"
    if "E" in letters:
        return f"error state {letters}: `qstat -j {job_id.partition('.')[0]}` says why"
    return "held" if "h" in letters else None


def read_silent(reply: Reply) -> set[str]:
    """Hosts whose queues are listed; UnreachableError if that is no answer."""
    if reply.status != 0:
        said = " ".join(reply.error.split()) or f"exit status {reply.status} and no word"
        raise UnreachableError(f"Grid Engine could not be asked: {said}.")
    names = re.findall(r"<name>[^<@]*@([^<]+)</name>", reply.output)
    return {name.strip() for name in names}


def on_silent_hosts(jobs: dict[str, JobStatus], hosts: set[str]) -> dict[str, JobStatus]:
    """Jobs, those that run on one of the hosts as hopeless: nobody may ever hear of them again."""
    return {
        job_id: replace(status, reason=f"host {status.node} does not answer", stuck=True)
        if status.state is State.RUNNING and status.node in hosts
        else status
        for job_id, status in jobs.items()
    }


def with_reasons(jobs: dict[str, JobStatus], reply: Reply) -> dict[str, JobStatus]:
    """Jobs in an error state with what `qstat -j` says of it, if it does."""
    reasons: dict[str, str] = {}
    for block in re.split(r"^=+$", reply.output, flags=re.MULTILINE):
        number = re.search(r"^job_number: +(\d+)$", block, re.MULTILINE)
        told = re.findall(r"^error reason +(\d+): +(.*)$", block, re.MULTILINE)
        for task, text in told if number else []:
            said = re.sub(r"^\d\d/\d\d/\d{4} [\d:]+ \[\d+:\d+\]: ", "", text.strip())
            reasons[f"{number[1]}.{task}"] = reasons[number[1]] = said  # type: ignore[index]
    return {
        job_id: replace(status, reason=f"error state: {reasons[job_id]}")
        if status.stuck and job_id in reasons
        else status
        for job_id, status in jobs.items()
    }


def read_qacct(reply: Reply) -> list[Record]:
    """The last record of each job or task, oldest first; UnreachableError if that is no answer."""
    if reply.status == 1 and "not found" in reply.error:
        return []
    if reply.status != 0:
        said = " ".join(reply.error.split()) or f"exit status {reply.status} and no word"
        raise UnreachableError(f"The accounting of Grid Engine could not be asked: {said}.")
    records: dict[str, Record] = {}
    for block in re.split(r"^=+$", reply.output, flags=re.MULTILINE):
        told = dict(re.findall(r"^(\w+) +(.*?) *$", block, re.MULTILINE))
        if "jobnumber" in told:
            record = _record(told)
            records.pop(record.status.job_id, None)
            records[record.status.job_id] = record
    if not records and reply.output.strip():
        raise UnreachableError("The accounting of Grid Engine answered what are no records.")
    return list(records.values())


def _record(told: dict[str, str]) -> Record:
    number, task = told["jobnumber"], told.get("taskid", "undefined")
    job_id = number if task in ("undefined", "0") else f"{number}.{task}"
    failed, _, words = told["failed"].partition(":")
    exit_status = int(told["exit_status"].split()[0])
    state, code, signal = _end(int(failed), exit_status)
    if int(failed) in (LIMIT, AFTER_JOB) and _used_more_than_asked(told):
        state = State.OUT_OF_MEMORY
    reason = f"failed {failed.strip()}: {words.strip()}" if int(failed) else None
    status = JobStatus(
        job_id=job_id,
        name=told["jobname"],
        state=state,
        exit_code=code,
        signal=signal,
        node=told.get("hostname"),
        reason=reason,
    )
    return Record(status, int(failed) in RESCHEDULED)


def _used_more_than_asked(told: dict[str, str]) -> bool:
    """Whether the processes of a job together had more address space than it asked for.

    One limit is as good a reason as the other to the records; this is how they can be told apart.
    """
    asked = re.search(r"\b[hs]_vmem=([^,\s]+)", told.get("category", ""))
    if asked is None:
        return False
    slots = int(told.get("slots", "1"))
    return (bytes_of(told.get("maxvmem", "")) or 0) > slots * (bytes_of(asked[1]) or 0)


def _end(failed: int, exit_status: int) -> tuple[State, int | None, int | None]:
    """State, exit code and signal of a job."""
    if failed == 0:
        return (State.FAILED if exit_status else State.COMPLETED), exit_status, None
    signal = exit_status - 128 if exit_status > 128 else None
    if failed == LIMIT:
        return State.TIMEOUT, None, signal
    if failed == AFTER_JOB:
        # Jobs of zwrap ask for a warning before they are killed (-notify): USR2 announces a
        # deletion. Without, a deletion cannot be told from any other SIGKILL.
        return (State.CANCELLED if signal == USR2 else State.FAILED), None, signal
    return (State.NODE_FAIL if failed in NODE else State.FAILED), None, signal
