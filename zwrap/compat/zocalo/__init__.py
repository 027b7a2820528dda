"""The names of python-zocalo's modules, carried out by zwrap (docs/compat-zocalo.md)."""

from typing import TYPE_CHECKING

from zwrap.plugins.offering import offer

if TYPE_CHECKING:
    from zwrap import __version__ as __version__
    from zwrap.errors import ConfigurationError as ConfigurationError

__getattr__, __dir__ = offer(
    __name__,
    {"ConfigurationError": "zwrap.errors", "__version__": "zwrap"},
    modules=("configuration", "util"),
)
