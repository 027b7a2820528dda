"""The last word on the jobs of one cluster: where it is put, and how soon it may be said."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import Attempt
from zwrap.attempt.verdict import Verdict
from zwrap.errors import MessageError, QueueFullError
from zwrap.host.files import NETWORK_FILESYSTEMS, filesystem_of
from zwrap.service.watcher import lastword
from zwrap.service.watcher import verdicts as remoteword
from zwrap.submission.clusters import Cluster
from zwrap.transport.contract import Transport

log = logging.getLogger(__name__)

SETTLE_S, SETTLE_NETWORK_S = 1.0, 60.0
"""So long after the end of a job its directory is looked at: what another host wrote there may be
seen late, on a network filesystem much later."""

SETTLE_MESSAGE_S = 15.0
"""So long after the end of a job a message of its wrapper may be on its way."""


class End(NamedTuple):
    """How an attempt ended."""

    outcome: str
    cause: str
    witness: str
    elapsed_s: float | None = None
    peak_memory_mib: float | None = None


class LastWords(ABC):
    """Has the last word on jobs of a cluster, unless their wrappers had it."""

    @abstractmethod
    def has_spoken(self, attempt: Attempt) -> bool:
        """Whether anybody has."""

    @abstractmethod
    def settle_s(self, attempt: Attempt) -> float:
        """How long after the end of its job it is not said yet."""

    @abstractmethod
    def conclude(self, attempt: Attempt) -> Verdict | None:
        """Have it; None: not now. As `zwrap.service.watcher.lastword.conclude`."""

    def say(self, attempt: Attempt) -> End | None:
        """Have it, as far as that is possible; None: not now."""
        try:
            verdict = self.conclude(attempt)
        except (MessageError, PermissionError) as error:
            log.error("Job %s: nobody can be told how it ended: %s", attempt.job_id, error)
            return End("unknown", f"Nobody could be told how it ended. {error}", "none")
        except (QueueFullError, OSError) as error:  # a full disk, say
            log.warning("Job %s: how it ended is told later: %s", attempt.job_id, error)
            return None
        return _end(verdict) if verdict else None


class InDirectory(LastWords):
    """In the directory of each job."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def has_spoken(self, attempt: Attempt) -> bool:
        """Whether a verdict lies there."""
        return Path(attempt.job_directory, "verdict.json").exists()

    def settle_s(self, attempt: Attempt) -> float:
        """Until all that the job wrote is seen there."""
        network = filesystem_of(Path(attempt.job_directory)) in NETWORK_FILESYSTEMS
        return SETTLE_NETWORK_S if network else SETTLE_S

    def conclude(self, attempt: Attempt) -> Verdict | None:
        """By the files there."""
        return lastword.conclude(attempt, self._transport)


class InLedger(LastWords):
    """In the ledger: nobody here sees the directories of the jobs."""

    def __init__(self, ledger: Ledger, transport: Transport, wait_s: float) -> None:
        self._ledger = ledger
        self._transport = transport
        self._wait_s = wait_s

    def has_spoken(self, attempt: Attempt) -> bool:
        """Whether the message of its wrapper came."""
        word = self._ledger.words.get(attempt.token)
        return word is not None and word.verdict is not None

    def settle_s(self, attempt: Attempt) -> float:
        """Until its message has come, unless it waits in a broker."""
        return 0.0 if self.has_spoken(attempt) else SETTLE_MESSAGE_S

    def conclude(self, attempt: Attempt) -> Verdict | None:
        """By what came."""
        return remoteword.conclude(attempt, self._ledger, self._transport, self._wait_s)


def last_words(cluster: Cluster, ledger: Ledger, transport: Transport) -> LastWords:
    """Who has the last word on jobs of that cluster."""
    if cluster.settings.shared_filesystem:
        return InDirectory(transport)
    return InLedger(ledger, transport, cluster.settings.lost_s)


def _end(verdict: Verdict) -> End:
    return End(
        verdict.outcome.value,
        verdict.cause,
        verdict.witness,
        verdict.elapsed_s or None,
        verdict.peak_memory_mib or None,
    )
