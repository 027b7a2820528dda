"""The file with a site's configuration of RabbitMQ, in the format of zocalo.configure_rabbitmq."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import TypeVar

import msgspec

from zwrap.errors import ConfigurationError
from zwrap.host.given import read_text_given
from zwrap.transport.rabbitmq.management.kinds import DestinationType
from zwrap.transport.rabbitmq.management.models import (
    BindingSpec,
    ExchangeSpec,
    PermissionSpec,
    PolicySpec,
    QueueSpec,
    VHostSpec,
)
from zwrap.transport.rabbitmq.management.spec import Spec

S = TypeVar("S", bound=Spec)


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """A part of the file; an unknown key is an error."""


class _VHost(msgspec.Struct):
    """An entry of ``vhosts``."""

    name: str
    description: str = ""
    tags: list[str] = []
    tracing: bool = False


class _Permission(msgspec.Struct):
    """An entry of ``permissions``."""

    vhost: str
    user: str
    configure: str
    write: str
    read: str


class _Binding(_File):
    """An entry of ``bindings``."""

    source: str
    destination: str
    vhost: str
    destination_type: DestinationType = DestinationType.QUEUE
    routing_key: str | None = None
    arguments: dict[str, object] = {}


class _Exchange(_File):
    """An entry of ``exchanges``."""

    name: str
    type: str
    vhost: str
    durable: bool = False
    auto_delete: bool = False
    internal: bool = False
    arguments: dict[str, object] = {}


class _Policy(_File, rename={"apply_to": "apply-to"}):
    """An entry of ``policies``."""

    vhost: str
    name: str
    pattern: str = "^amq."
    definition: dict[str, object] = {}
    priority: int = 0
    apply_to: str = "queues"


class _Queues(_File, rename=lambda name: name.replace("_", "-")):
    """Settings for the queues of a group; ``{name}`` in the pattern stands for the queue."""

    type: str = "classic"
    dead_letter_routing_key_pattern: str | None = None
    dead_letter_exchange: str = ""
    dead_letter_queue_create: bool = True
    arguments: dict[str, object] = {}
    """Further arguments; python-zocalo has no such key."""


class _GroupExchanges(_File):
    type: str = "direct"


class _GroupSettings(_File):
    """Settings of a group."""

    queues: _Queues = msgspec.field(default_factory=_Queues)
    single_active_consumer: bool = False
    broadcast: bool = False
    exchanges: _GroupExchanges = msgspec.field(default_factory=_GroupExchanges)


class _Group(_File):
    """An entry of ``groups``: queues, or exchanges for broadcasts, with the same settings."""

    names: list[str]
    vhost: str = "/"
    settings: _GroupSettings = msgspec.field(default_factory=_GroupSettings)
    bindings: list[str] = msgspec.field(default_factory=lambda: [""])


class _Content(_File):
    """The content of the file."""

    policies: list[_Policy]
    exchanges: list[_Exchange]
    vhosts: list[_VHost] = []
    permissions: list[_Permission] = []
    bindings: list[_Binding] = []
    groups: list[_Group] = []


class User(msgspec.Struct, frozen=True):
    """A user and the password in clear text."""

    name: str
    password: str
    tags: tuple[str, ...]


class Wanted(msgspec.Struct):
    """Everything that should exist on the server."""

    vhosts: list[VHostSpec]
    permissions: list[PermissionSpec]
    policies: list[PolicySpec]
    queues: list[QueueSpec]
    exchanges: list[ExchangeSpec]
    bindings: list[BindingSpec]
    users: list[User] = []

    @property
    def owned(self) -> set[str]:
        """Names of the vhosts in the file, the only ones in which objects may be removed."""
        parts = (self.policies, self.queues, self.exchanges, self.bindings, self.permissions)
        return {vhost.name for vhost in self.vhosts} | {
            part.vhost for group in parts for part in group
        }


def wanted_from(content: object, where: str) -> Wanted:
    """Return the configuration in a file's content; ConfigurationError names the wrong key."""
    try:
        file = msgspec.convert(content, _Content)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{where}: {error}.") from None
    wanted = Wanted(
        vhosts=[_converted(vhost, VHostSpec) for vhost in file.vhosts],
        permissions=[_converted(each, PermissionSpec) for each in file.permissions],
        policies=[_converted(policy, PolicySpec) for policy in file.policies],
        queues=[],
        exchanges=[_converted(exchange, ExchangeSpec) for exchange in file.exchanges],
        bindings=[
            _converted(msgspec.structs.replace(each, routing_key=_key(each)), BindingSpec)
            for each in file.bindings
        ],
    )
    for group in file.groups:
        if group.settings.broadcast:
            wanted.exchanges += [
                ExchangeSpec(name=name, type="fanout", vhost=group.vhost, durable=True)
                for name in group.names
            ]
        else:
            _add_queues(wanted, group)
    for kind, specs in (
        ("queue", wanted.queues), ("policy", wanted.policies), ("exchange", wanted.exchanges)
    ):  # fmt: skip
        names = [(spec.vhost, spec.name) for spec in specs]
        for vhost, name in sorted({each for each in names if names.count(each) > 1}):
            raise ConfigurationError(f"{where}: {kind} {name!r} of vhost {vhost!r} is there twice.")
    return wanted


