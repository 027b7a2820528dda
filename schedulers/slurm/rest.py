"""Slurm by slurmrestd, with the command line where it cannot say (slurm.schedmd.com/rest.html).

Tried with v0.0.38 of Slurm 22.05. For v0.0.39 and later fields take their other form, which was
not tried on a server. Resources come from the same job script as those of `sbatch`: see
`slurmdirectives`.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from zwrap.errors import RequestError, UnreachableError
from zwrap.job import JobRequest, JobStatus, Limits
from zwrap.scheduler import HttpRequest, Question, Reply, Submission

from .directives import fields
from .replies import ended, taken
from .restreplies import answer, read_jobs, read_records, read_submission
from .slurm import Slurm, SlurmOptions, job_environment, literal, refuse_backslashes
from .token import read_token

log = logging.getLogger(__name__)

T = TypeVar("T")

KNOWN = 43
"""The newest version v0.0.N that is used unasked; `api_version` may name a later one."""


class SlurmRestOptions(SlurmOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a cluster of kind `slurmrest`; `url` to `user_token` are python-zocalo's."""

    url: str
    """``http://host:6820``, or ``unix:/path/of/socket``."""
    api_version: str | None = None
    """Such as v0.0.38; default: the newest that server and zwrap know."""
    user: str | None = None
    """Whose jobs they are; default: the user of this process."""
    user_token: str | None = None
    """A token, or the path of a file that holds one and is read again each time."""
    command_line: bool = False
    """Whether `sbatch` and its like, with `environment`, may be used when slurmrestd is away."""


