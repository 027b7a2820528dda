"""`zocalo.wrap`: run one recipe step inside its job."""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
from pathlib import Path

from zwrap.calls.batchjob import batch_job
from zwrap.cli.common import (
    Parser,
    add_common_options,
    parsed,
    remark,
    reported,
    set_up_logging,
)
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError
from zwrap.recipe.envelope import Envelope
from zwrap.transport.connect import chosen_class, connect
from zwrap.wrapper.lifecycle import Wrapper
from zwrap.wrapper.stepfile import read_with_fault


def _parser(configuration: Configuration) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser("zocalo.wrap", __doc__)
    parser.add_argument("--wrap", metavar="NAME", help="the wrapper or program to run")
    parser.add_argument("--recipewrapper", metavar="FILE", help="the recipe step, as JSON")
    parser.add_argument(
        "--compat-exit",
        action="store_true",
        help="exit with 0 even if the step failed, as python-zocalo does",
    )
    parser.add_argument("-v", "--verbose", action="count", default=0, help="log more")
    add_common_options(parser, configuration)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the step; return the exit status of the program, else 100 or 111.

    One that is an order to the batch system around this process becomes 1, whoever wrote the job
    script.
    """
    status = _main(arguments)
    _, inside = batch_job() if status else (None, None)
    return 1 if status in getattr(inside, "orders", ()) else status


@reported
def _main(arguments: list[str] | None = None) -> int:
    """Run the step; return the exit status of the program, else 100 or 111."""
    faulthandler.enable()
    configuration = Configuration.from_file()
    parser = _parser(configuration)
    options = parsed(parser, arguments, configuration)
    set_up_logging(configuration, options.verbose)
    if not options.wrap:
        remark("A wrapper object must be specified.")
        return 1
    if not options.recipewrapper:
        parser.error("--recipewrapper FILE is needed: the recipe step to run, as JSON.")
    _check_reachable(configuration)
    chosen_class(configuration, options.transport)
    envelope, fault = _step(Path(options.recipewrapper), configuration)
    wrapper = Wrapper(
        options.wrap,
        envelope,
        configuration,
        lambda: connect(configuration, options.transport),
        configuration.site.program_directory,
        fault,
    )
    status = wrapper.run()
    return 0 if options.compat_exit else status


def _step(file: Path, configuration: Configuration) -> tuple[Envelope, str]:
    """Return the step and its fault; one that the site's limits have is told as the step's failure.

    Raises MessageError if there is nobody to tell.
    """
    try:
        limits = configuration.site.limits
    except ConfigurationError as error:
        return read_with_fault(file)[0], str(error)
    return read_with_fault(file, limits)


def _check_reachable(configuration: Configuration) -> None:
    """Raise ConfigurationError in a batch job whose messages would go to a spool on its node."""
    if not configuration.is_embedded or os.environ.get("ZWRAP_SPOOL"):
        return
    job, _ = batch_job()
    if job.system != "none":
        raise ConfigurationError(
            "This is a batch job, and neither ZOCALO_CONFIG nor ZWRAP_SPOOL says where its "
            "messages go. Export one of them in the job script; a spool must be on a filesystem "
            "that submit host and compute nodes share."
        )


if __name__ == "__main__":
    sys.exit(main())
