"""Services: plain loops around `Transport.receive`."""

from typing import TYPE_CHECKING

from zwrap.plugins.offering import offer

if TYPE_CHECKING:
    from zwrap.service.contract import Service as Service, Work as Work

__getattr__, __dir__ = offer(
    __name__, {"Service": "zwrap.service.contract", "Work": "zwrap.service.contract"}
)
