"""The run of one command of a step: its output files, its start, and what is judged after it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec.structs import replace

from zwrap.errors import PermanentError, ProgramError
from zwrap.host.beneath import AllowedDirectories
from zwrap.host.faults import of_named_paths
from zwrap.host.filetime import touched
from zwrap.program import judgement, listing
from zwrap.program.argv import argv
from zwrap.program.definition import Checkpoint, Definition
from zwrap.program.listing import Listing
from zwrap.program.plan import Planned, environment
from zwrap.program.run import Run
from zwrap.wrapper.ended import Ended, Facts
from zwrap.wrapper.heartbeat import TAIL_BYTES, TAIL_LINES
from zwrap.wrapper.process import Program
from zwrap.wrapper.saving import Saving, program_environment


class Filled(msgspec.Struct, frozen=True):
    """What a program is given."""

    argv: list[str]
    environment: dict[str, str]
    """Variables beside those of the job."""
    stdin: str | None
    """Text on standard input; None: it is empty."""


class Begin(msgspec.Struct, frozen=True):
    """The begin of a run."""

    at: float
    """Time just before it, by the filesystem, in seconds since the epoch."""
    directory: Path
    """Directory of the run."""
    before: Listing
    """Files that were there."""
    first: Listing | None = None
    """Files that were there before the first run of the work with which it goes on; None: it begins
    anew."""


class CommandRun:
    """The run of one command.

    Args:
        planned: The command.
        checkpoint: Way in which the program saves its state; None: it cannot.
        limit_s: Time limit of this command, in seconds; None: it has no limit of its own.
        working: Working directory of the step.
        where: Place of the key that names the working directory, for sentences.
        allowed: Directories below which the step may name paths.
    """

    def __init__(
        self,
        planned: Planned,
        checkpoint: Checkpoint | None,
        limit_s: int | None,
        working: Path,
        where: str,
        allowed: AllowedDirectories,
    ) -> None:
        self.planned, self.limit_s = planned, limit_s
        self._filled: Filled | None = None
        self.directory = working / planned.directory
        """Directory in which the command runs."""
        self._where, self._allowed = where, allowed
        self.stdout = self.directory / planned.stdout
        """File of standard output."""
        self.stderr = self.directory / planned.stderr
        """File of standard error."""
        self.saving = Saving(checkpoint, self.directory, self.stderr, where, allowed)
        """The way in which the command saves its state."""

    @property
    def name(self) -> str:
        """Which command it is, for people."""
        return self.planned.label or f"command {self.planned.command.name}"

    def judged_by(self, definition: Definition, *, exits: bool = True) -> Definition:
        """Return the definition with the rules of success of this command.

        `exits`: True if its exit status is known.
        """
        success = self.planned.command.success
        return replace(
            definition,
            success=success if exits else replace(success, exit_status=[]),
            outputs={},
            files=[],
        )

    def patterns(self, definition: Definition) -> list[str]:
        """Return the patterns of the files by which this command is judged."""
        return judgement.patterns(self.judged_by(definition))

    @property
    def has_log_of_its_own(self) -> bool:
        """True if standard output is NAME.out, as of programs that write a NAME.log themselves."""
        return self.stdout.name == f"{Path(self.planned.stderr).stem}.out"

    def take_earlier_output(self) -> None:
        """Take NAME.log as standard output where a run before NAME.out was introduced left it."""
        earlier = self.stdout.with_suffix(".log")
        if self.has_log_of_its_own and self.stderr.exists() and not self.stdout.exists():
            self.stdout = earlier if earlier.is_file() else self.stdout

    def has_output(self) -> bool:
        """Return True if the error output of the command is there, which its start makes."""
        return (self.directory / self.planned.stderr).exists()

    def clear(self) -> None:
        """Remove the error output of an earlier run: it tells which commands have run.

        Its standard output may be a file that a command before it reads. Where that of a command
        that is not required cannot be removed, the command fails when its turn comes.
        """
        if not self.directory.is_dir():
            return
        try:
            with self.opened() as place:
                _remove(place / self.stderr.name)
        except (PermanentError, OSError):
            if self.planned.command.required:
                raise

    def fill(self) -> Filled:
        """Fill in what the program is given; ProgramError if a value cannot be put in."""
        if self._filled is None:
            command, values = self.planned.command, self.planned.values
            self._filled = Filled(
                argv(self.planned),
                environment(self.planned),
                None if command.stdin is None else values.lines(command.stdin),
            )
        return self._filled

    @contextlib.contextmanager
    def opened(self) -> Iterator[Path]:
        """Create the directory of the run; yield a path that stands for it while it is open."""
        with opened(self.directory, self._where, self._allowed) as place:
            yield place

    def prepare(
        self, place: Path, definition: Definition, searched: Iterable[str], longest_s: float
    ) -> Begin:
        """Remove the output of an earlier run; return the begin.

        Args:
            place: Path that stands for the directory.
            definition: The definition.
            searched: Patterns of the files in which known errors are looked for.
            longest_s: Longest time that the listing of files takes, in seconds.
        """
        self.remove_output(place)
        return begin(self.directory, place, [*self.patterns(definition), *searched], longest_s)

    def remove_output(self, place: Path) -> None:
        """Remove the output of an earlier run, which must not be judged.

        Raises:
            ProgramError: A value chooses the name of a file that is no output of an earlier run.
        """
        if self.planned.is_stdout_chosen:
            from zwrap.wrapper.placing import Directory, check_output  # which few programs need

            check_output(Directory(self.directory, place, self._allowed), Path(self.stdout.name))
        for file in (self.stdout, self.stderr):
            _remove(place / file.name)

    def start(self, place: Path) -> Program:
        """Start the command in its directory, which is open as `place`."""
        filled = self.fill()
        if self.planned.is_stdout_chosen:
            from zwrap.wrapper.placing import Directory, make_output

            make_output(Directory(self.directory, place, self._allowed), Path(self.stdout.name))
        with (
            of_named_paths("The output of the program cannot be written", ProgramError),
            self._allowed.file(self.stdout, self._where) as stdout,
            self._allowed.file(self.stderr, self._where) as stderr,
        ):
            return Program.start(
                filled.argv,
                directory=place,
                environment={**program_environment(os.environ), **filled.environment},
                stdin=filled.stdin,
                stdout=stdout,
                stderr=stderr,
                grace_s=self.planned.command.limits.grace_s,
                stop_signal=self.saving.stop_signal,
                save=self.saving.save,
                saves=self.saving.is_possible,
            )

    def keep_output(self) -> None:
        """Note the output as it is at the end, so that a further run may replace it."""
        if self.planned.is_stdout_chosen and self.directory.is_dir():
            from zwrap.wrapper.placing import Directory, note_output

            # What was noted at the start counts else.
            with contextlib.suppress(OSError, PermanentError), self.opened() as place:
                note_output(Directory(self.directory, place, self._allowed), Path(self.stdout.name))

    def finished(self, began: Begin, exit_status: int) -> Run:
        """Return the run to judge; a listing of another directory does not count."""
        here = began.directory == self.directory
        return Run(
            allowed=self._allowed,
            directory=self.directory,
            stdout=self.stdout,
            stderr=self.stderr,
            began=began.at,
            exit_status=exit_status,
            before=began.before if here else listing.NOT_LISTED,
            first=began.first if here else None,
        )

    def facts(self, ended: Ended) -> Facts:
        """Return the facts about a run that ended so."""
        return {
            "exit_status": ended.exit_status,
            "elapsed_s": round(ended.elapsed_s, 3),
            "leftover_processes": ended.leftovers,
            "stderr_tail": self._allowed.last_lines(self.stderr, TAIL_LINES, TAIL_BYTES),
        }


def _remove(file: Path) -> None:
    """Remove a file, if it is there."""
    with of_named_paths(
        f"The output of the program cannot be written to {file.name}", ProgramError
    ):
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def opened(directory: Path, where: str, allowed: AllowedDirectories) -> Iterator[Path]:
    """Create a directory; yield a path that stands for it while it is open.

    Raises:
        ProgramError: It cannot be made.
        OutsideError: It is outside of the allowed directories.
    """
    allowed.check(directory, where)
    with contextlib.ExitStack() as stack:
        try:
            place = stack.enter_context(allowed.directory(directory, where, make=True))
        except OSError as error:
            raise ProgramError(
                f"The working directory {directory} cannot be made: {error.strerror}."
            ) from None
        yield place


def begin(
    directory: Path,
    place: Path,
    patterns: Iterable[str],
    longest_s: float = listing.LISTING_S,
) -> Begin:
    """Return the begin of a run in a directory, which is open as `place`.

    Args:
        directory: The directory.
        place: Path that stands for it.
        patterns: Patterns of the files by which the run is judged.
        longest_s: Longest time that the listing of these files takes, in seconds.
    """
    before = listing.taken(directory, patterns, longest_s=longest_s)
    return Begin(listing.begun(before, lambda: time_stamp(place)), directory, before)


def time_stamp(directory: Path) -> float:
    """Return the present time of a directory's filesystem; later files belong to the run."""
    try:
        return touched(directory).st_mtime
    except OSError as error:
        raise ProgramError(
            f"The working directory {directory} cannot be written to: {error.strerror}."
        ) from None
