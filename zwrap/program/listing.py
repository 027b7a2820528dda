"""Listing of the files in the directory of a run before its start: what differs later, it wrote.

Time stamps alone do not tell it. ``tar x``, ``cp -p``, ``rsync -a`` and ``unzip`` give a file those
of its original, and ``mv`` leaves them as they are.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath

import msgspec

from zwrap.errors import MessageError
from zwrap.host.clock import Clock, elapsed
from zwrap.host.files import UnfitFileError, read_regular, write_atomically
from zwrap.message.jsontext import decode, encode, typed

log = logging.getLogger(__name__)

LISTED_FILES = 50_000
"""Largest number of files in a listing, which takes 20 MB of memory then, and 5 MB on disk."""

LISTING_S = 20.0
"""Longest time that a listing takes on a slow filesystem, in seconds."""

MOST_VISITED = 500_000
"""Largest number of entries of directories that are looked at for the files of a pattern."""

LISTING_BYTES = 64 << 20
"""Largest size of a listing that is read, in bytes."""

PAUSES_S = (0.005, 0.02, 0.1, 0.25, 0.5, 0.5)
"""Pauses until the clock of a filesystem shows another time, in seconds: most count milliseconds,
some whole seconds."""

Status = tuple[int, int, int, int]
"""Inode, size in bytes, and time stamps of content and of inode, in nanoseconds: no program changes
a file without a change of one of them."""


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """The regular files that match some patterns, in the directory of a run before its start."""

    directory: int = 0
    """Inode of the directory."""
    patterns: frozenset[str] = frozenset()
    """Patterns of which all files are listed."""
    files: dict[str, Status] = {}
    """Name in the directory, or absolute path, to status of each file."""
    present: bool = False
    """True if this process has taken it: until now nobody but the run had time for a change."""

    @property
    def newest(self) -> float:
        """Latest change of a listed file, by the filesystem, in seconds since the epoch."""
        return max((changed_ns for *_, changed_ns in self.files.values()), default=0) / 1e9

    def differs(self, name: str, pattern: str, status: os.stat_result, began: float) -> bool:
        """Return True if a file was not there as it is now.

        Where the files of its pattern are not listed the time stamp of its content decides, and
        while the listing is `present` that of its inode, too, which no program can choose.

        Args:
            name: Name in the directory, or absolute path.
            pattern: Pattern that the file matches.
            status: Present status of the file.
            began: Time just before the run, by the filesystem, in seconds since the epoch.
        """
        before = self.files.get(name)
        if before is not None:
            return before != status_of(status)
        if pattern in self.patterns or status.st_mtime >= began:
            return True
        return self.present and status.st_ctime >= began


NOT_LISTED = Listing()
"""No listing: time stamps decide."""


def status_of(status: os.stat_result) -> Status:
    """Return what a listing holds of the status of a file."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def matching(directory: Path, pattern: str) -> Iterator[Path]:
    """Return the paths that match a pattern, below a directory unless the pattern is absolute."""
    if pattern.startswith("/"):
        return Path("/").glob(pattern[1:])
    return directory.glob(pattern)


def name_in(directory: Path, file: Path) -> str:
    """Return the name of a file in a directory, or its path if it is elsewhere."""
    return str(file).removeprefix(f"{directory}/")


def taken(
    directory: Path,
    patterns: Iterable[str],
    clock: Clock = elapsed,
    longest_s: float = LISTING_S,
) -> Listing:
    """Return the listing of those files in a directory that match one of the patterns.

    A pattern of which all files would be too many, or would take too long, is left out, with a
    warning; without time, all are. A link to a file counts as that file.

    `longest_s`: longest time that this takes, in seconds.
    """
    files: dict[str, Status] = {}
    whole = set()
    ends_at = clock() + longest_s

    def in_time() -> bool:
        return clock() < ends_at

    @functools.cache
    def is_small(base: Path, depth: int | None) -> bool:
        return _is_small(base, depth, in_time)

    for pattern in dict.fromkeys(patterns if longest_s > 0 else ()):
        walk = _walk(directory, pattern)
        if (not walk or is_small(*walk)) and _add(files, directory, pattern, in_time):
            whole.add(pattern)
        else:
            log.warning(
                "Not all files that match %r are listed before the start (%d files among %d "
                "entries of directories, and %g s, at most): whether the run wrote one of them is "
                "told by its time stamps.",
                pattern, LISTED_FILES, MOST_VISITED, longest_s,
            )  # fmt: skip
    inode = directory.stat().st_ino
    return Listing(directory=inode, patterns=frozenset(whole), files=files, present=True)


