"""Grid Engine (qsub(1), qstat(1), qacct(1)): DRMAA submits, the command line does the rest.

Measured with Son of Grid Engine 8.1.9; the commands and DRMAA 1.0 are those of its relatives, too.
"""

from __future__ import annotations

import getpass
import re
import time
from collections.abc import Sequence
from pathlib import Path

from zwrap.errors import RejectedError, RequestError, UnreachableError
from zwrap.job import JobRequest, JobStatus, Limits, State
from zwrap.scheduler import (
    Accepted,
    ArrayForm,
    Busy,
    Command,
    DrmaaSubmission,
    Options,
    Question,
    Rejected,
    Reply,
    Submission,
    Unknown,
)

from .replies import (
    Record,
    on_silent_hosts,
    read_jobs,
    read_qacct,
    read_qstat,
    read_silent,
    with_reasons,
)

QMASTER_S = 5.0
"""So long after a call that was not answered the qmaster may still take the job."""

REFUSED = {
    "qos": "has no quality of service",
    "prefer": "has no preferences",
}

DENIED = (4, 13, 14, 15, 17)
"""DRMAA's numbers for what is wrong with a job (GFD.133): invalid argument, invalid attribute
format and value, conflicting attributes, denied by the batch system."""

TRY_LATER = 16

NO_LIBRARY = -1

LIBRARIES = (
    "$SGE_ROOT/lib/$SGE_ARCH/libdrmaa.so",
    "$SGE_ROOT/lib/lx-amd64/libdrmaa.so",
    "/usr/lib/gridengine-drmaa/lib/libdrmaa.so.1.0",
)
"""Usual places of the DRMAA library."""

NO_QUEUES = "no suitable queues"

IN_USE = "already in use"
"""A verification takes a host that another job has for itself for one that can never be had."""


