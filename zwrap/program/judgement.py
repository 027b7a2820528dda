"""Judgement of a run: success or failure, and its results. Files of earlier runs do not count."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NotRequired, TypedDict

from zwrap.errors import ProgramError
from zwrap.host.beneath import OutsideError
from zwrap.program.causes.knownerrors import OUTPUT
from zwrap.program.definition import Definition, Output, TextRule, file_names
from zwrap.program.patterns import Pattern, shown_pattern
from zwrap.program.run import QUOTED_CHARACTERS, Run
from zwrap.recipe.substitution import fill


class ResultRecord(TypedDict):
    """Payload of `result-individual-file`."""

    file_path: str
    """Directory, absolute."""
    file_name: str
    file_type: str
    importance_rank: int
    partial: NotRequired[bool]
    """Present, and true, for files of a failed run that are not logs."""


def patterns(definition: Definition) -> list[str]:
    """Return the patterns of the files by which a run is judged, other than its own output."""
    success = definition.success
    rules = (rule.file for rule in (*success.no_text, *success.text))
    parsed = ((*file_names(each), *each.beside.values()) for each in definition.outputs.values())
    recorded = (each.pattern for each in definition.files)
    named = (*success.no_files, *success.files, *rules, *chain.from_iterable(parsed), *recorded)
    return [each for each in dict.fromkeys(named) if each not in OUTPUT]


def failures(definition: Definition, run: Run, *, words: bool = True) -> list[str]:
    """Return a sentence for each success rule that does not hold; none for a success.

    The first one is the cause, as far as that is known. Then files that are missing are one
    sentence, as its consequence, and texts that are missing are not told. Without a cause, and with
    `words`, the last words of the program are.
    """
    success = definition.success
    causes = [sentence for rule in success.no_text for sentence in _unwanted(rule, run.alone)]
    causes += _exit_failures(definition, run, quote=not causes)
    causes += _unwanted_files(definition, run.alone, causes)
    unwritten, empty = _missing_files(definition, run)
    if causes:
        consequence = [f"it did not write {', nor '.join(unwritten)}"] if unwritten else []
        return [*dict.fromkeys(causes), *consequence, *empty]
    missing = [f"it did not write {pattern}" for pattern in unwritten] + empty
    try:
        missing += [said for rule in success.text if (said := _missing(rule, run))]
    except ProgramError as error:
        return [*missing, str(error)]
    return [*missing, *_last_words(run)] if missing and words else missing


def _unwanted(rule: TextRule, run: Run) -> Iterator[str]:
    """Yield a sentence if a file holds a text that it must not hold, or cannot be searched."""
    try:
        if found := _search(rule, run):
            yield f"{rule.file} says: {found}"
    except ProgramError as error:
        yield str(error)


def _missing(rule: TextRule, run: Run) -> str:
    """Return a sentence if a file does not hold a text that it must hold, else an empty text.

    Raises ProgramError if it cannot be searched.
    """
    if _search(rule, run):
        return ""
    return f"{rule.file} does not hold the expected {shown_pattern(rule.pattern)}"


def _exit_failures(definition: Definition, run: Run, *, quote: bool) -> Iterator[str]:
    """Yield a sentence for a bad exit status, with `quote` the last words of the program."""
    accepted = definition.success.exit_status
    if accepted and run.exit_status not in accepted:
        if run.exit_status < 0:
            yield f"it was killed by signal {-run.exit_status}"
        else:
            words = ", ".join(_last_words(run)) if quote else ""
            yield f"it exited with status {run.exit_status}{words and ', '}{words}"


def _last_words(run: Run) -> Iterator[str]:
    """Yield a clause with the last line of the program's output, if there is any."""
    if said := run.last_words():
        yield f"its last words: {said}"


def _unwanted_files(definition: Definition, run: Run, causes: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each unwanted file, with its last line unless a cause quotes it."""
    for pattern in definition.success.no_files:
        for file in run.fresh(pattern):
            said = run.last_line(file)
            # The head of a traceback without the error tells no more than the file's name does.
            new = said and not said.startswith("Traceback") and not any(said in c for c in causes)
            yield f"it left {file.name}" + (f", which ends with: {said}" if new else "")


def _missing_files(definition: Definition, run: Run) -> tuple[list[str], list[str]]:
    """Return the patterns of missing files, with a remark, and sentences about empty ones."""
    unwritten, empty = [], []
    for pattern in definition.success.files:
        fresh = run.fresh(pattern)
        if not fresh:
            old = " (only one from before this run is there)" if run.stale(pattern) else ""
            unwritten.append(f"{pattern}{old}")
        elif run.once(("empty", pattern), partial(_are_empty, fresh)):
            empty.append(f"it left {pattern} empty")
    return unwritten, empty


def _are_empty(files: Sequence[Path]) -> bool:
    """Return True if all files are empty."""
    return not any(file.stat().st_size for file in files)


def _search(rule: TextRule, run: Run) -> str | None:
    """Return the first match of a rule's pattern, with the rest of its line; None: no match."""
    if rule.file in OUTPUT:
        return _searched(rule, run)
    return run.once(("search", rule.file, rule.pattern), partial(_searched, rule, run))


def _searched(rule: TextRule, run: Run) -> str | None:
    """Return what `_search` does, from the files."""
    text = "".join(run.text(file) for file in run.written(rule.file))
    match = Pattern(rule.pattern, f"success rule for {rule.file}").search(text)
    if match is None:
        return None
    begin = text.rfind("\n", 0, match.start()) + 1
    end = text.find("\n", match.end())
    return text[begin : end if end >= 0 else None].strip()[:QUOTED_CHARACTERS] or match[0]


def parsed_outputs(
    definition: Definition, run: Run, *, words: bool = True
) -> tuple[dict[str, object], list[str]]:
    """Return parsed outputs by name, and a sentence for each required output without a value.

    `words`: True if the program's last words are added where a file is missing.
    """
    found: dict[str, object] = {}
    complaints, missing = [], False
    for name, output in definition.outputs.items():
        written = [file for pattern in file_names(output) for file in run.written(pattern)]
        if not written:
            if output.required:
                wanted, missing = " or ".join(file_names(output)), True
                complaints.append(f"output {name!r}: it did not write {wanted}")
            continue
        beside = {option: run.written(file) for option, file in output.beside.items()}
        with_it = {option: files[0] for option, files in beside.items() if files}
        try:
            found[name] = _parsed(output, written[0], with_it, run)
        except (ProgramError, OutsideError) as error:
            if output.required:
                complaints.append(f"output {name!r}: {error}")
    return found, [*complaints, *(_last_words(run) if missing and words else ())]


def _parsed(output: Output, file: Path, beside: Mapping[str, Path], run: Run) -> object:
    """Return what the parser of an output finds in a file, and in those beside it."""
    from zwrap.program.parsers import table  # not for a step without outputs

    with contextlib.ExitStack() as stack:

        def opened(path: Path) -> Path:
            return stack.enter_context(run.allowed.reading(path, "A file of the run"))

        options = {option: opened(path) for option, path in beside.items()}
        return table.parse(output.parser, opened(file), {**output.options, **options})


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
