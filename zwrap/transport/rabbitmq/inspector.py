"""Queues and dead letters of a RabbitMQ server, asked over AMQP and the management API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, TransportError
from zwrap.transport.delayed import Delayed
from zwrap.transport.inspector import Inspector
from zwrap.transport.pipelined import ANSWER_WAIT_S
from zwrap.transport.rabbitmq import topology
from zwrap.transport.rabbitmq.connection import Connection
from zwrap.transport.rabbitmq.management import declaration
from zwrap.transport.rabbitmq.management.api import RabbitMQAPI
from zwrap.transport.rabbitmq.management.audit import audited
from zwrap.transport.rabbitmq.settings import Server


class RabbitMQInspector(Inspector):
    """The queues of a RabbitMQ server, seen from one connection.

    Names come from the management API. Counts are exact: the queues themselves are asked, because
    counts of the API are seconds old.
    """

    bounded_by: ClassVar[str] = (
        "RabbitMQ does not show how often a waiting message was delivered: the server's "
        "delivery-limit bounds that (quorum queues; 'zwrap check --broker' names queues without "
        "one), and zwrap's own services put aside what comes too often."
    )

    def __init__(
        self,
        connection: Connection,
        server: Server,
        configuration: Configuration,
        delayed: Delayed,
        flush: Callable[[], None],
        read_dead_letters: Callable[[str, int], None],
    ) -> None:
        self._connection = connection
        self._server = server
        self._configuration = configuration
        self._delayed = delayed
        """Messages that this connection has sent with a delay."""
        self._flush = flush
        self._read_dead_letters = read_dead_letters

    def queues(self) -> dict[str, int]:
        """Return the number of ready messages of all work queues of the vhost, by name."""
        return self._counted([name for name in self._names() if not topology.is_internal(name)])

    def waiting(self, queue: str) -> int:
        """Return the number of ready messages, and of those delayed by this connection.

        Raises MessageError if there is no such queue.
        """
        self._flush()
        return self._ask(queue, "message_count") + self._delayed.count(queue)

    def exists(self, queue: str, *, dead: bool = False) -> bool:
        """Return whether the server has a queue, or the dead letter queue of one."""
        place = topology.dead_letter_queue(queue) if dead else queue
        answer = self._connection.ask(topology.count(place), ANSWER_WAIT_S)
        return getattr(answer, "reply_code", None) != topology.NOT_FOUND

    def consumers(self, queue: str) -> int:
        """Return the number of consumers; MessageError if there is no such queue."""
        return self._ask(queue, "consumer_count")

    def dead_letters(self) -> dict[str, int]:
        """Return the number of dead letters of each queue that has any, by the queue's name."""
        self._flush()
        dead = {
            topology.dead_letter_queue(name): name
            for name in map(topology.source_of, self._names())
            if name
        }
        counts = self._counted(list(dead))
        return {dead[place]: count for place, count in counts.items() if count}

    def dead_letters_of(self, namespace: str) -> dict[str, int]:
        """Return the number of dead letters of each queue of a vhost that has any, by its name.

        Those of another vhost than that of the connection are counted by the management API, and
        some seconds old. Raises MessageError if it shows no such vhost, TransportError if it does
        not count yet.
        """
        if namespace == self._server.vhost:
            return self.dead_letters()
        try:
            with RabbitMQAPI.from_zocalo_configuration(self._configuration) as api:
                found = api.queues(namespace)
        except MessageError as error:
            raise MessageError(
                f"The dead letters of vhost {namespace!r} cannot be counted: {error} On RabbitMQ "
                f"-n takes a vhost; that of this connection is {self._server.vhost!r}."
            ) from None
        counts = {}
        for queue in found if isinstance(found, list) else [found]:
            name = topology.source_of(queue.name)
            if name and queue.messages is None:
                raise TransportError(
                    f"The management API does not count the messages of {queue.name!r} in vhost "
                    f"{namespace!r} (yet). Try again."
                )
            if name and queue.messages:
                counts[name] = queue.messages
        return dict(sorted(counts.items()))

    def subscribe_dead_letters(self, queue: str, prefetch: int = 1) -> None:
        """Begin to receive from the dead letter queue of `queue`, which is created if missing."""
        self._connection.ensure(topology.dead_letters_exist(queue), ANSWER_WAIT_S)
        self._read_dead_letters(queue, prefetch)

    def audit(self) -> list[str]:
        """Return a sentence for each work queue in which a message may be lost or stay for ever."""
        with RabbitMQAPI.from_zocalo_configuration(self._configuration) as api:
            return audited(api, self._server.vhost)

    def missing_permissions(self, topics: Sequence[str]) -> list[str]:
        """Return a sentence for each permission that the user of this connection lacks."""
        vhost = self._server.vhost
        with RabbitMQAPI.from_zocalo_configuration(self._configuration) as api:
            found = declaration.names(api, vhost, topics)
            return list(declaration.missing(api, vhost, self._server.username, found))

    def declaration(self, topics: Sequence[str]) -> str:
        """Return what a site has to make for zwrap, for `zocalo.configure_rabbitmq`."""
        vhost = self._server.vhost
        with RabbitMQAPI.from_zocalo_configuration(self._configuration) as api:
            return declaration.declaration(declaration.names(api, vhost, topics), vhost)

    def _ask(self, queue: str, what: str) -> int:
        """Return a count of a queue; MessageError if there is no such queue."""
        if self._server.declare:
            need = topology.queue_exists(queue, self._server.declare)
            self._connection.ensure(need, ANSWER_WAIT_S)
        count = self._count(queue, what)
        if count is None:
            raise MessageError(f"Queue {queue!r} does not exist on {self._connection.where}.")
        return count

    def _count(self, queue: str, what: str = "message_count") -> int | None:
        """Return a count of a queue; None if the queue cannot be asked."""
        count = self._connection.ask(topology.count(queue, what), ANSWER_WAIT_S)
        return count if isinstance(count, int) else None

    def _counted(self, names: list[str]) -> dict[str, int]:
        """Return the number of ready messages of those queues that exist, by name."""
        counts = {name: self._count(name) for name in names}
        return {name: count for name, count in counts.items() if count is not None}

    def _names(self) -> list[str]:
        """Return the names of all queues of the vhost."""
        with RabbitMQAPI.from_zocalo_configuration(self._configuration) as api:
            found = api.queues(self._server.vhost)
        return sorted(queue.name for queue in found) if isinstance(found, list) else []
