"""The heartbeat of one running job, for `zwrap jobs JOB`."""

from __future__ import annotations

from zwrap.cli.common import complain
from zwrap.configuration.site import Configuration
from zwrap.errors import ZwrapError
from zwrap.host.clock import Clock, elapsed
from zwrap.message.content import STATUS_TOPIC
from zwrap.transport.connect import connect

WAIT_S = 4.0
"""Longest wait for a heartbeat, in seconds: wrappers send one every three seconds. A spool keeps
the last one, which is there at once."""


def heartbeat_of(
    token: str, configuration: Configuration, clock: Clock = elapsed
) -> dict[str, object] | None:
    """Return the next heartbeat of the wrapper of an attempt; None if none comes in time."""
    until = clock() + WAIT_S
    try:
        with connect(configuration, None) as transport:
            transport.subscribe_topic(STATUS_TOPIC)
            while (left_s := until - clock()) > 0 and (said := transport.receive(left_s)):
                body = said.message.body
                if isinstance(body, dict) and body.get("token") == token:
                    return body
    except Exception as error:  # perhaps of a site's own transport
        said_so = str(error) if isinstance(error, ZwrapError) else repr(error)
        complain(f"The heartbeat of the job cannot be heard: {said_so}")
    return None
