"""One queue in a directory: the filer protocol with owners, leases, attempts and reasons.

::

    tmp/                     writers' scratch
    incoming/                complete messages; claimed in name order
    pending/<owner>/         claimed messages; `.lease` there is touched while the owner lives
    errors/                  dead letters; `<name>.reason` beside each says why

A message moves between them by rename(2), which is atomic on one filesystem, NFS and Lustre
included. What a message must tell after a crash is in its name::

    1763712345678901234-node1-4711-3.zwrap~a2~n1763712350000~e1763712400000
    created (ns), host, pid, serial        attempt, not before (ms), expires (ms)

A file of another name, put there by a foreign filer producer, is a message without headers.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from zwrap.errors import QueueFullError, TransportError
from zwrap.files import FilesystemClock, sync_directory, write_all
from zwrap.host import ProcessIdentity, host_name, is_alive, this_process

log = logging.getLogger(__name__)

LEASE_S = 180.0
"""A claim whose owner was not heard of for this long may be taken over by another host."""

RENEW_S = 30.0
"""Interval at which an owner renews its lease."""

OWN_SUFFIX = ".zwrap"
REASON_SUFFIX = ".reason"
DIRECTORY_MODE = 0o2770
FILE_MODE = 0o640

_NAME = re.compile(r"(?P<base>.+?)(?:~a(?P<a>\d+))?(?:~n(?P<n>\d+))?(?:~e(?P<e>\d+))?", re.DOTALL)
_serial = itertools.count()


class Name:
    """A file name taken apart."""

    __slots__ = ("attempt", "base", "expires_ms", "not_before_ms")

    def __init__(
        self, base: str, attempt: int = 1, not_before_ms: int = 0, expires_ms: int = 0
    ) -> None:
        self.base = base
        self.attempt = attempt
        self.not_before_ms = not_before_ms
        self.expires_ms = expires_ms

    @classmethod
    def parse(cls, text: str) -> Name:
        """Take `text` apart; a foreign name is all base."""
        if "~" not in text:
            return cls(text)
        match = _NAME.fullmatch(text)
        if match is None:
            return cls(text)
        return cls(match["base"], int(match["a"] or 1), int(match["n"] or 0), int(match["e"] or 0))

    def __str__(self) -> str:
        return (
            self.base
            + (f"~a{self.attempt}" if self.attempt > 1 else "")
            + (f"~n{self.not_before_ms}" if self.not_before_ms else "")
            + (f"~e{self.expires_ms}" if self.expires_ms else "")
        )


class Claimed:
    """A message that this process owns."""

    __slots__ = ("content", "name", "path")

    def __init__(self, path: str, name: str, content: bytes) -> None:
        self.path = path
        self.name = name
        self.content = content

    @property
    def attempt(self) -> int:
        """How often the message was claimed, this time included."""
        return Name.parse(self.name).attempt

    @property
    def base(self) -> str:
        """The part of the name that never changes."""
        return Name.parse(self.name).base

    @property
    def is_foreign(self) -> bool:
        """Whether another filer producer wrote it: a bare message without headers."""
        return not self.base.endswith(OWN_SUFFIX)


class SpoolQueue:
    """One queue directory, as seen by one process. Not thread-safe; its users hold a lock."""

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
        for name in ("tmp", "incoming", "pending", "errors"):
            make_directory(self.path / name)
        self._incoming = f"{self.path}/incoming/"
        self._tmp = f"{self.path}/tmp/"  # noqa: S108  (the filer protocol names it so)
        # One directory per instance: two of them in one process must not mistake claims.
        self._owner = f"{this_process()},{next(_serial)}"
        self._mine = f"{self.path}/pending/{self._owner}/"
        self._producer = f"{host_name()}-{os.getpid()}"
        self._clock = FilesystemClock(self.path / "tmp")
        self._listing: deque[str] = deque()
        self._room = 0
        self._last_ns = 0
        self._leased_at = float("-inf")
        self._recovered_at = float("-inf")

    # -- producing ---------------------------------------------------------------------------

    def put(self, contents: Sequence[bytes], *, delay_s: float = 0, expires_s: float = 0) -> None:
        """Add messages; they wait, whole and in this order, when this returns."""
        self._wait_for_room(len(contents))
        try:
            names = [self._new_name(delay_s, expires_s) for _ in contents]
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
        self.keep_lease()
        listing = self._listing
        refilled = False
        while True:
            if not listing:
                if refilled or not self._list():
                    return None
                refilled = True
            name = listing.popleft()
            source, target = self._incoming + name, self._mine + name
            try:
                os.rename(source, target)
            except FileNotFoundError:
                # Another was faster, our directory was cleared away, or NFS lost the answer to a
                # rename that succeeded; only the target can tell (it is ours alone).
                if not os.path.exists(target):
                    if not os.path.isdir(self._mine):
                        self._leased_at = float("-inf")
                        self.keep_lease()
                        listing.appendleft(name)
                    continue
            if "~e" in name and 0 < Name.parse(name).expires_ms <= self._clock.now() * 1000:
                self._remove(target)
                continue
            try:
                return Claimed(target, name, _read(target))
            except OSError as error:
                self.banish(Claimed(target, name, b""), f"It cannot be read: {error.strerror}.")

    def _list(self) -> bool:
        """Read the names in `incoming/` once, for many claims."""
        try:
            names = os.listdir(self._incoming)
        except OSError as error:
            raise TransportError(f"{self._incoming} cannot be read: {error.strerror}.") from None
        names.sort()
        now_ms = self._clock.now() * 1000 if any("~n" in name for name in names) else 0
        self._listing.extend(
            name
            for name in names
            if not name.startswith(".")
            and not ("~n" in name and Name.parse(name).not_before_ms > now_ms)
        )
        return bool(self._listing)

    def owned(self, claimed: Claimed) -> bool:
        """Whether a claimed message is still ours."""
        return os.path.exists(claimed.path)

    def ack(self, claimed: Claimed) -> None:
        """Forget a claimed message."""
        self._remove(claimed.path)

    def release(self, claimed: Claimed, *, counted: bool = True, delay_s: float = 0.0) -> None:
        """Put a claimed message back, with one more attempt on its name if `counted`."""
        name = Name.parse(claimed.name)
        name.attempt += counted
        name.not_before_ms = int((self._clock.now() + delay_s) * 1000) if delay_s else 0
        with contextlib.suppress(FileNotFoundError):
            os.rename(claimed.path, self._incoming + str(name))

    def banish(self, claimed: Claimed, reason: str) -> None:
        """Move a claimed message to `errors/`, the reason first; never over an older one."""
        target = f"{self.path}/errors/{claimed.name}"
        while os.path.exists(target):
            target += "+"
        scratch = f"{self._tmp}{claimed.name[:200]}{REASON_SUFFIX}"
        self._remove(scratch)
        try:
            self._write(scratch, reason.rstrip().encode() + b"\n")
            os.rename(scratch, target + REASON_SUFFIX)
        except OSError:  # a full disk must not keep a bad message in the way
            log.error("The reason of dead letter %s could not be written: %s", target, reason)
        with contextlib.suppress(FileNotFoundError):
            os.rename(claimed.path, target)

    def _remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    # -- leases and recovery -----------------------------------------------------------------

    def keep_lease(self) -> None:
        """Say that this owner lives; called before each claim and by the renewing thread."""
        now = time.monotonic()
        if now - self._leased_at < RENEW_S / 2:
            return
        make_directory(Path(self._mine))
        Path(self._mine, ".lease").touch()
        self._leased_at = now

    def recover(self, every_s: float = 0.0) -> int:
        """Give back what dead owners hold, at most once per `every_s`; number of messages."""
        now = time.monotonic()
        if now - self._recovered_at < every_s:
            return 0
        self._recovered_at = now
        self._sweep_scratch()
        return sum(self._recover_owner(owner) for owner in self._lapsed_owners())

    def _lapsed_owners(self) -> Iterator[Path]:
        for directory in (self.path / "pending").iterdir():
            owner = ProcessIdentity.parse(directory.name.partition(",")[0])
            if owner is None or directory.name == self._owner:
                continue
            alive = is_alive(owner)
            if alive is False or (alive is None and self._age_s(directory / ".lease") > LEASE_S):
                yield directory

    def _age_s(self, file: Path) -> float:
        for candidate in (file, file.parent):
            with contextlib.suppress(OSError):
                return self._clock.now() - candidate.stat().st_mtime
        return 0.0

    def _recover_owner(self, directory: Path) -> int:
        count = 0
        with contextlib.suppress(FileNotFoundError):
            for text in sorted(os.listdir(directory)):
                if text == ".lease":
                    continue
                name = Name.parse(text)
                name.attempt += 1
                name.not_before_ms = 0
                with contextlib.suppress(FileNotFoundError):  # another recovers, too
                    os.rename(directory / text, self._incoming + str(name))
                    count += 1
            (directory / ".lease").unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                directory.rmdir()
        return count

    def _sweep_scratch(self) -> None:
        """Remove what writers that died left in `tmp/` more than an hour ago."""
        for file in (self.path / "tmp").iterdir():
            if self._age_s(file) > 3600:
                file.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave no trace of an owner that holds nothing."""
        with contextlib.suppress(OSError):
            if os.listdir(self._mine) == [".lease"]:
                os.unlink(self._mine + ".lease")
                Path(self._mine).rmdir()
        self._leased_at = float("-inf")

    # -- looking -----------------------------------------------------------------------------

    def waiting(self) -> int:
        """Number of messages in `incoming/`, delayed ones included."""
        return sum(not name.startswith(".") for name in os.listdir(self._incoming))

    def dead_letters(self) -> Iterator[tuple[Path, str]]:
        """Each dead letter's file and the reason, oldest first."""
        for file in sorted((self.path / "errors").iterdir()):
            if not file.name.endswith(REASON_SUFFIX):
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


_made = threading.Lock()


def make_directory(path: Path) -> None:
    """Make a spool directory (mode 2770: the group of the directory above shares it)."""
    if path.is_dir():
        return
    try:
        with _made:
            missing = [p for p in (path, *path.parents) if not p.exists()]
            for directory in reversed(missing):
                with contextlib.suppress(FileExistsError):
                    directory.mkdir()
                    directory.chmod(DIRECTORY_MODE)
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "there is something else", str(path))
    except OSError as error:
        raise TransportError(
            f"The spool directory {path} cannot be made: {error.strerror}. "
            "Choose a directory that you may write to (ZWRAP_SPOOL, or plugin 'spool', key 'path')."
        ) from None
