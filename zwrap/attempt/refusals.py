"""Station "envelope": the end of an attempt while its messages are sent, and how it may change.

Results are sent before the final messages. While none of these was sent, a result that is refused
makes a verdict of success one of failure; afterwards the verdict only notes it.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Set as AbstractSet

import msgspec
from msgspec.structs import replace

from zwrap.attempt.directory import OUTBOX, JobDirectory
from zwrap.attempt.progress import Progress
from zwrap.attempt.verdict import STARTING, VERDICT, Verdict, final_messages, finals_of
from zwrap.errors import PermanentError
from zwrap.host.files import UnfitFileError, read_regular
from zwrap.job import Outcome
from zwrap.message.content import Outgoing
from zwrap.message.identity import child_id, identity_of
from zwrap.message.jsontext import decode, typed
from zwrap.message.limits import ANY_SIZE, Limits
from zwrap.program.reading import SHIPPED_PREFIX
from zwrap.recipe.envelope import Envelope
from zwrap.transport.spool.directory import MESSAGE_BYTES
from zwrap.transport.spool.files import REASON_SUFFIX
from zwrap.transport.spool.queue import SpoolQueue

log = logging.getLogger(__name__)

SHOWN_REFUSALS = 3
"""Number of refused results that the cause of a failure names."""

AFTERWARDS = "Reported as a success; afterwards: "
"""Beginning of the cause of a success one of whose results was refused when it had been told."""


def refusals_told(reasons: Iterable[str]) -> list[str]:
    """Return sentences about results that were refused, given the reasons."""
    refused = list(reasons)
    told = [f"A result was refused: {reason}" for reason in refused[:SHOWN_REFUSALS]]
    if len(refused) > len(told):
        told.append(f"{len(refused)} results were refused in all.")
    return told


def is_noted(verdict: Verdict) -> bool:
    """Return True if a verdict notes a result that was refused after the final messages."""
    return verdict.cause.startswith(AFTERWARDS)


class Ending:
    """The end of an attempt: its verdict, its final messages, and which of them were sent.

    Only the one process that sends the messages of the attempt has one.

    Args:
        verdict: The verdict that is in place.
        progress: File that keeps which final messages were sent. The token in it says that perhaps
            some were, by a process that was killed meanwhile.
        directory: Job directory, with the results and the verdict; None: they are not seen here.
        envelope: The step; None: that of the submission in the directory.
        messages: Function that returns the final messages of a verdict.
        limits: Limits of the recipe in the submission.
    """

    def __init__(
        self,
        verdict: Verdict,
        progress: Progress,
        directory: JobDirectory | None = None,
        envelope: Envelope | None = None,
        messages: Callable[[Verdict], list[Outgoing]] = finals_of,
        limits: Limits = ANY_SIZE,
    ) -> None:
        self.verdict = verdict
        """The verdict, as it is now."""
        before = progress.ids()
        self.sent_before = before - {verdict.token}
        """Ids of the final messages that earlier senders have sent."""
        self._progress = progress
        self._directory = directory
        self._envelope = envelope
        self._limits = limits
        self._messages = messages
        self._finals = messages(verdict)
        self._ids = {identity_of(each) for each in self._finals}
        self._is_told = bool(before)
        """True if a final message was sent, or perhaps was."""
        self._may_change = False
        """True while other messages wait that may be refused, and make the success a failure."""
        self._begins = False
        """True while a portion is sent, and perhaps the first final message is in it."""

    def finals(
        self, done: AbstractSet[str], refused: Mapping[str, str], *, others_wait: bool
    ) -> list[Outgoing]:
        """Return the final messages; they tell a failure if a result was refused in time.

        Called when all other messages were tried.

        Args:
            done: Ids of all messages that were sent.
            refused: Id of each message that was refused for good, to the reason.
            others_wait: True if other messages wait, and may be refused later.
        """
        self._is_told |= is_noted(self.verdict) or not self._ids.isdisjoint(done)
        if told := self._told(refused):
            if self._is_told:
                self._note(told)
            else:
                self._fail(told)
        self._may_change = others_wait and self.verdict.outcome is Outcome.SUCCESS
        return self._finals

    def begin(self) -> None:
        """Keep that perhaps a final message is being sent, before each portion of them."""
        if self._may_change and self._finals and not self._is_told:
            self._begins = True
            self._progress.add({self.verdict.token})

    def keep(self, done: AbstractSet[str], *, is_certain: bool) -> None:
        """Keep which final messages need not be sent again.

        Args:
            done: Ids of the messages of the last portion that were sent, or refused.
            is_certain: True if it is known of each of its messages whether it was sent.
        """
        if sent := done & self._ids:
            self._progress.add(sent)
        elif self._begins and is_certain:
            self._progress.remove()
        self._is_told |= bool(sent) or (self._begins and not is_certain)
        self._begins = False

    def over(self) -> None:
        """Remove the file about messages that were sent, because all were."""
        self._progress.remove()

    # -- what was refused --------------------------------------------------------------------------

    def _told(self, refused: Mapping[str, str]) -> list[str]:
        """Return sentences about refused results of a success, this and earlier senders' ones."""
        if self._directory is None or self.verdict.outcome is not Outcome.SUCCESS:
            return []
        reasons, others = dict(refused), set(self._ids)
        for message, reason, is_new in _refused_in(self._directory):
            if is_new:
                reasons.setdefault(identity_of(message), reason)
            if isinstance(message.message, dict) and message.message.get("payload") == STARTING:
                others.add(identity_of(message))
        return refusals_told(reason for id_, reason in reasons.items() if id_ not in others)

    def _fail(self, told: list[str]) -> None:
        """Make the success a failure, which nobody was told yet."""
        try:
            self._amend(_failed(self.verdict, self._step(), "; ".join(told)))
        except PermanentError as error:
            log.error("The step cannot be told as a failure: %s", error)
            self._note(told)

    def _note(self, told: list[str]) -> None:
        """Note in the verdict what was refused after the final messages; they tell nobody."""
        before = self.verdict.cause if is_noted(self.verdict) else ""
        new = [sentence for sentence in told if sentence not in before]
        if new:
            cause = f"{before}; " if before else AFTERWARDS
            self._amend(replace(self.verdict, cause=cause + "; ".join(new)))

    def _step(self) -> Envelope:
        """Return the step."""
        if self._envelope is not None:
            return self._envelope
        assert self._directory is not None
        return Envelope.from_body(self._directory.submission().message, self._limits)

    def _amend(self, verdict: Verdict) -> None:
        """Change the verdict, here and in its file."""
        assert self._directory is not None
        log.error("Attempt %s: %s", verdict.token, verdict.cause)
        self.verdict = verdict
        self._finals = self._messages(verdict)
        self._ids = {identity_of(each) for each in self._finals}
        try:
            self._directory.replace_verdict(verdict)
        except OSError as error:
            log.error("The changed verdict cannot be written: %s", error)


