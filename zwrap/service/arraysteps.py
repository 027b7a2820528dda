"""Array steps on their way through the Submitter: the messages for their tasks, sent in units."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from zwrap.message.content import Outgoing
from zwrap.service.contract import Work
from zwrap.submission.tasks import TASK_HEADER, copies, task_in, tasks_sent
from zwrap.transport.contract import Delivery, Transport, Unit
from zwrap.transport.portions import PORTION_BYTES
from zwrap.transport.signing import Signer

log = logging.getLogger(__name__)


class ArraySteps:
    """Array steps for whose tasks a service sends itself messages."""

    def __init__(self, transport: Transport, signer: Signer) -> None:
        self._transport = transport
        self._signer = signer
        self._bytes = 0
        """Size of the messages that are perhaps not confirmed yet, in bytes."""

    def messages(self, work: Work) -> list[Outgoing]:
        """Return the messages for a portion of the tasks of a step, and for the step as it goes on.

        Without any the message is one job. Raises as `copies` does.
        """
        message, source = work.delivery.message, work.delivery.source
        outgoing = copies(work.envelope, message, source) if work.envelope else []
        unit = Unit(message.id, self._signer.after(message, source), begin=tasks_sent(message))
        unit.send(*outgoing)
        return unit.outgoing

    def send(self, messages: list[Outgoing], delivery: Delivery) -> None:
        """Send the messages that a step became, and settle its own, as one unit.

        A transport may hold a unit in memory until it is confirmed. So after each portion of bytes
        this waits until all is confirmed; TransportError if that takes too long.
        """
        if self._bytes >= PORTION_BYTES:
            self._transport.flush()
            self._bytes = 0
        self._transport.commit(messages, [delivery])
        number = sum(TASK_HEADER in message.headers for message in messages)
        log.info("%d tasks of the step have messages now, each of which is a job", number)
        self._bytes += len(messages) * delivery.size


def may_have_tasks(work: Work) -> bool:
    """Return whether a step may have several tasks, as far as a glance tells."""
    parameters = work.envelope.step.get("parameters") if work.envelope else None
    block = parameters.get("cluster") if isinstance(parameters, Mapping) else None
    given = block.get("array") if isinstance(block, Mapping) else None
    several = given is not None and not isinstance(given, bool)
    return several and task_in(work.delivery.message) is None
