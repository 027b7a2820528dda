"""Explanation of a message body that cannot be read, by what its sender calls it."""

from __future__ import annotations

from zwrap.errors import short

TEXTS = ("", "utf-8", "utf8", "us-ascii", "ascii", "identity")
"""Encodings that mean text as it is."""


def why_unreadable(error: object, content_type: object, content_encoding: object) -> str:
    """Return why a body cannot be read, with what its sender calls it, if that is not JSON text."""
    called = []
    if content_encoding and str(content_encoding).lower() not in TEXTS:
        called.append(f"content_encoding {short(content_encoding)}")
    if content_type and "json" not in str(content_type).lower():
        called.append(f"content_type {short(content_type)}")
    if not called:
        return str(error)
    return (
        f"{error} Its sender gives {' and '.join(called)}; JSON text is expected, neither "
        "compressed nor packed."
    )