def _failed(verdict: Verdict, envelope: Envelope, cause: str) -> Verdict:
    """Return the failure that a success becomes; its messages have ids that a repeat repeats."""
    facts = {
        "program": verdict.program.removeprefix(SHIPPED_PREFIX),
        "job_id": verdict.job_id,
        "peak_memory_mib": verdict.peak_memory_mib or None,
        "elapsed_s": verdict.elapsed_s,
        "exit_status": verdict.program_exit_status,
    }
    final = [
        message.with_id(child_id(verdict.token, f"refused {position}"))
        for position, message in enumerate(final_messages(envelope, Outcome.FAILURE, cause, facts))
    ]
    return replace(
        verdict, outcome=Outcome.FAILURE, cause=cause, final=final,
        exit_status=verdict.exit_status or 1,
    )  # fmt: skip


def _refused_in(directory: JobDirectory) -> Iterator[tuple[Outgoing, str, bool]]:
    """Yield each refused message in the outbox, the reason, and whether the verdict was there.

    Those that an earlier run of the job left are older than the verdict.
    """
    since = float("inf")
    with contextlib.suppress(OSError):
        since = os.lstat(directory.path / VERDICT).st_mtime_ns
    for file, reason in SpoolQueue.dead_letters_in(directory.path / OUTBOX):
        with contextlib.suppress(PermanentError, msgspec.ValidationError, OSError, UnfitFileError):
            is_new = os.lstat(f"{file}{REASON_SUFFIX}").st_mtime_ns >= since
            content = decode(read_regular(file, MESSAGE_BYTES), bounded=True)
            yield typed(content, Outgoing), reason.strip(), is_new
