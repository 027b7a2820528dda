"""Subscriptions whose callbacks get recipe messages as `RecipeWrapper`."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from zwrap.message.content import RECIPE_HEADER

log = logging.getLogger("workflows.recipe")

Callback = Callable[[Any, Any, Any], object]
"""Function that gets the `RecipeWrapper`, None for a plain message, the header, and the payload."""

LogExtender = Callable[[str, object], AbstractContextManager[object]]
"""Function that adds a field to each line of the log inside the context that it returns."""


def wrap_subscribe(
    transport_layer: Any,
    channel: str,
    callback: Callback,
    *args: Any,
    mangle_for_receiving: Callable[[Any], Any] | None = None,
    **kwargs: Any,
) -> int:
    """Begin to receive messages of a queue; return the number of the subscription.

    Args:
        transport_layer: The transport.
        channel: Name of the queue.
        callback: Function that handles a message.
        args: Further arguments of the transport's `subscribe`.
        mangle_for_receiving: Function that makes the message of its content, which is bytes.
        kwargs: `allow_non_recipe_messages` (False: plain messages are rejected), `log_extender`
            (function that adds the recipe ID to the log), and those of `subscribe`.
    """
    return _wrapped(
        transport_layer, transport_layer.subscribe, channel, callback, *args,
        mangle_for_receiving=mangle_for_receiving, **kwargs,
    )  # fmt: skip


def wrap_subscribe_broadcast(
    transport_layer: Any,
    channel: str,
    callback: Callback,
    *args: Any,
    mangle_for_receiving: Callable[[Any], Any] | None = None,
    **kwargs: Any,
) -> int:
    """Begin to receive messages that are broadcast on a topic, as `wrap_subscribe` does."""
    return _wrapped(
        transport_layer, transport_layer.subscribe_broadcast, channel, callback, *args,
        mangle_for_receiving=mangle_for_receiving, **kwargs,
    )  # fmt: skip


def _wrapped(
    transport: Any,
    subscribe: Callable[..., int],
    channel: str,
    callback: Callback,
    *args: Any,
    mangle_for_receiving: Callable[[Any], Any] | None,
    allow_non_recipe_messages: bool = False,
    log_extender: LogExtender | None = None,
    **kwargs: Any,
) -> int:
    """Subscribe with a function that makes a `RecipeWrapper` of each recipe message."""

    @functools.wraps(callback)
    def unwrapped(header: Any, message: Any) -> object:
        if mangle_for_receiving:
            message = mangle_for_receiving(message)
        if header.get(RECIPE_HEADER) in (True, "True", "true", 1):
            # Looked up in the package, so that tests which replace it there are heard.
            wrapper = sys.modules[__package__ or ""].RecipeWrapper
            step = wrapper(message=message, transport=transport)
            identity = step.environment.get("ID") if log_extender else None
            told = log_extender("recipe_ID", identity) if log_extender and identity else None
            with told or nullcontext():
                return callback(step, header, message.get("payload"))
        if allow_non_recipe_messages:
            return callback(None, header, message)
        log.error(
            "A message of %s is no recipe message (header workflows-recipe: true), which alone is "
            "taken there, and is rejected.", channel,
        )  # fmt: skip
        transport.nack(header)
        return None

    if mangle_for_receiving:
        kwargs["disable_mangling"] = True
    return subscribe(channel, unwrapped, *args, **kwargs)
