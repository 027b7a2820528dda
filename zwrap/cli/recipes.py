"""`zwrap recipe`: check or draw recipes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from zwrap.cli.common import complain, say_file
from zwrap.cli.recipesteps import check_files, sound_recipe
from zwrap.configuration.site import Configuration
from zwrap.message.identity import new_id
from zwrap.message.limits import Limits
from zwrap.recipe.graph import Recipe
from zwrap.recipe.remarks import lonely_exchanges, unfilled_remark
from zwrap.units import key_value


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser("check", help="validate recipe files, and the jobs of their steps")
    check.add_argument("file", nargs="+", type=Path)
    check.add_argument(
        "-s",
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="recipe parameter; with it the recipes are filled in, and what stays open is told",
    )
    show = actions.add_parser("show", help="draw a recipe")
    show.add_argument("file", type=Path)
    show.add_argument("--dot", action="store_true", help="in the DOT language of Graphviz")


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Check recipe files, or draw one."""
    limits = configuration.site.limits
    if options.action == "show":
        return _show(options, limits)
    parameters = dict(key_value(setting, "-s") for setting in options.set)
    read = partial(
        _read,
        parameters=parameters,
        limits=limits,
        quote_commands=configuration.site.quote_commands,
    )
    return check_files(configuration, options.file, read)


def _read(
    file: Path, *, parameters: Mapping[str, str], limits: Limits, quote_commands: bool
) -> Recipe:
    """Return the recipe in a file, with parameters filled in, and tell what is odd about it."""
    recipe = sound_recipe(file, limits)
    if parameters:
        known = {"guid": new_id(), **parameters}
        recipe = recipe.apply_parameters(known, quote_commands=quote_commands, limits=limits)
        recipe.validate(limits)
    oddities = lonely_exchanges(recipe.nodes)
    if recipe.unfilled:
        oddities.append(unfilled_remark(recipe.unfilled))
    for oddity in oddities:
        complain(f"Recipe {file}: {oddity}.")
    return recipe


def _show(options: argparse.Namespace, limits: Limits) -> int:
    """Draw a recipe as a tree, or in the DOT language."""
    from zwrap.cli.output import show_tree
    from zwrap.recipe import drawing

    recipe = Recipe.from_file(options.file, limits)
    if options.dot:
        say_file(drawing.dot(recipe))
    else:
        show_tree(drawing.tree(recipe))
    return 0
