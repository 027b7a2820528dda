"""``zocalo.util.rabbitmq``: RabbitMQ's management API, with the names of zwrap's own."""

from __future__ import annotations

from typing import Self

import httpx

from zwrap.compat.zocalo.util import responses
from zwrap.configuration.site import Configuration
from zwrap.errors import TransportError
from zwrap.transport.rabbitmq.management import api
from zwrap.transport.rabbitmq.management.api import *  # noqa: F403

__all__ = api.__all__


class NoServerError(TransportError, RuntimeError):
    """No configured server answers; python-zocalo raises RuntimeError then."""


class RabbitMQAPI(api.RabbitMQAPI):  # type: ignore[no-redef]  # goes before zwrap's own
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
