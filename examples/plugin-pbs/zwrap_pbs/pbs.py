"""PBS as a submitting host sees it: Torque, OpenPBS, and Slurm's commands in their style."""

import os
import pwd
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from zwrap import scheduler
from zwrap.errors import RequestError, UnreachableError
from zwrap.job import ArrayForm, JobRequest, JobStatus, Resources, State
from zwrap.scheduler import Command, Options, Question, Reply, Scheduler

T = TypeVar("T")
P, R, S, C = State.PENDING, State.RUNNING, State.SUSPENDED, State.CANCELLED
STATES = {"Q": P, "H": P, "W": P, "T": P, "R": R, "E": R, "S": S, "C": C, "F": C}
"""Letter of qstat(1) to its state; only the record of an ended job tells how it ended."""
REFUSED = re.compile(r"nknown queue|nvalid|xceeds|llegal|not available|not permitted")
GIVEN = ("partition", "account", "nodes", "tasks", "cpus_per_task", "memory_mib", "walltime_s")
GONE = re.compile(r"Unknown Job|nvalid for state|Unauthorized|already (done|completed)")


class PBSOptions(Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a cluster of kind `pbs`."""

    records: str
    """Directory, seen by nodes and services, in which jobs leave how they ended."""
    lag_s: float = 60.0
    """Time after which an ended job without a record counts as deleted, in seconds."""


class PBS(Scheduler):
    """One PBS server."""

    options_type = PBSOptions
    options: PBSOptions
    template = "pbs.sh.j2"
    template_directory = Path(__file__).parent
    inside = "pbs"
    listing: tuple[str, ...] = ("qstat", "-f")

    def submit(
        self, request: JobRequest, script: Path, tasks: int | None = None
    ) -> Question[scheduler.Submission]:
        """Ask qsub; the script opens its output itself, which PBS copies only at the end."""
        if tasks and self.arrays is None:
            raise RequestError(f"Cluster {self.name!r} has no arrays.")
        for text in (request.full_name, str(script)):
            if not re.fullmatch(r"[\w./+@=-]+", text, re.ASCII):
                raise RequestError(f"PBS takes no blanks and no signs of the shell: {text!r}.")
        asked, plain = request.resources, Resources(max_slots=request.resources.max_slots)
        keys = [k for k in asked.__struct_fields__ if getattr(asked, k) != getattr(plain, k)]
        if refused := [key for key in keys if key not in GIVEN or getattr(asked, key) == 0]:
            raise RequestError(f"Cluster {self.name!r} is PBS and cannot give {refused}.")
        user = pwd.getpwuid(os.geteuid())
        known = {"PATH": "/usr/bin:/bin", "USER": user.pw_name, "HOME": user.pw_dir}
        array = ["-t", f"1-{tasks}"] if tasks else []
        told = ["-V", "-N", request.full_name, "-o", "/dev/null", "-e", "/dev/null", *array]
        sees = {**known, **self.options.environment}
        return Question(self._command("qsub", *told, str(script), sees=sees), read_submission)

    def states(self) -> Question[dict[str, JobStatus]]:
        """Ask for the live jobs of this user."""
        return self._known(lambda known: known[0])

    def find(self, name: str) -> Question[list[JobStatus]]:
        """Ask for all jobs of a name."""
        return self._known(
            lambda known: [j for jobs in known for j in jobs.values() if j.name == name]
        )

    def accounting(self, gone_s: Mapping[str, float]) -> Question[dict[str, JobStatus]]:
        """Ask how jobs ended: by their records, or, without one for long, as deleted ones."""

        def over(known: Sequence[dict[str, JobStatus]]) -> dict[str, JobStatus]:
            late = {
                k: job for k, job in known[2].items() if gone_s.get(k, -1) >= self.options.lag_s
            }
            return {**late, **{k: job for k, job in known[1].items() if k in gone_s}}

        return self._known(over)

    def cancel(self, job_ids: Sequence[str]) -> Question[None]:
        """Ask qdel to end jobs."""

        def read(reply: Reply) -> None:
            said = (reply.output + reply.error).splitlines()
            if reply.status is None or not all(GONE.search(line) for line in said):
                raise UnreachableError(f"qdel could not ask PBS: {said or reply.status}.")

        return Question(self._command("qdel", *job_ids), read)

    def _command(self, *argv: str, sees: Mapping[str, str] | None = None) -> Command:
        around = self.options.surroundings()
        return Command(
            argv=[*argv],
            environment={"LC_ALL": "C.UTF-8", **around} if sees is None else dict(sees),
            only=sees is not None,
            path=around.get("PATH"),
            timeout_s=self.options.timeout_s,
        )

    def _known(self, then: Callable[[Sequence[dict[str, JobStatus]]], T]) -> Question[T]:
        """Ask for live jobs, records of ended ones, and ended ones without a record, by job id."""
        records = self._command("find", self.options.records, "-type", "f", "-printf", "%f\\n")

        def listed(jobs: dict[str, JobStatus]) -> Question[T]:
            live = {each: job for each, job in jobs.items() if not job.state.is_final}

            def recorded(reply: Reply) -> T:
                ended = {k: job for k, job in read_records(reply).items() if k not in live}
                return then((live, ended, {k: jobs[k] for k in jobs if k not in {**live, **ended}}))

            return Question(records, recorded)

        def read(reply: Reply) -> Question[T]:
            if reply.status in (0, 153) and not (reply.output + reply.error).strip():
                # "No jobs" counts if the server answers another question.
                asked = self._command("qstat", "-Q")
                return Question(asked, lambda more: listed(read_jobs(more)))
            return listed(read_jobs(reply))

        return Question(self._command(*self.listing), read)


class Torque(PBS):
    """A server of Torque, which has arrays."""

    arrays = ArrayForm("[", "PBS_ARRAYID", prefix="#PBS", end="]")
    listing = ("qstat", "-t", "-f")


def read_submission(reply: Reply) -> scheduler.Submission:
    """Return the answer to a submission."""
    said = " ".join((reply.output + reply.error).split())
    if reply.status == 0 and re.fullmatch(r"\d+(\[\])?(\.\S+)?", said):
        return scheduler.Accepted(said)
    return (scheduler.Rejected if reply.status and REFUSED.search(said) else scheduler.Unknown)(
        said[-500:]
    )


def checked(reply: Reply, beginning: str) -> str:
    """Return the output of a call that succeeded."""
    if reply.status != 0 or not re.match(beginning, reply.output):
        raise UnreachableError(f"PBS did not answer: {(reply.error or reply.output)[:500]!r}.")
    return reply.output


def read_jobs(reply: Reply) -> dict[str, JobStatus]:
    """Return the jobs of this user in the output of ``qstat -f``, by job id."""
    jobs, user = {}, pwd.getpwuid(os.geteuid()).pw_name
    for text in re.split(r"^Job Id:\s*", checked(reply, "Job Id:|Queue"), flags=re.MULTILINE)[1:]:
        job_id, _, rest = re.sub(r"\n\t(?![\w.]+ = )", "", text).partition("\n")
        told = dict(re.findall(r"^\s+([\w.]+) = (.*)$", rest, re.MULTILINE))
        if told.get("Job_Owner", "").partition("@")[0] == user:
            state = STATES.get(told.get("job_state", ""), State.UNKNOWN)
            jobs[job_id] = JobStatus(job_id=job_id, name=told.get("Job_Name", ""), state=state)
    return jobs


def read_records(reply: Reply) -> dict[str, JobStatus]:
    """Return how jobs ended, from the names of their records: job id, name and exit status."""
    jobs = {}
    form = re.compile(r"^([^,\n]+),([^,\n]+),(\w+)$", re.MULTILINE)
    for job_id, name, status in form.findall(checked(reply, "")):
        code = int(status) if status.isdecimal() else None
        state = State.CANCELLED if code is None else State.FAILED if code else State.COMPLETED
        end = {"signal": code - 128} if code and 128 < code <= 192 else {"exit_code": code}
        jobs[job_id] = JobStatus(job_id=job_id, name=name, state=state, **end)
    return jobs
