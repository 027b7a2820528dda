"""``zocalo.cli.dlq_check``: numbers of dead letters, as health checks of sites ask for them."""

from __future__ import annotations

from zwrap.compat.zocalo.util.jmxstats import JMXAPI
from zwrap.compat.zocalo.util.rabbitmq import RabbitMQAPI
from zwrap.configuration.site import Configuration
from zwrap.errors import TransportError
from zwrap.plugins.offering import offer

__getattr__, _ = offer(
    __name__, {}, {"run": "the command is `zocalo.dlq_check` of zwrap, a program of its own."}
)


def check_dlq(zc: Configuration, namespace: str | None = None) -> dict[str, int]:
    """Return the number of messages in each dead letter queue of an ActiveMQ, by its name.

    Args:
        zc: The configuration, with plugin `jmx`.
        namespace: Prefix of the site's queues; None: all dead letter queues.

    Raises:
        TransportError: The server does not tell.
    """
    prefix = f"DLQ.{namespace}." if namespace else "DLQ."
    answer = JMXAPI(zc).org.apache.activemq(
        type="Broker",
        brokerName=(zc.jmx or {}).get("broker", "localhost"),
        destinationType="Queue",
        destinationName=f"{prefix}*",
        attribute="QueueSize",
    )
    if answer["status"] not in (200, 404):  # 404: there are none
        raise TransportError(f"ActiveMQ does not count dead letters: {answer.get('error')}.")
    return {
        _queue(name): values["QueueSize"] for name, values in (answer.get("value") or {}).items()
    }


def _queue(bean: str) -> str:
    """Return the queue of a managed object."""
    properties = dict(pair.partition("=")[::2] for pair in bean.rpartition(":")[2].split(","))
    return properties["destinationName"]


def check_dlq_rabbitmq(zc: Configuration, namespace: str | None = None) -> dict[str, int]:
    """Return the number of messages in each dead letter queue of a RabbitMQ that is not empty.

    Args:
        zc: The configuration, with plugin `rabbitmqapi`.
        namespace: A vhost; None: all.
    """
    with RabbitMQAPI.from_zocalo_configuration(zc) as rabbitmq:
        queues = rabbitmq.queues()
    return {
        queue.name: queue.messages
        for queue in (queues if isinstance(queues, list) else [queues])
        if queue.name.startswith("dlq.") and queue.messages and namespace in (None, queue.vhost)
    }
