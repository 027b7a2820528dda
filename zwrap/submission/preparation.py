"""Preparation of recipe steps as pending jobs: request, script and files of each."""

from __future__ import annotations

import functools
import logging
from contextlib import AbstractContextManager

from zwrap.attempt.directory import SUBMISSION
from zwrap.attempt.ledger.fitting import check_storable
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import Attempt, encode_submission, kind_of
from zwrap.attempt.secret import SECRET, new_secret
from zwrap.attempt.sender import sender_in
from zwrap.configuration.clusters import policy_of
from zwrap.configuration.site import Configuration
from zwrap.errors import RequestError
from zwrap.host.beneath import AllowedDirectories
from zwrap.host.faults import of_named_paths
from zwrap.host.files import sync_directory, write_atomically
from zwrap.host.modes import OWN_SCRIPT, PRIVATE_SCRIPT, make_private
from zwrap.host.paths import in_state_directory
from zwrap.job import JobRequest
from zwrap.message.content import Message
from zwrap.recipe.envelope import Envelope
from zwrap.scheduler import Scheduler
from zwrap.submission.clusters import Cluster
from zwrap.submission.dependency import run_of
from zwrap.submission.execution import check_replaceable
from zwrap.submission.named import OpenDirectories
from zwrap.submission.pending import PendingJob
from zwrap.submission.recognition import Recognized
from zwrap.submission.refused import refused_attempt
from zwrap.submission.request import PreparedJob, parameters_of
from zwrap.submission.script import Renderer, seen_from_elsewhere
from zwrap.submission.tasks import task_in, whole_of

log = logging.getLogger(__name__)


class Preparation:
    """Preparation of the jobs of recipe steps, by the clusters and templates of a site."""

    def __init__(self, configuration: Configuration, ledger: Ledger) -> None:
        self._renderer = Renderer(configuration)
        self._ledger = ledger
        self._allowed = configuration.site.allowed
        if missing := self._renderer.clusters.missing_default:
            log.error("%s", missing)  # a fault of the site, of which each such message becomes one

    def job_of(
        self, envelope: Envelope, message: Message, queue: str, whose: Recognized
    ) -> tuple[PendingJob, Cluster]:
        """Return the job of a step, and its cluster; nothing is written yet.

        Args:
            envelope: The step.
            message: The message that brought the step, which is kept for another attempt.
            queue: The queue from which the message came.
            whose: The attempt at the step.

        Raises:
            PermanentError: The step cannot be a job.
        """
        prepared, cluster = self._renderer.prepare(envelope, whose.token, task_in(message))
        request = prepared.request
        where = f"node {envelope.pointer}, parameters"
        policy = policy_of(parameters_of(envelope).get("retry"), cluster.settings.retry, where)
        kept = encode_submission(
            message, queue, request.resources, policy, whose.origin, whose.follows, request.cluster
        )
        attempt = _attempt(envelope, request, whose.digest, whole_of(message))
        shared = cluster.settings.shared_filesystem
        pending = self._shared_job if shared else self._remote_job
        sender = sender_in(envelope.environment)
        return pending(prepared, cluster, attempt, kept)._replace(sender=sender), cluster

    def refused_attempt(self, envelope: Envelope, message: Message, whose: Recognized) -> Attempt:
        """Return the row of a step that cannot be a job."""
        return refused_attempt(envelope, message, whose, self._renderer.clusters)

    def is_plain(self, job: PendingJob, cluster: Cluster) -> bool:
        """Return True if the script of a job does no more than the one that zwrap ships."""
        return job.text is not None and self._renderer.is_plain(job.request, cluster, job.text)

    def scheduler_of(self, cluster: str) -> Scheduler:
        """Return the batch system of a cluster; PermanentError if the site describes none."""
        return self._renderer.clusters.get(cluster).scheduler

    def _shared_job(
        self, prepared: PreparedJob, cluster: Cluster, attempt: Attempt, kept: bytes
    ) -> PendingJob:
        """Return a job whose files are in its job directory."""
        request = prepared.request
        script = self._renderer.script(request, cluster)
        write = functools.partial(_write_files, prepared, script, kept, self._allowed)
        return PendingJob(request, request.job_directory / "script", attempt, script, write)

    def _remote_job(
        self, prepared: PreparedJob, cluster: Cluster, attempt: Attempt, kept: bytes
    ) -> PendingJob:
        """Return a job whose script writes all its files, because its nodes see none of ours.

        It brings the secret of the attempt along, which stays the same if the job is submitted
        again: an earlier script may have reached the batch system.
        """
        request, secret = prepared.request, new_secret()
        inlined = {request.job_directory / SUBMISSION: kept, **prepared.files}
        inlined[request.job_directory / SECRET] = secret.encode()
        script = self._renderer.script(request, cluster, inlined)
        file = in_state_directory("scripts", request.token)

        def write() -> None:
            first = self._ledger.remote.keep(request.token, kept.decode(), secret)
            with _writing():
                make_private(file.parent)
                text = script.replace(secret, first or secret)
                write_atomically(file, text, mode=PRIVATE_SCRIPT)

        return PendingJob(seen_from_elsewhere(request), file, attempt, script, write)


def _write_files(
    prepared: PreparedJob, script: str, kept: bytes, allowed: AllowedDirectories
) -> None:
    """Write all files of a job, atomically and durably, before the job exists."""
    request = prepared.request
    with _writing(), OpenDirectories(allowed, prepared.places) as files:
        files.make_working(request.working_directory)
        files.make_job(request.job_directory)
        file, submission = request.job_directory / "script", request.job_directory / SUBMISSION
        write_atomically(files[file], script, mode=OWN_SCRIPT, name_durable=False)
        write_atomically(files[submission], kept, name_durable=False)
        for path, content in prepared.files.items():
            files.make_parent(path)
            check_replaceable(files[path])
            write_atomically(files[path], content, name_durable=False)
        for parent in files.directories():
            sync_directory(parent)
        for output in (request.standard_output, request.standard_error):
            allowed.check_opened(output, prepared.places.get(output, "The output of the job"))


def _writing() -> AbstractContextManager[None]:
    """Return a context that turns errors of the job's paths into zwrap's."""
    return of_named_paths("The files of the job cannot be written", RequestError)


def _attempt(envelope: Envelope, request: JobRequest, digest: str, task_of: str | None) -> Attempt:
    """Return the row of a new attempt; PermanentError if the ledger cannot hold it."""
    return check_storable(
        Attempt(
            token=request.token,
            recipe_id=envelope.recipe_id,
            step=envelope.pointer,
            cluster=request.cluster,
            job_name=request.job_name,
            job_directory=str(request.job_directory),
            digest=digest,
            asked=kind_of(request.resources),
            run=run_of(envelope),
            task_rank=request.task.rank if request.task else None,
            task_of=task_of,
        )
    )
