"""The directory of one attempt: claim, outbox and verdict, shared by all who handle the job.

::

    <working directory>/.zwrap/<token>/
        envelope.json     the recipe step
        submission.json   the message that was submitted, for retries and `zwrap resubmit`
        script, bin/      the job script; `zocalo.wrap` of the submitting site, which it puts there
        secret            secret of the attempt, where its verdict is sent as a message
        listing.json, goes-on.json, copies.json   the files before a run; what a failure copied
        claim.json        the job that runs this attempt; another job finds it and ends
        outbox/           messages on their way out, a spool queue
        outbox/errors/    messages that the transport refused for good, with reasons
        verdict.json      how the attempt ended; only the first verdict gets this name
        sent.json         ids of the final messages that were sent, while others wait
        verdict.sent      mark: everything was sent
        .*.reserved       disk space for the verdict and the mark, in case the disk is full by then
        late-*.json       later verdicts; their messages are never sent
        damaged-*         files that were in the place of the verdict, and held none

The job may change all of it, so only regular files of a limited size are read, and neither the
directory nor a file in it may be a link; the directories above may be links.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from pathlib import Path

import msgspec

from zwrap.attempt.record import KeptSubmission, parse_submission
from zwrap.attempt.verdict import CLAIM, VERDICT, Claim, Verdict, parse_claim, parse_verdict
from zwrap.errors import MessageError, TemporaryError, TransportError
from zwrap.host.faults import is_shared
from zwrap.host.files import (
    NO_SURPRISE,
    UnfitFileError,
    create_once,
    overwrite_once,
    read_regular,
    touch,
    write_atomically,
)
from zwrap.host.modes import make_alike, make_readable
from zwrap.host.processes import ProcessIdentity, is_alive, this_process
from zwrap.host.scratch import remove_leftovers
from zwrap.message.jsontext import encode
from zwrap.transport.spool.own import OwnQueue
from zwrap.transport.spool.queue import SpoolQueue

RESERVED_BYTES = 64 * 1024
"""Disk space that is reserved for a verdict, in bytes: more than a verdict usually needs."""

FILE_BYTES = 100 << 20
"""Largest size of a submission or recipe step that is read, in bytes."""

VERDICT_BYTES = 300 << 20
"""Largest size of a verdict that is read, in bytes: more than its messages may have by default
(`zwrap.message.limits`)."""

CLAIM_BYTES = 64 * 1024
"""Largest size of a claim that is read, in bytes."""

LATE = 100
"""Largest number of late verdicts that are kept: the job may have taken any number of names."""

OWN_PARTS = 2
"""Number of last parts of a job directory's path that zwrap makes, ``.zwrap`` and the token."""

OUTBOX = "outbox"
ENVELOPE = "envelope.json"
SUBMISSION = "submission.json"


def job_directory(working_directory: Path, token: str) -> Path:
    """Return the path of the directory of an attempt."""
    return working_directory / ".zwrap" / token


