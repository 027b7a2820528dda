"""Wrappers written in Python: the interface that python-zocalo wrappers have.

`BaseWrapper`, its `recwrap` and its `status_thread` have the names, arguments and meaning of
``zocalo.wrapper`` and ``workflows.recipe.wrapper``, so that a class written for them runs after its
import was changed. Payloads and headers are JSON values; what has another type is sent as its text.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, SupportsFloat

from msgspec.structs import replace

from zwrap.message import RECIPE_HEADER, Outgoing
from zwrap.recipe.envelope import Envelope
from zwrap.wrapper.heartbeat import Heartbeat, StatusLike

Post = Callable[[list[Outgoing]], None]
"""Takes messages to be sent; they are on disk when it returns."""

Header = Mapping[str, object]
"""Headers of a message, by name."""


class RecipeWrapper:
    """The recipe step as a wrapper sees it: its parameters, and ways to send messages.

    Everything sent goes through the outbox, so that no broker outage delays or loses it. Methods
    that send take `header` (further headers), `delay` and `expiration` (seconds); other keyword
    arguments of python-workflows are taken and have no meaning. They raise MessageError where the
    recipe does not allow to send.
    """

    def __init__(self, envelope: Envelope, post: Post) -> None:
        """Take the step, and how its messages are sent."""
        self.recipe = envelope.recipe
        """The whole recipe."""
        self.recipe_pointer = envelope.pointer
        """Number of the node that is this step."""
        self.recipe_step: dict[str, Any] = envelope.step
        """The node; its `job_parameters` are those of the program."""
        self.recipe_path = envelope.path
        """Numbers of the nodes that the message came by."""
        self.environment: dict[str, Any] = envelope.environment
        """Values that travel on with every message; what a wrapper adds here, later steps read."""
        self.payload: Any = envelope.payload
        """The message that the step was sent."""
        self.default_channel: str | None = None
        """Name of the output that `send` means, where outputs have names."""
        self.transport = OutboxTransport(post)
        self._envelope = envelope
        self._post = post

    def set_default_channel(self, channel: str) -> None:
        """Let `send`, and an unnamed output of the step, mean this channel, too."""
        self.default_channel = channel

    def send_to(
        self, channel: str, message: object, header: Header | None = None, **how: object
    ) -> None:
        """Send a payload to the nodes behind the output `channel`, none if it is not connected."""
        default = channel == self.default_channel
        self._send(self._envelope.send(channel, message, default=default), header, how)

    def send(self, message: object, header: Header | None = None, **how: object) -> None:
        """Send a payload to the nodes behind the unnamed output, or behind the default channel."""
        if not isinstance(self.recipe_step.get("output"), dict):
            self._send(self._envelope.send("", message, default=True), header, how)
        elif self.default_channel:
            self.send_to(self.default_channel, message, header, **how)

    def checkpoint(self, message: object, header: Header | None = None, delay: float = 0) -> None:
        """Send a payload to this very step, `delay` seconds later."""
        self._send(self._envelope.checkpoint(message, delay), header, {})

    def start(self, header: Header | None = None) -> None:
        """Raise ValueError: the recipe of a running step has been started."""
        del header
        raise ValueError("This recipe has already been started.")

    def apply_parameters(self, parameters: Mapping[str, object]) -> None:
        """Fill in values, by name, in the whole recipe; messages that follow carry it so."""
        self.recipe = self._envelope.recipe = self.recipe.apply_parameters(parameters)
        self.recipe_step = self._envelope.step

    def _send(
        self, messages: list[Outgoing], header: Header | None, how: Mapping[str, object]
    ) -> None:
        headers = {**(header or {}), RECIPE_HEADER: True}
        self._post([_sent(replace(message, headers=headers), how) for message in messages])


class OutboxTransport:
    """The transport as a wrapper sees it: send to a queue, broadcast on a topic.

    `headers`, `delay` and `expiration` (seconds) are those of `RecipeWrapper`.
    """

    def __init__(self, post: Post) -> None:
        self._post = post

    def send(
        self, destination: str, message: object, headers: Header | None = None, **how: object
    ) -> None:
        """Send a message, not a recipe's, to the queue `destination`."""
        self._post([_sent(Outgoing(destination, message, dict(headers or {})), how)])

    def broadcast(
        self, destination: str, message: object, headers: Header | None = None, **how: object
    ) -> None:
        """Send a message to everybody who listens to the topic `destination` now."""
        self._post([_sent(Outgoing(destination, message, dict(headers or {}), topic=True), how)])


