"""One queue in a directory: the filer protocol with owners, leases, delivery counts and reasons."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from zwrap.host.processes import ProcessIdentity
from zwrap.transport.spool.claimed import Claimed, read_file
from zwrap.transport.spool.directory import SpoolDirectory
from zwrap.transport.spool.files import REASON_SUFFIX, Name
from zwrap.transport.spool.owner import Owner

log = logging.getLogger(__name__)

ABANDONED_S = 3600.0
"""Age at which a file in ``tmp`` counts as left by a dead writer, in seconds."""


class SpoolQueue(SpoolDirectory):
    """One queue directory, as seen by one process. Not thread-safe; its users hold a lock."""

    def __init__(
        self,
        path: Path,
        *,
        durable: bool = True,
        limit: int = 10_000,
        limit_wait_s: float = 10.0,
    ) -> None:
        super().__init__(path, durable=durable, limit=limit, limit_wait_s=limit_wait_s)
        self._owner = Owner(self.path / self.places.pending, self._clock)
        self._listing: deque[str] = deque()
        self._recovered_at = float("-inf")

    def claim(self) -> Claimed | None:
        """Claim the first message that is due; it is ours until it is settled or the lease lapses.

        None: no message is due.
        """
        self._owner.keep_lease()
        refilled = False
        while True:
            if not self._listing:
                if refilled or not self._list():
                    return None
                refilled = True
            if claimed := self._claim(self._listing.popleft()):
                return claimed

    def claim_where(self, wanted: Callable[[Name], bool]) -> Claimed | None:
        """Claim the first message whose file name is wanted, delivery count and times included."""
        self._owner.keep_lease()
        for name in self._names():
            if wanted(Name.parse(name)) and (claimed := self._claim(name)):
                return claimed
        return None

    def _claim(self, name: str) -> Claimed | None:
        """Claim one message; None if another has it, it expired, or it cannot be read."""
        target = self._take(name)
        if target is None:
            return None
        if "~e" in name and 0 < Name.parse(name).expires_ms <= self._clock.now() * 1000:
            self._remove(target)
            return None
        try:
            return Claimed(target, name, read_file(target))
        except OSError as error:
            self.dead_letter(Claimed(target, name, b""), f"It cannot be read: {error.strerror}.")
            return None

    def _take(self, name: str) -> str | None:
        """Move a message to its owner's directory and return its path; None if another has it."""
        target = self._owner.prefix + name
        try:
            os.rename(self._incoming + name, target)
        except FileNotFoundError:
            # Another process was faster, our directory was removed, or NFS lost the answer to a
            # rename that succeeded; only the target, which no other process uses, can tell.
            if not os.path.exists(target):
                if self._owner.restore():
                    self._listing.appendleft(name)
                return None
        return target

    def _list(self) -> bool:
        """Read the names of messages that are due, for many claims; False: there are none."""
        names = self._names()
        now_ms = self._clock.now() * 1000 if any("~n" in name for name in names) else 0
        self._listing.extend(
            name for name in names if not ("~n" in name and Name.parse(name).not_before_ms > now_ms)
        )
        return bool(self._listing)

    def owned(self, claimed: Claimed) -> bool:
        """Tell whether a claimed message is still ours."""
        return os.path.exists(claimed.path)

    def ack(self, claimed: Claimed) -> None:
        """Remove a claimed message."""
        self._remove(claimed.path)

    def release(self, claimed: Claimed, *, counted: bool = True, delay_s: float = 0.0) -> None:
        """Give a claimed message back; its next delivery is `delay_s` seconds later at least.

        `counted`: True if this delivery counts.
        """
        name = Name.parse(claimed.name)
        name.delivery_count += counted
        name.not_before_ms = int((self._clock.now() + delay_s) * 1000) if delay_s else 0
        with contextlib.suppress(FileNotFoundError):
            os.rename(claimed.path, self._incoming + str(name))

    def dead_letter(self, claimed: Claimed, reason: str) -> None:
        """Move a claimed message to ``errors``, after its reason; never over an older one.

        Its name loses delivery count and delay, so that a message that is put back starts anew.
        """
        target = self._free_name(claimed.base)
        try:
            self._write_reason(target, reason)
        except OSError:  # a full disk must not keep a bad message in the way
            log.error("The reason of dead letter %s could not be written: %s", target, reason)
        with contextlib.suppress(FileNotFoundError):
            os.rename(claimed.path, target)

    def put_dead_letter(self, content: bytes, reason: str) -> Path:
        """Add a message that was never in the queue to ``errors``; return its file.

        Raises:
            OSError: The message cannot be written.
        """
        name = self._new_name(0, 0)
        target = self._free_name(name)
        self._write(self._tmp + name, content)
        self._write_reason(target, reason)
        os.rename(self._tmp + name, target)
        return Path(target)

    def _free_name(self, base: str) -> str:
        """Return a path in ``errors`` that no file has yet."""
        target = f"{self._errors}/{base}"
        for number in itertools.count(2):
            if not os.path.exists(target):
                break
            target = f"{self._errors}/{number}-{base}"
        return target

    def _write_reason(self, target: str, reason: str) -> None:
        """Write the reason of a dead letter beside it."""
        scratch = f"{self._tmp}{os.path.basename(target)[:200]}{REASON_SUFFIX}"
        self._remove(scratch)
        self._write(scratch, reason.rstrip().encode() + b"\n")
        os.rename(scratch, target + REASON_SUFFIX)

    def recover(self, every_s: float = 0.0, dead: ProcessIdentity | None = None) -> int:
        """Give back the messages of dead owners; return the number of messages.

        Does nothing within `every_s` seconds after the last call. The owner `dead` is known to be
        dead, whatever the state of its lease.
        """
        now = time.monotonic()
        if now - self._recovered_at < every_s:
            return 0
        self._recovered_at = now
        for file in Path(self._tmp).iterdir():
            if self._clock.age_s(file) > ABANDONED_S:
                file.unlink(missing_ok=True)
        return self._owner.recover(Path(self._incoming), dead)

    def keep_lease(self) -> None:
        """Renew the lease of this owner; called before each claim, and by a thread."""
        self._owner.keep_lease()

    def close(self) -> None:
        """Remove the directory of this owner, unless it holds messages."""
        self._owner.close()

    # -- looking -----------------------------------------------------------------------------

    def peek(self) -> Iterator[Claimed]:
        """Yield the waiting messages, in order, without claiming them."""
        for name in self._names():
            path = self._incoming + name
            with contextlib.suppress(OSError):
                yield Claimed(path, name, read_file(path))

    def owners(self) -> int:
        """Return the number of live processes that receive messages of the queue."""
        return self._owner.count()

    def dead_letters(self) -> Iterator[tuple[Path, str]]:
        """Yield the file and the reason of each dead letter, oldest first."""
        return self.dead_letters_in(self.path)

    @classmethod
    def dead_letters_in(cls, path: Path) -> Iterator[tuple[Path, str]]:
        """Yield the same as `dead_letters` for the directory of any queue, without changing it."""
        for file in sorted((path / cls.places.errors).glob("*")):
            if not file.name.startswith(".") and not file.name.endswith(REASON_SUFFIX):
                reason = file.with_name(file.name + REASON_SUFFIX)
                yield file, reason.read_text() if reason.exists() else "no reason was given\n"
