"""Paths below allowed directories, opened so that no link leads out of them.

A check of a path that is opened afterwards says little where others may write: between the two
they put a link in the place of a directory. Here the directories on the way are opened one after
the other (`zwrap.host.walking`), none of them through a link; a link is read, and walked in the
same way. What is opened at the end is what was checked, and stays so, whatever is renamed.

The contract, for all that opens, makes or writes what a message names:

* `check` when the path is read, so that a refusal names the key; it looks at the text only.
* `directory`, `file` or `opened` when the path is used. The first two yield a path below
  ``/proc/self/fd``, which stands for the open directory or file itself, in this process only.
* Below such a directory use names without ``/``, for files that are created, replaced by a rename,
  or opened with O_NOFOLLOW. What may be a link to a file goes through `file` or `opened`.
* `check_opened` where another program opens the path; it may be led astray later.

The allowed directories themselves, and all above them, are trusted: only those who own the site may
write there. Links are good that stay below the allowed directories. Without allowed directories
(`ANYWHERE`) each method does what `Path` does, and any link is followed.

No message names a path among zwrap's own files, whose directory is called `OWN`: `check` refuses
it always, and the walk every link that leads there.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from zwrap.errors import RequestError
from zwrap.host import files
from zwrap.host.modes import READ_FILE, make_alike, make_readable
from zwrap.host.printable import shown_path
from zwrap.host.standing import standing_for
from zwrap.host.walking import Open, descended, entered, found, making, opening

LINKS = 40
"""Largest number of links on the way to one file, as in path_resolution(7)."""

NULL = Path(os.devnull)
"""The one device to which output may go: it keeps none."""

OWN = ".zwrap"
"""Name of the directory of zwrap's own files in a working directory: claims, verdicts, scripts."""

_OF_OWN = f"among zwrap's own files; a path without {OWN!r} is expected."
"""Rest of the sentence about a path to files of zwrap's own."""

_APPENDED = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOCTTY
"""Flags of open(2) for a file to which is appended."""


class OutsideError(RequestError):
    """A path is not below the directories that messages may name."""


