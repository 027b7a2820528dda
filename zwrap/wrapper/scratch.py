"""A program's own directory on the node's local disk, removed after the run unless it is kept."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from zwrap.errors import ProgramError
from zwrap.host.modes import PRIVATE_DIRECTORY
from zwrap.program.definition import Scratch

log = logging.getLogger(__name__)


class ScratchDirectory:
    """A new directory below TMPDIR, which batch systems set to a place that they clean up."""

    def __init__(self, rule: Scratch) -> None:
        self._rule = rule
        name = f"zwrap-{os.getpid()}-{time.monotonic_ns()}"
        self.path = Path(tempfile.gettempdir(), name)
        self.failed = True
        """True if the program failed; assumed until it has succeeded."""

    @contextlib.contextmanager
    def made(self) -> Iterator[None]:
        """Create the directory for the time of the context; ProgramError if that fails."""
        try:
            self.path.mkdir(mode=PRIVATE_DIRECTORY)
        except OSError as error:
            raise ProgramError(
                f"The scratch directory {self.path} cannot be made: {error.strerror}."
            ) from None
        try:
            yield
        finally:
            kept = self._rule == "keep" or (self._rule == "keep_on_failure" and self.failed)
            if kept:
                log.warning("The scratch directory %s is kept", self.path)
            else:
                shutil.rmtree(self.path, onerror=_left)


def _left(_: object, path: str, error: object) -> None:
    """Log a file that cannot be removed."""
    log.warning("%s of the scratch directory stays: %s", path, error)
