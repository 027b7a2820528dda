"""`zwrap check`: validate the site configuration and all that it refers to."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from zwrap.attempt.finals import UNSENT
from zwrap.cli import security
from zwrap.cli.common import say, say_file, user_name
from zwrap.cli.joblist import attempts_of
from zwrap.cli.recipes import checked
from zwrap.cli.recipesteps import check_file
from zwrap.configuration.site import Configuration
from zwrap.errors import RequestError, ZwrapError
from zwrap.host.paths import default_spool, state_directory
from zwrap.message import STATUS_TOPIC
from zwrap.program.reading import program_directories, read_definition
from zwrap.service.commands import COMMAND_TOPIC
from zwrap.service.watcher.events import CLUSTER_TOPIC, JOB_TOPIC, STATISTICS_TOPIC
from zwrap.submission.block import check_defaults
from zwrap.submission.clusters import Clusters
from zwrap.submission.inspection import Inspection
from zwrap.submission.template import Templates
from zwrap.transport.connect import EMBEDDED, connect
from zwrap.transport.options import TransportChoice
from zwrap.transport.rabbitmq import settings as rabbitmq
from zwrap.transport.refused import directory_of_refused
from zwrap.transport.spool.queue import SpoolQueue
from zwrap.transport.stomp import settings as stomp
from zwrap.workers.consumers import settings as consumers

TOPICS = (COMMAND_TOPIC, STATUS_TOPIC, JOB_TOPIC, CLUSTER_TOPIC, STATISTICS_TOPIC)
"""Topics on which services broadcast or listen."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "--broker", action="store_true",
        help="also ask the message broker whether it may lose messages or hand them out for ever, "
        "and which permissions are missing",
    )  # fmt: skip
    parser.add_argument(
        "--declare", action="store_true",
        help="with --broker: only print what the site has to make there, for "
        "zocalo.configure_rabbitmq",
    )  # fmt: skip
    parser.add_argument(
        "--security", action="store_true",
        help="also tell how open the site is: what messages may do, and who may read or write what",
    )  # fmt: skip


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Read all parts of the configuration, and report each part's faults."""
    if options.declare:
        return _declare(configuration, options)
    where = configuration.file or "no ZOCALO_CONFIG: the embedded default"
    say(f"configuration: {where}")
    if configuration.environments:
        say(f"environments: {', '.join(sorted(configuration.environments))}")
    say(f"transport: {_place(configuration, options.transport)}")
    for line in configuration.check():
        say(line)
    hints = (
        _unused_brokers(configuration, options.transport), _default_cluster(configuration),
        _unsent(), _keys(configuration),
    )  # fmt: skip
    for line in itertools.chain(*hints):
        say(line)
    if options.broker:
        for sentence in _audit(configuration, options.transport):
            say(f"warning: {sentence}")
        say(f"good: {_place(configuration, options.transport)} answers")
    if options.security:
        for line in security.lines(configuration, options.transport):
            say(line)
    return checked(_site_checks(configuration))


def _place(configuration: Configuration, chosen: TransportChoice) -> str:
    """Return the name of the transport, and its server or directory if that is known."""
    found: Sequence[tuple[str, int]] = ()
    if chosen.name == "PikaTransport":
        found = rabbitmq.server_from(configuration, chosen.broker).addresses
    elif chosen.name == "StompTransport":
        found = stomp.server_from(configuration, chosen.broker).addresses
    elif chosen.name == EMBEDDED:
        spool = configuration.site.spool
        return f"{chosen}, {spool.path if spool else default_spool()}"
    servers = ", ".join(f"{host}:{port}" for host, port in found)
    return f"{chosen}, {servers}" if servers else str(chosen)


def _unused_brokers(configuration: Configuration, chosen: TransportChoice) -> Iterator[str]:
    """Yield a warning if a broker is configured, but messages go to the spool."""
    site = configuration.site
    brokers = {"pika": site.pika, "stomp": site.stomp}
    for plugin in [name for name, settings in brokers.items() if settings is not None]:
        if chosen.name == EMBEDDED:
            yield (
                f"warning: a section of plugin {plugin!r} is active, but messages go to the spool: "
                "a section of plugin 'transport' chooses the transport (docs/brokers.md)"
            )


def _default_cluster(configuration: Configuration) -> Iterator[str]:
    """Yield a warning if steps that name no cluster run on the service host."""
    clusters = Clusters(configuration)
    if clusters.default_is_open:
        yield (
            f"warning: steps that name no cluster run on this machine ({clusters.default}): of the "
            f"clusters {', '.join(clusters.described())} none is named under storage key "
            "'scheduler' (docs/site.md)"
        )


