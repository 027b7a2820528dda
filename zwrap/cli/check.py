"""`zwrap check`: validate the site configuration and all that it refers to."""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from zwrap.attempt.finals import UNSENT
from zwrap.cli import beside, overview, security
from zwrap.cli.common import complain, say, say_file, user_name
from zwrap.cli.joblist import newest_directories
from zwrap.cli.recipesteps import check_file
from zwrap.configuration.site import Configuration
from zwrap.errors import FaultsError, RequestError, ZwrapError
from zwrap.host.paths import state_directory
from zwrap.message.content import STATUS_TOPIC
from zwrap.program.causes.errorlist import tables_in
from zwrap.program.checks.checking import check_file as check_program, check_table, remarked
from zwrap.program.definition import Definition
from zwrap.program.reading import program_directories
from zwrap.recipe.directory import names
from zwrap.service.commands import COMMAND_TOPIC
from zwrap.service.watcher.events import CLUSTER_TOPIC, JOB_TOPIC, STATISTICS_TOPIC
from zwrap.submission.block import check_defaults
from zwrap.submission.clusters import Clusters
from zwrap.submission.inspection import Inspection
from zwrap.submission.template import Templates
from zwrap.transport.connect import EMBEDDED, MEANT, connect
from zwrap.transport.options import TransportChoice
from zwrap.transport.refused import directory_of_refused
from zwrap.transport.spool.queue import SpoolQueue
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
    """Read all parts of the configuration, and report all faults of each."""
    if options.declare:
        return _declare(configuration, options)
    chosen: TransportChoice = options.transport
    faults = Report()
    where = configuration.file or "no ZOCALO_CONFIG: the embedded default"
    say(f"configuration: {where}")
    if configuration.environments:
        active = ", ".join(configuration.active_environments) or "none"
        say(f"environments: {', '.join(sorted(configuration.environments))} (active: {active})")
    for name, description in overview.parts(configuration, chosen):
        with faults.told():
            say(f"{name}: {description()}")
    _tell_sections(configuration, faults)
    hints = [
        _unused_brokers(configuration, chosen),
        _default_cluster(configuration),
        _unsent(),
        _keys(configuration),
        beside.lines(configuration.site.program_directory),
    ]
    if options.broker:
        hints.append(_audit(configuration, chosen))
    if options.security:
        hints += security.parts(configuration, chosen)
    for lines in hints:
        faults.tell(lines)
    count = 0
    for what, check in _site_checks(configuration):
        count += 1
        with faults.told():
            found = check()
            untried = isinstance(found, Definition) and found.status == "untried"
            say(f"good: {what}{': untried' if untried else ''}")
            for remark in _remarks(found):
                say(f"remark: {remark}")
    say(f"{count} checked.")
    return faults.status


def _remarks(found: object) -> Iterable[str]:
    """Return the remarks of a check, by what its function returned."""
    if isinstance(found, Definition):
        return remarked(found)
    return found if isinstance(found, (list, tuple)) else ()


