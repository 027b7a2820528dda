"""`zocalo.configure_rabbitmq`: configure RabbitMQ as a file says; the plan is shown first."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from zwrap.cli.common import program, say
from zwrap.configuration.reading import read_file
from zwrap.configuration.site import Configuration
from zwrap.transport.rabbitmq.management.api import RabbitMQAPI
from zwrap.transport.rabbitmq.management.plan import Foreign, plan
from zwrap.transport.rabbitmq.management.wanted import users_from, wanted_from


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("configuration", type=Path, help="YAML file: vhosts, permissions, policies, exchanges, ...")
    add(
        "--user-config", type=Path, metavar="DIR",
        help="*.ini files of users: section [rabbitmq] with username, password, tags",
    )  # fmt: skip
    add("--dry-run", action="store_true", help="only show the plan")
    add("--remove-users", action="store_true", help="remove users that no file of DIR names")
    add("--remove-vhosts", action="store_true", help="remove vhosts that the file does not name")
    add(
        "--remove-messages", action="store_true",
        help="remove queues that are not in the file even if messages wait in them",
    )  # fmt: skip


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Show the plan and carry it out."""
    source = read_file(options.configuration, "The file")
    wanted = wanted_from(source.data, source.label)
    if options.user_config is not None:
        wanted.users = users_from(options.user_config)
    foreign = Foreign(
        vhosts=options.remove_vhosts, users=options.remove_users, messages=options.remove_messages
    )
    with RabbitMQAPI.from_zocalo_configuration(configuration) as api:
        changes = plan(api, wanted, foreign)
        for change in changes:
            say(str(change))
        if not changes:
            say("Everything is as the file wants it.")
        elif options.dry_run:
            say(f"{len(changes)} change(s) would be made; nothing was changed.")
        else:
            sys.stdout.flush()
            for change in changes:
                change.carry_out()
            say(f"{len(changes)} change(s) made.")
    return 0


main = program("zocalo.configure_rabbitmq", __doc__, declare, run)

if __name__ == "__main__":
    sys.exit(main())
