"""The messages of ended attempts on their way, in portions: many of one attempt hold up no other.

What was sent is not sent again in a later turn, nor by a Watcher that comes after this one.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from abc import ABC, abstractmethod

from zwrap.attempt.directory import JobDirectory
from zwrap.attempt.finals import FinalSender
from zwrap.attempt.progress import Progress
from zwrap.attempt.refusals import Ending
from zwrap.attempt.verdict import Verdict
from zwrap.errors import MessageError, TemporaryError, TransportError
from zwrap.host.faults import is_shared
from zwrap.host.modes import make_alike
from zwrap.host.processes import ProcessIdentity
from zwrap.host.standing import naming, real_name
from zwrap.message.limits import ANY_SIZE, Limits
from zwrap.transport.contract import Transport
from zwrap.transport.spool.queue import SpoolQueue

log = logging.getLogger(__name__)

KEPT = 20
"""Largest number of attempts of a cluster whose messages stay at hand until the next portion; those
of others are read again."""

UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""Error numbers of a directory that can be read all the same."""


class MoreToSendError(TemporaryError):
    """Much is to be read or sent for the attempt; the rest follows after other jobs."""


class Sending(ABC):
    """The messages of one attempt on their way."""

    def __init__(self, ending: Ending, sender: FinalSender) -> None:
        self.ending = ending
        self.sender = sender
        self.sender.end_with(ending)

    @property
    def verdict(self) -> Verdict:
        """The verdict; it may tell of results that were refused."""
        return self.ending.verdict

    def portion(self, transport: Transport) -> bool:
        """Send the next messages; return True if others are left.

        Raises as `FinalSender.send_portion` does.
        """
        if more := self.sender.send_portion(transport):
            self.renew()
        else:
            self.mark_sent()
            self.ending.over()
        return more

    @abstractmethod
    def renew(self) -> None:
        """Keep other processes from sending the rest meanwhile."""

    @abstractmethod
    def mark_sent(self) -> None:
        """Mark that all messages were sent."""

    @abstractmethod
    def close(self) -> None:
        """Let other processes send what is left."""


