"""What a wrapper says: each message under an id that a repeat of the attempt repeats, the verdict
last, and once.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable

import msgspec

from zwrap.errors import TEMPORARY
from zwrap.jobdirectory import QUEUE_VARIABLE, JobDirectory, Verdict
from zwrap.message import Outgoing, child_id
from zwrap.wrapper.courier import Courier

log = logging.getLogger(__name__)

SEND_WAIT_S = 60.0
"""How long the wrapper waits at its end for a transport that is away; the rest stays on disk."""

LOOK_S = 5.0
"""So often one that waits longer looks whether it was asked to stop."""


class Speech:
    """The messages of one run of an attempt, over a courier."""

    def __init__(self, directory: JobDirectory, token: str, run: int) -> None:
        self._directory = directory
        # What a run says is not what an earlier one said under the same number.
        self._parent = token if run == 1 else f"{token}.{run}"
        self._position = 0
        self._verdict_queue = os.environ.get(QUEUE_VARIABLE)
        """Where the verdict has to go, if nobody else sees this directory."""

    def identified(self, messages: list[Outgoing]) -> list[Outgoing]:
        """The messages under ids that a repeat of this attempt would repeat."""
        first, self._position = self._position, self._position + len(messages)
        return [
            message.with_id(child_id(self._parent, position))
            for position, message in enumerate(messages, first)
        ]

    def post(self, courier: Courier, messages: list[Outgoing]) -> None:
        """Send them."""
        courier.post(self.identified(messages))

    def say_last(self, courier: Courier, verdict: Verdict, is_stopped: Callable[[], bool]) -> int:
        """Speak, unless another has, and wait until everything is sent; the exit status."""
        if self._speak(verdict):
            courier.post(self._last_messages(verdict))
        if self._close(courier, is_stopped):
            return verdict.exit_status
        log.error("Not everything was sent; the rest stays in %s/outbox", self._directory.path)
        return TEMPORARY if self._verdict_queue else verdict.exit_status

    def send_rest(self, courier: Courier, verdict: Verdict, is_stopped: Callable[[], bool]) -> None:
        """Send the last messages of a verdict whose speaker died before it could."""
        courier.post(self._last_messages(verdict))
        self._close(courier, is_stopped)

    def _speak(self, verdict: Verdict) -> bool:
        try:
            return self._directory.speak(verdict)
        except OSError as error:  # a full disk: rather say it twice than never
            log.error("The verdict cannot be written: %s", error)
            return True

    def _last_messages(self, verdict: Verdict) -> list[Outgoing]:
        """Those of the step; one that holds them where its end has to be told elsewhere."""
        if not self._verdict_queue:
            return verdict.final
        told = Outgoing(self._verdict_queue, msgspec.to_builtins(verdict))
        return [told.with_id(child_id(self._parent, "verdict"))]

    def _close(self, courier: Courier, is_stopped: Callable[[], bool]) -> bool:
        """Send the rest; where nobody else sees the outbox, for as long as the job may live."""
        sent = courier.close(SEND_WAIT_S)
        if self._verdict_queue:
            while not sent and not is_stopped():
                sent = courier.close(LOOK_S)
            # What the transport refused for good lies on this node only, as if it was not sent.
            sent = sent and not any(self._directory.outbox().dead_letters())
        if sent:
            with contextlib.suppress(OSError):
                self._directory.mark_sent()
        return sent
