"""Slurm over slurmrestd, and the command line where that cannot answer.

Source: slurm.schedmd.com/rest.html. Tested with v0.0.38 of Slurm 22.05; tried with v0.0.40 to
v0.0.42 of Slurm 24.11. From v0.0.39 on fields have another form. Resources come from the same job
script as those of `sbatch`: see `schedulers.slurm.directives`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from zwrap.errors import RequestError, UnreachableError
from zwrap.job import JobRequest, JobStatus, Limits
from zwrap.scheduler import HttpRequest, Question, Rejected, Reply, Scheduler, Submission

from ..users import job_environment, user_name
from .directives import LIST_OF_FLAGS, fields, refuse_parts
from .replies import ended, live, taken
from .restreplies import Fields, answer, read_foreign, read_jobs, read_records, read_submission
from .slurm import Slurm, SlurmOptions, literal, refuse_backslashes
from .token import read_token

log = logging.getLogger(__name__)

T = TypeVar("T")

JobsAnswer = dict[str, JobStatus] | Question[dict[str, JobStatus]]

NEWEST = 43
"""N of the newest version v0.0.N that is chosen by itself; `api_version` may name a later one."""


JOBS = "/slurm/{version}/jobs"
"""Path of the jobs in the controller's memory."""

TOLD: Mapping[str, str] = {
    "cpus_per_task": "SLURM_CPUS_PER_TASK",
    "tasks": "SLURM_NTASKS",
    "memory_per_node": "SLURM_MEM_PER_NODE",
    "memory_per_cpu": "SLURM_MEM_PER_CPU",
}
"""Field to the environment variable of the job that `sbatch`, and not the controller, sets
(sbatch(1), OUTPUT ENVIRONMENT VARIABLES)."""


