"""A recipe that code of a site may change: a filter that of a request, a wrapper its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from zwrap.message.limits import DEFAULTS, Limits
from zwrap.recipe.graph import Recipe

UNNAMED = Recipe().name
"""Name of a recipe whose maker gives it none."""


class ChangingRecipe(Recipe):
    """A recipe that its own methods change, as those of python-workflows do."""

    def __init__(
        self,
        definition: Mapping[Any, object] | None = None,
        name: str = "of the site's code",
        *,
        quote_commands: bool = False,
        limits: Limits = DEFAULTS,
    ) -> None:
        """Take a copy of a definition; the keywords say how parameters are put into it."""
        super().__init__(definition, name)
        self._quotes, self._limits = quote_commands, limits

    @classmethod
    def of(cls, recipe: object) -> Self:
        """Return the recipe that a value is or has, as `Recipe.of`, under the name that it has."""
        found = super().of(recipe)
        if isinstance(recipe, Recipe) and recipe.name != UNNAMED:
            found.name = recipe.name
        return found

    def apply_parameters(
        self,
        parameters: Mapping[str, object],
        *,
        quote_commands: bool = False,
        limits: Limits | None = None,
    ) -> ChangingRecipe:
        """Fill in values, by name, in this recipe; return it."""
        quotes = quote_commands or self._quotes
        filled = super().apply_parameters(
            parameters, quote_commands=quotes, limits=limits or self._limits
        )
        self.recipe.clear()
        self.recipe.update(filled.recipe)
        self.unfilled = filled.unfilled
        return self

    def merge(self, other: object) -> ChangingRecipe:
        """Return a recipe of both, which may be changed as well; neither of the two is changed."""
        both = super().merge(other).recipe
        return ChangingRecipe(both, quote_commands=self._quotes, limits=self._limits)