class SlurmRest:
    """One Slurm cluster behind slurmrestd."""

    options_type = SlurmRestOptions
    template = Slurm.template
    arrays = Slurm.arrays
    concurrency = Slurm.concurrency
    inside = "slurm"
    error_patterns = Slurm.error_patterns

    def __init__(self, name: str, options: SlurmRestOptions) -> None:
        self.name = name
        self.options = options
        self._line = Slurm(name, options)
        self.settle_s = self._line.settle_s
        self._version = options.api_version
        self._user = options.user or getpass.getuser()
        self._warned: dict[str, float] = {}

    def submit(
        self, request: JobRequest, script: Path, tasks: int | None = None
    ) -> Question[Submission]:
        """Hand over a job; the options of the script's #SBATCH lines go in as fields."""
        refuse_backslashes(request)
        text = script.read_text() if script.is_file() else ""
        if not self._version:
            fields(text, 38)  # refuses what cannot be expressed; later its `body` does

        def body(version: int) -> dict[str, Any]:
            job = self._job(request, text, version)
            return {"script": text, "job": {**job, "array": f"1-{tasks}"} if tasks else job}

        return self._ask(
            "POST", "/slurm/{version}/job/submit", read_submission,
            body=body, instead=lambda: self._line.submit(request, script, tasks), reading=False,
        )  # fmt: skip

    def verify(self, request: JobRequest, script: Path) -> Question[str]:
        """What the command line says, if it may be used; slurmrestd cannot test a job."""
        self.submit(request, script)
        if self.options.command_line:
            return self._line.verify(request, script)
        return self._ask(
            "GET", "/slurm/{version}/ping",
            lambda reply: str(answer(reply) and "slurmrestd answers; it cannot test a job"),
        )  # fmt: skip

    def find(self, name: str) -> Question[list[JobStatus]]:
        """All jobs of that name: in the controller's memory, else in the accounting."""

        def in_memory(reply: Reply) -> list[JobStatus] | Question[list[JobStatus]]:
            known = {key: job for key, job in self._mine(reply).items() if job.name == name}
            return taken(known) or recorded

        query = f"?job_name={quote(name)}&start_time=now-60days"
        recorded: Question[list[JobStatus]] = self._ask(
            "GET", "/slurmdb/{version}/jobs" + query, lambda reply: taken(read_records(reply))
        )
        return self._ask("GET", "/slurm/{version}/jobs", in_memory, lambda: self._line.find(name))

    def states(self) -> Question[dict[str, JobStatus]]:
        """All live jobs of the user, in one question."""

        def live(reply: Reply) -> dict[str, JobStatus]:
            return {key: job for key, job in self._mine(reply).items() if not job.state.is_final}

        return self._ask("GET", "/slurm/{version}/jobs", live, self._line.states)

    def accounting(self, job_ids: Sequence[str]) -> Question[dict[str, JobStatus]]:
        """How ended jobs ended: from memory, which knows exit codes, then from the accounting."""
        wanted = set(job_ids)

        def in_memory(reply: Reply) -> dict[str, JobStatus] | Question[dict[str, JobStatus]]:
            known = {key: job for key, job in self._mine(reply).items() if key in wanted}
            found = ended(known, wanted)
            return self._recorded(sorted(wanted - set(known)), found)

        return self._ask(
            "GET", "/slurm/{version}/jobs", in_memory, lambda: self._line.accounting(job_ids)
        )

    def _recorded(
        self, gone: list[str], found: dict[str, JobStatus]
    ) -> dict[str, JobStatus] | Question[dict[str, JobStatus]]:
        """What the accounting says of those that left memory, one job or array after the other."""
        if not gone:
            return found

        def read(reply: Reply) -> dict[str, JobStatus] | Question[dict[str, JobStatus]]:
            more = ended(read_records(reply), set(gone))
            left = [each for each in gone if self.arrays.array_of(each) != number]
            return self._recorded(left, {**found, **more})

        number = self.arrays.array_of(gone[0])
        return self._ask("GET", f"/slurmdb/{{version}}/job/{number}", read)

    def cancel(self, job_ids: Sequence[str]) -> Question[None]:
        """End jobs; those that are gone are no error."""
        first, rest = job_ids[0], job_ids[1:]

        def read(reply: Reply) -> Question[None] | None:
            answer(reply, forgiven=("Invalid job id", "already completing or completed"))
            return self.cancel(rest) if rest else None

        return self._ask(
            "DELETE", f"/slurm/{{version}}/job/{quote(first)}", read,
            lambda: self._line.cancel(job_ids),
        )  # fmt: skip

    def limits(self) -> Question[Limits]:
        """What the command line says; slurmrestd tells no limits."""
        if self.options.command_line:
            return self._line.limits()

        def none(reply: Reply) -> Limits:
            answer(reply)
            return Limits()

        return self._ask("GET", "/slurm/{version}/ping", none)

    def _ask(
        self,
        method: str,
        path: str,
        read: Callable[[Reply], T | Question[T]],
        instead: Callable[[], Question[T]] | None = None,
        *,
        body: Callable[[int], dict[str, Any]] | None = None,
        reading: bool = True,
    ) -> Question[T]:
        """A request; `instead` is asked when nobody is there, if that is wanted.

        What changes something is asked again elsewhere only if the request did not go out.
        """

        def first(reply: Reply) -> T | Question[T]:
            away = reply.unsent or (reading and reply.status is None)
            if away and instead and self.options.command_line:
                self._warn("away", f"slurmrestd of cluster {self.name} is away: {reply.error}", 60)
                return instead()
            return read(reply)

        def versioned(version: str) -> Question[T]:
            content = body(_number(version)) if body else None
            return Question(self._request(method, path.format(version=version), content), first)

        def discovered(reply: Reply) -> T | Question[T]:
            if reply.status is None:
                return first(reply)
            self._version = _newest(answer(reply))
            return versioned(self._version)

        if self._version:
            return versioned(self._version)
        return Question(self._request("GET", "/openapi/v3", None), discovered)

    def _request(self, method: str, path: str, content: dict[str, Any] | None) -> HttpRequest:
        base = self.options.url.rstrip("/")
        url = f"{base}:{path}" if base.startswith("unix:") else base + path
        headers = {"Content-Type": "application/json"} if content else {}
        if token := self._token():
            headers |= {"X-SLURM-USER-NAME": self._user, "X-SLURM-USER-TOKEN": token}
        return HttpRequest(
            url=url,
            method=method,
            headers=headers,
            body=json.dumps(content) if content else None,
            timeout_s=self.options.timeout_s,
        )

    def _token(self) -> str | None:
        """The token as it is now; UnreachableError when it is no use any more."""
        given = self.options.user_token
        if given is None:
            return os.environ.get("SLURM_JWT")
        token = read_token(given, f"The token of cluster {self.name!r}")
        if told := token.expires_soon():
            self._warn("token", told, 3600)
        return token.text

    def _warn(self, kind: str, text: str, pause_s: float) -> None:
        """Log a warning, not more often than that."""
        now = time.monotonic()
        if now - self._warned.get(kind, -pause_s) >= pause_s:
            self._warned[kind] = now
            log.warning("%s", text)

    def _mine(self, reply: Reply) -> dict[str, JobStatus]:
        return read_jobs(reply, self._user)

    def _job(self, request: JobRequest, script: str, version: int) -> dict[str, Any]:
        given = fields(script, version)
        environment = {**job_environment(self._user), **_told(given)}
        return {
            **given,
            "name": request.full_name,
            "current_working_directory": str(request.working_directory),
            "standard_output": literal(request.standard_output),
            "standard_error": literal(request.standard_error),
            "open_mode": "append",
            "environment": environment
            if version < 39
            else [f"{name}={text}" for name, text in environment.items()],
        }


def _told(given: dict[str, Any]) -> dict[str, str]:
    """Variables that `sbatch`, and not the controller, tells a job (sbatch(1))."""
    variables = {
        "cpus_per_task": "SLURM_CPUS_PER_TASK",
        "tasks": "SLURM_NTASKS",
        "memory_per_node": "SLURM_MEM_PER_NODE",
        "memory_per_cpu": "SLURM_MEM_PER_CPU",
    }
    return {variables[field]: str(text) for field, text in given.items() if field in variables}


def _number(version: str) -> int:
    """N of v0.0.N."""
    match = re.fullmatch(r"v0\.0\.(\d+)", version)
    if match is None:
        raise RequestError(f"'api_version' is {version!r}; a version such as v0.0.38 is expected.")
    return int(match[1])


def _newest(specification: Any) -> str:
    """The newest version that both sides know."""
    paths = specification.get("paths", {}) if isinstance(specification, dict) else {}
    served = {
        int(match[1]) for path in paths if (match := re.match(r"/slurm/v0\.0\.(\d+)/jobs", path))
    }
    usable = [version for version in served if version <= KNOWN]
    if not usable:
        raise UnreachableError(
            f"slurmrestd serves {sorted(served) or 'no version'} of v0.0.N, of which none is known "
            f"here (v0.0.36 to v0.0.{KNOWN})."
        )
    return f"v0.0.{max(usable)}"
