"""The sections that hold plain settings, as types: transports, servers, workers and databases.

Fields are those of python-zocalo and python-workflows. A message about a fault names file, line and
key, and never shows the value, which may be a secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self, TypeVar

import msgspec
from msgspec.structs import replace

from zwrap.configuration.faults import raise_all
from zwrap.errors import ConfigurationError
from zwrap.message.jsontext import typed

if TYPE_CHECKING:  # a short job without configuration loads no YAML
    from zwrap.configuration.merging import Section

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

_ISPYB_URLS = ("mysql://", "mariadb://", "mysql+mysqlconnector://", "mariadb+mysqlconnector://")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of one plugin's section; subclasses add fields."""

    plugin: str

    def checked(self, section: Section) -> Self:
        """Return the settings with absolute paths.

        Raises:
            ConfigurationError: A value has the right type, and is wrong all the same.
        """
        del section
        return self


S = TypeVar("S", bound=msgspec.Struct)
"""Type of a section: one of `Settings`, or one that knows nothing of sections (`Limits`)."""


def decoded(section: Section, kind: type[S]) -> S:
    """Return the typed values of a section.

    Raises:
        ConfigurationError: A value is wrong; the text names file, line and key.
        FaultsError: Several are.
    """
    of_section = issubclass(kind, Settings)
    given = {key: value for key, value in section.value.items() if of_section or key != "plugin"}
    try:
        found = typed(given, kind)
        return found.checked(section) if isinstance(found, Settings) else found
    except msgspec.ValidationError as error:
        raise_all(list(_faults(section, given, kind)))
        raise ConfigurationError(_sentence(str(error), section)) from None


def _faults(
    section: Section, given: Mapping[str, object], kind: type[msgspec.Struct]
) -> Iterator[ConfigurationError]:
    """Yield the fault of each key of a section that is missing or has a wrong value."""
    for field in msgspec.structs.fields(kind):
        key = field.encode_name
        if key in given:
            try:
                typed(given[key], field.type)
            except msgspec.ValidationError as error:
                what, _, inside = str(error).partition(" - at `$")
                route = f"{key}{inside.rstrip('`')}"
                yield ConfigurationError(_sentence(f"{what} - at `$.{route}`", section))
        elif field.required:
            yield ConfigurationError(
                f"{section.place()} has no key {key!r}, which plugin "
                f"{section.value['plugin']!r} needs. Known keys: {', '.join(keys(kind))}."
            )
    if kind.__struct_config__.forbid_unknown_fields:
        for key in given:
            if key not in keys(kind):
                yield ConfigurationError(
                    f"{section.place(key)}: no such key is known. Known keys: "
                    f"{', '.join(keys(kind))}."
                )


