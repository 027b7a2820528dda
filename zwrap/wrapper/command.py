"""The run of one command of a step: its output files, its start, and what is judged after it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from zwrap.errors import ProgramError
from zwrap.host.beneath import AllowedDirectories
from zwrap.host.faults import of_named_paths
from zwrap.host.filetime import touched
from zwrap.program import invocation, listing
from zwrap.program.argv import argv
from zwrap.program.definition import Definition
from zwrap.program.listing import NOT_LISTED
from zwrap.program.run import Run
from zwrap.wrapper.ended import Ended, Facts
from zwrap.wrapper.heartbeat import TAIL_BYTES, TAIL_LINES
from zwrap.wrapper.process import Program
from zwrap.wrapper.saving import Saving, program_environment


class CommandRun:
    """The run of one command.

    Args:
        definition: The definition, its file names filled in.
        known: Values of the placeholders, by name.
        directory: Directory in which the command runs.
        where: Place of the key that names the directory, for sentences.
        allowed: Directories below which the step may name paths.
    """

    def __init__(
        self,
        definition: Definition,
        known: Mapping[str, object],
        directory: Path,
        where: str,
        allowed: AllowedDirectories,
    ) -> None:
        self._definition, self._known, self._directory = definition, known, directory
        self._where, self._allowed = where, allowed
        self.stdout = directory / f"{definition.name}.log"
        """File of standard output."""
        self.stderr = directory / f"{definition.name}.err"
        """File of standard error."""
        self.saving = Saving(definition.checkpoint, directory, self.stderr, where, allowed)
        """The way in which the command saves its state."""
        self.before = NOT_LISTED
        """Files that were there before the command began."""

    def prepare(self, place: Path, patterns: Iterable[str]) -> float:
        """Remove the output of an earlier run, and list the files that match some patterns.

        Return the begin, by the filesystem's clock.
        """
        for file in (self.stdout, self.stderr):  # output of an earlier run must not be judged
            (place / file.name).unlink(missing_ok=True)
        self.before = listing.taken(self._directory, patterns)
        return listing.begun(self.before, lambda: _time_stamp(place))

    def start(self, place: Path) -> Program:
        """Start the command in its directory, which is open as `place`."""
        environment = invocation.environment(self._definition, self._known)
        with (
            of_named_paths("The output of the program cannot be written", ProgramError),
            self._allowed.file(self.stdout, self._where) as stdout,
            self._allowed.file(self.stderr, self._where) as stderr,
        ):
            return Program.start(
                argv(self._definition, self._known),
                directory=place,
                environment={**program_environment(os.environ), **environment},
                stdout=stdout,
                stderr=stderr,
                grace_s=self._definition.limits.grace_s,
                stop_signal=self.saving.stop_signal,
                save=self.saving.save,
            )

    def finished(self, began: float, exit_status: int) -> Run:
        """Return the run to judge."""
        return Run(
            allowed=self._allowed,
            directory=self._directory,
            stdout=self.stdout,
            stderr=self.stderr,
            began=began,
            exit_status=exit_status,
            before=self.before,
        )

    def facts(self, ended: Ended) -> Facts:
        """Return the facts about a run that ended so."""
        return {
            "exit_status": ended.exit_status,
            "elapsed_s": round(ended.elapsed_s, 3),
            "leftover_processes": ended.leftovers,
            "stderr_tail": self._allowed.last_lines(self.stderr, TAIL_LINES, TAIL_BYTES),
        }


def _time_stamp(directory: Path) -> float:
    """Return the present time of a directory's filesystem; later files belong to the run."""
    try:
        return touched(directory).st_mtime
    except OSError as error:
        raise ProgramError(
            f"The working directory {directory} cannot be written to: {error.strerror}."
        ) from None
