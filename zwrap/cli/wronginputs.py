"""Inputs of programs that are wrong in the recipes of a request, told where the request is made."""

from __future__ import annotations

from collections.abc import Mapping

from zwrap.cli.common import complain
from zwrap.cli.openparameters import readable_recipes
from zwrap.configuration.site import Configuration
from zwrap.errors import ProgramError, ZwrapError
from zwrap.message.identity import new_id
from zwrap.submission.inspection import Inspection


def tell_wrong_inputs(configuration: Configuration, request: Mapping[str, object]) -> int:
    """Tell which steps of a request would fail for an input of their program; return the status.

    Recipes that cannot be read here are left to the Dispatcher, and so are inputs to which the
    request gives no value.
    """
    site, status = configuration.site, 0
    given = request.get("parameters")
    parameters = {"guid": new_id(), **(given if isinstance(given, dict) else {})}
    for name, recipe in readable_recipes(site, request):
        try:
            filled = recipe.apply_parameters(
                parameters, quote_commands=site.quote_commands, limits=site.limits
            )
            opinions = list(Inspection(configuration).opinions(filled))
        except ZwrapError:  # of the site, or the recipe, which are told of elsewhere
            continue
        faults = {str(each.fault): each.fault for each in opinions if each.goes_there}
        for sentence, fault in faults.items():
            if isinstance(fault, ProgramError):
                complain(f"Recipe {name}: {sentence}")
                status = fault.exit_status
    return status
