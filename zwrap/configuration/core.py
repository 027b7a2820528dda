"""The plugins whose sections hold plain settings: storage, transports, servers of the site.

Fields are those of python-zocalo and python-workflows. What a section says is checked when it is
activated; a complaint names file, line and key, and never shows the value, which may be a secret.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from zwrap.configuration.merging import Section
from zwrap.errors import ConfigurationError

_KINDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "nothing",
    "array": "a list",
    "object": "a mapping",
    "int | str": "a port number, or a text with several of them",
}


class Settings(msgspec.Struct, kw_only=True):
    """What a section of one plugin may hold; subclasses add fields."""

    plugin: str


class Plugin:
    """A plugin whose section is checked against `settings` and returned as it is."""

    settings: ClassVar[type[Settings]] = Settings

    @classmethod
    def validate(cls, section: Section) -> None:
        """Raise ConfigurationError that names the first wrong key."""
        checked(section, cls.settings)

    @classmethod
    def known_keys(cls) -> tuple[str, ...]:
        """Keys that mean something."""
        return tuple(field.encode_name for field in msgspec.structs.fields(cls.settings))

    @classmethod
    def activate(cls, configuration: Mapping[str, Any]) -> Any:
        """The section."""
        return dict(configuration)


def checked(section: Section, kind: type[Any]) -> Any:
    """The typed values of a section, or ConfigurationError that names file, line and key."""
    for field in msgspec.structs.fields(kind):
        if field.required and field.encode_name not in section.value:
            known = ", ".join(f.encode_name for f in msgspec.structs.fields(kind))
            raise ConfigurationError(
                f"{section.place()} has no key {field.encode_name!r}, which plugin "
                f"{section.value['plugin']!r} needs. Known keys: {known}."
            )
    try:
        return msgspec.convert(section.value, kind)
    except msgspec.ValidationError as error:
        raise ConfigurationError(_sentence(str(error), section, kind)) from None


def _sentence(error: str, section: Section, kind: type[Any]) -> str:
    """msgspec's complaint in the words of a site file."""
    what, _, route = error.partition(" - at `$.")
    key = route.rstrip("`").split(".")[0].split("[")[0]
    if what.startswith("Object contains unknown field"):
        unknown = what.split("`")[1]
        known = ", ".join(field.encode_name for field in msgspec.structs.fields(kind))
        return f"{section.place(unknown)}: no such key is known. Known keys: {known}."
    if what.startswith("Expected `"):
        expected, got = what.split("`")[1], what.split("`")[3] if what.count("`") > 3 else "?"
        quotes = (
            "; put it in quotes" if expected == "str" and got in ("int", "float", "bool") else ""
        )
        return (
            f"{section.place(key)}: {_KINDS.get(expected, expected)} is expected, not "
            f"{_KINDS.get(got, got)}{quotes}."
        )
    return f"{section.place(key) if key else section.place()}: {what}."


class Storage:
    """Free keys and values; several active blocks are merged, later ones win."""

    @staticmethod
    def activate(configuration: Mapping[str, Any], config_object: Any) -> dict[str, Any]:
        """The merged values of all blocks so far."""
        values = {k: copy.deepcopy(v) for k, v in configuration.items() if k != "plugin"}
        return {**(config_object.storage or {}), **values}


class TransportSettings(Settings, kw_only=True):
    """Keys of plugin `transport`."""

    default: str


class Transport(Plugin):
    """Name of the transport that is used when `-t` names no other."""

    settings = TransportSettings

    @classmethod
    def activate(cls, configuration: Mapping[str, Any]) -> str:
        """The name."""
        name: str = configuration["default"]
        return name


class SpoolSettings(Settings, kw_only=True, forbid_unknown_fields=True):
    """Keys of plugin `spool`."""

    path: str
    durable: bool = True
    """Survive a power cut (fsync), not only the death of processes."""
    out_limit: int = 10_000
    out_wait: float = 10.0


