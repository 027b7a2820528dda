"""One module per server."""

from .base import RigError
from .rabbitmq import RabbitMQ

RIGS = {"rabbitmq": RabbitMQ}

__all__ = ["RIGS", "RigError"]
