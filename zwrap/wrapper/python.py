"""Wrappers written in Python: the interface of python-zocalo's wrappers.

`BaseWrapper`, its `recwrap` and its `status_thread` have the names, arguments and meaning of
``zocalo.wrapper`` and ``workflows.recipe.wrapper``, so that a class written for them runs after its
import was changed. Payloads and headers are JSON values; values of other types are sent as text.
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
"""Function that accepts messages to send, which are on disk when it returns."""

Header = Mapping[str, object]
"""Headers of a message, by name."""


class RecipeWrapper:
    """The recipe step for a wrapper: its parameters, and methods to send messages.

    All messages go through the outbox, so that no outage of a broker delays or loses them. Methods
    that send have the arguments `header` (further headers), `delay` and `expiration` (seconds);
    other keyword arguments of python-workflows are accepted without effect. The methods raise
    MessageError if the recipe is wrong at the output.
    """

    def __init__(self, envelope: Envelope, post: Post) -> None:
        """Describe a step; `post` sends its messages."""
        self.recipe = envelope.recipe
        """The whole recipe."""
        self.recipe_pointer = envelope.pointer
        """Number of this step's node."""
        self.recipe_step: dict[str, Any] = envelope.step
        """The node; its `job_parameters` are those of the program."""
        self.recipe_path = envelope.path
        """Numbers of the nodes through which the message came."""
        self.environment: dict[str, Any] = envelope.environment
        """Values that every message carries on; later steps can read values added here."""
        self.payload: Any = envelope.payload
        """Payload of the message to the step."""
        self.default_channel: str | None = None
        """Name of the output for `send`, where outputs have names."""
        self.transport = OutboxTransport(post)
        self._envelope = envelope
        self._post = post

    def set_default_channel(self, channel: str) -> None:
        """Let `send` use this channel, and an unnamed output of the step stand for it."""
        self.default_channel = channel

    def send_to(
        self, channel: str, message: object, header: Header | None = None, **how: object
    ) -> None:
        """Send a payload to the nodes behind output `channel`, to none if it is not connected."""
        default = channel == self.default_channel
        self._send(self._envelope.send(channel, message, default=default), header, how)

    def send(self, message: object, header: Header | None = None, **how: object) -> None:
        """Send a payload to the nodes behind the unnamed output, or behind the default channel."""
        if not isinstance(self.recipe_step.get("output"), dict):
            self._send(self._envelope.send("", message, default=True), header, how)
        elif self.default_channel:
            self.send_to(self.default_channel, message, header, **how)

    def checkpoint(self, message: object, header: Header | None = None, delay: float = 0) -> None:
        """Send a payload to this step again, `delay` seconds later."""
        self._send(self._envelope.checkpoint(message, delay), header, {})

    def start(self, header: Header | None = None) -> None:
        """Raise ValueError, because the recipe of a running step has been started."""
        del header
        raise ValueError("This recipe has already been started.")

    def apply_parameters(self, parameters: Mapping[str, object]) -> None:
        """Fill in values, by name, in the whole recipe, which further messages carry."""
        limits = self._envelope.limits
        self.recipe = self.recipe.apply_parameters(parameters, limits=limits)
        self._envelope.recipe = self.recipe
        self.recipe_step = self._envelope.step

    def _send(
        self, messages: list[Outgoing], header: Header | None, how: Mapping[str, object]
    ) -> None:
        """Send recipe messages with further headers, `delay`, `expiration` and `exchange`."""
        headers = {**(header or {}), RECIPE_HEADER: True}
        self._post([_sent(replace(message, headers=headers), how) for message in messages])


class OutboxTransport:
    """The transport for a wrapper: send to a queue, broadcast on a topic.

    `headers`, `delay` and `expiration` (seconds), and `exchange`, are those of `RecipeWrapper`.
    """

    def __init__(self, post: Post) -> None:
        self._post = post

    def send(
        self, destination: str, message: object, headers: Header | None = None, **how: object
    ) -> None:
        """Send a plain message to the queue `destination`."""
        self._post([_sent(Outgoing(destination, message, dict(headers or {})), how)])

    def broadcast(
        self, destination: str, message: object, headers: Header | None = None, **how: object
    ) -> None:
        """Send a plain message to all present subscribers of the topic `destination`."""
        self._post([_sent(Outgoing(destination, message, dict(headers or {}), topic=True), how)])


