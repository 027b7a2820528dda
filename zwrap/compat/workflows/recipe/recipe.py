"""A recipe that can be changed, with the methods of python-workflows.

Rules, replacements and merging are those of `zwrap.recipe`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

from zwrap.compat.workflows.basics import Error
from zwrap.errors import RecipeError
from zwrap.recipe import graph
from zwrap.recipe.substitution import substitute
from zwrap.recipe.validation import complaints

Definition = dict[Any, Any]


class Recipe:
    """A recipe; attribute `recipe` is the graph, which everybody may change."""

    recipe: Definition = {}  # noqa: RUF012 - a subclass may set it
    """The graph: nodes by number, ``start`` with pairs of a number and a payload, ``error``."""

    def __init__(self, recipe: Mapping[Any, Any] | str | bytes | None = None) -> None:
        """Take a copy of a graph, or read it from JSON text; None: that of the class."""
        if isinstance(recipe, (str, bytes)):
            self.recipe = self.deserialize(recipe)
        else:
            self.recipe = _normalised(recipe or type(self).recipe)

    def deserialize(self, string: str | bytes) -> Definition:
        """Return the graph in a JSON text, with integers as numbers of nodes."""
        return _normalised(json.loads(string))

    def serialize(self) -> str:
        """Return the recipe as JSON text."""
        return json.dumps(self.recipe)

    def pretty(self) -> str:
        """Return the recipe as JSON text for people."""
        return json.dumps(self.recipe, indent=2)

    def __getitem__(self, item: int | str) -> Any:
        return self.recipe[item]

    def __contains__(self, item: object) -> bool:
        return item in self.recipe

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Recipe):
            return self.recipe == other.recipe
        if isinstance(other, Mapping):
            return self.recipe == _normalised(other)
        if isinstance(other, (str, bytes)):
            return self.recipe == self.deserialize(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def validate(self) -> None:
        """Raise Error, which lists the faults of the recipe, if it has any."""
        if found := complaints(self.recipe or {}):
            raise Error("Invalid recipe: " + "; ".join(found) + ".")

    def apply_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Replace ``{name}`` and ``{$REPLACE:name}`` in this recipe.

        A ``{name}`` without a value stays; a ``{$REPLACE:name}`` without one becomes None.
        """
        self.recipe = _normalised(substitute(self.recipe, parameters))

    def merge(self, other: Recipe | Mapping[Any, Any] | str | bytes | None) -> Recipe:
        """Return a recipe of both; the nodes of `other` get numbers after those of this one.

        Neither of the two is changed. Raises Error if one of them is not valid.
        """
        second = other if isinstance(other, Recipe) else Recipe(other)
        if not second.recipe or not self.recipe:
            return Recipe(self.recipe or second.recipe)
        self.validate()
        second.validate()
        try:
            both = graph.Recipe(self.recipe).merged(graph.Recipe(second.recipe))
        except RecipeError as error:
            raise Error(str(error)) from error
        return Recipe(both.as_dict())


def _normalised(recipe: Any) -> Definition:
    """Return a copy of a graph with integers as numbers of nodes, lists as outputs, and tuples.

    Raises:
        Error: It is no graph, or has a key that is none.
    """
    if not isinstance(recipe, Mapping):
        raise Error(f"A recipe must be a JSON object, not {type(recipe).__name__}.")
    found = {_key(key): copy.deepcopy(value) for key, value in recipe.items()}
    for node in found.values():
        if isinstance(node, dict) and not isinstance(node.get("output", []), (list, dict)):
            node["output"] = [node["output"]]
    if isinstance(found.get("start"), list):
        found["start"] = [tuple(x) if isinstance(x, list) else x for x in found["start"]]
    return found


def _key(key: object) -> object:
    """Return the number of a node as an integer, any other key as it is."""
    return int(key) if isinstance(key, str) and key.isdecimal() else key
