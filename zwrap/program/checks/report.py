"""A report on a run: each success rule and whether it holds, and what each pattern of files takes.

It is for people who write a definition; a job only asks whether all rules hold.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
from msgspec.structs import replace

from zwrap.errors import ProgramError
from zwrap.program import judgement
from zwrap.program.causes.knownerrors import OUTPUT
from zwrap.program.definition import Definition, Success, TextRule, file_names
from zwrap.program.keys.conditions import value_failures
from zwrap.program.patterns import Pattern
from zwrap.program.run import Run
from zwrap.recipe.substitution import fill

MOST_FILES = 10_000
"""Largest number of files of a directory that are looked at for those that no pattern takes."""

TOLD = 20
"""Largest number of files that a rule names."""

QUOTED_LINE = 200
"""Length of the longest line that is quoted, in characters."""


class RuleReport(msgspec.Struct, frozen=True):
    """One success rule."""

    rule: str
    holds: bool
    said: str
    """What was found."""
    required: bool = True
    """False if the run can be a success though the rule does not hold."""


class OutputReport(msgspec.Struct, frozen=True):
    """One output."""

    name: str
    file: str
    """File that was parsed; empty: there is none."""
    parser: str
    value: object
    """What the parser made of it; null: see `said`."""
    said: str
    """Why there is no value; empty: there is one."""
    required: bool


class FilesReport(msgspec.Struct, frozen=True):
    """One pattern of result files."""

    pattern: str
    type: str
    rank: int
    files: list[str]


def rules(definition: Definition, run: Run) -> Iterator[RuleReport]:
    """Yield a report on each success rule."""
    success = definition.success
    accepted = " or ".join(map(str, success.exit_status)) or "any"
    yield _report(
        f"exit status is {accepted}",
        definition,
        run,
        Success(exit_status=success.exit_status),
        [f"it is {run.exit_status}"],
    )
    for pattern in success.files:
        found = run.once(("sizes", pattern), partial(_sizes, run, pattern))
        yield _report(f"files {pattern}", definition, run, _only(files=[pattern]), found)
    for pattern in success.no_files:
        found = [] if run.fresh(pattern) else ["no such file"]
        yield _report(f"no files {pattern}", definition, run, _only(no_files=[pattern]), found)
    for rule in success.text:
        yield _text_report("text", rule, run, wanted=True)
    for rule in success.no_text:
        yield _text_report("no text", rule, run, wanted=False)


def _text_report(what: str, rule: TextRule, run: Run, *, wanted: bool) -> RuleReport:
    """Return the report on a text rule; `wanted`: True if the text must be there.

    The file is searched once, and not by the judgement again: it may be large.
    """
    name = f"{what} '{rule.pattern}' in {rule.file}"
    try:
        found = _first_match(rule, run)
    except ProgramError as error:
        return RuleReport(name, holds=False, said=str(error))
    where = ", ".join(_names(run.written(rule.file)))
    said = found or (f"not in {where}" if where else f"there is no {rule.file}")
    return RuleReport(name, bool(found) == wanted, said)


def _only(**rules: object) -> Success:
    """Return success rules with some of one kind only."""
    return replace(Success(exit_status=[]), **rules)


def _report(
    name: str, definition: Definition, run: Run, only: Success, found: list[str]
) -> RuleReport:
    """Return the report on one rule; `found`: what was found, in words."""
    failures = judgement.failures(replace(definition, success=only), run, words=False)
    return RuleReport(name, not failures, ", ".join(found) or "; ".join(failures))


def _first_match(rule: TextRule, run: Run) -> str:
    """Return the first of the `matches` of a rule; empty: there is none."""
    if rule.file in OUTPUT:
        return next(matches(rule, run), "")
    key = ("match", rule.file, rule.pattern)
    return run.once(key, lambda: next(matches(rule, run), ""))


def _sizes(run: Run, pattern: str) -> list[str]:
    """Return names of the files that a run wrote and that match a pattern, and which are empty."""
    files = run.fresh(pattern)
    return [*map(_size, files[:TOLD]), *_rest(files)]


def _names(files: Sequence[Path]) -> list[str]:
    """Return names of files."""
    return [*(file.name for file in files[:TOLD]), *_rest(files)]


def _rest(files: Sequence[Path]) -> list[str]:
    """Return a clause about the files that are not told; none if all are."""
    return [f"and {len(files) - TOLD} more"] if len(files) > TOLD else []


def _size(file: Path) -> str:
    """Return the name of a file, and that it is empty if it is."""
    return f"{file.name} (empty)" if not file.stat().st_size else file.name


def matches(rule: TextRule, run: Run) -> Iterator[str]:
    """Yield the first match of a rule's pattern in each of its files: file, line, and the line.

    Raises:
        ProgramError: A file cannot be searched.
    """
    pattern = Pattern(rule.pattern, f"rule for {rule.file}")
    for file in run.written(rule.file):
        text = run.text(file)
        if match := pattern.search(text):
            begin = text.rfind("\n", 0, match.start()) + 1
            end = text.find("\n", match.end())
            line = text[begin : end if end >= 0 else None].strip()
            number = text.count("\n", 0, match.start()) + 1
            yield f"{file.name}:{number}: {line[:QUOTED_LINE]}"


def outputs(
    definition: Definition, run: Run, parsed: Mapping[str, object]
) -> Iterator[OutputReport]:
    """Yield a report on each output; those that are `parsed` are not parsed again."""
    for name, output in definition.outputs.items():
        values, said = parsed, list[str]()
        if name not in parsed:
            alone = replace(definition, outputs={name: replace(output, required=True)})
            values, said = judgement.parsed_outputs(alone, run, words=False)
        found = [file for pattern in file_names(output) for file in run.written(pattern)]
        yield OutputReport(
            name,
            _below(found[0], run) if found else "",
            output.parser,
            values.get(name),
            "; ".join(said).removeprefix(f"output {name!r}: "),
            output.required,
        )


def value_rules(definition: Definition, found: Iterable[OutputReport]) -> Iterator[RuleReport]:
    """Yield a report on each rule on a value, of the reports on the outputs."""
    parsed = {each.name: each.value for each in found}
    for rule in definition.success.values:
        said = next(value_failures([rule], parsed), "")
        yield RuleReport(f"value {rule.output}", not said, said or "it is as expected")


def result_files(
    definition: Definition, run: Run, found: Iterable[OutputReport]
) -> tuple[list[FilesReport], list[str]]:
    """Return a report on each pattern of result files, and the files that no pattern takes.

    `found`: reports on the outputs, whose values patterns may hold.
    """
    parsed = {each.name: each.value for each in found if not each.said}
    reports, taken = [], set()
    for declared in definition.files:
        pattern = fill(declared.pattern, parsed)
        files = run.written(pattern)
        taken.update(files)
        names = [_below(file, run) for file in files]
        reports.append(FilesReport(pattern, declared.type, declared.rank, names))
    untaken = [_below(file, run) for file in files_below(run.directory) if file not in taken]
    return reports, untaken


def files_below(directory: Path) -> list[Path]:
    """Return the files below a directory, sorted, but not those of zwrap itself."""
    found: list[Path] = []
    for place, directories, names in os.walk(directory):
        directories[:] = sorted(name for name in directories if name != ".zwrap")
        found += [Path(place, name) for name in sorted(names)]
        if len(found) >= MOST_FILES:
            break
    return found[:MOST_FILES]


def _below(file: Path, run: Run) -> str:
    """Return the path of a file, relative to the directory of the run if it is below it."""
    return str(file.relative_to(run.directory) if file.is_relative_to(run.directory) else file)
