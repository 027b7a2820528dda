"""Parameter substitution in recipes whose shell text keeps each value a value, never a command.

Shell text is: ``commands`` of a ``cluster`` block and ``cluster_commands``, each of which is one
script; ``set_up`` and ``command`` in ``job_parameters``, and in each entry of ``then`` there, which
are one script, too; and the texts below any other key ``commands``, each by itself. The commands of
the Runner are split into words. No value adds a line to ``stdin`` beside a command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zwrap.errors import RecipeError, short
from zwrap.message.limits import DEFAULTS, Limits
from zwrap.recipe.lines import SEVERAL_LINES, is_several_lines
from zwrap.recipe.pieces import Piece, Value, as_text
from zwrap.recipe.queues import RUNNER, is_of_kind
from zwrap.recipe.quoting import Fault, quoted, quoted_words
from zwrap.recipe.sizes import is_long
from zwrap.recipe.substitution import REPLACE, Filling, Keys


class CommandFilling(Filling):
    """The filling in of one recipe, in which no value becomes a part of a command."""

    def __init__(self, parameters: Mapping[str, object], limits: Limits = DEFAULTS) -> None:
        """Fill in `parameters`, by name; a placeholder without a value stays."""
        super().__init__(parameters, limits)
        self._runs_words = False
        self._set_up: list[list[Piece]] = []
        """Set-up lines of the job parameters, which the shells of `then` read as well."""
        self._variables: list[list[Piece]] = []
        """Assignments of the variables of their key `environment`."""
        self._exported: list[list[Piece]] = []
        """Those of the `cluster` block at hand."""
        self._assigned: list[str] = []
        """Assignments of values in their set-up lines."""

    def mapping(self, value: Mapping[object, object], keys: Keys) -> dict[object, object]:
        """Return a copy of an object with its keys and values filled in."""
        if len(keys) == 1:
            self._runs_words = is_of_kind(value.get("queue"), RUNNER)
        if keys[-1:] == ("cluster",):
            self._exported = self._environment(value, keys)
        program: dict[object, object] = {}
        if keys[1:] in (("job_parameters",), ("job_parameters", "then")):
            program.update(self._program(value, keys))
        filled = {
            self.key(key): program[key]
            if key in program
            else self._entry(key, entry, (*keys, str(key)))
            for key, entry in value.items()
        }
        return {**filled, **program}

    def _entry(self, key: object, entry: object, keys: Keys) -> object:
        """Return a copy of the value under a key."""
        if key == "cluster_commands" or (key == "commands" and keys[-2:-1] == ("cluster",)):
            return self._script(entry, keys, self._exported if key == "commands" else [])
        if key == "commands":
            return self._commands(entry, keys)
        return self.value(entry, keys)

    def _script(self, entry: object, keys: Keys, before: Sequence[list[Piece]]) -> object:
        """Return a text, or a list of texts, that one shell reads; `before`: as in `_lines`."""
        if not isinstance(entry, (str, list, tuple)) or _replaced(entry):
            return self.value(entry, keys)
        entries = [entry] if isinstance(entry, str) else entry
        assignments, filled = self._lines(entries, keys, _fault(keys), before)
        if isinstance(entry, str):
            return "\n".join(map(str, [*assignments, *filled]))
        return [*assignments, *filled]

    def _lines(
        self,
        entries: Sequence[object],
        keys: Keys,
        fault: Fault,
        before: Sequence[list[Piece]] = (),
    ) -> tuple[list[str], list[object]]:
        """Return assignments, and the texts that one shell reads after them; others as they are.

        `before`: what it has read before them, which is no part of the result.
        """
        kept: dict[int, object] = {}
        texts: list[list[Piece]] = [*before]
        for index, each in enumerate(entries):
            if isinstance(each, str) and not _replaced(each):
                texts.append(self.pieces(each))
                continue
            kept[index] = self.value(each, keys)
            texts.append([str(kept[index])])
        assignments, filled = self._quoted(texts, fault)
        return assignments, [
            kept.get(index, text) for index, text in enumerate(filled[len(before) :])
        ]

    def _environment(self, parameters: Mapping[object, object], keys: Keys) -> list[list[Piece]]:
        """Return assignments of the variables with values that a shell finds in its environment."""
        variables = parameters.get("environment")
        found: list[list[Piece]] = []
        for name, text in variables.items() if isinstance(variables, Mapping) else ():
            value = self.value(text, keys) if isinstance(text, str) else text
            if value != text and str(name).isidentifier():
                found.append([f"{name}=", Value(str(value), str(text))])
        return found

    def _program(self, parameters: Mapping[object, object], keys: Keys) -> dict[str, object]:
        """Return `set_up` and `command` of job parameters, as far as a shell reads them."""
        command, lines = parameters.get("command"), parameters.get("set_up")
        set_up = lines if isinstance(lines, (list, tuple)) else []
        in_shell = isinstance(command, str) and not _replaced(command)
        entries = [*set_up, command] if in_shell else set_up
        if in_shell and set_up:
            fault = _fault(keys, "keys 'set_up' and 'command'")
        else:
            fault = _fault((*keys, "command" if in_shell else "set_up"))
        is_first = keys[1:] == ("job_parameters",)
        if is_first:
            self._variables, self._set_up, self._assigned = [], [], []
        variables = self._environment(parameters, keys)
        has_shell = entries or self._set_up
        before = [*self._variables, *variables, *self._set_up] if has_shell else []
        assignments, filled = self._lines(entries, keys, fault, before)
        assignments = [line for line in assignments if line not in self._assigned]
        if is_first:
            self._variables, self._assigned = variables, assignments
            self._set_up = [
                [str(self.value(each, keys))] if _replaced(each) else self.pieces(str(each))
                for each in set_up
            ]
        found = {"command": filled.pop()} if in_shell else {}
        if set_up or (assignments and not lines):
            found["set_up"] = [*assignments, *filled]
        stdin = parameters.get("stdin")
        if command and isinstance(stdin, str) and not _replaced(stdin):
            found["stdin"] = self._input(stdin, _fault((*keys, "stdin")))
        return found

    def _input(self, text: str, fault: Fault) -> str:
        """Return a text for standard input, filled in; no value adds a line to it."""
        pieces = self.pieces(text)
        for piece in pieces:
            if isinstance(piece, Value) and is_several_lines(piece.text):
                raise fault(SEVERAL_LINES.format(source=piece.source[:60], value=short(piece.text)))
        return as_text(pieces)

    def _commands(self, entry: object, keys: Keys) -> object:
        """Return a copy of a value in which each text is a command of its own."""
        if isinstance(entry, str) and not _replaced(entry):
            pieces = self.pieces(entry)
            if self._runs_words:
                return quoted_words(pieces, _fault(keys))
            assignments, filled = self._quoted([pieces], _fault(keys))
            return "\n".join([*assignments, *filled])
        if isinstance(entry, Mapping):
            return {
                self.key(key): self._commands(each, (*keys, str(key)))
                for key, each in entry.items()
            }
        if isinstance(entry, (list, tuple)):
            return [
                self.value(each, keys)
                if self._runs_words and isinstance(each, (list, tuple))  # arguments, one by one
                else self._commands(each, keys)
                for each in entry
            ]
        return self.value(entry, keys)

    def _quoted(self, texts: list[list[Piece]], fault: Fault) -> tuple[list[str], list[str]]:
        """Return assignments, and the texts of one script with their values in place."""
        limit = self.limits.commands_bytes
        literal = "".join(p for text in texts for p in text if isinstance(p, str))
        if is_long(literal, limit) and any(isinstance(p, Value) for text in texts for p in text):
            raise fault(
                f"the text has more than {limit} bytes (section limits, key 'commands_bytes'). Put "
                "long lists into a file, and give its path."
            )
        return quoted(texts, fault)


def _replaced(entry: object) -> bool:
    """Return True for a text that a parameter replaces as a whole."""
    return isinstance(entry, str) and REPLACE.fullmatch(entry) is not None


def _fault(keys: Keys, last: str = "") -> Fault:
    """Return the function for errors of the text to which `keys` lead, or which `last` names."""
    names = [*keys[1:], last] if last else [*keys[1:-1], f"key {keys[-1]!r}"]
    place = ", ".join([f"node {keys[0]}", *names])
    return lambda sentence: RecipeError(f"{place}: {sentence}")
