"""Files that zwrap puts into the directory of a run before its program starts.

They lie below that directory, and no link leads there. A file that is there already is replaced
only if zwrap has put it there, in this run or an earlier one, and nobody has changed it since: a
digest of each is kept in ``.zwrap/written`` of the directory. The same holds for standard output
whose name a value chooses.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from zwrap.errors import PermanentError, ProgramError
from zwrap.host.beneath import ANYWHERE, AllowedDirectories
from zwrap.host.files import create_once, open_regular, read_regular, write_atomically
from zwrap.host.modes import READ_FILE
from zwrap.host.scratch import scratch_beside
from zwrap.host.standing import standing_for
from zwrap.host.walking import descended, making
from zwrap.program.definition import Definition
from zwrap.program.files import writing
from zwrap.wrapper.results import copy_into

RECORDS = (".zwrap", "written")
"""Directory, below that of the run, with a digest of each file that was put there."""

DIGESTED_BYTES = 64 << 20
"""Size of the largest file of which the content is compared; of a larger one size and time are."""

_RECORD_BYTES = 16 * 1024


class Directory(NamedTuple):
    """The directory of a run."""

    path: Path
    """Its path, for people."""
    place: Path
    """A path that stands for it while it is open."""
    allowed: AllowedDirectories
    """Directories below which a step may name files."""


def put_files(
    definition: Definition,
    known: Mapping[str, object],
    directory: Directory,
    before: str | None = None,
) -> None:
    """Write, link and copy the files that a definition wants before a command starts.

    Links and copies are made before the first command only.

    Args:
        definition: The definition.
        known: Values by name.
        directory: Directory of the run.
        before: Name of the further command that starts next; None: the first command does.

    Raises:
        PermanentError: A file cannot be put there; the text says which, and what to do.
    """
    for new in writing.new_files(definition, known, before):
        with _opened(directory, new.name) as at:
            data = new.content.encode("utf-8", "surrogateescape")
            _write(at, data, directory, new.name, overwrite=new.overwrite)
    if before is None:
        for file in writing.placed_files(definition, known, "link"):
            with _opened(directory, file.name) as at:
                target = (directory.path / file.source).absolute()
                _link(at, str(target), directory, file.name)
        for file in writing.placed_files(definition, known, "copy"):
            with _opened(directory, file.name) as at:
                _copy(at, file, directory)


def _write(at: Path, data: bytes, directory: Directory, name: Path, *, overwrite: bool) -> None:
    """Write a file, unless the same is there already."""
    new, there = _digest(data), _fingerprint(at)
    if there == new:
        return
    _check_ours(there, directory, name, overwrite=overwrite)
    _record(directory, name, there, new)
    if there:
        write_atomically(at, data, mode=READ_FILE, durable=False)
    elif not create_once(at, data, mode=READ_FILE):
        raise _taken(directory, name)


def _link(at: Path, target: str, directory: Directory, name: Path) -> None:
    """Make a link, unless the same is there already."""
    new, there = f"link {target}", _fingerprint(at)
    if there == new:
        return
    _check_ours(there, directory, name)
    _record(directory, name, there, new)
    _replace(at, lambda scratch: scratch.symlink_to(target))


def _copy(at: Path, file: writing.Placed, directory: Directory) -> None:
    """Copy a file, with mode and times."""
    source = directory.path / file.source
    allowed = directory.allowed if file.given else ANYWHERE
    if not source.is_file():
        raise ProgramError(f"{source}, of which {file.name} is to be a copy, is no file.")
    there = _fingerprint(at)
    _check_ours(there, directory, file.name)

    def make(scratch: Path) -> None:
        copy_into(source, scratch, allowed)
        _record(directory, file.name, there, _fingerprint(scratch))

    _replace(at, make)


def _replace(at: Path, make: Callable[[Path], None]) -> None:
    """Make a file under a scratch name, and give it its own."""
    scratch = Path(scratch_beside(at))
    try:
        make(scratch)
        os.replace(scratch, at)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(scratch)


# -- output ----------------------------------------------------------------------------------------


def check_output(directory: Directory, name: Path) -> None:
    """Raise ProgramError if a file is there that is not the output of an earlier run."""
    with _opened(directory, name) as at:
        there = _fingerprint(at)
        if not there or there in (recorded := _recorded(directory, name)):
            return
        if _inode(at) not in recorded:
            raise ProgramError(
                f"The file {directory.path / name}, which is to get the standard output, is there "
                "already, and zwrap has not written it, or somebody has changed it since. Remove "
                "or rename it, or let the job parameters give another name."
            )


def make_output(directory: Directory, name: Path) -> None:
    """Make an empty file for output. Its inode is noted, for this process may be killed."""

    def make(scratch: Path) -> None:
        os.close(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, READ_FILE))
        _record(directory, name, "", _inode(scratch))

    with _opened(directory, name) as at:
        _replace(at, make)


def note_output(directory: Directory, name: Path) -> None:
    """Note what the output has become: a file that takes its place has its inode at times."""
    with _opened(directory, name) as at:
        _record(directory, name, "", _fingerprint(at))


def _inode(path: Path) -> str:
    """Return what tells the file that was made for output from another one, whatever is in it."""
    status = os.lstat(path)
    return f"output {status.st_ino}" if stat.S_ISREG(status.st_mode) else "something else"


# -- what was put there before ---------------------------------------------------------------------


def _check_ours(there: str, directory: Directory, name: Path, *, overwrite: bool = False) -> None:
    """Raise ProgramError if a file that is there, by its fingerprint, must not be replaced."""
    if there and not overwrite and there not in _recorded(directory, name):
        raise _taken(directory, name)


def _taken(directory: Directory, name: Path) -> ProgramError:
    """Return the error about a file that is there, and is not ours."""
    return ProgramError(
        f"The file {directory.path / name} is there already, and zwrap has not put it there, or "
        "somebody has changed it since. Remove or rename it; a definition whose file is to replace "
        "any other says 'overwrite: true' under 'write'."
    )


def _fingerprint(path: Path) -> str:
    """Return what tells a file from another one; empty: there is none."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return ""
    if stat.S_ISLNK(status.st_mode):
        return f"link {os.readlink(path)}"
    if not stat.S_ISREG(status.st_mode):
        return "something else"
    if status.st_size > DIGESTED_BYTES:
        return f"large {status.st_size} {status.st_mtime_ns}"
    descriptor, _ = open_regular(path)
    with os.fdopen(descriptor, "rb") as file:
        return _digest(file.read(DIGESTED_BYTES + 1))


