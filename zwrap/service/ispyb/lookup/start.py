"""Start of the look-up in a Dispatcher."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError
from zwrap.service.ispyb.database import Database

if TYPE_CHECKING:
    from zwrap.service.ispyb.lookup.filter import LookUp


def look_up(configuration: Configuration) -> LookUp:
    """Return the look-up that a site file turns on.

    Raises:
        ConfigurationError: The database is not described, or package ispyb is not installed.
    """
    if importlib.util.find_spec("ispyb") is None:
        raise ConfigurationError(
            "The look-up in ISPyB (look_up: true) needs the package ispyb: "
            "pip install 'zwrap[ispyb]'."
        )
    database = Database.of(configuration)
    from zwrap.service.ispyb.lookup.filter import LookUp

    settings = configuration.site.ispyb
    templates = settings.parameters if settings else {}
    return LookUp(database.reading, templates, configuration.site.limits)