def _keys(configuration: Configuration) -> Iterator[str]:
    """Yield a warning if several hosts share the ledger, and each has a key of its own."""
    site = configuration.site
    if site.ledger and not site.security.key_file:
        yield (
            "warning: several hosts may share the ledger, but each has a key of its own: name one "
            "file for all of them (section security, key 'key_file', docs/site.md)"
        )


def _unsent() -> Iterator[str]:
    """Yield warnings about messages that are kept because they were refused for good."""
    place = state_directory() / UNSENT
    refused = directory_of_refused()
    with contextlib.suppress(OSError):
        if kept := len(list(refused.iterdir())):
            yield (
                f"warning: {kept} messages were refused by the broker for good; they are kept in "
                f"{refused}, each with the reason (docs/brokers.md)"
            )
    count = sum(1 for _ in SpoolQueue.dead_letters_in(place))
    if count:
        yield (
            f"warning: {count} final messages of jobs were refused for good; they are kept in "
            f"{place}/{SpoolQueue.places.errors}, each beside the reason (docs/ends.md)"
        )


def _audit(configuration: Configuration, chosen: TransportChoice) -> list[str]:
    """Return warnings about the settings of the message broker."""
    with connect(configuration, chosen) as transport:
        inspector = transport.inspector()
        return [*inspector.missing_permissions(TOPICS), *inspector.audit()]


def _declare(configuration: Configuration, options: argparse.Namespace) -> int:
    """Print what a site has to make on its broker for zwrap."""
    if not options.broker:
        raise RequestError("--declare prints what a broker needs: give --broker, too.")
    with connect(configuration, options.transport) as transport:
        text = transport.inspector().declaration(TOPICS)
    say_file(text.rstrip() or "# Nothing has to be made for this transport.")
    return 0


def _site_checks(configuration: Configuration) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the name of each part, and the function that raises ZwrapError for its faults."""
    site = configuration.site
    recipes = site.recipe_directory
    if recipes:
        inspection = Inspection(configuration)
        for file in _files(recipes, "*.json"):
            yield f"recipe {file}", partial(check_file, inspection, file, site.limits)
    templates = Templates(site.template_directory)
    clusters = Clusters(configuration)
    for name in clusters.described():
        yield f"cluster {name}", partial(_cluster, clusters, templates, name)
    for name in templates.names():
        yield f"template {name}", partial(templates.check, name)
    if site.consumers is not None:
        settings = consumers.read(site.consumers)
        yield "consumers", partial(consumers.checked, settings, "Plugin 'consumers'")
    for place in _job_directories(configuration):
        yield f"job directory {place}", partial(_try_to_write, place)
    for directory in program_directories(site.program_directory):
        for file in _files(directory, "*.yaml"):
            yield f"program {file.stem} ({file})", partial(read_definition, file)


def _cluster(clusters: Clusters, templates: Templates, name: str) -> None:
    """Raise ZwrapError if a cluster, its template or its defaults are wrong."""
    cluster = clusters.get(name)
    templates.check(cluster.template)
    check_defaults(cluster.settings, f"cluster {name!r}, key 'defaults'")


def _job_directories(configuration: Configuration) -> list[Path]:
    """Return the directory of each cluster's newest job, if it is visible on this host."""
    clusters = Clusters(configuration)
    newest: dict[str, Path] = {}
    for attempt in attempts_of(configuration):
        with contextlib.suppress(ZwrapError):  # the site does not describe this cluster any more
            if clusters.get(attempt.cluster).settings.shared_filesystem:
                newest[attempt.cluster] = Path(attempt.job_directory)
    return [directory for _, directory in sorted(newest.items()) if directory.is_dir()]


def _try_to_write(directory: Path) -> None:
    """Write into a job directory, as the Watcher has to for a verdict."""
    try:
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise RequestError(
            f"{user_name()} cannot write into {directory}: {error.strerror}. As this user a "
            "Watcher could not conclude jobs: it has to be in the group of their "
            "directories, and root is nobody on a filesystem that is exported with root_squash."
        ) from None


def _files(directory: Path, pattern: str) -> list[Path]:
    """Return the matching files of a directory; RequestError if the directory does not exist."""
    if not directory.is_dir():
        raise RequestError(f"The directory {directory} of the site configuration does not exist.")
    return sorted(directory.glob(pattern))
