"""Check that the paths which a step names are below the site's allowed directories.

The text of each path is checked first, and a refusal names its node and key. When the files are
written, and just before the batch system gets the paths that it opens, links are checked, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from zwrap.attempt.directory import OWN_PARTS, JobDirectory
from zwrap.host.beneath import AllowedDirectories

FILES = ("recipewrapper", "wrapper", "recipeenvironment", "recipefile")
"""Parameters that name a file to write for a job, or for the commands of a Runner."""

OUTPUTS = ("standard_output", "standard_error")
"""Parameters that name a file for what a job prints."""


def checked(
    allowed: AllowedDirectories,
    parameters: Mapping[str, object],
    working: Path,
    where: str,
    outputs: Sequence[str] = OUTPUTS,
) -> dict[Path, str]:
    """Return each path that a step names to its place in the step, the working directory first.

    Args:
        allowed: Directories below which the paths must be, by their text.
        parameters: Parameters of the step.
        working: Working directory, from which relative paths start.
        where: Place of the parameters.
        outputs: Parameters that name a file for output.

    Raises:
        OutsideError: A path is outside; the text names node and key.
    """
    places = {working: f"{where}, key 'workingdir'"}
    allowed.check(working, places[working])
    for key in (*FILES, *outputs):
        if given := parameters.get(key):
            path, place = working / str(given), f"{where}, key {key!r}"
            check = allowed.check_output if key in outputs else allowed.check
            check(path, place)
            places.setdefault(path, place)
    return places


class OpenDirectories:
    """Directories that are open while files are written into them; a context."""

    def __init__(self, allowed: AllowedDirectories, places: Mapping[Path, str]) -> None:
        self._allowed = allowed
        self._places = places
        self._stack = ExitStack()
        self._open: dict[Path, Path] = {}

    def __enter__(self) -> OpenDirectories:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)  # so that errors name the real paths

    def make_working(self, path: Path) -> None:
        """Create the working directory with those above it."""
        with self._allowed.directory(path, self._place_of(path), make=True):
            pass

    def make_job(self, path: Path) -> None:
        """Create the directory of an attempt, in whose path zwrap's own parts are no links."""
        if self._allowed.is_restricted:
            self._enter(path, self._place_of(path), alike=True, real=OWN_PARTS)
        else:
            JobDirectory(path).make()
            self._open[path] = path

    def make_parent(self, path: Path) -> None:
        """Create the directory of a file with those above it."""
        if path.parent not in self._open:
            self._enter(path.parent, self._place_of(path))

    def __getitem__(self, path: Path) -> Path:
        """Return a path that stands for that of a file in an open directory."""
        return self._open[path.parent] / path.name

    def directories(self) -> list[Path]:
        """Return paths that stand for the open directories."""
        return list(self._open.values())

    def _enter(self, path: Path, where: str, *, alike: bool = False, real: int = 0) -> None:
        """Open a directory, and keep it open until the end of the context."""
        opened = self._allowed.directory(path, where, make=True, alike=alike, real=real)
        self._open[path] = self._stack.enter_context(opened)

    def _place_of(self, path: Path) -> str:
        """Return the place of a path in the step: what it does not name follows from the first."""
        first = next(iter(self._places.values()), "A file of the job")
        return self._places.get(path, first)
