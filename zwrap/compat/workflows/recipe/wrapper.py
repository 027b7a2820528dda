"""A recipe message at one of its nodes, with the methods of python-workflows.

It sends through any transport of `zwrap.compat.workflows.transport`, or a mock of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from zwrap.compat.workflows.recipe.recipe import Recipe
from zwrap.message.content import RECIPE_HEADER
from zwrap.recipe.envelope import KEYS

Mangle = Callable[[Any], Any]
"""Function that makes the content of a message of a recipe message."""

Header = Mapping[str, Any]


class RecipeWrapper:
    """A recipe, at one of its nodes if it was made from a message."""

    def __init__(
        self,
        message: Mapping[str, Any] | None = None,
        transport: Any = None,
        recipe: Recipe | Mapping[Any, Any] | str | None = None,
        environment: dict[str, Any] | None = None,
        **kwargs: object,
    ) -> None:
        """Take a recipe message, or a recipe that has not been started.

        Args:
            message: The message.
            transport: Connection for all methods that send.
            recipe: The recipe, where there is no message.
            environment: Values that every message carries on; None: those of the message.
            kwargs: Taken as python-workflows does, without a meaning.

        Raises:
            ValueError: There is neither a message nor a recipe.
        """
        del kwargs
        if not message and not recipe:
            raise ValueError("A RecipeWrapper needs a message or a recipe.")
        self.recipe_pointer: int | None = None
        self.recipe_step: dict[str, Any] | None = None
        self.recipe_path: list[int] = []
        self.environment: Any = environment or {}
        self.payload: Any = None
        self._foreign: dict[str, Any] = {}
        if message:
            self.recipe = Recipe(message["recipe"])
            self.recipe_pointer = int(message["recipe-pointer"])
            self.recipe_step = self.recipe[self.recipe_pointer]
            self.recipe_path = message.get("recipe-path", [])
            if environment is None:
                self.environment = message.get("environment", {})
            self.payload = message.get("payload")
            self._foreign = {key: value for key, value in message.items() if key not in KEYS}
        else:
            self.recipe = recipe if isinstance(recipe, Recipe) else Recipe(recipe)
        self.default_channel: str | None = None
        self.transport = transport

    def send(self, *args: Any, **kwargs: Any) -> None:
        """Send a payload to the nodes behind the unnamed output, or behind the default channel.

        Arguments are `message`, `header`, `mangle_for_sending` (a function that makes the content),
        and those of the transport's `send`.
        """
        output = self._step().get("output")
        if not isinstance(output, dict):
            self._send_to(output, *args, **kwargs)
        elif self.default_channel:
            self.send_to(self.default_channel, *args, **kwargs)

    def send_to(self, channel: str, *args: Any, **kwargs: Any) -> None:
        """Send a payload to the nodes behind output `channel`, to none if it is not connected.

        Further arguments are those of `send`.
        """
        output = self._step().get("output")
        if isinstance(output, dict):
            self._send_to(output.get(channel), *args, **kwargs)
        elif channel == self.default_channel:
            self.send(*args, **kwargs)

    def set_default_channel(self, channel: str) -> None:
        """Let `send` use this channel, and an unnamed output of the step stand for it."""
        self.default_channel = channel

    def start(self, header: Header | None = None, **kwargs: Any) -> None:
        """Send the messages to the first nodes of the recipe.

        Raises ValueError if this is a message of a recipe that was started, or has no transport.
        """
        self._connected()
        if self.recipe_step:
            raise ValueError("This recipe has already been started.")
        for node, payload in self.recipe["start"]:
            self._send_to_destination(node, header, payload, kwargs)

    def checkpoint(
        self,
        message: Any,
        header: Header | None = None,
        delay: float = 0,
        **kwargs: Any,
    ) -> None:
        """Send a payload to this node again, `delay` seconds later."""
        self._step()
        self._send_to_destination(
            self.recipe_pointer, header, message, {**kwargs, "delay": delay}, add_path_step=False
        )

    def apply_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Fill in values, by name, in the whole recipe, which further messages carry."""
        self.recipe.apply_parameters(parameters)
        if self.recipe_pointer is not None:
            self.recipe_step = self.recipe[self.recipe_pointer]

    def _connected(self) -> None:
        """Raise ValueError without a transport."""
        if not self.transport:
            raise ValueError("This RecipeWrapper has no transport to send with.")

    def _step(self) -> dict[str, Any]:
        """Return the node; ValueError without one, or without a transport."""
        self._connected()
        if not self.recipe_step:
            raise ValueError("This RecipeWrapper is at no step of its recipe.")
        return self.recipe_step

    def _send_to(
        self,
        nodes: object,
        message: Any,
        header: Header | None = None,
        mangle_for_sending: Mangle | None = None,
        **kwargs: Any,
    ) -> None:
        """Send a payload to several nodes, to one, or for None to none."""
        listed = nodes if isinstance(nodes, list) else [] if nodes is None else [nodes]
        for node in listed:
            self._send_to_destination(
                node, header, message, kwargs, mangle_for_sending=mangle_for_sending
            )

    def _send_to_destination(
        self,
        destination: Any,
        header: Header | None,
        payload: Any,
        transport_kwargs: Mapping[str, Any],
        add_path_step: bool = True,
        mangle_for_sending: Mangle | None = None,
    ) -> None:
        """Send a payload to queue and topic of a node.

        Tools of facilities call it by this name, to put a step in again, say.

        Args:
            destination: Number of the node.
            header: Headers besides those of a recipe message.
            payload: The payload.
            transport_kwargs: Arguments of the transport's `send`.
            add_path_step: Whether the present node is on the path of the message.
            mangle_for_sending: Function that makes the content.
        """
        step = self.recipe[destination]
        options = dict(transport_kwargs)
        if "transport-delay" in step:
            options.setdefault("delay", step["transport-delay"])
        headers = {**(header or {}), RECIPE_HEADER: True}
        raw = mangle_for_sending is not None
        if step.get("queue"):
            exchange = {"exchange": step["exchange"]} if "exchange" in step else {}
            send = self.transport.raw_send if raw else self.transport.send
            content = self._content(destination, payload, mangle_for_sending, add_path_step)
            send(step["queue"], content, headers=dict(headers), **{**exchange, **options})
        if step.get("topic"):
            send = self.transport.raw_broadcast if raw else self.transport.broadcast
            content = self._content(destination, payload, mangle_for_sending, add_path_step)
            send(step["topic"], content, headers=dict(headers), **options)

    def _content(self, node: int, payload: Any, mangle: Mangle | None, add_path_step: bool) -> Any:
        """Return the recipe message for a node."""
        own = [self.recipe_pointer] if add_path_step and self.recipe_pointer else []
        message = {
            **self._foreign,
            "environment": self.environment,
            "payload": payload,
            "recipe": self.recipe.recipe,
            "recipe-path": self.recipe_path + own,
            "recipe-pointer": node,
        }
        return mangle(message) if mangle else message
