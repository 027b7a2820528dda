"""Names of message files and of their directories.

The name of a file holds all that must be known after a crash::

    1763712345678901234-node1-4711-3.zwrap~a2~n1763712350000~e1763712400000
    created (ns), host, pid, serial        delivery, not before (ms), expires (ms)

and, last, ``~r`` while a message that was delivered often is read.
A file with a name of another form, from a foreign filer producer, is a message without headers. All
of its name is its own, whatever that looks like; what zwrap has to add comes behind a mark of its
own: ``job.json~zwrap~a2``. Names are bytes: those that are not UTF-8 are kept with surrogate
escapes (PEP 383).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from zwrap.errors import ConfigurationError, TransportError
from zwrap.host.faults import is_shared
from zwrap.host.modes import make_alike, make_shared
from zwrap.transport.failures import NoRouteError

log = logging.getLogger(__name__)

OWN_SUFFIX = ".zwrap"
REASON_SUFFIX = ".reason"

NAME_BYTES = 255
"""Largest size of a file name on the usual filesystems, in bytes (NAME_MAX of limits.h)."""

BASE_BYTES = 180
"""Largest size of a base that is kept whole in longer names, in bytes."""

NAME_CHARACTERS = 200
"""Largest length of the name of a queue or topic, in characters."""

_MARK = "~zwrap"
"""Mark between the base of a foreign name and what zwrap added to it."""

_NAME = re.compile(
    rf"(?P<base>.+?(?:{re.escape(OWN_SUFFIX)}|(?P<mark>{_MARK})))"
    r"(?P<added>(?:~a(?P<a>[0-9]{1,9}))?(?:~n(?P<n>[0-9]{1,16}))?(?:~e(?P<e>[0-9]{1,16}))?(?P<r>~r)?)",
    re.DOTALL,
)


class Name:
    """The parts of a file name; times are in milliseconds since the epoch, 0: not given."""

    __slots__ = ("base", "being_read", "delivery_count", "expires_ms", "not_before_ms")

    def __init__(
        self,
        base: str,
        delivery_count: int = 1,
        not_before_ms: int = 0,
        expires_ms: int = 0,
        *,
        being_read: bool = False,
    ) -> None:
        self.base = base
        self.delivery_count = delivery_count
        self.not_before_ms = not_before_ms
        self.expires_ms = expires_ms
        self.being_read = being_read
        """True while a process reads a message that was delivered often."""

    @classmethod
    def parse(cls, text: str) -> Name:
        """Return the parts of a file name; all of a foreign name is the base."""
        if "~" not in text:
            return cls(text)
        match = _NAME.fullmatch(text)
        if match is None or not match["added"]:
            return cls(text)
        base = match["base"].removesuffix(_MARK) if match["mark"] else match["base"]
        return cls(
            base,
            int(match["a"] or 1),
            int(match["n"] or 0),
            int(match["e"] or 0),
            being_read=match["r"] is not None,
        )

    def __str__(self) -> str:
        added = (
            (f"~a{self.delivery_count}" if self.delivery_count > 1 else "")
            + (f"~n{self.not_before_ms}" if self.not_before_ms else "")
            + (f"~e{self.expires_ms}" if self.expires_ms else "")
            + ("~r" if self.being_read else "")
        )
        if not added:
            return self.base
        return shortened(self.base) + ("" if self.is_own else _MARK) + added

    @property
    def is_own(self) -> bool:
        """True if the file has a name of zwrap's form; False: a foreign producer wrote it."""
        return self.base.endswith(OWN_SUFFIX)


def shortened(base: str) -> str:
    """Return a base that leaves room in a file name; it is as unique as the base.

    A base of at most `BASE_BYTES` bytes stays as it is.
    """
    if len(base) <= BASE_BYTES and base.isascii():
        return base
    data = os.fsencode(base)
    if len(data) <= BASE_BYTES:
        return base
    import hashlib  # for such names only

    digest = hashlib.sha256(data).hexdigest()[:24]
    own = OWN_SUFFIX if base.endswith(OWN_SUFFIX) else ""
    kept = data[: BASE_BYTES - len(digest) - len(own) - 1]
    return f"{os.fsdecode(kept)}-{digest}{own}"


def letters(names: list[str]) -> list[str]:
    """Return the names of dead letters among the file names of their directory, sorted.

    A name that ends with `REASON_SUFFIX` is the reason of another file, unless it has a reason
    itself.
    """
    present = {name for name in names if not name.startswith(".")}
    found: set[str] = set()
    for name in sorted(present, key=len):
        stem = name.removesuffix(REASON_SUFFIX)
        if stem == name or (stem not in found and name + REASON_SUFFIX in present):
            found.add(name)
    return sorted(found)


class OccupiedError(TransportError):
    """Something else lies where a directory of the spool should be."""


class NoPlaceError(NoRouteError):
    """There can be no such queue or topic, because something else lies in its place."""


def make_spool_directory(path: Path, *, shared: bool = True) -> None:
    """Create a directory of the spool; TransportError if that is not possible now.

    `shared`: True if a group shares it; False if it is for those who use the directory above it.
    """
    try:
        (make_shared if shared else make_alike)(path)
    except OSError as error:
        passes = is_shared(error) or error.errno in (errno.EACCES, errno.EPERM)
        kind = TransportError if passes else OccupiedError
        raise kind(
            f"The spool directory {path} cannot be made: {error.strerror}. "
            "Choose a directory that you may write to (ZWRAP_SPOOL, or plugin 'spool', key 'path')."
        ) from None


def make_root(path: Path) -> None:
    """Create the directory of a whole spool, unless it is there, and check it.

    Raises:
        ConfigurationError: Everybody may write to it.
        TransportError: It cannot be created now.
    """
    make_spool_directory(path)
    mode = path.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise ConfigurationError(
            f"The spool {path} may be written by everybody, so anybody could start jobs. "
            f"Remove that permission: chmod o-w {path}"
        )


class named:  # noqa: N801  (used as a function; a class, unlike a generator, costs nothing)
    """Raise NoPlaceError if something else lies where the directories of a name should be.

    If the spool itself, `root`, is not there, that is no fault of the name: TransportError.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OccupiedError):
            raise (NoPlaceError if self._root.is_dir() else TransportError)(str(error)) from None


class usable:  # noqa: N801  (as `named`)
    """Raise TransportError for an OSError; that of a single file was dealt with before."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise TransportError(
                f"The spool {self._root} cannot be used now: {error.filename}: {error.strerror}."
            ) from error


@contextlib.contextmanager
def topic_only(name: str) -> Iterator[None]:
    """Log that something else lies in the place of a topic, which ends nobody's work on queues."""
    try:
        yield
    except NoPlaceError as error:
        log.error("Broadcasts on topic %s are not received: %s", name, error)


def checked_name(name: str) -> str:
    """Return a queue or topic name; NoRouteError if it is not safe as a directory name."""
    if not is_name(name):
        raise NoRouteError(
            f"{name!r} cannot be a queue or topic: a name of 1 to {NAME_CHARACTERS} characters and "
            f"at most {NAME_BYTES} bytes is expected, without '/' and not beginning with '.'."
        )
    return name


def is_name(name: str) -> bool:
    """Return whether a queue or topic can have this name."""
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        return False
    try:
        return len(name) <= NAME_CHARACTERS and len(os.fsencode(name)) <= NAME_BYTES
    except UnicodeEncodeError:
        return False
