"""`zwrap render`: show the job script of a recipe step; submit nothing."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from zwrap.cli.common import complain, say_file
from zwrap.configuration.site import Configuration
from zwrap.errors import RequestError
from zwrap.host.given import read_given
from zwrap.message.identity import new_id
from zwrap.message.jsontext import decode
from zwrap.message.limits import Limits
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.recipe.remarks import unfilled_remark
from zwrap.units import key_value


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("file", type=Path, help="a recipe, or a recipe wrapper file")
    parser.add_argument(
        "--check", action="store_true", help="also ask whether the batch system would take the job"
    )
    parser.add_argument("--node", type=int, help="node of the recipe; default: its first")
    parser.add_argument(
        "-s", "--set", action="append", default=[], metavar="KEY=VALUE", help="recipe parameter"
    )


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Print the script; with --check also the answer of the batch system."""
    from zwrap.calls.ask import ask
    from zwrap.submission.script import Renderer, seen_from_elsewhere

    site = configuration.site
    envelope = _step(options, site.limits, quote_commands=site.quote_commands)
    renderer = Renderer(configuration)
    prepared, cluster = renderer.prepare(envelope, f"{new_id().replace('-', '')}-1")
    request = prepared.request
    inlined = None
    if not cluster.settings.shared_filesystem:
        inlined, request = prepared.files, seen_from_elsewhere(request)
    script = renderer.script(prepared.request, cluster, inlined)
    say_file(script.rstrip("\n"))
    complain(f"job {request.full_name} on cluster {request.cluster}; nothing was submitted")
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(script)
        file.flush()
        question = cluster.scheduler.verify(
            request, Path(file.name)
        )  # refuses what cannot be expressed
        if options.check and question:
            complain(f"cluster {request.cluster} says: {ask(question)}")
        elif options.check:
            complain(
                f"cluster {request.cluster} was not asked: its batch system cannot test a job "
                "without taking it"
            )
    return 0


def _step(options: argparse.Namespace, limits: Limits, *, quote_commands: bool) -> Envelope:
    """Return the recipe step to render, from a recipe or from a recipe wrapper file.

    `quote_commands`: True if parameters are put into shell text as values, as by the Dispatcher.
    """
    try:
        text = read_given(options.file, limits.body_bytes)
    except OSError as error:
        raise RequestError(f"{options.file} cannot be read: {error.strerror}.") from None
    content = decode(text, str(options.file))
    if isinstance(content, dict) and "recipe-pointer" in content:
        return Envelope.from_body(content, limits)
    recipe = Recipe.from_json(text, str(options.file), limits)
    parameters = dict(key_value(setting, "-s") for setting in options.set)
    node = options.node or recipe.start[0][0]
    if node not in recipe:
        raise RequestError(f"{options.file} has no node {node}.")
    filled = recipe.apply_parameters(
        {"guid": new_id(), **parameters}, quote_commands=quote_commands, limits=limits
    )
    if filled.unfilled:
        complain(f"recipe {options.file}: {unfilled_remark(filled.unfilled)}")
    return Envelope(filled, node, environment={"ID": new_id()}, limits=limits)
