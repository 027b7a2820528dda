"""Station "recipe": the graph of a recipe, and a message at one of its nodes."""

from typing import TYPE_CHECKING

from zwrap.plugins.offering import offer

if TYPE_CHECKING:
    from zwrap.recipe.graph import Recipe as Recipe

__getattr__, __dir__ = offer(__name__, {"Recipe": "zwrap.recipe.graph"})