class JobDirectory:
    """The files of one attempt. The directory need not exist; `make` creates it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self) -> None:
        """Create the directory unless it exists.

        Raises:
            OSError: The directory cannot be created.
            UnfitFileError: A link is there.
        """
        make_readable(self.path.parent.parent)
        make_alike(self.path)
        if self.path.is_symlink():
            raise UnfitFileError(f"{self.path} is a symbolic link; a directory is expected there.")

    @property
    def exists(self) -> bool:
        """True if the directory is there, and not a link in its place.

        Raises:
            OSError: That cannot be told now.
        """
        return _is_directory(self.path)

    # -- before the start --------------------------------------------------------------------------

    def keep_envelope(self, content: bytes) -> None:
        """Write the recipe step for people and tools that look later; a full disk is no error."""
        file = self.path / ENVELOPE
        with contextlib.suppress(OSError):
            if not os.path.lexists(file):
                write_atomically(file, content, durable=False)

    def submission(self) -> KeptSubmission:
        """Return the submission that was kept when the job was submitted.

        Raises:
            MessageError: There is none, or it cannot be read.
            OSError: Its filesystem is away.
        """
        file = self.path / SUBMISSION
        try:
            return parse_submission(read_regular(file, FILE_BYTES), str(file))
        except UnfitFileError as error:
            raise MessageError(str(error)) from None
        except OSError as error:
            if is_shared(error):
                raise
            raise MessageError(f"{file} cannot be read: {error.strerror}.") from None

    def reserve(self) -> None:
        """Reserve disk space for a verdict and its mark; the disk may be full when the job ends."""
        with contextlib.suppress(OSError):
            touch(self._mark)
            touch(self._reserved)
            descriptor = os.open(self._reserved, os.O_WRONLY | NO_SURPRISE)
            try:
                os.posix_fallocate(descriptor, 0, RESERVED_BYTES)
            finally:
                os.close(descriptor)

    # -- the claim ---------------------------------------------------------------------------------

    def claim(self, token: str, job_id: str) -> Claim | None:
        """Claim the attempt for this job; return the claim of another job that was first.

        A job takes over its own claim from a dead process: the batch system requeued the job.

        Raises:
            TemporaryError: The claim of the other job cannot be read.
            MessageError: It is a claim on another attempt.
        """
        file = self.path / CLAIM
        mine = Claim(token, job_id, str(this_process()))
        if create_once(file, msgspec.json.encode(mine)):
            return None
        try:
            other = parse_claim(read_regular(file, CLAIM_BYTES))
        except (OSError, UnfitFileError, MessageError) as error:
            raise TemporaryError(f"The claim {file} cannot be read: {error}.") from None
        if other.token != token:
            raise MessageError(
                f"{file} is the claim on another attempt, {other.token!r}, so that it is not known "
                f"whether a job runs attempt {token!r} already. Who wrote it?"
            )
        process = ProcessIdentity.parse(other.process)
        if other.job_id != job_id or (process and is_alive(process)):
            return other
        again = Claim(token, job_id, mine.process, other.run + 1)
        write_atomically(file, msgspec.json.encode(again))
        return None

    def claimed(self, token: str | None = None) -> Claim | None:
        """Return the claim; None if no job ever claimed the attempt, or it cannot be read.

        `token`: that of the attempt; a claim on another attempt counts as one that cannot be read.
        """
        with contextlib.suppress(OSError, UnfitFileError, MessageError):
            claim = parse_claim(read_regular(self.path / CLAIM, CLAIM_BYTES))
            return claim if token in (None, claim.token) else None
        return None

    @property
    def was_claimed(self) -> bool:
        """True if a job ever claimed the attempt, even if the claim cannot be read.

        Raises:
            OSError: That cannot be told now.
        """
        try:
            os.lstat(self.path / CLAIM)
        except FileNotFoundError:
            return False
        return True

    # -- the end -----------------------------------------------------------------------------------

    def outbox(self) -> SpoolQueue:
        """Return a new view of the messages that wait to be sent.

        Raises:
            TransportError: The directories of the outbox cannot be created, or are links.
        """
        for place in self._outbox_places():
            if place.is_symlink():
                raise TransportError(f"{place} is a symbolic link; a directory is expected there.")
        return OwnQueue(self.path / OUTBOX, limit=0).open()

    def _outbox_places(self) -> list[Path]:
        """Return the directories of the outbox."""
        outbox = self.path / OUTBOX
        return [outbox, *(outbox / name for name in SpoolQueue.places)]

    @property
    def has_outbox(self) -> bool:
        """True if messages may wait in the outbox.

        Raises:
            OSError: The directory cannot be examined now.
        """
        return all(map(_is_directory, self._outbox_places()[:2]))

    def put_verdict(self, verdict: Verdict) -> bool:
        """Put the verdict in place and return True; False: another was first, this one is late.

        Late verdicts are kept as ``late-*.json``, the first `LATE` of them.

        Raises:
            OSError: The verdict cannot be written.
        """
        if self._put_in_place(encode(verdict)):
            return True
        for number in range(1, LATE + 1):
            file = self.path / f"late-{number}.json"
            if not os.path.lexists(file) and create_once(file, encode(verdict)):
                break
        return False

    def replace_verdict(self, verdict: Verdict) -> None:
        """Put a changed verdict in the place of another; OSError: it cannot be written."""
        write_atomically(self.path / VERDICT, encode(verdict))

    def _put_in_place(self, content: bytes) -> bool:
        """Create the verdict file, on a full disk in the reserved space; False: there is one."""
        place = self.path / VERDICT
        try:
            return create_once(place, content)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return overwrite_once(self._reserved, content, place)
        finally:
            self._reserved.unlink(missing_ok=True)

    @property
    def _reserved(self) -> Path:
        return self.path / ".verdict.reserved"

    @property
    def _mark(self) -> Path:
        return self.path / ".sent.reserved"

    @property
    def has_verdict(self) -> bool:
        """True if there is a verdict, readable or not."""
        return os.path.lexists(self.path / VERDICT)

    def verdict(self, token: str | None = None) -> Verdict | None:
        """Return the verdict; None if there is none yet.

        `token`: that of the attempt.

        Raises:
            MessageError: The file does not hold a verdict, or not one on the attempt.
            OSError: The file cannot be read now.
        """
        file = self.path / VERDICT
        try:
            verdict = parse_verdict(read_regular(file, VERDICT_BYTES), str(file))
        except FileNotFoundError:
            return None
        except UnfitFileError as error:
            raise MessageError(str(error)) from None
        if token not in (None, verdict.token):
            raise MessageError(f"{file} holds the verdict on another attempt, {verdict.token!r}.")
        return verdict

    @property
    def progress(self) -> Path:
        """File with the ids of those final messages that were sent (`zwrap.attempt.progress`)."""
        return self.path / "sent.json"

    def put_verdict_aside(self) -> None:
        """Rename what is in the place of the verdict, and take back that any of it was sent.

        Raises:
            OSError: The directory cannot be written.
        """
        self._put_aside(VERDICT)
        self._put_aside(self.progress.name)
        self.take_back_mark()

    def take_back_mark(self) -> None:
        """Take back the mark that everything was sent: it was there before the verdict was.

        Raises:
            OSError: The directory cannot be written.
        """
        self._put_aside("verdict.sent")

    def _put_aside(self, name: str) -> None:
        """Give a file another name, if it is there."""
        names = (self.path / f"damaged-{number}" for number in itertools.count(1))
        free = next(path for path in names if not os.path.lexists(path))
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.path / name, free)

    def mark_sent(self) -> None:
        """Mark that every message of this attempt, the final ones included, was sent.

        What killed processes left half-written is removed.

        Raises:
            OSError: The mark cannot be made.
        """
        try:
            os.replace(self._mark, self.path / "verdict.sent")
        except FileNotFoundError:
            touch(self.path / "verdict.sent")
        remove_leftovers(self.path)

    @property
    def is_sent(self) -> bool:
        """True if every message of this attempt was sent."""
        return os.path.lexists(self.path / "verdict.sent")


def _is_directory(path: Path) -> bool:
    """Return whether a directory, and not a link to one, is at a path; OSError: that is unknown."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
