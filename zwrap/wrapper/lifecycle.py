"""Station "wrapper": the life of one recipe step inside its job.

claim, read the envelope, heartbeats from the first moment, ``starting``, the program, its
outputs parsed and sent, ``success`` or ``failure``, ``completed``. The channels, payloads and
their order are those of `zocalo.wrap`; new are the claim, the verdict and the exit status.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from zwrap import plugins
from zwrap.attempt.directory import JobDirectory, job_directory
from zwrap.attempt.verdict import Verdict
from zwrap.calls.batchjob import BatchJob
from zwrap.configuration.recipe_id import set_process_recipe
from zwrap.configuration.site import Configuration
from zwrap.errors import PERMANENT, MessageError, UnknownNameError, ZwrapError
from zwrap.host.ending import become_subreaper, end_leftovers
from zwrap.job import Outcome
from zwrap.message import decode
from zwrap.program.definition import Checkpoint
from zwrap.program.reading import find_program, program_names
from zwrap.recipe.envelope import Envelope
from zwrap.transport.contract import Transport
from zwrap.wrapper.ending import NEAR_LIMIT, Stop, end_of, outgoing, submission_of
from zwrap.wrapper.heartbeat import Heartbeat, Status
from zwrap.wrapper.interruption import (
    OUT_OF_MEMORY,
    OVER_MEMORY,
    Why,
    oom_kills,
    over_address_space,
    why_stopped,
)
from zwrap.wrapper.outbox import SEND_WAIT_S, Courier, Speech
from zwrap.wrapper.process import Program
from zwrap.wrapper.python import BaseWrapper, RecipeWrapper, StatusNotifications
from zwrap.wrapper.signals import Meaning, watched
from zwrap.wrapper.step import ProgramStep, StepResult

log = logging.getLogger(__name__)


class StoppedError(ZwrapError):
    """A signal asked a wrapper written in Python to stop."""

    exit_status = 143


def read_envelope(file: Path) -> Envelope:
    """The recipe step in a recipe wrapper file; MessageError says what is wrong with it."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise MessageError(
            f"The recipe wrapper file {file} cannot be read: {error.strerror}."
        ) from None
    try:
        return Envelope.from_body(decode(content, f"recipe wrapper file {file}"))
    except MessageError as error:
        text = str(error)
        raise MessageError(text if str(file) in text else f"{file}: {text}") from None


