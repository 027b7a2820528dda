"""`zocalo.go`: send a processing request."""

from __future__ import annotations

import argparse
import socket
import sys
import time
import uuid
from pathlib import Path

from zwrap.attempt.sender import HOST_HEADER, SENT_HEADER, USER_HEADER
from zwrap.cli.common import complain, program, remark, say, say_json, user_name
from zwrap.cli.openparameters import tell_oddities
from zwrap.configuration.site import Configuration
from zwrap.errors import (
    ConfigurationError,
    PermanentError,
    RequestError,
    TransportError,
    short,
)
from zwrap.host.files import write_atomically
from zwrap.host.modes import make_readable
from zwrap.message.content import ID_HEADER, STATUS_TOPIC
from zwrap.message.identity import new_id, recipe_id_of
from zwrap.message.jsontext import indented
from zwrap.message.limits import Limits
from zwrap.recipe.graph import Recipe
from zwrap.recipe.remarks import repeated_remark
from zwrap.transport.connect import EMBEDDED, chosen_class, connect
from zwrap.transport.contract import Transport
from zwrap.transport.failures import NoPermissionError
from zwrap.transport.spool.files import NoPlaceError
from zwrap.transport.spool.transport import SpoolTransport
from zwrap.units import key_value, whole_number

QUEUE = "processing_recipe"


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("dcid", nargs="*", help="data collection ID")
    add = parser.add_argument
    add(
        "-r", "--recipe", action="append", default=[], metavar="RCP", help="recipe name; repeatable"
    )
    add("-a", "--autoprocscalingid", type=int, metavar="ID", help="autoprocscaling ID")
    add("-f", "--file", metavar="FILE", help="run the recipe in this file")
    add("-n", "--no-dcid", action="store_true", help="the recipe needs no data collection ID")
    add("--drop", action="store_true", help=argparse.SUPPRESS)
    add("-p", "--reprocessing", action="store_true", help="the ID is a reprocessing ID")
    add("-s", "--set", action="append", default=[], metavar="KEY=VALUE", help="recipe parameter")
    add("-v", "--verbose", action="store_true", help="show the message")
    add("--dry-run", action="store_true", help="send nothing")


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Check the request, then send it or write it to a drop file."""
    complaint = _complaint(options)
    if complaint:
        remark(complaint)
        return 1
    message = _message(options, configuration.site.limits)
    headers: dict[str, object] = {
        USER_HEADER: user_name(),
        HOST_HEADER: socket.gethostname(),
        SENT_HEADER: int(time.time()),  # python-zocalo's pika sends no fraction
        ID_HEADER: new_id(),  # the same whether the request is sent or stored
    }
    _announce(options)
    tell_oddities(configuration.site, message, with_ispyb=not options.no_dcid)
    if options.verbose:
        say_json(message)
    if options.dry_run:
        return _pretend(configuration, options, message)
    if options.drop:
        say(f"Message successfully stored in {_drop(configuration, headers, message)}")
        return 0
    return _send(configuration, options, headers, message)


def _pretend(
    configuration: Configuration, options: argparse.Namespace, message: dict[str, object]
) -> int:
    """Report that nothing is done, and which inputs of programs are wrong; return the exit status.

    Raises ConfigurationError or UnknownNameError if nothing could be done.
    """
    from zwrap.cli.wronginputs import tell_wrong_inputs  # which a request that is sent does without

    status = tell_wrong_inputs(configuration, message)
    if options.drop:
        say(f"Not storing message in {drop_directory(configuration)} (running with --dry-run)")
    else:
        chosen_class(configuration, options.transport)
        say("Not sending message (running with --dry-run)")
    return status


def _complaint(options: argparse.Namespace) -> str | None:
    """Return the fault of the command line, phrased as in python-zocalo; None: there is none."""
    if not (options.recipe or options.file or options.no_dcid or options.reprocessing):
        return "No recipes specified."
    for setting in options.set:
        try:
            key_value(setting, "-s")
        except RequestError:
            return f"Invalid variable specification {setting!r}"
    if options.no_dcid:
        if not (options.recipe or options.file):
            return "No recipes specified."
        return None
    if len(options.dcid) > 1:
        return "Only a single data collection ID can be specified."
    if not options.dcid:
        return "You must either specify a data collection ID or option --no-dcid."
    if not whole_number(options.dcid[0]):
        return (
            f"{short(options.dcid[0])} is not a data collection ID: a whole number above 0, of up "
            "to 18 digits, is expected."
        )
    return None


def _message(options: argparse.Namespace, limits: Limits) -> dict[str, object]:
    """Return the body of the request."""
    parameters: dict[str, object] = dict(key_value(each, "-s") for each in options.set)
    message: dict[str, object] = {"recipes": options.recipe, "parameters": parameters}
    if options.file:
        recipe = Recipe.from_file(Path(options.file), limits)
        if recipe.repeated:
            complain(repeated_remark(recipe.name, recipe.repeated))
        message["custom_recipe"] = recipe.for_wire()
    if not options.no_dcid:
        number = int(options.dcid[0])
        parameters["ispyb_process" if options.reprocessing else "ispyb_dcid"] = number
        if options.autoprocscalingid and not options.reprocessing:
            parameters["ispyb_autoprocscalingid"] = options.autoprocscalingid
    return message


def _announce(options: argparse.Namespace) -> None:
    """Print the recipes and the data collection, as python-zocalo does."""
    if options.recipe:
        say(f"Running recipes {options.recipe}")
    if options.file:
        say(f"Running recipe from file {options.file}")
    if options.no_dcid:
        say("without specified data collection.")
    elif not options.reprocessing:
        say(f"for data collection {options.dcid[0]}")
    say()


def _send(
    configuration: Configuration,
    options: argparse.Namespace,
    headers: dict[str, object],
    message: dict[str, object],
) -> int:
    """Send the request, or write a drop file if it cannot be sent at present.

    Raises:
        TransportError: The request could not be sent, and the site names no drop directory.
        PermanentError: That is for want of a permission, which does not come by itself.
    """
    try:
        transport = connect(configuration, options.transport)
        transport.send(QUEUE, message, headers)
        transport.flush()
    except (TransportError, NoPermissionError, NoPlaceError, OSError) as error:
        if configuration.site.drop_directory is None:
            kind = PermanentError if isinstance(error, NoPermissionError) else TransportError
            raise kind(f"The request was not sent: {error}") from None
        complain(f"The message transport cannot be used: {error}")
        say(f"Message successfully stored in {_drop(configuration, headers, message)}")
        say("zocalo.pickup sends it when the transport is back.")
        return 0
    if options.reprocessing and not options.no_dcid:
        say(f"Reprocessing task submitted for ID {options.dcid[0]}.")
    else:
        say("Submitted.")
    _tell_place(transport, headers, message)
    if configuration.is_embedded and options.transport.name == EMBEDDED:
        _tell_about_spool(transport)
    transport.close()
    return 0


def _tell_place(
    transport: Transport, headers: dict[str, object], message: dict[str, object]
) -> None:
    """Print where the request is, its id, and the ID of the recipe that the Dispatcher starts."""
    identity = str(headers[ID_HEADER])
    parameters = message["parameters"]
    given = parameters.get("guid") if isinstance(parameters, dict) else None
    say(
        f"Request {identity} is in queue {QUEUE} of {transport.where}; the ID of its recipe is "
        f"{given or recipe_id_of(identity)}."
    )


def _tell_about_spool(transport: Transport) -> None:
    """Report where the spool of an unconfigured site is, and whether a Dispatcher reads it."""
    place = f" {transport.root}" if isinstance(transport, SpoolTransport) else ""
    complain(f"No ZOCALO_CONFIG: the request is in the spool{place}.")
    transport.subscribe_topic(STATUS_TOPIC)
    while status := transport.receive(0):
        body = status.message.body
        if isinstance(body, dict) and body.get("serviceclass") == "Dispatcher":
            return
    complain("No Dispatcher is alive on it. Start one: zocalo.service -s Dispatcher")


def drop_directory(configuration: Configuration) -> Path:
    """Return the directory of drop files; ConfigurationError if the site names none."""
    location = configuration.site.drop_directory
    if location is None:
        raise ConfigurationError(
            "There is no directory for drop files: set 'zocalo.go.fallback_location' in a storage "
            "section of the site configuration."
        )
    return location


def _drop(
    configuration: Configuration, headers: dict[str, object], message: dict[str, object]
) -> Path:
    """Write the drop file and return its path."""
    file = drop_directory(configuration) / str(uuid.uuid4())
    content = indented({"headers": headers, "message": message})
    try:
        make_readable(file.parent)
        write_atomically(file, content + b"\n")
    except OSError as error:
        raise ConfigurationError(
            f"The drop file {file} cannot be written: {error.strerror}."
        ) from None
    return file


main = program("zocalo.go", __doc__, declare, run)

if __name__ == "__main__":
    sys.exit(main())
