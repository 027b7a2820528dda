"""Station "recipe": the graph of steps, which every message of a recipe carries.

Keys, normalisation and merging follow python-workflows (``workflows.recipe``), with two
differences: no function changes its input, and every error names node and key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Self

from zwrap.errors import RecipeError, short
from zwrap.host.files import UnfitFileError
from zwrap.host.given import read_given
from zwrap.message.jsontext import copied, decode, encode, indented
from zwrap.message.limits import DEFAULTS, Limits
from zwrap.recipe.destinations import check_destinations
from zwrap.recipe.references import renumbered
from zwrap.recipe.sizes import check_sizes
from zwrap.recipe.substitution import Filling
from zwrap.recipe.validation import LARGEST_NODE, complaints

Key = int | str
"""A node number, ``start`` or ``error``; any other key of a recipe is a fault."""

Node = dict[str, object]
"""One node of a recipe: a JSON object."""

LONGEST_KEY = 100
"""Largest number of digits, zeros in front included, that are read as a node number."""


class Recipe:
    """A recipe, which is never changed: numbered nodes, `start` pairs, optional `error` nodes."""

    def __init__(
        self,
        definition: Mapping[str, object] | Mapping[Key, object] | None = None,
        name: str = "recipe",
    ) -> None:
        """Take a copy of a definition, normalised but not checked (`validate`).

        Args:
            definition: JSON object; node numbers may be numbers or text. None: an empty recipe.
            name: Name or file of the recipe, for messages to people.
        """
        self.name = name
        self._definition = _normalised(definition or {})
        self.unfilled: tuple[str, ...] = ()
        """Placeholders to which `apply_parameters` found no value, in order."""
        self.repeated: tuple[str, ...] = ()
        """A clause for each key that is more than once in one object of the JSON text."""

    @classmethod
    def from_json(
        cls, text: bytes | str, name: str = "recipe", limits: Limits = DEFAULTS
    ) -> Recipe:
        """Read and validate a recipe.

        Raises:
            MessageError: The text is not valid JSON.
            RecipeError: The JSON value is not a valid recipe.
        """
        data = decode(text.encode() if isinstance(text, str) else text, f"recipe {name}")
        if not isinstance(data, dict):
            raise RecipeError(
                f"Recipe {name} is a JSON {type(data).__name__}; an object is expected."
            )
        recipe = cls(data, name)
        recipe.validate(limits)
        from zwrap.recipe.remarks import repeated_keys  # not for a step in its job

        recipe.repeated = repeated_keys(text)
        return recipe

    @classmethod
    def from_file(cls, path: Path, limits: Limits = DEFAULTS) -> Recipe:
        """Read and validate a recipe file; raises as `from_json`."""
        try:
            text = read_given(path, limits.body_bytes)
        except OSError as error:
            raise RecipeError(f"Recipe file {path} cannot be read: {error.strerror}.") from None
        except UnfitFileError:
            raise RecipeError(
                f"Recipe file {path} has more than {limits.body_bytes} bytes (section limits, key "
                "'body_bytes')."
            ) from None
        return cls.from_json(text, str(path), limits)

    @classmethod
    def of(cls, recipe: object) -> Self:
        """Return the recipe that a value is, or has as attribute `recipe`; TypeError: it has none.

        Objects of other libraries have the graph there.
        """
        if isinstance(recipe, cls):
            return recipe
        graph = getattr(recipe, "recipe", recipe)
        if isinstance(graph, Mapping):
            return cls(graph)
        raise TypeError(
            f"A recipe is expected, or a mapping that holds one, and not {type(recipe).__name__}."
        )

    @property
    def start(self) -> list[tuple[int, object]]:
        """Pairs of a first node's number and its payload."""
        pairs = self._definition.get("start", [])
        return [self._pair(pair) for pair in (pairs if isinstance(pairs, list) else [pairs])]

    def _pair(self, pair: object) -> tuple[int, object]:
        """Return number and payload of a first node; RecipeError if it is not such a pair."""
        if isinstance(pair, list) and len(pair) == 2 and type(pair[0]) is int:
            return pair[0], pair[1]
        raise RecipeError(f"Recipe {self.name}, key 'start': {short(pair)} is not [node, payload].")

    @property
    def error(self) -> list[int]:
        """Numbers of the nodes that get the failures of nodes without `error` of their own."""
        return [number for _, number in _targets("", self._definition.get("error"))]

    @property
    def nodes(self) -> dict[int, Node]:
        """Copies of the nodes, by number. Raises RecipeError for a node that is not an object."""
        return {key: copied(self.node(key)) for key in self._definition if type(key) is int}

    @property
    def node_count(self) -> int:
        """Number of nodes."""
        return sum(type(key) is int for key in self._definition)

    def node(self, number: int) -> Node:
        """Return a node, which must not be changed.

        Raises KeyError if there is none of that number, RecipeError if it is not an object.
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
            read = decode(other.encode() if isinstance(other, str) else other)
            other = read if isinstance(read, dict) else {}
        if isinstance(other, Mapping):
            other = Recipe(other)
        if not isinstance(other, Recipe):
            return NotImplemented
        return self._definition == other._definition

    __hash__ = None  # type: ignore[assignment]

    def as_dict(self) -> dict[Key, object]:
        """Return a copy of the definition, with integers as node keys."""
        return copied(self._definition)

    @property
    def recipe(self) -> dict[Key, object]:
        """The definition itself, as python-workflows has it for code that changes a recipe."""
        self.__dict__.pop("wire", None)  # it lacks what is added now
        return self._definition

    def for_wire(self) -> dict[str, object]:
        """Return a copy of the definition with text keys, its form in messages."""
        return copied(self.wire)

    @cached_property
    def wire(self) -> dict[str, object]:
        """The definition with text keys, shared by all messages and not to be changed."""
        return {str(key): value for key, value in self._definition.items()}

    def to_json(self) -> str:
        """Return the recipe as JSON text."""
        return encode(self.wire).decode()

    serialize = to_json

    def pretty(self) -> str:
        """Return the recipe as JSON text for people."""
        return indented(self.wire).decode()

    def validate(self, limits: Limits = DEFAULTS) -> None:
        """Raise RecipeError, which lists the faults of this recipe, if it has any, or a limit."""
        self.check_sizes(limits)
        found = complaints(self._definition)
        if found:
            raise RecipeError(f"Invalid recipe {self.name}: " + "; ".join(found) + ".")
        self.check_destinations(limits)

    def check_sizes(self, limits: Limits) -> None:
        """Raise RecipeError if this recipe, which may have any fault, exceeds a limit."""
        check_sizes(self._definition, limits, self.name)

    def check_destinations(self, limits: Limits) -> None:
        """Raise RecipeError if a node of this recipe leads to a queue or topic of zwrap's own."""
        check_destinations(self._definition, limits.open_names, self.name)

    def apply_parameters(
        self,
        parameters: Mapping[str, object],
        *,
        quote_commands: bool = False,
        limits: Limits = DEFAULTS,
    ) -> Recipe:
        """Return a recipe with ``{name}`` and ``{$REPLACE:name}`` replaced.

        `zwrap.recipe.substitution` describes the replacements; `unfilled` tells what had no value.

        Args:
            parameters: Values by name; a placeholder without a value stays.
            quote_commands: True if each value that is put into shell text stays a value, whatever
                it holds (`zwrap.recipe.commands`); RecipeError if it cannot.
            limits: Limits of sizes; RecipeError if the values are larger.
        """
        filling = Filling(parameters, limits)
        if quote_commands:
            from zwrap.recipe.commands import CommandFilling  # only a Dispatcher needs it

            filling = CommandFilling(parameters, limits)
        replaced = filling.value(self._definition)
        assert isinstance(replaced, dict)
        recipe = Recipe(replaced, self.name)
        recipe.unfilled = tuple(filling.unfilled)
        return recipe

    def merged(self, other: Recipe, limits: Limits = DEFAULTS) -> Recipe:
        """Return a recipe of both; the nodes of `other` get numbers after those of this one.

        Raises RecipeError if one of the two is not valid, or exceeds one of the `limits`.
        """
        if not self:
            return Recipe(other._definition, other.name)
        if not other:
            return Recipe(self._definition, self.name)
        self.validate(limits)
        other.validate(limits)
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

    def merge(self, other: object) -> Recipe:
        """Return a recipe of both, as `merged` does; `other` as for `of`."""
        return self.merged(Recipe.of(other))

    def targets(self, number: int) -> Iterator[tuple[str, int]]:
        """Yield output name and node number of each target of a node, `error` included."""
        node = self.node(number)
        yield from _targets("", node.get("output"))
        yield from _targets("error", node.get("error"))


