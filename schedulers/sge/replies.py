"""Reading of replies of Grid Engine: XML of qstat(1), records of qacct(1) as in accounting(5)."""

from __future__ import annotations

import io
import re
import signal
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from zwrap.errors import UnreachableError
from zwrap.job import JobStatus, State
from zwrap.scheduler import Accepted, Reply, Submission, Unknown
from zwrap.units import bytes_of

from ..reading import (
    Means,
    complaint,
    first_meaning,
    output_of,
    quoted,
    unknown_status,
    unreachable,
    whole,
)
from .tables import (
    AFTER_JOB,
    DENIALS,
    DENIED_BY_DRM,
    ENDED,
    ERROR,
    FAILED,
    LETTERS,
    LIBRARY_HINT,
    LIMIT,
    NO_LIBRARY,
    RESCHEDULED,
    SUBMISSIONS,
)

GRID_ENGINE = "Grid Engine"
"""Name of the batch system in sentences."""


NOISE = r"Unable to run job: |Exiting\.$"
"""Regular expression for parts of qsub's lines that carry no information."""

ENDING = re.compile(r"has (registered the job|deleted job)|does not exist|is already in deletion")
"""Lines of qdel about a job that will end, or has ended."""


class ListedJob(NamedTuple):
    """A job that the qmaster knows."""

    status: JobStatus
    ended: bool
    """True if the job has ended, and the qmaster only remembers it."""


class Record(NamedTuple):
    """A record of the accounting."""

    status: JobStatus
    rescheduled: bool
    """True if the job ran and will run again."""


def read_qstat(reply: Reply) -> list[ListedJob]:
    """Return all jobs in the answer; UnreachableError if it is not one."""
    text = output_of(reply, GRID_ENGINE)
    try:
        return list(_jobs(text))
    except (ET.ParseError, ValueError, LookupError) as error:  # or of an encoding that is unknown
        raise UnreachableError(f"Grid Engine answered with invalid XML: {error}.") from None


