"""``zocalo.service.dispatcher``: the service that turns requests into recipe messages."""

from __future__ import annotations

from zwrap.compat.zocalo.service.ported import refuse_replaced
from zwrap.service import dispatcher

METHODS = (
    "filter_apply_parameters",
    "filter_load_custom_recipe",
    "filter_load_recipes_from_files",
    "initializing",
    "process",
    "record_to_logbook",
)
"""Methods of python-zocalo's class, which zwrap's does not have."""


class Dispatcher(dispatcher.Dispatcher):
    """zwrap's `Dispatcher`; a subclass that replaces a method of python-zocalo's is refused."""

    def __init_subclass__(cls, **keywords: object) -> None:
        super().__init_subclass__(**keywords)
        refuse_replaced(cls, METHODS)
