"""Programs that can save their state before their job ends, so that another job continues."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from zwrap.host.beneath import AllowedDirectories, OutsideError
from zwrap.host.files import open_to_append
from zwrap.host.modes import READ_FILE
from zwrap.host.programs import to_run
from zwrap.program.definition import Checkpoint
from zwrap.wrapper.ended import Ended

log = logging.getLogger(__name__)


class Saving:
    """The way in which one program saves its state.

    Args:
        checkpoint: What the definition says; None: the program cannot.
        directory: Directory in which the program runs.
        stderr: File of its error output.
        where: Place of the key that names the directory, for sentences.
        allowed: Directories below which the step may name paths.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        directory: Path,
        stderr: Path,
        where: str,
        allowed: AllowedDirectories,
    ) -> None:
        self._checkpoint, self._directory, self._stderr = checkpoint, directory, stderr
        self._where, self._allowed = where, allowed

    @property
    def is_possible(self) -> bool:
        """True if the program can save its state."""
        return self._checkpoint is not None

    @property
    def stop_signal(self) -> signal.Signals:
        """Signal that asks the program to end."""
        if self._checkpoint and self._checkpoint.signal:
            return signal.Signals[f"SIG{self._checkpoint.signal}"]
        return signal.SIGTERM

    @property
    def save(self) -> Callable[[float], bool] | None:
        """Function that lets the program save its state within some seconds; None: a signal does.

        It returns True if that succeeded.
        """
        return self._save if self._checkpoint and self._checkpoint.command else None

    def _save(self, limit_s: float) -> bool:
        """Run the command that lets the program save its state; return True if that succeeded."""
        command = self._checkpoint.command if self._checkpoint else None
        assert command
        environment = program_environment(os.environ)
        try:
            with (
                self._allowed.file(self._stderr, self._where) as place,
                open_to_append(place, READ_FILE) as stream,
            ):
                done = subprocess.run(
                    command, executable=to_run(command[0], environment),
                    cwd=self._directory, env=environment, stdin=subprocess.DEVNULL,
                    stdout=stream, stderr=stream, timeout=limit_s, check=False,
                )  # fmt: skip
        except (OSError, OutsideError, subprocess.TimeoutExpired) as error:
            log.error("The program could not save: %s", error)
            return False
        return done.returncode == 0

    def has_saved(self, ended: Ended) -> bool:
        """Return True if the program has saved its state.

        Its exit status tells so even if the signal did not come from this process: a batch system
        that signals all processes of a job may be faster.
        """
        checkpoint = self._checkpoint
        if checkpoint is None or ended.timed_out:
            return False
        if not checkpoint.exit_status:
            return ended.saved
        listed = ended.exit_status in checkpoint.exit_status
        return listed and (ended.saved or bool(checkpoint.signal))

    def could_be_done(self, ended: Ended) -> bool:
        """Return True if the program may have finished its work when it was asked to save.

        That is possible if its exit status tells that it did not save its state.
        """
        checkpoint = self._checkpoint
        known = bool(checkpoint and checkpoint.exit_status and ended.stopped_by)
        return known and not self.has_saved(ended)


def program_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a program: the job's, without variables for the wrapper."""
    hidden = ("ZWRAP_TOKEN", "ZWRAP_JOB_DIRECTORY")
    return {name: value for name, value in environment.items() if name not in hidden}
