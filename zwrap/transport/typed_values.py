"""Values that JSON lacks, in a file: each is an object with one key, which names its type."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from decimal import Decimal, InvalidOperation

from zwrap.errors import MessageError
from zwrap.host.printable import well_formed


def in_json(value: object) -> object:
    """Return a value as JSON holds it: ``{"time": 1767323045}``, ``{"bytes": "/wA="}``, ..."""
    if isinstance(value, dict):
        return {"table": {well_formed(str(key)): in_json(each) for key, each in value.items()}}
    if isinstance(value, (list, tuple)):
        return [in_json(each) for each in value]
    if isinstance(value, dt.datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
        return {"time": aware.timestamp()}
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)  # clients have integers of their own
    return value


def from_json(value: object) -> object:
    """Return a value that `in_json` wrote; MessageError if it did not."""
    if isinstance(value, list):
        return [from_json(each) for each in value]
    if not isinstance(value, dict):
        return value
    try:
        [(kind, given)] = value.items()
        if kind == "table":
            return {key: from_json(each) for key, each in given.items()}
        if kind == "time":
            return dt.datetime.fromtimestamp(given, dt.UTC)
        if kind == "decimal":
            return Decimal(given)
        if kind == "bytes":
            return base64.b64decode(given, validate=True)
    except (
        ValueError, TypeError, AttributeError, OverflowError, OSError, InvalidOperation,
        binascii.Error, RecursionError,
    ):  # fmt: skip
        pass
    raise MessageError(
        'A value that JSON lacks is expected as {"time": SECONDS}, {"decimal": TEXT}, {"bytes": '
        'BASE64} or {"table": {...}}.'
    )
