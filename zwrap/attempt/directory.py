"""The directory of one attempt: claim, outbox and verdict, shared by all who speak for the job.

::

    <working directory>/.zwrap/<token>/
        envelope.json     the recipe step
        submission.json   the message that was submitted, for `zwrap resubmit`
        script            what was submitted
        bin/              `zocalo.wrap` of the submitting site, put there by the script
        claim.json        the job that runs this attempt; another job finds it and ends
        outbox/           messages on their way out, a spool queue
        verdict.json      how the attempt ended; whoever puts it there speaks for the job
        verdict.sent      everything was sent
        .*.reserved       room for these two, for the disk may be full by then
        late-*.json       what others had to say after that; never sent
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from pathlib import Path

import msgspec

from zwrap.attempt.verdict import Claim, Verdict
from zwrap.errors import TemporaryError
from zwrap.host.files import create_once, make_directory, overwrite_once, write_atomically
from zwrap.host.processes import ProcessIdentity, is_alive, this_process
from zwrap.transport.spool.queue import SpoolQueue

RESERVED_BYTES = 64 * 1024
"""As much as a verdict with the last messages of its step usually has, and more."""

ENVELOPE = "envelope.json"
SUBMISSION = "submission.json"


def job_directory(working_directory: Path, token: str) -> Path:
    """Where the files of an attempt lie."""
    return working_directory / ".zwrap" / token


class JobDirectory:
    """The files of one attempt."""

    def __init__(self, path: Path) -> None:
        self.path = path
        make_directory(path)

    def keep_envelope(self, content: bytes) -> None:
        """Keep the recipe step here, too, for those who look at the attempt later."""
        file = self.path / ENVELOPE
        with contextlib.suppress(OSError):  # a full disk must not stop the program
            if not file.exists():
                write_atomically(file, content, durable=False)

    def outbox(self) -> SpoolQueue:
        """Messages that wait to be sent; a new view for each caller."""
        return SpoolQueue(self.path / "outbox", limit=0)

    def claim(self, token: str, job_id: str) -> Claim | None:
        """Claim the attempt for this job; the claim of the other job if one has it.

        The same job id takes over from a process that is gone: a requeued job.
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
        """The claim, if a job ever claimed the attempt."""
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode((self.path / "claim.json").read_bytes(), type=Claim)
        return None

    def speak(self, verdict: Verdict) -> bool:
        """Put the verdict in place; False if another has spoken, and this one is kept as late."""
        if self._put_in_place(msgspec.json.encode(verdict)):
            return True
        for number in itertools.count(1):
            if create_once(self.path / f"late-{number}.json", msgspec.json.encode(verdict)):
                break
        return False

    def reserve(self) -> None:
        """Take the space for a verdict and its mark, for at the end of the job the disk may be
        full.
        """
        with contextlib.suppress(OSError):
            self._mark.touch()
            descriptor = os.open(self._reserved, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                os.posix_fallocate(descriptor, 0, RESERVED_BYTES)
            finally:
                os.close(descriptor)

    def _put_in_place(self, content: bytes) -> bool:
        """Put a verdict there unless there is one; if need be in the space that was taken."""
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

    def verdict(self) -> Verdict | None:
        """The verdict, if somebody has spoken."""
        with contextlib.suppress(FileNotFoundError):
            return msgspec.json.decode((self.path / "verdict.json").read_bytes(), type=Verdict)
        return None

    def mark_sent(self) -> None:
        """Say that everything of this attempt, the verdict included, has been sent."""
        try:
            os.replace(self._mark, self.path / "verdict.sent")
        except FileNotFoundError:
            (self.path / "verdict.sent").touch()

    @property
    def is_sent(self) -> bool:
        """Whether everything of this attempt has been sent."""
        return (self.path / "verdict.sent").exists()
