"""The Zocalo site file, read and checked, as one value that is passed to all who need it."""

from typing import TYPE_CHECKING

from zwrap.plugins.offering import offer

if TYPE_CHECKING:
    from zwrap.configuration.site import (
        Configuration as Configuration,
        from_file as from_file,
        from_string as from_string,
    )

__getattr__, __dir__ = offer(
    __name__,
    {
        "Configuration": "zwrap.configuration.site",
        "from_file": "zwrap.configuration.site",
        "from_string": "zwrap.configuration.site",
    },
)
