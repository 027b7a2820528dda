"""Files: atomic replacement, exclusive creation, last lines; a filesystem's clock and type."""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import re
import threading
from pathlib import Path

from zwrap.host.clock import Clock, elapsed
from zwrap.host.processes import this_process

DIRECTORY_MODE = 0o2770
"""Mode of directories that a group shares: new files in them belong to the group, too."""

_serial = itertools.count()


def _scratch(path: Path) -> str:
    """Return a path beside `path` that no other process or thread writes."""
    directory, name = os.path.split(path)
    return f"{directory or '.'}/.{name[:100]}.{_own_name(os.getpid())}.{next(_serial)}.tmp"


@functools.lru_cache(maxsize=1)
def _own_name(_pid: int) -> str:
    """Return the identity of this process as text; a child process computes its own."""
    return str(this_process())


def _write(path: str, data: bytes, mode: int, durable: bool) -> None:
    """Create a file that must not exist; with `durable` its content survives a power cut."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    mode: int = 0o640,
    durable: bool = True,
    name_durable: bool = True,
) -> None:
    """Put `data` at `path` so that a reader sees the old file or the new one, never a part.

    With `durable` the content survives a power cut, and with `name_durable` the name does, too;
    without it the caller may call `sync_directory` once for several names. `mode` is that of the
    new file, before the umask.
    """
    scratch = _scratch(path)
    try:
        _write(scratch, data.encode() if isinstance(data, str) else data, mode, durable)
        os.replace(scratch, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(scratch)
        raise
    if durable and name_durable:
        sync_directory(path.parent)


def create_once(path: Path, data: bytes, *, mode: int = 0o640) -> bool:
    """Put `data` at `path` if nothing is there; return False if another process was first.

    Uses link(2), which fails where rename(2) would replace. On NFS a repeated link may fail with
    "exists" although ours succeeded; the link count of the scratch file tells (open(2), O_EXCL).
    """
    scratch = _scratch(path)
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
    descriptor = os.open(reserved, os.O_WRONLY | os.O_CLOEXEC)
    try:
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


def touched(directory: Path) -> os.stat_result:
    """Return the status of a new file in a directory, which is removed again.

    Its time stamps are the present time of the filesystem, which may differ from this host's.
    Raises OSError if the directory cannot be written to.
    """
    probe = Path(_scratch(directory / "clock"))
    probe.touch()
    try:
        return probe.stat()
    finally:
        probe.unlink(missing_ok=True)


class FilesystemClock:
    """The time of the filesystem that holds a directory, in seconds since the epoch.

    Leases and delays are compared between hosts, so no host's own clock may decide. The present
    time is the time stamp of a new file, continued by `clock` for `trust_s` seconds.
    """

    def __init__(self, directory: Path, trust_s: float = 30.0, *, clock: Clock = elapsed) -> None:
        self._directory = directory
        self._trust_s = trust_s
        self._clock = clock
        self._read_at = float("-inf")
        self._offset_ns = 0

    def now_ns(self) -> int:
        """Return the time in nanoseconds since the epoch, by the filesystem."""
        elapsed_s = self._clock()
        elapsed_ns = int(elapsed_s * 1e9)
        if elapsed_s - self._read_at > self._trust_s:
            self._offset_ns = touched(self._directory).st_mtime_ns - elapsed_ns
            self._read_at = elapsed_s
        return elapsed_ns + self._offset_ns

    def now(self) -> float:
        """Return the time in seconds since the epoch, by the filesystem."""
        return self.now_ns() / 1e9

    def age_s(self, file: Path) -> float:
        """Return the seconds since a file was last changed; 0 if it is gone."""
        try:
            return self.now() - file.stat().st_mtime
        except OSError:
            return 0.0


def tail(path: Path, size: int) -> str:
    """Return the text of the last `size` bytes of a file; bytes that are not UTF-8 are replaced.

    Raises OSError if the file cannot be read.
    """
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - size))
        return file.read().decode("utf-8", "replace")


def last_lines(path: Path, count: int, size: int) -> list[str]:
    """Return the last `count` lines that are not blank, within the last `size` bytes of a file.

    A carriage return ends a line, too, as in progress bars. A file that cannot be read has no
    lines.
    """
    try:
        text = tail(path, size)
    except (OSError, ValueError):  # ValueError: what should be a path cannot be one
        return []
    return [line for line in re.split(r"[\r\n]+", text) if line.strip()][-count:]


_made = threading.Lock()


def make_directory(path: Path) -> None:
    """Create a directory and its parents, with `DIRECTORY_MODE`, unless it exists.

    Raises OSError if that is not possible.
    """
    try:
        with _made:  # a thread that just created the directory must have set its mode, too
            os.mkdir(path)
            os.chmod(path, DIRECTORY_MODE)
    except FileExistsError:
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "there is something else", str(path)) from None
    except FileNotFoundError:
        if path.parent.is_dir():
            raise  # nothing can be created in there
        make_directory(path.parent)
        make_directory(path)


def create_parent_symlink(
    destination_path: str | Path,
    symlink_name: str,
    *,
    levels: int = 2,
    overwrite_symlink: bool = False,
) -> bool:
    """Create a relative link to `destination_path`, `levels` directories above it.

    ``/results/run/17`` with name ``latest`` gives ``/results/latest -> run/17``. An existing link
    is replaced only with `overwrite_symlink`, and any other file never. Returns True if the link
    was created; raises ValueError for a relative path or a level below 1. Signature and meaning are
    those of python-zocalo's ``zocalo.util.symlink.create_parent_symlink``.
    """
    destination = Path(destination_path)
    if not destination.is_absolute() or levels < 1:
        raise ValueError(
            f"An absolute path and a level above 0 are expected, not {destination} and {levels}."
        )
    place = destination.parents[levels - 1] / symlink_name
    target = Path(*destination.parts[-levels:])
    if place.is_symlink():
        if not overwrite_symlink:
            return False
    elif place.exists():
        return False
    scratch = place.with_name(f".{symlink_name[:100]}.{this_process()}.tmp")
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(target)
    try:
        os.replace(scratch, place)
    finally:
        scratch.unlink(missing_ok=True)
    return True


NETWORK_FILESYSTEMS = {
    "nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "smb3", "ceph", "glusterfs", "afs",
    "fuse.sshfs", "fuse.glusterfs", "pvfs2", "9p",
}  # fmt: skip
"""Types of filesystems that several hosts may have mounted."""


def filesystem_of(path: Path) -> str:
    """Return the type of the filesystem that holds a path, as mounted (proc(5), mounts)."""
    best, kind = "", "unknown"
    target = str(path.resolve())
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, fstype, *_ = line.split(" ")
        mount = mount.replace("\\040", " ")
        inside = target == mount or target.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, fstype
    return kind
