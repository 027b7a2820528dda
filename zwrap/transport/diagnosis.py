"""Short descriptions of a message; no content of a message can make them fail."""

from __future__ import annotations

from collections.abc import Mapping

from zwrap.message.content import Message
from zwrap.message.jsontext import encode
from zwrap.transport.contract import Delivery
from zwrap.transport.copies import BY_BROKER

SHOWN = 1000
"""Number of characters of the body that are shown."""


def recipe_id_of(message: Message) -> str | None:
    """Return the recipe ID in a recipe message, or in a request; None if there is none."""
    body = message.body if isinstance(message.body, Mapping) else {}
    for key, name in (("environment", "ID"), ("parameters", "guid")):
        block = body.get(key)
        if isinstance(block, Mapping) and isinstance(block.get(name), str):
            return str(block[name])
    return None


def diagnosis(delivery: Delivery) -> str:
    """Return a description of a message that is put aside because it was delivered too often."""
    fate = (
        f"The message was handed out {delivery.delivery_count - 1} times and never finished; "
        "each time its receiver failed or died."
    )
    shown = f"It begins: {beginning(delivery.message.body)}"
    return "\n".join([fate, *_work(delivery.message), shown])


def reason_of(delivery: Delivery) -> str:
    """Return the reason of a dead letter; if the broker put it aside, with a description of it."""
    if delivery.reason and not delivery.reason.startswith(BY_BROKER):
        return delivery.reason
    return "\n".join([delivery.reason or "No reason was given.", *_work(delivery.message)])


def beginning(body: object) -> str:
    """Return the first characters of a body."""
    try:
        text = body if isinstance(body, str) else encode(body).decode("utf-8", "replace")
    except (TypeError, ValueError, RecursionError):
        text = f"a {type(body).__name__} that cannot be written as JSON"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _work(message: Message) -> list[str]:
    """Return sentences about the step and the route of a message, as far as it holds them."""
    body = message.body
    if not isinstance(body, Mapping) or "recipe-pointer" not in body:
        return ["It is not a recipe message."]
    pointer = body["recipe-pointer"]
    recipe = body.get("recipe")
    node = recipe.get(str(pointer)) if isinstance(recipe, Mapping) else None
    path = body.get("recipe-path")
    route = [*(path if isinstance(path, list) else []), pointer]
    return [
        f"It was working on node {pointer}{_purpose(node)} of recipe {recipe_id_of(message)}.",
        f"Its route: {' -> '.join(map(str, route))}",
    ]


def _purpose(node: object) -> str:
    """Return the name of a node in its recipe, in parentheses."""
    if not isinstance(node, Mapping):
        return ""
    wrapper = node.get("wrapper")
    task = wrapper.get("task_information") if isinstance(wrapper, Mapping) else None
    name = task or node.get("service") or node.get("queue")
    return f" ({name})" if name else ""
