"""Station "transport": queues and topics, four implementations of one contract."""

from typing import TYPE_CHECKING

from zwrap.plugins.offering import offer

if TYPE_CHECKING:
    from zwrap.transport.contract import Delivery as Delivery, Transport as Transport, Unit as Unit

__getattr__, __dir__ = offer(
    __name__,
    {
        "Delivery": "zwrap.transport.contract",
        "Transport": "zwrap.transport.contract",
        "Unit": "zwrap.transport.contract",
    },
)
