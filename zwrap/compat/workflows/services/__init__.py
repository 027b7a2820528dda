"""Services of python-workflows: their base class, and those that are installed."""

from typing import TYPE_CHECKING

from zwrap.plugins.offering import offer

if TYPE_CHECKING:
    from zwrap.compat.workflows.services.known import (
        get_known_services as get_known_services,
        lookup as lookup,
    )

__getattr__, __dir__ = offer(
    __name__,
    {
        "get_known_services": "zwrap.compat.workflows.services.known",
        "lookup": "zwrap.compat.workflows.services.known",
    },
    modules=("common_service",),
)
