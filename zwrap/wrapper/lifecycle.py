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
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zwrap import plugins, program, retry
from zwrap.configuration import Configuration
from zwrap.context import BatchJob, set_process_recipe
from zwrap.envelope import Envelope
from zwrap.errors import PERMANENT, MessageError, UnknownNameError, ZwrapError
from zwrap.job import Outcome
from zwrap.jobdirectory import JobDirectory, Verdict, job_directory
from zwrap.message import Outgoing, child_id, decode
from zwrap.transport import Transport
from zwrap.wrapper.base import BaseWrapper, RecipeWrapper, StatusNotifications
from zwrap.wrapper.cause import OUT_OF_MEMORY, Why, oom_kills, why_stopped
from zwrap.wrapper.courier import Courier
from zwrap.wrapper.heartbeat import Heartbeat, Status
from zwrap.wrapper.process import Program, become_subreaper, end_leftovers
from zwrap.wrapper.signals import Meaning, watched
from zwrap.wrapper.step import ProgramStep, StepResult

log = logging.getLogger(__name__)

SEND_WAIT_S = 60.0
"""How long the wrapper waits at its end for a transport that is away; the rest stays on disk."""


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
        self._parent, self._position = self._token, 0
        """What the ids of messages derive from."""
        self._running: Program | None = None
        self._began, self._since = time.monotonic(), time.time()
        self._stopped_by: str | None = None
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
        if claim and claim.run > 1:
            # What this run says is not what an earlier one said under the same number.
            self._parent = f"{self._token}.{claim.run}"
        verdict = self._directory.verdict()
        if verdict is None:
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
            self._post(courier, self._outgoing("starting", "Starting processing"))
            heartbeat.status = Status.PROCESSING
            courier.beat()
            killed = oom_kills()
            result = self._run_step(heartbeat, courier)
            why = why_stopped(self._job, self._since) if self._stopped_by else Why()
            if result.failures and not why.cause and oom_kills() > killed:
                why = OUT_OF_MEMORY
            if why.again:
                return self._leave_to_next_run(courier)
            self._post(courier, result.messages)
            heartbeat.status = Status.ERROR if result.failures else Status.END
            verdict = self._verdict(result, job_id, heartbeat, why)
            if self._speak(verdict):
                courier.post(verdict.final)
            sent = courier.close(SEND_WAIT_S)
        if sent:
            self._mark_sent()
        else:
            log.error("Not everything was sent; the rest stays in %s/outbox", self._directory.path)
        return verdict.exit_status

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
        courier.post(verdict.final)
        if courier.close(SEND_WAIT_S):
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

    def _outgoing(self, channel: str, payload: str) -> list[Outgoing]:
        """Messages of one channel; a recipe that is wrong there must not end the job."""
        try:
            return self._envelope.send(channel, payload)
        except MessageError as error:
            log.error("Nothing can be sent on output %r: %s", channel, error)
            return []

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

    def _signalled(self, number: signal.Signals, meaning: Meaning) -> None:
        if meaning is not Meaning.STOP:
            log.warning("Signal %s means %s to this job", number.name, meaning.value)
            return
        self._stopped_by = self._stopped_by or number.name
        if self._running:
            self._running.stop(number.name)
        elif self._interruptible:
            raise StoppedError(f"The step was stopped by {number.name}.")

    def _verdict(self, result: StepResult, job_id: str, heartbeat: Heartbeat, why: Why) -> Verdict:
        outcome, cause, final = self._end(result, heartbeat, why)
        if result.failures:
            log.error("Step failed: %s", cause)
        return Verdict(
            token=self._token,
            outcome=outcome,
            witness="wrapper",
            cause=cause,
            job_id=job_id,
            exit_status=result.exit_status,
            elapsed_s=result.facts.get("elapsed_s", 0.0),
            peak_memory_mib=round(heartbeat.usage.peak_mib, 1),
            program=self._name,
            program_exit_status=result.facts.get("exit_status"),
            final=self._identified(final),
        )

    def _end(
        self, result: StepResult, heartbeat: Heartbeat, why: Why
    ) -> tuple[Outcome, str, list[Outgoing]]:
        """Outcome, cause, and what to send."""
        completed = self._outgoing("completed", "Finished processing")
        if not result.failures:
            success = self._outgoing("success", "Finished processing")
            return Outcome.SUCCESS, "finished", success + completed
        cause = "; ".join(result.failures)
        submission = self._submission()
        limit_s = submission.asked.time_limit if submission else None
        if not why.cause and limit_s and self._stopped_by and self._has_run_for(limit_s):
            words = f"that was at the batch system's time limit of {limit_s} s"
            why = Why(cause="timeout", words=words)
        cause = f"{cause}; {why.words}" if why.words else cause
        if submission and why.cause:
            node = os.environ.get("SLURMD_NODENAME")
            if again := retry.next_attempt(submission, why.cause, node):
                return Outcome.RETRIED, f"{cause}. {again.said}", [again.message]
        return Outcome.FAILURE, cause, self._failed(cause, result, heartbeat) + completed

    def _submission(self) -> retry.Kept | None:
        """What this job was submitted with, if a Submitter of ours did that."""
        with contextlib.suppress(MessageError):
            return retry.read(self._directory)
        return None

    def _has_run_for(self, limit_s: int) -> bool:
        """Whether the job is about at its limit. Batch systems look at limits now and then, and the
        job began before this process did.
        """
        return time.monotonic() - self._began >= 0.9 * limit_s

    def _failed(self, cause: str, result: StepResult, heartbeat: Heartbeat) -> list[Outgoing]:
        """What a failure has to say."""
        facts: dict[str, Any] = {
            "error": cause,
            "step": self._envelope.pointer,
            "program": self._name,
            "job_id": self._job.job_id,
            "peak_memory_mib": round(heartbeat.usage.peak_mib, 1) or None,
            **result.facts,
        }
        messages = self._outgoing("failure", cause)
        with contextlib.suppress(MessageError):
            messages += self._envelope.send_error(facts)
        return messages
