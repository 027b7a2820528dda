"""A transport that notes how deliveries are settled."""

from __future__ import annotations

from collections.abc import Sequence

from zwrap.message.content import Message, Outgoing
from zwrap.transport.contract import ACK, Delivery, Settlement
from zwrap.transport.memory import MemoryTransport


class Noting(MemoryTransport):
    """Notes settlements, and carries none out."""

    def __init__(self) -> None:
        super().__init__()
        self.settlements: list[Settlement] = []

    def commit(
        self,
        messages: Sequence[Outgoing],
        deliveries: Sequence[Delivery] = (),
        settlement: Settlement = ACK,
    ) -> None:
        self.settlements.append(settlement)

    def handed_out(self, count: int) -> Delivery:
        """Return a message that is handed out for the `count`-th time."""
        return Delivery(self, Message(1, {}, "m"), "in", delivery_count=count, topic=False)