def _digest(data: bytes) -> str:
    """Return a digest of the content of a file."""
    import hashlib

    return f"blake2b {hashlib.blake2b(data, digest_size=32).hexdigest()}"


def _recorded(directory: Directory, name: Path) -> list[str]:
    """Return the fingerprints under which a file was put there."""
    try:
        with _opened(directory, Path(*RECORDS, _key(name)), alike=True) as record:
            return read_regular(record, _RECORD_BYTES).decode("utf-8", "replace").splitlines()
    except (OSError, PermanentError):
        return []


def _record(directory: Directory, name: Path, there: str, new: str) -> None:
    """Note that a file is put there; `there` counts, too, in case this process is killed now."""
    lines = "".join(f"{each}\n" for each in (there, new) if each)
    with _opened(directory, Path(*RECORDS, _key(name)), alike=True) as record:
        write_atomically(record, lines, durable=False)


def _key(name: Path) -> str:
    """Return the name of the record of a file, which is short whatever that is called."""
    return _digest(os.fsencode(name)).rpartition(" ")[2]


@contextlib.contextmanager
def _opened(directory: Directory, name: Path, *, alike: bool = False) -> Iterator[Path]:
    """Yield a path for a name below the directory of the run, whose own directory is made.

    Raises:
        ProgramError: A link is on the way, or the file cannot be written.
    """
    enter = making(alike=alike)
    path = directory.path / name
    try:
        opened = descended(directory.place, name.parts[:-1], enter, enter)
        if not isinstance(opened, int):
            raise ProgramError(
                f"The file {path} cannot be written: {name.parts[opened.passed]!r} on the way is a "
                "link; a directory is expected there."
            )
        with standing_for(opened, path.parent) as at:
            yield at / name.name
    except OSError as error:
        raise ProgramError(f"The file {path} cannot be written: {error.strerror}.") from None
    except ValueError as error:  # a NUL in a path, lone surrogates
        raise ProgramError(f"The file {path} cannot be written: {error}.") from None