class SGEOptions(Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a cluster of kind `sge`: names that each site gives to its resources."""

    parallel_environment: str = "smp"
    """Gives several slots on one host."""
    memory: str = "h_vmem"
    """Memory per slot."""
    gpu: str = "gpu"
    """Number of GPUs of a job."""
    exclusive: str = "exclusive"
    """A host without other jobs."""
    accounting_lag_s: float = 20.0
    """So long after its end a job may be missing in the accounting (`accounting_flush_time`)."""
    silent_hosts_s: float = 300.0
    """So often it is asked which hosts do not answer the qmaster."""


class GridEngine:
    """One cell of Grid Engine, as its environment (SGE_ROOT, SGE_CELL) shows it."""

    options_type = SGEOptions
    template = "sge.sh.j2"
    arrays = ArrayForm(".", "SGE_TASK_ID", prefix="#$", anywhere=True)  # qsub(1)
    concurrency = 4

    def __init__(self, name: str, options: SGEOptions) -> None:
        self.name = name
        self.options = options
        usual = QMASTER_S + options.accounting_lag_s
        self.settle_s = usual if options.settle_s is None else options.settle_s
        self._missed: dict[str, float] = {}
        """Ended jobs without a record, and when that was first seen."""
        self._silent: set[str] = set()
        """Hosts that did not answer the qmaster when it was last asked, and when that was."""
        self._asked_for_hosts = float("-inf")

    def submit(
        self, request: JobRequest, script: Path, tasks: int | None = None
    ) -> Question[Submission]:
        """Hand over a job; one that no queue can ever run is refused, with the reasons."""
        self._refuse(request, script)

        def read(reply: Reply) -> Submission | Question[Submission]:
            if reply.status == DENIED[-1] and NO_QUEUES in reply.error:
                return Question(self._qsub_verify(request, script), why)
            return _read_submission(reply)

        def why(reply: Reply) -> Submission | Question[Submission]:
            if reply.status == 0 or IN_USE in reply.output + reply.error:
                unverified = self._drmaa(request, script, tasks, "-b n -w n")
                return Question(unverified, _read_submission)
            return Rejected(_complaint(reply))

        return Question(self._drmaa(request, script, tasks, "-b n -w e"), read)

    def verify(self, request: JobRequest, script: Path) -> Question[str]:
        """Whether an empty cluster could run the job."""
        self._refuse(request, script)

        def read(reply: Reply) -> str:
            complaint = _complaint(reply)
            if reply.status == 0:
                return complaint
            if reply.status is None or "commlib error" in complaint:
                raise UnreachableError(f"Grid Engine could not be asked: {complaint}.")
            raise RejectedError(f"Grid Engine would refuse the job: {complaint}")

        return Question(self._qsub_verify(request, script), read)

    def find(self, name: str) -> Question[list[JobStatus]]:
        """All jobs of that name: known to the qmaster, ended ones included, else recorded."""

        def in_memory(reply: Reply) -> list[JobStatus] | Question[list[JobStatus]]:
            known = [job for job in read_qstat(reply) if job.status.name == name]
            if any(not job.ended for job in known):
                return [job.status for job in known]

            def recorded(answer: Reply) -> list[JobStatus]:
                records = [record.status for record in read_qacct(answer)]
                ended = [status for status in records if status.name == name]
                return ended or [job.status for job in known]

            return Question(self._command("qacct", "-j", name), recorded)

        return Question(self._qstat(), in_memory)

    def states(self) -> Question[dict[str, JobStatus]]:
        """All live jobs of this user, in one question; a second one asks for the reasons of errors.

        A job in an error state (`Eqw`) waits for a person, for ever if none comes. Of a job on a
        host that is down nothing else is said than that it runs: such hosts are asked for, too.
        """

        def read(reply: Reply) -> dict[str, JobStatus] | Question[dict[str, JobStatus]]:
            jobs = read_jobs(reply)
            if not self._is_time_to_ask_for_hosts(jobs):
                return with_errors(on_silent_hosts(jobs, self._silent))
            silent = self._command("qstat", "-f", "-qs", "u", "-xml")
            return Question(silent, lambda answer: with_hosts(jobs, answer))

        def with_hosts(
            jobs: dict[str, JobStatus], reply: Reply
        ) -> dict[str, JobStatus] | Question[dict[str, JobStatus]]:
            self._silent = read_silent(reply)
            return with_errors(on_silent_hosts(jobs, self._silent))

        def with_errors(
            jobs: dict[str, JobStatus],
        ) -> dict[str, JobStatus] | Question[dict[str, JobStatus]]:
            failed = {
                self.arrays.array_of(key)
                for key, job in jobs.items()
                if job.stuck and job.state is State.PENDING
            }
            if not failed:
                return jobs
            asked = self._command("qstat", "-j", ",".join(sorted(failed)))
            return Question(asked, lambda answer: with_reasons(jobs, answer))

        return Question(self._qstat(), read)

    def _is_time_to_ask_for_hosts(self, jobs: dict[str, JobStatus]) -> bool:
        """Seldom: the qmaster itself waits for five minutes (`max_unheard`) before it says so."""
        now = time.monotonic()
        running = any(job.state is State.RUNNING for job in jobs.values())
        if not running or now - self._asked_for_hosts < self.options.silent_hosts_s:
            return False
        self._asked_for_hosts = now
        return True

    def accounting(self, job_ids: Sequence[str]) -> Question[dict[str, JobStatus]]:
        """How ended jobs ended.

        Of a job that was deleted before it started there is no record, ever: one that the
        qmaster knows to have ended, and that is not recorded in `accounting_lag_s`, is that.
        """
        wanted = set(job_ids)

        def in_memory(reply: Reply) -> dict[str, JobStatus] | Question[dict[str, JobStatus]]:
            jobs = read_qstat(reply)
            live = {job.status.job_id for job in jobs if not job.ended}
            gone = sorted(wanted - live)
            over = {job.status.job_id: job.status for job in jobs if job.ended}
            ended = {job_id: over[job_id] for job_id in gone if job_id in over}
            if not gone:
                return {}
            return Question(self._qacct(gone), lambda answer: self._recorded(answer, gone, ended))

        return Question(self._qstat(), in_memory)

    def _recorded(
        self, reply: Reply, gone: list[str], ended: dict[str, JobStatus]
    ) -> dict[str, JobStatus]:
        records: dict[str, Record] = {record.status.job_id: record for record in read_qacct(reply)}
        found = {
            job_id: record.status
            for job_id, record in records.items()
            if job_id in gone and not record.rescheduled
        }
        now = time.monotonic()
        for job_id, status in ended.items():
            if job_id in found:
                self._missed.pop(job_id, None)
            elif now - self._missed.setdefault(job_id, now) >= self.options.accounting_lag_s:
                found[job_id] = status
        return found

    def cancel(self, job_ids: Sequence[str]) -> Question[None]:
        """End jobs; those that are gone are no error."""

        def read(reply: Reply) -> None:
            said = f"{reply.output}\n{reply.error}".splitlines()
            wrong = [line for line in said if line and not _DELETED.search(line)]
            if reply.status not in (0, 1) or wrong or not any(said):
                raise UnreachableError(f"Grid Engine could not be asked: {_complaint(reply)}.")

        return Question(self._command("qdel", *job_ids), read)

    def limits(self) -> Question[Limits]:
        """What the global configuration (sge_conf(5)) allows; 0 stands for no limit there."""

        def read(reply: Reply) -> Limits:
            told = dict(re.findall(r"^(\w+) +(\d+)$", reply.output, re.MULTILINE))
            if reply.status != 0 or "max_aj_tasks" not in told:
                raise UnreachableError(f"Grid Engine could not be asked: {_complaint(reply)}.")
            jobs = [int(told.get(key, 0)) for key in ("max_u_jobs", "max_jobs")]
            return Limits(
                array_size=int(told["max_aj_tasks"]) or None,
                submitted_jobs=min(filter(None, jobs), default=None),
            )

        return Question(self._command("qconf", "-sconf"), read)

    def _refuse(self, request: JobRequest, script: Path) -> None:
        """Raise RequestError for what cannot be expressed."""
        resources = request.resources
        for key, reason in REFUSED.items():
            if getattr(resources, key):
                raise RequestError(
                    f"Cluster {self.name!r} is Grid Engine, which {reason}: remove the key {key!r}."
                )
        if (resources.nodes or 1) > 1:
            raise RequestError(
                f"Cluster {self.name!r} is Grid Engine, where a parallel environment and not a "
                "job says on how many hosts it runs: remove the key 'nodes'."
            )
        if resources.memory_mib and resources.memory_per_cpu_mib:
            raise RequestError(
                "Give one of 'memory_per_node' and 'min_memory_per_cpu': Grid Engine counts memory "
                f"per slot, as {self.options.memory}."
            )
        if not re.fullmatch(r"(\w+=[^,=\s]+(,(?!$)|$))*", resources.constraints or ""):
            raise RequestError(
                f"'constraints' is {resources.constraints!r}; for Grid Engine resources are "
                "expected, such as 'arch=lx-amd64,os=debian12'."
            )
        used = (script, request.working_directory, request.standard_output, request.standard_error)
        for path in used:
            if "$" in str(path) or "\n" in str(path):
                raise RequestError(
                    f"Grid Engine replaces what follows '$' in a path, and ends one at a line's "
                    f"end, so {str(path)!r} cannot be used. Choose another 'workingdir'."
                )

    def _command(self, *argv: str) -> Command:
        return Command(
            argv=[*argv],
            environment={"TZ": "UTC", "LC_ALL": "C.UTF-8", **self.options.surroundings()},
            timeout_s=self.options.timeout_s,
        )

    def _drmaa(
        self, request: JobRequest, script: Path, tasks: int | None, native: str
    ) -> DrmaaSubmission:
        return DrmaaSubmission(
            script=str(script),
            name=request.full_name,
            working_directory=str(request.working_directory),
            standard_output=str(request.standard_output),
            standard_error=str(request.standard_error),
            native=native,
            tasks=tasks,
            environment=self.options.environment,
            timeout_s=self.options.timeout_s,
            libraries=LIBRARIES,
        )

    def _qsub_verify(self, request: JobRequest, script: Path) -> Command:
        named = ("-N", request.full_name, "-wd", str(request.working_directory))
        return self._command("qsub", "-w", "v", *named, str(script))

    def _qstat(self) -> Command:
        """All jobs of this user, ended ones that the qmaster remembers included."""
        return self._command("qstat", "-u", getpass.getuser(), "-s", "prsz", "-g", "d", "-xml")

    def _qacct(self, job_ids: list[str]) -> Command:
        """One query, whatever the number of jobs."""
        numbers = {self.arrays.array_of(job_id) for job_id in job_ids}
        if len(numbers) == 1:
            return self._command("qacct", "-j", *numbers)
        return self._command("qacct", "-o", getpass.getuser(), "-d", "90", "-j")


_DELETED = re.compile(
    r"has (registered the job|deleted job)|does not exist|is already in deletion|"
    r"has registered the job-array task|has deleted job-array task"
)


def _read_submission(reply: Reply) -> Submission:
    text = reply.output.strip()
    if reply.status == 0 and text:
        return Accepted(text)
    complaint = _complaint(reply)
    if reply.status == TRY_LATER:
        return Busy(complaint)
    if reply.status in DENIED:
        return Rejected(complaint)
    if reply.status == NO_LIBRARY:
        raise UnreachableError(
            f"The DRMAA library cannot be loaded: {complaint}. Give the cluster's 'environment' a "
            "DRMAA_LIBRARY_PATH (Debian: package gridengine-drmaa1.0)."
        )
    return Unknown(complaint)


def _complaint(reply: Reply) -> str:
    """What was said, in one line."""
    said = [line.strip() for line in f"{reply.error}\n{reply.output}".splitlines()]
    said = [line.removeprefix("Unable to run job: ") for line in said if line]
    text = "; ".join(line.rstrip(".") for line in said if line != "Exiting.")
    return text or f"exit status {reply.status} and no word"