def _targets(name: str, output: object) -> Iterator[tuple[str, int]]:
    """Yield name and node number of each target in an output, at any depth."""
    if isinstance(output, dict):
        for key, value in output.items():
            yield from _targets(f"{name}.{key}" if name else str(key), value)
    elif isinstance(output, list):
        for value in output:
            yield from _targets(name, value)
    elif isinstance(output, int):
        yield name, output


def _renumbered(output: object, numbers: Mapping[int, int]) -> object:
    """Return an output with new node numbers."""
    if isinstance(output, dict):
        return {key: _renumbered(value, numbers) for key, value in output.items()}
    if isinstance(output, list):
        return [_renumbered(value, numbers) for value in output]
    return numbers.get(output, output) if type(output) is int else output


def _renumbered_node(node: Node, numbers: Mapping[int, int]) -> Node:
    """Return a node whose outputs, and the step that it waits for, have new node numbers."""
    changed = {
        key: _renumbered(value, numbers) if key in ("output", "error") else value
        for key, value in node.items()
    }
    parameters = node.get("parameters")
    block = parameters.get("cluster") if isinstance(parameters, dict) else None
    if isinstance(parameters, dict) and isinstance(block, dict) and "dependency" in block:
        own = {**block, "dependency": renumbered(block["dependency"], numbers)}
        changed["parameters"] = {**parameters, "cluster": own}
    return changed


def _listed(value: object) -> object:
    """Return a node number as a list, any other value as it is."""
    return [value] if type(value) is int else value


def _normalised(
    definition: Mapping[str, object] | Mapping[Key, object],
) -> dict[Key, object]:
    """Return a copy with integer node keys, and scalar outputs and errors as lists of one.

    A key that stands for a number that is there already, such as ``01`` beside ``1``, stays as it
    is, for validation to find.
    """
    found: dict[Key, object] = {}
    for key, value in definition.items():
        node = _node_key(key)
        found[key if node in found else node] = _normalised_value(key, value)
    return found


def _node_key(key: Key) -> Key:
    """Return the key of a node as an integer, any other key as it is."""
    if isinstance(key, str) and len(key) <= LONGEST_KEY and key.isdecimal():
        number = int(key)
        return number if 0 < number <= LARGEST_NODE else key
    return key


def _normalised_value(key: Key, value: object) -> object:
    """Return a copy of the value of a key, normalised."""
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
