"""Conclusion of attempts whose jobs have ended: the verdict, and the messages still to send.

The verdict follows from the first of these that exists:

1. A verdict: it is final.
2. A claim without a verdict: the wrapper ran and died. That is a failure, whatever the exit status
   of the script that went on after it.
3. Neither: no wrapper of zwrap ever ran. The batch system decides; for a job that it calls
   completed nothing is sent, because the job's commands may have sent messages themselves.

The verdict is put in place before anything is sent, so that there is only one. An attempt whose
wrapper lives is not concluded.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from zwrap.attempt.directory import JobDirectory
from zwrap.attempt.finals import FinalSender, OutboxError
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import Attempt, parse_submission
from zwrap.attempt.verdict import Verdict
from zwrap.errors import MessageError, QueueFullError, TemporaryError, TransportError
from zwrap.host.files import NETWORK_FILESYSTEMS, filesystem_of, last_lines
from zwrap.host.processes import ProcessIdentity, is_alive
from zwrap.job import Cause, Outcome, State
from zwrap.recipe.envelope import Envelope
from zwrap.service.watcher.witness import died, finished
from zwrap.submission.clusters import Cluster
from zwrap.submission.request import is_handed_over
from zwrap.transport.contract import Transport
from zwrap.transport.spool.queue import SpoolQueue

log = logging.getLogger(__name__)

SETTLE_S, SETTLE_NETWORK_S = 1.0, 60.0
"""Time after the end of a job until all its files are visible here, in seconds: on a local and on a
network filesystem, where files of another host may become visible late."""

SETTLE_MESSAGE_S = 15.0
"""Longest time after the end of a job until a message of its wrapper arrives, in seconds."""

TAIL_BYTES, TAIL_LINES = 4096, 20
"""Size, in bytes and lines, of the end of the job's error output that error nodes get."""


class Conclusion(ABC):
    """The way in which attempts of one cluster are concluded."""

    @abstractmethod
    def has_verdict(self, attempt: Attempt) -> bool:
        """Return True if there is a verdict on an attempt."""

    @abstractmethod
    def settle_s(self, attempt: Attempt) -> float:
        """Return the time from the end of its job to the conclusion of an attempt, in seconds."""

    @abstractmethod
    def find(self, attempt: Attempt) -> Verdict | None:
        """Find or make the verdict on an attempt whose job has ended, and send its messages.

        Returns the verdict after all messages were sent. None: the attempt cannot be concluded now,
        because its wrapper lives, or because another process is sending the messages.

        Raises:
            MessageError: Nothing is left of which a verdict could be made.
            TransportError: The transport cannot be used now.
        """

    def conclude(self, attempt: Attempt) -> Verdict | None:
        """Do as `find` does, but make a fault of the attempt a verdict; None: try again later."""
        try:
            return self.find(attempt)
        except (MessageError, PermissionError) as error:
            log.error("Job %s: its end cannot be reported: %s", attempt.job_id, error)
            return _untold(attempt, str(error))
        except (QueueFullError, OutboxError, OSError) as error:
            log.warning("Job %s: its end will be reported later: %s", attempt.job_id, error)
            return None
        except TemporaryError:  # of the transport or the ledger
            raise
        except Exception as error:  # what lies there is odd; it must not keep other jobs waiting
            log.exception("Job %s: its end cannot be reported", attempt.job_id)
            return _untold(attempt, f"{type(error).__name__}: {error}.")


def _untold(attempt: Attempt, why: str) -> Verdict:
    """Return the verdict on an attempt whose end cannot be told to anybody."""
    return Verdict(
        token=attempt.token, outcome=Outcome.UNKNOWN, witness="none",
        cause=f"Its end could not be reported to anybody. {why}", job_id=str(attempt.job_id),
        exit_status=1,
    )  # fmt: skip


