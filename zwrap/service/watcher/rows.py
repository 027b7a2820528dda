"""Work on many rows of the ledger, such that what is wrong with one of them stays with it.

* An outage (`OutageError`; no memory, no file descriptors) is of no row: it ends the work on all
  for now. The row that met it comes last when work goes on.
* What passes (a filesystem or the room in a queue is away, `TemporaryError`) leaves its row for
  later, without a limit in time. It is told once for all rows, and again when it is over.
* A row with many messages to send has a portion of them sent, then the other rows have their turn,
  then it goes on, for up to `MORE_S` in each turn.
* An unforeseen exception leaves its row for later `TRIES` times, and is told once. Then the row is
  given up, unless several rows in succession ended with the same exception: that is a bug or a
  broken installation, for which no row is given up. The rows that met it wait as they did; the
  others have their turns, of which each ends when further rows have met it.
"""

from __future__ import annotations

import errno
import logging
from collections import deque
from collections.abc import Callable, Sequence

from zwrap.attempt.record import Attempt
from zwrap.errors import OutageError, QueueFullError, TemporaryError
from zwrap.host.backoff import Backoff
from zwrap.host.clock import Clock, elapsed
from zwrap.host.faults import is_shared
from zwrap.service.faults import Faults
from zwrap.service.succession import LIMIT, Origin, origin
from zwrap.service.watcher.sending import MoreToSendError

log = logging.getLogger(__name__)

FIRST_S, LAST_S = 1.0, 60.0
"""First and longest pause of a row that is left for later, in seconds."""

TRIES = 5
"""Number of tries after which a row with an unforeseen exception is given up."""

POSTPONED_S = 120.0
"""Time after which a row that met an outage is tried again, in seconds: longer than any pause, so
that the other rows have their turn even if the outage is but a fault of that row."""

TURN_S = 5.0
"""Time after which work on rows of which some fail goes on in the next turn, in seconds: a
filesystem that is away may take long to say so."""

MORE_S = 1.0
"""Time in each turn for the further messages of rows that have many, in seconds."""

_OF_PROCESS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
"""Error numbers that tell about this process or host, and about no filesystem."""


class CommonFaultError(OutageError):
    """Several rows in succession met the same unforeseen exception; others may be well."""


class _Row:
    """What is kept of a row that is left for later."""

    def __init__(self) -> None:
        self.pauses = Backoff(FIRST_S, LAST_S)
        self.due = float("-inf")
        self.failures = 0
        """Number of unforeseen exceptions in succession."""
        self.why = ""
        """What was last told about the row: the name of what has to pass, or the exception."""
        self.origin: Origin | None = None
        """Type and place of the last unforeseen exception."""


