"""Plugin `ledger`: where it is written down which attempt is which job."""

from __future__ import annotations

from zwrap.configuration.core import Plugin, Settings, checked
from zwrap.configuration.merging import Section
from zwrap.errors import ConfigurationError


class LedgerSettings(Settings, kw_only=True, forbid_unknown_fields=True):
    """Keys of plugin `ledger`."""

    url: str
    """Of SQLAlchemy: ``postgresql+psycopg://user:password@host/database``."""


class Ledger(Plugin):
    """A database server that several submit hosts share."""

    settings = LedgerSettings

    @classmethod
    def validate(cls, section: Section) -> None:
        """Check the keys; only PostgreSQL is shared between hosts."""
        values: LedgerSettings = checked(section, LedgerSettings)
        if not values.url.startswith(("postgresql://", "postgresql+psycopg://")):
            raise ConfigurationError(
                f"{section.place('url')}: a URL such as postgresql+psycopg://user:password@host/"
                "database is expected. Without this section the ledger is SQLite in ZWRAP_STATE."
            )