def _sent(message: Outgoing, how: Mapping[str, object]) -> Outgoing:
    """Return a message with `delay` and `expiration`, in seconds, and `exchange`, if given."""
    if how.get("exchange") and not message.topic:
        message = replace(message, exchange=str(how["exchange"]))
    if how.get("delay") is not None:
        message = replace(message, delay_s=_seconds(how, "delay"))
    if how.get("expiration") is not None:
        message = replace(message, expires_s=_seconds(how, "expiration"))
    return message


def _seconds(how: Mapping[str, object], name: str) -> float:
    """Return an argument as a number of seconds; TypeError or ValueError if it is not one."""
    value = how[name]
    if not isinstance(value, SupportsFloat | str):
        raise TypeError(f"{name} is {value!r}; a number of seconds is expected.")
    return float(value)


class StatusNotifications:
    """The heartbeat for a wrapper, which may change it; python-zocalo calls it the status thread.

    Heartbeats go to topic ``transient.status``, every 3 s and after each change of name or status.
    """

    def __init__(self, heartbeat: Heartbeat, beat: Callable[[], None]) -> None:
        """Change `heartbeat`; `beat` sends it immediately."""
        self._heartbeat = heartbeat
        self._beat = beat

    @property
    def taskname(self) -> str:
        """Name of the task in monitors."""
        return self._heartbeat.task

    @taskname.setter
    def taskname(self, value: str) -> None:
        self._heartbeat.task = value
        self._beat()

    def set_static_status_field(self, field: str, value: object) -> None:
        """Add a field, a JSON value, to every further heartbeat."""
        self._heartbeat.fields[field] = value

    def set_status(self, status: StatusLike) -> None:
        """Change the status, one of zwrap or of python-workflows, and send it now."""
        self._heartbeat.status = status
        self._beat()

    def shutdown(self) -> None:
        """Do nothing, because heartbeats end when the wrapper does."""


class BaseWrapper(ABC):
    """The base class of wrappers.

    A subclass implements `run` and is registered in the entry point group ``zocalo.wrappers``.
    zwrap sends ``starting`` before `run`, and after it ``success`` or ``failure``, and
    ``completed``. Methods that send use the output that their docstring names, and do nothing
    without a recipe.
    """

    _logger_name = "zocalo.wrapper"
    recwrap: RecipeWrapper | None = None
    """The recipe step; set before `run`."""
    status_thread: StatusNotifications | None = None
    """The heartbeat; set before `run`."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Use `environment`, a mapping that holds the site configuration under ``config``."""
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
        """Set the recipe step; the recipe ID is on each line that the wrapper logs."""
        self.recwrap = recwrap
        self._log_extra["recipe_ID"] = recwrap.environment.get("ID")

    @abstractmethod
    def run(self) -> bool | None:
        """Do the work; return True if it succeeded. An exception is a failure, with its text.

        A signal that asks the job to stop raises StoppedError here. Descendants of this process
        that are left are ended afterwards.
        """

    def _tell(self, channel: str, payload: object) -> None:
        """Send a payload on an output, if there is a recipe."""
        if self.recwrap is not None:
            self.recwrap.send_to(channel, payload)

    def prepare(self, payload: object = "") -> None:
        """Report that the work begins (output `starting`)."""
        self._tell("starting", payload)

    def update(self, payload: object = "") -> None:
        """Report the progress of the work (output `updates`)."""
        self._tell("updates", payload)

    def done(self, payload: object = "") -> None:
        """Report that the work has ended, successfully or not (output `completed`)."""
        self._tell("completed", payload)

    def success(self, payload: object = "") -> None:
        """Report that the work succeeded (output `success`)."""
        self._tell("success", payload)

    def failure(self, payload: object = "") -> None:
        """Report that the work failed, with the reason as text (output `failure`)."""
        self._tell("failure", str(payload))

    def record_result_individual_file(self, payload: object = "") -> None:
        """Send the record of one result file (output `result-individual-file`).

        Keys are `file_path` (directory), `file_name`, `file_type` (``result``, ``log``, ``graph``)
        and `importance_rank` (1: the most important).
        """
        self._tell("result-individual-file", payload)

    def record_result_all_files(self, payload: object = "") -> None:
        """Send the absolute paths of all result files (output `result-all-files`, `filelist`)."""
        self._tell("result-all-files", payload)


class DummyWrapper(BaseWrapper):
    """A wrapper that only waits for 20 seconds, as python-zocalo's of that name does."""

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
