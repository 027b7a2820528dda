"""Wrappers written in Python: the interface that python-zocalo wrappers have.

`BaseWrapper`, its `recwrap` and its `status_thread` have the names, arguments and meaning of
``zocalo.wrapper`` and ``workflows.recipe.wrapper``, so that a class written for them runs after its
import was changed.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from zwrap.message import JSON, RECIPE_HEADER, Outgoing
from zwrap.recipe.envelope import Envelope
from zwrap.wrapper.heartbeat import Heartbeat, StatusLike

Post = Callable[[list[Outgoing]], None]


class RecipeWrapper:
    """The recipe step as a wrapper sees it: what it was given, and ways to send messages.

    Everything sent goes through the outbox, so that no broker outage delays or loses it.
    """

    def __init__(self, envelope: Envelope, post: Post) -> None:
        self.recipe = envelope.recipe
        self.recipe_pointer = envelope.pointer
        self.recipe_step = envelope.step
        self.recipe_path = envelope.path
        self.environment = envelope.environment
        """Travels on with every message; what a wrapper adds here, later steps can read."""
        self.payload = envelope.payload
        self.default_channel: str | None = None
        self.transport = OutboxTransport(post)
        self._envelope = envelope
        self._post = post

    def set_default_channel(self, channel: str) -> None:
        """Let an unnamed output of the step take this channel, too."""
        self.default_channel = channel

    def send_to(
        self, channel: str, message: JSON, header: Mapping[str, JSON] | None = None, **how: Any
    ) -> None:
        """Send a message behind one output; if nothing is connected there, it is dropped."""
        default = channel == self.default_channel
        self._send(self._envelope.send(channel, message, default=default), header, how)

    def send(self, message: JSON, header: Mapping[str, JSON] | None = None, **how: Any) -> None:
        """Send a message behind the unnamed output, or behind the default channel."""
        if not isinstance(self.recipe_step.get("output"), dict):
            self._send(self._envelope.send("", message, default=True), header, how)
        elif self.default_channel:
            self.send_to(self.default_channel, message, header, **how)

    def checkpoint(
        self, message: JSON, header: Mapping[str, JSON] | None = None, delay: float = 0
    ) -> None:
        """Send a message to this very step, `delay` seconds later."""
        self._send(self._envelope.checkpoint(message, delay), header, {})

    def start(self, header: Mapping[str, JSON] | None = None) -> None:
        """Refuse: the recipe of a running step has been started."""
        del header
        raise ValueError("This recipe has already been started.")

    def apply_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Fill in parameters of the whole recipe."""
        self.recipe = self._envelope.recipe = self.recipe.apply_parameters(parameters)
        self.recipe_step = self._envelope.step

    def _send(
        self, messages: list[Outgoing], header: Mapping[str, JSON] | None, how: Mapping[str, Any]
    ) -> None:
        headers = {**(header or {}), RECIPE_HEADER: True}
        self._post([_sent(replace(message, headers=headers), how) for message in messages])


class OutboxTransport:
    """What a wrapper may do with its transport: send to a queue, broadcast on a topic."""

    def __init__(self, post: Post) -> None:
        self._post = post

    def send(
        self, destination: str, message: JSON, headers: Mapping[str, JSON] | None = None, **how: Any
    ) -> None:
        """Send a message to a queue, `delay` seconds later if given."""
        self._post([_sent(Outgoing(destination, message, dict(headers or {})), how)])

    def broadcast(
        self, destination: str, message: JSON, headers: Mapping[str, JSON] | None = None, **how: Any
    ) -> None:
        """Tell everybody who listens to a topic."""
        self._post([_sent(Outgoing(destination, message, dict(headers or {}), topic=True), how)])


def _sent(message: Outgoing, how: Mapping[str, Any]) -> Outgoing:
    """A message with `delay` and `expiration` (seconds); other arguments have no meaning here."""
    if "delay" in how:
        message = replace(message, delay_s=float(how["delay"]))
    if how.get("expiration") is not None:
        message = replace(message, expires_s=float(how["expiration"]))
    return message