def _jobs(text: str) -> Iterator[ListedJob]:
    """Yield the jobs one by one: the tree of 10 000 jobs would take 50 MB."""
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
    """Return XML without the control characters that names may bring in."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "?", text)


def _job(element: ET.Element) -> ListedJob:
    """Return the job in an element ``job_list``."""
    told = {child.tag: (child.text or "").strip() for child in element}
    number, task = _field(told, "JB_job_number"), told.get("tasks")
    job_id = f"{number}.{task}" if task else number
    letters = _field(told, "state")
    queue = told.get("queue_name", "")
    ended = ENDED in letters
    name, state = _field(told, "JB_name"), State.CANCELLED if ended else _state(letters)
    if state is State.UNKNOWN:
        return ListedJob(unknown_status(job_id, name, letters), ended)
    return ListedJob(
        JobStatus(
            job_id=job_id,
            name=name,
            state=state,
            node=queue.partition("@")[2] or None,
            reason=_reason(letters, job_id, ended),
            stuck=ERROR in letters and not ended,
        ),
        ended,
    )


def _field(told: Mapping[str, str], key: str) -> str:
    """Return a field of a job; UnreachableError if it is missing or empty."""
    if not told.get(key):
        raise UnreachableError(f"{GRID_ENGINE} answered with a job without {key!r}.")
    return told[key]


def _number(told: Mapping[str, str], key: str, end: str) -> int:
    """Return the number before `end` in a field of a record; UnreachableError if it holds none."""
    text = _field(told, key).partition(end)[0].strip()
    found = whole(text.removeprefix("-"))
    if found is None:
        raise UnreachableError(
            f"The accounting of Grid Engine says that {key!r} is {text[:80]!r}, which is no number."
        )
    return -found if text.startswith("-") else found


def _state(letters: str) -> State:
    """Return the state that all letters of a job mean together.

    A letter that is not known says nothing beside one that is.
    """
    if "q" in letters or ERROR in letters:  # being deleted or restarted, it still only waits
        return State.PENDING
    states = {LETTERS[letter] for letter in letters if letter in LETTERS}
    order = (State.SUSPENDED, State.RUNNING, State.PENDING)
    return next((each for each in order if each in states), State.UNKNOWN)


def _reason(letters: str, job_id: str, ended: bool) -> str | None:
    """Return why a job waits, or what an end without a record means."""
    if ended:
        return "it was deleted before it started"
    if ERROR in letters:
        return f"error state {letters}: `qstat -j {job_id.partition('.')[0]}` says why"
    return f"held: `qrls {job_id}` lets it go" if "h" in letters else None


def read_silent(reply: Reply) -> set[str]:
    """Return the hosts whose queues are listed; UnreachableError if the reply is not an answer."""
    names = re.findall(r"<name>[^<@]*@([^<]+)</name>", output_of(reply, GRID_ENGINE))
    return {name.strip() for name in names}


def on_silent_hosts(jobs: dict[str, JobStatus], hosts: set[str]) -> dict[str, JobStatus]:
    """Return the jobs; those that run on one of the silent hosts are marked as stuck."""
    return {
        job_id: replace(status, reason=f"host {status.node} does not answer", stuck=True)
        if status.state is State.RUNNING and status.node in hosts
        else status
        for job_id, status in jobs.items()
    }


def with_reasons(jobs: dict[str, JobStatus], reply: Reply) -> dict[str, JobStatus]:
    """Return the jobs, those in an error state with the reason that `qstat -j` gives, if any."""
    reasons: dict[str, str] = {}
    for block in _blocks(reply.output):
        number = re.search(r"^job_number: +(\d+)$", block, re.MULTILINE)
        for task, text in re.findall(r"^error reason +(\d+): +(.*)$", block, re.MULTILINE):
            said = re.sub(r"^\d\d/\d\d/\d{4} [\d:]+ \[\d+:\d+\]: ", "", text.strip())
            if number:
                reasons[f"{number[1]}.{task}"] = reasons[number[1]] = said
    return {
        job_id: replace(status, reason=f"error state: {reasons[job_id]}")
        if status.stuck and job_id in reasons
        else status
        for job_id, status in jobs.items()
    }


def _blocks(text: str) -> list[str]:
    """Return the parts of a text that lines of equals signs separate."""
    return re.split(r"^=+$", text, flags=re.MULTILINE)


def read_qacct(reply: Reply, *, lenient: bool = False) -> list[Record]:
    """Return the last record of each job or task, oldest first.

    With `lenient` a damaged record counts as none, so that the other jobs have theirs. An answer
    about many jobs ends with a table of sums, which is all that an empty file has. Raises
    UnreachableError if the reply is not an answer, for instance without an accounting file.
    """
    if reply.status == 1 and "not found" in reply.error:
        return []
    text = output_of(reply, "The accounting of Grid Engine")
    records: dict[str, Record] = {}
    for block in _blocks(text):
        told = dict(re.findall(r"^(\w+) +(.*?) *$", block, re.MULTILINE))
        if "jobnumber" not in told:
            continue
        try:
            record = _record(told)
        except UnreachableError:
            if not lenient:
                raise
            continue
        records.pop(record.status.job_id, None)
        records[record.status.job_id] = record
    if not records and text.strip() and not re.search(r"^OWNER ", text, re.MULTILINE):
        raise UnreachableError("The accounting of Grid Engine answered without a valid record.")
    return list(records.values())


def _record(told: dict[str, str]) -> Record:
    """Return the record in the fields of a block."""
    number, task = told["jobnumber"], told.get("taskid", "undefined")
    job_id = number if task in ("undefined", "0") else f"{number}.{task}"
    failed, words = _number(told, "failed", ":"), told["failed"].partition(":")[2]
    state, code, number_killed = _end(failed, _number(told, "exit_status", " "))
    if failed in (LIMIT, AFTER_JOB) and _used_more_than_asked(told):
        state = State.OUT_OF_MEMORY
    reason = f"failed {failed}: {words.strip()}" if failed else None
    status = JobStatus(
        job_id=job_id,
        name=_field(told, "jobname"),
        state=state,
        exit_code=code,
        signal=number_killed,
        node=told.get("hostname"),
        reason=reason,
    )
    return Record(status, failed in RESCHEDULED)


def _used_more_than_asked(told: dict[str, str]) -> bool:
    """Return True if the processes of a job used more address space than the job asked for.

    Records give one reason for all limits; the memory limit is recognised by this comparison.
    """
    asked = re.search(r"\b[hs]_vmem=([^,\s]+)", told.get("category", ""))
    if asked is None:
        return False
    slots = whole(told.get("slots", "1")) or 1
    return (bytes_of(told.get("maxvmem", "")) or 0) > slots * (bytes_of(asked[1]) or 0)


def _end(failed: int, exit_status: int) -> tuple[State, int | None, int | None]:
    """Return state, exit code and signal of a job.

    Jobs of zwrap ask for a warning before they are killed (-notify): USR2 announces a deletion.
    Without the warning, a deletion cannot be told from any other SIGKILL.
    """
    if failed == 0:
        return (State.FAILED if exit_status else State.COMPLETED), exit_status, None
    number = exit_status - 128 if exit_status > 128 else None
    if failed == AFTER_JOB and number == signal.SIGUSR2:
        return State.CANCELLED, None, number
    return FAILED.get(failed, State.FAILED), None, number


def read_submission(reply: Reply) -> Submission:
    """Return the answer of DRMAA to a submission; UnreachableError without its library."""
    text = reply.output.strip()
    if reply.status == 0 and text:
        return Accepted(text)
    said = quoted(complaint(reply, NOISE))
    if reply.status == NO_LIBRARY:
        raise UnreachableError(f"The DRMAA library cannot be loaded: {said}. {LIBRARY_HINT}")
    return meaning(reply.status, complaint(reply, NOISE))(said)


def read_deleted(reply: Reply) -> None:
    """Raise UnreachableError unless qdel has ended jobs; its exit status is 1 for those gone."""
    said = f"{reply.output}\n{reply.error}".splitlines()
    wrong = [line for line in said if line and not ENDING.search(line)]
    if reply.status not in (0, 1) or wrong or not any(said):
        raise unreachable(GRID_ENGINE, "; ".join(wrong) or complaint(reply, NOISE))


def meaning(status: int | None, said: str) -> Means:
    """Return the meaning of a DRMAA error with a complaint."""
    if status == DENIED_BY_DRM:
        return first_meaning(DENIALS, said, SUBMISSIONS[DENIED_BY_DRM])
    return SUBMISSIONS.get(status or 0, Unknown)
