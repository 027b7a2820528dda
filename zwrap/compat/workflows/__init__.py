"""The names of python-workflows, so that code written for it runs after its imports were changed.

The rule is one: ``from workflows.X import Y`` becomes ``from zwrap.compat.workflows.X import Y``.
docs/compat-workflows.md lists every name, those that are missing included.
"""

from typing import TYPE_CHECKING

from zwrap.plugins.offering import offer

if TYPE_CHECKING:
    from zwrap.compat.workflows.basics import (
        Disconnected as Disconnected,
        Error as Error,
        version as version,
    )

__version__ = "3.5"
"""Version of python-workflows whose names these are."""

__getattr__, __dir__ = offer(
    __name__,
    {
        "Disconnected": "zwrap.compat.workflows.basics",
        "Error": "zwrap.compat.workflows.basics",
        "version": "zwrap.compat.workflows.basics",
    },
    modules=("logging", "recipe", "services", "transport", "util"),
)
