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

import contextlib
import logging
import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from zwrap.attempt.directory import OWN_PARTS, VERDICT_BYTES, JobDirectory
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import Attempt, KeptSubmission
from zwrap.attempt.signs import claim_age_s
from zwrap.attempt.verdict import CLAIM, VERDICT, Claim, Verdict
from zwrap.errors import MessageError, PermanentError, TemporaryError, ZwrapError
from zwrap.host.beneath import ANYWHERE, AllowedDirectories
from zwrap.host.clock import Clock
from zwrap.host.mounts import NETWORK_FILESYSTEMS, filesystem_of
from zwrap.host.processes import ProcessIdentity, is_alive
from zwrap.host.standing import real_name
from zwrap.job import Cause, State
from zwrap.message.content import ID_HEADER
from zwrap.message.jsontext import encode
from zwrap.message.limits import ANY_SIZE, Limits, of_submitted
from zwrap.recipe.envelope import Envelope
from zwrap.service.watcher.claims import doubt, late
from zwrap.service.watcher.contract import Conclusion
from zwrap.service.watcher.heartbeats import Heartbeats
from zwrap.service.watcher.remote import InLedger
from zwrap.service.watcher.sending import MoreToSendError, Sendings, check_readable, sole_sending
from zwrap.service.watcher.witness import died, failed, finished
from zwrap.submission.clusters import Cluster
from zwrap.transport.contract import Transport

log = logging.getLogger(__name__)

SETTLE_S, SETTLE_NETWORK_S = 1.0, 60.0
"""Time after the end of a job until all its files are visible here, in seconds: on a local and on a
network filesystem, where files of another host may become visible late."""

ABSENT_S = 3600.0
"""Time for which a job directory may be missing with all that is above it, in seconds; its
filesystem may not be mounted."""

LARGE_BYTES = 1 << 20
"""Size above which a verdict is read after those of other jobs, in bytes: the largest takes
several seconds."""

TAIL_BYTES, TAIL_LINES = 4096, 20
"""Size, in bytes and lines, of the end of the job's error output that error nodes get."""


class AbsentError(TemporaryError):
    """A job directory is missing with all that is above it, as if a filesystem were not mounted."""