class SlurmRestOptions(SlurmOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a cluster of kind `slurmrest`; `url` to `user_token` are python-zocalo's."""

    url: str
    """``http://host:6820``, or ``unix:/path/of/socket``."""
    api_version: str | None = None
    """Version such as v0.0.38; None: the newest that both server and zwrap know."""
    user: str | None = None
    """Owner of the jobs; None: the user of this process."""
    user_token: str | None = None
    """A token, or the path of a file that holds one and is read each time."""
    command_line: bool = False
    """True if `sbatch` and the like, with `environment`, may be used when slurmrestd is away."""


class SlurmRest(Scheduler):
    """One Slurm cluster behind slurmrestd.

    Its objects keep the server's version, to save a request, and the times of the last warnings;
    neither changes an answer.
    """

    options_type = SlurmRestOptions
    options: SlurmRestOptions
    template = Slurm.template
    arrays = Slurm.arrays
    inside = "slurm"
    error_patterns = Slurm.error_patterns
    settle_s = Slurm.settle_s

    def __init__(self, name: str, options: SlurmRestOptions) -> None:
        super().__init__(name, options)
        self._line = Slurm(name, options)
        self._version = options.api_version
        self._user = options.user or user_name()
        self._warned: dict[str, float] = {}

    def submit(
        self, request: JobRequest, script: Path, tasks: int | None = None
    ) -> Question[Submission]:
        """Ask slurmrestd to take a job; the options of the script's #SBATCH lines become fields."""
        refuse_backslashes(request)
        text = _text(script)
        refuse_parts(text)
        if not self._version:
            fields(text, NEWEST)  # refuses what cannot be expressed in any version

        def body(version: int) -> Fields:
            job = self._job(request, text, version)
            return {"script": text, "job": {**job, "array": f"1-{tasks}"} if tasks else job}

        return self._ask(
            "POST", "/slurm/{version}/job/submit", read_submission,
            lambda: self._line.submit(request, script, tasks), body,
            lambda error: Rejected(str(error).rstrip(".")),
        )  # fmt: skip

    def verify(self, request: JobRequest, script: Path) -> Question[str]:
        """Ask the command line, if it may be used; slurmrestd cannot test a job."""
        self.submit(request, script)
        if self.options.command_line:
            return self._line.verify(request, script)
        return self._ping("slurmrestd answers; it cannot test a job")

    def find(self, name: str) -> Question[list[JobStatus]]:
        """Ask for all jobs of that name in the controller's memory, else in the accounting."""

        def in_memory(reply: Reply) -> list[JobStatus] | Question[list[JobStatus]]:
            known = read_jobs(reply, self._user).items()
            return taken({key: job for key, job in known if job.name == name}) or recorded()

        def recorded() -> Question[list[JobStatus]]:
            query = f"?job_name={quote(name)}&start_time=now-60days"
            return self._ask(
                "GET", "/slurmdb/{version}/jobs" + query, lambda reply: taken(read_records(reply))
            )

        return self._ask("GET", JOBS, in_memory, lambda: self._line.find(name))

    def states(self) -> Question[dict[str, JobStatus]]:
        """Ask for all live jobs of the user."""
        return self._ask(
            "GET", JOBS, lambda reply: live(read_jobs(reply, self._user)), self._line.states
        )

    def accounting(self, gone_s: Mapping[str, float]) -> Question[dict[str, JobStatus]]:
        """Ask how jobs ended: from memory, which knows exit codes, then from the accounting."""

        def in_memory(reply: Reply) -> JobsAnswer:
            known = read_jobs(reply, self._user)
            return self._recorded(sorted(set(gone_s) - set(known)), ended(known, gone_s))

        return self._ask("GET", JOBS, in_memory, lambda: self._line.accounting(gone_s))

    def _recorded(self, left: list[str], found: dict[str, JobStatus]) -> JobsAnswer:
        """Ask the accounting for those that left memory, one job or array after the other."""
        if not left:
            return found

        def read(reply: Reply) -> JobsAnswer:
            more = ended(read_records(reply), left)
            rest = [each for each in left if self.arrays.array_of(each) != number]
            return self._recorded(rest, {**found, **more})

        number = self.arrays.array_of(left[0])
        return self._ask("GET", f"/slurmdb/{{version}}/job/{number}", read)

    def cancel(self, job_ids: Sequence[str]) -> Question[None]:
        """Ask to end jobs of the user, one after the other."""

        def mine(reply: Reply) -> Question[None] | None:
            foreign = read_foreign(reply, self._user)
            left = [each for each in job_ids if self.arrays.array_of(each) not in foreign]
            return self._delete(left) if left else None

        return self._ask("GET", JOBS, mine, lambda: self._line.cancel(job_ids))

    def _delete(self, job_ids: Sequence[str]) -> Question[None]:
        """Ask to end the first of some jobs, then the others."""
        first, rest = job_ids[0], job_ids[1:]

        def read(reply: Reply) -> Question[None] | None:
            answer(reply, forgiven=("Invalid job id", "already completing or completed"))
            return self._delete(rest) if rest else None

        return self._ask(
            "DELETE", f"/slurm/{{version}}/job/{quote(first)}", read,
            lambda: self._line.cancel(job_ids),
        )  # fmt: skip

    def limits(self) -> Question[Limits]:
        """Ask the command line, if it may be used; slurmrestd reports no limits."""
        return self._line.limits() if self.options.command_line else self._ping(Limits())

    def _ping(self, told: T) -> Question[T]:
        """Return a question whose answer is `told` if the server answers."""

        def read(reply: Reply) -> T:
            answer(reply)
            return told

        return self._ask("GET", "/slurm/{version}/ping", read)

    def _ask(
        self,
        method: str,
        path: str,
        read: Callable[[Reply], T | Question[T]],
        instead: Callable[[], Question[T]] | None = None,
        body: Callable[[int], Fields] | None = None,
        refused: Callable[[RequestError], T] | None = None,
    ) -> Question[T]:
        """Return a request; `instead` is asked if the server is away and the site allows it.

        `body` returns the content of a submission for a version; `refused` the answer where that
        has no way to express it, which is found out after the server has told its version. A
        submission is made again only if the request did not go out, or the server does not know
        its path: a server that was upgraded is asked for its versions once more.
        """

        def first(reply: Reply) -> T | Question[T]:
            away = reply.unsent or (body is None and reply.status is None)
            if away and instead and self.options.command_line:
                self._warn("away", f"slurmrestd of cluster {self.name} is away: {reply.error}", 60)
                return instead()
            return read(reply)

        def versioned(version: str, then: Callable[[Reply], T | Question[T]]) -> Question[T]:
            content = body(_number(version)) if body else None
            return Question(self._request(method, path.format(version=version), content), then)

        def discover(then: Callable[[Reply], T | Question[T]]) -> Question[T]:
            return Question(self._request("GET", "/openapi/v3", None), then)

        def discovered(reply: Reply) -> T | Question[T]:
            if reply.status is None:
                return first(reply)
            version = self._version = _newest(answer(reply))
            return _unless_refused(lambda: versioned(version, first), refused)

        def known_before(reply: Reply) -> T | Question[T]:
            upgraded = reply.status == 404 and path.startswith("/slurm/")  # not: no accounting
            if upgraded and not self.options.api_version:
                return discover(discovered)
            return first(reply)

        if self._version:
            return versioned(self._version, known_before)
        return discover(discovered)

    def _request(self, method: str, path: str, content: Fields | None) -> HttpRequest:
        """Return a request with the user's token, and with `content` as JSON."""
        base = self.options.url.rstrip("/")
        url = f"{base}:{path}" if base.startswith("unix:") else base + path
        headers = {"Content-Type": "application/json"} if content else {}
        if token := self._token():
            headers |= {"X-SLURM-USER-NAME": self._user, "X-SLURM-USER-TOKEN": token}
        body, limit_s = json.dumps(content) if content else None, self.options.timeout_s
        return HttpRequest(url=url, method=method, headers=headers, body=body, timeout_s=limit_s)

    def _token(self) -> str | None:
        """Return the present token; UnreachableError if it has expired or cannot be read."""
        given = self.options.user_token
        if given is None:
            return os.environ.get("SLURM_JWT")
        token, warning = read_token(given, f"The token of cluster {self.name!r}")
        if warning:
            self._warn("token", warning, 3600)
        return token

    def _warn(self, kind: str, text: str, pause_s: float) -> None:
        """Log a warning unless one of this kind was logged within the last `pause_s` seconds."""
        now = time.monotonic()
        if now - self._warned.get(kind, -pause_s) >= pause_s:
            self._warned[kind] = now
            log.warning("%s", text)

    def _job(self, request: JobRequest, script: str, version: int) -> dict[str, object]:
        """Return the fields of a job."""
        given = fields(script, version)
        told = {TOLD[field]: str(text) for field, text in given.items() if field in TOLD}
        environment = {**job_environment(self._user), **told}
        listed = [f"{name}={text}" for name, text in environment.items()]
        return {
            **given,
            "name": request.full_name,
            "current_working_directory": str(request.working_directory),
            "standard_output": literal(request.standard_output),
            "standard_error": literal(request.standard_error),
            "open_mode": "append",
            "environment": environment if version < LIST_OF_FLAGS else listed,
        }


def _unless_refused(
    ask: Callable[[], Question[T]], refused: Callable[[RequestError], T] | None
) -> T | Question[T]:
    """Return a question, or the answer `refused` to the error that there is none."""
    try:
        return ask()
    except RequestError as error:
        if refused is None:
            raise
        return refused(error)


def _number(version: str) -> int:
    """Return N of v0.0.N; RequestError for another form."""
    match = re.fullmatch(r"v0\.0\.(\d{1,9})", version)
    if match is None:
        raise RequestError(f"'api_version' is {version!r}; a version such as v0.0.38 is expected.")
    return int(match[1])


def _newest(specification: Fields) -> str:
    """Return the newest version that server and zwrap know; UnreachableError if there is none."""
    paths = specification.get("paths")
    found = (
        re.match(r"/slurm/v0\.0\.(\d{1,9})/jobs", path)
        for path in (paths if isinstance(paths, dict) else ())
    )
    served = sorted({int(match[1]) for match in found if match})
    usable = [version for version in served if version <= NEWEST]
    if not usable:
        raise UnreachableError(
            f"slurmrestd serves {served or 'no version'} of v0.0.N, of which none is known here "
            f"(v0.0.36 to v0.0.{NEWEST})."
        )
    return f"v0.0.{usable[-1]}"


def _text(script: Path) -> str:
    """Return the text of a job script; empty if there is none.

    Raises:
        RequestError: It is not UTF-8, as JSON must be.
    """
    try:
        return script.read_text("utf-8") if script.is_file() else ""
    except UnicodeDecodeError:
        raise RequestError(
            "The job script holds bytes that are not UTF-8, such as the name of a file, which "
            "slurmrestd cannot take."
        ) from None