def _walk(directory: Path, pattern: str) -> tuple[Path, int | None] | None:
    """Return from where, and how deep, directories are searched for a pattern.

    The depth is that below the first directory; None: any. None alone: all of the files are in one
    directory, or have one name.
    """
    parts = PurePath(pattern).parts
    first = next((at for at, part in enumerate(parts) if set(part) & set("*?[")), len(parts))
    further = len(parts) - first - 1
    if "**" in parts:
        return directory.joinpath(*parts[:first]), None
    return (directory.joinpath(*parts[:first]), further) if further > 0 else None


def _is_small(base: Path, depth: int | None, in_time: Callable[[], bool]) -> bool:
    """Return False if a directory is too large to be searched, or takes too long.

    The search itself tells of matches only, of which there may be none for hours.
    """
    left = MOST_VISITED
    for place, below, names in os.walk(base):
        left -= len(below) + len(names)
        if left < 0 or not in_time():
            return False
        if depth is not None and len(PurePath(place).parts) - len(base.parts) >= depth:
            below.clear()
    return True


def _add(
    files: dict[str, Status], directory: Path, pattern: str, in_time: Callable[[], bool]
) -> bool:
    """Add the files that match a pattern; return False, and add none, if not all can be added."""
    found: dict[str, Status] = {}
    try:
        for file in matching(directory, pattern):
            name = name_in(directory, file)
            if name in files:
                continue
            if len(files) + len(found) >= LISTED_FILES or not in_time():
                return False
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                status = file.stat()
                if stat.S_ISREG(status.st_mode):
                    found[name] = status_of(status)
    except (OSError, ValueError, NotImplementedError):  # not readable; no pattern for Path.glob
        return False
    files.update(found)
    return True


def begun(
    before: Listing, now: Callable[[], float], pause: Callable[[float], None] = time.sleep
) -> float:
    """Return the time of the filesystem, once it is later than that of the newest listed file.

    A file that was changed, and is changed again within the same tick of that clock, would look as
    it was. `now`: function that returns the time of the filesystem, in seconds since the epoch.
    """
    newest, time_s = before.newest, now()
    for pause_s in PAUSES_S if before.files else ():
        if not -1e-6 < newest - time_s < sum(PAUSES_S):  # one of them may have been rounded
            break
        pause(pause_s)
        time_s = now()
    return time_s


def keep(listing: Listing, file: Path) -> None:
    """Write a listing for those who judge the run later; a full disk is no error."""
    with contextlib.suppress(OSError):
        write_atomically(file, encode(listing), durable=False)


def kept(file: Path, directory: Path) -> Listing:
    """Return the listing that was kept before a run, whose directory may have been moved.

    `NOT_LISTED`: there is none, as of earlier releases, or none that can be used: in a copy of the
    directory every file has another inode.
    """
    try:
        found = typed(decode(read_regular(file, LISTING_BYTES), str(file)), Listing)
        if found.directory == directory.stat().st_ino:
            return msgspec.structs.replace(found, present=False)
    except FileNotFoundError:
        return NOT_LISTED
    except (OSError, UnfitFileError, MessageError, msgspec.ValidationError) as error:
        log.warning("The listing %s cannot be used: %s", file, error)
        return NOT_LISTED
    log.warning(
        "%s is a copy: what was there before the run is told by time stamps alone.", directory
    )
    return NOT_LISTED