class InDirectory(Conclusion):
    """Conclusion of attempts by the files of their job directories.

    `now` returns seconds since the epoch, by the clock of the ledger. `heartbeats`: those of all
    wrappers; None: there are none, and a process that lives is always believed. `limits`: those of
    recipes. `allowed`: directories below which job directories must be.
    """

    def __init__(
        self,
        transport: Transport,
        error_patterns: Mapping[str, Cause] | None = None,
        now: Clock = time.time,
        heartbeats: Heartbeats | None = None,
        limits: Limits = ANY_SIZE,
        allowed: AllowedDirectories = ANYWHERE,
    ) -> None:
        self._sendings = Sendings(transport)
        self._put_off: set[str] = set()
        """Tokens of attempts whose verdicts are read next time, because they are large."""
        self._error_patterns = error_patterns or {}
        self._now = now
        self._heartbeats = heartbeats
        self._limits = limits
        self._allowed = allowed

    def has_verdict(self, attempt: Attempt) -> bool:
        """Return True if there is a verdict in the job directory, as far as that can be told."""
        with contextlib.suppress(OSError, ZwrapError), self._directory(attempt) as directory:
            return directory.has_verdict
        return False

    def claim_age_s(self, attempt: Attempt) -> float | None:
        """Return the age of the claim by the clock of its filesystem, as `claim_age_s` does."""
        try:
            with self._directory(attempt) as directory:
                return claim_age_s(directory)
        except ZwrapError:  # there is no directory that counts
            return None

    def submission(self, attempt: Attempt) -> KeptSubmission:
        """Return the submission that the job directory keeps."""
        with self._directory(attempt) as directory:
            return directory.submission()

    def settle_s(self, attempt: Attempt) -> float:
        """Return the time until all files of the job are visible here, in seconds."""
        network = filesystem_of(Path(attempt.job_directory)) in NETWORK_FILESYSTEMS
        return SETTLE_NETWORK_S if network else SETTLE_S

    def message_id(self, attempt: Attempt) -> str:
        """Return the id of the message that became the attempt, as its directory keeps it."""
        with contextlib.suppress(Exception):  # for the log only, of a row that is odd anyway
            return str(self.submission(attempt).header.get(ID_HEADER, ""))
        return ""

    def find(self, attempt: Attempt) -> Verdict | None:
        """Do as `Conclusion.find`; the verdict is in the job directory, or is put there."""
        if sending := self._sendings.get(attempt.token):
            return self._sendings.portion(attempt.token, sending)
        with contextlib.ExitStack() as stack:
            return self._find(stack, stack.enter_context(self._directory(attempt)), attempt)

    def _find(
        self, stack: contextlib.ExitStack, directory: JobDirectory, attempt: Attempt
    ) -> Verdict | None:
        """Do as `find`; `stack` keeps the directory open, also while its messages are sent."""
        self._put_off_large(directory, attempt)
        claim, flaw = _claim(directory, attempt)
        wrapper = ProcessIdentity.parse(claim.process) if claim else None
        verdict, damage = _verdict(directory, attempt)
        if directory.is_sent and verdict:
            return verdict
        lives = bool(wrapper and is_alive(wrapper))
        if wrapper and lives:
            flaw = doubt(directory, attempt, wrapper, self._heartbeats, self._now())
            if not flaw:
                return None
        if damage:
            raise damage
        verdict = verdict or self._put(directory, attempt, flaw)
        return self._send(stack, directory, attempt, verdict, wrapper, doubted=lives)

    def fail(self, attempt: Attempt, why: str) -> Verdict | None:
        """Do as `Conclusion.fail`; what is in the place of the verdict is put aside."""
        self._sendings.close(attempt.token)
        with contextlib.ExitStack() as stack:
            directory = stack.enter_context(self._directory(attempt))
            verdict = failed(attempt, directory.submission(), why, self._limits)
            if not self._place(directory, attempt, verdict) and not _holds(directory, verdict):
                try:
                    directory.put_verdict_aside()
                except OSError as error:
                    log.warning("%s cannot be written: %s", real_name(directory.path), error)
                else:
                    self._place(directory, attempt, verdict)
            return self._send(stack, directory, attempt, verdict, None, forced=True)

    def keep(self, tokens: set[str]) -> None:
        """Do as `Conclusion.keep`."""
        self._sendings.keep(tokens)
        self._put_off &= tokens

    def _put_off_large(self, directory: JobDirectory, attempt: Attempt) -> None:
        """Raise MoreToSendError if the verdict is large, unless the last call did so."""
        if attempt.token in self._put_off:
            self._put_off.remove(attempt.token)
            return
        with contextlib.suppress(FileNotFoundError):
            size = os.lstat(directory.path / VERDICT).st_size
            if LARGE_BYTES < size <= VERDICT_BYTES:  # a larger one is not read at all
                self._put_off.add(attempt.token)
                raise MoreToSendError

    @contextlib.contextmanager
    def _directory(self, attempt: Attempt) -> Iterator[JobDirectory]:
        """Open the job directory for the time of the context.

        Raises:
            MessageError: It is gone, or something else is in its place.
            AbsentError: It is missing with all that is above it, and not for long.
            OSError: That cannot be told now.
        """
        path = Path(attempt.job_directory)
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            waited_s = self._now() - (attempt.ended or float("-inf"))
            if waited_s < ABSENT_S and not path.parent.is_dir():
                raise AbsentError(f"{path.parent} is missing; is its filesystem mounted?") from None
            raise MessageError(f"Its directory {path} is gone.") from None
        if stat.S_ISLNK(mode):
            raise MessageError(f"Its directory {path} is a link now, which is not followed.")
        if not stat.S_ISDIR(mode):
            raise MessageError(f"Its directory {path} is something else now.")
        # A job outside was submitted before the site restricted directories.
        allowed = self._allowed if self._allowed.holds(path) else ANYWHERE
        with allowed.directory(path, "Its directory", real=OWN_PARTS) as place:
            yield JobDirectory(place)

    def _put(self, directory: JobDirectory, attempt: Attempt, flaw: str) -> Verdict:
        """Put the batch system's verdict in place; return the verdict that is in place then.

        `flaw`: sentence about a claim that cannot be read.
        """
        began = directory.was_claimed  # by a claim that perhaps cannot be read
        if attempt.seen_state == State.COMPLETED.value and not began:
            mine = finished(attempt)
        else:
            submission = directory.submission()
            output = _error_output(directory, Envelope.from_body(submission.message, ANY_SIZE))
            lines = self._allowed.last_lines(output, TAIL_LINES, TAIL_BYTES, follow=False)
            mine = died(
                attempt,
                submission,
                began=began,
                flaw=flaw,
                last_lines=lines,
                error_patterns=self._error_patterns,
                limits=self._limits,
            )
        if directory.is_sent and not directory.has_verdict:  # a mark follows a verdict
            directory.take_back_mark()
        if self._place(directory, attempt, mine):
            return mine
        return directory.verdict(attempt.token) or mine

    def _place(self, directory: JobDirectory, attempt: Attempt, mine: Verdict) -> bool:
        """Put a verdict in place; False: another one is there. A full disk is no error."""
        try:
            return directory.put_verdict(mine)
        except OSError as error:  # a full disk: two reports are better than none
            check_readable(error)
            log.warning("The verdict on job %s cannot be written: %s", attempt.job_id, error)
            return True

    def _send(
        self,
        stack: contextlib.ExitStack,
        directory: JobDirectory,
        attempt: Attempt,
        verdict: Verdict,
        wrapper: ProcessIdentity | None,
        *,
        doubted: bool = False,
        forced: bool = False,
    ) -> Verdict | None:
        """Send a portion of the outbox and the final messages; return the verdict after the last.

        None: another process is sending. With `forced` an outbox that cannot be used is left alone.
        `doubted`: True if the process `wrapper` lives, and is not believed to be the wrapper.
        """
        overdue = doubted or bool(late(attempt, self._heartbeats, self._now()))
        sending = sole_sending(
            directory, verdict, wrapper, forced=forced, overdue=overdue, limits=self._limits
        )
        if sending is None:
            return None
        sending.keep_open(stack.pop_all())
        if directory.is_sent:
            sending.close()
            return verdict
        return self._sendings.portion(attempt.token, sending)


