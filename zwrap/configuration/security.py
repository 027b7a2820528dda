"""Section ``security`` of a site file: what messages may do, and the key of the site.

docs/security.md describes it.

Without the section, or a key of it, messages may do what they could before there was one; only
zwrap's own queues and topics are no targets for recipes (`zwrap.recipe.destinations`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from msgspec.structs import replace

from zwrap.configuration.settings import Settings
from zwrap.errors import ConfigurationError, MessageError, ProgramError
from zwrap.host.beneath import ANYWHERE, AllowedDirectories

if TYPE_CHECKING:  # a short job without configuration loads no YAML
    from zwrap.configuration.merging import Section

SETTING = "section security, key {key!r}"
"""Name of a key for people."""


class SecuritySettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of plugin `security`."""

    directories: tuple[str, ...] = ()
    """Absolute paths of the directories below which messages may name paths; empty: anywhere."""
    custom_recipe: bool = True
    """True if a request may bring a recipe of its own (`custom_recipe`)."""
    inline_command: bool = True
    """True if a step of wrapper `command` may bring the command (`job_parameters`)."""
    runner: bool = True
    """True if the Runner may run here, which executes commands of messages on this host."""
    queues: tuple[str, ...] = ()
    """Names, or patterns, of zwrap's own queues and topics that recipes may send to."""
    key_file: str | None = None
    """File with the key of the site, relative to the file that holds the section."""
    signed_commands: bool = False
    """True if services obey only those commands (`zocalo.shutdown`) that are signed with the key
    of the site."""

    def checked(self, section: Section) -> Self:
        """Return the settings with an absolute path of the key.

        Raises ConfigurationError for a directory or pattern that means nothing.
        """
        for path in self.directories:
            if not path.startswith("/") or ".." in Path(path).parts or "\0" in path:
                raise ConfigurationError(
                    f"{section.place('directories')}: {path!r} is no absolute path without '..'; "
                    "a list of such paths is expected."
                )
        for pattern in self.queues:
            if not pattern.strip():
                raise ConfigurationError(
                    f"{section.place('queues')}: {pattern!r} names no queue; a list of names or "
                    "patterns such as 'zwrap.site.*' is expected."
                )
        key = self.key_file and str(section.source.base / Path(self.key_file).expanduser())
        return replace(self, key_file=key or None)

    def allowed(self) -> AllowedDirectories:
        """Return the directories below which messages may name paths."""
        if not self.directories:
            return ANYWHERE
        return AllowedDirectories([*map(Path, self.directories)], SETTING.format(key="directories"))

    def check_custom_recipe(self) -> None:
        """Raise MessageError if requests may bring no recipes."""
        if not self.custom_recipe:
            raise MessageError(
                "Key 'custom_recipe' of the request holds a recipe, and this site runs only the "
                f"recipes of its own directory ({SETTING.format(key='custom_recipe')}). Name one "
                "of those under 'recipes'."
            )

    def check_inline_command(self, where: str, key: str = "command") -> None:
        """Raise ProgramError, which begins with `where`, if steps may bring no commands."""
        if not self.inline_command:
            instead = (
                "Name one of those instead of wrapper 'command'."
                if key == "command"
                else "Put such lines under 'set_up' of the program's definition instead."
            )
            raise ProgramError(
                f"{where}, job_parameters, key {key!r} brings a command, and this site runs "
                "only the programs that it has definitions of "
                f"({SETTING.format(key='inline_command')}). {instead}"
            )

    def check_runner(self) -> None:
        """Raise ConfigurationError if no Runner may run."""
        if not self.runner:
            raise ConfigurationError(
                "No Runner may run on this site, because it executes the commands of messages "
                f"({SETTING.format(key='runner')})."
            )


OPEN = SecuritySettings(plugin="security")
"""Settings of a site without such a section."""
