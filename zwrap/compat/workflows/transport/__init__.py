"""Transports of python-workflows by name; all but `OfflineTransport` are connections of zwrap."""

from typing import TYPE_CHECKING

from zwrap.plugins.offering import offer

if TYPE_CHECKING:
    from zwrap.compat.workflows.transport.known import (
        add_command_line_options as add_command_line_options,
        default_transport as default_transport,
        get_known_transports as get_known_transports,
        lookup as lookup,
    )

__getattr__, __dir__ = offer(
    __name__,
    {
        "add_command_line_options": "zwrap.compat.workflows.transport.known",
        "default_transport": "zwrap.compat.workflows.transport.known",
        "get_known_transports": "zwrap.compat.workflows.transport.known",
        "lookup": "zwrap.compat.workflows.transport.known",
    },
    modules=(
        "common_transport",
        "middleware",
        "offline_transport",
        "pika_transport",
        "stomp_transport",
    ),
)
