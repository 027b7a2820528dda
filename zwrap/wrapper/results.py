"""Copies of results, and links to them, outside the working directory.

The keys of `job_parameters` are those of Diamond's wrappers: ``results_directory``,
``create_symlink`` and ``pipeline-final: {path, patterns}``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from zwrap.errors import ProgramError
from zwrap.host.beneath import ANYWHERE, AllowedDirectories
from zwrap.host.links import put_link
from zwrap.program.judgement import ResultRecord
from zwrap.program.keys.written import OWN


def link(
    directory: Path, parameters: Mapping[str, object], allowed: AllowedDirectories = ANYWHERE
) -> None:
    """Create the link that ``create_symlink`` asks for, two levels above `directory`.

    The name of a run in a space group that somebody asked for ends in it, as in Diamond's wrappers,
    so that it does not take the link of the automatic run.

    Raises ProgramError if its name is not usable, or if it cannot be created, and OutsideError if
    its place is not allowed.
    """
    name = parameters.get("create_symlink")
    if not name:
        return
    if not isinstance(name, str) or "/" in name or name in (".", "..", OWN):
        raise ProgramError(
            f"job_parameters, key 'create_symlink' is {name!r}; the name of a link is expected, "
            f"without '/', and not {OWN!r}, which is zwrap's own."
        )
    name += _space_group(parameters)
    if len(directory.parts) < 3:
        raise ProgramError(f"There is no place two levels above {directory} for the link {name!r}.")
    try:
        with allowed.directory(directory.parents[1], _key("create_symlink")) as place:
            put_link(place / name, Path(*directory.parts[-2:]), overwrite=True)
    except OSError as error:
        raise ProgramError(
            f"The link {name!r} to {directory} cannot be made: {error.strerror}."
        ) from None


def _space_group(parameters: Mapping[str, object]) -> str:
    """Return the end of a link's name for the space group in ``ispyb_parameters``, or nothing."""
    asked = parameters.get("ispyb_parameters")
    group = asked.get("spacegroup") if isinstance(asked, Mapping) else None
    if isinstance(group, list):
        group = group[0] if group else None
    return f"-{group}" if isinstance(group, str) and group and "/" not in group else ""


def copied(
    records: Sequence[ResultRecord],
    working: Path,
    parameters: Mapping[str, object],
    allowed: AllowedDirectories = ANYWHERE,
    noted: Callable[[Path], None] | None = None,
) -> list[ResultRecord]:
    """Copy result files to ``results_directory``, if the step names one; return their new records.

    Files below the working directory keep their path relative to it. Files that match
    ``pipeline-final`` are copied to its path, too. `noted` is called with each copy. Raises
    ProgramError if a copy cannot be made, and OutsideError if its place is not allowed.
    """

    def copy(source: Path, target: Path, key: str) -> None:
        if source != target:
            _copy(source, target, allowed, key)
            if noted:
                noted(target)

    given = parameters.get("results_directory")
    if records and given:
        directory = _absolute(given, "results_directory")
        with _made(directory, allowed, "results_directory"):
            pass
        link(directory, parameters, allowed)
        records = [_copied(record, working, directory, copy) for record in records]
    _copy_final(records, parameters.get("pipeline-final"), copy)
    return list(records)


Copy = Callable[[Path, Path, str], None]
"""Function that copies a file to a target, which a key of `job_parameters` names."""


def _copied(record: ResultRecord, working: Path, directory: Path, copy: Copy) -> ResultRecord:
    """Copy one result file below `directory`; return its new record."""
    source = Path(record["file_path"], record["file_name"])
    inside = source.is_relative_to(working)
    target = directory / (source.relative_to(working) if inside else source.name)
    copy(source, target, "results_directory")
    return {**record, "file_path": str(target.parent)}


def _copy_final(records: Sequence[ResultRecord], final: object, copy: Copy) -> None:
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
            copy(source, directory / source.name, "pipeline-final.path")


def directories(parameters: Mapping[str, object]) -> list[Path]:
    """Return the directories to which results are copied, as far as their keys are usable."""
    final = parameters.get("pipeline-final")
    given = parameters.get("results_directory"), isinstance(final, Mapping) and final.get("path")
    return [Path(each) for each in given if isinstance(each, str) and each.startswith("/")]


def _absolute(value: object, key: str) -> Path:
    """Return an absolute path; ProgramError for any other value."""
    if not isinstance(value, str) or not value.startswith("/"):
        raise ProgramError(
            f"job_parameters, key {key!r} is {value!r}; an absolute path is expected."
        )
    return Path(value)


def _key(key: str) -> str:
    """Return the place of a key, for sentences."""
    return f"job_parameters, key {key!r}"


@contextlib.contextmanager
def _made(directory: Path, allowed: AllowedDirectories, key: str) -> Iterator[Path]:
    """Create a directory, and open it; ProgramError if that is not possible."""
    allowed.check(directory, _key(key))
    with contextlib.ExitStack() as stack:
        try:
            place = stack.enter_context(allowed.directory(directory, _key(key), make=True))
        except OSError as error:
            raise ProgramError(
                f"The directory {directory} cannot be made: {error.strerror}."
            ) from None
        yield place


def _copy(source: Path, target: Path, allowed: AllowedDirectories, key: str) -> None:
    """Copy a file atomically: a reader finds the whole copy or none."""
    with _made(target.parent, allowed, key) as place:
        scratch = place / f".{target.name[:200]}.part"
        try:
            copy_into(source, scratch, allowed)
            scratch.replace(place / target.name)
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise ProgramError(
                f"The result {source} cannot be copied to {target.parent}: {error.strerror}."
            ) from None


def copy_into(source: Path, scratch: Path, allowed: AllowedDirectories) -> None:
    """Copy a file, with mode and times, into a new one; neither is opened through a link."""
    import shutil

    scratch.unlink(missing_ok=True)
    descriptors = []
    try:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        descriptors.append(allowed.opened(source, f"The result {source.name!r}", flags))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptors.append(os.open(scratch, flags, 0o666))
        shutil.copy2(*(f"/proc/self/fd/{each}" for each in descriptors))
    finally:
        for each in descriptors:
            os.close(each)
