"""Recipes and recipe messages of python-workflows."""

from typing import TYPE_CHECKING

from zwrap.plugins.offering import offer

if TYPE_CHECKING:
    from zwrap.compat.workflows.recipe.recipe import Recipe as Recipe
    from zwrap.compat.workflows.recipe.subscription import (
        wrap_subscribe as wrap_subscribe,
        wrap_subscribe_broadcast as wrap_subscribe_broadcast,
    )
    from zwrap.compat.workflows.recipe.validate import validate_recipe as validate_recipe
    from zwrap.compat.workflows.recipe.wrapper import RecipeWrapper as RecipeWrapper

__getattr__, __dir__ = offer(
    __name__,
    {
        "Recipe": "zwrap.compat.workflows.recipe.recipe",
        "RecipeWrapper": "zwrap.compat.workflows.recipe.wrapper",
        "validate_recipe": "zwrap.compat.workflows.recipe.validate",
        "wrap_subscribe": "zwrap.compat.workflows.recipe.subscription",
        "wrap_subscribe_broadcast": "zwrap.compat.workflows.recipe.subscription",
    },
    modules=("recipe", "validate", "wrapper"),
)
