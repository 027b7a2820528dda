"""A transport for tests, which only logs what it would send."""

from __future__ import annotations

import json
import logging
import pprint
import uuid
from typing import Any, ClassVar

from zwrap.compat.workflows.transport.common_transport import (
    CommonTransport,
    MessageCallback,
    json_serializer,
)
from zwrap.host.processes import host_id

log = logging.getLogger("workflows.transport.offline_transport")


class OfflineTransport(CommonTransport):
    """A transport without another side."""

    defaults: ClassVar[dict[str, Any]] = {}
    config: ClassVar[dict[str, Any]] = {}

    def __init__(self, middleware: list[Any] | None = None) -> None:
        super().__init__(middleware)
        self._connected = False

    def connect(self) -> bool:
        """Count as connected; return True."""
        self._connected = True
        return True

    def is_connected(self) -> bool:
        """Tell whether `connect` was called last."""
        return self._connected

    def disconnect(self) -> None:
        """Count as not connected."""
        self._connected = False

    def broadcast_status(self, status: dict[str, Any]) -> None:
        """Log a status message."""
        _say("Writing status message", pprint.pformat(status))

    def _subscribe(
        self,
        sub_id: int,
        channel: str,
        callback: MessageCallback,
        **kwargs: Any,
    ) -> None:
        _say(f"Subscribing to messages on {channel}", _described(sub_id, callback, kwargs))

    def _subscribe_broadcast(
        self,
        sub_id: int,
        channel: str,
        callback: MessageCallback,
        **kwargs: Any,
    ) -> None:
        _say(f"Subscribing to broadcasts on {channel}", _described(sub_id, callback, kwargs))

    def _subscribe_temporary(
        self,
        sub_id: int,
        channel_hint: str | None,
        callback: MessageCallback,
        **kwargs: Any,
    ) -> str:
        name = (channel_hint or host_id()).removeprefix("transient.")
        channel = f"transient.{name}.{uuid.uuid4()}"
        self._subscribe(sub_id, channel, callback, **kwargs)
        return channel

    def _unsubscribe(self, sub_id: int, **kwargs: Any) -> None:
        _say(f"Ending subscription #{sub_id}", f"further keywords: {kwargs}")

    def _send(self, destination: str, message: str, **_kwargs: Any) -> None:
        _say(f"Sending {len(message)} bytes to {destination}", message)

    def _broadcast(self, destination: str, message: str, **_kwargs: Any) -> None:
        _say(f"Broadcasting {len(message)} bytes to {destination}", message)

    def _transaction_begin(self, transaction_id: int, **_kwargs: Any) -> None:
        _say(f"Starting transaction {transaction_id}")

    def _transaction_abort(self, transaction_id: int, **_kwargs: Any) -> None:
        _say(f"Rolling back transaction {transaction_id}")

    def _transaction_commit(self, transaction_id: int, **_kwargs: Any) -> None:
        _say(f"Committing transaction {transaction_id}")

    def _ack(self, message_id: object, subscription_id: int, **_kwargs: Any) -> None:
        _say(f"Acknowledging message {message_id} in subscription {subscription_id}")

    def _nack(self, message_id: object, subscription_id: int, **_kwargs: Any) -> None:
        _say(f"Rejecting message {message_id} in subscription {subscription_id}")

    @staticmethod
    def _mangle_for_sending(message: Any) -> str:
        """Return a message as JSON text, as other transports do."""
        return json.dumps(message, default=json_serializer)


def _say(what: str, details: object = "") -> None:
    """Log what a transport would do, and what with."""
    log.info("Offline Transport: %s", what)
    if details:
        log.debug("%s", details)


def _described(number: int, callback: object, further: dict[str, Any]) -> str:
    """Return a subscription as text."""
    return f"subscription ID {number}, callback function {callback}, further keywords: {further}"
