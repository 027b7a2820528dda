"""What the transports for RabbitMQ and ActiveMQ have in common."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from zwrap.compat.workflows.basics import Error
from zwrap.compat.workflows.transport.site_transport import SiteTransport
from zwrap.errors import ConfigurationError
from zwrap.transport.settings import from_file


class BrokerTransport(SiteTransport):
    """Transport for a server that an INI file of python-workflows may describe, too."""

    sections: ClassVar[tuple[str, ...]]
    """Names of its section in such a file, the usual one first."""

    @classmethod
    def load_configuration_file(cls, filename: str | Path) -> None:
        """Set `defaults` to what the section of an INI file says; others stay.

        Raises Error if the file cannot be read or has no such section.
        """
        try:
            given = from_file(Path(filename), cls.sections)
        except ConfigurationError as error:
            raise Error(str(error)) from error
        for option, field in cls.options.items():
            if field in given:
                cls.defaults[option] = given[field]
