"""The draft of a definition from the files that a program has left in a directory.

It is a beginning: the command line is a guess, and what a success needs is for a person to say.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from zwrap.errors import ProgramError
from zwrap.program.parsers.table import PARSERS, parse

LOGS = (
    ".log", ".out", ".err", ".stdout", ".stderr", ".txt", ".lp", ".html", ".pdf", ".summary",
    ".md", ".cmd", ".bib",
)  # fmt: skip
"""Suffixes of files for people."""

GRAPHS = (".png", ".svg", ".jpg", ".jpeg", ".gif")
"""Suffixes of pictures."""

READ = {".json": "json", ".xml": "xml", ".csv": "csv", ".ini": "ini"}
"""Suffix of a file to the parser that makes values of it."""

FEW = 3
"""Largest number of files of one suffix in one directory that are named one by one."""

STATISTICS = "merging-statistics"
"""Parser that is tried on logs."""

LARGEST_LOG = 16 << 20
"""Size of the largest log on which a parser is tried, in bytes."""

SOUGHT_BYTES = 4096
"""Size of the beginning of an XML file that is looked at, in bytes."""

_SPECIAL = "[]?*{}"
"""Characters with a meaning in patterns, or in placeholders."""


def draft(name: str, directory: Path, files: Sequence[str]) -> str:
    """Return the text of a definition.

    Args:
        name: Name of the program.
        directory: Directory of a finished run.
        files: Its files, relative to it.
    """
    own = {f"{name}.log": "stdout", f"{name}.err": "stderr"}
    kept = [file for file in files if file not in own and not set(_SPECIAL) & set(file)]
    return "\n".join(
        [
            f"# Draft from the files in {str(directory)!r}.",
            "# What a person has to say: the command line, its inputs, and what a success is.",
            f"description: {json.dumps(name)}",
            f'command: [{json.dumps(name)}, "{{data}}"]',
            "inputs:",
            '  data: {required: true, description: "what the program works on"}',
            *_success([file for file in kept if (directory / file).stat().st_size]),
            *_outputs(directory, kept),
            "files:",
            *(f"  - {{pattern: {json.dumps(each)}, {type_of(each)}}}" for each in patterns(kept)),
            *(f"  - {{pattern: {own[file]}, type: log, rank: 2}}" for file in own if file in files),
            "status: untried",
            "",
        ]
    )


def type_of(file: str) -> str:
    """Return type and rank of a result file by its suffix, as keys of a definition."""
    suffix = PurePath(file).suffix.lower()
    if suffix in LOGS:
        return f"type: log, rank: {1 if suffix in ('.html', '.pdf') else 2}"
    return "type: graph, rank: 2" if suffix in GRAPHS else "type: result, rank: 1"


def patterns(files: Sequence[str]) -> Iterator[str]:
    """Yield patterns for files: names, or ``*.suffix`` where a directory has many of one kind."""
    kinds = Counter(map(_kind, files))
    done = set()
    for file in files:
        kind = _kind(file)
        if kinds[kind] <= FEW:
            yield file
        elif kind not in done:
            done.add(kind)
            yield kind


def _kind(file: str) -> str:
    """Return the pattern of all files of the same suffix in the same directory."""
    path = PurePath(file)
    return str(path.with_name(f"*{path.suffix}")) if path.suffix else file


def _success(files: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the success rules: results, which have content, must be there."""
    needed = [each for each in patterns(files) if type_of(each).startswith("type: result")]
    if needed:
        yield "success:"
        yield f"  files: {json.dumps(needed)}"


def _outputs(directory: Path, files: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the outputs: files in the directory itself that a parser reads."""
    names: dict[str, tuple[str, str]] = {}
    for file in files:
        suffix = PurePath(file).suffix.lower()
        parser = READ.get(suffix, "")
        if suffix == ".xml" and _is_of_ispyb(directory / file):
            parser = "ispyb-xml"
        elif suffix in (".log", ".txt") and _has_statistics(directory / file):
            parser = STATISTICS
        if parser in PARSERS and "/" not in file:
            name = re.sub(r"\W+", "_", PurePath(file).stem)  # a placeholder may name it
            names[f"{name}{suffix.replace('.', '-')}" if name in names else name] = (file, parser)
    if names:
        yield "outputs:"
    for name, (file, parser) in names.items():
        rest = "" if parser in ("ispyb-xml", STATISTICS) else ", required: false"
        yield f"  {json.dumps(name)}: {{file: {json.dumps(file)}, parser: {parser}{rest}}}"


def _has_statistics(file: Path) -> bool:
    """Return True if a log holds merging statistics."""
    try:
        return file.stat().st_size <= LARGEST_LOG and bool(parse(STATISTICS, file, {}))
    except (OSError, ProgramError):
        return False


def _is_of_ispyb(file: Path) -> bool:
    """Return True if an XML file holds ISPyB's description of a data reduction."""
    try:
        with file.open("rb") as stream:
            return b"<AutoProc" in stream.read(SOUGHT_BYTES)
    except OSError:
        return False
