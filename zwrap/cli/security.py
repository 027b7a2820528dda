"""`zwrap check --security`: how open a site is, line by line, with what to write."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.ledger.place import has_ledger
from zwrap.cli.exposed import (
    environment,
    hard_links,
    named_by_messages,
    places,
    spool,
    who_else,
)
from zwrap.configuration.key import site_key
from zwrap.configuration.site import Configuration
from zwrap.host.exposure import replaceable_parts
from zwrap.host.mounts import NETWORK_FILESYSTEMS, filesystem_of
from zwrap.transport.connect import EMBEDDED
from zwrap.transport.options import TransportChoice

PLUGIN = "security"
"""Name of the plugin whose section holds the settings."""


def parts(configuration: Configuration, chosen: TransportChoice) -> Iterator[Iterator[str]]:
    """Yield the parts of the report, so that a fault of one ends no other.

    Each yields a line for each setting or place: a warning with what to write, or that it is good.
    """
    yield _sections(configuration)
    yield _directories(configuration)
    yield _settings(configuration)
    yield _names(configuration)
    yield _orders(configuration, chosen)
    yield _key(configuration, chosen)
    yield _verdicts(configuration)
    yield _options(configuration)
    yield places(configuration, chosen)
    yield named_by_messages(configuration, chosen)
    yield environment()
    yield hard_links()
    yield _user()


def _user() -> Iterator[str]:
    """Yield whether this user is root."""
    if os.geteuid() == 0:
        yield "warning: this is root: services that root runs submit jobs of root"
    else:
        yield "good: this user is not root"


def _sections(configuration: Configuration) -> Iterator[str]:
    """Yield a warning for each section with settings that is not in force."""
    active = {
        name
        for environment in configuration.active_environments
        for name in configuration.environment_members[environment]
    }
    for name in configuration.sections:
        kind = configuration.resolved(name).value["plugin"]
        if kind == PLUGIN and name not in active:
            yield (
                f"warning: section {name} (plugin {PLUGIN}) is in no active environment, so that "
                "nothing in it holds. Write its name under 'environments'"
            )


def _directories(configuration: Configuration) -> Iterator[str]:
    """Yield how far paths in messages reach."""
    directories = configuration.site.allowed.directories
    if not directories:
        yield (
            "warning: directories: messages may name any path that this user can write (working "
            "directories, recipe wrapper files, output, results). Write 'directories: [/data]' "
            f"into a section of plugin {PLUGIN}, with the directories in which jobs work"
        )
        return
    yield f"good: directories: messages may name paths below {', '.join(map(str, directories))}"
    for directory in directories:
        if not directory.is_dir():
            yield f"warning: directories: {directory} is no directory on this host"
        for above in replaceable_parts(directory):
            yield (
                f"warning: directories: everybody may write in {above}, and put a link in the "
                f"place of {directory}, which is trusted. Write: chmod o-w {above}"
            )


def _settings(configuration: Configuration) -> Iterator[str]:
    """Yield a line for each setting that is true or false."""
    site = configuration.site
    for key, is_open, what in (
        ("custom_recipe", site.security.custom_recipe, "requests may bring recipes of their own"),
        ("inline_command", site.security.inline_command,
         "steps of wrapper 'command' may bring the command in job_parameters"),
        ("runner", site.security.runner, "a Runner executes the commands of messages on its host"),
    ):  # fmt: skip
        if is_open:
            yield (
                f"warning: {key}: {what}. Write '{key}: false' into a section of plugin {PLUGIN} "
                "if this site needs none"
            )
        else:
            yield f"good: {key}: false"
    if site.quote_commands:
        yield "good: zwrap.quote_commands: a parameter in shell commands stays one word"
    else:
        yield (
            "warning: zwrap.quote_commands is off: a parameter in shell commands is shell text, so "
            "that whoever sends requests can run anything. Write 'zwrap.quote_commands: true' into "
            "a section of plugin storage"
        )


def _names(configuration: Configuration) -> Iterator[str]:
    """Yield which of zwrap's own queues and topics recipes may use."""
    opened = configuration.site.security.queues
    if not opened:
        yield "good: queues: zwrap's own queues and topics are no targets for recipes"
    for name in opened:
        yield (
            f"warning: queues: recipes may send to {name!r}, although zwrap uses it. Remove it if "
            "no recipe of this site needs it"
        )


def _orders(configuration: Configuration, chosen: TransportChoice) -> Iterator[str]:
    """Yield who may end services."""
    if configuration.site.security.signed_commands:
        yield "good: signed_commands: only who has the key of the site can end services"
        return
    if chosen.name != EMBEDDED:
        yield (
            "warning: whoever may send to topic 'command' can end services (zocalo.shutdown). Let "
            "the broker permit that to operators only, or write signed_commands: true in the "
            "section security"
        )
        return
    topic = spool(configuration) / ".topics" / "command"
    place = next((each for each in (topic, *topic.parents) if each.exists()), topic)
    if who := who_else(place, 0o755):
        yield (
            f"warning: {place}: {who}, and whoever may write there can end services (topic "
            f"'command'). Write: chmod go-w {place}, unless that is for operators"
        )
    else:
        yield "good: only this user can end services (topic 'command')"


def _key(configuration: Configuration, chosen: TransportChoice) -> Iterator[str]:
    """Yield whether services on several hosts have one key."""
    if configuration.site.security.key_file:
        yield f"good: key_file: {configuration.site.security.key_file}"
    elif configuration.site.ledger or chosen.name != EMBEDDED:
        yield (
            "warning: key: each host, and each user, has a key of its own. Write key_file: FILE in "
            "the section security if services run on several hosts or as several users, so that a "
            "message that comes again elsewhere is known"
        )
    else:
        yield "good: key: services of this user on this host share one key"
    file = site_key(configuration, create=False).file
    kind = filesystem_of(file.parent)
    if kind in NETWORK_FILESYSTEMS:
        yield (
            f"warning: key: {file} is on a network filesystem ({kind}), where jobs on nodes can "
            "read it. Write key_file: FILE in the section security, on a disk of the hosts of "
            "services"
        )


def _options(configuration: Configuration) -> Iterator[str]:
    """Yield which options of batch systems messages may give."""
    for name, cluster in configuration.site.clusters.items():
        if cluster.allowed_options:
            options = ", ".join(sorted(cluster.allowed_options))
            yield (
                f"warning: allowed_options: whoever may send a step may give these to cluster "
                f"{name}: {options}. Remove those that no recipe of this site needs"
            )


def _verdicts(configuration: Configuration) -> Iterator[str]:
    """Yield how many attempts have verdicts that are believed without a secret."""
    number = believed_without_secret(configuration)
    if number:
        yield (
            f"warning: verdicts: a message that says how it ended is believed of {number} attempts "
            "without a secret. They were submitted by an earlier release; wait for their end"
        )
    else:
        yield "good: verdicts: no attempt waits for a message that is believed without a secret"


def believed_without_secret(configuration: Configuration) -> int:
    """Return the number of attempts whose verdict by message is believed without a secret."""
    if not has_ledger(configuration):
        return 0
    with contextlib.closing(Ledger.of(configuration)) as ledger:
        return ledger.remote.trusting()
