"""`zwrap`: look at recipes, site configuration, templates and program definitions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from zwrap import program
from zwrap.cli.common import add_common_options, complain, configured, reported, say
from zwrap.configuration import Configuration
from zwrap.envelope import Envelope
from zwrap.errors import RequestError, ZwrapError
from zwrap.message import decode, new_id
from zwrap.recipe import Recipe
from zwrap.template import Templates


def _parser(configuration: Configuration) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="zwrap", description=__doc__)
    add_common_options(parser, configuration)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    recipe = commands.add_parser("recipe", help="check or show recipes")
    actions = recipe.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser("check", help="validate recipe files")
    check.add_argument("file", nargs="+", type=Path)
    show = actions.add_parser("show", help="draw a recipe")
    show.add_argument("file", type=Path)
    show.add_argument("--dot", action="store_true", help="in the DOT language of Graphviz")

    commands.add_parser("check", help="validate the site configuration and all that it refers to")

    render = commands.add_parser(
        "render", help="show the job script of a recipe step; submit nothing"
    )
    render.add_argument("file", type=Path, help="a recipe, or a recipe wrapper file")
    render.add_argument("--node", type=int, help="node of the recipe; default: its first")
    render.add_argument(
        "-s", "--set", action="append", default=[], metavar="KEY=VALUE", help="recipe parameter"
    )
    return parser


@reported
def main(arguments: list[str] | None = None) -> int:
    """Carry out one command."""
    configuration = configured(arguments)
    options = _parser(configuration).parse_args(arguments)
    if options.command == "recipe":
        return _check_recipes(options.file) if options.action == "check" else _show(options)
    if options.command == "check":
        return _check(configuration)
    return _render(configuration, options)


def _check_recipes(files: list[Path]) -> int:
    return _checked((f"recipe {file}", partial(Recipe.from_file, file)) for file in files)


def _checked(checks: Iterator[tuple[str, Callable[[], object]]]) -> int:
    """Run checks; a line for each, 0 if all hold, else the exit status of the worst."""
    status = count = 0
    for what, check in checks:
        count += 1
        try:
            check()
        except ZwrapError as error:
            complain(str(error))
            status = max(status, error.exit_status)
        else:
            say(f"good: {what}")
    say(f"{count} checked.")
    return status


def _show(options: argparse.Namespace) -> int:
    from rich.console import Console

    from zwrap.recipe import drawing

    recipe = Recipe.from_file(options.file)
    if options.dot:
        say(drawing.dot(recipe))
    else:
        Console().print(drawing.tree(recipe))
    return 0


def _check(configuration: Configuration) -> int:
    where = configuration.file or "no ZOCALO_CONFIG: the embedded default"
    say(f"configuration: {where}")
    if configuration.environments:
        say(f"environments: {', '.join(configuration.environments)}")
    for line in configuration.check():
        say(line)
    return _checked(_site_checks(configuration))


def _site_checks(configuration: Configuration) -> Iterator[tuple[str, Callable[[], object]]]:
    recipes = configuration.directory("zocalo.recipe_directory")
    if recipes:
        for file in _files(recipes, "*.json"):
            yield f"recipe {file}", partial(Recipe.from_file, file)
    templates = Templates(configuration.directory("zwrap.template_directory"))
    for name in templates.names():
        yield f"template {name}", partial(templates.check, name)
    for directory in program.directories(configuration.directory("zwrap.program_directory")):
        for file in _files(directory, "*.yaml"):
            yield f"program {file.stem} ({file})", partial(program.from_file, file)


def _files(directory: Path, pattern: str) -> list[Path]:
    if not directory.is_dir():
        raise RequestError(f"The directory {directory} of the site configuration does not exist.")
    return sorted(directory.glob(pattern))


def _render(configuration: Configuration, options: argparse.Namespace) -> int:
    from zwrap.service.submitter import Renderer

    envelope = _step(options)
    renderer = Renderer(configuration)
    prepared, scheduler = renderer.prepare(envelope, f"{new_id().replace('-', '')}-1")
    request = prepared.request
    say(renderer.script(request, scheduler).rstrip("\n"))
    complain(f"job {request.full_name} on cluster {request.cluster}; nothing was submitted")
    scheduler.submit(
        request, request.job_directory / "script"
    )  # refuses what the batch system cannot express
    return 0


def _step(options: argparse.Namespace) -> Envelope:
    """The recipe step to render, from a recipe or from a recipe wrapper file."""
    try:
        content = decode(options.file.read_bytes(), str(options.file))
    except OSError as error:
        raise RequestError(f"{options.file} cannot be read: {error.strerror}.") from None
    if isinstance(content, dict) and "recipe-pointer" in content:
        return Envelope.from_body(content)
    recipe = Recipe.from_file(options.file)
    parameters = {}
    for setting in options.set:
        key, equals, value = setting.partition("=")
        if not equals:
            raise RequestError(f"-s {setting}: KEY=VALUE is expected.")
        parameters[key] = value
    node = options.node or recipe.start[0][0]
    if node not in recipe:
        raise RequestError(f"{options.file} has no node {node}.")
    filled = recipe.apply_parameters({"guid": new_id(), **parameters})
    return Envelope(filled, node, environment={"ID": new_id()})


if __name__ == "__main__":
    sys.exit(main())
