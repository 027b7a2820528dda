"""Slurm by its command line (slurm.schedmd.com): sbatch, squeue, sacct, scancel, scontrol."""

from __future__ import annotations

import contextlib
import getpass
import os
import pwd
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from zwrap.errors import RejectedError, RequestError, UnreachableError
from zwrap.job import JobRequest, JobStatus, Limits, State
from zwrap.scheduler import (
    Accepted,
    Busy,
    Command,
    Options,
    Question,
    Rejected,
    Reply,
    Submission,
    Unknown,
)

MESSAGE_TIMEOUT_S = 10.0
"""Slurm's own default of MessageTimeout: after so long a client gives up, and its request may still
be carried out."""

STATES = {
    "PENDING": State.PENDING,
    "CONFIGURING": State.PENDING,  # nodes boot
    "REQUEUED": State.PENDING,
    "REQUEUE_HOLD": State.PENDING,  # waits for a person
    "REQUEUE_FED": State.PENDING,
    "SPECIAL_EXIT": State.PENDING,  # requeued in a special state, and held
    "RESV_DEL_HOLD": State.PENDING,
    "RUNNING": State.RUNNING,
    "COMPLETING": State.RUNNING,  # processes may live for KillWait and longer
    "RESIZING": State.RUNNING,
    "SIGNALING": State.RUNNING,
    "STAGE_OUT": State.RUNNING,
    "SUSPENDED": State.SUSPENDED,
    "STOPPED": State.SUSPENDED,  # it keeps its processors
    "COMPLETED": State.COMPLETED,
    "FAILED": State.FAILED,
    "CANCELLED": State.CANCELLED,
    "REVOKED": State.CANCELLED,  # a sibling in another cluster of a federation was started
    "TIMEOUT": State.TIMEOUT,
    "DEADLINE": State.TIMEOUT,
    "NODE_FAIL": State.NODE_FAIL,
    "BOOT_FAIL": State.NODE_FAIL,
    "OUT_OF_MEMORY": State.OUT_OF_MEMORY,
    "PREEMPTED": State.PREEMPTED,
}
"""Slurm's words (squeue(1), JOB STATE CODES), the flags that it shows in their place included."""

MAYBE = (
    "Socket timed out",
    "Zero Bytes were transmitted",
    "Unable to contact slurm controller",
    "Unexpected message received",
    "Protocol authentication error",
    "Munge encode failed",
    "Slurm backup controller in standby mode",
    "Slurm temporarily unable to accept job",
    "fatal: ",
)
"""Complaints after which the job may be there, or nobody was reached who could say."""

BUSY = (
    "job submit limit",
    "Job violates accounting/QOS policy",
    "Resource temporarily unavailable",
    "slurm_persist_conn_open",
)
"""Complaints about a limit that gives way as jobs end."""

FIELDS = ("JobArrayID", "State", "exit_code", "Reason", "NodeList", "Name")
_SQUEUE = ",".join(f"{field}:|" for field in FIELDS)
_SACCT = "JobID,State,ExitCode,Reason,NodeList,JobName"


