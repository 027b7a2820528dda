"""Tools of python-workflows: an id that no other process of the site has."""

from typing import TYPE_CHECKING

from zwrap.plugins.offering import offer

if TYPE_CHECKING:
    from zwrap.compat.workflows.util.hosts import (
        generate_unique_host_id as generate_unique_host_id,
    )

__getattr__, __dir__ = offer(
    __name__, {"generate_unique_host_id": "zwrap.compat.workflows.util.hosts"}
)
