"""``zocalo.util``: further fields of status messages."""

from typing import TYPE_CHECKING

from zwrap.plugins.offering import offer

if TYPE_CHECKING:
    from zwrap.calls.pod import get_kubernetes_pod_information as get_kubernetes_pod_information
    from zwrap.service.status import extended_status_dictionary as extended_status_dictionary

__getattr__, __dir__ = offer(
    __name__,
    {
        "extended_status_dictionary": "zwrap.service.status",
        "get_kubernetes_pod_information": "zwrap.calls.pod",
    },
)
