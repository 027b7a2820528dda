"""One queue in a directory: the filer protocol with owners, leases, delivery counts and reasons."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

from zwrap.host.faults import is_shared
from zwrap.host.files import UnfitFileError, read_regular
from zwrap.host.processes import ProcessIdentity
from zwrap.transport.spool.alone import Alone
from zwrap.transport.spool.aside import SpoolAside
from zwrap.transport.spool.claimed import Claimed
from zwrap.transport.spool.content import LONGEST_S
from zwrap.transport.spool.directory import MESSAGE_BYTES
from zwrap.transport.spool.files import Name
from zwrap.transport.spool.owner import Owner

log = logging.getLogger(__name__)

ABANDONED_S = 3600.0
"""Age at which a file in ``tmp`` counts as left by a dead writer, in seconds."""

ASIDE_S = 0.2
"""Longest time for which bad files are put aside until the caller of `receive` is served again, in
seconds."""

OFTEN = 5
"""Number of deliveries from which on a message is marked while it is read, because it may be the
reading that kills its receivers."""


class SpoolQueue(SpoolAside):
    """One queue directory, as seen by one process. Not thread-safe; its users hold a lock."""

    counts: ClassVar[bool] = True
    """True if a delivery by an owner that died counts."""

    def __init__(
        self,
        path: Path,
        *,
        durable: bool = True,
        limit: int = 10_000,
        limit_wait_s: float = 10.0,
        message_bytes: int = MESSAGE_BYTES,
    ) -> None:
        super().__init__(
            path,
            durable=durable,
            limit=limit,
            limit_wait_s=limit_wait_s,
            message_bytes=message_bytes,
        )
        self._listing: deque[str] = deque()
        self._recovered_at = float("-inf")
        self._left: set[str] = set()
        """Names in ``incoming`` that cannot be claimed, as was logged."""

    @functools.cached_property
    def _owner(self) -> Owner:
        """This process as an owner of claimed messages."""
        return Owner(self.path / self.places.pending, self._clock, shared=self.is_shared)

    @functools.cached_property
    def alone(self) -> Alone:
        """The mark by which this process has the queue alone, if it has."""
        return Alone(self, self._owner)

    def claim(self, within_s: float = float("inf")) -> Claimed | None:
        """Claim the first message that is due; it is ours until it is settled or the lease lapses.

        None: no message is due, or none was found in `within_s` seconds, because many files had to
        be put aside. What is wrong with one file makes it a dead letter. Raises OSError if nothing
        can be claimed now.
        """
        self._owner.keep_lease()
        until = time.monotonic() + within_s
        refilled = False
        while True:
            if not self._listing:
                if refilled or not self._list():
                    return None
                refilled = True
            if claimed := self._claim(self._listing.popleft()):
                return claimed
            if time.monotonic() > until:
                return None

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
        claimed = Claimed(target, name, b"")
        parts = claimed.parts
        if 0 < parts.expires_ms <= self._clock.now() * 1000:
            self._remove(target)
            return None
        if parts.being_read:
            self.dead_letter(
                claimed,
                f"The message was handed out {parts.delivery_count - 1} times; its last receiver "
                "died while it read the message, which is not read again.",
            )
            return None
        return self._read(claimed)

    def _read(self, claimed: Claimed) -> Claimed | None:
        """Read the file of a claimed message; None if that cannot be done."""
        if claimed.delivery_count >= OFTEN:
            self._mark(claimed, True)
        try:
            claimed.content = read_regular(claimed.path, self.message_bytes)
        except UnfitFileError as error:
            self.unfit(claimed, str(error))
            return None
        except OSError as error:
            if is_shared(error):
                self.release(claimed, counted=False)
                raise
            self.unfit(claimed, f"It cannot be read: {error.strerror}.")
            return None
        return claimed

    def unfit(self, claimed: Claimed, reason: str) -> None:
        """Put a file aside that cannot be read, and log why."""
        log.error("Message %s of %s is put aside: %s", claimed.name, self.path, reason)
        self.dead_letter(claimed, reason)

    def was_read(self, claimed: Claimed) -> None:
        """Note that reading a message did not kill this process."""
        if claimed.delivery_count >= OFTEN:
            self._mark(claimed, False)

    def _mark(self, claimed: Claimed, being_read: bool) -> None:
        """Note in the name of a claimed file whether it is being read."""
        name = Name.parse(claimed.name)
        name.being_read = being_read
        path = self._owner.prefix + str(name)
        os.rename(claimed.path, path)
        claimed.path = path

    def _take(self, name: str) -> str | None:
        """Move a message to its owner's directory and return its path; None if another has it."""
        target = self._owner.prefix + name
        try:
            os.rename(self._incoming + name, target)
        except FileNotFoundError:
            # Another process was faster, our directory was removed, or NFS lost the answer to a
            # rename that succeeded; only the target, which no other process uses, can tell.
            if not os.path.lexists(target):
                if self._owner.restore():
                    self._listing.appendleft(name)
                return None
        except OSError as error:
            if not is_shared(error) and self._owner.restore():
                self._listing.appendleft(name)
                return None
            if is_shared(error) or not self._is_writable():
                raise
            if name not in self._left:
                self._left.add(name)
                log.error(
                    "%s%s is left where it is, because it cannot be moved: %s",
                    self._incoming, name, error.strerror,
                )  # fmt: skip
            return None
        return target

    def _is_writable(self) -> bool:
        """Return whether messages can be claimed at all."""
        return all(
            os.access(each, os.W_OK | os.X_OK) for each in (self._incoming, self._owner.prefix)
        )

    def _list(self) -> bool:
        """Read the names of messages that are due, for many claims; False: there are none."""
        names = self._names()
        self._left.intersection_update(names)
        now_ms = self._clock.now() * 1000 if any("~n" in name for name in names) else 0
        self._listing.extend(
            name for name in names if not ("~n" in name and Name.parse(name).not_before_ms > now_ms)
        )
        return bool(self._listing)

    def owned(self, claimed: Claimed) -> bool:
        """Tell whether a claimed message is still ours."""
        return os.path.lexists(claimed.path)

    def ack(self, claimed: Claimed) -> None:
        """Remove a claimed message."""
        self._remove(claimed.path)

    def release(self, claimed: Claimed, *, counted: bool = True, delay_s: float = 0.0) -> None:
        """Give a claimed message back; its next delivery is `delay_s` seconds later at least.

        `counted`: True if this delivery counts.
        """
        name = Name.parse(claimed.name)
        name.delivery_count += counted
        bounded_s = min(LONGEST_S, delay_s)
        name.not_before_ms = int((self._clock.now() + bounded_s) * 1000) if bounded_s > 0 else 0
        try:
            os.rename(claimed.path, self._incoming + str(name))
        except FileNotFoundError:  # it is not ours any more
            return
        except (IsADirectoryError, NotADirectoryError) as error:
            self.unfit(claimed, f"It cannot be given back as {name}: {error.strerror}.")

    def give_back(self, claimed: Claimed) -> None:
        """Give a claimed message back to its place, which does not count."""
        self.release(claimed, counted=False)
        self._listing.clear()

    def recover(self, every_s: float = 0.0, dead: ProcessIdentity | None = None) -> int:
        """Give back the messages of dead owners; return the number of messages.

        Does nothing within `every_s` seconds after the last call. The owner `dead` is known to be
        dead, whatever the state of its lease. Raises OSError if nothing can be given back now.
        """
        now = time.monotonic()
        if now - self._recovered_at < every_s:
            return 0
        self._recovered_at = now
        self._sweep()
        if count := self._owner.recover(Path(self._incoming), dead, counted=self.counts):
            self._listing.clear()  # they come before later messages
        return count

    def _sweep(self) -> None:
        """Remove what dead writers left in ``tmp``; what cannot be removed stays."""
        with os.scandir(self._tmp) as entries:
            for entry in entries:
                if self._clock.age_s(Path(entry.path)) > ABANDONED_S:
                    with contextlib.suppress(OSError):  # an old directory, for example
                        os.unlink(entry.path)

    def keep_lease(self) -> None:
        """Renew the lease of this owner; called before each claim, and by a thread."""
        self._owner.keep_lease()

    def close(self) -> None:
        """Remove mark and directory of this owner; one that holds messages stays."""
        self.alone.leave()
        self._owner.close()

    # -- looking -----------------------------------------------------------------------------

    def peek(self) -> Iterator[Claimed]:
        """Yield the waiting messages that can be read, in order, without claiming them."""
        for name in self._names():
            path = self._incoming + name
            with contextlib.suppress(OSError, UnfitFileError):
                yield Claimed(path, name, read_regular(path, self.message_bytes))

    def owners(self, *, by_lease: bool = False) -> int:
        """Return the number of live processes that receive messages of the queue.

        With `by_lease` one whose lease has lapsed is none, even if it lives.
        """
        return self._owner.count(by_lease=by_lease)

    @classmethod
    def waiting_in(cls, path: Path) -> int:
        """Return the number of messages that wait in the directory of any queue, unchanged."""
        try:
            names = os.listdir(path / cls.places.incoming)
        except OSError as error:
            log.warning("%s cannot be read: %s", path, error.strerror)
            return 0
        return sum(not name.startswith(".") for name in names)
