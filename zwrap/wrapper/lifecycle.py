"""Station "wrapper": the life of one recipe step inside its job.

claim, read the envelope, heartbeats from the first moment, ``starting``, the program, its
outputs parsed and sent, ``success`` or ``failure``, ``completed``. The channels, payloads and
their order are those of `zocalo.wrap`; new are the claim, the verdict and the exit status.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec

from zwrap import plugins, program
from zwrap.configuration import Configuration
from zwrap.context import BatchJob, set_process_recipe
from zwrap.envelope import Envelope
from zwrap.errors import PERMANENT, TEMPORARY, MessageError, UnknownNameError, ZwrapError
from zwrap.job import Outcome
from zwrap.jobdirectory import QUEUE_VARIABLE, JobDirectory, Verdict, job_directory
from zwrap.message import Outgoing, child_id, decode
from zwrap.program import Checkpoint
from zwrap.transport import Transport
from zwrap.wrapper.base import BaseWrapper, RecipeWrapper, StatusNotifications
from zwrap.wrapper.cause import (
    OUT_OF_MEMORY,
    OVER_MEMORY,
    Why,
    oom_kills,
    over_address_space,
    why_stopped,
)
from zwrap.wrapper.courier import Courier
from zwrap.wrapper.ending import NEAR_LIMIT, Stop, end_of, outgoing, submission_of
from zwrap.wrapper.heartbeat import Heartbeat, Status
from zwrap.wrapper.process import Program, become_subreaper, end_leftovers
from zwrap.wrapper.signals import Meaning, watched
from zwrap.wrapper.step import ProgramStep, StepResult

log = logging.getLogger(__name__)

SEND_WAIT_S = 60.0
"""How long the wrapper waits at its end for a transport that is away; the rest stays on disk."""

LOOK_S = 5.0
"""So often one that waits longer looks whether it was asked to stop."""


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
        self._verdict_queue = os.environ.get(QUEUE_VARIABLE)
        """Where the verdict has to go, if nobody else sees this directory."""
        self._submission = submission_of(self._directory)
        self._parent, self._position = self._token, 0
        """What the ids of messages derive from."""
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
        if run > 1:
            # What this run says is not what an earlier one said under the same number.
            self._parent = f"{self._token}.{run}"
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
        with watched(self._job.system, self._signalled):
            self._post(courier, outgoing(self._envelope, "starting", "Starting processing"))
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
                self._post(courier, result.messages)
            heartbeat.status = Status.ERROR if result.failures else Status.END
            if self._speak(verdict):
                courier.post(self._last_messages(verdict))
            sent = self._close(courier)
        if sent:
            self._mark_sent()
            return verdict.exit_status
        log.error("Not everything was sent; the rest stays in %s/outbox", self._directory.path)
        return TEMPORARY if self._verdict_queue else verdict.exit_status

    def _last_messages(self, verdict: Verdict) -> list[Outgoing]:
        """Those of the step; one that holds them where its end has to be told elsewhere."""
        if not self._verdict_queue:
            return verdict.final
        told = Outgoing(self._verdict_queue, msgspec.to_builtins(verdict))
        return [told.with_id(child_id(self._parent, "verdict"))]

    def _close(self, courier: Courier) -> bool:
        """Send the rest; where nobody else sees the outbox, for as long as the job may live."""
        sent = courier.close(SEND_WAIT_S)
        if not self._verdict_queue:
            return sent
        while not sent and not self._stopped_by:
            sent = courier.close(LOOK_S)
        # What the transport refused for good lies on this node only, as if it had not been sent.
        return sent and not any(self._directory.outbox().dead_letters())

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
        courier.post(self._last_messages(verdict))
        if self._close(courier):
            self._mark_sent()

    def _speak(self, verdict: Verdict) -> bool:
        try:
            return self._directory.speak(verdict)
        except OSError as error:  # a full disk: rather say it twice than never
            log.error("The verdict cannot be written: %s", error)
            return True

    def _mark_sent(self) -> None:
        with contextlib.suppress(OSError):
            self._directory.mark_sent()

    def _post(self, courier: Courier, messages: list[Outgoing]) -> None:
        """Send messages under ids that a repeat of this attempt would repeat."""
        courier.post(self._identified(messages))

    def _identified(self, messages: list[Outgoing]) -> list[Outgoing]:
        first, self._position = self._position, self._position + len(messages)
        return [
            message.with_id(child_id(self._parent, position))
            for position, message in enumerate(messages, first)
        ]

    def _run_step(self, heartbeat: Heartbeat, courier: Courier) -> StepResult:
        """Run the program or the Python wrapper; whatever goes wrong becomes a failure."""
        try:
            parameters = self._envelope.job_parameters
            definition = program.find(self._name, parameters, self._programs)
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
            known = [*plugins.names(plugins.WRAPPERS), *program.names(self._programs)]
            raise UnknownNameError("wrapper", self._name, known)
        instance: BaseWrapper = kind(environment={"config": self._configuration})
        instance.status_thread = StatusNotifications(heartbeat, courier.beat)
        instance.set_recipe_wrapper(
            RecipeWrapper(self._envelope, lambda messages: self._post(courier, messages))
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
            final=self._identified(end.messages),
        )
