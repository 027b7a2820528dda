"""`zocalo.service`: run a service."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from zwrap.cli.common import (
    Parser,
    add_common_options,
    parsed,
    reported,
    say,
)
from zwrap.cli.serving import serve
from zwrap.configuration.site import Configuration
from zwrap.errors import PermanentError, UnknownNameError
from zwrap.host.files import open_to_append
from zwrap.host.modes import PRIVATE_FILE, READ_FILE, make_private, make_readable
from zwrap.host.paths import in_state_directory
from zwrap.plugins import registry
from zwrap.program.reading import SHIPPED_PREFIX
from zwrap.service.contract import Service
from zwrap.transport.contract import Transport


class _Parser(Parser):
    """A parser that searches for services of other distributions only for its help: it is slow."""

    def format_help(self) -> str:
        self.epilog = f"Services: {', '.join(registry.names(registry.SERVICES))}"
        return super().format_help()


def _parser(configuration: Configuration) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = _Parser("zocalo.service", __doc__)
    add = parser.add_argument
    add("-s", "--service", metavar="SVC", help="service to run; zwrap:SVC is the one of zwrap")
    add("--restarted", action="store_true", help=argparse.SUPPRESS)
    add("--tag", metavar="TAG", help="text in status messages")
    add("-r", "--restart", action="store_true", help="start again, with back-off, when it fails")
    add("--lifetime", type=float, metavar="S", help="end after this many seconds")
    add("--once", action="store_true", help="handle what waits, then end")
    add(
        "--lock", nargs="?", const="", metavar="FILE",
        help="do nothing if another process on this host holds this lock, so that cron may start "
        "it every minute; default file: one per service in the user's state directory",
    )  # fmt: skip
    add("--liveness", action="store_true", help="answer on a port: 200 alive, 408 not")
    add("--liveness-port", type=int, default=8000, metavar="PORT", help="default %(default)s")
    add(
        "--liveness-timeout", type=float, default=30.0, metavar="S",
        help="seconds without a sign of life after which it is not alive, default %(default)s",
    )  # fmt: skip
    add("--liveness-host", default="", metavar="ADDRESS", help="default: every address")
    add("-v", "--verbose", action="count", default=0, help="log more")
    add("-d", "--debug", action="store_true", help="log everything")
    add_common_options(parser, configuration)
    return parser


@reported
def main(arguments: list[str] | None = None) -> int:
    """Find the service and run it until it is asked to stop."""
    configuration = Configuration.from_file()
    parser = _parser(configuration)
    options = parsed(parser, arguments, configuration)
    if not options.service:
        parser.error("Please specify a service name with -s.")
    own = registry.OWN[registry.SERVICES]
    given = str(options.service)
    if given.startswith(SHIPPED_PREFIX):
        name = SHIPPED_PREFIX + matching(given.removeprefix(SHIPPED_PREFIX), own)
    else:
        name = given if given in own else matching(given, registry.names(registry.SERVICES))
    if options.restarted:  # the parent holds the lock and restarts
        from zwrap.cli.restarting import tell_orderly_end

        tell_orderly_end()
        return _run(configuration, options, name)
    with _locked(options.lock, name) as locked:
        if not locked:
            say(f"Another {name} holds the lock; nothing to do.")
            return 0
        if options.restart:
            from zwrap.cli.restarting import restarted  # an ordinary start does not need it

            again = sys.argv[1:] if arguments is None else arguments
            command = ["-m", "zwrap.cli.service", *again, "--restarted"]
            return restarted([command], renewed=True)
        return _run(configuration, options, name)


def _run(configuration: Configuration, options: argparse.Namespace, name: str) -> int:
    """Run the service in this process until it ends."""
    serve(configuration, options, load_service(name), described(name))
    return 0


def described(name: str) -> str:
    """Return a clause that says which class runs under the name of a service."""
    bare = name.removeprefix(SHIPPED_PREFIX)
    if name != bare:
        return f"{bare!r} is zwrap's own"
    return registry.choice(registry.SERVICES, bare, f"-s {SHIPPED_PREFIX}{bare}")


def load_service(name: str) -> Callable[[Configuration, Transport], Service]:
    """Return the class of a service, or the function that makes one of python-workflows.

    A service of the site goes before one of zwrap, which ``zwrap:NAME`` names.

    Raises:
        PermanentError: There is no such service, its class is no service, or it imports modules of
            python-workflows or python-zocalo that are not installed.
    """
    bare = name.removeprefix(SHIPPED_PREFIX)
    try:
        kind = (registry.find_preferred if name == bare else registry.find)(registry.SERVICES, bare)
    except ModuleNotFoundError as error:
        top = str(error.name).partition(".")[0]
        if top not in ("workflows", "zocalo"):
            raise
        raise PermanentError(
            f"Service {name!r} imports {error.name!r}, which is not installed here. Install "
            f"python-{top}, or import zwrap.compat.{top} in place of {top} "
            f"(docs/compat-{top}.md says what there is)."
        ) from error
    if isinstance(kind, type) and issubclass(kind, Service):
        return kind
    from zwrap.compat.workflows.hosting import hosted, is_common_service  # the sites' own only

    if is_common_service(kind):
        return hosted(kind)
    raise PermanentError(
        f"Service {name!r} ({kind!r}) is neither a subclass of zwrap.service.Service nor one of "
        "CommonService of python-workflows (docs/compat-workflows.md), one of which is expected."
    )


def matching(wanted: str, known: Iterable[str]) -> str:
    """Return the service that is meant: exact name, else any letter case, else a unique prefix.

    Raises:
        UnknownNameError: No known service is meant.
        PermanentError: Several known services may be meant.
    """
    names = list(known)
    tries = [
        [name for name in names if name == wanted],
        [name for name in names if name.lower() == wanted.lower()],
        [name for name in names if name.startswith(wanted)],
        [name for name in names if name.lower().startswith(wanted.lower())],
    ]
    for found in tries:
        if len(found) == 1:
            return found[0]
        if found:
            raise PermanentError(
                f"{wanted!r} may mean {' or '.join(sorted(found))}; write more of the name."
            )
    raise UnknownNameError("service", wanted, names)


@contextlib.contextmanager
def _locked(file: str | None, service: str) -> Iterator[bool]:
    """Hold a lock on this host and yield True; False: another process holds it.

    `file` None: no lock; empty: the default file of the service, which has another one if it reads
    another queue (CUSTOM_QUEUE).
    """
    if file is None:
        yield True
        return
    owner = "_".join(filter(None, (service, os.environ.get("CUSTOM_QUEUE"))))
    path = Path(file) if file else in_state_directory("locks", re.sub(r"\W", "_", owner))
    (make_readable if file else make_private)(path.parent)
    with open_to_append(path, READ_FILE if file else PRIVATE_FILE) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


if __name__ == "__main__":
    sys.exit(main())
