"""The plan: changes after which a RabbitMQ server has the configuration in a site's file.

Only vhosts that the file names, and users that its user files name, are changed, unless the
operator asks for more (`Foreign`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar
from urllib.parse import quote

import msgspec

from zwrap.errors import ConfigurationError, MessageError
from zwrap.transport.rabbitmq.delays import DEAD_LETTER_EXCHANGE
from zwrap.transport.rabbitmq.management.api import RabbitMQAPI, hash_password
from zwrap.transport.rabbitmq.management.models import (
    BindingInfo,
    BindingSpec,
    ExchangeInfo,
    ExchangeSpec,
    PermissionSpec,
    QueueInfo,
    QueueSpec,
    UserSpec,
)
from zwrap.transport.rabbitmq.management.wanted import Wanted
from zwrap.transport.rabbitmq.topology import DELAY

OWN_PREFIX = "zwrap."
"""Beginning of the names of queues and exchanges that zwrap creates itself, and of its policy."""


class Change(msgspec.Struct, frozen=True):
    """One step of a plan."""

    sign: str
    """Kind of change: ``+`` create, ``~`` change, ``-`` remove."""
    what: str
    carry_out: Callable[[], None]

    def __str__(self) -> str:
        return f"{self.sign} {self.what}"


class Foreign(msgspec.Struct, frozen=True):
    """Permissions of the operator to remove objects that the file does not own."""

    vhosts: bool = False
    users: bool = False
    messages: bool = False
    """True if queues that are not in the file may be removed although messages wait in them."""


NOTHING_FOREIGN = Foreign()

T = TypeVar("T")


def plan(api: RabbitMQAPI, wanted: Wanted, foreign: Foreign = NOTHING_FOREIGN) -> list[Change]:
    """Return the changes, in the order in which they can be made.

    Raises ConfigurationError if one of them is impossible.
    """
    there = {vhost.name for vhost in api.vhosts()}
    needed = wanted.owned - there - {vhost.name for vhost in wanted.vhosts}
    if needed:
        raise ConfigurationError(
            f"There is no vhost {min(needed)!r} on the server; list it under 'vhosts' or create it."
        )
    changes = [
        *_vhosts(api, wanted, foreign),
        *_users(api, wanted, foreign),
        *_permissions(api, wanted),
        *_policies(api, wanted),
        *_exchanges(api, wanted, there),
        *_queues(api, wanted, there, foreign),
        *_bindings(api, wanted, there),
    ]
    # Removals come last, and in reverse order: a binding before its queue.
    removed = [change for change in changes if change.sign == "-"]
    return [change for change in changes if change.sign != "-"] + removed[::-1]


def _vhosts(api: RabbitMQAPI, wanted: Wanted, foreign: Foreign) -> Iterator[Change]:
    """Yield the changes of virtual hosts."""
    there = {vhost.name: vhost for vhost in api.vhosts()}
    for vhost in wanted.vhosts:
        old = there.get(vhost.name)
        if old is None:
            yield Change("+", f"vhost {vhost.name!r}", partial(api.add_vhost, vhost))
        elif (old.description, set(old.tags), old.tracing) != (
            vhost.description, set(vhost.tags), vhost.tracing
        ):  # fmt: skip
            yield Change("~", f"vhost {vhost.name!r}", partial(api.add_vhost, vhost))
    if foreign.vhosts:
        for name in sorted(set(there) - wanted.owned - {"/"}):
            yield Change("-", f"vhost {name!r}", partial(api.delete_vhost, name))


def _users(api: RabbitMQAPI, wanted: Wanted, foreign: Foreign) -> Iterator[Change]:
    """Yield the changes of users; a password is compared by its hash."""
    there = {user.name: user for user in api.users()}
    for user in wanted.users:
        old = there.get(user.name)
        hashed = hash_password(user.password, old.password_hash if old else None)
        if old and (old.password_hash, set(old.tags)) == (hashed, set(user.tags)):
            continue
        spec = UserSpec(name=user.name, password_hash=hashed, tags=list(user.tags))
        sign = "~" if old else "+"
        yield Change(sign, f"user {user.name!r}", partial(api.user_put, spec))
    if foreign.users and wanted.users:
        for name in sorted(set(there) - {user.name for user in wanted.users}):
            yield Change("-", f"user {name!r}", partial(api.user_delete, name))


def _permissions(api: RabbitMQAPI, wanted: Wanted) -> Iterator[Change]:
    """Yield the changes of permissions."""
    found = api.permissions()
    existing: list[PermissionSpec] = found if isinstance(found, list) else [found]
    there = {(each.vhost, each.user): each for each in existing}
    named = {(each.vhost, each.user) for each in wanted.permissions}
    own_users = {user.name for user in wanted.users} | {each.user for each in wanted.permissions}
    for each in wanted.permissions:
        old = there.get((each.vhost, each.user))
        if old != each:
            what = f"permissions of user {each.user!r} in vhost {each.vhost!r}"
            yield Change("~" if old else "+", what, partial(api.set_permissions, each))
    for vhost, user in sorted(set(there) - named):
        if wanted.permissions and vhost in wanted.owned and user in own_users:
            what = f"permissions of user {user!r} in vhost {vhost!r}"
            yield Change("-", what, partial(api.clear_permissions, vhost, user))


def _policies(api: RabbitMQAPI, wanted: Wanted) -> Iterator[Change]:
    """Yield the changes of policies."""
    there = {(each.vhost, each.name): each for each in api.policies()}
    for each in wanted.policies:
        old = there.pop((each.vhost, each.name), None)
        if old != each:
            what = f"policy {each.name!r} in vhost {each.vhost!r}"
            yield Change("~" if old else "+", what, partial(api.set_policy, each))
    for vhost, name in sorted(there):
        if vhost in wanted.owned and not name.startswith(OWN_PREFIX):
            what = f"policy {name!r} in vhost {vhost!r}"
            yield Change("-", what, partial(api.clear_policy, vhost, name))


def _exchanges(api: RabbitMQAPI, wanted: Wanted, vhosts: set[str]) -> Iterator[Change]:
    """Yield the changes of exchanges; ConfigurationError for one that cannot be changed."""
    there = {(each.vhost, each.name): each for each in _all(api.exchanges, wanted.owned & vhosts)}
    for each in wanted.exchanges:
        old = there.pop((each.vhost, each.name), None)
        what = f"exchange {each.name!r} in vhost {each.vhost!r}"
        if old is None:
            yield Change("+", what, partial(api.exchange_declare, each))
        elif _exchange_kind(old) != _exchange_kind(each):
            raise _unchangeable(what, _exchange_kind(old), _exchange_kind(each))
    for (vhost, name), exchange in sorted(there.items()):
        if name and not name.startswith(("amq.", OWN_PREFIX)) and not exchange.auto_delete:
            what = f"exchange {name!r} in vhost {vhost!r}"
            yield Change("-", what, partial(api.exchange_delete, vhost, name))


def _exchange_kind(exchange: ExchangeSpec | ExchangeInfo) -> dict[str, object]:
    """Return the properties of an exchange that cannot be changed."""
    return {
        "type": exchange.type,
        "durable": bool(exchange.durable),
        "auto_delete": bool(exchange.auto_delete),
        "internal": bool(exchange.internal),
        "arguments": _effective(exchange.arguments),
    }


def _queues(
    api: RabbitMQAPI, wanted: Wanted, vhosts: set[str], foreign: Foreign
) -> Iterator[Change]:
    """Yield the changes of queues; ConfigurationError for one that cannot be changed."""
    there = {(each.vhost, each.name): each for each in _all(api.queues, wanted.owned & vhosts)}
    for each in wanted.queues:
        old = there.pop((each.vhost, each.name), None)
        what = f"queue {each.name!r} in vhost {each.vhost!r}"
        if old is None:
            yield Change("+", what, partial(api.queue_declare, each))
            continue
        kinds: list[dict[str, object]] = [
            {"durable": bool(it.durable), "arguments": _effective(it.arguments)}
            for it in (_as_wanted(old, each), each)
        ]
        if kinds[0] != kinds[1]:
            raise _unchangeable(what, *kinds)
    for (vhost, name), queue in sorted(there.items()):
        if not _temporary(queue):
            what = f"queue {name!r} in vhost {vhost!r}"
            remove = api.queue_delete if foreign.messages else partial(_delete_empty, api)
            yield Change("-", what, partial(remove, vhost, name))


def _as_wanted(old: QueueInfo, wanted: QueueSpec) -> QueueInfo:
    """Return a queue without the dead letter exchange that zwrap gave it, if it is a delay.

    The file wants it from a policy; there as an argument it holds as well.
    """
    if not old.name.startswith(DELAY) or DEAD_LETTER_EXCHANGE in (wanted.arguments or {}):
        return old
    found = copy.copy(old)
    found.arguments = {k: v for k, v in (old.arguments or {}).items() if k != DEAD_LETTER_EXCHANGE}
    return found


def _delete_empty(api: RabbitMQAPI, vhost: str, name: str) -> None:
    """Delete a queue unless a message waits in it; the counts of the API are seconds old."""
    place = f"queues/{quote(vhost, safe='')}/{quote(name, safe='')}"
    look = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
    answer = api.post(f"{place}/get", json=look)
    if not answer.is_success or answer.json():
        raise MessageError(
            f"Queue {name!r} in vhost {vhost!r} is not in the file and holds messages. Move them "
            "(zocalo.queue_drain), list the queue, or give --remove-messages."
        )
    api.queue_delete(vhost, name)


def _temporary(queue: QueueInfo) -> bool:
    """Return True for a queue that a client or zwrap created, and that the file need not name."""
    return bool(
        queue.auto_delete
        or queue.exclusive
        or not queue.name
        or queue.name.startswith(("amq.", OWN_PREFIX))
    )


def _bindings(api: RabbitMQAPI, wanted: Wanted, vhosts: set[str]) -> Iterator[Change]:
    """Yield the changes of bindings."""
    owned = wanted.owned & vhosts
    leave = {(queue.vhost, queue.name) for queue in _all(api.queues, owned) if _temporary(queue)}
    existing = [binding for vhost in sorted(owned) for binding in api.bindings(vhost)]
    there = {_ends(binding): binding for binding in existing if binding.source}
    for each in wanted.bindings:
        if there.pop(_ends(each), None) is None:
            yield Change("+", _binding_text(each), partial(api.binding_declare, each))
    for binding in there.values():
        place = (binding.vhost, binding.destination)
        if binding.source.startswith(("amq.", OWN_PREFIX)) or place in leave:
            continue
        ends = (binding.vhost, binding.source, binding.destination)
        kind, key = binding.destination_type.value, binding.properties_key
        yield Change("-", _binding_text(binding), partial(api.bindings_delete, *ends, kind, key))


def _ends(binding: BindingSpec | BindingInfo) -> tuple[str, ...]:
    """Return the properties that identify a binding."""
    return (
        binding.vhost,
        binding.source,
        binding.destination,
        binding.destination_type.value,
        binding.routing_key,
        repr(sorted((binding.arguments or {}).items())),
    )


def _binding_text(binding: BindingSpec | BindingInfo) -> str:
    """Return a description of a binding, for people."""
    return (
        f"binding {binding.source!r} -> {binding.destination!r} (routing key "
        f"{binding.routing_key!r}) in vhost {binding.vhost!r}"
    )


def _all(ask: Callable[[str], T | list[T]], vhosts: set[str]) -> list[T]:
    """Return the answers for all vhosts as one list."""
    answers = [ask(vhost) for vhost in sorted(vhosts)]
    return [each for found in answers if isinstance(found, list) for each in found]


def _effective(arguments: dict[str, object] | None) -> dict[str, object]:
    """Return the arguments without those that repeat a default, such as the type `classic`."""
    standard = {"x-queue-type": "classic", "x-single-active-consumer": False}
    return {k: v for k, v in (arguments or {}).items() if standard.get(k, ...) != v}


def _unchangeable(what: str, old: dict[str, object], new: dict[str, object]) -> ConfigurationError:
    """Return the error of an object whose properties differ and cannot be changed."""
    differences = "; ".join(f"{k}: {old[k]} -> {new[k]}" for k in old if old[k] != new[k])
    return ConfigurationError(
        f"The {what} is there and differs ({differences}). RabbitMQ cannot change that: empty and "
        "delete it first, or adapt the file to it. Nothing was changed."
    )
