"""Tools on the command line: one asks for a scan, one takes messages of a queue."""

from __future__ import annotations

import argparse
import json
import queue
import sys

import workflows.transport
import zocalo.configuration


def connected(parser, arguments):
    """Read the site file and the command line; the options, and a connected transport."""
    zc = zocalo.configuration.from_file()
    zc.activate()
    zc.add_command_line_options(parser)
    workflows.transport.add_command_line_options(parser, transport_argument=True)
    options = parser.parse_args(arguments)
    transport = workflows.transport.lookup(options.transport)()
    transport.connect()
    return zc, options, transport


def request(arguments=None):
    """Ask for scans of samples."""
    parser = argparse.ArgumentParser(prog="beamline.request")
    parser.add_argument("samples", nargs="+")
    zc, options, transport = connected(parser, arguments)
    for number, sample in enumerate(options.samples):
        message = {"sample": sample, "beamline": zc.storage["beamline.name"]}
        transport.send("beamline.requests", message, headers={"number": str(number)})
    transport.disconnect()
    print(f"{len(options.samples)} requests sent")


def take(arguments=None):
    """Take messages of a queue and print them."""
    parser = argparse.ArgumentParser(prog="beamline.take")
    parser.add_argument("queue")
    parser.add_argument("number", type=int)
    _, options, transport = connected(parser, arguments)
    came = queue.Queue()
    subscription = transport.subscribe(
        options.queue, lambda header, message: came.put((header, message)), acknowledgement=True
    )
    for _ in range(options.number):
        header, message = came.get(timeout=20)
        txn = transport.transaction_begin(subscription_id=subscription)
        transport.ack(header, transaction=txn)
        transport.send("beamline.taken", {"taken": message}, transaction=txn)
        transport.transaction_commit(txn)
        print(json.dumps([header.get("number"), message], sort_keys=True))
    transport.disconnect()


if __name__ == "__main__":
    {"request": request, "take": take}[sys.argv[1]](sys.argv[2:])
