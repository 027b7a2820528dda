"""Filters of the Dispatcher: each takes message and parameters and returns them.

A site adds its own functions of this form under `zocalo.services.dispatcher.filters`; they run
before the ones here. The third argument of these two is the site configuration.
"""

from __future__ import annotations

import re
from typing import Any

from zwrap.configuration import Configuration
from zwrap.errors import ConfigurationError, MessageError, UnknownNameError
from zwrap.recipe import Recipe

Filtered = tuple[dict[str, Any], dict[str, Any]]


def load_custom_recipe(
    message: dict[str, Any], parameters: dict[str, Any], configuration: Configuration
) -> Filtered:
    """Merge the recipe under key `custom_recipe`."""
    del configuration
    custom = message.get("custom_recipe")
    if custom:
        if not isinstance(custom, dict):
            raise MessageError(
                f"Key 'custom_recipe' holds a {type(custom).__name__}; a recipe is expected."
            )
        recipe = Recipe(custom, "custom_recipe")
        recipe.validate()
        message["recipe"] = message["recipe"].merged(recipe)
    return message, parameters


def load_recipes_from_files(
    message: dict[str, Any], parameters: dict[str, Any], configuration: Configuration
) -> Filtered:
    """Merge each recipe named under key `recipes` from the recipe directory."""
    names = message.get("recipes") or []
    if isinstance(names, str) or not isinstance(names, (list, tuple)):
        raise MessageError(f"Key 'recipes' holds {names!r}; a list of recipe names is expected.")
    for name in names:
        message["recipe"] = message["recipe"].merged(_recipe_file(name, configuration))
    return message, parameters


def _recipe_file(name: Any, configuration: Configuration) -> Recipe:
    directory = configuration.directory("zocalo.recipe_directory")
    if directory is None:
        raise ConfigurationError(
            f"Recipe {name!r} was asked for by name, and no directory of recipes is known: set "
            "'zocalo.recipe_directory' in a storage section of the site configuration."
        )
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name):
        raise MessageError(
            f"{name!r} is no recipe name: letters, digits and '_.+-' are expected, no '/'."
        )
    file = directory / f"{name}.json"
    if not file.is_file():
        known = [path.stem for path in directory.glob("*.json")]
        raise UnknownNameError("recipe", name, known, f"in {directory}")
    return Recipe.from_file(file)
