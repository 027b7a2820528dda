"""Files: careful reading, atomic replacement, exclusive creation, appending."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from pathlib import Path
from typing import BinaryIO

from zwrap.errors import PermanentError
from zwrap.host.modes import OWN_FILE, SHARED_FILE
from zwrap.host.printable import shown_path
from zwrap.host.scratch import scratch_beside

NO_SURPRISE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
"""Flags of open(2) with which no link is followed, and nothing is waited for."""

LEASE_TRIES, LEASE_PAUSE_S = 5, 0.02
"""Number of tries to open a file on which another process has a lease, and the pause between them
in seconds; the kernel asks that process to give it up."""

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class UnfitFileError(PermanentError):
    """What lies at a path is not a regular file, or is larger than it may be there."""


def kind_of(mode: int) -> str:
    """Return what a file mode (stat(2)) says about the kind of a file, such as "a named pipe"."""
    return _KINDS.get(stat.S_IFMT(mode), "a regular file")


def open_regular(path: Path | str, *, follow: bool = False) -> tuple[int, int]:
    """Open a regular file to read; return its descriptor and its size in bytes.

    A link, named pipe, socket, device or directory at the path is not read, and does not hold up
    the caller. `follow`: True if the path may be a link to a regular file; directories above it
    always may be links.

    Raises:
        UnfitFileError: Something else is there.
        OSError: The file cannot be opened.
    """
    flags = NO_SURPRISE & ~os.O_NOFOLLOW if follow else NO_SURPRISE
    try:
        descriptor = _opened(path, flags)
    except OSError:
        with contextlib.suppress(OSError):
            mode = os.stat(path, follow_symlinks=follow).st_mode
            if not stat.S_ISREG(mode):  # a link, or a socket, which cannot be opened
                raise _unfit(path, mode) from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _unfit(path, status.st_mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status.st_size


def _opened(path: Path | str, flags: int) -> int:
    """Return the descriptor of a file that is opened to read."""
    for _ in range(LEASE_TRIES):
        try:
            return os.open(path, flags)
        except BlockingIOError:
            time.sleep(LEASE_PAUSE_S)
    raise UnfitFileError(f"{shown_path(path)} is held by another process (fcntl(2), F_SETLEASE).")


def _unfit(path: Path | str, mode: int) -> UnfitFileError:
    """Return the error about something that is no regular file."""
    return UnfitFileError(
        f"{shown_path(path)} is {kind_of(mode)}; only a regular file is read there."
    )


def read_regular(path: Path | str, limit: int | None, *, follow: bool = False) -> bytes:
    """Return the content of a regular file; fast for small files, which most are.

    Args:
        path: The file; as for `open_regular`, like `follow`.
        limit: Largest size in bytes; None: any size.
        follow: True if the path may be a link.

    Raises:
        UnfitFileError: Something else is there, or the file is too large.
        OSError: The file cannot be read.
    """
    descriptor, size = open_regular(path, follow=follow)
    try:
        if limit is not None and size > limit:
            raise _too_large(path, size, limit)
        data = os.read(descriptor, max(65536, size))
        if len(data) < 65536:
            return data
        pieces, length = [data], len(data)
        while piece := os.read(descriptor, 1 << 20):
            pieces.append(piece)
            length += len(piece)
            if limit is not None and length > limit:  # it grows
                raise _too_large(path, length, limit)
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def _too_large(path: Path | str, size: int, limit: int) -> UnfitFileError:
    """Return the error about a file that is too large."""
    return UnfitFileError(f"{shown_path(path)} has {size} bytes; at most {limit} are read there.")


def first_bytes(path: Path | str, size: int) -> bytes:
    """Return the first `size` bytes of a regular file; raise as `open_regular` does."""
    descriptor, _ = open_regular(path)
    try:
        return os.read(descriptor, size)
    finally:
        os.close(descriptor)


def touch(path: Path | str) -> None:
    """Create an empty file, or set its time stamps to the present; a link is not followed.

    Raises OSError if that is not possible.
    """
    flags = os.O_WRONLY | os.O_CREAT | NO_SURPRISE
    descriptor = os.open(path, flags, OWN_FILE)
    try:
        os.utime(descriptor)
    finally:
        os.close(descriptor)


def _write(path: str, data: bytes, mode: int, durable: bool, shared: bool = False) -> None:
    """Create a file that must not exist; with `durable` its content survives a power cut."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        if shared:
            share(descriptor)
        write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _encoded(data: bytes | str) -> bytes:
    """Return text in UTF-8; what came from names that are not UTF-8 is written as it was."""
    return data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data


