"""`zwrap check`: validate the site configuration and all that it refers to."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from zwrap.cli.common import say
from zwrap.cli.joblist import attempts_of
from zwrap.cli.recipes import checked
from zwrap.configuration.site import Configuration
from zwrap.errors import RequestError, ZwrapError
from zwrap.program import definition as program
from zwrap.recipe.graph import Recipe
from zwrap.submission.clusters import Clusters
from zwrap.submission.request import check_defaults
from zwrap.submission.template import Templates
from zwrap.transport.connect import connect
from zwrap.workers.consumers import settings as consumers


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "--broker", action="store_true",
        help="also ask the message broker whether it may lose messages or hand them out for ever",
    )  # fmt: skip


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Read everything, and say what was read."""
    where = configuration.file or "no ZOCALO_CONFIG: the embedded default"
    say(f"configuration: {where}")
    if configuration.environments:
        say(f"environments: {', '.join(sorted(configuration.environments))}")
    for line in configuration.check():
        say(line)
    if options.broker:
        for sentence in _audit(configuration, options.transport):
            say(f"warning: {sentence}")
    return checked(_site_checks(configuration))


def _audit(configuration: Configuration, name: str) -> list[str]:
    with connect(configuration, name) as transport:
        return transport.inspector().audit()


def _site_checks(configuration: Configuration) -> Iterator[tuple[str, Callable[[], object]]]:
    recipes = configuration.directory("zocalo.recipe_directory")
    if recipes:
        for file in _files(recipes, "*.json"):
            yield f"recipe {file}", partial(Recipe.from_file, file)
    templates = Templates(configuration.directory("zwrap.template_directory"))
    clusters = Clusters(configuration)
    for name in clusters.described():
        yield f"cluster {name}", partial(_cluster, clusters, templates, name)
    for name in templates.names():
        yield f"template {name}", partial(templates.check, name)
    if configuration.consumers is not None:
        settings = consumers.read(configuration.consumers)
        yield "consumers", partial(consumers.checked, settings, "Plugin 'consumers'")
    for place in _job_directories(configuration):
        yield f"job directory {place}", partial(_try_to_speak, place)
    for directory in program.directories(configuration.directory("zwrap.program_directory")):
        for file in _files(directory, "*.yaml"):
            yield f"program {file.stem} ({file})", partial(program.from_file, file)


def _cluster(clusters: Clusters, templates: Templates, name: str) -> None:
    cluster = clusters.get(name)
    templates.check(cluster.template)
    check_defaults(cluster.defaults, f"cluster {name!r}, key 'defaults'")


def _job_directories(configuration: Configuration) -> list[Path]:
    """Where the newest job of each cluster lies, as far as its directories are seen here."""
    clusters = Clusters(configuration)
    newest: dict[str, Path] = {}
    for attempt in attempts_of(configuration):
        with contextlib.suppress(ZwrapError):  # one that the site does not describe any more
            if clusters.get(attempt.cluster).shared_filesystem:
                newest[attempt.cluster] = Path(attempt.job_directory)
    return [directory for _, directory in sorted(newest.items()) if directory.is_dir()]


def _try_to_speak(directory: Path) -> None:
    """Write there, as the Watcher has to for the last word on a job."""
    try:
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise RequestError(
            f"{getpass.getuser()} cannot write into {directory}: {error.strerror}. As this user a "
            "Watcher could not have the last word on jobs: it has to be in the group of their "
            "directories, and root is nobody on a filesystem that is exported with root_squash."
        ) from None


def _files(directory: Path, pattern: str) -> list[Path]:
    if not directory.is_dir():
        raise RequestError(f"The directory {directory} of the site configuration does not exist.")
    return sorted(directory.glob(pattern))
