"""Copies of results, and links to them, outside the working directory.

The keys of `job_parameters` are those of Diamond's wrappers: ``results_directory``,
``create_symlink`` and ``pipeline-final: {path, patterns}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from zwrap.errors import ProgramError
from zwrap.host.links import create_parent_symlink
from zwrap.host.modes import make_readable
from zwrap.program.judgement import ResultRecord


def link(directory: Path, parameters: Mapping[str, object]) -> None:
    """Create the link that ``create_symlink`` asks for, two levels above `directory`.

    Raises ProgramError if its name is not usable, or if it cannot be created.
    """
    name = parameters.get("create_symlink")
    if not name:
        return
    if not isinstance(name, str) or "/" in name or name in (".", ".."):
        raise ProgramError(
            f"job_parameters, key 'create_symlink' is {name!r}; the name of a link is expected, "
            "without '/'."
        )
    if len(directory.parts) < 3:
        raise ProgramError(f"There is no place two levels above {directory} for the link {name!r}.")
    try:
        create_parent_symlink(directory, name, overwrite_symlink=True)
    except OSError as error:
        raise ProgramError(
            f"The link {name!r} to {directory} cannot be made: {error.strerror}."
        ) from None


def copied(
    records: Sequence[ResultRecord], working: Path, parameters: Mapping[str, object]
) -> list[ResultRecord]:
    """Copy result files to ``results_directory``, if the step names one; return their new records.

    Files below the working directory keep their path relative to it. Files that match
    ``pipeline-final`` are copied to its path, too. Raises ProgramError if a copy cannot be made.
    """
    given = parameters.get("results_directory")
    if records and given:
        directory = _absolute(given, "results_directory")
        _make(directory)
        link(directory, parameters)
        records = [_copied(record, working, directory) for record in records]
    _copy_final(records, parameters.get("pipeline-final"))
    return list(records)


def _copied(record: ResultRecord, working: Path, directory: Path) -> ResultRecord:
    """Copy one result file below `directory`; return its new record."""
    source = Path(record["file_path"], record["file_name"])
    inside = source.is_relative_to(working)
    target = directory / (source.relative_to(working) if inside else source.name)
    _copy(source, target)
    return {**record, "file_path": str(target.parent)}


def _copy_final(records: Sequence[ResultRecord], final: object) -> None:
    """Copy the files that match ``pipeline-final`` to its path."""
    if not final:
        return
    if not isinstance(final, Mapping) or not isinstance(final.get("patterns"), list):
        raise ProgramError(
            "job_parameters, key 'pipeline-final' must hold 'path' and a list of 'patterns'."
        )
    directory = _absolute(final.get("path"), "pipeline-final.path")
    for record in records:
        source = Path(record["file_path"], record["file_name"])
        if any(source.match(str(pattern)) for pattern in final["patterns"]):
            _copy(source, directory / source.name)


def _absolute(value: object, key: str) -> Path:
    """Return an absolute path; ProgramError for any other value."""
    if not isinstance(value, str) or not value.startswith("/"):
        raise ProgramError(
            f"job_parameters, key {key!r} is {value!r}; an absolute path is expected."
        )
    return Path(value)


def _make(directory: Path) -> None:
    """Create a directory; ProgramError if that is not possible."""
    try:
        make_readable(directory)
    except OSError as error:
        raise ProgramError(f"The directory {directory} cannot be made: {error.strerror}.") from None


def _copy(source: Path, target: Path) -> None:
    """Copy a file atomically: a reader finds the whole copy or none."""
    if source == target:
        return
    _make(target.parent)
    scratch = target.with_name(f".{target.name[:200]}.part")
    try:
        import shutil

        shutil.copy2(source, scratch)
        scratch.replace(target)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise ProgramError(
            f"The result {source} cannot be copied to {target.parent}: {error.strerror}."
        ) from None
