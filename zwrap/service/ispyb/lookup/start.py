"""Start of the look-up in a Dispatcher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zwrap.configuration.site import Configuration
from zwrap.service.ispyb.database import Database, check_installed

if TYPE_CHECKING:
    from zwrap.service.ispyb.lookup.filter import LookUp


def look_up(configuration: Configuration) -> LookUp:
    """Return the look-up that a site file turns on.

    Raises:
        ConfigurationError: The database is not described, or package ispyb is not installed.
    """
    check_installed("The look-up in ISPyB (look_up: true)")
    database = Database.of(configuration)
    from zwrap.service.ispyb.lookup.filter import LookUp

    settings = configuration.site.ispyb
    templates = settings.parameters if settings else {}
    return LookUp(database.reading, templates, configuration.site.limits)