class AllowedDirectories:
    """The directories below which messages may name paths; without any, all paths are allowed.

    Args:
        directories: Absolute paths.
        setting: Name of the setting for people, such as "section security, key 'directories'".
    """

    def __init__(self, directories: Sequence[Path] = (), setting: str = "") -> None:
        outermost = sorted(map(_absolute, directories), key=lambda each: len(each.parts))
        self.directories = tuple(outermost)
        self._setting = setting

    @property
    def is_restricted(self) -> bool:
        """True if there are paths that messages may not name."""
        return bool(self.directories)

    def holds(self, path: Path) -> bool:
        """Return True if a path is allowed by its text, without ``..``; links are not looked at."""
        if not self.directories:
            return True
        path = _absolute(path)
        return ".." not in path.parts and self._root(path) is not None

    def check(self, path: Path, where: str) -> None:
        """Raise OutsideError, which begins with `where`, for a path that is refused by its text."""
        if OWN in path.parts:
            raise OutsideError(f"{where} is {shown_path(path)!r}, {_OF_OWN}")
        self._check_below(path, where)

    def _check_below(self, path: Path, where: str) -> None:
        """Raise OutsideError, which begins with `where`, for a path that is not allowed."""
        if not self.holds(path):
            raise OutsideError(f"{where} is {shown_path(path)!r}, {self._not_allowed(path)}")

    def check_output(self, path: Path, where: str) -> None:
        """Do as `check`, for output, which may also go to ``/dev/null``."""
        if path != NULL:
            self.check(path, where)

    def check_opened(self, path: Path, where: str, *, real: int = 0) -> None:
        """Raise OutsideError if a link leads from a path out of the allowed directories.

        What does not exist leads nowhere. `real`: as for `directory`. Raises OSError if the way
        cannot be walked.
        """
        if self.directories and path != NULL:
            with contextlib.suppress(FileNotFoundError):
                os.close(self._walk(path, where, found, real=real))

    @contextlib.contextmanager
    def directory(
        self,
        path: Path,
        where: str,
        *,
        make: bool = False,
        alike: bool = False,
        real: int = 0,
    ) -> Iterator[Path]:
        """Open a directory for the time of the context; yield a path that stands for it.

        Args:
            path: Absolute path of the directory.
            where: Begin of the sentence about a refusal: node and key.
            make: True if it is created, with those above it, if it is missing.
            alike: True if what is created is for those who may use the directory above it
                (`zwrap.host.modes.make_alike`); False: it is one that people read.
            real: Number of last parts of the path that must not be links, wherever these lead.

        Raises:
            OutsideError: The path leads out of the allowed directories.
            OSError: It cannot be opened or created.
        """
        if not self.directories:
            if make:
                (make_alike if alike else make_readable)(path)
            yield path
            return
        enter = making(alike=alike) if make else entered
        with standing_for(self._walk(path, where, enter, enter, real=real), path) as place:
            yield place

    @contextlib.contextmanager
    def file(self, path: Path, where: str, *, mode: int = READ_FILE) -> Iterator[Path]:
        """Open a file to append to for the time of the context; yield a path that stands for it.

        It is created if it is missing, in a directory that exists. Raises as `directory` does, and
        OutsideError for what is no regular file.
        """
        if not self.directories or path == NULL:
            yield path
            return
        with standing_for(self.opened(path, where, _APPENDED, mode), path) as place:
            yield place

    def opened(
        self, path: Path, where: str, flags: int, mode: int = READ_FILE, *, make: bool = False
    ) -> int:
        """Return the descriptor of a file, as os.open does, in a directory that `make` creates.

        Raises as `file` does; without allowed directories any kind of file is opened.
        """
        if not self.directories:
            if make:
                make_readable(path.parent)
            return os.open(path, flags, mode)
        enter = making(alike=False) if make else entered
        descriptor = self._walk(path, where, opening(flags | os.O_NONBLOCK, mode), enter)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OutsideError(f"{where} is {shown_path(path)!r}, which is no regular file.")
        return descriptor

    @contextlib.contextmanager
    def reading(self, path: Path, where: str) -> Iterator[Path]:
        """Open a file to read for the time of the context; yield a path that stands for it.

        Raises as `file` does.
        """
        if not self.directories:
            yield path
            return
        with standing_for(self.opened(path, where, os.O_RDONLY), path) as place:
            yield place

    def last_lines(self, path: Path, count: int, size: int, *, follow: bool = True) -> list[str]:
        """Return the last lines of a file as `zwrap.host.files.last_lines` does.

        None if the file may not be read.
        """
        try:
            with self.reading(path, "The file") as place:
                return files.last_lines(place, count, size, follow=follow or self.is_restricted)
        except (OutsideError, OSError):
            return []

    # -- the way to a file -------------------------------------------------------------------------

    def _walk(
        self, path: Path, where: str, last: Open, enter: Open = entered, *, real: int = 0
    ) -> int:
        """Walk to a path; return what `last` opened at its end.

        `enter` opens the directories on the way. Each link sends the walk back to an allowed
        directory, from which it goes by the way that is known by then.
        """
        self._check_below(path, where)
        way = _absolute(path)
        for _ in range(LINKS + 1):
            root = self._root(way)
            if root is None:
                raise OutsideError(
                    f"{where} is {shown_path(path)!r}, which leads by a link to "
                    f"{shown_path(way)!r}, {self._not_allowed(way)}"
                )
            parts = way.parts[len(root.parts) :]
            try:
                opened = descended(root, parts, last, enter)
            except OSError as error:
                if not str(error.filename).startswith("/"):
                    error.filename = str(path)
                raise
            if isinstance(opened, int):
                return opened
            if len(parts) - opened.passed <= real:
                raise OutsideError(
                    f"{where} is {shown_path(path)!r}, in which {parts[opened.passed]!r} is a "
                    "link; a directory is expected there."
                )
            if OWN in Path(opened.target).parts:
                raise OutsideError(
                    f"{where} is {shown_path(path)!r}, in which {parts[opened.passed]!r} is a link "
                    f"to {shown_path(Path(opened.target))!r}, {_OF_OWN}"
                )
            way = _absolute(opened.way(root, parts))
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))

    def _root(self, path: Path) -> Path | None:
        """Return the outermost allowed directory, by one of its names, that a path begins with."""
        real = (Path(os.path.realpath(each)) for each in self.directories)
        names = itertools.chain(self.directories, real)
        return next((each for each in names if path.is_relative_to(each)), None)

    def _not_allowed(self, path: Path) -> str:
        """Return the rest of the sentence about a path that is refused."""
        if ".." in path.parts and self._root(path):
            return f"which holds '..'; a path without it is expected ({self._setting})."
        listing = ", ".join(map(shown_path, self.directories))
        return (
            "which is not below the directories that messages may name: "
            f"{listing} ({self._setting})."
        )


def _absolute(path: Path) -> Path:
    """Return a path with one ``/`` in front, for which POSIX may have two."""
    text = str(path)
    return Path(f"/{text.lstrip('/')}") if text.startswith("//") else path


ANYWHERE = AllowedDirectories()
"""No restriction: every path is allowed, and links are followed."""
