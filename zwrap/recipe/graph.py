"""Station "recipe": the small graph of steps that travels with every message.

Keys, normalisation and merging follow python-workflows (`workflows.recipe`), with two
differences: nothing here changes its input, and every complaint names node and key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from zwrap.errors import RecipeError
from zwrap.message import JSON, copied, decode, encode
from zwrap.recipe.substitution import substitute, substitute_quoting_commands
from zwrap.recipe.validation import complaints

Node = dict[str, Any]


class Recipe:
    """A recipe: numbered nodes, `start` pairs, optional `error` nodes. Never changed in place."""

    def __init__(self, definition: Mapping[Any, Any] | None = None, name: str = "recipe") -> None:
        self.name = name
        self._definition = _normalised(dict(definition or {}))

    @classmethod
    def from_json(cls, text: bytes | str, name: str = "recipe") -> Recipe:
        """Read and validate a recipe; RecipeError or MessageError says what is wrong with it."""
        data = decode(text.encode() if isinstance(text, str) else text, f"recipe {name}")
        if not isinstance(data, dict):
            raise RecipeError(
                f"Recipe {name} is a JSON {type(data).__name__}; an object is expected."
            )
        recipe = cls(data, name)
        recipe.validate()
        return recipe

    @classmethod
    def from_file(cls, path: Path) -> Recipe:
        """Read and validate a recipe file."""
        try:
            text = path.read_bytes()
        except OSError as error:
            raise RecipeError(f"Recipe file {path} cannot be read: {error.strerror}.") from None
        return cls.from_json(text, str(path))

    @property
    def start(self) -> list[tuple[int, JSON]]:
        """Pairs of first node and the payload that it gets."""
        return [(pair[0], pair[1]) for pair in self._definition.get("start", [])]

    @property
    def error(self) -> list[int]:
        """Nodes that hear of the failure of any node without `error` of its own."""
        return list(self._definition.get("error", []))

    @property
    def nodes(self) -> dict[int, Node]:
        """Nodes by number; a copy."""
        return {key: copied(node) for key, node in self._definition.items() if type(key) is int}

    def __getitem__(self, key: int | str) -> Any:
        return self._definition[key]

    def __contains__(self, key: object) -> bool:
        return key in self._definition

    def __bool__(self) -> bool:
        return bool(self._definition)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (str, bytes)):
            other = Recipe(msgspec.json.decode(other))
        if isinstance(other, Mapping):
            other = Recipe(other)
        if not isinstance(other, Recipe):
            return NotImplemented
        return self._definition == other._definition

    __hash__ = None  # type: ignore[assignment]

    def as_dict(self) -> dict[Any, Any]:
        """The definition with integer node keys; a copy."""
        definition: dict[Any, Any] = copied(self._definition)
        return definition

    def for_wire(self) -> dict[str, Any]:
        """The definition with text keys, as it stands in a message; a copy."""
        return {str(key): copied(value) for key, value in self._definition.items()}

    def to_json(self) -> str:
        """The recipe as JSON text."""
        return encode(self.for_wire()).decode()

    def validate(self) -> None:
        """Raise RecipeError that lists everything wrong with this recipe."""
        found = complaints(self._definition)
        if found:
            raise RecipeError(f"Invalid recipe {self.name}: " + "; ".join(found) + ".")

    def apply_parameters(
        self, parameters: Mapping[str, Any], *, quote_commands: bool = False
    ) -> Recipe:
        """A recipe in which `{name}` and `{$REPLACE:name}` are replaced (`recipe.substitution`).

        With `quote_commands` each value that is put into shell text under a key ``commands``
        stays one word, whatever it holds.
        """
        replaced = substitute_quoting_commands if quote_commands else substitute
        return Recipe(replaced(self._definition, parameters), self.name)

    def merged(self, other: Recipe) -> Recipe:
        """A recipe that holds both; the nodes of `other` get numbers after those of this one."""
        if not self:
            return Recipe(other._definition, other.name)
        if not other:
            return Recipe(self._definition, self.name)
        self.validate()
        other.validate()
        first = max(self.nodes) + 1
        renumber = {old: new for new, old in enumerate(other.nodes, first)}
        merged = self.as_dict()
        for old, new in renumber.items():
            merged[new] = _renumbered_node(other.nodes[old], renumber)
        merged["start"] = [
            *merged["start"],
            *[[renumber[node], payload] for node, payload in copied(other.start)],
        ]
        if self.error or other.error:
            merged["error"] = [*self.error, *[renumber[node] for node in other.error]]
        return Recipe(merged, f"{self.name}+{other.name}")

    def targets(self, number: int) -> Iterator[tuple[str, int]]:
        """Pairs of output name and node that a node leads to, `error` included."""
        node = self._definition[number]
        yield from _targets("", node.get("output"))
        yield from _targets("error", node.get("error"))


def _targets(name: str, output: Any) -> Iterator[tuple[str, int]]:
    if isinstance(output, dict):
        for key, value in output.items():
            yield from _targets(f"{name}.{key}" if name else str(key), value)
    elif isinstance(output, list):
        for value in output:
            yield from _targets(name, value)
    elif isinstance(output, int):
        yield name, output


def _renumbered(output: Any, numbers: Mapping[int, int]) -> Any:
    if isinstance(output, dict):
        return {key: _renumbered(value, numbers) for key, value in output.items()}
    if isinstance(output, list):
        return [_renumbered(value, numbers) for value in output]
    return numbers.get(output, output) if type(output) is int else output


def _renumbered_node(node: Node, numbers: Mapping[int, int]) -> Node:
    return {
        key: _renumbered(value, numbers) if key in ("output", "error") else value
        for key, value in node.items()
    }


def _listed(value: Any) -> Any:
    return [value] if type(value) is int else value


def _normalised(definition: dict[Any, Any]) -> dict[Any, Any]:
    """Integer node keys, scalar outputs and errors as one-element lists; the rest as it is."""
    return {_node_key(key): _normalised_value(key, value) for key, value in definition.items()}


def _node_key(key: Any) -> Any:
    return int(key) if isinstance(key, str) and key.isdecimal() and int(key) > 0 else key


def _normalised_value(key: Any, value: Any) -> Any:
    if key == "error":
        return _listed(copied(value))
    if key == "start" and isinstance(value, list):
        pairs = copied(value)
        return [list(pair) if isinstance(pair, tuple) else pair for pair in pairs]
    if type(_node_key(key)) is int and isinstance(value, dict):
        return {
            name: _listed(copied(entry)) if name in ("output", "error") else copied(entry)
            for name, entry in value.items()
        }
    return copied(value)
