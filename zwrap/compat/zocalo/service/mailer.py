"""``zocalo.service.mailer``: the service that sends mail."""

from __future__ import annotations

from zwrap.compat.zocalo.service.ported import refuse_replaced
from zwrap.service import mailer

METHODS = ("initializing", "listify", "receive_msg")
"""Methods of python-zocalo's class, which zwrap's does not have."""


class Mailer(mailer.Mailer):
    """zwrap's `Mailer`; a subclass that replaces a method of python-zocalo's is refused."""

    def __init_subclass__(cls, **keywords: object) -> None:
        super().__init_subclass__(**keywords)
        refuse_replaced(cls, METHODS)