class SlurmOptions(Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a cluster of kind `slurm`."""


class Slurm:
    """One Slurm cluster, as its environment (SLURM_CONF) shows it."""

    options_type = SlurmOptions
    template = "slurm.sh.j2"

    def __init__(self, name: str, options: SlurmOptions) -> None:
        self.name = name
        self.options = options
        given = options.settle_s
        self.settle_s = MESSAGE_TIMEOUT_S + 5.0 if given is None else given

    def submit(self, request: JobRequest, script: Path) -> Question[Submission]:
        """Hand over a job. Names and paths are arguments, resources stand in the script."""
        refuse_backslashes(request)
        return Question(self._sbatch(request, script, "--parsable"), _read_submission)

    def verify(self, request: JobRequest, script: Path) -> Question[str]:
        """What the controller says to the job: when and where it would start."""
        return Question(self._sbatch(request, script, "--test-only"), _read_verdict)

    def find(self, name: str) -> Question[list[JobStatus]]:
        """All jobs of that name: in the controller's memory, else in the accounting."""

        def in_memory(reply: Reply) -> list[JobStatus] | Question[list[JobStatus]]:
            return taken(_read_squeue(reply)) or recorded

        recorded = Question(
            self._command(
                "sacct", "-X", "-P", "-n", "-S", "now-60days", f"--name={name}", "-o", _SACCT
            ),
            lambda reply: taken(_read_sacct(reply)),
        )
        return Question(self._squeue(f"--name={name}"), in_memory)

    def states(self) -> Question[dict[str, JobStatus]]:
        """All live jobs of this user, in one question."""
        return Question(
            self._squeue(),
            lambda reply: {
                job_id: status
                for job_id, status in _read_squeue(reply).items()
                if not status.state.is_final
            },
        )

    def accounting(self, job_ids: Sequence[str]) -> Question[dict[str, JobStatus]]:
        """How ended jobs ended: from memory, which knows exit codes, then from the accounting."""
        wanted = set(job_ids)

        def in_memory(
            reply: Reply,
        ) -> dict[str, JobStatus] | Question[dict[str, JobStatus]]:
            known = {key: each for key, each in _read_squeue(reply).items() if key in wanted}
            ended = {key: status for key, status in known.items() if status.state.is_final}
            gone = sorted(wanted - set(known))
            if not gone:
                return ended
            asked = self._command(
                "sacct", "-X", "-P", "-n", f"--jobs={','.join(gone)}", "-o", _SACCT
            )
            return Question(asked, lambda answer: {**ended, **_ended(_read_sacct(answer), wanted)})

        return Question(self._squeue(), in_memory)

    def cancel(self, job_ids: Sequence[str]) -> Question[None]:
        """End jobs; those that are gone are no error."""
        return Question(self._command("scancel", *job_ids), _read_nothing)

    def limits(self) -> Question[Limits]:
        """What slurm.conf(5) allows."""
        return Question(self._command("scontrol", "show", "config"), _read_limits)

    def _command(self, *argv: str) -> Command:
        """A client that is not swayed by what a job around us was told."""
        swaying = [name for name in os.environ if name.startswith(("SBATCH_", "SQUEUE_", "SLURM_"))]
        environment = {"TZ": "UTC", "LC_ALL": "C.UTF-8", **self.options.surroundings()}
        unset = tuple(name for name in swaying if name != "SLURM_CONF")
        limit = self.options.timeout_s
        return Command(argv=[*argv], environment=environment, unset=unset, timeout_s=limit)

    def _sbatch(self, request: JobRequest, script: Path, how: str) -> Command:
        """All that it sees goes on to the job.

        With a list of names (`--export=HOME,...`) Slurm would add what a login shell of the user
        sets, and each job would wait for that shell, for minutes if a start-up file of it hangs.
        """
        path = self.options.surroundings().get("PATH") or os.environ.get("PATH", os.defpath)
        arguments = [
            shutil.which("sbatch", path=path) or "sbatch",
            how,
            f"--job-name={request.full_name}",
            f"--chdir={request.working_directory}",
            f"--output={literal(request.standard_output)}",
            f"--error={literal(request.standard_error)}",
            "--open-mode=append",  # a job that is requeued keeps what its first run said
            "--export=ALL",
            str(script),
        ]
        where = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
        return Command(
            argv=arguments,
            environment={**where, **self.options.environment, **job_environment()},
            only=True,
            timeout_s=self.options.timeout_s,
        )

    def _squeue(self, *more: str) -> Command:
        return self._command("squeue", "--me", "-h", "-r", "-t", "all", *more, "-O", _SQUEUE)


def job_environment(user: str | None = None) -> dict[str, str]:
    """What a job is told besides its script: whose it is, and where ordinary programs are."""
    name = user or getpass.getuser()
    known = {"PATH": "/usr/local/bin:/usr/bin:/bin", "USER": name, "LOGNAME": name}
    with contextlib.suppress(KeyError):
        known["HOME"] = pwd.getpwnam(name).pw_dir
    return known


def refuse_backslashes(request: JobRequest) -> None:
    """Raise RequestError for names of output files that Slurm would change."""
    for path in (request.standard_output, request.standard_error):
        if "\\" in str(path):
            raise RequestError(
                f"Slurm takes a backslash in the name of an output file as an order, so {path} "
                "cannot be one. Choose a working directory, or 'standard_output' and "
                "'standard_error', without."
            )


def literal(path: Path) -> str:
    """A file name in which sbatch is to replace nothing (sbatch(1), FILENAME PATTERN)."""
    return str(path).replace("%", "%%")


def _read_submission(reply: Reply) -> Submission:
    text = reply.output.strip().partition(";")[0]
    if reply.status == 0 and text.isdecimal():
        return Accepted(text)
    complaint = _complaint(reply)
    if reply.status in (None, 0) or (reply.status or 0) < 0:
        return Unknown(complaint)
    if any(words in complaint for words in BUSY):
        return Busy(complaint)
    if any(words in complaint for words in MAYBE):
        return Unknown(complaint)
    return Rejected(complaint)


def _read_verdict(reply: Reply) -> str:
    complaint = _complaint(reply)
    if reply.status == 0:
        return complaint
    if reply.status is None or any(words in complaint for words in MAYBE):
        raise UnreachableError(f"Slurm could not be asked: {complaint}.")
    raise RejectedError(f"Slurm would refuse the job: {complaint}")


def _complaint(reply: Reply) -> str:
    """What a client said on standard error, in one line."""
    lines = [line.strip() for line in reply.error.splitlines() if line.strip()]
    said = "; ".join(re.sub(r"^\w+: (error: )?", "", line) for line in lines)
    return said or f"exit status {reply.status} and no word"


def _check(reply: Reply, empty: bool = True) -> None:
    if reply.status != 0 or (not empty and not reply.output.strip()):
        raise UnreachableError(f"Slurm could not be asked: {_complaint(reply)}.")


def _read_squeue(reply: Reply) -> dict[str, JobStatus]:
    if "Invalid job name" in reply.error:
        return {}
    _check(reply)
    found = {}
    for line in reply.output.splitlines():
        fields = line.split("|")
        if len(fields) != len(FIELDS) + 1:
            raise UnreachableError(f"Slurm answered {line[:80]!r}, which is no line of squeue.")
        job_id, word, code, reason, nodes, name = (field.strip() for field in fields[:-1])
        status = _status(job_id, name, word, reason, nodes)
        if status.state.is_final and code.isdecimal():
            number = int(code)  # a wait status, wait(2)
            status = _with_end(status, number >> 8, number & 0x7F)
        found[job_id] = status
    return found


def _read_sacct(reply: Reply) -> dict[str, JobStatus]:
    if "accounting storage is disabled" in reply.error:
        return {}
    _check(reply)
    found = {}
    for line in reply.output.splitlines():
        fields = line.split("|")
        if len(fields) != 6:
            raise UnreachableError(f"Slurm answered {line[:80]!r}, which is no line of sacct.")
        job_id, words, code, reason, nodes, name = fields
        status = _status(job_id, name, words.partition(" ")[0], reason, nodes)
        number, _, signal = code.partition(":")
        if status.state is State.COMPLETED:
            status = _with_end(status, 0, 0)
        elif status.state.is_final and signal.isdecimal():
            # Measured with 22.05: codes above 127 are recorded without their highest bit.
            del number
            status = _with_end(status, None, int(signal))
        found[job_id] = status
    return found


def _status(job_id: str, name: str, word: str, reason: str, nodes: str) -> JobStatus:
    state = STATES.get(word)
    if state is None:
        raise UnreachableError(
            f"Slurm says that job {job_id} is {word!r}, which is not known here."
        )
    given = reason if reason not in ("", "None") else None
    return JobStatus(job_id=job_id, name=name, state=state, reason=given, node=nodes or None)


def _with_end(status: JobStatus, code: int | None, signal: int) -> JobStatus:
    values = {field: getattr(status, field) for field in status.__struct_fields__}
    exit_code = None if signal else code
    return JobStatus(**{**values, "exit_code": exit_code, "signal": signal or None})


def taken(found: dict[str, JobStatus]) -> list[JobStatus]:
    """All without those that were refused: of some of them a record stays."""
    return [
        each
        for each in found.values()
        if not (each.state is State.FAILED and each.reason == "BadConstraints")
    ]


def _ended(found: dict[str, JobStatus], wanted: set[str]) -> dict[str, JobStatus]:
    return {key: each for key, each in found.items() if key in wanted and each.state.is_final}


def _read_nothing(reply: Reply) -> None:
    _check(reply)


def _read_limits(reply: Reply) -> Limits:
    _check(reply, empty=False)
    told = dict(re.findall(r"^(\w+)\s*= (.*)$", reply.output, re.MULTILINE))
    array, jobs = told.get("MaxArraySize", ""), told.get("MaxJobCount", "")
    return Limits(
        array_size=int(array) if array.isdecimal() else None,
        submitted_jobs=int(jobs) if jobs.isdecimal() else None,
    )
