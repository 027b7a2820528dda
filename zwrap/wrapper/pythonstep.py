"""One step run by a wrapper written in Python: its methods are called as python-zocalo calls them.

`prepare` is called before `run`, `success` or `failure` and then `done` after it. What the methods
of the base class send, zwrap sends itself: `starting` before anything can go wrong, and the others
from the verdict, once. So these methods send nothing on those outputs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from zwrap.attempt.verdict import COMPLETED, STARTING
from zwrap.configuration.site import Configuration
from zwrap.errors import PERMANENT, PermanentError, ZwrapError
from zwrap.host.ending import become_subreaper, end_leftovers
from zwrap.recipe.envelope import Envelope
from zwrap.wrapper.ended import Ended
from zwrap.wrapper.heartbeat import Heartbeat
from zwrap.wrapper.outbox import Outbox
from zwrap.wrapper.python import BaseWrapper, RecipeWrapper, StatusNotifications
from zwrap.wrapper.stopping import StoppedError, Stopping

log = logging.getLogger(__name__)

FAILED = "Processing failed"
"""Payload on the output `failure` of a wrapper that did not succeed, and raised nothing."""


class PythonStep:
    """The run of one wrapper written in Python for one recipe step."""

    def __init__(
        self,
        kind: Callable[..., BaseWrapper],
        envelope: Envelope,
        configuration: Configuration,
        heartbeat: Heartbeat,
        outbox: Outbox,
        stopping: Stopping,
    ) -> None:
        """Make the object of a class; whatever its constructor raises is raised."""
        self._stopping = stopping
        self._instance = kind(environment={"config": configuration})
        self._recwrap = RecipeWrapper(envelope, stopping.uninterrupted(outbox.post))
        self._instance.status_thread = StatusNotifications(
            heartbeat,
            stopping.uninterrupted(outbox.beat),
            self._recwrap.transport.broadcast_status,
        )
        self._instance.set_recipe_wrapper(self._recwrap)
        self._ended: Ended | None = None

    def run(self) -> Ended:
        """Run the wrapper, and end the processes that it leaves behind.

        A step that is stopped calls no further method: its job has only moments left.
        """
        become_subreaper()
        try:
            with self._stopping.raising():
                self._run()
        except StoppedError as stopped:
            log.warning("%s", stopped)
            if self._ended is None:
                return Ended(failures=[str(stopped)], returncode=StoppedError.exit_status)
        finally:
            end_leftovers()
        assert self._ended is not None
        return self._ended

    def _run(self) -> None:
        """Call the methods of the wrapper, and keep the end of the step."""
        try:
            self._call("prepare", STARTING)
            succeeded = self._instance.run()
            if succeeded:
                self._ended = Ended(returncode=0)
                self._call("success", COMPLETED)
        except SystemExit as ended:
            own = isinstance(ended.code, str)
            reason = str(ended.code) if own else f"The wrapper called sys.exit({ended.code})."
            self._fail(PermanentError(reason), reason)
        except Exception as error:
            self._fail(error, str(error) or type(error).__name__)
        else:
            if not succeeded:
                self._fail(FAILED, FAILED)
        self._call_safely("done", COMPLETED)

    def _fail(self, payload: object, reason: str) -> None:
        """Keep a failure as the end of the step, with the text that the wrapper gives to it."""
        status = 1
        if isinstance(payload, ZwrapError):
            log.error("%s", payload)
            status = payload.exit_status
        elif isinstance(payload, Exception):
            log.error("The wrapper failed", exc_info=payload)
            status = PERMANENT
        self._ended = Ended(failures=[reason], returncode=status)
        own = self._call_safely("failure", payload).get("failure", reason)
        if str(own) not in ("", reason):
            self._ended = Ended(failures=[str(own)], returncode=status)

    def _call_safely(self, name: str, payload: object) -> dict[str, object]:
        """Call a method as `_call` does; what it raises is logged, and changes nothing."""
        try:
            return self._call(name, payload)
        except (Exception, SystemExit):
            log.exception(
                "Method %s of the wrapper failed, which changes nothing of the step", name
            )
            return {}

    def _call(self, name: str, payload: object) -> dict[str, object]:
        """Call a method of the wrapper; return what it did not send, by output."""
        method: Callable[[object], object] | None = getattr(self._instance, name, None)
        if method is None:
            return {}
        with self._recwrap.muted() as muted:
            method(payload)
        for channel, own in muted.items():
            if own != payload and channel != "failure":
                log.warning(
                    "Method %s of the wrapper sends %r on output %r, which is not sent: zwrap "
                    "sends %r there", name, own, channel, payload,
                )  # fmt: skip
        return muted
