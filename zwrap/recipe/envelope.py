"""Station "envelope": a message inside a recipe, and the messages that follow from it.

The five keys and their meaning are those of a python-workflows recipe message:
``recipe``, ``recipe-pointer``, ``recipe-path``, ``environment`` and ``payload``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from zwrap.errors import MessageError
from zwrap.message import JSON, RECIPE_HEADER, Outgoing, encode
from zwrap.recipe.graph import Recipe

log = logging.getLogger(__name__)


class Envelope:
    """A payload at one node of a recipe. Sending returns messages; a transport carries them."""

    def __init__(
        self,
        recipe: Recipe,
        pointer: int,
        *,
        payload: JSON = None,
        environment: Mapping[str, JSON] | None = None,
        path: list[int] | None = None,
        foreign: Mapping[str, JSON] | None = None,
    ) -> None:
        self.recipe = recipe
        self.pointer = pointer
        self.payload = payload
        self.environment = dict(environment or {})
        self.path = list(path or [])
        self._foreign = dict(foreign or {})
        self._unconnected: set[str] = set()

    @classmethod
    def from_body(cls, body: JSON) -> Envelope:
        """Open a recipe message or a recipe wrapper file; MessageError says what it lacks."""
        if not isinstance(body, dict):
            raise MessageError(
                f"A recipe message must be a JSON object, not {type(body).__name__}."
            )
        known = ("recipe", "recipe-pointer", "recipe-path", "environment", "payload")
        if not isinstance(body.get("recipe"), dict):
            raise MessageError("The recipe message has no object under key 'recipe'.")
        recipe = Recipe(body["recipe"], "of the message")
        try:
            pointer = int(body["recipe-pointer"])
        except (KeyError, TypeError, ValueError):
            raise MessageError(
                "The recipe message has no node number under key 'recipe-pointer'."
            ) from None
        if pointer not in recipe or not isinstance(recipe[pointer], dict):
            raise MessageError(f"Key 'recipe-pointer' names node {pointer}, which does not exist.")
        environment = body.get("environment") or {}
        if not isinstance(environment, dict):
            raise MessageError("Key 'environment' of the recipe message must be an object.")
        path = body.get("recipe-path") or []
        if not isinstance(path, list):
            raise MessageError("Key 'recipe-path' of the recipe message must be a list.")
        return cls(
            recipe,
            pointer,
            payload=body.get("payload"),
            environment=environment,
            path=path,
            foreign={key: value for key, value in body.items() if key not in known},
        )

    @property
    def step(self) -> dict[str, Any]:
        """The node that the message is at."""
        node: dict[str, Any] = self.recipe[self.pointer]
        return node

    @property
    def recipe_id(self) -> str | None:
        """Identity of this run of the recipe (``environment.ID``)."""
        identity = self.environment.get("ID")
        return None if identity is None else str(identity)

    @property
    def task(self) -> str | None:
        """What the recipe calls this step (``wrapper.task_information``)."""
        wrapper = self.step.get("wrapper")
        task = wrapper.get("task_information") if isinstance(wrapper, dict) else None
        return str(task) if task else None

    @property
    def job_parameters(self) -> dict[str, Any]:
        """What the recipe tells the wrapped program; MessageError if that is no object."""
        parameters = self.step.get("job_parameters")
        if parameters is None:
            return {}
        if not isinstance(parameters, dict):
            raise MessageError(
                f"Node {self.pointer}, key 'job_parameters' holds a {type(parameters).__name__}; "
                "an object is expected."
            )
        return parameters

    def body(self) -> dict[str, JSON]:
        """The recipe message as it stands on the wire and in a recipe wrapper file."""
        return {
            **self._foreign,
            "environment": self.environment,
            "payload": self.payload,
            "recipe": self.recipe.for_wire(),
            "recipe-path": self.path,
            "recipe-pointer": self.pointer,
        }

    def to_json(self) -> bytes:
        """The five keys as JSON text."""
        return encode(self.body())

    def start(self) -> list[Outgoing]:
        """Messages to the first nodes of the recipe; `self.pointer` plays no part."""
        return [
            message
            for node, payload in self.recipe.start
            for message in self._at(node, payload, path=[]).delivered()
        ]

    def send(self, channel: str, payload: JSON, *, default: bool = False) -> list[Outgoing]:
        """Messages to the nodes behind the output `channel`.

        An unnamed output (a number or a list) takes only the `default` channel of a service.
        A channel that leads nowhere gives no message, and is logged once.
        """
        output = self.step.get("output")
        named = output if isinstance(output, dict) else {channel: output if default else None}
        target = named.get(channel)
        if target is None and channel not in self._unconnected:
            self._unconnected.add(channel)
            log.info("Output %r of node %s is not connected", channel, self.pointer)
        return self._to(target, payload)

    def send_error(self, payload: JSON) -> list[Outgoing]:
        """Messages to the `error` nodes of this step, else to those of the whole recipe."""
        own = self.step.get("error")
        return self._to(self.recipe.error if own is None else own, payload)

    def checkpoint(self, payload: JSON, delay_s: float = 0.0) -> list[Outgoing]:
        """A message to this very node, not delayed by the node; the path does not grow."""
        again = self._at(self.pointer, payload, path=self.path)
        return [replace(message, delay_s=delay_s) for message in again.delivered()]

    def delivered(self) -> list[Outgoing]:
        """This message on its way to the queue, and the topic, of its node."""
        step = self.step
        delay = step.get("transport-delay") or 0
        if not isinstance(delay, (int, float)):
            raise MessageError(
                f"Node {self.pointer}, key 'transport-delay' is {delay!r}; "
                "a number of seconds is expected."
            )
        return [
            Outgoing(
                str(step[kind]),
                self.body(),
                {RECIPE_HEADER: True},
                topic=kind == "topic",
                delay_s=float(delay),
            )
            for kind in ("queue", "topic")
            if step.get(kind)
        ]

    def _to(self, target: Any, payload: JSON) -> list[Outgoing]:
        if isinstance(target, dict):
            target = list(target.values())
        if isinstance(target, list):
            return [message for entry in target for message in self._to(entry, payload)]
        if type(target) is not int:
            return []
        if target not in self.recipe:
            raise MessageError(f"Node {self.pointer} leads to node {target}, which does not exist.")
        return self._at(target, payload, path=[*self.path, self.pointer]).delivered()

    def _at(self, node: int, payload: JSON, path: list[int]) -> Envelope:
        return Envelope(
            self.recipe,
            node,
            payload=payload,
            environment=self.environment,
            path=path,
            foreign=self._foreign,
        )
