"""The sections of a site configuration that zwrap itself uses, typed.

Each section is decoded when it is first used, so that a job is neither delayed nor ended by a
section that it does not use.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import asdict

from zwrap.configuration.security import OPEN, SecuritySettings
from zwrap.configuration.settings import (
    ConsumersSettings,
    ISPyBSettings,
    JMXSettings,
    LedgerSettings,
    PikaSettings,
    RabbitMQAPISettings,
    S,
    SlurmSettings,
    SMTPSettings,
    SpoolSettings,
    StompSettings,
    TransportSettings,
    WorkersSettings,
    decoded,
)
from zwrap.errors import ConfigurationError
from zwrap.host.beneath import AllowedDirectories
from zwrap.message.limits import Limits, Sizes

if TYPE_CHECKING:  # a short job without configuration loads no YAML
    from zwrap.configuration.clusters import ClusterSettings
    from zwrap.configuration.merging import Section


class Site:
    """The active sections of a site; None stands for a section or key that does not exist.

    Every property raises ConfigurationError, with file, line and key, if its section is wrong.

    Args:
        active: Active sections by plugin, in the order of their activation.
        base: Directory from which relative paths in storage sections start.
    """

    def __init__(self, active: Mapping[str, list[Section]], base: Path) -> None:
        self._active = active
        self._base = base

    # -- storage ---------------------------------------------------------------------------------

    @cached_property
    def storage(self) -> dict[str, object]:
        """All storage keys, merged; later sections win."""
        return {
            key: value
            for section in self._active.get("storage", ())
            for key, value in section.value.items()
            if key != "plugin"
        }

    @cached_property
    def recipe_directory(self) -> Path | None:
        """Directory of the recipes that requests name."""
        return self.directory("zocalo.recipe_directory")

    @cached_property
    def template_directory(self) -> Path | None:
        """Directory of the site's own job script templates."""
        return self.directory("zwrap.template_directory")

    @cached_property
    def program_directory(self) -> Path | None:
        """Directory of the site's own program definitions."""
        return self.directory("zwrap.program_directory")

    @cached_property
    def drop_directory(self) -> Path | None:
        """Directory of the requests that could not be sent (`zocalo.go.fallback_location`)."""
        return self.directory("zocalo.go.fallback_location")

    @cached_property
    def dead_letter_directory(self) -> Path | None:
        """Directory of exported dead letters (`zocalo.dlq.purge_location`)."""
        return self.directory("zocalo.dlq.purge_location")

    @cached_property
    def logbook_directory(self) -> Path | None:
        """Directory of the Dispatcher's logbook (`zocalo.dispatcher.logbook_location`)."""
        return self.directory("zocalo.dispatcher.logbook_location")

    @cached_property
    def quote_commands(self) -> bool:
        """True if each parameter that is put into shell commands stays one word."""
        return bool(self.storage.get("zwrap.quote_commands"))

    @cached_property
    def scheduler(self) -> str | None:
        """Name of the cluster for steps that name none."""
        return self._text("scheduler")

    @cached_property
    def default_transport(self) -> str | None:
        """Name of the transport: from plugin `transport`, else from storage."""
        given = self._last("transport", TransportSettings)
        return given.default if given else self._text("zocalo.default_transport")

    # -- messages --------------------------------------------------------------------------------

    @cached_property
    def spool(self) -> SpoolSettings | None:
        """The file spool."""
        return self._last("spool", SpoolSettings)

    @cached_property
    def pika(self) -> PikaSettings | None:
        """Address and credentials of RabbitMQ."""
        return self._last("pika", PikaSettings)

    @cached_property
    def rabbitmqapi(self) -> RabbitMQAPISettings | None:
        """Address and credentials of RabbitMQ's management plug-in."""
        return self._last("rabbitmqapi", RabbitMQAPISettings)

    @cached_property
    def stomp(self) -> StompSettings | None:
        """Address and credentials of ActiveMQ."""
        return self._last("stomp", StompSettings)

    @cached_property
    def jmx(self) -> JMXSettings | None:
        """Address and credentials of ActiveMQ's management."""
        return self._last("jmx", JMXSettings)

    # -- jobs ------------------------------------------------------------------------------------

    @cached_property
    def clusters(self) -> dict[str, ClusterSettings]:
        """The described clusters by name; a later description replaces an earlier one."""
        from zwrap.configuration.clusters import described

        return {
            name: cluster
            for section in self._active.get("clusters", ())
            for name, cluster in described(section).items()
        }

    @cached_property
    def slurm(self) -> SlurmSettings | None:
        """A slurmrestd, as python-zocalo describes it."""
        return self._last("slurm", SlurmSettings)

    @cached_property
    def iris(self) -> SlurmSettings | None:
        """A second slurmrestd, as python-zocalo describes it."""
        return self._last("iris", SlurmSettings)

    @cached_property
    def ledger(self) -> LedgerSettings | None:
        """The database server of the ledger."""
        return self._last("ledger", LedgerSettings)

    @cached_property
    def limits(self) -> Limits:
        """Limits of sizes and names; the defaults without a section."""
        sizes = self._last("limits", Sizes) or Sizes()
        return Limits(**asdict(sizes), open_names=self.security.queues)

    # -- who may do what -------------------------------------------------------------------------

    @cached_property
    def security(self) -> SecuritySettings:
        """What messages may do; all of it without a section."""
        return self._last("security", SecuritySettings) or OPEN

    @cached_property
    def allowed(self) -> AllowedDirectories:
        """Directories below which messages may name paths."""
        return self.security.allowed()

    # -- databases -------------------------------------------------------------------------------

    @cached_property
    def ispyb(self) -> ISPyBSettings | None:
        """The facility's database."""
        return self._last("ispyb", ISPyBSettings)

    # -- services --------------------------------------------------------------------------------

    @cached_property
    def smtp(self) -> SMTPSettings | None:
        """The mail server."""
        return self._last("smtp", SMTPSettings)

    @cached_property
    def workers(self) -> WorkersSettings | None:
        """Python modules with workers."""
        return self._last("workers", WorkersSettings)

    @cached_property
    def consumers(self) -> dict[str, object] | None:
        """Consumers of plain AMQP messages, in the form of a file of amqp-dispatcher."""
        if self._last("consumers", ConsumersSettings) is None:
            return None
        given = self._active["consumers"][-1].value
        return {key: value for key, value in given.items() if key != "plugin"}

    # --------------------------------------------------------------------------------------------

    def places(self, plugin: str) -> list[str]:
        """Return file, line and key of each active section of a plugin."""
        return [section.place() for section in self._active.get(plugin, ())]

    def _last(self, plugin: str, kind: type[S]) -> S | None:
        """Return the last active section of a plugin; None if there is none."""
        sections = self._active.get(plugin)
        return decoded(sections[-1], kind) if sections else None

    def _text(self, key: str) -> str | None:
        """Return the text under a storage key; None if there is none."""
        value = self.storage.get(key)
        if not value:
            return None
        if isinstance(value, str):
            return value
        place = next(
            section.place(key)
            for section in reversed(self._active["storage"])
            if key in section.value
        )
        raise ConfigurationError(f"{place} is {value!r}; a text is expected.")

    def directory(self, key: str) -> Path | None:
        """Return the directory under a storage key; relative paths start from the site file."""
        value = self._text(key)
        return self._base / Path(value).expanduser() if value else None
