"""Station "envelope": a message inside a recipe, and the messages that follow from it.

The five keys and their meaning are those of a python-workflows recipe message:
``recipe``, ``recipe-pointer``, ``recipe-path``, ``environment`` and ``payload``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from msgspec.structs import replace

from zwrap.errors import MessageError, short
from zwrap.message.content import RECIPE_HEADER, Outgoing
from zwrap.message.jsontext import encode
from zwrap.message.limits import DEFAULTS, Limits, is_deeper
from zwrap.recipe.destinations import is_closed, refusal
from zwrap.recipe.graph import Node, Recipe
from zwrap.recipe.validation import is_number
from zwrap.units import LONGEST_S

log = logging.getLogger(__name__)

FEW = 8
"""Number of messages below which their size in all is not looked at."""

KEYS = ("recipe", "recipe-pointer", "recipe-path", "environment", "payload")
"""Keys of a recipe message with a meaning to zwrap; all others are passed on unchanged."""


class Envelope:
    """A payload at one node of a recipe.

    Methods that send return messages, which the caller gives to a transport. Their MessageError
    names the node and the key that is not usable.
    """

    def __init__(
        self,
        recipe: Recipe,
        pointer: int,
        *,
        payload: object = None,
        environment: Mapping[str, object] | None = None,
        path: list[int] | None = None,
        foreign: Mapping[str, object] | None = None,
        limits: Limits = DEFAULTS,
    ) -> None:
        """Place a message at a node.

        Args:
            recipe: Recipe that the message follows.
            pointer: Number of the node at which the message is.
            payload: JSON value for the node.
            environment: JSON values that every message of this run of the recipe carries.
            path: Numbers of the nodes through which the message came.
            foreign: Further keys of the message and their JSON values.
            limits: Limits of sizes, here of what is sent.
        """
        self.recipe = recipe
        self.pointer = pointer
        self.payload = payload
        self.environment = dict(environment or {})
        self.path = list(path or [])
        self._foreign = dict(foreign or {})
        self.limits = limits
        """Limits of sizes, for what is sent and for changed recipes."""
        self._unconnected: set[str] = set()

    @classmethod
    def from_body(cls, body: object, limits: Limits = DEFAULTS) -> Envelope:
        """Read a recipe message or a recipe wrapper file.

        Raises:
            MessageError: It is no recipe message.
            RecipeError: The recipe exceeds a limit.
        """
        if not isinstance(body, dict):
            raise MessageError(
                f"A recipe message must be a JSON object, not {type(body).__name__}."
            )
        if not isinstance(body.get("recipe"), dict):
            raise MessageError(
                "The recipe message has no object under key 'recipe'; the recipe is expected there."
            )
        if is_deeper(body["recipe"], limits.depth):  # before it is copied
            raise MessageError(
                f"The recipe of the message is nested more than {limits.depth} deep (section "
                "limits, key 'depth')."
            )
        recipe = Recipe(body["recipe"], "of the message")
        recipe.check_sizes(limits)
        try:
            pointer = int(body["recipe-pointer"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise MessageError(
                "The recipe message has no node number under key 'recipe-pointer'."
            ) from None
        if pointer not in recipe or not isinstance(recipe[pointer], dict):
            raise MessageError(
                f"Key 'recipe-pointer' names node {short(pointer)}, which does not exist."
            )
        environment = body.get("environment") or {}
        if not isinstance(environment, dict):
            raise MessageError("Key 'environment' of the recipe message must be an object.")
        path = body.get("recipe-path") or []
        if not isinstance(path, list):
            raise MessageError("Key 'recipe-path' of the recipe message must be a list.")
        if len(path) > limits.rounds * recipe.node_count:
            raise MessageError(
                f"The message goes round in its recipe: it has passed {len(path)} nodes, and there "
                f"are {recipe.node_count} (section limits, key 'rounds': {limits.rounds})."
            )
        return cls(
            recipe,
            pointer,
            payload=body.get("payload"),
            environment=environment,
            path=path,
            foreign={key: value for key, value in body.items() if key not in KEYS},
            limits=limits,
        )

    @property
    def step(self) -> Node:
        """The node at which the message is, not to be changed."""
        return self.recipe.node(self.pointer)

    @property
    def recipe_id(self) -> str | None:
        """Identity of this run of the recipe (``environment.ID``)."""
        identity = self.environment.get("ID")
        return None if identity is None else str(identity)

    @property
    def task(self) -> str | None:
        """Name of this step in the recipe (``wrapper.task_information``)."""
        wrapper = self.step.get("wrapper")
        task = wrapper.get("task_information") if isinstance(wrapper, dict) else None
        return str(task) if task else None

    @property
    def job_parameters(self) -> dict[str, object]:
        """Parameters of the wrapped program; raises MessageError if they are not an object."""
        return self._object("job_parameters")

    @property
    def parameters(self) -> dict[str, object]:
        """Parameters of the service; raises MessageError if they are not an object."""
        return self._object("parameters")

    def _object(self, key: str) -> dict[str, object]:
        """Return the object under a key of the node; an empty one if there is none."""
        value = self.step.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise MessageError(
                f"Node {self.pointer}, key {key!r} holds a {type(value).__name__}; "
                "an object is expected."
            )
        return value

    def body(self) -> dict[str, object]:
        """Return the recipe message in its form on the wire and in a recipe wrapper file."""
        return {
            **self._foreign,
            "environment": self.environment,
            "payload": self.payload,
            "recipe": self.recipe.wire,
            "recipe-path": self.path,
            "recipe-pointer": self.pointer,
        }

    def to_json(self) -> bytes:
        """Return the recipe message as JSON text."""
        return encode(self.body())

    def start(self) -> list[Outgoing]:
        """Return messages to the first nodes of the recipe, with their payloads from `start`."""
        return self._checked(
            [
                message
                for node, payload in self.recipe.start
                for message in self._at(node, payload, path=[]).delivered()
            ]
        )

    def send(self, channel: str, payload: object, *, default: bool = False) -> list[Outgoing]:
        """Return messages to the nodes behind an output; none if it is not connected.

        Args:
            channel: Name of the output.
            payload: JSON value for the nodes.
            default: True if an unnamed output (a number or a list) stands for `channel`.
        """
        output = self.step.get("output")
        named = output if isinstance(output, dict) else {channel: output if default else None}
        target = named.get(channel)
        if target is None and channel not in self._unconnected:
            self._unconnected.add(channel)
            log.info("Output %r of node %s is not connected", channel, self.pointer)
        return self._checked(self._to(target, payload))

    def send_error(self, payload: object) -> list[Outgoing]:
        """Return messages to the `error` nodes of this step, else to those of the recipe."""
        own = self.step.get("error")
        return self._checked(self._to(self.recipe.error if own is None else own, payload))

    def checkpoint(self, payload: object, delay_s: float = 0.0) -> list[Outgoing]:
        """Return messages to this node again, delayed by `delay_s` seconds, with the same path."""
        again = self._at(self.pointer, payload, path=self.path)
        return [replace(message, delay_s=delay_s) for message in again.delivered()]

    def delivered(self) -> list[Outgoing]:
        """Return the messages that carry this envelope to the queue and topic of its node.

        With key `exchange`, the message to the queue goes to that exchange of RabbitMQ, by the name
        of the queue.
        """
        step = self.step
        delay = step.get("transport-delay") or 0
        if not is_number(delay) or not 0 <= delay <= LONGEST_S:
            raise MessageError(
                f"Node {self.pointer}, key 'transport-delay' is {short(delay)}; "
                f"a number of seconds is expected, {LONGEST_S} at most."
            )
        exchange = step.get("exchange")
        if exchange and not self._is_open("exchange", exchange):
            return []
        by = _destination(self.pointer, "exchange", exchange) if exchange else ""
        return [
            Outgoing(
                _destination(self.pointer, kind, step[kind]),
                self.body(),
                {RECIPE_HEADER: True},
                topic=kind == "topic",
                delay_s=float(delay),
                exchange=by if kind == "queue" else "",
            )
            for kind in ("queue", "topic")
            if step.get(kind) and self._is_open(kind, step[kind])
        ]

    def _is_open(self, kind: str, name: object) -> bool:
        """Return True if a name is a target for recipes; another gets nothing, which is logged.

        Services refuse such a recipe; the steps of a job may have been changed by the job.
        """
        if not is_closed(kind, name, self.limits.open_names):
            return True
        log.error("Nothing is sent to node %s: %s", self.pointer, refusal(kind, name))
        return False

    def _checked(self, messages: list[Outgoing]) -> list[Outgoing]:
        """Return messages to several nodes; MessageError if they are too large in all."""
        number = len(messages)
        if number < FEW:
            return messages
        recipe = len(encode(self.recipe.wire))
        own = (len(encode(messages[0].message)) - recipe) * number
        for what, size, key in (
            ("would have, with one recipe,", recipe + own, "sent_bytes"),
            ("would carry recipes of", recipe * number, "copies_bytes"),
        ):
            limit = getattr(self.limits, key)
            if size > limit:
                raise MessageError(
                    f"{number} messages {what} {size} bytes; up to {limit} are sent (section "
                    f"limits, key {key!r})."
                )
        return messages

    def _to(self, target: object, payload: object) -> list[Outgoing]:
        """Return messages to all nodes of an output; MessageError for a node that is not there."""
        if isinstance(target, dict):
            target = list(target.values())
        if isinstance(target, list):
            return [message for entry in target for message in self._to(entry, payload)]
        if type(target) is not int:
            return []
        if target not in self.recipe or not isinstance(self.recipe[target], dict):
            raise MessageError(
                f"Node {self.pointer} leads to node {short(target)}, which does not exist."
            )
        return self._at(target, payload, path=[*self.path, self.pointer]).delivered()

    def _at(self, node: int, payload: object, path: list[int]) -> Envelope:
        """Return an envelope of the same run at another node."""
        return Envelope(
            self.recipe,
            node,
            payload=payload,
            environment=self.environment,
            path=path,
            foreign=self._foreign,
            limits=self.limits,
        )


def _destination(pointer: int, kind: str, name: object) -> str:
    """Return the name of a queue, topic or exchange; MessageError if it is not a text."""
    if isinstance(name, (str, int, float)):
        return str(name)
    raise MessageError(f"Node {pointer}, key {kind!r} is {short(name)}; a name is expected.")
