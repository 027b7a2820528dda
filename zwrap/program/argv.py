"""The argument list of a command, from its definition and a step's job parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import zwrap_templates

from zwrap.errors import ProgramError
from zwrap.program.filling import Values
from zwrap.program.keys.commandline import Part, When, is_true
from zwrap.program.plan import Planned
from zwrap.recipe.pieces import Piece, Value

SHELL = ["/bin/bash", "-c"]
"""Beginning of an argument list that runs shell text."""

MODULE = Path(zwrap_templates.__file__).with_name("module.sh")
"""Shell text that finds the function `module` when it is first used."""


def argv(planned: Planned) -> list[str]:
    """Return the argument list to run, with a shell only if set-up lines or shell text need one.

    Raises:
        ProgramError: A value cannot be put in safely, or what needs a value has none.
    """
    command, values = planned.command, planned.values
    if isinstance(command.command, str):
        words = _words(planned.options, "an option")
        return _in_shell(planned, [*values.filling.pieces(command.command), *words])
    arguments = [*_arguments(command.command, values), *planned.options]
    if not arguments:
        raise values.fault("no word of key 'command' is left; the name of a program is expected.")
    if not command.set_up:
        return arguments
    return _in_shell(planned, ["exec", *_words(arguments, "an argument")])


def _words(texts: Sequence[str], source: str) -> list[Piece]:
    """Return further words of shell text."""
    return [piece for text in texts for piece in (" ", Value(text, source))]


def _in_shell(planned: Planned, command: Sequence[Piece]) -> list[str]:
    """Return the argument list of a shell for the set-up lines and a command."""
    from zwrap.recipe.quoting import quoted  # a program without shell text does not need it
    from zwrap.recipe.shellrepeats import repeated

    def fault(sentence: str) -> ProgramError:
        where = f"{planned.values.source}, keys 'set_up' and 'command'"
        return ProgramError(f"{where}: {sentence}")

    text: list[Piece] = []
    for line in planned.command.set_up:
        text += [*planned.values.filling.pieces(line), "\n"]
    assignments, [filled] = quoted([repeated([*text, *command], fault)], fault)
    before = [MODULE.read_text().rstrip()] if "module" in filled else []
    return [*SHELL, "\n".join([*before, *assignments, filled])]


def _arguments(parts: Sequence[Part], values: Values) -> Iterator[str]:
    """Yield the arguments of a command line, filled in."""
    for number, part in enumerate(parts):
        words = part
        if isinstance(part, When):
            name = part.if_ or part.unless or ""
            if is_true(values.known.get(name)) == bool(part.unless):
                continue
            words = part.then
        assert not isinstance(words, When)
        groups = values.groups([words] if isinstance(words, str) else words)
        if not groups and number == 0 and isinstance(part, str):
            raise values.fault(f"{part!r}, the name of the program, has no value.")
        for group in groups:
            yield from group
