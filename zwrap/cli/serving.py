"""A service at work with one reading of the site file, and the next one after SIGHUP."""

from __future__ import annotations

import argparse
import contextlib
import logging
import threading
from collections.abc import Callable

from zwrap.cli.common import set_up_logging, settle
from zwrap.configuration import log_files
from zwrap.configuration.faults import Faults
from zwrap.configuration.site import Configuration
from zwrap.errors import ZwrapError
from zwrap.host.clock import Clock, elapsed
from zwrap.host.garbage import collect_seldom
from zwrap.service.contract import Service
from zwrap.service.liveness import Liveness, answering
from zwrap.service.loop import Loop
from zwrap.transport.connect import connect
from zwrap.transport.contract import Transport

log = logging.getLogger(__name__)

Make = Callable[[Configuration, Transport], Service]
"""Class of a service, or a function that makes one."""


class Serving:
    """A service, its connection and its configuration.

    Args:
        configuration: The site configuration, active.
        options: Options of `zocalo.service`.
        make: Class of the service.
        ends_at: Time at which the service ends, by `clock`.
        clock: Clock that only goes forward, in seconds.
        stop: Event that a stop signal sets, shared with what went before; None: a new one.
        hangup: Event that SIGHUP sets, likewise.
    """

    def __init__(
        self,
        configuration: Configuration,
        options: argparse.Namespace,
        make: Make,
        ends_at: float,
        clock: Clock = elapsed,
        stop: threading.Event | None = None,
        hangup: threading.Event | None = None,
    ) -> None:
        self._stop = stop or threading.Event()
        self._hangup = hangup or threading.Event()
        self._configuration = configuration
        self._options = options
        self._make = make
        self._ends_at = ends_at
        self._clock = clock
        self._following: Serving | None = None
        self._transport = connect(configuration, options.transport)
        try:
            self._service = make(configuration, self._transport)
        except BaseException:
            self._transport.close()
            raise

    def run(self) -> Serving | None:
        """Run the service until it ends; return what follows after SIGHUP; None: it ends."""
        options = self._options
        liveness = Liveness(self._service)
        with self._transport:
            left_s = self._ends_at - self._clock()
            loop = Loop(
                self._service,
                self._transport,
                lifetime_s=None if left_s == float("inf") else max(0.001, left_s),
                once=options.once,
                tag=options.tag,
                liveness=liveness,
                renewed=self.renewed,
                stop=self._stop,
                hangup=self._hangup,
            )
            with contextlib.ExitStack() as stack:
                if options.liveness:
                    host, port = options.liveness_host, options.liveness_port
                    stack.enter_context(answering(liveness, host, port, options.liveness_timeout))
                collect_seldom()
                loop.run()
        return self._following

    def renewed(self) -> bool:
        """Open log files again and read the site file; return whether the service begins anew.

        What is wrong with the file, or fails with it, is told, and the service goes on with what it
        had.
        """
        log_files.reopen()
        handlers = logging.getLogger().handlers[:]
        try:
            following, options = _read_again(self._options)
            self._following = Serving(
                following, options, self._make, self._ends_at, self._clock, self._stop, self._hangup
            )
        except Exception as error:  # also of a class of the site
            self._log_as_before(handlers)
            known = isinstance(error, (ZwrapError, OSError))
            log.error(
                "SIGHUP: the site file is not used, and the service goes on with what it had: %s",
                error if known else f"{type(error).__name__}: {error}",
                exc_info=None if known else error,
            )
            return False
        log.info("SIGHUP: the site file was read again, and the service begins anew with it")
        return True

    def _log_as_before(self, handlers: list[logging.Handler]) -> None:
        """Set up logging as the present configuration says, else with the former `handlers`."""
        logging.getLogger().handlers.clear()
        acted = False
        with contextlib.suppress(ZwrapError):
            acted = self._configuration.act_again()
        if not acted:
            logging.getLogger().handlers[:] = handlers
        _set_up_logging(self._configuration, self._options)


def _read_again(options: argparse.Namespace) -> tuple[Configuration, argparse.Namespace]:
    """Return the site configuration as it is now, active, and the options with it.

    Raises:
        ConfigurationError: A section is wrong, whoever uses it.
    """
    following = Configuration.from_file()
    faults = Faults()
    for name in following.sections:
        with faults.collected():
            following.check_section(name)
    faults.check()
    logging.getLogger().handlers.clear()
    again = argparse.Namespace(**vars(options))
    settle(again, following)
    _set_up_logging(following, again)
    return following, again


def _set_up_logging(configuration: Configuration, options: argparse.Namespace) -> None:
    """Log as a configuration says, and as much as the command line."""
    set_up_logging(configuration, 2 if options.debug else options.verbose)


def serve(
    configuration: Configuration, options: argparse.Namespace, make: Make, described: str
) -> None:
    """Run a service until it ends, with the site file that it finds, and finds after SIGHUP.

    `described`: clause that says which class it is, for the log.
    """
    _set_up_logging(configuration, options)
    log.info("The service %s", described)
    ends_at = elapsed() + options.lifetime if options.lifetime else float("inf")
    serving: Serving | None = Serving(configuration, options, make, ends_at)
    while serving is not None:
        serving = serving.run()
