"""A site's functions for requests: filters, and those that say whether a request is ready."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from zwrap.errors import MessageError, OutageError, PermanentError, TemporaryError, TransportError
from zwrap.host.forks import ending_children
from zwrap.message.limits import LARGEST_DEPTH, is_deeper
from zwrap.recipe.graph import Recipe

Parameters = dict[str, object]
"""The parameters of a request."""

Request = dict[str, object]
"""The body of a request."""

Hook = Callable[[Request, Parameters], object]
"""A site's function, which tells whether a request is ready, or changes a request."""


def recipe_of(message: Request) -> Recipe:
    """Return the recipe that the filters left in a request; an empty one if they left none.

    It may be a mapping, or an object of python-workflows. Raises MessageError for anything else.
    """
    found = message.get("recipe")
    if found is None:
        return Recipe()
    if is_deeper(getattr(found, "recipe", found), LARGEST_DEPTH, made_by_code=True):
        raise MessageError(
            "A filter of the site left a recipe with a value that refers to itself, or is nested "
            f"more than {LARGEST_DEPTH} deep; flatter values are expected."
        )
    try:
        recipe = Recipe.of(found)
    except TypeError:
        raise MessageError(
            f"A filter of the site left an object of type {type(found).__name__} under key "
            "'recipe'; a recipe is expected."
        ) from None
    if recipe is not found:
        recipe.name = "of a filter"
    return recipe


def called(hook: Hook, message: Request, parameters: Parameters) -> object:
    """Return the result of a site's function.

    Only a PermanentError condemns the request. With a TemporaryError that names no time the
    function says that something is away which it needs for any request.

    Raises:
        MessageError: The function put a value into the request that no code can go through.
    """
    name = _name(hook)
    try:
        with ending_children():
            answer = hook(message, parameters)
    except PermanentError:
        raise
    except TemporaryError as error:
        ours = not isinstance(error, TransportError)  # else it is of a transport of the site's own
        if ours and (isinstance(error, OutageError) or error.retry_after_s is not None):
            raise
        raise OutageError(f"The site's function {name} cannot work now: {error}") from error
    except Exception as error:
        with contextlib.suppress(Exception):  # the class is the site's
            error.add_note(f"The site's function {name} failed.")
        raise
    _check_depth(name, message, parameters)
    return answer


def filtered(hook: Hook, message: Request, parameters: Parameters) -> tuple[Request, Parameters]:
    """Return a request and its parameters, changed by a filter of the site."""
    answer = called(hook, message, parameters)
    parts = answer if isinstance(answer, tuple) else (answer,)
    if len(parts) == 2 and isinstance(parts[0], dict) and isinstance(parts[1], dict):
        _check_depth(_name(hook), *parts)
        return parts[0], parts[1]
    raise MessageError(
        f"The site's filter {_name(hook)} returned "
        f"{', '.join(type(part).__name__ for part in parts[:9]) or 'nothing'}; the pair (message, "
        "parameters), two dictionaries, is expected."
    )


def _check_depth(name: str, *values: object) -> None:
    """Raise MessageError if a site's function left a value that no code can go through."""
    if any(is_deeper(value, LARGEST_DEPTH, made_by_code=True) for value in values):
        raise MessageError(
            f"The site's function {name} left a request with a value that refers to itself, "
            f"or is nested more than {LARGEST_DEPTH} deep; flatter values are expected."
        )


def _name(hook: Hook) -> str:
    """Return module and name of a site's function."""
    return f"{hook.__module__}.{getattr(hook, '__qualname__', repr(hook))}"