class Wrapper:
    """One run of `zocalo.wrap`."""

    def __init__(
        self,
        name: str,
        envelope: Envelope,
        configuration: Configuration,
        connect: Callable[[], Transport],
        programs: Path | None = None,
    ) -> None:
        self._name = name
        self._envelope = envelope
        self._configuration = configuration
        self._connect = connect
        self._programs = programs
        self._job = BatchJob.from_environment()
        set_process_recipe(envelope.recipe_id)
        # Without a submitter that named the attempt every run is an attempt of its own.
        self._token = os.environ.get("ZWRAP_TOKEN") or f"{uuid.uuid4().hex}-1"
        given = os.environ.get("ZWRAP_JOB_DIRECTORY")
        self._directory = JobDirectory(
            Path(given) if given else job_directory(Path.cwd(), self._token)
        )
        self._submission = submission_of(self._directory)
        self._speech = Speech(self._directory, self._token, 1)
        self._running: Program | None = None
        self._checkpoint: Checkpoint | None = None
        self._began, self._since = time.monotonic(), time.time()
        self._stopped_by: str | None = None
        self._over_memory = False
        """Whether the job's processes had too much memory when it was stopped."""
        self._interruptible = False
        """Whether a wrapper written in Python runs, which only an exception can stop."""

    def run(self) -> int:
        """Live the whole life; the exit status."""
        job_id = self._job.job_id or f"{os.getpid()}"
        other = self._directory.claim(self._token, job_id)
        if other:
            log.warning(
                "Attempt %s is run by job %s (%s) already; this job has nothing to do",
                self._token,
                other.job_id,
                other.process,
            )
            return 0
        claim = self._directory.claimed()
        run = max(claim.run if claim else 1, self._job.restarts + 1)
        self._speech = Speech(self._directory, self._token, run)
        verdict = self._directory.verdict()
        if verdict is None:
            self._directory.reserve()
            return self._live(job_id)
        log.warning("Attempt %s has ended before: %s", self._token, verdict.cause)
        self._send_rest(verdict)
        return verdict.exit_status

    def _live(self, job_id: str) -> int:
        self._directory.keep_envelope(self._envelope.to_json())
        task = self._envelope.task
        fields = {**self._job.fields, "token": self._token}
        if self._envelope.recipe_id:
            fields["recipe_ID"] = self._envelope.recipe_id
        heartbeat = Heartbeat(f"{self._name} ({task})" if task else self._name, self._name, fields)
        courier = Courier(self._connect, self._directory.outbox, heartbeat.body)
        speech = self._speech
        with watched(self._job.system, self._signalled):
            speech.post(courier, outgoing(self._envelope, "starting", "Starting processing"))
            heartbeat.status = Status.PROCESSING
            courier.beat()
            killed = oom_kills()
            result = self._run_step(heartbeat, courier)
            why = why_stopped(self._job, self._since) if self._stopped_by else Why()
            if self._over_memory:
                why = OVER_MEMORY
            if result.failures and not why.cause and oom_kills() > killed:
                why = OUT_OF_MEMORY
            if why.again:
                return self._leave_to_next_run(courier)
            verdict = self._verdict(result, job_id, heartbeat, why)
            if verdict.outcome is not Outcome.RETRIED:  # else the next attempt has its own
                speech.post(courier, result.messages)
            heartbeat.status = Status.ERROR if result.failures else Status.END
            return speech.say_last(courier, verdict, self._is_stopped)

    def _is_stopped(self) -> bool:
        return self._stopped_by is not None

    def _leave_to_next_run(self, courier: Courier) -> int:
        """Say nothing more: the same job runs again, and takes the claim over."""
        log.warning("Stopped by %s; the batch system runs this job again", self._stopped_by)
        courier.close(SEND_WAIT_S)
        return StoppedError.exit_status

    def _send_rest(self, verdict: Verdict) -> None:
        """Send the last messages of a verdict whose speaker died before it could."""
        if self._directory.is_sent:
            return
        courier = Courier(self._connect, self._directory.outbox, dict)
        self._speech.send_rest(courier, verdict, self._is_stopped)

    def _run_step(self, heartbeat: Heartbeat, courier: Courier) -> StepResult:
        """Run the program or the Python wrapper; whatever goes wrong becomes a failure."""
        try:
            parameters = self._envelope.job_parameters
            definition = find_program(self._name, parameters, self._programs)
            if definition is not None:
                self._checkpoint = definition.checkpoint
                return ProgramStep(definition, self._envelope, heartbeat).run(self._started)
            return self._run_python(heartbeat, courier)
        except ZwrapError as error:
            log.error("%s", error)
            return StepResult(failures=[str(error)], exit_status=error.exit_status)
        except Exception as error:
            log.exception("The wrapper failed")
            return StepResult(failures=[f"{type(error).__name__}: {error}"], exit_status=PERMANENT)

    def _run_python(self, heartbeat: Heartbeat, courier: Courier) -> StepResult:
        kind = plugins.find(plugins.WRAPPERS, self._name)
        if kind is None:
            known = [*plugins.names(plugins.WRAPPERS), *program_names(self._programs)]
            raise UnknownNameError("wrapper", self._name, known)
        instance: BaseWrapper = kind(environment={"config": self._configuration})
        instance.status_thread = StatusNotifications(heartbeat, courier.beat)
        instance.set_recipe_wrapper(
            RecipeWrapper(self._envelope, lambda messages: self._speech.post(courier, messages))
        )
        become_subreaper()
        self._interruptible = True
        try:
            succeeded = instance.run()
        finally:
            self._interruptible = False
            end_leftovers()
        if succeeded:
            return StepResult(failures=[], exit_status=0)
        return StepResult(failures=["Processing failed"], exit_status=1)

    def _started(self, running: Program) -> None:
        self._running = running
        if self._stopped_by:
            running.stop(self._stopped_by)
        elif self._checkpoint:
            limit_s = self._submission.asked.time_limit if self._submission else None
            before_s = self._checkpoint.before_s
            if limit_s and limit_s > before_s:
                due_s = limit_s - before_s - (time.monotonic() - self._began)
                timer = threading.Timer(max(due_s, 0.0), self._save)
                timer.daemon = True  # nobody waits for it when the program ends before
                timer.start()

    def _save(self) -> None:
        """Let the program save and end, for its job is about to."""
        if self._running and self._checkpoint and not self._stopped_by:
            self._stopped_by = NEAR_LIMIT
            self._running.stop(NEAR_LIMIT, 0.9 * self._checkpoint.before_s)

    def _signalled(self, number: signal.Signals, meaning: Meaning) -> None:
        if meaning is not Meaning.STOP:
            log.warning("Signal %s means %s to this job", number.name, meaning.value)
            if meaning is Meaning.WARN:
                self._save()
            return
        if self._stopped_by is None:
            self._stopped_by = number.name
            self._over_memory = self._job.system == "sge" and over_address_space()
        if self._running:
            self._running.stop(number.name)
        elif self._interruptible:
            raise StoppedError(f"The step was stopped by {number.name}.")

    def _verdict(self, result: StepResult, job_id: str, heartbeat: Heartbeat, why: Why) -> Verdict:
        peak_mib = round(heartbeat.usage.peak_mib, 1)
        facts = {
            "program": self._name,
            "job_id": self._job.job_id,
            "peak_memory_mib": peak_mib or None,
        }
        stop = Stop(self._stopped_by, why, time.monotonic() - self._began)
        end = end_of(self._envelope, result, facts, stop, self._submission, self._checkpoint)
        if result.failures:
            log.error("Step failed: %s", end.cause)
        return Verdict(
            token=self._token,
            outcome=end.outcome,
            witness="wrapper",
            cause=end.cause,
            job_id=job_id,
            exit_status=result.exit_status,
            elapsed_s=result.facts.get("elapsed_s", 0.0),
            peak_memory_mib=peak_mib,
            program=self._name,
            program_exit_status=result.facts.get("exit_status"),
            final=self._speech.identified(end.messages),
        )
