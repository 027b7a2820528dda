"""Consumers of plain AMQP messages, declared in a file: the form of amqp-dispatcher 0.11 to 1.2.

::

    startup_handler: site.start:prepare      # called once, before anything else
    queues:                                  # declared and bound before they are read
      - queue: notify
        durable: true                        # also auto_delete, exclusive, passive
        x_message_ttl: 60000                 # any x_... is an argument of the queue
        bindings:
          - {exchange: beamline, routing_key: scan.*}
    consumers:
      - consumer: site.notify:Consumer       # consume(amqp, msg) and shutdown(exception)
        queue: notify
        prefetch_count: 10
        consumer_count: 2                    # instances, each on its own thread

Consumers run on RabbitMQ only, because exchanges and bindings are those of AMQP.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TypeVar

import msgspec

from zwrap.errors import ConfigurationError
from zwrap.message.jsontext import typed
from zwrap.transport.rabbitmq.topology import QueueDeclaration

Positive = Annotated[int, msgspec.Meta(ge=1)]
Text = Annotated[str, msgspec.Meta(min_length=1)]


class Binding(msgspec.Struct, frozen=True):
    """An existing exchange, and the routing key of the messages that the queue gets from it."""

    exchange: Text
    routing_key: str = ""


class QueueSettings(msgspec.Struct, frozen=True):
    """One entry of `queues`."""

    queue: Text
    durable: bool = True
    auto_delete: bool = False
    exclusive: bool = False
    passive: bool = False
    """True if the queue belongs to somebody else: it must exist, with any arguments."""
    bindings: tuple[Binding, ...] = ()


class ConsumerSettings(msgspec.Struct, frozen=True):
    """One entry of `consumers`."""

    consumer: Text
    queue: Text
    prefetch_count: Positive = 1
    consumer_count: Positive = 1


class Settings(msgspec.Struct):
    """The usable contents of a file of consumers, and its faults."""

    startup_handler: str | None
    queues: dict[str, QueueDeclaration]
    consumers: list[ConsumerSettings]
    faults: list[str]
    """Reasons why the consumers cannot be run, a sentence each."""
    remarks: list[str]
    """Remarks about keys without effect."""


KEYS = ("startup_handler", "queues", "consumers")
_FALSE_IS_UNSET = (
    "x_dead_letter_exchange", "x_dead_letter_routing_key", "x_max_length", "x_expires",
    "x_message_ttl",
)  # fmt: skip
"""Arguments that amqp-dispatcher leaves out if they are empty or 0."""

S = TypeVar("S", bound=msgspec.Struct)


def read(data: object) -> Settings:
    """Return the settings in a YAML document, with all their faults."""
    settings = Settings(None, {}, [], [], [])
    if not isinstance(data, Mapping):
        settings.faults.append(f"A mapping with the keys {', '.join(KEYS)} is expected.")
        return settings
    settings.remarks += [f"key {key!r} means nothing here" for key in data if key not in KEYS]
    handler = data.get("startup_handler")
    if handler is not None and not isinstance(handler, str):
        settings.faults.append("startup_handler: a text module:function is expected.")
    else:
        settings.startup_handler = handler
    for place, entry in _entries(data, "queues", settings):
        if queue := _queue(place, entry, settings):
            settings.queues[queue.name] = queue
    for place, entry in _entries(data, "consumers", settings):
        if consumer := _converted(place, entry, ConsumerSettings, settings):
            settings.consumers.append(consumer)
    if not data.get("consumers"):
        settings.faults.append("No consumers specified")
    return settings


def _entries(
    data: Mapping[str, object], key: str, settings: Settings
) -> Iterator[tuple[str, object]]:
    """Yield the entries of a list, each with its place for messages to people."""
    entries = data.get(key) or []
    if not isinstance(entries, list):
        settings.faults.append(f"{key}: a list is expected.")
        return
    for number, entry in enumerate(entries, 1):
        name = (entry.get("consumer") or entry.get("queue")) if isinstance(entry, dict) else None
        yield f"[{name or f'{key}, entry {number}'}]", entry


def _queue(place: str, entry: object, settings: Settings) -> QueueDeclaration | None:
    """Return the queue in an entry; None, and a fault, if it is wrong."""
    if not isinstance(entry, dict):
        settings.faults.append(f"{place} A mapping with the key 'queue' is expected.")
        return None
    arguments = {
        key.replace("_", "-"): value
        for key, value in entry.items()
        if str(key).startswith("x_") and (value if key in _FALSE_IS_UNSET else value is not None)
    }
    rest = {key: value for key, value in entry.items() if not str(key).startswith("x_")}
    made = _converted(place, rest, QueueSettings, settings)
    if made is None:
        return None
    bindings = [(binding.exchange, binding.routing_key) for binding in made.bindings]
    return QueueDeclaration(
        made.queue,
        made.passive,
        made.durable,
        made.auto_delete,
        made.exclusive,
        arguments,
        bindings,
    )


def _converted(place: str, entry: object, kind: type[S], settings: Settings) -> S | None:
    """Return the typed values of an entry; None, and a fault, if it is wrong."""
    given = _without_nulls(entry)
    known = kind.__struct_fields__
    if isinstance(given, dict):
        settings.remarks += [
            f"{place} key {key!r} means nothing here; known: {', '.join(known)}"
            for key in given
            if key not in known
        ]
    try:
        return typed(given, kind)
    except msgspec.ValidationError as error:
        settings.faults.append(f"{place} {error}")
        return None


def _without_nulls(entry: object) -> object:
    """Return a mapping without keys whose value is null, any other value as it is."""
    if isinstance(entry, dict):
        return {key: value for key, value in entry.items() if value is not None}
    return entry


Loaded = dict[str, Callable[[], Any]]
"""Name in the settings to the start-up handler or consumer class."""


def load(settings: Settings) -> Loaded:
    """Import the start-up handler and the consumers by name; failures are noted as faults."""
    wanted = {each.consumer: ("consume", "shutdown") for each in settings.consumers}
    handler = {settings.startup_handler: ()} if settings.startup_handler else {}
    found = {
        name: _imported(name, settings, methods) for name, methods in {**handler, **wanted}.items()
    }
    return {name: each for name, each in found.items() if each}


def _imported(name: str, settings: Settings, methods: tuple[str, ...]) -> Callable[[], Any] | None:
    """Import a callable that has `methods`; its module may fail in any way."""
    module, colon, rest = name.partition(":")
    if not (module and colon and rest):
        settings.faults.append(f"[{name}] is not a valid name; module:object is expected")
        return None
    try:
        found: Callable[[], Any] = pkgutil.resolve_name(name)
    except (Exception, SystemExit) as error:
        settings.faults.append(f"[{name}] cannot be imported: {type(error).__name__}: {error}")
        return None
    missing = [method for method in methods if not callable(getattr(found, method, None))]
    if missing or not callable(found):
        wanted = " and ".join(missing) if missing else "a call"
        settings.faults.append(f"[{name}] cannot be used: it has no {wanted}")
    return found


def checked(settings: Settings, where: str) -> Loaded:
    """Import the objects that the settings name; ConfigurationError lists all faults."""
    loaded = load(settings)
    if settings.faults:
        raise ConfigurationError(f"{where} cannot be used: " + "; ".join(settings.faults))
    return loaded