def _add_queues(wanted: Wanted, group: _Group) -> None:
    """Add the queues of a group, their dead letter queues and their bindings."""
    settings = group.settings.queues
    pattern = settings.dead_letter_routing_key_pattern
    for name in group.names:
        arguments: dict[str, object] = {"x-queue-type": settings.type, **settings.arguments}
        if settings.type != "stream":
            arguments["x-single-active-consumer"] = group.settings.single_active_consumer
        if pattern:
            arguments["x-dead-letter-exchange"] = settings.dead_letter_exchange
            arguments["x-dead-letter-routing-key"] = pattern.replace("{name}", name)
        wanted.queues.append(
            QueueSpec(name=name, vhost=group.vhost, durable=True, arguments=arguments)
        )
        if pattern and settings.dead_letter_queue_create:
            wanted.queues.append(
                QueueSpec(
                    name=pattern.replace("{name}", name),
                    vhost=group.vhost,
                    durable=True,
                    arguments={"x-queue-type": settings.type},
                )
            )
        wanted.bindings += [
            BindingSpec(
                source=source,
                destination=name,
                destination_type=DestinationType.QUEUE,
                vhost=group.vhost,
                routing_key=name,
            )
            for source in group.bindings
            if source  # every queue is bound to the default exchange
        ]


def _converted(part: msgspec.Struct, kind: type[S]) -> S:
    """Return a part of the file as a value of the API."""
    return kind(**msgspec.structs.asdict(part))


def _key(binding: _Binding) -> str:
    """Return the routing key of a binding; its default is the name of the destination."""
    return binding.destination if binding.routing_key is None else binding.routing_key


def users_from(directory: Path) -> list[User]:
    """Return the users in sections ``[rabbitmq]`` of all ``*.ini`` files below a directory.

    Raises ConfigurationError if a file is wrong, or a user is declared twice.
    """
    if not directory.is_dir():
        raise ConfigurationError(
            f"{directory} is not a directory; one with *.ini files of users is expected."
        )
    users: dict[str, Path] = {}
    found = []
    for path in sorted(directory.glob("**/*.ini")):
        user = _user_from(path)
        if user.name in users:
            raise ConfigurationError(
                f"{path} declares user {user.name!r}, as {users[user.name]} does."
            )
        users[user.name] = path
        found.append(user)
    return found


def _user_from(path: Path) -> User:
    """Return the user in a file; messages about faults never show its content."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_text_given(path))
        section = parser["rabbitmq"]
        name, password = section["username"], section["password"]
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from None
    except KeyError as error:
        raise ConfigurationError(
            f"{path} has no {error}; a section [rabbitmq] with username and password is expected."
        ) from None
    except (configparser.Error, UnicodeDecodeError):
        raise ConfigurationError(
            f"{path} is not a valid INI file."
        ) from None  # it holds a password
    if not name or not password:
        raise ConfigurationError(f"{path} has an empty username or password.")
    tags = tuple(tag.strip() for tag in section.get("tags", "").split(",") if tag.strip())
    return User(name, password, tags)
