"""Faults that a service met: whose they are, and what follows from that for it and its messages.

* An *outage*: what all messages share is away. The service pauses with back-off, and no message is
  counted, however long it lasts.
* A fault of a message's own: a dead letter, or a later try.
* An *unforeseen* exception counts against its message, unless several messages in succession end
  with the same one (`zwrap.service.succession`): then the service pauses as in an outage.
"""

from __future__ import annotations

import logging
import signal
import threading
import weakref
from collections import OrderedDict

from zwrap.errors import OutageError, PermanentError, TemporaryError, ZwrapError
from zwrap.host.backoff import Backoff
from zwrap.host.clock import Clock, elapsed
from zwrap.host.printable import printable, shown_path
from zwrap.service.outage import REMEMBERED, Outages, is_outage
from zwrap.service.succession import Origin, Succession, described, origin
from zwrap.transport.contract import Delivery

log = logging.getLogger(__name__)

PAUSE_FIRST_S, PAUSE_LAST_S = 1.0, 30.0
"""First and longest pause of a service, in seconds."""

PERIODIC, RECEIVING = "periodic work", "reading of its queue"
"""Names of work that is not that of a message; without the second one there are no messages."""


class EndedError(ZwrapError):
    """A handler raised an exception that would end its process, as `sys.exit` does."""


def as_failure(error: BaseException) -> Exception:
    """Return what a handler raised as the failure of its message.

    Raises Ctrl-C of a person, which is no failure. Everything else is one: `asyncio.CancelledError`
    and others that derive from BaseException end no service either.
    """
    if isinstance(error, Exception):
        return error
    interrupted = isinstance(error, KeyboardInterrupt)
    if interrupted and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        raise error
    failure = EndedError(f"The handler raised {told(error)}, which would end its process.")
    failure.__cause__ = error
    return failure


def _place(error: Exception) -> Origin:
    """Return the place of origin of what a handler raised."""
    cause = error.__cause__ if isinstance(error, EndedError) else None
    return origin(cause or error)


class _Tries:
    """Failures of one message, as far as this service saw them."""

    def __init__(self) -> None:
        self.count = 0
        self.successes = 0
        """Number of other messages that had gone well at the last failure."""
        self.place: Origin | None = None
        """Place of origin of the last unforeseen exception."""


