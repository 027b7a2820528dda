"""Secrets in what is shown: passwords in URLs, tokens, values of variables named like secrets.

Patterns are texts here: each is compiled when a line first needs it, and no start waits for that.
"""

from __future__ import annotations

import re

from zwrap.host.printable import printable

HIDDEN = "(hidden)"
"""Text in place of a secret."""

_WORDS = (
    r"(?i)passw|passphrase|pass$|(?<=[a-z_-])(?<!old)pwd|secret|token|credential|jwt|bearer|private"
    r"|cookie|authorization|(?:api|access|account|signing|ssl)[_-]?key|(?<!routing)(?<!primary)_key$"
)
"""Parts of names of secrets."""

_IDENTITIES = ("zwrap_token", "zwrap-token")
"""Names that look like those of secrets, but belong to identities."""

_PATHS = r"(?i)^user_token$|(?:file|path|directory)$"
"""Names whose value, if it is an absolute path, is the place of a secret and not the secret."""

_PAIR = r"""(?<![\w.%-])([\w.%-]++)=('[^']*'|"[^"]*"|[^\s&;#,'"<>()\[\]{}]+)"""
"""A parameter of a URL or of a connection: ``?sslpassword=X``, ``password='X Y'``."""

_ENTRY = r"""(['"])([\w.-]++)\1: ?b?('[^']*'|"[^"]*")"""
"""An entry of a dictionary, in Python or in JSON: ``'SLURM_JWT': 'X'``."""

_HEADER = r"(?i)(?<!\w)(authorization: ?|bearer )[^\s'\",;]{8,}(?: [^\s'\",;]{8,})?"
_ENDS_AUTHORITY = r"[\s/?#]"
_PLAIN_HOST = r"\[.*|[^:]*(?::\d*\W*)?"
_JWT = r"(?<![\w.-])eyJ[\w-]++\.[\w.-]+"


def is_secret(name: str) -> bool:
    """Return True if the name of a key or an environment variable tells that it holds a secret."""
    named_key = name == "key" or (name.isupper() and "KEY" in name)
    return bool(named_key or re.search(_WORDS, name)) and name.lower() not in _IDENTITIES


def without_secrets(text: str) -> str:
    """Return a text without the passwords and tokens in it.

    These are passwords in URLs (``//user:X@``), values of parameters and of dictionary entries with
    the name of a secret, credentials of HTTP, and JSON Web Tokens. Takes time in proportion to the
    length of the text.
    """
    if "//" in text and "@" in text:
        text = _without_passwords(_without_passwords(text, "://"), "//")
    if "=" in text:
        text = re.sub(_PAIR, _hidden_pair, text)
    if "': " in text or '":' in text:
        text = re.sub(_ENTRY, _hidden_entry, text)
    if "eyJ" in text:
        text = re.sub(_JWT, HIDDEN, text)
    return re.sub(_HEADER, rf"\1{HIDDEN}", text)


def shown(text: str) -> str:
    """Return a text from outside as one line for people: printable, and without secrets."""
    return printable(without_secrets(text))


def without_secret_values(value: object) -> object:
    """Return a value as JSON or YAML has it, without the secrets at any depth of it."""
    if isinstance(value, dict):
        return {name: of_name(str(name), each) for name, each in value.items()}
    if isinstance(value, list):
        return [without_secret_values(each) for each in value]
    return without_secrets(value) if isinstance(value, str) else value


def of_name(name: str, value: object) -> object:
    """Return the value that belongs to a name, or `HIDDEN` if it is a secret."""
    if not is_secret(name) or value in (None, "", [], {}):
        return without_secret_values(value)
    at_a_place = isinstance(value, str) and value.startswith("/") and re.search(_PATHS, name)
    return value if at_a_place else HIDDEN


def _without_passwords(text: str, before: str) -> str:
    """Return a text without the passwords of users in URLs, whose users stand behind `before`."""
    first, *rest = text.split(before)
    return before.join([first, *map(_without_password, rest)])


def _without_password(rest: str) -> str:
    """Return what follows ``//``, without the password of a user before a host.

    A password that is not percent-encoded may hold ``/``, ``?``, ``#`` and blanks.
    """
    authority = re.split(_ENDS_AUTHORITY, rest, maxsplit=1)[0]
    place = authority
    if "@" not in authority and not re.fullmatch(_PLAIN_HOST, authority):
        word = rest.split(maxsplit=1)[0] if rest.strip() else ""
        place = word if "@" in word else rest.partition("\n")[0]
    userinfo, at, _ = place.rpartition("@")
    user, colon, password = userinfo.partition(":")
    if not password:
        return rest
    return f"{user}{colon}{HIDDEN}{at}{rest[len(userinfo) + 1 :]}"


def _hidden_pair(found: re.Match[str]) -> str:
    """Return ``name=value``, with the value hidden if it is a secret."""
    name, value = found.groups()
    return f"{name}={HIDDEN}" if is_secret(name) and value != "VALUE" else found[0]


def _hidden_entry(found: re.Match[str]) -> str:
    """Return an entry of a dictionary, with the value hidden if it is a secret."""
    quote, name = found[1], found[2]
    return f"{quote}{name}{quote}: {HIDDEN}" if is_secret(name) else found[0]
