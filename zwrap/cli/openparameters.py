"""Placeholders to which a request gives no value, in recipes that can be read where it is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from zwrap.cli.common import complain
from zwrap.configuration.sections import Site
from zwrap.errors import ZwrapError
from zwrap.recipe.directory import named_recipe
from zwrap.recipe.graph import Recipe
from zwrap.recipe.remarks import unfilled_remark

ISPYB = ("{ispyb_", "{$REPLACE:ispyb_")
"""Beginnings of placeholders to which the ISPyB filter of a Dispatcher gives values, by the ID."""


def tell_oddities(site: Site, request: Mapping[str, object], *, with_ispyb: bool) -> None:
    """Tell which placeholders of the recipes of a request get no value from it.

    A recipe that cannot be read here is left to the Dispatcher, whose filters may give values, too.

    Args:
        site: The site.
        request: The request.
        with_ispyb: True if the request has an ID, for which a filter gives values.
    """
    parameters = request.get("parameters")
    known = {"guid": "", **(parameters if isinstance(parameters, dict) else {})}
    for name, recipe in readable_recipes(site, request):
        try:
            unfilled = recipe.apply_parameters(known, limits=site.limits).unfilled
        except ZwrapError:
            continue
        missing = [each for each in unfilled if not (with_ispyb and each.startswith(ISPYB))]
        if missing:
            complain(
                f"Recipe {name}: {unfilled_remark(missing)}, unless a filter of the Dispatcher "
                "gives a value (option -s KEY=VALUE)"
            )


def readable_recipes(site: Site, request: Mapping[str, object]) -> Iterator[tuple[str, Recipe]]:
    """Yield name and recipe of each recipe of a request that can be read here."""
    custom, names = request.get("custom_recipe"), request.get("recipes")
    if isinstance(custom, Mapping):
        yield "of the request", Recipe(custom)
    try:
        directory = site.recipe_directory
    except ZwrapError:  # the site file is told of by what needs it
        return
    if directory is None or not isinstance(names, list):
        return
    for name in names:
        try:
            yield name, named_recipe(name, directory, site.limits)
        except (ZwrapError, OSError, ValueError):
            continue