def conclusion_for(
    cluster: Cluster, ledger: Ledger, transport: Transport, heartbeats: Heartbeats
) -> Conclusion:
    """Return the way in which attempts of a cluster are concluded."""
    limits = of_submitted(cluster.limits)
    if cluster.settings.shared_filesystem:
        patterns = cluster.scheduler.error_patterns
        return InDirectory(transport, patterns, ledger.now, heartbeats, limits, cluster.allowed)
    return InLedger(ledger, transport, cluster.settings.lost_s, limits)


def _claim(directory: JobDirectory, attempt: Attempt) -> tuple[Claim | None, str]:
    """Return the claim, and a sentence about a claim that cannot be used; empty: there is none."""
    if not directory.was_claimed:
        return None, ""
    claim = directory.claimed(attempt.token)
    return claim, "" if claim else f"Its {CLAIM} is damaged, or of another attempt."


def _verdict(
    directory: JobDirectory, attempt: Attempt
) -> tuple[Verdict | None, PermanentError | None]:
    """Return the verdict, and why what lies in its place is none."""
    try:
        return directory.verdict(attempt.token), None
    except PermanentError as error:
        return None, error


def _holds(directory: JobDirectory, verdict: Verdict) -> bool:
    """Return True if a verdict is in place already: another Watcher came to the same end."""
    with contextlib.suppress(PermanentError, OSError):
        return encode(directory.verdict()) == encode(verdict)
    return False


def _error_output(directory: JobDirectory, envelope: Envelope) -> Path:
    """Return the file of the job's error output: the one that the step names, or the default."""
    parameters = envelope.step.get("parameters")
    given = parameters if isinstance(parameters, dict) else {}
    if given.get("standard_error"):
        return Path(str(given.get("workingdir")), str(given["standard_error"]))
    return directory.path / "job.err"