class Report:
    """The faults that were told, each once, whatever meets them.

    `known`: error that somebody else tells; None: there is none.
    """

    def __init__(self, known: ZwrapError | None = None) -> None:
        self.status = 0
        """Exit status: 0 without faults, else that of the worst."""
        self._told = {str(fault) for fault in _each(known)} if known else set()

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Tell the fault with which the work inside the context ends, if it has one."""
        try:
            yield
        except ZwrapError as error:
            self.status = max(self.status, error.exit_status)
            for fault in _each(error):
                if str(fault) not in self._told:
                    self._told.add(str(fault))
                    complain(str(fault))

    def tell(self, lines: Iterator[str]) -> None:
        """Print lines, and tell the fault with which they end, if they do."""
        with self.told():
            for line in lines:
                say(line)


def tell_faults(configuration: Configuration, first: ZwrapError) -> None:
    """Tell what is wrong with sections, but not the fault for which none of them is in force."""
    _tell_sections(configuration, Report(first))


def _each(error: ZwrapError) -> tuple[ZwrapError, ...]:
    """Return the faults that an error is about."""
    return error.faults if isinstance(error, FaultsError) else (error,)


def _tell_sections(configuration: Configuration, faults: Report) -> None:
    """Read each section, and report what is wrong with it."""
    for name in configuration.sections:
        with faults.told():
            for line in configuration.check_section(name):
                say(line)


def _unused_brokers(configuration: Configuration, chosen: TransportChoice) -> Iterator[str]:
    """Yield a warning if a broker is described, but messages go elsewhere."""
    if os.environ.get("RABBITMQ_URL") and chosen.name not in ("", MEANT["pika"]):
        yield (
            f"warning: RABBITMQ_URL is set, but messages go over {chosen.name}: the variable says "
            f"where RabbitMQ is, and chooses nothing; '-t {MEANT['pika']}' does, and a section "
            f"with 'plugin: transport' and 'default: {MEANT['pika']}' (docs/brokers.md)"
        )
    site = configuration.site
    brokers = {"pika": site.pika, "stomp": site.stomp}
    for plugin in [name for name, settings in brokers.items() if settings is not None]:
        if chosen.name == EMBEDDED:
            yield (
                f"warning: a section of plugin {plugin!r} is active, but messages go to the spool, "
                "because that is chosen (docs/brokers.md)"
            )


def _default_cluster(configuration: Configuration) -> Iterator[str]:
    """Yield a warning if steps that name no cluster are refused."""
    if missing := Clusters(configuration).missing_default:
        yield f"warning: {missing[0].lower()}{missing[1:-1]}"


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


def _audit(configuration: Configuration, chosen: TransportChoice) -> Iterator[str]:
    """Yield warnings about the settings of the message broker, and that it answers."""
    with connect(configuration, chosen) as transport:
        inspector = transport.inspector()
        for sentence in (*inspector.missing_permissions(TOPICS), *inspector.audit()):
            yield f"warning: {sentence}"
    yield f"good: {overview.place(configuration, chosen)} answers"


def _declare(configuration: Configuration, options: argparse.Namespace) -> int:
    """Print what a site has to make on its broker for zwrap."""
    if not options.broker:
        raise RequestError("--declare prints what a broker needs: give --broker, too.")
    with connect(configuration, options.transport) as transport:
        text = transport.inspector().declaration(TOPICS)
    say_file(text.rstrip() or "# Nothing has to be made for this transport.")
    return 0


Checks = Iterator[tuple[str, Callable[[], object]]]
"""Names of things, each with the function that raises ZwrapError for its faults, and may return
remarks, or a definition that has some."""


def _site_checks(configuration: Configuration) -> Checks:
    """Yield the checks of all that the site file refers to; what hides some of it is a fault."""
    for part in (_recipes, _clusters, _templates, _consumers, _ispyb, _job_checks, _programs):
        try:
            yield from part(configuration)
        except ZwrapError as error:
            yield part.__name__.strip("_"), partial(_raise, error)


def _raise(error: ZwrapError) -> None:
    """Raise an error."""
    raise error


def _recipes(configuration: Configuration) -> Checks:
    """Yield the checks of the recipes of the site."""
    site = configuration.site
    if site.recipe_directory:
        inspection = Inspection(configuration)
        for file in _recipe_files(site.recipe_directory):
            yield f"recipe {file}", partial(check_file, inspection, file, site.limits)


def _clusters(configuration: Configuration) -> Checks:
    """Yield the checks of the clusters of the site."""
    clusters, directory = Clusters(configuration), configuration.site.template_directory
    for name in clusters.described():
        yield f"cluster {name}", partial(_cluster, clusters, directory, name)


def _templates(configuration: Configuration) -> Checks:
    """Yield the checks of the job script templates."""
    templates = Templates(configuration.site.template_directory)
    for name in templates.names():
        yield f"template {name}", partial(templates.check, name)


def _consumers(configuration: Configuration) -> Checks:
    """Yield the check of the section of plugin `consumers`."""
    if configuration.site.consumers is not None:
        settings = consumers.read(configuration.site.consumers)
        yield "consumers", partial(consumers.checked, settings, "Plugin 'consumers'")


def _ispyb(configuration: Configuration) -> Checks:
    """Yield the checks of the facility's database, if a section of plugin `ispyb` is active."""
    if configuration.site.ispyb is not None:
        from zwrap.service.ispyb.checks import checks  # loads the driver, which few sites have

        yield from checks(configuration)


def _job_checks(configuration: Configuration) -> Checks:
    """Yield the checks of the newest job directories."""
    for place in newest_directories(configuration):
        yield f"job directory {place}", partial(_try_to_write, place)


def _programs(configuration: Configuration) -> Checks:
    """Yield the checks of the program definitions."""
    for directory in program_directories(configuration.site.program_directory):
        for file in _files(directory, "*.yaml"):
            yield f"program {file.stem} ({file})", partial(check_program, file)
        for file in _files(directory, "*.yml"):
            yield f"program {file.stem} ({file})", partial(_unread, file)
        for file in tables_in(directory):
            yield f"errors {file.stem} ({file})", partial(check_table, file)


def _unread(file: Path) -> None:
    """Raise RequestError: a definition is looked for under another name than this file's."""
    raise RequestError(
        f"{file} is never read: the name of a program definition ends in .yaml. Rename it to "
        f"{file.stem}.yaml."
    )


def _cluster(clusters: Clusters, site_directory: Path | None, name: str) -> None:
    """Raise ZwrapError if a cluster, its template or its defaults are wrong."""
    cluster = clusters.get(name)
    Templates(site_directory, cluster.scheduler.template_directory).check(cluster.template)
    check_defaults(cluster.settings, f"cluster {name!r}, key 'defaults'")


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


def _recipe_files(directory: Path) -> list[Path]:
    """Return the recipe files that a request may name, and all in the directory itself."""
    below = {directory / f"{name}.json" for name in names(directory)}
    return sorted({*_files(directory, "*.json"), *below})


def _files(directory: Path, pattern: str) -> list[Path]:
    """Return the matching files of a directory; RequestError if there is no such directory."""
    if not directory.is_dir():
        fault = "is not a directory" if directory.exists() else "does not exist"
        raise RequestError(f"The directory {directory} of the site configuration {fault}.")
    return sorted(file for file in directory.glob(pattern) if not file.is_dir())