class InDirectory(Conclusion):
    """Conclusion of attempts by the files of their job directories."""

    def __init__(
        self, transport: Transport, error_patterns: Mapping[str, Cause] | None = None
    ) -> None:
        self._transport = transport
        self._error_patterns = error_patterns or {}

    def has_verdict(self, attempt: Attempt) -> bool:
        """Return True if there is a verdict in the job directory."""
        return JobDirectory(Path(attempt.job_directory)).has_verdict

    def settle_s(self, attempt: Attempt) -> float:
        """Return the time until all files of the job are visible here, in seconds."""
        network = filesystem_of(Path(attempt.job_directory)) in NETWORK_FILESYSTEMS
        return SETTLE_NETWORK_S if network else SETTLE_S

    def find(self, attempt: Attempt) -> Verdict | None:
        """Do as `Conclusion.find`; the verdict is in the job directory, or is put there."""
        directory = JobDirectory(Path(attempt.job_directory))
        if not directory.path.is_dir():
            raise MessageError(f"Its directory {directory.path} is gone.")
        claim = directory.claimed()
        wrapper = ProcessIdentity.parse(claim.process) if claim else None
        verdict = directory.verdict()
        if directory.is_sent and verdict:
            return verdict
        if wrapper and is_alive(wrapper):
            return None
        verdict = verdict or self._put(directory, attempt)
        return verdict if self._send(directory, verdict, wrapper) else None

    def _put(self, directory: JobDirectory, attempt: Attempt) -> Verdict:
        """Put the batch system's verdict in place; return the verdict that is in place then."""
        began = directory.was_claimed  # by a claim that perhaps cannot be read
        if attempt.seen_state == State.COMPLETED.value and not began:
            mine = finished(attempt)
        else:
            submission = directory.submission()
            output = _error_output(directory, Envelope.from_body(submission.message))
            mine = died(
                attempt,
                submission,
                began=began,
                last_lines=last_lines(output, TAIL_LINES, TAIL_BYTES),
                error_patterns=self._error_patterns,
            )
        try:
            if directory.put_verdict(mine):
                return mine
        except OSError as error:  # a full disk: two reports are better than none
            log.warning("The verdict on job %s cannot be written: %s", attempt.job_id, error)
            return mine
        return directory.verdict() or mine

    def _send(
        self, directory: JobDirectory, verdict: Verdict, wrapper: ProcessIdentity | None
    ) -> bool:
        """Send the outbox and the final messages; return False if another process is sending."""
        outbox = _opened(directory)
        try:
            if outbox is not None and not self._is_alone(outbox, wrapper):
                return False
            if directory.is_sent:
                return True
            sender = FinalSender(outbox)
            sender.add(verdict.final)
            sender.send(self._transport)
            try:
                directory.mark_sent()  # while the lease keeps others from sending
            except OSError as error:
                log.warning("%s cannot be marked as sent: %s", directory.path, error)
        finally:
            if outbox is not None:
                outbox.close()
        return True

    def _is_alone(self, outbox: SpoolQueue, wrapper: ProcessIdentity | None) -> bool:
        """Take a lease on the outbox; return True if no other process has one.

        Of two Watchers that each take a lease and then look, at least one sees the other.
        """
        try:
            outbox.recover(dead=wrapper)
            outbox.keep_lease()
            return outbox.owners() <= 1
        except OSError as error:
            log.warning("%s cannot be written: %s", outbox.path, error)
            return True


class InLedger(Conclusion):
    """Conclusion of attempts by the ledger, where the Watcher does not see job directories.

    A completed job whose step was passed to it as a file has a wrapper, whose message is awaited
    for `wait_s` seconds, because it may have to wait in a broker.
    """

    def __init__(self, ledger: Ledger, transport: Transport, wait_s: float) -> None:
        self._ledger = ledger
        self._transport = transport
        self._wait_s = wait_s

    def has_verdict(self, attempt: Attempt) -> bool:
        """Return True if the wrapper's verdict has arrived as a message."""
        return self._ledger.remote.has_verdict(attempt.token)

    def settle_s(self, attempt: Attempt) -> float:
        """Return the time until the message of the wrapper must have arrived, in seconds."""
        return 0.0 if self.has_verdict(attempt) else SETTLE_MESSAGE_S

    def find(self, attempt: Attempt) -> Verdict | None:
        """Do as `Conclusion.find`; the verdict is in the ledger, or is put there."""
        remote = self._ledger.remote
        kept = remote.get(attempt.token)
        if kept is None:
            raise MessageError("The ledger does not hold the submission of the attempt.")
        if kept.verdict is None:
            verdict = self._own(attempt, kept.submission)
            if verdict is None or not remote.put_verdict(verdict):
                return None
        else:
            verdict = kept.verdict
            if kept.sent is not None:
                return verdict
            if not remote.take_sending(attempt.token):
                return None
        send_remote(verdict, self._ledger, self._transport)
        return verdict

    def _own(self, attempt: Attempt, kept: str) -> Verdict | None:
        """Return the batch system's verdict; None: the message of the wrapper is awaited."""
        where = f"The submission of attempt {attempt.token}"
        submission = parse_submission(kept.encode(), where)
        if attempt.seen_state == State.COMPLETED.value:
            if not is_handed_over(Envelope.from_body(submission.message)):
                return finished(attempt)
            now = self._ledger.now()
            if now - (attempt.ended or now) < self._wait_s:
                return None
        # Whether the wrapper began, and what it printed, is known on its node only.
        return died(attempt, submission, began=True)


def conclusion_for(cluster: Cluster, ledger: Ledger, transport: Transport) -> Conclusion:
    """Return the way in which attempts of a cluster are concluded."""
    if cluster.settings.shared_filesystem:
        return InDirectory(transport, cluster.scheduler.error_patterns)
    return InLedger(ledger, transport, cluster.settings.lost_s)


def send_remote(verdict: Verdict, ledger: Ledger, transport: Transport) -> None:
    """Send the final messages of a verdict in the ledger, and mark them as sent there."""
    sender = FinalSender(None)
    sender.add(verdict.final)
    sender.send(transport)
    ledger.remote.mark_sent(verdict.token)


def _opened(directory: JobDirectory) -> SpoolQueue | None:
    """Return the outbox; None if it does not exist and cannot be created, so that it is empty.

    Raises OSError if it is not known whether messages wait there.
    """
    try:
        return directory.outbox()
    except TransportError as error:
        if directory.has_outbox:
            raise OSError(str(error)) from None
        return None


def _error_output(directory: JobDirectory, envelope: Envelope) -> Path:
    """Return the file of the job's error output: the one that the step names, or the default."""
    parameters = envelope.step.get("parameters")
    given = parameters if isinstance(parameters, dict) else {}
    if given.get("standard_error"):
        return Path(str(given.get("workingdir")), str(given["standard_error"]))
    return directory.path / "job.err"
