"""Errors of pika and refusals of RabbitMQ as errors of zwrap, each with a sentence for people."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import pika.adapters.utils.connection_workflow as connecting
import pika.exceptions as faults

from zwrap.errors import ConfigurationError, TransportError, ZwrapError
from zwrap.transport.failures import (
    EncodingError,
    NoPermissionError,
    NoRouteError,
    TooLargeError,
)
from zwrap.transport.rabbitmq.settings import Server
from zwrap.transport.settings import untrusted

_BY_CODE: dict[int, type[ZwrapError]] = {403: NoPermissionError, 404: NoRouteError}
"""Reply code to the error that it means (www.rabbitmq.com/amqp-0-9-1-reference.html, constants)."""

_OF_A_MESSAGE: dict[int, type[ZwrapError]] = {**_BY_CODE, 311: TooLargeError, 406: TooLargeError}
"""Reply code with which RabbitMQ closes a channel because of one message, to the error.

406 (PRECONDITION_FAILED) is its answer to a body above ``max_message_size``, and to an expiration
that is too large; zwrap never sends the other properties that RabbitMQ checks.
"""

_OF_A_FRAME: dict[int, type[ZwrapError]] = dict.fromkeys((501, 502, 503, 505), EncodingError)
"""Reply code with which RabbitMQ closes a connection because of a frame that it cannot read, such
as one with larger headers than a frame may hold, to the error."""

SHOWN = 300
"""Number of characters that are shown of an error of pika, which may hold the whole value."""


def explained(error: BaseException, host: str, port: int, server: Server) -> ZwrapError:
    """Return the error of zwrap for an error of pika.

    The result is a ConfigurationError if another try cannot help, else a TransportError.
    """
    where = f"RabbitMQ at {host}:{port}"
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError):
            return untrusted(where, cause)
        if permanent := _permanent(cause, where, server):
            return ConfigurationError(permanent)
    for cause in _causes(error):
        if temporary := _temporary(cause, where):
            return TransportError(temporary)
    return TransportError(f"{where} cannot be used: {type(error).__name__}: {error}")


def refusal(error: BaseException) -> ZwrapError:
    """Return the error for a declaration that the server refused, or that cannot be written."""
    if not isinstance(error, (faults.AMQPConnectionError, faults.AMQPChannelError)):
        return unwritable(error)
    return _BY_CODE.get(getattr(error, "reply_code", 0), TransportError)(str(error))


def unwritable(error: BaseException) -> EncodingError:
    """Return the error of what pika cannot write."""
    return EncodingError(
        f"it cannot be written as AMQP: {str(error)[:SHOWN] or type(error).__name__}"
    )


def refused_message(error: BaseException) -> ZwrapError | None:
    """Return the error of the only message that a closed channel or connection can be about.

    None: the server closed it, as far as its reply code tells, for another reason.
    """
    kinds = _OF_A_FRAME if isinstance(error, faults.ConnectionClosed) else _OF_A_MESSAGE
    kind = kinds.get(getattr(error, "reply_code", 0))
    return kind(str(error)) if kind else None


def _permanent(cause: BaseException, where: str, server: Server) -> str | None:
    """Return a sentence about a failure that another try cannot cure; None for other failures."""
    if isinstance(cause, (faults.ProbableAuthenticationError, faults.AuthenticationError)):
        return f"{where} refuses user {server.username!r}: the user or the password is wrong."
    if isinstance(cause, faults.ProbableAccessDeniedError):
        return (
            f"{where} does not let user {server.username!r} use vhost {server.vhost!r}: there is "
            "no such vhost, or no permission."
        )
    if isinstance(cause, (faults.ConnectionClosedByBroker, faults.ChannelClosedByBroker)):
        code, text = cause.reply_code, str(cause.reply_text)
        if code == 403:
            if "Login was refused" in text or "ACCESS_REFUSED - Login" in text:
                return f"{where} refuses user {server.username!r}: user or password is wrong."
            return f"{where} refuses access: {text}."
        if code == 404:
            return f"{where} has no such thing: {text}. Is it declared (zocalo.configure_rabbitmq)?"
        if code == 405:
            return f"{where} keeps the queue for another connection: {text}."
        if code == 406 and "inequivalent arg" in text:
            return (
                f"{where} has the queue with other properties: {text}. Make the declaration equal "
                "to the queue, or passive, or delete the queue."
            )
        if code == 530:
            return (
                f"{where} does not let user {server.username!r} use vhost {server.vhost!r}: {text}."
            )
    return None


def _temporary(cause: BaseException, where: str) -> str | None:
    """Return a sentence about a failure that another try may cure; None for other failures."""
    if isinstance(cause, socket.gaierror):
        return f"{where} cannot be used: the name does not resolve ({cause.strerror})."
    if isinstance(cause, ConnectionRefusedError):
        return f"{where} refuses the connection: nothing listens there. Is the server up?"
    if isinstance(cause, (faults.IncompatibleProtocolError,)):
        return f"{where} does not speak AMQP; is the port right?"
    silent = "Timeout while setting up" in str(cause)
    if isinstance(cause, connecting.AMQPConnectorStackTimeout) or silent:
        return f"{where} accepts the connection and does not answer."
    if isinstance(cause, (TimeoutError, connecting.AMQPConnectorSocketConnectError)):
        inner = next(iter(cause.args), "")
        return f"{where} cannot be reached: {inner or 'no answer'}."
    if isinstance(cause, OSError) and cause.strerror:
        return f"{where} cannot be used: {cause.strerror}."
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors inside an error of pika, the innermost first."""
    for inner in (*error.args, error.__cause__, getattr(error, "exception", None)):
        if isinstance(inner, BaseException):
            yield from _causes(inner)
    for inner in getattr(error, "exceptions", None) or ():
        if isinstance(inner, BaseException):
            yield from _causes(inner)
    yield error
