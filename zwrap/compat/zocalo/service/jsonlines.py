"""``zocalo.service.jsonlines``: the service that appends messages to files."""

from __future__ import annotations

from zwrap.compat.zocalo.service.ported import refuse_replaced
from zwrap.service import jsonlines

METHODS = ("initializing", "process_messages", "receive_msg")
"""Methods of python-zocalo's class, which zwrap's does not have."""


class JSONLines(jsonlines.JSONLines):
    """zwrap's `JSONLines`; a subclass that replaces a method of python-zocalo's is refused."""

    def __init_subclass__(cls, **keywords: object) -> None:
        super().__init_subclass__(**keywords)
        refuse_replaced(cls, METHODS)
