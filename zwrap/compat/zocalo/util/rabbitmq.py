"""``zocalo.util.rabbitmq``: RabbitMQ's management API."""

from __future__ import annotations

from typing import Self

import httpx

from zwrap.compat.zocalo.util import responses
from zwrap.configuration.site import Configuration
from zwrap.errors import TransportError
from zwrap.transport.rabbitmq.management import api
from zwrap.transport.rabbitmq.management.http import hash_password, http_api_request
from zwrap.transport.rabbitmq.management.kinds import (
    ConnectionState,
    DestinationType,
    ExchangeType,
    HashingAlgorithm,
    NodeType,
    PolicyApplyTo,
    QueueState,
)
from zwrap.transport.rabbitmq.management.models import (
    BindingInfo,
    BindingSpec,
    ConnectionInfo,
    ExchangeInfo,
    ExchangeSpec,
    MessageStats,
    NodeInfo,
    PermissionSpec,
    PolicySpec,
    QueueInfo,
    QueueSpec,
    UserSpec,
    VHostSpec,
)

__all__ = [
    "BindingInfo",
    "BindingSpec",
    "ConnectionInfo",
    "ConnectionState",
    "DestinationType",
    "ExchangeInfo",
    "ExchangeSpec",
    "ExchangeType",
    "HashingAlgorithm",
    "MessageStats",
    "NodeInfo",
    "NodeType",
    "PermissionSpec",
    "PolicyApplyTo",
    "PolicySpec",
    "QueueInfo",
    "QueueSpec",
    "QueueState",
    "RabbitMQAPI",
    "UserSpec",
    "VHostSpec",
    "hash_password",
    "http_api_request",
]


class NoServerError(TransportError, RuntimeError):
    """No configured server answers; python-zocalo raises RuntimeError then."""


class RabbitMQAPI(api.RabbitMQAPI):
    """zwrap's `RabbitMQAPI`, with the errors of package requests where that is loaded."""

    @classmethod
    def from_zocalo_configuration(cls, zc: Configuration) -> Self:
        """Connect to the first configured server that answers; NoServerError if none does."""
        try:
            return super().from_zocalo_configuration(zc)
        except TransportError as error:
            raise NoServerError(str(error)) from None

    def refusal(self, sentence: str, response: httpx.Response) -> Exception:
        """Return the error of a request that the server refused."""
        return responses.refused(sentence, response)

    def unreachable(self, sentence: str) -> Exception:
        """Return the error of a server that does not answer."""
        return responses.unreachable(sentence)
