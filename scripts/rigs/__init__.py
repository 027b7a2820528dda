"""One module per server; RIGS names them."""

from .activemq import ActiveMQ
from .base import Rig, RigError
from .rabbitmq import RabbitMQ

RIGS: dict[str, type[Rig]] = {"activemq": ActiveMQ, "rabbitmq": RabbitMQ}

__all__ = ["RIGS", "RigError"]
