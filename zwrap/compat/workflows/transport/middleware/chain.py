"""The chain of middleware through which a call of a transport goes, and the base of its links."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

Call = Callable[..., Any]


def wrap(method: Call) -> Call:
    """Return a method of a transport whose calls go through `self.middleware`, the first first."""

    @functools.wraps(method)
    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        call: Call = functools.partial(method, self)
        for link in reversed(self.middleware):
            call = functools.partial(getattr(link, method.__name__), call)
        return call(*args, **kwargs)

    return called


class BaseTransportMiddleware:
    """Base of middleware, which passes every call on.

    Each method has the name of a method of transports. Its first argument is the function that goes
    on with the call, the others are those of the call.
    """

    def _pass(self, call_next: Call, *args: Any, **kwargs: Any) -> Any:
        """Go on with a call."""
        return call_next(*args, **kwargs)

    subscribe = subscribe_temporary = subscribe_broadcast = unsubscribe = _pass
    send = raw_send = broadcast = raw_broadcast = ack = nack = _pass
    transaction_begin = transaction_abort = transaction_commit = _pass


def get_callback_source(callable: Call) -> str:  # noqa: A002 - the name of python-workflows
    """Return module and name of a function, also of one that `functools.partial` wraps."""
    while isinstance(callable, functools.partial):
        callable = callable.func  # noqa: A001
    name = getattr(callable, "__qualname__", None) or repr(callable).partition("(")[0]
    module = inspect.getmodule(callable)
    return f"{module.__name__}:{name}" if module else name
