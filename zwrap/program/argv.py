"""The argument list of a program, from its definition and a step's job parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import zwrap_templates

from zwrap.errors import ProgramError
from zwrap.program.definition import Definition
from zwrap.program.options import option_arguments
from zwrap.recipe.pieces import Piece, Value
from zwrap.recipe.substitution import Filling, fill

SHELL = ["/bin/bash", "-c"]
"""Beginning of an argument list that runs shell text."""

MODULE = Path(zwrap_templates.__file__).with_name("module.sh")
"""Shell text that finds the function `module` when it is first used."""


def argv(definition: Definition, known: Mapping[str, object]) -> list[str]:
    """Return the argument list to run, with a shell only if set-up lines or shell text need one."""
    further = option_arguments(definition, known)
    if isinstance(definition.command, str):
        options: list[Piece] = [
            piece for text in further for piece in (" ", Value(text, "an option"))
        ]
        return _in_shell(definition, known, [*Filling(known).pieces(definition.command), *options])
    arguments = [
        filled for part in definition.command for filled in _argument(definition, part, known)
    ]
    arguments += further
    if not definition.set_up:
        return arguments
    words: list[Piece] = [
        piece for text in arguments for piece in (" ", Value(text, "an argument"))
    ]
    return _in_shell(definition, known, ["exec", *words])


def _in_shell(
    definition: Definition, known: Mapping[str, object], command: list[Piece]
) -> list[str]:
    """Return the argument list of a shell for the set-up lines and a command."""
    from zwrap.recipe.quoting import quoted  # a program without shell text does not need it

    def fault(sentence: str) -> ProgramError:
        return ProgramError(f"{definition.source}, keys 'set_up' and 'command': {sentence}")

    texts = [*(Filling(known).pieces(line) for line in definition.set_up), command]
    assignments, lines = quoted(texts, fault)
    before = [MODULE.read_text().rstrip()] if any("module" in line for line in lines) else []
    return [*SHELL, "\n".join([*before, *assignments, *lines])]


def _argument(definition: Definition, part: str, known: Mapping[str, object]) -> list[str]:
    """Return an argument, filled in: none if its value is missing, several for a list."""
    for name, declared in definition.inputs.items():
        if f"{{{name}}}" not in part:
            continue
        value = known[name]
        if value in (None, "", []) and not declared.required:
            return []
        if isinstance(value, list):
            return [str(fill(part, {**known, name: entry})) for entry in value]
    return [fill(part, known)]
