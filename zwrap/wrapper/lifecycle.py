"""Station "wrapper": the life of one recipe step inside its job.

The wrapper claims the attempt, begins to send heartbeats, sends ``starting``, runs the program,
sends its results, puts the verdict in place, and sends ``success`` or ``failure``, and
``completed``. Channels, payloads and their order are those of python-zocalo's ``zocalo.wrap``; new
are the claim, the verdict and the exit status.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from zwrap.attempt.directory import JobDirectory, job_directory
from zwrap.attempt.progress import Progress
from zwrap.attempt.record import KeptSubmission
from zwrap.attempt.refusals import Ending
from zwrap.attempt.verdict import QUEUE_VARIABLE, STARTING, Verdict, finals_of, messages_on
from zwrap.calls.batchjob import batch_job
from zwrap.configuration.recipe_id import set_process_recipe
from zwrap.configuration.site import Configuration
from zwrap.errors import PERMANENT, TEMPORARY, MessageError, ZwrapError
from zwrap.host.cgroup import oom_kills
from zwrap.job import BatchJob, Interruption, Outcome
from zwrap.message.content import Outgoing
from zwrap.program.choice import Choice, load
from zwrap.program.reading import SHIPPED_PREFIX
from zwrap.recipe.envelope import Envelope
from zwrap.scheduler import Inside
from zwrap.transport.contract import Transport
from zwrap.wrapper.ended import Ended
from zwrap.wrapper.ending import at_time_limit, concluded, with_results
from zwrap.wrapper.heartbeat import Heartbeat, Status
from zwrap.wrapper.interruption import OUT_OF_MEMORY, Told, learned, watched, why_stopped
from zwrap.wrapper.outbox import SEND_WAIT_S, Identities, Outbox
from zwrap.wrapper.permission import permitted_program
from zwrap.wrapper.step import ProgramStep
from zwrap.wrapper.stopping import StoppedError, Stopping
from zwrap.wrapper.telling import verdict_message

log = logging.getLogger(__name__)

LOOK_S = 5.0
"""Interval at which a job that waits without limit for its transport checks whether it was stopped,
in seconds."""


class Wrapper:
    """One call of `zocalo.wrap`, which claims the attempt and carries out a run of it.

    A step with a `fault` fails with it.
    """

    def __init__(
        self,
        name: str,
        envelope: Envelope,
        configuration: Configuration,
        connect: Callable[[], Transport],
        programs: Path | None = None,
        fault: str = "",
    ) -> None:
        self._name = name
        self._fault = fault
        self._envelope = envelope
        self._configuration = configuration
        self._connect = connect
        self._programs = programs

    def run(self) -> int:
        """Claim the attempt, run the step, and report its end; return the exit status.

        The status is 0 if another job runs the attempt.
        """
        set_process_recipe(self._envelope.recipe_id)
        # Without a Submitter that named the attempt, every run is a new attempt.
        token = os.environ.get("ZWRAP_TOKEN") or f"{uuid.uuid4().hex}-1"
        given = os.environ.get("ZWRAP_JOB_DIRECTORY")
        directory = JobDirectory(Path(given) if given else job_directory(Path.cwd(), token))
        directory.make()
        job, inside = batch_job()
        job_id = job.job_id or f"{os.getpid()}"
        other = directory.claim(token, job_id)
        if other:
            log.warning(
                "Attempt %s is run by job %s (%s) already; this job has nothing to do",
                token, other.job_id, other.process,
            )  # fmt: skip
            return 0
        claim = directory.claimed(token)
        number = max(claim.run if claim else 1, job.restarts + 1)
        run = Run(self._name, self._envelope, directory, job, inside, token, number)
        verdict = directory.verdict(token)
        if verdict is None:
            directory.reserve()
            run.fault = self._fault
            return run.live(self._configuration, self._connect, self._programs)
        log.warning("Attempt %s has ended before: %s", token, verdict.cause)
        return run.send_rest(verdict, self._connect)


class Run:
    """One run of an attempt, from its claim to its verdict."""

    def __init__(
        self,
        name: str,
        envelope: Envelope,
        directory: JobDirectory,
        job: BatchJob,
        inside: Inside,
        token: str,
        number: int,
    ) -> None:
        self._wanted = name
        self._name = name.removeprefix(SHIPPED_PREFIX)
        self._class = ""
        """Class that runs; empty: none."""
        self._envelope = envelope
        self._directory = directory
        self._job = job
        self._inside = inside
        self._token = token
        self._identities = Identities(token, number)
        self._submission = _kept(directory)
        self._stopping = Stopping.in_job(job, self._submission, self._stop_asked)
        self._since = time.time()
        self._told: Told = None
        """Answer of the inside half when the job was stopped."""
        self.fault = ""
        """Fault of the step, for which it fails before it begins; empty: it has none."""
        self._verdict_queue = os.environ.get(QUEUE_VARIABLE)
        """Queue for the verdict, if the submit host does not see the job directory."""

    def live(
        self, configuration: Configuration, connect: Callable[[], Transport], programs: Path | None
    ) -> int:
        """Run the step, report its end, and return the exit status."""
        self._directory.keep_envelope(self._envelope.to_json())
        heartbeat = self._heartbeat()
        outbox = Outbox(connect, self._directory, heartbeat.body, self._identities)
        outbox.start()
        try:
            with watched(self._inside.signals, self._stopping.signalled):
                began = outbox.post(messages_on(self._envelope, "starting", STARTING))
                heartbeat.status = Status.PROCESSING
                outbox.beat()
                killed = oom_kills()
                ended = self._run_step(heartbeat, outbox, configuration, programs)
                interruption = self._interruption(ended, oom_kills() > killed)
                if interruption.runs_again:
                    return self._leave_to_next_run(outbox)
                ended = with_results(outbox, ended, began, self._stopping.is_stopped)
                verdict = self._verdict(ended, heartbeat, interruption)
                if verdict.outcome is not Outcome.RETRIED:  # else the next attempt has its own
                    outbox.post(ended.messages)
                heartbeat.status = Status.ERROR if ended.failures else Status.END
                return self._end(outbox, verdict)
        finally:
            outbox.close()

    def send_rest(self, verdict: Verdict, connect: Callable[[], Transport]) -> int:
        """Send what a run that died could not send any more; return the exit status."""
        if self._directory.is_sent:
            return verdict.exit_status
        outbox = Outbox(connect, self._directory, dict)
        outbox.start()
        status = self._report(outbox, verdict)
        outbox.close()
        return status

    # -- the step ----------------------------------------------------------------------------------

    def _heartbeat(self) -> Heartbeat:
        """Return the heartbeat of this step."""
        task = self._envelope.task
        fields = {**self._job.fields, "token": self._token}
        if self._envelope.recipe_id:
            fields["recipe_ID"] = self._envelope.recipe_id
        return Heartbeat(f"{self._name} ({task})" if task else self._name, self._name, fields)

    def _run_step(
        self,
        heartbeat: Heartbeat,
        outbox: Outbox,
        configuration: Configuration,
        programs: Path | None,
    ) -> Ended:
        """Run the program or the Python wrapper; any error becomes a failure of the step."""
        if self.fault:
            return Ended(failures=[self.fault], returncode=PERMANENT)
        try:
            choice = Choice.of(self._wanted, programs)
            log.info("The %s", choice)
            if choice.entry is not None:
                from zwrap.wrapper.pythonstep import PythonStep  # not for definitions

                kind: Any = load(choice.entry)
                self._class = choice.entry.value
                stopping = self._stopping
                return PythonStep(
                    kind, self._envelope, configuration, heartbeat, outbox, stopping
                ).run()
            definition = permitted_program(self._wanted, self._envelope, configuration, programs)
            self._stopping.checkpoint = definition.checkpoint
            allowed, kept = configuration.site.allowed, self._directory.path
            step = ProgramStep(definition, self._envelope, heartbeat, allowed, kept)
            return step.run(self._stopping.running, self._stopping.ordered_by)
        except ZwrapError as error:
            log.error("%s", error)
            return Ended(failures=[str(error)], returncode=error.exit_status)
        except (Exception, SystemExit) as error:
            log.exception("The wrapper failed")
            return Ended(failures=[f"{type(error).__name__}: {error}"], returncode=PERMANENT)

    # -- its end -----------------------------------------------------------------------------------

    def _stop_asked(self) -> None:
        """Ask the inside half, which may measure, while the job's processes still run."""
        self._told = why_stopped(self._inside, self._job, self._since)

    def _interruption(self, ended: Ended, killed_by_kernel: bool) -> Interruption:
        """Return the interruption of the step from outside, if there was one."""
        if self._stopping.by and not self._told:
            self._stop_asked()
        why = learned(self._told)
        if ended.failures and not why.cause and killed_by_kernel:
            why = OUT_OF_MEMORY
        interruption = msgspec.structs.replace(why, by=self._stopping.by)
        return at_time_limit(interruption, self._stopping.ran_s, self._submission)

    def _leave_to_next_run(self, outbox: Outbox) -> int:
        """Send no final messages: the same job runs again, and takes over the claim."""
        log.warning("Stopped by %s; the batch system runs this job again", self._stopping.by)
        outbox.finish(SEND_WAIT_S)
        return StoppedError.exit_status

    def _verdict(self, ended: Ended, heartbeat: Heartbeat, interruption: Interruption) -> Verdict:
        """Return the verdict on the step, whose final messages have ids."""
        peak_mib = round(heartbeat.usage.peak_mib, 1)
        draft = Verdict(
            token=self._token,
            outcome=Outcome.SUCCESS,
            witness="wrapper",
            cause="",
            job_id=self._job.job_id or f"{os.getpid()}",
            exit_status=ended.wrapper_status,
            elapsed_s=ended.facts.get("elapsed_s", 0.0),
            peak_memory_mib=peak_mib,
            program=self._wanted,
            wrapper_class=self._class,
            program_exit_status=ended.facts.get("exit_status"),
            failed_commands=ended.facts.get("failed_commands", []),
        )
        facts = {
            "program": self._name,
            "job_id": self._job.job_id,
            "peak_memory_mib": peak_mib or None,
        }
        verdict = concluded(
            draft, ended, interruption, self._envelope, facts, self._submission,
            self._stopping.checkpoint, self._job.node,
        )  # fmt: skip
        if ended.failures:
            log.error("Step failed: %s", verdict.cause)
        return msgspec.structs.replace(verdict, final=self._identities.give(verdict.final))

    def _end(self, outbox: Outbox, verdict: Verdict) -> int:
        """Put the verdict in place, wait until everything is sent, and return the exit status."""
        if self._put(verdict):
            return self._report(outbox, verdict)
        return self._status(verdict, sent=self._finish(outbox))

    def _report(self, outbox: Outbox, verdict: Verdict) -> int:
        """Send what is left, then the final messages of a verdict; return the exit status."""
        directory, progress = self._directory, Progress(self._directory.progress)
        ending = Ending(verdict, progress, directory, self._envelope, self._final)
        outbox.end_with(ending)
        if sent := self._finish(outbox):
            ending.over()
        return self._status(ending.verdict, sent=sent)

    def _status(self, verdict: Verdict, *, sent: bool) -> int:
        """Return the exit status; `sent`: True if everything was sent."""
        if not sent:
            log.error("Not everything was sent; the rest stays in %s", self._directory.path)
        return verdict.exit_status if sent or not self._verdict_queue else TEMPORARY

    def _put(self, verdict: Verdict) -> bool:
        """Put the verdict in place; False: there is one, which counts."""
        try:
            return self._directory.put_verdict(verdict)
        except OSError as error:  # a full disk: two reports are better than none
            log.error("The verdict cannot be written: %s", error)
            return True

    def _final(self, verdict: Verdict) -> list[Outgoing]:
        """Return the final messages, or the one with the verdict if the Watcher is to send them."""
        if not self._verdict_queue:
            return finals_of(verdict)
        parent = self._identities.parent
        return [verdict_message(verdict, self._verdict_queue, parent, self._directory)]

    def _finish(self, outbox: Outbox) -> bool:
        """Send the rest; return True if everything was sent.

        The wait has no limit but the job's if nobody else sees the outbox.
        """
        sent = outbox.finish(SEND_WAIT_S)
        if self._verdict_queue:
            while not sent and not self._stopping.is_stopped():
                sent = outbox.finish(LOOK_S)
            # Messages that the transport refused for good are on this node only: not sent.
            sent = sent and not outbox.has_refused
        if sent:
            with contextlib.suppress(OSError):
                self._directory.mark_sent()
        return sent


def _kept(directory: JobDirectory) -> KeptSubmission | None:
    """Return the record of this job's submission; None if no Submitter submitted it."""
    with contextlib.suppress(MessageError):
        return directory.submission()
    return None
