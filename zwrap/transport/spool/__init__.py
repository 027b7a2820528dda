"""Station "transport", on a filesystem: queues and topics as directories."""

from typing import TYPE_CHECKING

from zwrap.plugins.offering import offer

if TYPE_CHECKING:
    from zwrap.transport.spool.transport import SpoolTransport as SpoolTransport

__getattr__, __dir__ = offer(__name__, {"SpoolTransport": "zwrap.transport.spool.transport"})
