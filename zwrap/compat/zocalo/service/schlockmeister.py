"""``zocalo.service.schlockmeister``: the service that ends endless redeliveries."""

from __future__ import annotations

from zwrap.compat.zocalo.service.ported import refuse_replaced
from zwrap.service import schlockmeister

METHODS = (
    "garbage_collect",
    "ignore",
    "initializing",
    "quarantine",
    "update_subscriptions",
    "watch_global",
    "watch_local",
)
"""Methods of python-zocalo's class, which zwrap's does not have."""


class Schlockmeister(schlockmeister.Schlockmeister):
    """zwrap's `Schlockmeister`; a subclass that replaces a method of python-zocalo's is refused."""

    def __init_subclass__(cls, **keywords: object) -> None:
        super().__init_subclass__(**keywords)
        refuse_replaced(cls, METHODS)