class Spool(Plugin):
    """The directory of the file spool and how careful to be with it."""

    settings = SpoolSettings

    @classmethod
    def activate(cls, section: Section) -> SpoolSettings:  # type: ignore[override]
        """The settings, with an absolute path."""
        values: SpoolSettings = checked(section, SpoolSettings)
        path = section.source.base / Path(values.path).expanduser()
        return msgspec.structs.replace(values, path=str(path))


class StompSettings(Settings, kw_only=True):
    """Keys of plugin `stomp` (ActiveMQ); host and port may be lists with commas."""

    host: str
    port: int | str
    username: str
    password: str
    prefix: str


class Stomp(Plugin):
    """Where ActiveMQ is."""

    settings = StompSettings


class PikaSettings(Settings, kw_only=True):
    """Keys of plugin `pika` (RabbitMQ); host and port may be lists with commas."""

    host: str
    port: int | str
    username: str
    password: str
    vhost: str


class Pika(Plugin):
    """Where RabbitMQ is."""

    settings = PikaSettings


class SMTPSettings(Settings, kw_only=True):
    """Keys of plugin `smtp`."""

    host: str
    port: int
    sender: str = msgspec.field(name="from", default="")


class SMTP(Plugin):
    """Where mail is handed over."""

    settings = SMTPSettings

    @classmethod
    def validate(cls, section: Section) -> None:
        """Check the keys; the sender must look like an address."""
        values: SMTPSettings = checked(section, SMTPSettings)
        if values.sender and not (0 < values.sender.find("@") < len(values.sender) - 1):
            raise ConfigurationError(
                f"{section.place('from')} is {values.sender!r}; an e-mail address is expected."
            )


class JMXSettings(Settings, kw_only=True):
    """Keys of plugin `jmx` (ActiveMQ's Jolokia)."""

    host: str
    port: int
    base_url: str
    username: str
    password: str


class JMX(Plugin):
    """Where ActiveMQ can be asked."""

    settings = JMXSettings


class RabbitMQAPISettings(Settings, kw_only=True):
    """Keys of plugin `rabbitmqapi`; base_url may be a list with commas, tried in order."""

    base_url: str
    username: str
    password: str
    vhost: str = "/"


class RabbitMQAPI(Plugin):
    """Where RabbitMQ's management plug-in can be asked."""

    settings = RabbitMQAPISettings

    @classmethod
    def activate(cls, configuration: Mapping[str, Any]) -> Any:
        """The section, vhost included."""
        return {"vhost": "/", **configuration}


class SlurmSettings(Settings, kw_only=True):
    """Keys of plugins `slurm` and `iris` (slurmrestd)."""

    url: str
    api_version: str
    user: str | None = None
    user_token: str | None = None
    """A token, or the path of a file that holds one."""


class Slurm(Plugin):
    """Where slurmrestd is."""

    settings = SlurmSettings


class ConsumersSettings(Settings, kw_only=True):
    """Keys of plugin `consumers`; what is in them is `zwrap.workers.consumers`' matter."""

    consumers: list[Any]
    queues: list[Any] | None = None
    startup_handler: str | None = None


class Consumers(Plugin):
    """Consumers of plain AMQP messages, for `amqp-dispatcher`."""

    settings = ConsumersSettings

    @classmethod
    def activate(cls, configuration: Mapping[str, Any]) -> Any:
        """The section, in the form of a file of amqp-dispatcher."""
        return {key: value for key, value in configuration.items() if key != "plugin"}


class WorkersSettings(Settings, kw_only=True):
    """Keys of plugin `workers`."""

    modules: list[str]
    errors: str | None = None
    """Directory of the files of errors; default: ``worker-errors`` in the state directory."""


class Workers(Plugin):
    """Python modules with functions of `zwrap.workers.functions`, for `zwrap process_queue`."""

    settings = WorkersSettings

    @classmethod
    def activate(cls, section: Section) -> dict[str, Any]:  # type: ignore[override]
        """The section, with an absolute path."""
        values: WorkersSettings = checked(section, WorkersSettings)
        errors = section.source.base / Path(values.errors).expanduser() if values.errors else None
        return {"modules": values.modules, "errors": errors and str(errors)}
