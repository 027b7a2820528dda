"""Middleware of python-workflows: objects through which each call of a transport goes."""

from typing import TYPE_CHECKING

from zwrap.plugins.offering import offer

if TYPE_CHECKING:
    from zwrap.compat.workflows.transport.middleware.chain import (
        BaseTransportMiddleware as BaseTransportMiddleware,
        get_callback_source as get_callback_source,
        wrap as wrap,
    )
    from zwrap.compat.workflows.transport.middleware.counting import (
        CounterMiddleware as CounterMiddleware,
        TimerMiddleware as TimerMiddleware,
    )

__getattr__, __dir__ = offer(
    __name__,
    {
        "BaseTransportMiddleware": "zwrap.compat.workflows.transport.middleware.chain",
        "CounterMiddleware": "zwrap.compat.workflows.transport.middleware.counting",
        "TimerMiddleware": "zwrap.compat.workflows.transport.middleware.counting",
        "get_callback_source": "zwrap.compat.workflows.transport.middleware.chain",
        "wrap": "zwrap.compat.workflows.transport.middleware.chain",
    },
)
