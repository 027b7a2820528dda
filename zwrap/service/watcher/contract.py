"""The contract of conclusions: what the Watcher does about an attempt whose job has ended."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod

from zwrap.attempt.record import Attempt, KeptSubmission
from zwrap.attempt.verdict import Verdict
from zwrap.errors import PermanentError, TemporaryError
from zwrap.host.faults import is_shared
from zwrap.job import Outcome
from zwrap.service.faults import told

log = logging.getLogger(__name__)


class Conclusion(ABC):
    """The way in which attempts of one cluster are concluded."""

    @abstractmethod
    def has_verdict(self, attempt: Attempt) -> bool:
        """Return True if there is a verdict on an attempt."""

    @abstractmethod
    def claim_age_s(self, attempt: Attempt) -> float | None:
        """Return the time since its wrapper made or touched the claim, in seconds.

        None: there is none, or it cannot be seen from here. Raises OSError if that cannot be told
        now.
        """

    @abstractmethod
    def submission(self, attempt: Attempt) -> KeptSubmission:
        """Return the record of the submission of an attempt.

        Raises:
            PermanentError: There is none, or it cannot be read.
            OSError: Its filesystem is away.
        """

    @abstractmethod
    def settle_s(self, attempt: Attempt) -> float:
        """Return the time from the end of its job to the conclusion of an attempt, in seconds."""

    @abstractmethod
    def message_id(self, attempt: Attempt) -> str:
        """Return the id of the message that became the attempt; an empty text: it is not known."""

    @abstractmethod
    def find(self, attempt: Attempt) -> Verdict | None:
        """Find or make the verdict on an attempt whose job has ended, and send its messages.

        Returns the verdict after all messages were sent. None: the attempt cannot be concluded now,
        because its wrapper lives, or because another process is sending the messages.

        Raises:
            MoreToSendError: Much is to be read or sent, and the next call goes on.
            PermanentError: What lies there cannot be used.
            TemporaryError: It cannot be told now what lies there, or nothing can be sent now.
            OSError: A file cannot be read.
        """

    @abstractmethod
    def fail(self, attempt: Attempt, why: str) -> Verdict | None:
        """Conclude an attempt as a failure, whatever else lies there, and send its messages.

        `why`: sentence about what cannot be used. The result and the errors are those of `find`; a
        PermanentError says that the step is not known, so that nobody can be told.
        """

    @abstractmethod
    def keep(self, tokens: set[str]) -> None:
        """Let go of all attempts but these, whose messages may be on their way."""

    def conclude(self, attempt: Attempt) -> Verdict | None:
        """Do as `find` does, but make a fault of the attempt a failure; None: try again later.

        Raises:
            TemporaryError: As `find` does.
            OSError: Something that jobs share is away.
            Exception: What was not foreseen; `give_up` concludes the attempt all the same.
        """
        try:
            return self.find(attempt)
        except (PermanentError, OSError) as error:
            if is_shared(error):
                raise
            return self.give_up(attempt, _sentence(error))

    def give_up(self, attempt: Attempt, why: str) -> Verdict | None:
        """Do as `fail` does; where the step is not known the end is `unknown`."""
        try:
            return self.fail(attempt, why)
        except Exception as error:
            if isinstance(error, TemporaryError) or is_shared(error):
                raise
            foreseen = isinstance(error, (PermanentError, OSError))
            log.error(
                "Job %s (token %s, directory %s): its end cannot be reported: %s",
                attempt.job_id, attempt.token, attempt.job_directory, why,
                exc_info=None if foreseen else error,
            )  # fmt: skip
            also = _sentence(error)
            return _untold(attempt, why if also == why else f"{why} {also}")


def _sentence(error: Exception) -> str:
    """Return what an exception says, with a full stop."""
    return f"{told(error).removesuffix('.')}."


def _untold(attempt: Attempt, why: str) -> Verdict:
    """Return the verdict on an attempt whose end cannot be told to anybody."""
    return Verdict(
        token=attempt.token, outcome=Outcome.UNKNOWN, witness="none",
        cause=f"Its end could not be reported to anybody. {why}", job_id=str(attempt.job_id),
        exit_status=1,
    )  # fmt: skip
