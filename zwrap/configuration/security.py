"""Plugin `security`: the key of the site, and what is obeyed only if it is signed with that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from zwrap.configuration.settings import Settings
from zwrap.host.paths import state_directory
from zwrap.host.sitekey import SiteKey

if TYPE_CHECKING:
    from zwrap.configuration.merging import Section
    from zwrap.configuration.site import Configuration

KEY_FILE = "site.key"
"""Name of the file with the key in the state directory, for a site that names no other."""


class SecuritySettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of plugin `security`."""

    plugin: str = "security"
    key_file: str | None = None
    """File with the key of the site, relative to the file that holds the section."""
    signed_commands: bool = False
    """True if services obey only those commands (`zocalo.shutdown`) that are signed with the key
    of the site."""

    def checked(self, section: Section) -> SecuritySettings:
        """Return the settings with an absolute path."""
        if not self.key_file:
            return replace(self, key_file=None)
        return replace(self, key_file=str(section.source.base / Path(self.key_file).expanduser()))


def site_key(configuration: Configuration, *, create: bool = True) -> SiteKey:
    """Return the key of a site; with `create` a file that is missing is made at its first use."""
    named = configuration.site.security.key_file
    return SiteKey(Path(named) if named else state_directory() / KEY_FILE, create=create)