def share(descriptor: int) -> None:
    """Give a new file the mode of files that a group shares, whatever the umask is."""
    if os.fstat(descriptor).st_mode & 0o777 != SHARED_FILE:
        os.fchmod(descriptor, SHARED_FILE)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`; a single write(2) may write less."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_directory(path: Path | str) -> None:
    """Make the names in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(
    path: Path,
    data: bytes | str,
    *,
    mode: int = OWN_FILE,
    durable: bool = True,
    name_durable: bool = True,
    shared: bool = False,
) -> None:
    """Put `data` at `path` so that a reader sees the old file or the new one, never a part.

    With `durable` the content survives a power cut, and with `name_durable` the name does, too;
    without it the caller may call `sync_directory` once for several names. `mode` is that of the
    new file, before the umask; with `shared` it is that of files which a group shares.
    """
    scratch = scratch_beside(path)
    try:
        _write(scratch, _encoded(data), mode, durable, shared)
        os.replace(scratch, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(scratch)
        raise
    if durable and name_durable:
        sync_directory(path.parent)


def append_regular(path: Path, data: bytes, *, mode: int = OWN_FILE) -> None:
    """Append to a regular file, which is created if it is not there; it is not made durable.

    Raises:
        UnfitFileError: Something else is there.
        OSError: The file cannot be written, or has another name, under which it would change, too.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | NO_SURPRISE
    descriptor = os.open(path, flags, mode)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _unfit(path, status.st_mode)
        if status.st_nlink != 1:
            raise FileExistsError(errno.EEXIST, "the file has another name", str(path))
        write_all(descriptor, data)
    finally:
        os.close(descriptor)


def open_to_append(path: Path | str, mode: int) -> BinaryIO:
    """Open a file to append to, which is created with `mode`, before the umask, if it is missing.

    Raises OSError if that is not possible.
    """
    return open(path, "ab", opener=lambda name, flags: os.open(name, flags, mode))


def create_once(path: Path, data: bytes, *, mode: int = OWN_FILE) -> bool:
    """Put `data` at `path` if nothing is there; return False if another process was first.

    Uses link(2), which fails where rename(2) would replace. On NFS a repeated link may fail with
    "exists" although ours succeeded; the link count of the scratch file tells (open(2), O_EXCL).
    """
    scratch = scratch_beside(path)
    try:
        _write(scratch, data, mode, durable=True)
        won = _linked(scratch, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(scratch)
    if won:
        sync_directory(path.parent)
    return won


def overwrite_once(reserved: Path, data: bytes, path: Path) -> bool:
    """Do as `create_once` does, in a reserved file with room for `data`, for a full disk."""
    descriptor = os.open(reserved, os.O_WRONLY | NO_SURPRISE)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:  # another file would change
            raise FileNotFoundError(errno.ENOENT, "no space is reserved", str(reserved))
        write_all(descriptor, data)
        os.ftruncate(descriptor, len(data))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return _linked(str(reserved), path)


def _linked(scratch: str, path: Path) -> bool:
    """Link a file to a second name; return True if it then has two names."""
    with contextlib.suppress(FileExistsError):
        os.link(scratch, path)
    return os.stat(scratch).st_nlink == 2


def tail(path: Path, size: int, *, follow: bool = True) -> str:
    """Return the text of the last `size` bytes of a file; bytes that are not UTF-8 are replaced.

    Raises as `open_regular` does.
    """
    descriptor, length = open_regular(path, follow=follow)
    try:
        return os.pread(descriptor, size, max(0, length - size)).decode("utf-8", "replace")
    finally:
        os.close(descriptor)


def last_lines(path: Path, count: int, size: int, *, follow: bool = True) -> list[str]:
    """Return the last `count` lines that are not blank, within the last `size` bytes of a file.

    A carriage return ends a line, too, as in progress bars. A file that cannot be read has no
    lines, and neither has what is no regular file. `follow`: False if the path must not be a link.
    """
    try:
        text = tail(path, size, follow=follow)
    except (UnfitFileError, OSError, ValueError):  # ValueError: what should be a path cannot be one
        return []
    return [line for line in re.split(r"[\r\n]+", text) if line.strip()][-count:]
