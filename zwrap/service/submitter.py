"""Station "submitter": a recipe step becomes exactly one batch job."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from zwrap.attempt.directory import SUBMISSION, JobDirectory
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import Attempt, encode_submission
from zwrap.calls.ask import ask
from zwrap.configuration.clusters import policy_of
from zwrap.configuration.recipe_id import recipe_context
from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, RequestError, TemporaryError
from zwrap.host.files import sync_directory, write_atomically
from zwrap.host.paths import state_directory
from zwrap.job import JobRequest
from zwrap.message import Outgoing, token_of
from zwrap.recipe.envelope import Envelope
from zwrap.service.contract import Service, Work
from zwrap.submission.clusters import Cluster
from zwrap.submission.handover import PendingJob, Tell
from zwrap.submission.quota import Quota
from zwrap.submission.request import PreparedJob
from zwrap.submission.script import Renderer, seen_from_elsewhere
from zwrap.submission.submit import submit_all
from zwrap.transport.contract import Delivery, Transport, Unit
from zwrap.transport.diagnosis import recipe_id_of

log = logging.getLogger(__name__)


PORTION = 32
"""So many are told of in one unit."""

LIMITS_S = 3600.0
"""So long it is remembered how large an array may be."""


class Step(NamedTuple):
    """A recipe step and the job that it becomes."""

    work: Work
    envelope: Envelope
    cluster: Cluster
    job: PendingJob


class Submitter(Service):
    """Submits batch jobs (queue `cluster.submission`)."""

    queue = "cluster.submission"
    prefetch = 1000
    batch_size = 1000

    def __init__(self, configuration: Configuration, transport: Transport) -> None:
        super().__init__(configuration, transport)
        self._renderer = Renderer(configuration)
        self._ledger = Ledger.of(configuration)
        self._quotas: dict[str, Quota] = {}
        self._largest: dict[str, tuple[float, int | None]] = {}

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        """Submit the job of one recipe step, unless it is there, and tell `job_submitted`."""
        [problem] = self.handle_all([Work(delivery, envelope)])
        if problem:
            raise problem

    def handle_all(self, work: Sequence[Work]) -> list[Exception | None]:
        """Submit the jobs of recipe steps that waited together."""
        problems: dict[Delivery, Exception] = {}
        steps: dict[str, list[Step]] = defaultdict(list)
        for each in work:
            with _noting(problems, each):
                step = self._prepared(each)
                steps[step.cluster.name].append(step)
        for of_one in steps.values():
            self._submit(of_one, problems)
        return [problems.get(each.delivery) for each in work]

    def _prepared(self, work: Work) -> Step:
        """All that the job of a step needs; nothing is written yet."""
        delivery, envelope = work
        if envelope is None:
            raise MessageError("A job is submitted for a recipe step only.")
        prepared, cluster = self._renderer.prepare(envelope, token_of(delivery.message))
        request = prepared.request
        policy = policy_of(
            envelope.step["parameters"].get("retry"),
            cluster.settings.retry,
            f"node {envelope.pointer}, parameters",
        )
        kept = encode_submission(delivery.message, delivery.source, request.resources, policy)
        if not cluster.settings.shared_filesystem:
            job = self._remote_job(prepared, cluster, _attempt(envelope, request), kept)
            return Step(work, envelope, cluster, job)
        script = self._renderer.script(request, cluster)
        job = PendingJob(
            request,
            request.job_directory / "script",
            _attempt(envelope, request),
            script,
            functools.partial(self._write_files, prepared, script, kept),
        )
        return Step(work, envelope, cluster, job)

    def _remote_job(
        self, prepared: PreparedJob, cluster: Cluster, attempt: Attempt, kept: bytes
    ) -> PendingJob:
        """A job whose script brings along all files, for its nodes see none of ours."""
        request = prepared.request
        inlined = {request.job_directory / SUBMISSION: kept, **prepared.files}
        script = self._renderer.script(request, cluster, inlined)
        file = state_directory() / "scripts" / request.token

        def write() -> None:
            self._ledger.words.keep(request.token, kept.decode())
            with _told_plainly():
                file.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(file, script, mode=0o750)

        return PendingJob(seen_from_elsewhere(request), file, attempt, script, write)

    def _submit(self, steps: Sequence[Step], problems: dict[Delivery, Exception]) -> None:
        """Submit the jobs of one cluster, and tell of each as soon as it is there."""
        left: dict[str, list[Step]] = defaultdict(list)
        for step in steps:
            left[step.job.attempt.token].append(step)

        def tell(news: Sequence[tuple[str, str | Exception]]) -> None:
            self._tell([(s, outcome) for token, outcome in news for s in left.pop(token)], problems)

        try:
            self._submit_jobs(steps[0].cluster, [step.job for step in steps], tell)
        except Exception as error:
            tell([(token, error) for token in left])

    def _submit_jobs(
        self,
        cluster: Cluster,
        jobs: Sequence[PendingJob],
        tell: Tell,
    ) -> None:
        name = cluster.name
        if name not in self._quotas:
            self._quotas[name] = Quota(name, cluster.scheduler, cluster.settings.max_jobs)
        largest = self._largest_array(cluster) if len(jobs) > 1 else None
        admit = self._quotas[name].admit
        submit_all(self._ledger, cluster.scheduler, jobs, tell, admit, largest)

    def _largest_array(self, cluster: Cluster) -> int | None:
        """How many tasks an array may have; as asked of the batch system from time to time."""
        if cluster.scheduler.arrays is None or not cluster.settings.shared_filesystem:
            return None  # the script of an array finds those of its tasks by their paths
        asked, size = self._largest.get(cluster.name, (float("-inf"), None))
        if time.monotonic() - asked > LIMITS_S:
            size = ask(cluster.scheduler.limits()).array_size
            self._largest[cluster.name] = time.monotonic(), size
        return self.batch_size if size is None else min(size, self.batch_size)

    def _tell(
        self,
        outcomes: Sequence[tuple[Step, str | Exception]],
        problems: dict[Delivery, Exception],
    ) -> None:
        """Send `job_submitted` for jobs that are there.

        What goes to the same places shares its fate, and goes in units of some: where each message
        is synced to disk that costs less.
        """
        ready: dict[tuple[str, ...], list[tuple[Work, list[Outgoing]]]] = defaultdict(list)
        for step, outcome in outcomes:
            with _noting(problems, step.work):
                if not step.cluster.settings.shared_filesystem:
                    step.job.script.unlink(missing_ok=True)  # the batch system has it, or no job
                messages = _job_submitted(step, outcome)
                places = tuple(message.destination for message in messages)
                ready[places].append((step.work, messages))
        for alike in ready.values():
            for start in range(0, len(alike), PORTION):
                some = alike[start : start + PORTION]
                try:
                    self.transport.commit(
                        [message for _, messages in some for message in messages],
                        [work.delivery for work, _ in some],
                    )
                except Exception as error:
                    problems |= {work.delivery: error for work, _ in some}

    def _write_files(self, prepared: PreparedJob, script: str, kept: bytes) -> None:
        """Everything the job, and who has the last word on it, needs; each file whole, before the
        job exists.
        """
        request = prepared.request
        with _told_plainly():
            request.working_directory.mkdir(parents=True, exist_ok=True)
            JobDirectory(request.job_directory)
            file = request.job_directory / "script"
            write_atomically(file, script, mode=0o750, name_durable=False)
            write_atomically(request.job_directory / SUBMISSION, kept, name_durable=False)
            for path, content in prepared.files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, content, name_durable=False)
            for parent in {path.parent for path in (file, *prepared.files)}:
                sync_directory(parent)

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()


def _job_submitted(step: Step, outcome: str | Exception) -> list[Outgoing]:
    """What is told of a job that is there, under ids that a repeat repeats."""
    if isinstance(outcome, Exception):
        raise outcome
    envelope, cluster = step.envelope, step.cluster.name
    told = {"jobid": int(outcome) if outcome.isdecimal() else outcome, "scheduler": cluster}
    log.info("Node %s is job %s on cluster %s", envelope.pointer, outcome, cluster)
    unit = Unit(step.work.delivery.message.id)
    unit.send(*envelope.send("job_submitted", told, default=True))
    return unit.outgoing


@contextlib.contextmanager
def _noting(problems: dict[Delivery, Exception], work: Work) -> Iterator[None]:
    """What goes wrong meanwhile is the problem of that message, and of no other."""
    try:
        with recipe_context(recipe_id_of(work.delivery.message)):
            yield
    except Exception as error:
        problems[work.delivery] = error


@contextlib.contextmanager
def _told_plainly() -> Iterator[None]:
    """What keeps the files of a job from being written, in a sentence."""
    try:
        yield
    except OSError as error:
        kind = RequestError if isinstance(error, _PERMANENT_FAULTS) else TemporaryError
        raise kind(
            f"The files of the job cannot be written: {error.filename}: {error.strerror}."
        ) from None


_PERMANENT_FAULTS = (PermissionError, FileExistsError, NotADirectoryError, FileNotFoundError)


def _attempt(envelope: Envelope, request: JobRequest) -> Attempt:
    return Attempt(
        token=request.token,
        recipe_id=envelope.recipe_id,
        step=envelope.pointer,
        cluster=request.cluster,
        job_name=request.job_name,
        job_directory=str(request.job_directory),
    )
