"""Commands to services (topic `command`), and whether they are obeyed.

As in python-zocalo, anybody may tell services to end. A site can restrict that to those who can
read its key (section security, key `signed_commands`): then a command counts for a minute from its
signature on, and only for services that ran already, so that nobody can use it again.
"""

from __future__ import annotations

import math
import time

from zwrap.configuration.key import site_key
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError
from zwrap.host.clock import Clock, wall
from zwrap.host.sitekey import SiteKey
from zwrap.message.content import SIGNATURE_HEADER, Message
from zwrap.message.identity import digest_of
from zwrap.units import whole_number

COMMAND_TOPIC = "command"

SIGNED_AT_HEADER = "zwrap-signed-at"
"""Time of a signature, in milliseconds since the epoch."""

VALID_S = 60.0
"""Time for which a signed command is obeyed, and by which clocks of hosts may differ, in
seconds."""

PURPOSE = "command"


def signed_headers(body: object, key: SiteKey) -> dict[str, object]:
    """Return the headers of a command with a signature; ConfigurationError without a usable key."""
    at = str(math.ceil(time.time() * 1000))  # not before a service that began just now
    return {SIGNED_AT_HEADER: at, SIGNATURE_HEADER: key.sign(PURPOSE, at, digest_of(body))}


class Commands:
    """The commands that a service obeys, from its start on.

    `clock` returns seconds since the epoch.
    """

    def __init__(self, configuration: Configuration, clock: Clock = wall) -> None:
        self._restricted = configuration.site.security.signed_commands
        self._key = site_key(configuration)
        self._clock = clock
        self._since_ms = math.floor(clock() * 1000)

    def refusal(self, message: Message) -> str:
        """Return why a command is not obeyed, as a clause; empty if it is."""
        if not self._restricted:
            return ""
        at = str(message.headers.get(SIGNED_AT_HEADER, ""))
        signature = message.headers.get(SIGNATURE_HEADER)
        try:
            proven = self._key.holds(signature, PURPOSE, at, digest_of(message.body))
        except ConfigurationError as error:
            return str(error).rstrip(".")
        signed_ms = whole_number(at)
        if not proven or signed_ms is None:
            return "it is not signed with the key of the site (section security, 'signed_commands')"
        if signed_ms < self._since_ms or abs(self._clock() * 1000 - signed_ms) > VALID_S * 1000:
            return "it was signed before this service began, or more than a minute ago"
        return ""
