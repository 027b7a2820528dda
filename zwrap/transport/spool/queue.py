"""One queue in a directory: the filer protocol with owners, leases, attempts and reasons.

::

    tmp/                     writers' scratch
    incoming/                complete messages; claimed in name order
    pending/<owner>/         claimed messages; `.lease` there is touched while the owner lives
    errors/                  dead letters; `<name>.reason` beside each says why

A message moves between them by rename(2), which is atomic on one filesystem, NFS and Lustre
included.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from zwrap.errors import QueueFullError, TransportError
from zwrap.host.files import FilesystemClock, sync_directory, write_all
from zwrap.host.processes import ProcessIdentity, host_name
from zwrap.transport.spool.files import (
    FILE_MODE,
    OWN_SUFFIX,
    REASON_SUFFIX,
    Name,
    make_spool_directory,
)
from zwrap.transport.spool.owner import Owner

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

log = logging.getLogger(__name__)

ABANDONED_S = 3600.0
"""What lies in `tmp/` for so long was left by a writer that died."""


FEW = 3
"""More messages than these are synced at the same time."""

_serial = itertools.count()


@functools.cache
def _syncing() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # wrappers start sooner without

    return ThreadPoolExecutor(4, "spool")


class Claimed:
    """A message that this process owns."""

    __slots__ = ("content", "name", "path")

    def __init__(self, path: str, name: str, content: bytes) -> None:
        self.path = path
        self.name = name
        self.content = content

    @property
    def delivery_count(self) -> int:
        """How often the message was claimed, this time included."""
        return Name.parse(self.name).delivery_count

    @property
    def base(self) -> str:
        """The part of the name that never changes."""
        return Name.parse(self.name).base

    @property
    def sent_at(self) -> float | None:
        """When the message was made, in seconds since the epoch."""
        if not self.is_foreign:
            return int(self.name[:19]) / 1e9 if self.name[:19].isdecimal() else None
        try:
            return os.stat(self.path).st_mtime
        except OSError:
            return None

    @property
    def is_foreign(self) -> bool:
        """Whether another filer producer wrote it: a bare message without headers."""
        return not self.base.endswith(OWN_SUFFIX)


class Places(NamedTuple):
    """Names of the directories of a queue."""

    incoming: str
    pending: str
    tmp: str
    errors: str


class SpoolQueue:
    """One queue directory, as seen by one process. Not thread-safe; its users hold a lock."""

    places: ClassVar[Places] = Places("incoming", "pending", "tmp", "errors")

    def __init__(
        self,
        path: Path,
        *,
        durable: bool = True,
        limit: int = 10_000,
        limit_wait_s: float = 10.0,
    ) -> None:
        self.path = Path(path)
        self.durable = durable
        self.limit = limit
        """Most messages that may wait; 0 is no limit."""
        self.limit_wait_s = limit_wait_s
        for name in self.places:
            make_spool_directory(self.path / name)
        self._incoming = f"{self.path / self.places.incoming}/"
        self._tmp = f"{self.path / self.places.tmp}/"
        self._errors = self.path / self.places.errors
        self._producer = f"{host_name()}-{os.getpid()}"
        self._clock = FilesystemClock(self.path / self.places.tmp)
        self._owner = Owner(self.path / self.places.pending, self._clock)
        self._listing: deque[str] = deque()
        self._room = 0
        self._last_ns = 0
        self._recovered_at = float("-inf")

    # -- producing ---------------------------------------------------------------------------

    def put(self, contents: Sequence[bytes], *, delay_s: float = 0, expires_s: float = 0) -> None:
        """Add messages; they wait, whole and in this order, when this returns."""
        self._wait_for_room(len(contents))
        try:
            names = [self._new_name(delay_s, expires_s) for _ in contents]
            if self.durable and len(names) > FEW:
                # Filesystems join what is synced at the same time.
                list(_syncing().map(lambda name, content: self._write(self._tmp + name, content),
                                    names, contents))  # fmt: skip
            else:
                for name, content in zip(names, contents, strict=True):
                    self._write(self._tmp + name, content)
            for name in names:
                os.rename(self._tmp + name, self._incoming + name)
            if self.durable:
                sync_directory(self._incoming)
        except OSError as error:
            raise TransportError(
                f"The message cannot be written to {self.path}: {error.strerror}. It can be sent "
                "again when there is space and permission."
            ) from None

    def adopt(self, claimed: Claimed) -> None:
        """Add the message of another queue under its name; adopted again it is still one."""
        old = Name.parse(claimed.name)
        name = str(Name(old.base, 1, 0, old.expires_ms))
        try:
            self._remove(self._tmp + name)
            self._write(self._tmp + name, claimed.content)
            os.rename(self._tmp + name, self._incoming + name)
            if self.durable:
                sync_directory(self._incoming)
        except OSError as error:
            raise TransportError(
                f"The message cannot be written to {self.path}: {error.strerror}. It stays where "
                "it was."
            ) from None

    def _new_name(self, delay_s: float, expires_s: float) -> str:
        self._last_ns = max(self._last_ns + 1, self._clock.now_ns())
        name = f"{self._last_ns:019d}-{self._producer}-{next(_serial)}{OWN_SUFFIX}"
        if not delay_s and not expires_s:
            return name
        due_ms = self._last_ns // 1_000_000 + int(delay_s * 1000) if delay_s else 0
        end_ms = self._last_ns // 1_000_000 + int(expires_s * 1000) if expires_s else 0
        return str(Name(name, 1, due_ms, end_ms))

    def _write(self, path: str, content: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        try:
            write_all(descriptor, content)
            if self.durable:
                os.fsync(descriptor)
        except OSError:
            self._remove(path)
            raise
        finally:
            os.close(descriptor)

    def _wait_for_room(self, count: int) -> None:
        """Back-pressure: count the queue only when the last count allows no more messages."""
        if not self.limit:
            return
        self._room -= count
        deadline = time.monotonic() + self.limit_wait_s
        while self._room < 0:
            self._room = self.limit - self.waiting() - count
            if self._room >= 0:
                self._room //= 4  # other producers fill the queue, too
                return
            if time.monotonic() > deadline:
                raise QueueFullError(
                    f"Queue {self.path} holds its limit of {self.limit} messages, and nobody took "
                    f"one for {self.limit_wait_s:g} s. Is its consumer running?"
                )
            time.sleep(min(0.1, self.limit_wait_s))

    # -- consuming ---------------------------------------------------------------------------

    def claim(self) -> Claimed | None:
        """Take the first message that is due; it is ours until settled or the lease lapses."""
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
        """Take the first message whose name, attempt and times included, is wanted."""
        self._owner.keep_lease()
        for name in self._names():
            if wanted(Name.parse(name)) and (claimed := self._claim(name)):
                return claimed
        return None

    def _claim(self, name: str) -> Claimed | None:
        """Take one message; None if another has it, it expired, or it cannot be read."""
        target = self._take(name)
        if target is None:
            return None
        if "~e" in name and 0 < Name.parse(name).expires_ms <= self._clock.now() * 1000:
            self._remove(target)
            return None
        try:
            return Claimed(target, name, _read(target))
        except OSError as error:
            self.dead_letter(Claimed(target, name, b""), f"It cannot be read: {error.strerror}.")
            return None

    def _take(self, name: str) -> str | None:
        """Move a message to its owner's directory; where it is now, or None if another has it."""
        target = self._owner.prefix + name
        try:
            os.rename(self._incoming + name, target)
        except FileNotFoundError:
            # Another was faster, our directory was cleared away, or NFS lost the answer to a
            # rename that succeeded; only the target can tell (it is ours alone).
            if not os.path.exists(target):
                if self._owner.restore():
                    self._listing.appendleft(name)
                return None
        return target

    def _list(self) -> bool:
        """Read the names in `incoming/` once, for many claims."""
        names = self._names()
        now_ms = self._clock.now() * 1000 if any("~n" in name for name in names) else 0
        self._listing.extend(
            name for name in names if not ("~n" in name and Name.parse(name).not_before_ms > now_ms)
        )
        return bool(self._listing)

    def _names(self) -> list[str]:
        """Names of the files that wait, in the order in which they are to be claimed."""
        try:
            names = os.listdir(self._incoming)
        except OSError as error:
            raise TransportError(f"{self._incoming} cannot be read: {error.strerror}.") from None
        return sorted(name for name in names if not name.startswith("."))

    def owned(self, claimed: Claimed) -> bool:
        """Whether a claimed message is still ours."""
        return os.path.exists(claimed.path)

    def ack(self, claimed: Claimed) -> None:
        """Forget a claimed message."""
        self._remove(claimed.path)

    def release(self, claimed: Claimed, *, counted: bool = True, delay_s: float = 0.0) -> None:
        """Put a claimed message back, with one more attempt on its name if `counted`."""
        name = Name.parse(claimed.name)
        name.delivery_count += counted
        name.not_before_ms = int((self._clock.now() + delay_s) * 1000) if delay_s else 0
        with contextlib.suppress(FileNotFoundError):
            os.rename(claimed.path, self._incoming + str(name))

    def dead_letter(self, claimed: Claimed, reason: str) -> None:
        """Move a claimed message to `errors/`, the reason first; never over an older one.

        Delivery count and delays leave its name there: whoever puts it back starts it anew.
        """
        target = self._free_name(claimed.base)
        try:
            self._write_reason(target, reason)
        except OSError:  # a full disk must not keep a bad message in the way
            log.error("The reason of dead letter %s could not be written: %s", target, reason)
        with contextlib.suppress(FileNotFoundError):
            os.rename(claimed.path, target)

    def put_dead_letter(self, content: bytes, reason: str) -> Path:
        """Add a message to `errors/` that never was in the queue; return its file.

        Raises:
            OSError: it cannot be written.
        """
        name = self._new_name(0, 0)
        target = self._free_name(name)
        self._write(self._tmp + name, content)
        self._write_reason(target, reason)
        os.rename(self._tmp + name, target)
        return Path(target)

    def _free_name(self, base: str) -> str:
        """Return a path in `errors/` that no file has yet."""
        target = f"{self._errors}/{base}"
        for number in itertools.count(2):
            if not os.path.exists(target):
                break
            target = f"{self._errors}/{number}-{base}"
        return target

    def _write_reason(self, target: str, reason: str) -> None:
        scratch = f"{self._tmp}{os.path.basename(target)[:200]}{REASON_SUFFIX}"
        self._remove(scratch)
        self._write(scratch, reason.rstrip().encode() + b"\n")
        os.rename(scratch, target + REASON_SUFFIX)

    def _remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def recover(self, every_s: float = 0.0, dead: ProcessIdentity | None = None) -> int:
        """Give back what dead owners hold, at most once per `every_s`; number of messages.

        `dead` is one that is known to be dead, whatever its lease says.
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
        """Say that this owner lives; called before each claim and by the renewing thread."""
        self._owner.keep_lease()

    def close(self) -> None:
        """Leave no trace of an owner that holds nothing."""
        self._owner.close()

    # -- looking -----------------------------------------------------------------------------

    def waiting(self) -> int:
        """Number of messages that wait, delayed ones included."""
        return len(self._names())

    def peek(self) -> Iterator[Claimed]:
        """Yield the messages that wait, in order, without claiming them."""
        for name in self._names():
            path = self._incoming + name
            with contextlib.suppress(OSError):
                yield Claimed(path, name, _read(path))

    def owners(self) -> int:
        """Number of living processes that take messages out of it."""
        return self._owner.count()

    def dead_letters(self) -> Iterator[tuple[Path, str]]:
        """Each dead letter's file and the reason, oldest first."""
        return self.dead_letters_in(self.path)

    @classmethod
    def dead_letters_in(cls, path: Path) -> Iterator[tuple[Path, str]]:
        """The same for the directory of any queue, which is left as it is."""
        for file in sorted((path / cls.places.errors).glob("*")):
            if not file.name.startswith(".") and not file.name.endswith(REASON_SUFFIX):
                reason = file.with_name(file.name + REASON_SUFFIX)
                yield file, reason.read_text() if reason.exists() else "no reason was given\n"


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(descriptor, 65536)
        if len(data) < 65536:
            return data
        pieces = [data]
        while piece := os.read(descriptor, 1 << 20):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)
