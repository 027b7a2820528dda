"""``zocalo.configuration``: the site file."""

from typing import TYPE_CHECKING

from zwrap.plugins.offering import offer

if TYPE_CHECKING:
    from zwrap.compat.zocalo.configuration.reading import (
        Configuration as Configuration,
        from_file as from_file,
        from_string as from_string,
    )
    from zwrap.compat.zocalo.configuration.schema import PluginSchema as PluginSchema
    from zwrap.errors import ConfigurationError as ConfigurationError

__getattr__, __dir__ = offer(
    __name__,
    {
        "Configuration": "zwrap.compat.zocalo.configuration.reading",
        "ConfigurationError": "zwrap.errors",
        "PluginSchema": "zwrap.compat.zocalo.configuration.schema",
        "from_file": "zwrap.compat.zocalo.configuration.reading",
        "from_string": "zwrap.compat.zocalo.configuration.reading",
    },
    {
        "ConfigSchema": "zwrap checks the site file itself; `zwrap check` reads all of it.",
    },
    modules=("argparse",),
)