class Rows:
    """Rows that are worked on again and again, until each is done.

    Args:
        what: Clause for the log about work that is left undone, such as "its end is not reported".
        give_up: Function that ends the work on a row for good, given why; True: the row is done.
        message_id: Function that returns the id of the message of a row, for the log.
        faults: Faults of the service, which count the unforeseen exceptions.
    """

    def __init__(
        self,
        what: str,
        give_up: Callable[[Attempt, str], bool],
        message_id: Callable[[Attempt], str],
        faults: Faults,
        clock: Clock = elapsed,
    ) -> None:
        self._what = what
        self._give_up = give_up
        self._message_id = message_id
        self._faults = faults
        self._clock = clock
        self._rows: dict[str, _Row] = {}
        self._struck = 0
        """Number of rows that met an unforeseen exception for the first time in this turn."""
        self._general = ""
        """Sentence about an unforeseen exception that is no fault of single rows; empty: none."""
        self._long: set[str] = set()
        """Rows that have more messages to send, and whose turn comes after that of the others."""
        self._waited: dict[str, int] = {}
        """Name of what has to pass to the number of rows that it has left for later."""

    def each(self, attempts: Sequence[Attempt], work: Callable[[Attempt], bool]) -> None:
        """Do `work` on each row that is due; it returns True if the row is done.

        Raises:
            OutageError: What all rows share is away.
            CommonFaultError: Several rows in succession met the same unforeseen exception, and none
                was done since.
        """
        began, failed = self._clock(), False
        self._struck = 0
        for attempt in attempts:
            row = self._rows.get(attempt.token)
            if attempt.token in self._long or (row is not None and self._clock() < row.due):
                continue
            if failed and self._clock() - began > TURN_S:
                break
            failed |= not self._one(attempt, row, work)
        failed |= not self._go_on(attempts, work)
        if failed and self.is_common:  # it is not over, although each row was told
            raise CommonFaultError(self._general)

    @property
    def is_common(self) -> bool:
        """True while rows wait that met the same unforeseen exception as others."""
        return bool(self._general) and any(row.failures for row in self._rows.values())

    def _go_on(self, attempts: Sequence[Attempt], work: Callable[[Attempt], bool]) -> bool:
        """Send the further messages of rows that have many, in turn; return False if one failed."""
        long = deque(attempt for attempt in attempts if attempt.token in self._long)
        began, well = self._clock(), True
        while long and self._clock() - began < MORE_S:
            attempt = long.popleft()
            self._long.discard(attempt.token)
            well &= self._one(attempt, self._rows.get(attempt.token), work)
            if attempt.token in self._long:
                long.append(attempt)
        return well

    def keep(self, tokens: set[str]) -> None:
        """Forget all rows but these."""
        self._long &= tokens
        for token in [token for token in self._rows if token not in tokens]:
            self._done(token)

    def _one(self, attempt: Attempt, row: _Row | None, work: Callable[[Attempt], bool]) -> bool:
        """Do `work` on one row; return False if it failed."""
        try:
            if row and row.failures >= TRIES and not self._general:
                done = self._give_up(attempt, f"It was tried {TRIES} times; {row.why}")
            else:
                done = work(attempt)
        except MoreToSendError:
            self._long.add(attempt.token)
            return True
        except Exception as error:
            if _is_general(error):
                postponed = self._rows.setdefault(attempt.token, _Row())
                postponed.due = self._clock() + POSTPONED_S
                raise _as_outage(error) from error
            if isinstance(error, TemporaryError) or is_shared(error):
                self._later(attempt, error)
            else:
                self._failed(attempt, error)
            return False
        if done:
            self._done(attempt.token)
            self._faults.rows.end()
            self._general = ""
        return True

    def _later(self, attempt: Attempt, error: Exception) -> None:
        """Leave a row for later, until something has passed."""
        row = self._rows.setdefault(attempt.token, _Row())
        row.due = self._clock() + row.pauses.next_s()
        name = _name(error)
        if row.why == name:
            return
        self._passed(row)
        row.why = name
        if name not in self._waited:
            log.warning(
                "Job %s, directory %s: %s for now: %s; the same for other jobs is not told again",
                attempt.job_id, attempt.job_directory, self._what, error,
            )  # fmt: skip
        self._waited[name] = self._waited.get(name, 0) + 1

    def _passed(self, row: _Row) -> None:
        """Note that a row waits no longer for what it waited for."""
        if row.why not in self._waited:
            return
        self._waited[row.why] -= 1
        if not self._waited[row.why]:
            del self._waited[row.why]
            log.info("No job waits any more because of: %s", row.why)

    def _failed(self, attempt: Attempt, error: Exception) -> None:
        """Leave a row with an unforeseen exception for later; pause if several have the same."""
        row = self._rows.setdefault(attempt.token, _Row())
        row.due = self._clock() + row.pauses.next_s()
        row.failures += 1
        self._passed(row)
        row.why = shown = f"{type(error).__name__}: {error}"
        before, row.origin = row.origin, origin(error)
        if row.origin == before:
            return
        log.error(
            "Job %s (token %s, message %s, directory %s): %s because of an unforeseen fault",
            attempt.job_id, attempt.token, self._message_id(attempt), attempt.job_directory,
            self._what, exc_info=error,
        )  # fmt: skip
        self._faults.unforeseen += 1
        self._struck += 1
        self._faults.rows.add(attempt.token, row.origin)
        if self._faults.rows.common:
            self._general = (
                f"The last {LIMIT} jobs or more met the same unforeseen fault ({shown}), which is "
                "hardly the fault of each of them: zwrap has a fault, or its installation is "
                "damaged. The traceback is in the log above."
            )
            if self._struck >= LIMIT:
                raise CommonFaultError(self._general)
        else:
            self._general = ""

    def _done(self, token: str) -> None:
        """Forget a row that is done."""
        if row := self._rows.pop(token, None):
            self._passed(row)


def _is_general(error: Exception) -> bool:
    """Return True if an exception says nothing about the row that met it."""
    if isinstance(error, OSError):
        return error.errno in _OF_PROCESS
    return isinstance(error, MemoryError) or (
        isinstance(error, OutageError) and not isinstance(error, QueueFullError)
    )


def _as_outage(error: Exception) -> OutageError:
    """Return an exception as an outage."""
    if isinstance(error, OutageError):
        return error
    return OutageError(f"This host has no room for more: {error or 'no memory'}.")


def _name(error: Exception) -> str:
    """Return the name of what has to pass, which is the same for all rows that wait for it."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(type(error).__doc__ or type(error).__name__).splitlines()[0].rstrip(".")
