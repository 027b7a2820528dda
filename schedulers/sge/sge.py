"""Grid Engine (qsub(1), qstat(1), qacct(1)): DRMAA submits, the command line does the rest.

Measured with Son of Grid Engine 8.1.9; its relatives have the same commands and DRMAA 1.0.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

from zwrap.errors import RejectedError, UnreachableError
from zwrap.job import JobRequest, JobStatus, Limits, State
from zwrap.scheduler import (
    ArrayForm,
    Command,
    DrmaaCall,
    Options,
    Question,
    Rejected,
    Reply,
    Scheduler,
    Submission,
)

from ..reading import complaint, output_of, quoted, unreachable
from ..users import job_environment, user_name
from .accounting import Wanted, moved_away
from .expressing import refuse
from .listing import listed
from .replies import (
    GRID_ENGINE,
    NOISE,
    ListedJob,
    Record,
    on_silent_hosts,
    read_deleted,
    read_qacct,
    read_silent,
    read_submission,
    with_reasons,
)
from .tables import DENIED_BY_DRM, IN_USE, NO_QUEUES

T = TypeVar("T")

JobsAnswer = dict[str, JobStatus] | Question[dict[str, JobStatus]]

QMASTER_S = 5.0
"""Time after an unanswered call within which the qmaster may still take the job, in seconds."""

WHERE = (
    "SGE_ROOT", "SGE_CELL", "SGE_ARCH", "SGE_CLUSTER_NAME", "SGE_QMASTER_PORT", "SGE_EXECD_PORT",
    "SGE_CAKEYFILE", "SGE_CERTFILE", "SGE_KEYFILE", "SGE_DRMAA_ALLOW_CWD", "SGE_JSV_TIMEOUT",
)  # fmt: skip
"""Variables of the Submitter that the DRMAA library needs: they select a cell, and prove who asks
(qsub(1), ENVIRONMENTAL VARIABLES; strings of libdrmaa)."""

LIBRARIES = (
    "$SGE_ROOT/lib/$SGE_ARCH/libdrmaa.so",
    "$SGE_ROOT/lib/lx-amd64/libdrmaa.so",
    "/usr/lib/gridengine-drmaa/lib/libdrmaa.so.1.0",
)
"""Usual places of the DRMAA library."""

LARGEST_CALL = 100
"""Largest number of jobs that one call of qdel ends; that of 8.1.9 died (SIGSEGV) of 400."""


class SGEOptions(Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a cluster of kind `sge`: names that each site gives to its resources."""

    parallel_environment: str = "smp"
    """Parallel environment that gives several slots on one host."""
    memory: str = "h_vmem"
    """Resource for memory per slot."""
    gpu: str = "gpu"
    """Resource for the number of GPUs of a job."""
    exclusive: str = "exclusive"
    """Resource for a host without other jobs."""
    accounting_lag_s: float = 20.0
    """Time after its end for which a job may be missing in the accounting, in seconds.

    Source: sge_conf(5), ``accounting_flush_time``."""
    accounting_files: str = "$SGE_ROOT/$SGE_CELL/common/accounting[.-][0-9]*"
    """Pattern of the files to which the accounting is moved from time to time, as logrotate(8)
    does; empty: there are none."""
    silent_hosts_s: float = 300.0
    """Without effect: hosts are asked about whenever jobs run. For older site files."""


