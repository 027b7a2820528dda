"""Wrappers written in Python: the interface of python-zocalo's wrappers.

`BaseWrapper`, its `recwrap` and its `status_thread` have the names, arguments and meaning of
``zocalo.wrapper`` and ``workflows.recipe.wrapper``, so that a class written for them runs after its
import was changed. Payloads and headers are JSON values; values of other types are sent as text.
"""

from __future__ import annotations

import contextlib
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from zwrap.message.content import RECIPE_HEADER, Outgoing
from zwrap.recipe.changing import ChangingRecipe
from zwrap.recipe.envelope import Envelope
from zwrap.wrapper.heartbeat import Heartbeat, StatusLike
from zwrap.wrapper.outboxtransport import Header, OutboxTransport, Post, from_text, timed

Mangle = Callable[[Any], object]
"""Function that makes the text of a message from its body."""

FINAL_CHANNELS = ("starting", "success", "failure", "completed")
"""Outputs on which zwrap itself sends."""


class RecipeWrapper:
    """The recipe step for a wrapper: its parameters, and methods to send messages.

    All messages go through the outbox, so that no outage of a broker delays or loses them. Methods
    that send have the arguments `header` (further headers), `delay` and `expiration` (seconds),
    `exchange`, and `mangle_for_sending`, a function that makes JSON text of the whole message. They
    raise MessageError for another one that asks for something, such as `transaction`, and if the
    recipe is wrong at the output.
    """

    def __init__(self, envelope: Envelope, post: Post) -> None:
        """Describe a step; `post` sends its messages."""
        self.payload: Any = envelope.payload
        """Payload of the message to the step."""
        self.default_channel: str | None = None
        """Name of the output for `send`, where outputs have names."""
        self.transport = OutboxTransport(post)
        self._envelope = envelope
        self.recipe = envelope.recipe
        self._post = post
        self._muted: dict[str, object] | None = None
        """Output to the last payload that was not sent; None: nothing is muted."""

    @property
    def recipe(self) -> ChangingRecipe:
        """The whole recipe, which messages carry."""
        return self._recipe

    @recipe.setter
    def recipe(self, recipe: object) -> None:
        self._envelope.recipe = self._recipe = ChangingRecipe.of(recipe)

    @property
    def recipe_pointer(self) -> int:
        """Number of this step's node."""
        return self._envelope.pointer

    @recipe_pointer.setter
    def recipe_pointer(self, number: int) -> None:
        self._envelope.pointer = number

    @property
    def recipe_step(self) -> dict[str, Any]:
        """The node; its `job_parameters` are those of the program."""
        return self._envelope.step

    @recipe_step.setter
    def recipe_step(self, node: object) -> None:
        del node
        raise AttributeError(
            "recipe_step cannot be replaced, because messages carry the recipe: change what is in "
            "it, or set recipe and recipe_pointer."
        )

    @property
    def recipe_path(self) -> list[int]:
        """Numbers of the nodes through which the message came."""
        return self._envelope.path

    @recipe_path.setter
    def recipe_path(self, path: list[int]) -> None:
        self._envelope.path = path

    @property
    def environment(self) -> dict[str, Any]:
        """Values that every message carries on; later steps can read values set here."""
        return self._envelope.environment

    @environment.setter
    def environment(self, values: dict[str, Any]) -> None:
        self._envelope.environment = values

    def set_default_channel(self, channel: str) -> None:
        """Let `send` use this channel, and an unnamed output of the step stand for it."""
        self.default_channel = channel

    def send_to(
        self, channel: str, message: object, header: Header | None = None, **how: object
    ) -> None:
        """Send a payload to the nodes behind output `channel`, to none if it is not connected."""
        if self._muted is not None and channel in FINAL_CHANNELS:
            self._muted[channel] = message
            return
        default = channel == self.default_channel
        self._send(self._envelope.send(channel, message, default=default), header, how)

    def send(self, message: object, header: Header | None = None, **how: object) -> None:
        """Send a payload to the nodes behind the unnamed output, or behind the default channel."""
        if not isinstance(self.recipe_step.get("output"), dict):
            self._send(self._envelope.send("", message, default=True), header, how)
        elif self.default_channel:
            self.send_to(self.default_channel, message, header, **how)

    def checkpoint(
        self, message: object, header: Header | None = None, delay: float = 0, **how: object
    ) -> None:
        """Send a payload to this step again, `delay` seconds later."""
        self._send(self._envelope.checkpoint(message, delay), header, how)

    def start(self, header: Header | None = None, **how: object) -> None:
        """Raise ValueError, because the recipe of a running step has been started."""
        del header, how
        raise ValueError("This recipe has already been started.")

    def apply_parameters(self, parameters: Mapping[str, object]) -> None:
        """Fill in values, by name, in the whole recipe, which further messages carry."""
        self.recipe.apply_parameters(parameters, limits=self._envelope.limits)

    @contextlib.contextmanager
    def muted(self) -> Iterator[dict[str, object]]:
        """Send nothing on the outputs on which zwrap sends; yield what was not sent, by output."""
        self._muted = {}
        try:
            yield self._muted
        finally:
            self._muted = None

    def _send(
        self, messages: list[Outgoing], header: Header | None, how: Mapping[str, object]
    ) -> None:
        """Send recipe messages with further headers, `delay`, `expiration` and `exchange`."""
        headers = {**(header or {}), RECIPE_HEADER: True}
        options = dict(how)
        mangle = options.get("mangle_for_sending")
        if callable(mangle):
            del options["mangle_for_sending"]
            messages = [_mangled(message, mangle) for message in messages]
        self._post([timed(replace(message, headers=headers), options) for message in messages])


def _mangled(message: Outgoing, mangle: Mangle) -> Outgoing:
    """Return a message with the body whose text a function makes; MessageError if it cannot be."""
    body = from_text(mangle(message.message), "mangle_for_sending")
    return replace(message, message=body)


class StatusNotifications:
    """The heartbeat for a wrapper, which may change it; python-zocalo calls it the status thread.

    Heartbeats go to topic ``transient.status``, every 3 s and after each change of name or status.
    """

    name = "zocalo status notification"
    daemon = True

    def __init__(
        self,
        heartbeat: Heartbeat,
        beat: Callable[[], None],
        send: Callable[[Mapping[str, object]], None] | None = None,
    ) -> None:
        """Change `heartbeat`; `beat` sends it immediately, `send` any other status message."""
        self._heartbeat = heartbeat
        self._beat = beat
        self._send = send
        self._alive = True

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

    def send_status(self, dictionary: Mapping[str, object]) -> None:
        """Send a status message of the wrapper's own, once; ValueError if fields are missing."""
        if self._send is not None:
            self._send(dictionary)

    def shutdown(self) -> None:
        """Note that the wrapper wants no more heartbeats; they end when the wrapper does."""
        self._alive = False

    def is_alive(self) -> bool:
        """Return True until `shutdown`."""
        return self._alive

    def join(self, timeout: float | None = None) -> None:
        """Return at once: heartbeats end when the wrapper does, which need not wait for it."""


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
