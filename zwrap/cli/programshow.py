"""`zwrap program show` and `schema`: what a program takes, leaves and sends."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import msgspec

from zwrap.cli.common import say, say_json
from zwrap.cli.programs import named
from zwrap.configuration.site import Configuration
from zwrap.program.causes.errorlist import known_errors
from zwrap.program.definition import Definition, Output, file_names
from zwrap.program.keys.commandline import Command, Part, When
from zwrap.program.keys.inputs import Input, expected
from zwrap.program.keys.rules import Success
from zwrap.program.plan import commands


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Show a definition, or the JSON Schema of its job parameters."""
    definition = named(options.name, configuration.site.program_directory, {"command": ["..."]})
    if options.action == "schema":
        from zwrap.program.checks.forms import schema

        say_json(schema(definition))
        return 0
    if options.json:
        say_json(msgspec.to_builtins(definition))
        return 0
    for line in lines(definition):
        say(line)
    return 0


def lines(definition: Definition) -> Iterator[str]:
    """Yield what a definition says to people who use the program."""
    untried = " (untried: no real output of the program was seen)"
    yield f"{definition.name}{untried if definition.status == 'untried' else ''}"
    if definition.description:
        yield f"  {definition.description}"
    yield f"  defined in {definition.source}"
    yield ""
    every = commands(definition)
    for command in every:
        yield from _command(definition, command)
    yield from _section("inputs", [_input(*each) for each in definition.inputs.items()])
    yield from _section("inputs that depend on each other", _groups(definition))
    blocks = [f"{each.block}: each entry is an option" for each in definition.options]
    yield from _section("blocks of options", blocks)
    yield from _section("files before the start", _files_before(definition))
    yield from _section("outputs", [_output(*each) for each in definition.outputs.items()])
    yield from _section("messages", [f"{channel}" for channel in definition.messages])
    files = [f"{each.pattern}: {each.type}, rank {each.rank}" for each in definition.files]
    yield from _section("files", files)
    for command in every:
        of = f" of {command.name}" if len(every) > 1 else ""
        yield from _section(f"success{of}", _rules(command.success))
    yield from _section("known errors", _errors(definition))
    yield from _section("tests", [each.directory for each in definition.tests])


def _groups(definition: Definition) -> list[str]:
    """Return lines about inputs that depend on each other."""
    return [
        f"{key.replace('_', ' ')}: {', '.join(names)}"
        for group in definition.groups
        for key, names in msgspec.structs.asdict(group).items()
        if names
    ]


def _files_before(definition: Definition) -> list[str]:
    """Return lines about the files that the program finds when it starts."""
    return [
        *(f"{each.file}: {each.format or 'from a template'}" for each in definition.write),
        *(f"{name}: link to {source}" for name, source in definition.link.items()),
        *(f"{name}: copy of {source}" for name, source in definition.copy.items()),
    ]


def _rules(success: Success) -> list[str]:
    """Return lines about what makes a success."""
    return [
        f"exit status {' or '.join(map(str, success.exit_status)) or 'any'}",
        *(f"writes {each}" for each in success.files),
        *(f"does not leave {each}" for each in success.no_files),
        *(f"{each.file} holds {each.pattern}" for each in success.text),
        *(f"{each.file} does not hold {each.pattern}" for each in success.no_text),
        *(f"{each.output} is as it must be" for each in success.values),
    ]


def _errors(definition: Definition) -> list[str]:
    """Return lines about the known errors, those in tables included."""
    found = known_errors(definition.errors, definition.errors_of, definition.source)
    return [
        f"{each.cause}: {each.says or each.pattern}{f'. {each.remedy}' if each.remedy else ''}"
        for each in found
    ]


def _section(title: str, entries: list[str]) -> Iterator[str]:
    """Yield a title and the entries below it; no line if there is none."""
    if entries:
        yield ""
        yield title
        yield from (f"  {entry}" for entry in entries)


def _command(definition: Definition, command: Command) -> Iterator[str]:
    """Yield what one of the commands does."""
    facts = [f"for each of {source}" for source in command.for_each.values()]
    facts += [f"if {command.if_}"] if command.if_ else []
    facts += [] if command.required else ["may fail"]
    name = command.name if definition.then else ""
    yield " ".join(filter(None, ["command", name, f"({', '.join(facts)})" if facts else ""]))
    line = command.command
    yield f"  {line if isinstance(line, str) else ' '.join(map(_word, line))}"


def _word(part: Part) -> str:
    """Return a part of a command line for people; a group stands in brackets."""
    if isinstance(part, When):
        return f"[{_word(part.then)} {f'if {part.if_}' if part.if_ else f'unless {part.unless}'}]"
    return f"[{' '.join(part)}]" if isinstance(part, list) else part


def _input(name: str, declared: Input) -> str:
    """Return a line about an input."""
    facts = []
    if declared.type:
        facts.append(f"{'list: ' * (declared.type == 'list')}{expected(declared)}")
    elif declared.file:
        facts.append("file")
    if declared.required:
        facts.append("required")
    if declared.default is not None:
        facts.append(f"default {declared.default}")
    if declared.block:
        facts.append(f"in block {declared.block}")
    told = f" ({', '.join(facts)})" if facts else ""
    return f"{name}{told}{f': {declared.description}' if declared.description else ''}"


def _output(name: str, output: Output) -> str:
    """Return a line about an output."""
    channel = output.channel or name
    on = "" if channel == name else f" on channel {channel}"
    needed = "" if output.required else ", if it is there"
    return f"{name}: {' or '.join(file_names(output))}, parser {output.parser}{on}{needed}"
