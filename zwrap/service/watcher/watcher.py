"""Station "watcher": follows all jobs, and concludes attempts for wrappers that cannot.

All jobs of a cluster take one question per interval, and a second one for jobs that are gone.
Changes are written to the ledger and broadcast. A cluster that cannot be asked is reported as away,
and changes no job. A job directory is opened only after the batch system has told that the job is
gone. From clusters without a shared filesystem the verdicts of wrappers come as messages.
"""

from __future__ import annotations

import logging
from typing import ClassVar

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.verdict import VERDICT_QUEUE
from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, TemporaryError, TransportError, ZwrapError
from zwrap.host.clock import elapsed
from zwrap.message import STATUS_TOPIC, Message
from zwrap.recipe.envelope import Envelope
from zwrap.service.contract import Service
from zwrap.service.watcher import verdicts
from zwrap.service.watcher.cluster import WatchedCluster
from zwrap.service.watcher.heartbeats import Heartbeats
from zwrap.submission.clusters import Clusters
from zwrap.transport.contract import Delivery, Transport

log = logging.getLogger(__name__)

LEDGER_S = 10.0
"""Pause while the ledger cannot be used, in seconds."""

LOOK_S = 0.5
"""Interval at which the Watcher checks whether a cluster is due, in seconds."""


class Watcher(Service):
    """Service that follows the jobs of all clusters in the ledger.

    It reads `VERDICT_QUEUE` if a cluster shares no filesystem with this host.
    """

    topics = (STATUS_TOPIC,)
    plain_messages: ClassVar[bool] = True
    prefetch = 10

    def __init__(self, configuration: Configuration, transport: Transport) -> None:
        super().__init__(configuration, transport)
        self._ledger = Ledger.of(configuration)
        self._clusters = Clusters(configuration)
        if self._clusters.any_remote:
            self.queue = VERDICT_QUEUE
        self._watched: dict[str, WatchedCluster] = {}
        self._heartbeats = Heartbeats()
        self._next = float("-inf")

    def idle(self) -> None:
        """Ask about the jobs of each cluster that is due, and conclude jobs that have ended."""
        if elapsed() < self._next:
            return
        self._next = elapsed() + LOOK_S
        try:
            self._look()
        except TransportError:
            raise
        except TemporaryError as error:  # the ledger cannot be used at present
            log.warning("Jobs are not followed for %g s: %s", LEDGER_S, error)
            self._next = elapsed() + LEDGER_S

    def _look(self) -> None:
        """Let each cluster with unconcluded attempts ask and conclude, as far as it is due."""
        for name in self._ledger.open_clusters():
            self._follow(name)
        for cluster in self._watched.values():
            cluster.turn()

    def _follow(self, name: str) -> None:
        """Begin to follow the jobs of a cluster."""
        if name in self._watched:
            return
        try:
            cluster = self._clusters.get(name)
            self._watched[name] = WatchedCluster(
                cluster, self._ledger, self.transport, self._heartbeats
            )
        except ZwrapError as error:  # the site does not describe it any more
            log.warning("Jobs of cluster %s are not followed: %s", name, error)

    def poll_s(self) -> float:
        """Return the interval at which `idle` is called, in seconds."""
        return LOOK_S

    def hear(self, topic: str, message: Message) -> None:
        """Note a heartbeat, then do the work of `idle`."""
        del topic
        self._heartbeats.hear(message.body)
        self.idle()  # heartbeats of many wrappers come without a pause

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        """Record the verdict of a wrapper whose job directory is not visible here."""
        if envelope:
            raise MessageError(f"{self.name} takes verdicts, and not steps of recipes.")
        verdicts.hear(delivery.message.body, self._ledger, self.transport)
        delivery.ack()
        self.idle()

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()
