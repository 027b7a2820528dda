"""Judgement of a run: success or failure, and its results. Files of earlier runs do not count."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import msgspec

from zwrap.errors import ProgramError
from zwrap.host.beneath import ANYWHERE, AllowedDirectories, OutsideError
from zwrap.host.files import UnfitFileError, open_regular
from zwrap.program.definition import Definition, Output, TextRule, file_names
from zwrap.program.parsers.table import parse
from zwrap.program.patterns import Pattern
from zwrap.recipe.substitution import fill

SEARCHED_BYTES = 16 * 1024 * 1024
"""Size of the beginning, and of the end, of a file that text rules search, in bytes."""

QUOTED_CHARACTERS = 300
"""Length of the longest quotation from a program, in characters."""


class ResultRecord(TypedDict):
    """Payload of `result-individual-file`."""

    file_path: str
    """Directory, absolute."""
    file_name: str
    file_type: str
    importance_rank: int
    partial: NotRequired[bool]
    """Present, and true, for files of a failed run that are not logs."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a program: its directory, its begin and its exit status.

    Patterns are those of `Path.glob`, below `directory` unless they are absolute.
    """

    directory: Path
    """Directory in which the program ran."""
    stdout: Path
    stderr: Path
    began: float
    """Time just before the program began, by the filesystem, in seconds since the epoch."""
    exit_status: int
    """Exit status, or minus the number of the signal that killed the program."""
    allowed: AllowedDirectories = ANYWHERE
    """Directories out of which no file of the run may lead."""

    def fresh(self, pattern: str) -> list[Path]:
        """Return the files matching a pattern that this run wrote, sorted by name."""
        return [file for file in self._matching(pattern) if self._wrote(file)]

    def written(self, pattern: str) -> list[Path]:
        """Return files as `fresh` does; ``stdout`` and ``stderr`` stand for the output files."""
        if pattern in ("stdout", "stderr"):
            file = self.stdout if pattern == "stdout" else self.stderr
            return [file] if self._may_read(file) else []
        return self.fresh(pattern)

    def stale(self, pattern: str) -> list[Path]:
        """Return the files matching a pattern that are older than this run, sorted by name."""
        return [file for file in self._matching(pattern) if not self._wrote(file)]

    def _wrote(self, file: Path) -> bool:
        """Return True if this run wrote a file; time stamps may have a resolution of a second."""
        return file.stat().st_mtime >= self.began

    def _matching(self, pattern: str) -> list[Path]:
        """Return the files matching a pattern, sorted by name."""
        place, name = (
            (Path("/"), pattern[1:]) if pattern.startswith("/") else (self.directory, pattern)
        )
        found = (file for file in place.glob(name) if file.is_file())
        return sorted(file for file in found if self._may_read(file))

    def text(self, file: Path) -> str:
        """Return the text of a file of the run; of a large file, its beginning and its end."""
        try:
            with self.allowed.reading(file, "A file of the run") as place:
                return _text(place)
        except (FileNotFoundError, OutsideError):  # it has just been removed, or leads out now
            return ""

    def _may_read(self, file: Path) -> bool:
        """Return False if a file is outside of the allowed directories, or a link leads there."""
        try:
            self.allowed.check_opened(file, "A file of the run")
        except (OutsideError, OSError):
            return False
        return True


def failures(definition: Definition, run: Run) -> list[str]:
    """Return a sentence for each success rule that does not hold; none for a success."""
    said = [sentence for rule in definition.success.no_text for sentence in _unwanted(rule, run)]
    return [
        *_exit_failures(definition, run, quote=not said),
        *said,
        *_file_failures(definition, run),
        *(sentence for rule in definition.success.text for sentence in _missing(rule, run)),
    ]


def _unwanted(rule: TextRule, run: Run) -> Iterator[str]:
    """Yield a sentence if a file holds a text that it must not hold, or cannot be searched."""
    try:
        if found := _search(rule, run):
            yield f"{rule.file} says: {found}"
    except ProgramError as error:
        yield str(error)


def _missing(rule: TextRule, run: Run) -> Iterator[str]:
    """Yield a sentence if a file does not hold a text that it must hold, or cannot be searched."""
    try:
        if not _search(rule, run):
            yield f"{rule.file} does not hold the expected {rule.pattern!r}"
    except ProgramError as error:
        yield str(error)


def _exit_failures(definition: Definition, run: Run, *, quote: bool) -> Iterator[str]:
    """Yield a sentence for a bad exit status, with `quote` the last line of the error output."""
    accepted = definition.success.exit_status
    if accepted and run.exit_status not in accepted:
        if run.exit_status < 0:
            yield f"it was killed by signal {-run.exit_status}"
        else:
            reason = _last_error_line(run) if quote else ""
            yield f"it exited with status {run.exit_status}{reason}"


def _last_error_line(run: Run) -> str:
    """Return the last line of the error output, which often tells the reason, as a clause."""
    lines = run.allowed.last_lines(run.stderr, 1, 2000)
    return f", its last words: {lines[0].strip()[:QUOTED_CHARACTERS]}" if lines else ""


def _file_failures(definition: Definition, run: Run) -> Iterator[str]:
    """Yield a sentence for each file that is missing, empty or unwanted."""
    for pattern in definition.success.files:
        fresh = run.fresh(pattern)
        if not fresh:
            old = " (only one from before this run is there)" if run.stale(pattern) else ""
            yield f"it did not write {pattern}{old}"
        elif not any(file.stat().st_size for file in fresh):
            yield f"it left {pattern} empty"
    for pattern in definition.success.no_files:
        for file in run.fresh(pattern):
            yield f"it left {file.name}"


def _search(rule: TextRule, run: Run) -> str | None:
    """Return the first match of a rule's pattern, with the rest of its line; None: no match."""
    text = "".join(run.text(file) for file in run.written(rule.file))
    match = Pattern(rule.pattern, f"success rule for {rule.file}").search(text)
    if match is None:
        return None
    begin = text.rfind("\n", 0, match.start()) + 1
    end = text.find("\n", match.end())
    return text[begin : end if end >= 0 else None].strip()[:QUOTED_CHARACTERS] or match[0]