class GridEngine(Scheduler):
    """One cell of Grid Engine, selected by its environment (SGE_ROOT, SGE_CELL)."""

    options_type = SGEOptions
    options: SGEOptions
    template = "sge.sh.j2"
    arrays: ClassVar[ArrayForm] = ArrayForm(
        ".", "SGE_TASK_ID", prefix="#$", anywhere=True
    )  # qsub(1)

    def __init__(self, name: str, options: SGEOptions) -> None:
        self.settle_s = QMASTER_S + options.accounting_lag_s
        super().__init__(name, options)

    def submit(
        self, request: JobRequest, script: Path, tasks: int | None = None
    ) -> Question[Submission]:
        """Ask DRMAA to take a job; one that no queue can ever run is refused, with the reasons."""
        refuse(self.name, self.options.memory, request, script)

        def read(reply: Reply) -> Submission | Question[Submission]:
            if reply.status == DENIED_BY_DRM and NO_QUEUES in reply.error:
                return Question(self._qsub_verify(request, script), why)
            return read_submission(reply)

        def why(reply: Reply) -> Submission | Question[Submission]:
            if reply.status == 0 or IN_USE in reply.output + reply.error:
                unverified = self._drmaa(request, script, tasks, "-b n -w n")
                return Question(unverified, read_submission)
            return Rejected(quoted(complaint(reply, NOISE)))

        return Question(self._drmaa(request, script, tasks, "-b n -w e"), read)

    def verify(self, request: JobRequest, script: Path) -> Question[str]:
        """Ask whether an empty cluster could run the job."""
        refuse(self.name, self.options.memory, request, script)

        def read(reply: Reply) -> str:
            said = complaint(reply, NOISE)
            if reply.status == 0:
                return quoted(said)
            if reply.status is None or "commlib error" in said:
                raise unreachable(GRID_ENGINE, said)
            raise RejectedError(f"Grid Engine would refuse the job: {quoted(said)}")

        return Question(self._qsub_verify(request, script), read)

    def find(self, name: str) -> Question[list[JobStatus]]:
        """Ask the qmaster for all jobs of that name, then, unless one lives, the accounting."""

        def in_memory(jobs: list[ListedJob]) -> list[JobStatus] | Question[list[JobStatus]]:
            known = [job for job in jobs if job.status.name == name]
            if any(not job.ended for job in known):
                return [job.status for job in known]

            def enough(records: Sequence[Record]) -> bool:
                return bool(known) or any(record.status.name == name for record in records)

            def recorded(records: Sequence[Record]) -> list[JobStatus]:
                ended = [record.status for record in records if record.status.name == name]
                return ended or [job.status for job in known]

            return self._records(("-j", name), Wanted(read_qacct, enough, recorded))

        return self._listed(in_memory)

    def states(self) -> Question[dict[str, JobStatus]]:
        """Ask for all live jobs of this user.

        While jobs run, a second question asks which hosts do not answer the qmaster, because a job
        on such a host is listed as running whatever became of it. A third one asks for the reasons
        of jobs in an error state (``Eqw``), which only a person can end.
        """

        def read(known: list[ListedJob]) -> JobsAnswer:
            jobs = {job.status.job_id: job.status for job in known if not job.ended}
            if not any(job.state is State.RUNNING for job in jobs.values()):
                return with_errors(jobs)
            silent = self._command("qstat", "-f", "-qs", "u", "-xml")
            return Question(
                silent, lambda answer: with_errors(on_silent_hosts(jobs, read_silent(answer)))
            )

        def with_errors(jobs: dict[str, JobStatus]) -> JobsAnswer:
            failed = {
                self.arrays.array_of(key)
                for key, job in jobs.items()
                if job.stuck and job.state is State.PENDING
            }
            if not failed:
                return jobs
            asked = self._command("qstat", "-j", ",".join(sorted(failed)))
            return Question(asked, lambda answer: with_reasons(jobs, answer))

        return self._listed(read)

    def accounting(self, gone_s: Mapping[str, float]) -> Question[dict[str, JobStatus]]:
        """Ask how jobs ended.

        A job that was deleted before it started is never recorded. So a job that the qmaster knows
        to have ended, and that has no record after `accounting_lag_s`, is taken for deleted.
        """

        def in_memory(jobs: list[ListedJob]) -> JobsAnswer:
            gone = sorted(set(gone_s) - {job.status.job_id for job in jobs if not job.ended})
            lag_s = self.options.accounting_lag_s
            deleted = {
                job.status.job_id: job.status
                for job in jobs
                if job.ended and gone_s.get(job.status.job_id, -1.0) >= lag_s
            }

            def enough(records: Sequence[Record]) -> bool:
                late = {each for each in gone if gone_s[each] >= lag_s}
                return late <= {record.status.job_id for record in records}

            def ends(records: Sequence[Record]) -> dict[str, JobStatus]:
                ended = [record.status for record in records if not record.rescheduled]
                # An old record may be that of another job, whose number was given again.
                return {
                    job.job_id: job for job in ended
                    if job.job_id in gone and job.name == deleted.get(job.job_id, job).name
                }  # fmt: skip

            read = functools.partial(read_qacct, lenient=True)
            wanted = Wanted(read, enough, lambda records: deleted | ends(records), ends)
            return self._records(self._which(gone), wanted) if gone else {}

        return self._listed(in_memory)

    def cancel(self, job_ids: Sequence[str]) -> Question[None]:
        """Ask qdel to end jobs of this user, some at a time."""
        return self._cancel(job_ids, None)

    def _cancel(self, job_ids: Sequence[str], failure: UnreachableError | None) -> Question[None]:
        """Ask qdel; at the end raise the first failure, if there was one."""
        some, rest = job_ids[:LARGEST_CALL], job_ids[LARGEST_CALL:]

        def read(reply: Reply) -> Question[None] | None:
            wrong = failure
            try:
                read_deleted(reply)
            except UnreachableError as error:
                wrong = failure or error
            if rest:
                return self._cancel(rest, wrong)
            if wrong:
                raise wrong
            return None

        return Question(self._command("qdel", "-u", user_name(), *some), read)

    def limits(self) -> Question[Limits]:
        """Ask for limits in the global configuration (sge_conf(5)), where 0 means no limit."""

        def read(reply: Reply) -> Limits:
            shown = output_of(reply, GRID_ENGINE)
            told = dict(re.findall(r"^(\w+) +(\d{1,18})$", shown, re.MULTILINE))
            if "max_aj_tasks" not in told:
                raise unreachable(GRID_ENGINE, "its configuration has no 'max_aj_tasks'")
            jobs = [int(told.get(key, 0)) for key in ("max_u_jobs", "max_jobs")]
            return Limits(
                array_size=int(told["max_aj_tasks"]) or None,
                submitted_jobs=min(filter(None, jobs), default=None),
            )

        return Question(self._command("qconf", "-sconf"), read)

    def _command(self, *argv: str) -> Command:
        """Return a call of a program of Grid Engine, with output in English and times in UTC."""
        return Command(
            argv=[*argv],
            environment={"TZ": "UTC", "LC_ALL": "C.UTF-8", **self.options.surroundings()},
            timeout_s=self.options.timeout_s,
        )

    def _drmaa(
        self, request: JobRequest, script: Path, tasks: int | None, native: str
    ) -> DrmaaCall:
        """Return a submission over DRMAA; `native` holds options that are not in the script."""
        return DrmaaCall(
            script=str(script),
            name=request.full_name,
            working_directory=str(request.working_directory),
            standard_output=str(request.standard_output),
            standard_error=str(request.standard_error),
            native=native,
            tasks=tasks,
            environment=self._handed,
            only=True,
            timeout_s=self.options.timeout_s,
            libraries=LIBRARIES,
        )

    @functools.cached_property
    def _handed(self) -> dict[str, str]:
        """Variables that DRMAA sees, and with ``-V`` in sge_request(5) hands on to the job."""
        where = {name: os.environ[name] for name in WHERE if name in os.environ}
        return {**where, **self.options.environment, **job_environment()}

    def _qsub_verify(self, request: JobRequest, script: Path) -> Command:
        """Return a call that verifies a job against an empty cluster (qsub(1), ``-w v``)."""
        named = ("-N", request.full_name, "-wd", str(request.working_directory))
        return self._command("qsub", "-w", "v", *named, str(script))

    def _listed(self, then: Callable[[list[ListedJob]], T | Question[T]]) -> Question[T]:
        """Ask for all jobs of this user, ended ones in memory included."""
        mine = ("qstat", "-u", user_name(), "-s", "prsz", "-g", "d", "-xml")
        return listed(lambda *of: self._command(*mine, *of), self.options.environment, then)

    def _which(self, job_ids: list[str]) -> tuple[str, ...]:
        """Return the options with which one call of qacct shows the records of these jobs."""
        numbers = {self.arrays.array_of(job_id) for job_id in job_ids}
        if len(numbers) == 1:
            return ("-j", *numbers)
        return ("-o", user_name(), "-d", "90", "-j")

    def _records(self, which: tuple[str, ...], wanted: Wanted[T]) -> Question[T]:
        """Ask the accounting for records, and the files to which it was moved."""
        options = self.options

        def moved() -> list[str]:
            return moved_away(options.accounting_files, options.environment)

        return wanted.ask(lambda *of: self._command("qacct", *of, *which), moved)
