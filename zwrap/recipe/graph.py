"""Station "recipe": the small graph of steps that travels with every message.

Keys, normalisation and merging follow python-workflows (`workflows.recipe`), with two
differences: nothing here changes its input, and every complaint names node and key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from zwrap.errors import RecipeError
from zwrap.message import copied, decode, encode
from zwrap.recipe.substitution import substitute, substitute_quoting_commands
from zwrap.recipe.validation import complaints

Key = int | str
"""A node number, ``start`` or ``error``; what else stands in a recipe is a fault."""

Node = dict[str, object]
"""One node as it stands in the recipe: a JSON object."""


class Recipe:
    """A recipe: numbered nodes, `start` pairs, optional `error` nodes. Never changed in place."""

    def __init__(
        self,
        definition: Mapping[str, object] | Mapping[Key, object] | None = None,
        name: str = "recipe",
    ) -> None:
        """Take a copy of a definition, normalised but not checked (`validate`).

        Args:
            definition: a JSON object; node numbers may be numbers or text. None: an empty recipe.
            name: name or file for messages to people.
        """
        self.name = name
        self._definition = _normalised(definition or {})

    @classmethod
    def from_json(cls, text: bytes | str, name: str = "recipe") -> Recipe:
        """Read and validate a recipe.

        Raises:
            MessageError: the text is not valid JSON.
            RecipeError: it is, and not a valid recipe.
        """
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
        """Read and validate a recipe file; raises as `from_json`."""
        try:
            text = path.read_bytes()
        except OSError as error:
            raise RecipeError(f"Recipe file {path} cannot be read: {error.strerror}.") from None
        return cls.from_json(text, str(path))

    @property
    def start(self) -> list[tuple[int, object]]:
        """Pairs of first node and the payload that it gets."""
        pairs = self._definition.get("start", [])
        return [self._pair(pair) for pair in (pairs if isinstance(pairs, list) else [pairs])]

    def _pair(self, pair: object) -> tuple[int, object]:
        if isinstance(pair, list) and len(pair) == 2 and type(pair[0]) is int:
            return pair[0], pair[1]
        raise RecipeError(f"Recipe {self.name}, key 'start': {pair!r} is not [node, payload].")

    @property
    def error(self) -> list[int]:
        """Nodes that hear of the failure of any node without `error` of its own."""
        return [number for _, number in _targets("", self._definition.get("error"))]

    @property
    def nodes(self) -> dict[int, Node]:
        """Nodes by number; a copy. Raises RecipeError for a node that is not an object."""
        return {key: copied(self.node(key)) for key in self._definition if type(key) is int}

    def node(self, number: int) -> Node:
        """Return a node as it stands in the recipe, not to be changed.

        Raises KeyError when there is none of that number, RecipeError when it is not an object.
        """
        node = self._definition[number]
        if not isinstance(node, dict):
            raise RecipeError(
                f"Recipe {self.name}, node {number} is a {type(node).__name__}; an object is "
                "expected."
            )
        return node

    def __getitem__(self, key: Key) -> object:
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

    def as_dict(self) -> dict[Key, object]:
        """Return the definition with integer node keys; a copy."""
        return copied(self._definition)

    def for_wire(self) -> dict[str, object]:
        """Return the definition with text keys, as it stands in a message; a copy."""
        return {str(key): copied(value) for key, value in self._definition.items()}

    def to_json(self) -> str:
        """Return the recipe as JSON text."""
        return encode(self.for_wire()).decode()

    def validate(self) -> None:
        """Raise RecipeError that lists everything wrong with this recipe."""
        found = complaints(self._definition)
        if found:
            raise RecipeError(f"Invalid recipe {self.name}: " + "; ".join(found) + ".")

    def apply_parameters(
        self, parameters: Mapping[str, object], *, quote_commands: bool = False
    ) -> Recipe:
        """Return a recipe with `{name}` and `{$REPLACE:name}` replaced (`recipe.substitution`).

        Args:
            parameters: values by name; what has no value stays as it is.
            quote_commands: whether each value that is put into shell text under a key ``commands``
                is quoted, so that it stays one word, whatever it holds.
        """
        replace = substitute_quoting_commands if quote_commands else substitute
        replaced = replace(self._definition, parameters)
        assert isinstance(replaced, dict)
        return Recipe(replaced, self.name)

    def merged(self, other: Recipe) -> Recipe:
        """Return a recipe that holds both, the nodes of `other` numbered after those of this one.

        Raises RecipeError when one of the two is not valid.
        """
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
            merged[new] = _renumbered_node(other.node(old), renumber)
        merged["start"] = [
            *([node, payload] for node, payload in self.start),
            *([renumber[node], payload] for node, payload in other.start),
        ]
        if self.error or other.error:
            merged["error"] = [*self.error, *(renumber[node] for node in other.error)]
        return Recipe(merged, f"{self.name}+{other.name}")

    def targets(self, number: int) -> Iterator[tuple[str, int]]:
        """Yield output name and number of each node that a node leads to, `error` included."""
        node = self.node(number)
        yield from _targets("", node.get("output"))
        yield from _targets("error", node.get("error"))


def _targets(name: str, output: object) -> Iterator[tuple[str, int]]:
    if isinstance(output, dict):
        for key, value in output.items():
            yield from _targets(f"{name}.{key}" if name else str(key), value)
    elif isinstance(output, list):
        for value in output:
            yield from _targets(name, value)
    elif isinstance(output, int):
        yield name, output


def _renumbered(output: object, numbers: Mapping[int, int]) -> object:
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


def _listed(value: object) -> object:
    return [value] if type(value) is int else value


def _normalised(
    definition: Mapping[str, object] | Mapping[Key, object],
) -> dict[Key, object]:
    """Return a copy with integer node keys, and scalar outputs and errors as lists of one."""
    return {_node_key(key): _normalised_value(key, value) for key, value in definition.items()}


def _node_key(key: Key) -> Key:
    return int(key) if isinstance(key, str) and key.isdecimal() and int(key) > 0 else key


def _normalised_value(key: Key, value: object) -> object:
    if key == "error":
        return _listed(copied(value))
    if key == "start" and isinstance(value, list):
        return [list(pair) if isinstance(pair, tuple) else pair for pair in copied(value)]
    if type(_node_key(key)) is int and isinstance(value, dict):
        return {
            name: _listed(copied(entry)) if name in ("output", "error") else copied(entry)
            for name, entry in value.items()
        }
    return copied(value)