def _text(path: Path) -> str:
    """Return the text of a regular file; of a large file, its beginning and its end."""
    try:
        descriptor, _ = open_regular(path, follow=True)
        with os.fdopen(descriptor, "rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            data = file.read(min(size, SEARCHED_BYTES))
            rest = max(len(data), size - SEARCHED_BYTES)
            file.seek(rest)
            gap = b"\n" if rest > len(data) else b""  # texts on its two sides never make a match
            data += gap + file.read(size - rest)
    except FileNotFoundError:
        return ""
    except UnfitFileError as error:
        raise ProgramError(str(error)) from None
    return data.decode("utf-8", "replace")


def parsed_outputs(definition: Definition, run: Run) -> tuple[dict[str, object], list[str]]:
    """Return parsed outputs by name, and a sentence for each required output without a value."""
    found: dict[str, object] = {}
    complaints = []
    for name, output in definition.outputs.items():
        written = [file for pattern in file_names(output) for file in run.written(pattern)]
        if not written:
            if output.required:
                wanted = " or ".join(file_names(output))
                complaints.append(f"output {name!r}: it did not write {wanted}")
            continue
        beside = {option: run.written(file) for option, file in output.beside.items()}
        with_it = {option: files[0] for option, files in beside.items() if files}
        try:
            found[name] = _parsed(output, written[0], with_it, run)
        except (ProgramError, OutsideError) as error:
            if output.required:
                complaints.append(f"output {name!r}: {error}")
    return found, complaints


def _parsed(output: Output, file: Path, beside: Mapping[str, Path], run: Run) -> object:
    """Return what the parser of an output finds in a file, and in those beside it."""
    with contextlib.ExitStack() as stack:

        def opened(path: Path) -> Path:
            return stack.enter_context(run.allowed.reading(path, "A file of the run"))

        options = {option: opened(path) for option, path in beside.items()}
        return parse(output.parser, opened(file), {**output.options, **options})


def result_files(
    definition: Definition, run: Run, *, failed: bool, parsed: Mapping[str, object] | None = None
) -> list[ResultRecord]:
    """Return a record of each result file, in the order of the definition, each file once.

    For a failed run these are only logs, and files with `ResultFile.partial`, marked so. Values of
    `parsed` outputs are filled in in patterns.
    """
    seen: dict[Path, ResultRecord] = {}
    for declared in definition.files:
        if failed and not declared.partial and declared.type != "log":
            continue
        for file in run.written(fill(declared.pattern, parsed or {})):
            record: ResultRecord = {
                "file_path": str(file.parent),
                "file_name": file.name,
                "file_type": declared.type,
                "importance_rank": declared.rank,
            }
            if failed and declared.type != "log":
                record["partial"] = True
            seen.setdefault(file, record)
    return list(seen.values())


def file_list(records: Sequence[ResultRecord]) -> list[str]:
    """Return the absolute paths in records of result files."""
    return [str(Path(record["file_path"], record["file_name"])) for record in records]
