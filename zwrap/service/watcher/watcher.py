"""Station "watcher": follows all jobs, and concludes attempts for wrappers that cannot.

All jobs of a cluster take one question per interval, and a second one for jobs that are gone.
Changes are written to the ledger and broadcast. A cluster that cannot be asked is reported as away,
and changes no job. A job directory is opened only after the batch system has told that the job is
gone. From clusters without a shared filesystem the verdicts of wrappers come as messages.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import ClassVar

from zwrap.attempt.ledger.faults import UnusableLedgerError
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.secret import PROOF_HEADER
from zwrap.attempt.verdict import VERDICT_QUEUE
from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, OutageError, TemporaryError, TransportError, ZwrapError
from zwrap.host.backoff import Backoff
from zwrap.host.clock import elapsed
from zwrap.message.content import STATUS_TOPIC, Message
from zwrap.recipe.envelope import Envelope
from zwrap.service.contract import Service
from zwrap.service.watcher import verdicts
from zwrap.service.watcher.cluster import WatchedCluster
from zwrap.service.watcher.heartbeats import Heartbeats
from zwrap.service.watcher.rows import CommonFaultError
from zwrap.submission.clusters import Clusters
from zwrap.transport.contract import Delivery, Transport

log = logging.getLogger(__name__)

PAUSE_FIRST_S, PAUSE_LAST_S = 10.0, 60.0
"""First and longest pause while something is away that all jobs share, in seconds."""

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
        self._opened: Ledger | None = None
        """The ledger, once it could be used."""
        try:
            self._opened = Ledger.of(configuration)
        except UnusableLedgerError:
            raise  # another try does not cure it
        except OutageError:
            pass  # `idle` meets it again, and tells it
        self._clusters = Clusters(configuration)
        if self._clusters.any_remote:
            self.queue = VERDICT_QUEUE
        self._watched: dict[str, WatchedCluster] = {}
        self._heartbeats = Heartbeats()
        self._next = float("-inf")
        self._pauses = Backoff(PAUSE_FIRST_S, PAUSE_LAST_S)
        self._outage: TemporaryError | None = None
        """Reason why no jobs are followed, or not all of them; None: they are."""
        self._broken: set[str] = set()
        """Clusters whose jobs could not be followed, as it was told."""

    @property
    def _ledger(self) -> Ledger:
        """The ledger; OutageError if it cannot be used now."""
        if self._opened is None:
            self._opened = Ledger.of(self.configuration)
        return self._opened

    def idle(self) -> None:
        """Ask about the jobs of each cluster that is due, and conclude jobs that have ended."""
        if elapsed() < self._next:
            return
        self._next = elapsed() + LOOK_S
        try:
            self._look()
        except CommonFaultError as error:
            self._tell(f"Jobs wait that meet this: {error}", error)
        except TemporaryError as error:
            self._pause(error)
        else:
            self._go_on()

    def _pause(self, error: TemporaryError) -> None:
        """Follow no job for a while, because of what all jobs share; tell it once."""
        pause_s = self._pauses.next_s()
        self._next = elapsed() + pause_s
        self._tell(f"Jobs are not followed for {pause_s:g} s: {error}", error)

    def _tell(self, sentence: str, error: TemporaryError) -> None:
        """Log once what is the matter, until it is over."""
        kinds = (isinstance(each, CommonFaultError) for each in (self._outage, error))
        if self._outage is None or len(set(kinds)) > 1:
            log.warning("%s", sentence)
        self._outage = error

    def _go_on(self) -> None:
        """Note that all jobs are followed; tell it if they were not."""
        if isinstance(self._outage, CommonFaultError) and any(
            cluster.has_common_fault for cluster in self._watched.values()
        ):
            return
        if self._outage is not None:
            log.info("Jobs are followed again")
        self._outage = None
        self._pauses.reset()

    def _look(self) -> None:
        """Let each cluster with unconcluded attempts ask and conclude, as far as it is due."""
        self._ledger.database.look()
        for name in self._ledger.open_clusters():
            self._follow(name)
        outage: TemporaryError | None = None
        for name, cluster in self._watched.items():
            with self._contained(name):
                try:
                    cluster.turn()
                except CommonFaultError as error:
                    outage = outage or error  # jobs that do not meet it are looked at on time
                except TemporaryError as error:
                    outage = error
        if outage:
            raise outage

    def _follow(self, name: str) -> None:
        """Begin to follow the jobs of a cluster."""
        if name in self._watched:
            return
        with self._contained(name):
            cluster = self._clusters.get(name)
            self._watched[name] = WatchedCluster(
                cluster, self._ledger, self.transport, self._heartbeats, faults=self.faults
            )

    @contextlib.contextmanager
    def _contained(self, name: str) -> Iterator[None]:
        """Keep a fault inside the context with its cluster; it is told once until it is over."""
        try:
            yield
        except TemporaryError:
            raise
        except Exception as error:
            if name not in self._broken:
                foreseen = isinstance(error, ZwrapError)  # the site does not describe it any more
                log.warning(
                    "Jobs of cluster %s are not followed: %s",
                    name, error, exc_info=None if foreseen else error,
                )  # fmt: skip
            self._broken.add(name)
        else:
            self._broken.discard(name)

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
        message = delivery.message
        proof = message.headers.get(PROOF_HEADER)
        verdicts.hear(message.body, self._ledger, self.transport, proof)
        delivery.ack()
        self.idle()

    def close(self) -> None:
        """Close the ledger.

        Raises:
            TransportError: The transport was away to the end, so that ends were not reported.
            OutageError: The ledger could never be used.
        """
        for cluster in self._watched.values():
            cluster.close()
        if self._opened is not None:
            self._opened.close()
        if self._outage is not None and (
            self._opened is None or isinstance(self._outage, TransportError)
        ):
            raise self._outage
