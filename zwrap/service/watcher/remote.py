"""Conclusion of attempts by the ledger, where the Watcher does not see job directories."""

from __future__ import annotations

import contextlib

from zwrap.attempt.finals import FinalSender
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.progress import Progress
from zwrap.attempt.record import Attempt, KeptSubmission, parse_submission
from zwrap.attempt.refusals import Ending
from zwrap.attempt.verdict import Verdict
from zwrap.errors import MessageError, OutageError, PermanentError
from zwrap.host.modes import make_private
from zwrap.host.paths import in_state_directory
from zwrap.job import State
from zwrap.message.content import ID_HEADER
from zwrap.message.limits import ANY_SIZE, Limits
from zwrap.recipe.envelope import Envelope
from zwrap.service.watcher.contract import Conclusion
from zwrap.service.watcher.sending import Sending, Sendings
from zwrap.service.watcher.witness import died, failed, finished
from zwrap.submission.request import is_handed_over
from zwrap.transport.contract import Transport

SETTLE_MESSAGE_S = 15.0
"""Longest time after the end of a job until a message of its wrapper arrives, in seconds."""


class InLedger(Conclusion):
    """Conclusion of attempts by the ledger, where the Watcher does not see job directories.

    A completed job whose step was passed to it as a file has a wrapper, whose message is awaited
    for `wait_s` seconds, because it may have to wait in a broker. `limits`: those of recipes.
    """

    def __init__(
        self, ledger: Ledger, transport: Transport, wait_s: float, limits: Limits = ANY_SIZE
    ) -> None:
        self._ledger = ledger
        self._sendings = Sendings(transport)
        self._wait_s = wait_s
        self._limits = limits

    def has_verdict(self, attempt: Attempt) -> bool:
        """Return True if the wrapper's verdict has arrived as a message."""
        return self._ledger.remote.has_verdict(attempt.token)

    def claim_age_s(self, attempt: Attempt) -> None:
        """Return None: the claim is on the node."""

    def submission(self, attempt: Attempt) -> KeptSubmission:
        """Return the submission that the ledger keeps; MessageError if it holds none."""
        kept = self._ledger.remote.submission(attempt.token)
        if kept is None:
            raise MessageError("The ledger does not hold the submission of the attempt.")
        return parse_submission(kept.encode(), f"The submission of attempt {attempt.token}")

    def settle_s(self, attempt: Attempt) -> float:
        """Return the time until the message of the wrapper must have arrived, in seconds."""
        return 0.0 if self.has_verdict(attempt) else SETTLE_MESSAGE_S

    def message_id(self, attempt: Attempt) -> str:
        """Return the id of the message that became the attempt, as the ledger keeps it."""
        with contextlib.suppress(PermanentError):
            return str(self.submission(attempt).header.get(ID_HEADER, ""))
        return ""

    def find(self, attempt: Attempt) -> Verdict | None:
        """Do as `Conclusion.find`; the verdict is in the ledger, or is put there."""
        if sending := self._sendings.get(attempt.token):
            return self._sendings.portion(attempt.token, sending)
        remote = self._ledger.remote
        kept = remote.get(attempt.token)
        if kept is None:
            raise MessageError("The ledger does not hold the submission of the attempt.")
        if kept.verdict is None:
            verdict = self._own(attempt)
            if verdict is None or not remote.put_verdict(verdict):
                return None
        else:
            verdict = kept.verdict
            if kept.sent is not None:
                return verdict
            if not remote.take_sending(attempt.token):
                return None
        return self._sendings.portion(attempt.token, LedgerSending(verdict, self._ledger))

    def fail(self, attempt: Attempt, why: str) -> Verdict | None:
        """Do as `Conclusion.fail`; the verdict replaces the one in the ledger."""
        self._sendings.close(attempt.token)
        verdict = failed(attempt, self.submission(attempt), why, self._limits)
        if not self._ledger.remote.replace_verdict(verdict):
            return None
        return self._sendings.portion(attempt.token, LedgerSending(verdict, self._ledger))

    def keep(self, tokens: set[str]) -> None:
        """Do as `Conclusion.keep`."""
        self._sendings.keep(tokens)

    def _own(self, attempt: Attempt) -> Verdict | None:
        """Return the batch system's verdict; None: the message of the wrapper is awaited."""
        submission = self.submission(attempt)
        if attempt.seen_state == State.COMPLETED.value:
            if not is_handed_over(Envelope.from_body(submission.message, ANY_SIZE)):
                return finished(attempt)
            now = self._ledger.now()
            if now - (attempt.ended or now) < self._wait_s:
                return None
        # Whether the wrapper began, and what it printed, is known on its node only.
        return died(attempt, submission, began=True, limits=self._limits)


class LedgerSending(Sending):
    """The final messages of an attempt whose verdict is in the ledger, with a lease there."""

    def __init__(self, verdict: Verdict, ledger: Ledger) -> None:
        directory = in_state_directory("sending")
        with contextlib.suppress(OSError):
            make_private(directory)
        file = directory / f"{verdict.token}.json"
        super().__init__(Ending(verdict, Progress(file)), FinalSender(None))
        self._ledger = ledger
        self._goes_on = False
        """True if messages are left, and the last portion went well."""

    def portion(self, transport: Transport) -> bool:
        """Do as `Sending.portion`; after a failure the lease is kept until it lapses."""
        self._goes_on = False
        self._goes_on = super().portion(transport)
        return self._goes_on

    def renew(self) -> None:
        """Renew the lease."""
        self._ledger.remote.renew(self.verdict.token)

    def mark_sent(self) -> None:
        """Mark the row in the ledger."""
        self._ledger.remote.mark_sent(self.verdict.token)

    def close(self) -> None:
        """Give the lease back if messages are left; without the ledger it lapses by itself."""
        if not self._goes_on:
            return
        with contextlib.suppress(OutageError):
            self._ledger.remote.give_back(self.verdict.token)