class Faults:
    """The faults of one service. Methods may be called from any thread."""

    def __init__(self, clock: Clock = elapsed) -> None:
        self.unforeseen = 0
        """Number of unforeseen exceptions."""
        self.failed: weakref.WeakSet[Delivery] = weakref.WeakSet()
        """Deliveries that were settled because they could not be handled."""
        self.rows = Succession()
        """Unforeseen exceptions of rows of the ledger (`zwrap.service.watcher.rows`)."""
        self.in_vain = False
        """True if a message met an outage again, and none has gone well in between or since."""
        self._lock = threading.RLock()
        self._outages = Outages(clock)
        self._succession = Succession()
        self._tries: OrderedDict[str, _Tries] = OrderedDict()
        self._successes = 0
        self._struck: set[str] = set()
        """Messages that met an outage since the last one that went well."""
        self._pauses = Backoff(PAUSE_FIRST_S, PAUSE_LAST_S)
        self._pause_due = False

    def went_well(self, message: str, who: str) -> None:
        """Note that a message was handled. `who`: the service, for the log."""
        with self._lock:
            self._successes += 1
            self._struck.clear()
            self._pauses.reset()
            self._pause_due = self.in_vain = False
            self.ended(message, who)

    def ended(self, message: str, who: str) -> None:
        """Note that a message was settled for good, well or not."""
        with self._lock:
            self._tries.pop(message, None)
            self._passed(message, who)
            if self._succession.end():
                log.warning("%s goes on: its messages no longer fail in the same way", who)

    def _passed(self, message: str, who: str) -> None:
        """Log the outages that are over because a message came through."""
        for name, lasted_s in self._outages.passed(message):
            log.warning("%s goes on: %r is over, after %.0f s", who, name, lasted_s)

    def given_back(self, message: str) -> int:
        """Note that a message comes again later; return how often it did so far."""
        with self._lock:
            tries = self._of(message)
            tries.count += 1
            return tries.count

    def outage(self, message: str, error: Exception, who: str) -> bool:
        """Note that a message met an outage, which is logged if it is new.

        Returns True if it counts against the message all the same: an error that says nothing about
        its scope is the message's own if other messages went well since it met it before.
        """
        with self._lock:
            if self._outages.met(message, error, said := told(error)):
                log.warning("%s waits until this is over: %s", who, said)
            tries = self._of(message)
            alone = bool(tries.count) and self._successes > tries.successes
            self.in_vain |= bool(tries.count) and not alone
            tries.successes = self._successes
            if not alone:
                self._struck.add(message)
                self._pause_due |= len(self._struck) > 1
            return alone and not isinstance(error, OutageError)

    def held_up(self, message: str, error: Exception, who: str) -> None:
        """Note that a message waits for what is no outage, such as room in a queue; told once."""
        with self._lock:
            if self._outages.met(message, error):
                log.warning("%s lets messages wait until this is over: %s", who, told(error))

    def unforeseen_by(self, message: str, error: Exception, who: str, where: str = "") -> bool:
        """Count and log an unforeseen exception of a message; return True if it is common.

        Args:
            message: Id of the message.
            error: The exception.
            who: The service.
            where: Directory of the message's job, if it has one.
        """
        with self._lock:
            self.unforeseen += 1
            place = _place(error)
            was_common = self._succession.common
            new = self._succession.add(message, place)
            common = self._succession.common
            tries = self._of(message)
            if tries.place == place:
                log.warning("Message %s%s: the service failed as before: %s", message, where,
                            told(error))  # fmt: skip
            else:
                log.error("Message %s%s: the service failed", message, where, exc_info=error)
            tries.place = place
            if common and not was_common:
                log.critical(
                    "%s pauses: its last messages all ended with %s. That is hardly the fault of "
                    "each of them, so they are given back, which does not count.",
                    who, described(place),
                )  # fmt: skip
            self._pause_due |= common and new  # one that comes again holds up nobody else
            self.in_vain |= common and not new
            return common

    def beside_messages(self, what: str, error: Exception, who: str) -> None:
        """Note that work which is not that of a message failed; it is logged once, by its origin.

        Args:
            what: The work, such as `PERIODIC`.
            error: The exception.
            who: The service.
        """
        with self._lock:
            if is_outage(error):
                self._pause_due |= what in (PERIODIC, RECEIVING)
                if self._outages.met(what, error, said := told(error)):
                    log.warning("%s waits until this is over: %s", who, said)
                return
            self.unforeseen += not isinstance(error, (PermanentError, TemporaryError))
            self._pause_due |= what == RECEIVING
            tries, place = self._of(what), _place(error)
            if tries.place != place:
                sentence = isinstance(error, ZwrapError) and not isinstance(error, EndedError)
                trace = None if sentence else error
                log.error("%s goes on although its %s failed: %s", who, what, told(error),
                          exc_info=trace)  # fmt: skip
            tries.place = place

    def periodic_work_went_well(self, who: str) -> None:
        """Note that the periodic work was done."""
        with self._lock:
            if PERIODIC in self._tries:
                self._tries[PERIODIC].place = None
            if self._outages.any_met_by(PERIODIC):
                self._pauses.reset()
                self._passed(PERIODIC, who)

    def hold_up(self) -> str:
        """Return why messages that were given back cannot be handled now, as one sentence.

        Empty if nothing that all messages share is away.
        """
        with self._lock:
            reasons = self._outages.present()
            if self._succession.common:
                reasons.append(f"All messages end with {self._succession.described()}.")
            return " ".join(reasons)

    def pause_s(self) -> float:
        """Return the pause that is due before the next message, in seconds; 0.0: none."""
        with self._lock:
            due, self._pause_due = self._pause_due, False
            return self._pauses.next_s() if due else 0.0

    def _of(self, message: str) -> _Tries:
        """Return the record of a message, which is the last one to be forgotten."""
        tries = self._tries.setdefault(message, _Tries())
        self._tries.move_to_end(message)
        while len(self._tries) > REMEMBERED:
            self._tries.popitem(last=False)
        return tries


def told(error: BaseException) -> str:
    """Return what an error says as one printable line, with its type unless it is zwrap's."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{shown_path(error.filename)} cannot be used: {error.strerror}."
    text, kind = _said(error), printable(type(error).__name__)
    if isinstance(error, ZwrapError):
        return text
    return f"{kind}: {text}" if text else kind


def _said(error: BaseException) -> str:
    """Return text and notes of an error in one line, whatever its class does when it is asked."""
    try:
        notes = getattr(error, "__notes__", None)
        parts = [error, *(notes if isinstance(notes, list) else [])]
        return printable(" ".join(" ".join(map(str, parts)).split()))
    except BaseException as second:
        as_failure(second)  # raises what a person typed
        return "its text cannot be read"