class Sendings:
    """The messages of several attempts that are sent portion by portion, by token."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._open: dict[str, Sending] = {}

    def get(self, token: str) -> Sending | None:
        """Return the sending that goes on where it was; None: it begins, perhaps anew."""
        return self._open.get(token)

    def portion(self, token: str, sending: Sending) -> Verdict:
        """Send a portion of the messages of an attempt; return the verdict after the last one.

        Raises:
            MoreToSendError: Other messages are left.
            Exception: As `Sending.portion` raises.
        """
        is_kept = False
        try:
            if not sending.portion(self._transport):
                return sending.verdict
            is_kept = token in self._open or len(self._open) < KEPT
            raise MoreToSendError
        finally:
            if is_kept:
                self._open[token] = sending
            else:
                self._open.pop(token, None)
                sending.close()

    def keep(self, tokens: set[str]) -> None:
        """Close all sendings but these."""
        for token in self._open.keys() - tokens:
            self.close(token)

    def close(self, token: str) -> None:
        """Close the sending of an attempt, if there is one."""
        if sending := self._open.pop(token, None):
            sending.close()


class DirectorySending(Sending):
    """The messages of an attempt with a job directory: the outbox, then the final ones.

    With `forced` the final messages are sent whatever becomes of the outbox.
    """

    def __init__(
        self,
        directory: JobDirectory,
        verdict: Verdict,
        outbox: SpoolQueue | None,
        *,
        forced: bool,
        limits: Limits,
    ) -> None:
        self._directory = directory
        self._name = real_name(directory.path)
        self._outbox = outbox
        self._forced = forced
        self._held = contextlib.ExitStack()
        """What keeps the directory open until the sending is closed."""
        ending = Ending(verdict, Progress(directory.progress), directory, limits=limits)
        super().__init__(ending, FinalSender(outbox))

    def keep_open(self, held: contextlib.ExitStack) -> None:
        """Close a stack, which keeps the directory open, when the sending is closed."""
        self._held = held

    def portion(self, transport: Transport) -> bool:
        """Do as `Sending.portion`; with `forced`, an outbox that cannot be sent is left alone."""
        with naming(self._directory.path, self._name):
            return self._portion(transport)

    def _portion(self, transport: Transport) -> bool:
        """Do as `portion`; errors may name the path that stands for the directory."""
        try:
            return super().portion(transport)
        except Exception as error:
            passes = isinstance(error, TemporaryError) or is_shared(error)
            if not self._forced or self._outbox is None or passes:
                raise
            log.warning("The outbox of %s cannot be sent, and is left alone: %s", self._name, error)
            done = self.sender.done
            self.sender = FinalSender(None, done)
            self.sender.end_with(self.ending)
            self._forced = False
            return super().portion(transport)

    def renew(self) -> None:
        """Renew the lease on the outbox."""
        if self._outbox is not None:
            with contextlib.suppress(OSError):
                self._outbox.keep_lease()

    def mark_sent(self) -> None:
        """Mark the directory, while the lease keeps others from sending."""
        try:
            self._directory.mark_sent()
        except OSError as error:
            log.warning("%s cannot be marked as sent: %s", self._name, error)

    def close(self) -> None:
        """Give back what waits, and the lease on the outbox."""
        with self._held:
            self.sender.rest()
            if self._outbox is not None:
                self._outbox.close()


def sole_sending(
    directory: JobDirectory,
    verdict: Verdict,
    wrapper: ProcessIdentity | None,
    *,
    forced: bool,
    overdue: bool,
    limits: Limits = ANY_SIZE,
) -> DirectorySending | None:
    """Return the sending of an attempt's messages; None: another process is sending them.

    Args:
        directory: The job directory.
        verdict: The verdict in it.
        wrapper: The dead wrapper, whose claims in the outbox are given back.
        forced: True if an outbox that cannot be used is left alone.
        overdue: True if a process that lives and keeps no lease on the outbox does not count.
        limits: Limits of the recipe.

    Raises:
        MessageError: There is something else in the place of the outbox.
        OSError: The outbox cannot be used now.
    """
    outbox = None
    if verdict.final or directory.has_outbox:  # looking at a job makes no outbox
        try:
            outbox = _opened(directory)
        except (MessageError, OSError) as error:
            if not forced or is_shared(error):
                raise
    try:
        if outbox is None or _is_alone(outbox, wrapper, overdue=overdue):
            return DirectorySending(directory, verdict, outbox, forced=forced, limits=limits)
    except BaseException:
        if outbox is not None:
            outbox.close()
        raise
    outbox.close()
    return None


def check_readable(error: OSError) -> None:
    """Raise an error again unless the directory that cannot be written can be read."""
    if is_shared(error) and error.errno not in UNWRITABLE:
        raise error


def _is_alone(outbox: SpoolQueue, wrapper: ProcessIdentity | None, *, overdue: bool) -> bool:
    """Take a lease on the outbox; return True if no other process has one.

    Of two Watchers that each take a lease and then look, at least one sees the other.
    """
    try:
        outbox.recover(dead=wrapper)
        outbox.keep_lease()
        return outbox.owners(by_lease=overdue) <= 1
    except OSError as error:
        check_readable(error)
        log.warning("%s cannot be written: %s", real_name(outbox.path), error)
        return True


def _opened(directory: JobDirectory) -> SpoolQueue | None:
    """Return the outbox; None if it does not exist and cannot be created, so that it is empty.

    Raises:
        MessageError: There is something else in its place.
        OSError: It is not known whether messages wait there.
    """
    place = directory.path / "outbox"
    for path in (place, *(place / name for name in SpoolQueue.places)):
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise MessageError(f"{path} is no directory.")
    has_messages = directory.has_outbox
    try:
        for name in SpoolQueue.places:
            make_alike(place / name)
        os.listdir(place / SpoolQueue.places.incoming)
        return directory.outbox()
    except OSError as error:
        if has_messages or (is_shared(error) and error.errno not in UNWRITABLE):
            raise
        return None
    except TransportError as error:
        if directory.has_outbox:
            raise OSError(errno.EIO, str(error)) from None
        return None
