"""`zwrap program run`: run a program here, and show how a job would have judged it."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from zwrap.cli.common import complain, say, say_json
from zwrap.cli.programs import job_parameters, named, payload_of
from zwrap.configuration.site import Configuration
from zwrap.message.content import RECIPE_HEADER, Outgoing
from zwrap.message.jsontext import pretty

if TYPE_CHECKING:
    from zwrap.program.causes.recognition import Recognized
    from zwrap.wrapper.trial import Judged, Trial

MOST_NAMES = 30
"""Largest number of files that are shown for one pattern."""

VALUE_CHARACTERS = 400
"""Length of the longest value of an output, or content of a message, that is shown."""


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Run the program, or show what would be run; return 0 for a success, 1 for a failure."""
    from zwrap.program.checks.parameters import remark
    from zwrap.wrapper.trial import Trial

    parameters = job_parameters(options.parameters)
    definition = named(options.name, configuration.site.program_directory, parameters)
    parameters = job_parameters(options.parameters, definition)
    directory = (options.directory or Path.cwd()).absolute()
    if unknown := remark(definition, parameters):
        complain(unknown)
    trial = Trial(definition, parameters, payload_of(options.payload), directory)
    if options.dry_run:
        _preview(trial, as_json=options.json)
        return 0
    judged = trial.run()
    show(judged, as_json=options.json)
    return 1 if judged.failures else 0


def _preview(trial: Trial, *, as_json: bool) -> None:
    """Show what a run would do."""
    if as_json:
        say_json(dict(trial.preview()))
        return
    for what, value in trial.preview():
        if isinstance(value, list):
            say(f"{what}: {shlex.join(value)}")
        elif isinstance(value, dict):
            for name, text in value.items():
                say(f"{what}: {name}={text}")
        else:
            say(f"{what}:")
            for line in str(value).splitlines():
                say(f"  {line}")
    say("Dry run: the program was not run.")


def show(judged: Judged, *, as_json: bool) -> None:
    """Show the judgement on a run."""
    if as_json:
        value = msgspec.to_builtins(judged)
        value["messages"] = [
            {"channel": each.destination, "content": _content(each)} for each in judged.messages
        ]
        say_json(value)
        return
    for line in _lines(judged):
        say(line)
    for failure in judged.failures:
        complain(failure)
    say(f"verdict: {'failure' if judged.failures else 'success'}")


def _lines(judged: Judged) -> Iterator[str]:
    """Yield what a judgement says to people, without the verdict."""
    yield f"{judged.program} ({judged.source})"
    yield f"in {judged.directory}"
    yield "rules of success"
    for rule in judged.rules:
        failed = "FAILED" if rule.required else "FAILED (not required)"
        yield f"  {'holds ' if rule.holds else failed}  {rule.rule}: {rule.said}"
    if judged.known:
        yield from _known(judged.known)
    if judged.outputs:
        yield "outputs"
    for output in judged.outputs:
        if output.said:
            missing = "FAILED" if output.required else "left out"
            yield f"  {output.name}: {missing}: {output.said}"
        else:
            yield f"  {output.name}: {output.file}, parser {output.parser}: {_short(output.value)}"
    if judged.files:
        yield "files"
    for pattern in judged.files:
        found = ", ".join(_some(pattern.files)) or "no file"
        yield f"  {pattern.type} {pattern.rank}  {pattern.pattern}: {found}"
    if judged.untaken:
        yield "files that no pattern takes"
        yield from (f"  {name}" for name in _some(judged.untaken))
    yield "messages"
    for message in judged.messages:
        yield f"  {message.destination}: {_short(_content(message))}"


def _some(names: list[str]) -> list[str]:
    """Return the first of some names, and how many others there are."""
    more = len(names) - MOST_NAMES
    return [*names[:MOST_NAMES], f"and {more} more"] if more > 0 else names


def _known(error: Recognized) -> Iterator[str]:
    """Yield what a known error tells."""
    yield "known error"
    yield f"  {error.cause}: {error.says}"
    if error.remedy:
        yield f"  remedy: {error.remedy}"
    if error.set:
        yield f"  correction, where the retry policy allows it: {_short(error.set)}"


def _content(message: Outgoing) -> object:
    """Return what a receiver gets as the payload of a message."""
    content = message.message
    if isinstance(content, dict) and RECIPE_HEADER in message.headers:
        return content.get("payload")
    return content


def _short(value: object) -> str:
    """Return a value as JSON text in one line, which is cut if it is long."""
    text = pretty(value, 0)
    return text if len(text) <= VALUE_CHARACTERS else f"{text[:VALUE_CHARACTERS]}..."
