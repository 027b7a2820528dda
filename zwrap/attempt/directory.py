"""The directory of one attempt: claim, outbox and verdict, shared by all who handle the job.

::

    <working directory>/.zwrap/<token>/
        envelope.json     the recipe step
        submission.json   the message that was submitted, for retries and `zwrap resubmit`
        script            the job script
        bin/              `zocalo.wrap` of the submitting site, put there by the script
        claim.json        the job that runs this attempt; another job finds it and ends
        outbox/           messages on their way out, a spool queue
        outbox/errors/    messages that the transport refused for good, with reasons
        verdict.json      how the attempt ended; only the first verdict gets this name
        verdict.sent      mark: everything was sent
        .*.reserved       disk space for the verdict and the mark, in case the disk is full by then
        late-*.json       later verdicts; their messages are never sent
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from pathlib import Path

import msgspec

from zwrap.attempt.record import KeptSubmission, parse_submission
from zwrap.attempt.verdict import Claim, Verdict
from zwrap.errors import MessageError, TemporaryError
from zwrap.host.files import create_once, make_directory, overwrite_once, write_atomically
from zwrap.host.processes import ProcessIdentity, is_alive, this_process
from zwrap.transport.spool.queue import SpoolQueue

RESERVED_BYTES = 64 * 1024
"""Disk space that is reserved for a verdict, in bytes: more than a verdict usually needs."""

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
        """
        make_directory(self.path)

    # -- before the start --------------------------------------------------------------------------

    def keep_envelope(self, content: bytes) -> None:
        """Write the recipe step for people and tools that look later; a full disk is no error."""
        file = self.path / ENVELOPE
        with contextlib.suppress(OSError):
            if not file.exists():
                write_atomically(file, content, durable=False)

    def submission(self) -> KeptSubmission:
        """Return the submission that was kept when the job was submitted.

        Raises:
            MessageError: There is none, or it cannot be read.
        """
        file = self.path / SUBMISSION
        try:
            return parse_submission(file.read_bytes(), str(file))
        except OSError as error:
            raise MessageError(f"{file} cannot be read: {error.strerror}.") from None

    def reserve(self) -> None:
        """Reserve disk space for a verdict and its mark; the disk may be full when the job ends."""
        with contextlib.suppress(OSError):
            self._mark.touch()
            descriptor = os.open(self._reserved, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
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
        """
        file = self.path / "claim.json"
        mine = Claim(token, job_id, str(this_process()))
        if create_once(file, msgspec.json.encode(mine)):
            return None
        try:
            other = msgspec.json.decode(file.read_bytes(), type=Claim)
        except (OSError, msgspec.DecodeError) as error:
            raise TemporaryError(f"The claim {file} cannot be read: {error}.") from None
        process = ProcessIdentity.parse(other.process)
        if other.job_id != job_id or (process and is_alive(process)):
            return other
        again = Claim(token, job_id, mine.process, other.run + 1)
        write_atomically(file, msgspec.json.encode(again))
        return None

    def claimed(self) -> Claim | None:
        """Return the claim; None if no job ever claimed the attempt."""
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode((self.path / "claim.json").read_bytes(), type=Claim)
        return None

    @property
    def was_claimed(self) -> bool:
        """Whether a job ever claimed the attempt, even if the claim cannot be read."""
        return os.path.lexists(self.path / "claim.json")

    # -- the end -----------------------------------------------------------------------------------

    def outbox(self) -> SpoolQueue:
        """Return a new view of the messages that wait to be sent.

        Raises:
            TransportError: The directories of the outbox cannot be created.
        """
        return SpoolQueue(self.path / "outbox", limit=0)

    @property
    def has_outbox(self) -> bool:
        """True if messages may wait in the outbox.

        Raises:
            OSError: The directory cannot be examined now.
        """
        return (self.path / "outbox" / SpoolQueue.places.incoming).exists()

    def put_verdict(self, verdict: Verdict) -> bool:
        """Put the verdict in place and return True; False: another was first, this one is late.

        Late verdicts are kept as ``late-*.json``.

        Raises:
            OSError: The verdict cannot be written.
        """
        if self._put_in_place(msgspec.json.encode(verdict)):
            return True
        for number in itertools.count(1):
            if create_once(self.path / f"late-{number}.json", msgspec.json.encode(verdict)):
                break
        return False

    def _put_in_place(self, content: bytes) -> bool:
        """Create the verdict file, on a full disk in the reserved space; False: there is one."""
        place = self.path / "verdict.json"
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
        return (self.path / "verdict.json").exists()

    def verdict(self) -> Verdict | None:
        """Return the verdict; None if there is none yet.

        Raises:
            MessageError: The file does not hold a verdict.
            OSError: The file cannot be read now.
        """
        file = self.path / "verdict.json"
        try:
            return msgspec.json.decode(file.read_bytes(), type=Verdict)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise MessageError(f"{file} does not hold a verdict: {error}.") from None

    def mark_sent(self) -> None:
        """Mark that every message of this attempt, the final ones included, was sent.

        Raises:
            OSError: The mark cannot be made.
        """
        try:
            os.replace(self._mark, self.path / "verdict.sent")
        except FileNotFoundError:
            (self.path / "verdict.sent").touch()

    @property
    def is_sent(self) -> bool:
        """True if every message of this attempt was sent."""
        return (self.path / "verdict.sent").exists()
