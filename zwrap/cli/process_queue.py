"""`zwrap process_queue`: run the workers of one, several or all queues."""

from __future__ import annotations

import argparse
import contextlib
import threading

from zwrap.cli.common import say, transport_arguments
from zwrap.cli.restarting import restarted, tell_orderly_end
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, TransportError
from zwrap.host.garbage import collect_seldom
from zwrap.service.loop import Loop
from zwrap.transport.connect import connect
from zwrap.workers import functions as worker
from zwrap.workers.functions import Worker
from zwrap.workers.service import service_for


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--queue_name", "--queue", metavar="QUEUE", help="the worker of one queue")
    which.add_argument(
        "--all", action="store_true",
        help="all enabled workers, each in a process that is started again when it fails",
    )  # fmt: skip
    which.add_argument(
        "--multi_threaded", nargs="+", metavar="QUEUE",
        help="several workers as threads of one process, for small hosts; a time limit ends it",
    )  # fmt: skip
    which.add_argument("--list", action="store_true", help="show the workers and run none")
    add(
        "-m", "--module", action="append", default=[], metavar="MODULE",
        help="Python module with workers, repeatable; default: those of plugin 'workers'",
    )  # fmt: skip
    add("--worker_num", type=int, default=0, metavar="N", help="number in status messages")
    add("--once", action="store_true", help="handle what waits, then end")


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Find the workers and run them until told to stop."""
    tell_orderly_end()
    workers = declared(configuration, options.module)
    if options.list:
        for each in workers.values():
            note = "" if each.runs_with_all else "  (only when it is named)"
            say(f"{each.queue}: {each.function.__module__}.{each.function.__qualname__}{note}")
        return 0
    if options.all:
        enabled = [each.queue for each in workers.values() if each.runs_with_all]
        return restarted([_command(options, queue) for queue in enabled])
    queues = options.multi_threaded or [options.queue_name]
    chosen = [worker.find(queue, workers) for queue in queues]
    with contextlib.ExitStack() as stack:
        loops = [_loop(configuration, options, each, stack) for each in chosen]
        collect_seldom()
        if len(loops) == 1:
            loops[0].run()
        else:
            _threads(loops, options.once)
    return 0


def declared(configuration: Configuration, modules: list[str]) -> dict[str, Worker]:
    """Return the workers in the given modules, else in the modules that the site names, by queue.

    Raises:
        ConfigurationError: No module is named, or none of them holds a worker.
    """
    of_site = configuration.site.workers
    named = modules or (of_site.modules if of_site else [])
    if not named:
        raise ConfigurationError(
            "There are no workers: name a Python module with -m, or in plugin 'workers' of the "
            "site configuration."
        )
    found = worker.load(named)
    if not found:
        raise ConfigurationError(f"No worker is in {', '.join(named)}: see zwrap.worker.")
    return found


def _loop(
    configuration: Configuration,
    options: argparse.Namespace,
    chosen: Worker,
    stack: contextlib.ExitStack,
) -> Loop:
    """Return the loop of one worker, with a connection that `stack` closes."""
    transport = connect(configuration, options.transport)
    stack.callback(transport.close)
    worker.use(transport)
    service = service_for(chosen)(configuration, transport)
    tag = str(options.worker_num) if options.worker_num else None
    return Loop(service, transport, once=options.once, tag=tag)


def _command(options: argparse.Namespace, queue: str) -> list[str]:
    """Return the arguments with which Python runs the worker of one queue."""
    environments = [part for name in options.environment for part in ("-e", name)]
    modules = [part for name in options.module for part in ("-m", name)]
    once = ["--once"] if options.once else []
    chosen = ["--queue_name", queue, "--worker_num", str(options.worker_num), *modules, *once]
    transport = transport_arguments(options.transport)
    return ["-m", "zwrap.cli.zwrap", *environments, *transport, "process_queue", *chosen]


def _threads(loops: list[Loop], once: bool) -> None:
    """Run each loop on a thread; if one fails all end, and may be started again."""
    failures: list[BaseException] = []

    def run_one(loop: Loop) -> None:
        try:
            loop.run()
        except BaseException as error:
            failures.append(error)
            stop()

    def stop() -> None:
        for loop in loops:
            loop.stop()

    threads = [threading.Thread(target=run_one, args=(loop,)) for loop in loops[1:]]
    for thread in threads:
        thread.start()
    run_one(loops[0])  # on the main thread, which gets the signals
    if not once:
        stop()
    for thread in threads:
        thread.join()
    if failures:
        raise TransportError(f"A worker ended: {failures[0]}") from failures[0]
