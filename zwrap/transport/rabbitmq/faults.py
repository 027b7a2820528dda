"""What went wrong with a connection to RabbitMQ, as one sentence that says what to do."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import pika.adapters.utils.connection_workflow as connecting
import pika.exceptions as faults

from zwrap.errors import ConfigurationError, TransportError, ZwrapError
from zwrap.transport.rabbitmq.settings import Server
from zwrap.transport.settings import untrusted


def explained(error: BaseException, host: str, port: int, server: Server) -> ZwrapError:
    """The error as ours: ConfigurationError if trying again cannot help, else TransportError."""
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


def _permanent(cause: BaseException, where: str, server: Server) -> str | None:
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
    """The errors inside an error of pika, the innermost first."""
    for inner in (*error.args, error.__cause__, getattr(error, "exception", None)):
        if isinstance(inner, BaseException):
            yield from _causes(inner)
    for inner in getattr(error, "exceptions", None) or ():
        if isinstance(inner, BaseException):
            yield from _causes(inner)
    yield error
