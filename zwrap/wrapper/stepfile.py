"""The recipe wrapper file, which holds the recipe step of a job."""

from __future__ import annotations

from pathlib import Path

from zwrap.attempt.directory import FILE_BYTES
from zwrap.errors import MessageError, PermanentError
from zwrap.host.files import UnfitFileError, read_regular
from zwrap.message.jsontext import decode
from zwrap.message.limits import ANY_SIZE, DEFAULTS, Limits
from zwrap.recipe.envelope import Envelope


def read_envelope(file: Path, limits: Limits = DEFAULTS) -> Envelope:
    """Return the recipe step in a recipe wrapper file.

    Raises:
        MessageError: The file cannot be read, or does not hold a step; the text names the file.
    """
    try:
        return Envelope.from_body(_body(file), limits)
    except PermanentError as error:
        raise MessageError(_naming(file, error)) from None


def read_with_fault(file: Path, limits: Limits = DEFAULTS) -> tuple[Envelope, str]:
    """Return the recipe step in a file, and the fault of the file; empty: it has none.

    The outputs of a step with a fault can be told of it: recipe and pointer can be read.

    Raises:
        MessageError: There is nobody to tell; the text names the file.
    """
    body = _body(file)
    try:
        return Envelope.from_body(body, limits), ""
    except PermanentError as error:
        fault = _naming(file, error)
    try:
        return Envelope.from_body(_without_faults(body), ANY_SIZE), fault
    except PermanentError:
        raise MessageError(fault) from None


def _body(file: Path) -> object:
    """Return the JSON value in a file; MessageError if there is none."""
    try:
        content = read_regular(file, FILE_BYTES, follow=True)
    except UnfitFileError as error:
        raise MessageError(f"The recipe wrapper file cannot be read: {error}") from None
    except OSError as error:
        raise MessageError(
            f"The recipe wrapper file {file} cannot be read: {error.strerror}."
        ) from None
    return decode(content, f"recipe wrapper file {file}")


def _without_faults(body: object) -> object:
    """Return a recipe message without those keys whose values are wrong and can be missed."""
    if not isinstance(body, dict):
        return body
    kinds = {"environment": dict, "recipe-path": list}
    return {key: each for key, each in body.items() if isinstance(each, kinds.get(key, object))}


def _naming(file: Path, error: PermanentError) -> str:
    """Return the text of an error, which names the file."""
    text = str(error)
    return text if str(file) in text else f"{file}: {text}"