class StatusNotifications:
    """The wrapper's hand on its heartbeat; python-zocalo calls it the status thread."""

    def __init__(self, heartbeat: Heartbeat, beat: Callable[[], None]) -> None:
        self._heartbeat = heartbeat
        self._beat = beat

    @property
    def taskname(self) -> str:
        """The name that monitors show for this task."""
        return self._heartbeat.task

    @taskname.setter
    def taskname(self, value: str) -> None:
        self._heartbeat.task = value
        self._beat()

    def set_static_status_field(self, field: str, value: Any) -> None:
        """Add a field to every further heartbeat."""
        self._heartbeat.fields[field] = value

    def set_status(self, status: StatusLike) -> None:
        """Change the status, and tell it now."""
        self._heartbeat.status = status
        self._beat()

    def shutdown(self) -> None:
        """Do nothing: heartbeats end when the wrapper does."""


class BaseWrapper(ABC):
    """Subclass this, write `run`, and register the class under entry point `zocalo.wrappers`.

    `run` returns whether the program succeeded. What is sent before and after it (``starting``,
    ``success`` or ``failure``, ``completed``) zwrap sends. Without a recipe the methods that send
    do nothing.
    """

    _logger_name = "zocalo.wrapper"
    recwrap: RecipeWrapper | None = None
    status_thread: StatusNotifications | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        del args
        self._environment: Mapping[str, Any] = kwargs.get("environment") or {}
        self._log_extra: dict[str, Any] = {}
        self.log = logging.LoggerAdapter(logging.getLogger(self._logger_name), self._log_extra)

    @property
    def config(self) -> Any:
        """The site configuration."""
        return self._environment.get("config")

    def set_recipe_wrapper(self, recwrap: RecipeWrapper) -> None:
        """Tell the wrapper which recipe step it runs; its ID is on each line that it logs."""
        self.recwrap = recwrap
        self._log_extra["recipe_ID"] = recwrap.environment.get("ID")

    @abstractmethod
    def run(self) -> bool | None:
        """Do the work; true for success."""

    def _tell(self, channel: str, payload: JSON) -> None:
        if self.recwrap is not None:
            self.recwrap.send_to(channel, payload)

    def prepare(self, payload: JSON = "") -> None:
        """Tell that the work begins (output `starting`)."""
        self._tell("starting", payload)

    def update(self, payload: JSON = "") -> None:
        """Tell of progress (output `updates`)."""
        self._tell("updates", payload)

    def done(self, payload: JSON = "") -> None:
        """Tell that the work has ended, well or not (output `completed`)."""
        self._tell("completed", payload)

    def success(self, payload: JSON = "") -> None:
        """Tell that the work ended well (output `success`)."""
        self._tell("success", payload)

    def failure(self, payload: JSON = "") -> None:
        """Tell why the work failed, as text (output `failure`)."""
        self._tell("failure", str(payload))

    def record_result_individual_file(self, payload: JSON = "") -> None:
        """Record one file: `file_path`, `file_name`, `file_type`, `importance_rank`."""
        self._tell("result-individual-file", payload)

    def record_result_all_files(self, payload: JSON = "") -> None:
        """Record all files: `filelist`, absolute paths."""
        self._tell("result-all-files", payload)


class DummyWrapper(BaseWrapper):
    """Does nothing for 20 seconds, as python-zocalo's wrapper of that name."""

    _logger_name = "zocalo.wrapper.DummyWrapper"

    def run(self) -> bool:
        """Wait; always a success."""
        self.log.info("This is a dummy wrapper that simply waits for twenty seconds.")
        time.sleep(10)
        if self.status_thread:
            self.status_thread.taskname += " (still running)"
        time.sleep(10)
        return True


__all__ = ["BaseWrapper", "DummyWrapper", "RecipeWrapper", "StatusNotifications"]