def keys(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the keys of a section, as they are written in the file."""
    names = (field.encode_name for field in msgspec.structs.fields(kind))
    return tuple(dict.fromkeys(("plugin", *names)))


def _kind(name: str) -> str:
    """Return the name that users know for a type of msgspec, or for a union of types."""
    kinds = [name] if name in _KINDS else [each for each in name.split(" | ") if each != "null"]
    return " or ".join(_KINDS.get(kind, kind) for kind in kinds)


def _sentence(error: str, section: Section) -> str:
    """Return an error of msgspec as a message with file, line and key."""
    what, _, route = error.partition(" - at `$.")
    key = route.rstrip("`").split(".")[0].split("[")[0]
    if what.startswith("Expected `"):
        _, expected, bound, *rest = what.split("`")
        if not rest:  # the type is right
            return f"{section.place(key)}: {_kind(expected)}{bound} is expected."
        got = rest[0]
        quotes = (
            "; put it in quotes" if expected == "str" and got in ("int", "float", "bool") else ""
        )
        return f"{section.place(key)}: {_kind(expected)} is expected, not {_kind(got)}{quotes}."
    return f"{section.place(key) if key else section.place()}: {what}."


class TransportSettings(Settings, frozen=True, kw_only=True):
    """Keys of plugin `transport`."""

    default: str
    """Name of the transport that is used unless `-t` names another."""


class SpoolSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of plugin `spool`."""

    path: str
    """Directory of the spool, relative to the file that holds the section."""
    durable: bool = True
    """True if messages survive a power cut (fsync), not only the death of processes."""
    out_limit: int = 10_000
    """Number of waiting messages above which a sender waits; 0: no limit."""
    out_wait: float = 10.0
    """Pause of a sender that waits for room, in seconds."""

    def checked(self, section: Section) -> Self:
        """Return the settings with an absolute path."""
        return replace(self, path=str(section.source.base / Path(self.path).expanduser()))


class StompSettings(Settings, frozen=True, kw_only=True):
    """Keys of plugin `stomp` (ActiveMQ); host and port may be lists with commas."""

    host: str
    port: int | str
    username: str
    password: str
    prefix: str
    heartbeat_s: float | str | None = None
    tls: bool | str | None = None
    ca_file: str | None = None


class PikaSettings(Settings, frozen=True, kw_only=True):
    """Keys of plugin `pika` (RabbitMQ); host and port may be lists with commas."""

    host: str
    port: int | str
    username: str
    password: str
    vhost: str
    heartbeat_s: int | str | None = None
    tls: bool | str | None = None
    ca_file: str | None = None
    declare: str | None = None


class SMTPSettings(Settings, frozen=True, kw_only=True):
    """Keys of plugin `smtp`."""

    host: str
    port: int
    sender: str = msgspec.field(name="from", default="")

    def checked(self, section: Section) -> Self:
        """Return the settings; ConfigurationError if the sender does not look like an address."""
        if self.sender and not (0 < self.sender.find("@") < len(self.sender) - 1):
            raise ConfigurationError(
                f"{section.place('from')} is {self.sender!r}; an e-mail address is expected."
            )
        return self


class JMXSettings(Settings, frozen=True, kw_only=True):
    """Keys of plugin `jmx` (ActiveMQ's Jolokia)."""

    host: str
    port: int
    base_url: str
    username: str
    password: str
    broker: str = "localhost"
    """The broker's own name (`brokerName` in activemq.xml)."""


class RabbitMQAPISettings(Settings, frozen=True, kw_only=True):
    """Keys of plugin `rabbitmqapi`; base_url may be a list with commas, tried in order."""

    base_url: str
    username: str
    password: str
    vhost: str = "/"


class SlurmSettings(Settings, frozen=True, kw_only=True):
    """Keys of plugins `slurm` and `iris` of python-zocalo (slurmrestd)."""

    url: str
    api_version: str
    user: str | None = None
    user_token: str | None = None
    """A token, or the path of a file that holds one."""


class ConsumersSettings(Settings, frozen=True, kw_only=True):
    """Keys of plugin `consumers`; `zwrap.workers.consumers.settings` reads their values."""

    consumers: list[object]
    queues: list[object] | None = None
    startup_handler: str | None = None


class WorkersSettings(Settings, frozen=True, kw_only=True):
    """Keys of plugin `workers`."""

    modules: list[str]
    """Python modules with workers."""
    errors: str | None = None
    """Directory of error reports; None: ``worker-errors`` in the state directory."""

    def checked(self, section: Section) -> Self:
        """Return the settings with an absolute path."""
        if not self.errors:
            return replace(self, errors=None)
        return replace(self, errors=str(section.source.base / Path(self.errors).expanduser()))


class ISPyBSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of plugin `ispyb`: the facility's database."""

    credentials: str | None = None
    """File with the credentials in the form of ``ispyb.sqlalchemy``, relative to the file that
    holds the section; None and no `url`: that of environment variable ``ISPYB_CREDENTIALS``."""
    url: str | None = None
    """Database URL in place of such a file: ``mysql://user:password@host:3306/database``."""
    remembered_days: Annotated[int, msgspec.Meta(ge=1)] = 60
    """Time for which it is remembered that a message was written, in days."""
    look_up: bool = False
    """True if the Dispatcher fills in what the database knows about the data of a request."""
    parameters: dict[str, str] = {}
    """Further parameters that it fills in, by name: templates, in order."""

    def checked(self, section: Section) -> Self:
        """Return the settings with an absolute path; ConfigurationError for a wrong URL."""
        if self.credentials and self.url:
            raise ConfigurationError(
                f"{section.place('url')}: 'url' and 'credentials' are both given; one is expected."
            )
        if self.url and not self.url.startswith(_ISPYB_URLS):
            raise ConfigurationError(
                f"{section.place('url')}: a URL such as mysql://user:password@host:3306/ispyb is "
                "expected."
            )
        for name in self.parameters:
            if not name.startswith("ispyb_"):
                raise ConfigurationError(
                    f"{section.place('parameters')}: {name!r} is no name for a parameter of the "
                    "look-up; one that begins with 'ispyb_' is expected."
                )
        if not self.credentials:
            return self
        file = section.source.base / Path(self.credentials).expanduser()
        return replace(self, credentials=str(file))


class LedgerSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of plugin `ledger`: a database server that several submit hosts share."""

    url: str
    """Database URL of SQLAlchemy: ``postgresql+psycopg://user:password@host/database``."""

    def checked(self, section: Section) -> Self:
        """Return the settings; ConfigurationError unless the URL is for PostgreSQL."""
        if not self.url.startswith(("postgresql://", "postgresql+psycopg://")):
            raise ConfigurationError(
                f"{section.place('url')}: a URL such as postgresql+psycopg://user:password@host/"
                "database is expected. Without this section the ledger is SQLite in ZWRAP_STATE."
            )
        return self
