"""`amqp-dispatcher`: run the consumers that a file, or plugin `consumers` of the site, declares."""

from __future__ import annotations

import argparse
import logging
import logging.config
import os
import sys
import threading
from pathlib import Path

import yaml

from zwrap.cli.common import program, say
from zwrap.configuration.log_lines import make_logs_printable
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError
from zwrap.host.given import read_text_given
from zwrap.host.stopping import stop_on_signals
from zwrap.service.contract import STOP_GRACE_S
from zwrap.service.deadline import ending_late_stops
from zwrap.transport.options import BrokerOptions
from zwrap.transport.rabbitmq.amqp import AMQPTransport
from zwrap.transport.rabbitmq.settings import server_from
from zwrap.workers.consumers import settings as consumers
from zwrap.workers.consumers.pool import Pool, run_until_stopped

log = logging.getLogger("amqp-dispatcher")

FILE = "config.yml"
FORMAT = "[%(asctime)s] %(name)s [pid:%(process)d] - %(levelname)s - %(message)s"


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add(
        "--config", metavar="FILE",
        help=f"consumers to run; default: plugin 'consumers' of the site file, else {FILE}",
    )  # fmt: skip
    add("--validate", action="store_true", help="only look for faults in the file, one a line")
    add("--connection", choices=["pika"], default="pika", help=argparse.SUPPRESS)


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Run the consumers until a signal stops them; with --validate only report faults."""
    _log()
    make_logs_printable()
    data, where = _data(configuration, options.config)
    settings = consumers.read(data)
    if options.validate:
        return _validate(settings, where)
    for remark in settings.remarks:
        log.warning("%s: %s", where, remark)
    loaded = consumers.checked(settings, where)
    if settings.startup_handler:
        loaded[settings.startup_handler]()
        log.info("Startup handled")
    stop = threading.Event()
    stop_on_signals(stop)
    chosen = options.transport
    broker = chosen.broker if chosen.name == "PikaTransport" else None
    with ending_late_stops(stop, "amqp-dispatcher", lambda: STOP_GRACE_S):
        _run(settings, loaded, configuration, broker, stop)
    return 0


def _run(
    settings: consumers.Settings,
    loaded: consumers.Loaded,
    configuration: Configuration,
    broker: BrokerOptions | None,
    stop: threading.Event,
) -> None:
    """Declare the queues, then run a pool for each consumer until told to stop."""
    server = server_from(configuration, broker)
    pools: list[Pool] = []
    read = {consumer.queue for consumer in settings.consumers}
    with AMQPTransport.open(server) as owner:
        try:
            for name, queue in settings.queues.items():
                if not (queue.exclusive and name in read):  # its reader declares such a queue
                    owner.declare(queue)
            for each in settings.consumers:
                pool = Pool(each, loaded[each.consumer], AMQPTransport.open(server), stop)
                pools.append(pool)
                pool.start(settings.queues.get(each.queue, each.queue))
            run_until_stopped(pools, stop)
        finally:
            stop.set()
            for pool in pools:
                pool.close()


def _data(configuration: Configuration, file: str | None) -> tuple[object, str]:
    """Return the document that declares consumers, and its name for messages to users."""
    if file is None and configuration.site.consumers is not None:
        return configuration.site.consumers, f"Plugin 'consumers' of {configuration.file}"
    path = Path(file or FILE)
    try:
        return yaml.safe_load(read_text_given(path)), str(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} is not valid YAML: {' '.join(str(error).split())}"
        ) from None


def _validate(settings: consumers.Settings, where: str) -> int:
    """Print remarks and faults; return 1 if there is a fault."""
    consumers.load(settings)
    for remark in settings.remarks:
        say(f"remark: {remark}")
    for fault in settings.faults:
        say(fault)
    if not settings.faults:
        say(
            f"{where}: {len(settings.queues)} queue(s) and {len(settings.consumers)} consumer(s), "
            "no fault."
        )
    return 1 if settings.faults else 0


def _log() -> None:
    """Set up logging as the file LOGGING_FILE_CONFIG says (fileConfig), else to standard error."""
    file = os.environ.get("LOGGING_FILE_CONFIG")
    if not file:
        logging.basicConfig(level=logging.INFO, format=FORMAT)
        return
    try:
        logging.config.fileConfig(file, disable_existing_loggers=False)
    except Exception as error:
        raise ConfigurationError(
            f"LOGGING_FILE_CONFIG: {file} is not usable: {type(error).__name__}: {error}"
        ) from None


main = program("amqp-dispatcher", __doc__, declare, run)

if __name__ == "__main__":
    sys.exit(main())
