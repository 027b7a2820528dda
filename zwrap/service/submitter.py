"""Station "submitter": a recipe step becomes exactly one batch job."""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path

from msgspec.structs import replace

from zwrap.clusters import Cluster, Clusters
from zwrap.configuration import Configuration
from zwrap.envelope import Envelope
from zwrap.errors import MessageError, RequestError, TemporaryError
from zwrap.files import write_atomically
from zwrap.job import JobRequest
from zwrap.jobdirectory import SUBMISSION, JobDirectory
from zwrap.ledger import Attempt, Ledger
from zwrap.message import ATTEMPT_HEADER, ID_HEADER, attempt_of, encode, token_of
from zwrap.request import PreparedJob, prepare
from zwrap.service import Service
from zwrap.submission import submit_once
from zwrap.submission.inflight import InFlight
from zwrap.template import Templates
from zwrap.transport import Delivery, Transport

log = logging.getLogger(__name__)


class Submitter(Service):
    """Submits batch jobs (queue `cluster.submission`)."""

    queue = "cluster.submission"

    def __init__(self, configuration: Configuration, transport: Transport) -> None:
        super().__init__(configuration, transport)
        self._renderer = Renderer(configuration)
        self._ledger = Ledger.of(configuration)
        self._inflight: dict[str, InFlight] = {}

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        """Submit the job of one recipe step, unless it is there, and tell `job_submitted`."""
        if envelope is None:
            raise MessageError("A job is submitted for a recipe step only.")
        prepared, cluster = self._renderer.prepare(envelope, token_of(delivery.message))
        request, attempt = prepared.request, _attempt(envelope, prepared.request)
        script = self._renderer.script(request, cluster)
        prepared.files[request.job_directory / SUBMISSION] = _kept(delivery)
        file = self._write_files(prepared, script)
        inflight = self._in_flight(cluster)
        job_id = submit_once(
            self._ledger, cluster.scheduler, request, file, attempt, inflight.admit
        )
        with self.transport.unit(delivery) as unit:
            told = {"jobid": int(job_id) if job_id.isdecimal() else job_id}
            told["scheduler"] = request.cluster
            unit.send(*envelope.send("job_submitted", told, default=True))
        log.info(
            "Node %s is job %s on cluster %s",
            envelope.pointer,
            job_id,
            request.cluster,
            extra={"recipe_ID": envelope.recipe_id},
        )

    def _in_flight(self, cluster: Cluster) -> InFlight:
        name = cluster.name
        if name not in self._inflight:
            self._inflight[name] = InFlight(name, cluster.scheduler, cluster.max_jobs)
        return self._inflight[name]

    def _write_files(self, prepared: PreparedJob, script: str) -> Path:
        """Everything the job needs, each file whole, before the job exists; the script's path."""
        request = prepared.request
        try:
            request.working_directory.mkdir(parents=True, exist_ok=True)
            directory = JobDirectory(request.job_directory)
            for path, content in prepared.files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, content)
            for program in ("zocalo.wrap", "zwrap"):
                directory.link_program(program, own_program(program))
            file = request.job_directory / "script"
            write_atomically(file, script, mode=0o750)
        except OSError as error:
            kind = RequestError if isinstance(error, _HOPELESS) else TemporaryError
            raise kind(
                f"The files of the job cannot be written: {error.filename}: {error.strerror}."
            ) from None
        return file

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()


_HOPELESS = (PermissionError, FileExistsError, NotADirectoryError, FileNotFoundError)


class Renderer:
    """From a recipe step to job request and script, without submitting anything."""

    def __init__(self, configuration: Configuration) -> None:
        self._templates = Templates(configuration.directory("zwrap.template_directory"))
        self._configuration = configuration
        self._clusters = Clusters(configuration)

    def prepare(self, envelope: Envelope, token: str) -> tuple[PreparedJob, Cluster]:
        """The job request of a step, and the cluster that it is for."""
        prepared = prepare(
            envelope, token, self._clusters.default, lambda name: self._clusters.get(name).defaults
        )
        return prepared, self._clusters.get(prepared.request.cluster)

    def script(self, request: JobRequest, cluster: Cluster) -> str:
        """The job script."""
        handed = job_environment(self._configuration, request)
        given = {**handed, **request.environment}
        rendered = replace(request, environment=given)
        return self._templates.render(cluster.template, rendered, cluster.scheduler.options)


def job_environment(configuration: Configuration, request: JobRequest) -> dict[str, str]:
    """What a job is told of this site, and nothing else of the submitting host."""
    return {
        "ZWRAP_TOKEN": request.token,
        "ZWRAP_JOB_DIRECTORY": str(request.job_directory),
        **configuration.for_jobs(),
    }


def own_program(name: str) -> Path:
    """The console script of this very installation."""
    beside = Path(sys.executable).with_name(name)
    if beside.exists():
        return beside
    found = shutil.which(name)
    if found:
        return Path(found).absolute()
    raise TemporaryError(f"The program {name} of this installation was not found beside {beside}.")


def _kept(delivery: Delivery) -> bytes:
    """The message as an exported dead letter is: `zwrap resubmit` sends it again."""
    message = delivery.message
    header = {**message.headers, ID_HEADER: message.id, ATTEMPT_HEADER: attempt_of(message.headers)}
    header["original-destination"] = f"/queue/{delivery.source}"
    return encode({"exported": {}, "header": header, "message": message.body})


def _attempt(envelope: Envelope, request: JobRequest) -> Attempt:
    return Attempt(
        token=request.token,
        recipe_id=envelope.recipe_id,
        step=envelope.pointer,
        cluster=request.cluster,
        job_name=request.job_name,
        job_directory=str(request.job_directory),
    )
