"""Who sent a request: what its headers and parameters say, as it travels with the run it started.

The Dispatcher writes it into the environment of the envelope, which every step passes on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from zwrap.message.jsontext import encode

KEY = "zwrap-request"
"""Key in the environment of an envelope."""

USER_HEADER, HOST_HEADER, SENT_HEADER = "zocalo.go.user", "zocalo.go.host", "zwrap-sent"
"""Headers of a request: who says to have sent it, on which host, and when, in seconds since the
epoch."""

ID_HEADER = "zwrap-request"
"""Header of a request that is put back until it is ready: the id under which it was sent."""

DIRECTORIES = (
    "workingdir", "working_directory", "ispyb_working_directory", "results_directory",
    "ispyb_results_directory", "directory", "ispyb_image_directory",
)  # fmt: skip
"""Parameters that name the directory of a request, the first one that is there."""

LONGEST_ID, LONGEST_USER, LONGEST_HOST, LONGEST_DIRECTORY = 80, 80, 255, 1000
"""Largest numbers of characters of what is told."""

MOST_RECIPES = 10
"""Largest number of names of recipes that are told."""


class Sender(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request as its sender describes it; None or empty: it does not say."""

    id: str
    user: str | None = None
    host: str | None = None
    sent: float | None = None
    """Time at which it was sent, in seconds since the epoch."""
    directory: str | None = None
    recipes: list[str] = []
    """Names of the recipes that it asks for."""


def described(
    identity: str,
    headers: Mapping[str, object],
    parameters: Mapping[str, object],
    recipes: object,
) -> dict[str, object]:
    """Return the environment's entry about a request, under `KEY`; empty: its sender tells nothing.

    Args:
        identity: The id of the message.
        headers: Its headers.
        parameters: The parameters of the run, as the filters of the site leave them.
        recipes: The names of recipes in the request.
    """
    user, host = _text(headers.get(USER_HEADER)), _text(headers.get(HOST_HEADER))
    if not user and not host:
        return {}
    given = (_text(parameters.get(name)) for name in DIRECTORIES)
    directory = next((each for each in given if each and each.startswith("/")), None)
    names = recipes if isinstance(recipes, (list, tuple)) else []
    sender = Sender(
        _text(headers.get(ID_HEADER)) or identity, user, host, _time(headers.get(SENT_HEADER)),
        directory, [name for each in names[:MOST_RECIPES] if (name := _text(each))],
    )  # fmt: skip
    return {KEY: msgspec.to_builtins(sender)}


def sender_in(environment: Mapping[str, object]) -> Sender | None:
    """Return who sent the request of a run; None: it is not known.

    Anybody may have written it: what is not valid is left out, what is long is cut.
    """
    given = environment.get(KEY)
    if not isinstance(given, dict):
        return None
    identity, names = _text(given.get("id")), given.get("recipes")
    if not identity or len(identity) > LONGEST_ID:
        return None
    texts = [_text(each) for each in names[:MOST_RECIPES]] if isinstance(names, list) else []
    return Sender(
        identity,
        _text(given.get("user"), LONGEST_USER),
        _text(given.get("host"), LONGEST_HOST),
        _time(given.get("sent")),
        _text(given.get("directory"), LONGEST_DIRECTORY),
        [text for text in texts if text],
    )


def encode_names(names: Sequence[str]) -> str:
    """Return names of recipes as JSON text."""
    return encode(list(names)).decode()


def _text(value: object, longest: int = LONGEST_DIRECTORY) -> str | None:
    """Return a text that is not empty, cut, without NUL and half characters; None: it is none."""
    if not isinstance(value, str) or not value:
        return None
    clean = value.replace("\0", "").encode(errors="replace").decode()
    return clean if len(clean) <= longest else f"{clean[: longest - 3]}..."


def _time(value: object) -> float | None:
    """Return a time in seconds since the epoch, as a broker may have made a text of it."""
    try:
        time = float(value) if isinstance(value, (int, float, str)) else math.nan
    except (ValueError, OverflowError):
        return None
    return time if 0 < time < 1e11 else None