def _sent(message: Outgoing, how: Mapping[str, object]) -> Outgoing:
    """Return a message with `delay` and `expiration`, in seconds, as far as they are given."""
    if how.get("delay") is not None:
        message = replace(message, delay_s=_seconds(how, "delay"))
    if how.get("expiration") is not None:
        message = replace(message, expires_s=_seconds(how, "expiration"))
    return message


def _seconds(how: Mapping[str, object], name: str) -> float:
    value = how[name]
    if not isinstance(value, SupportsFloat | str):
        raise TypeError(f"{name} is {value!r}; a number of seconds is expected.")
    return float(value)


class StatusNotifications:
    """The heartbeat as a wrapper may change it; python-zocalo calls it the status thread.

    Heartbeats go to topic ``transient.status``, every 3 s and whenever something is changed here.
    """

    def __init__(self, heartbeat: Heartbeat, beat: Callable[[], None]) -> None:
        """Take the heartbeat, and what sends it now."""
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

    def set_static_status_field(self, field: str, value: object) -> None:
        """Add a field, a JSON value, to every further heartbeat."""
        self._heartbeat.fields[field] = value

    def set_status(self, status: StatusLike) -> None:
        """Change the status, one of ours or of python-workflows, and send it now."""
        self._heartbeat.status = status
        self._beat()

    def shutdown(self) -> None:
        """Do nothing: heartbeats end when the wrapper does."""


class BaseWrapper(ABC):
    """The class that a wrapper is derived from.

    Write `run`, and register the class under entry point group `zocalo.wrappers`. zwrap sends
    ``starting`` before `run`, and after it ``success`` or ``failure``, and ``completed``. Methods
    that send do so on the output of the step that has their name, and do nothing without a recipe.
    """

    _logger_name = "zocalo.wrapper"
    recwrap: RecipeWrapper | None = None
    """The recipe step; set before `run`."""
    status_thread: StatusNotifications | None = None
    """The heartbeat; set before `run`."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Take `environment`, a mapping that holds the site configuration under ``config``."""
        del args
        environment = kwargs.get("environment")
        self._environment = environment if isinstance(environment, Mapping) else {}
        self._log_extra: dict[str, object] = {}
        self.log = logging.LoggerAdapter(logging.getLogger(self._logger_name), self._log_extra)

    @property
    def config(self) -> object:
        """The site configuration (`zwrap.configuration.Configuration`); None without one."""
        return self._environment.get("config")

    def set_recipe_wrapper(self, recwrap: RecipeWrapper) -> None:
        """Tell the wrapper which recipe step it runs; its ID is on each line that it logs."""
        self.recwrap = recwrap
        self._log_extra["recipe_ID"] = recwrap.environment.get("ID")

    @abstractmethod
    def run(self) -> bool | None:
        """Do the work; return whether it succeeded. What it raises is a failure, with its text.

        A signal that asks the job to stop is raised here as an exception; descendants of this
        process that are left are ended after it.
        """

    def _tell(self, channel: str, payload: object) -> None:
        if self.recwrap is not None:
            self.recwrap.send_to(channel, payload)

    def prepare(self, payload: object = "") -> None:
        """Send that the work begins (output `starting`)."""
        self._tell("starting", payload)

    def update(self, payload: object = "") -> None:
        """Send how far the work is (output `updates`)."""
        self._tell("updates", payload)

    def done(self, payload: object = "") -> None:
        """Send that the work has ended, well or not (output `completed`)."""
        self._tell("completed", payload)

    def success(self, payload: object = "") -> None:
        """Send that the work ended well (output `success`)."""
        self._tell("success", payload)

    def failure(self, payload: object = "") -> None:
        """Send why the work failed, as text (output `failure`)."""
        self._tell("failure", str(payload))

    def record_result_individual_file(self, payload: object = "") -> None:
        """Send the record of one result file (output `result-individual-file`).

        Keys are `file_path` (directory), `file_name`, `file_type` (``result``, ``log``, ``graph``)
        and `importance_rank` (1: the most important).
        """
        self._tell("result-individual-file", payload)

    def record_result_all_files(self, payload: object = "") -> None:
        """Send all result files (output `result-all-files`): `filelist`, absolute paths."""
        self._tell("result-all-files", payload)


class DummyWrapper(BaseWrapper):
    """A wrapper that does nothing for 20 seconds, as python-zocalo's of that name."""

    _logger_name = "zocalo.wrapper.DummyWrapper"

    def run(self) -> bool:
        """Wait for 20 seconds; return True."""
        self.log.info("This is a dummy wrapper that simply waits for twenty seconds.")
        time.sleep(10)
        if self.status_thread:
            self.status_thread.taskname += " (still running)"
        time.sleep(10)
        return True


__all__ = ["BaseWrapper", "DummyWrapper", "RecipeWrapper", "StatusNotifications"]
