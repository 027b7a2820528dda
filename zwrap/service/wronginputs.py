"""Steps whose inputs do not fit their program: a failure that is told without a job."""

from __future__ import annotations

import logging
from collections.abc import Callable

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import REJECTED, WAITING
from zwrap.attempt.verdict import final_messages
from zwrap.configuration.site import Configuration
from zwrap.job import Outcome
from zwrap.message.content import trace_of
from zwrap.recipe.envelope import Envelope
from zwrap.submission.clusters import Cluster
from zwrap.submission.pending import PendingJob
from zwrap.submission.programs import Programs
from zwrap.transport.contract import Delivery, Transport, Unit
from zwrap.transport.signing import Signer

log = logging.getLogger(__name__)


class WrongInputs:
    """The check of steps before they are submitted, and the end of those that would fail."""

    def __init__(
        self,
        configuration: Configuration,
        ledger: Ledger,
        transport: Transport,
        signer: Signer,
        is_plain: Callable[[PendingJob, Cluster], bool],
    ) -> None:
        self._programs = Programs(configuration.site.program_directory)
        self._ledger = ledger
        self._transport = transport
        self._signer = signer
        self._is_plain = is_plain

    def of(self, envelope: Envelope, job: PendingJob, cluster: Cluster) -> str:
        """Return the sentence about a wrong input of a step; empty: none is known to be wrong.

        A step whose nodes may have other definitions is left to its job, and so are one whose job
        sets something up, and one that may have a job already.
        """
        if not cluster.settings.shared_filesystem:
            return ""
        fault = self._programs.fault(envelope, job.request)
        if not fault or not self._is_plain(job, cluster):
            return ""
        row = self._ledger.get(job.attempt.token)
        return "" if row and row.state not in (WAITING, REJECTED) else fault

    def fail(self, delivery: Delivery, envelope: Envelope, cause: str) -> None:
        """Send the messages of a failure, as the job would, and settle the message of the step.

        A repeat sends the same ids. Raises as `Transport.commit` does.
        """
        log.error("Node %s fails without a job: %s", envelope.pointer, cause)
        message = delivery.message
        sign = self._signer.after(message, delivery.source)
        unit = Unit(message.id, sign, trace_of(message.headers))
        unit.send(*final_messages(envelope, Outcome.FAILURE, cause, {"service": "Submitter"}))
        self._transport.commit(unit.outgoing, [delivery])
