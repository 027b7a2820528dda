"""A message as the steps that it asks for: both forms of bodies, command lists, remainders.

The forms are those of python-dlstbx's service: a recipe message whose parameters hold the command,
or a plain ``{"parameters": ..., "content": ...}``. Parameters are looked up in the command of a
list, then in the payload, then in those of the recipe step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from zwrap.errors import MessageError, TemporaryError, short
from zwrap.message.content import REINJECTED_HEADER, Message
from zwrap.message.identity import digest_of, is_own_id
from zwrap.message.limits import Limits
from zwrap.recipe.envelope import Envelope
from zwrap.service.ispyb.commands.table import MULTIPART, command
from zwrap.service.ispyb.contract import Command, Value
from zwrap.transport.contract import Delivery
from zwrap.transport.signing import Signer
from zwrap.units import LONGEST_S

LIST = "ispyb_command_list"
COMMAND, STORE = "ispyb_command", "store_result"
BUFFER = "buffer"
"""Command whose payload may name where its result is stored, as a command of a list does."""

Values = Mapping[str, Value]


class Step(NamedTuple):
    """One command of a message."""

    command: Command
    sources: tuple[Values, ...]
    """Mappings in which its parameters are looked up, in this order."""
    stores: tuple[str, ...]
    """Names under which its value is put into the environment."""
    place: str
    """Which of several commands it is, for sentences; empty if it is the only one."""


class Request(NamedTuple):
    """What a message asks for."""

    steps: list[Step]
    environment: dict[str, Value]
    stores: tuple[str, ...]
    """Names under which the value of the last command is put into the environment."""
    delay_s: float | None
    """Time after which a message that cannot be handled yet comes again; None: the command's."""
    reinjected: bool
    """True if a person sent the message again from the dead letters."""


class Answer(msgspec.Struct, frozen=True):
    """What follows from a message, as it is stored with its rows."""

    result: Value = None
    environment: dict[str, Value] = {}
    """Values that were added to the environment, or changed in it."""
    sent: list[tuple[str, Value]] = []
    """Outputs and payloads of messages beside the reply."""


def read(message: Message, envelope: Envelope | None, limits: Limits) -> Request:
    """Return what a message asks for.

    Raises:
        MessageError: It is no such message.
    """
    parameters, payload = _parts(message, envelope)
    content: Values = payload if isinstance(payload, dict) else {}
    given = parameters.get(COMMAND)
    if not isinstance(given, str) or not given:
        raise MessageError(
            f"The message has no command: a name is expected as parameter {COMMAND!r}, and "
            f"{short(given)} is there."
        )
    stores = _stores(parameters, "the recipe step")
    if given == MULTIPART:
        steps = _steps(_commands(parameters, content, limits), content, parameters)
    else:
        own = _stores(content, "the payload") if given == BUFFER else ()
        steps = [Step(command(given), (content, parameters), own, "")]
    return Request(
        steps,
        dict(envelope.environment) if envelope else {},
        stores,
        _delay_s(parameters),
        message.headers.get(REINJECTED_HEADER) in (True, "True", "true", 1),
    )


def identity(delivery: Delivery, signer: Signer) -> tuple[str, bool]:
    """Return the identity of a message, and whether only this message has it.

    Anybody may use any id, so the origin belongs to it, as to the token of a job: that which a
    service of the site has signed, else the content. Then somebody else's message of the same id is
    another one, and what a service sends once more is the same one, though a recipe has changed.

    That of a message that brought no id, over a broker that gives none, is a digest of its content,
    which an equal message has, too; with the property ``message_id`` of AMQP, which need not be
    unique by itself, it is one of both.
    """
    message = delivery.message
    if is_own_id(message):
        return f"{message.id}/{signer.origin(message).text}", True
    if given := delivery.original.properties.get("message_id"):
        return f"content-{digest_of([given, message.body])}", True
    return f"content-{digest_of(message.body)}", False


def later(error: TemporaryError, request: Request) -> TemporaryError:
    """Return an error of a command with the delay of the recipe step, if that has one."""
    if error.retry_after_s is not None and request.delay_s is not None:
        error.retry_after_s = request.delay_s
    return error


def _parts(message: Message, envelope: Envelope | None) -> tuple[Values, Value]:
    """Return the parameters of a message's step, and its payload."""
    if envelope is not None:
        return envelope.parameters, envelope.payload
    body = message.body
    parameters = body.get("parameters") if isinstance(body, dict) else None
    content = body.get("content") if isinstance(body, dict) else None
    if not isinstance(parameters, dict) or not parameters or not content:
        raise MessageError(
            "A plain message for ISPyB is an object with 'parameters', an object that is not "
            f"empty, and 'content', the payload; this is {short(body)}."
        )
    return parameters, content


def _commands(parameters: Values, content: Values, limits: Limits) -> list[Values]:
    """Return the commands of a list, that of the payload before that of the recipe step."""
    where = "the payload" if content.get(LIST) is not None else "the recipe step"
    given = content[LIST] if content.get(LIST) is not None else parameters.get(LIST)
    if not isinstance(given, list) or not given:
        raise MessageError(
            f"Command {MULTIPART!r} has no commands: a list of objects with {COMMAND!r} is "
            f"expected under {LIST!r}, and {short(given)} is there ({where})."
        )
    if len(given) > limits.commands:
        raise MessageError(
            f"The message has {len(given)} commands; up to {limits.commands} are carried out in "
            "one transaction (section limits, key 'commands')."
        )
    return given


def _steps(commands: list[Values], content: Values, parameters: Values) -> list[Step]:
    """Return the steps of a command list."""
    steps = []
    for number, each in enumerate(commands, 1):
        place = f"command {number} of {len(commands)}"
        given = each.get(COMMAND) if isinstance(each, dict) else None
        if not isinstance(given, str) or not given:
            raise MessageError(
                f"{place.capitalize()} in {LIST!r} is {short(each)}; an object with the name of a "
                f"command under {COMMAND!r} is expected."
            )
        if given == MULTIPART:
            raise MessageError(
                f"{place.capitalize()} in {LIST!r} is {MULTIPART!r}; there are no lists in lists, "
                "so put its commands in its place."
            )
        sources: tuple[Values, ...] = (each, content, parameters)
        changed = content.get("step_message") if number == 1 else None
        if isinstance(changed, dict):  # python-dlstbx's service has begun with this command
            sources = (changed, *sources)
        steps.append(Step(command(given, place), sources, _stores(each, place), place))
    return steps


def _stores(given: Values, where: str) -> tuple[str, ...]:
    """Return the name under ``store_result``, if there is one."""
    name = given.get(STORE)
    if name is None or name == "":
        return ()
    if not isinstance(name, str):
        raise MessageError(f"{STORE!r} is {short(name)}; a name is expected ({where}).")
    return (name,)


def _delay_s(parameters: Values) -> float | None:
    """Return the delay of the recipe step, in seconds, if it has one."""
    given = parameters.get("delay")
    if not isinstance(given, (int, float)) or isinstance(given, bool):
        return None
    return float(given) if 0 <= given <= LONGEST_S else None
