"""The argument list of a command, from its definition and a step's job parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import zwrap_templates

from zwrap.errors import ProgramError
from zwrap.program.filling import Values
from zwrap.program.keys.commandline import Part, When, is_true
from zwrap.program.plan import Planned, environment
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
        return _in_shell(planned, values.filling.pieces(command.command), planned.options)
    arguments = [*_arguments(command.command, values), *planned.options]
    if not arguments:
        raise values.fault("no word of key 'command' is left; the name of a program is expected.")
    if not command.set_up:
        return arguments
    return _in_shell(planned, ["exec", *_words(arguments, "an argument")])


def _words(texts: Sequence[str], source: str) -> list[Piece]:
    """Return further words of shell text."""
    return [piece for text in texts for piece in (" ", Value(text, source))]


def _variables(planned: Planned) -> list[Piece]:
    """Return assignments of the variables that the shell finds in its environment.

    They show where the shell text calculates with a value, and are no part of it.
    """
    texts = planned.command.environment
    return [
        piece
        for name, value in environment(planned).items()
        if value != texts[name] and name.isidentifier()
        for piece in (f"{name}=", Value(value, f"variable {name} of key 'environment'"), "\n")
    ]


def _without_last_lines(text: str) -> str:
    """Return shell text without the blank lines at its end, up to one that a backslash continues.

    A pattern that looks for them from each line break on takes the square of their number.
    """
    kept = len(text.rstrip())
    at = text.find("\n", kept + text.startswith("\\\n", max(0, kept - 1)))
    return text if at < 0 else text[:at]


def _in_shell(planned: Planned, command: Sequence[Piece], options: Sequence[str] = ()) -> list[str]:
    """Return the argument list of a shell for the set-up lines and a command with its options."""
    from zwrap.recipe.quoting import quoted  # a program without shell text does not need it
    from zwrap.recipe.shellrepeats import repeated
    from zwrap.recipe.shelltext import takes_arguments

    def fault(sentence: str) -> ProgramError:
        where = f"{planned.values.source}, keys 'set_up' and 'command'"
        return ProgramError(f"{where}: {sentence}")

    text: list[Piece] = []
    for line in planned.command.set_up:
        text += [*planned.values.filling.pieces(line), "\n"]
    text = repeated([*text, *command], fault)
    if options:
        if isinstance(text[-1], str):
            text[-1] = _without_last_lines(text[-1])
        text += _words(options, "an option")
        if not takes_arguments(text, len(options)):
            raise fault(
                "the options of the command stand at the end of its text, where the shell takes "
                "no arguments. End the text with the command that gets them."
            )
    assignments, [_, filled] = quoted([_variables(planned), text], fault)
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
