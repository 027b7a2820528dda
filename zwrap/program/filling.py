"""Values of a definition's placeholders, of which there may be several, or none."""

from __future__ import annotations

from collections.abc import Container, Mapping

from zwrap.errors import ProgramError
from zwrap.recipe.pieces import Several, as_text, copies
from zwrap.recipe.substitution import Filling


class Values:
    """The filling in of the texts of one command.

    Args:
        known: Values by name; a list, and a missing one, drop or repeat what is around them.
        optional: Names of which an empty text is a missing value.
        source: File of the definition, for sentences.
    """

    def __init__(self, known: Mapping[str, object], optional: Container[str], source: str) -> None:
        self.known = known
        self.source = source
        """File of the definition."""
        self.filling = Filling(
            {name: _repeating(value, empty=name in optional) for name, value in known.items()}
        )
        """The filling in, for pieces of texts."""

    def fault(self, sentence: str) -> ProgramError:
        """Return the error of a sentence about the definition."""
        return ProgramError(f"{self.source}: {sentence}")

    def each(self, text: str) -> list[str]:
        """Return a text as often as it is there: once, for each entry of a list, or not at all."""
        return [word for [word] in self.groups([text])]

    def groups(self, texts: list[str]) -> list[list[str]]:
        """Return texts that are dropped or repeated together."""
        found = copies([self.filling.pieces(text) for text in texts], self.fault)
        return [[as_text(pieces) for pieces in group] for group in found]

    def names(self, text: str) -> list[str]:
        """Return the names of files that a text gives, without empty ones."""
        return [name for name in self.each(text) if name]

    def needed_names(self, text: str, key: str) -> list[str]:
        """Return the names of files that a text gives; if none, raise ProgramError with the key."""
        found = self.names(text)
        if not found:
            raise self.fault(
                f"an input in key {key!r}, {text!r}, has no value, so that the rule would not be "
                "judged; give the input a value or a default."
            )
        return found

    def one(self, text: str, key: str) -> str:
        """Return a text that must be there once; if it is not, raise ProgramError with the key."""
        found = self.each(text)
        if len(found) != 1:
            why = "is a list" if found else "has no value"
            raise self.fault(f"an input in key {key!r}, {text!r}, {why}; one value is expected.")
        return found[0]

    def lines(self, text: str) -> str:
        """Return a text for standard input."""
        from zwrap.recipe.lines import filled_lines  # which few programs need

        return filled_lines(text, self.filling, self.fault)


def _repeating(value: object, *, empty: bool) -> object:
    """Return a value such that a list of it, and a missing one, is told from a single value."""
    if isinstance(value, list):
        return Several(value)
    missing = value is None or (empty and value == "")
    return Several() if missing else value
