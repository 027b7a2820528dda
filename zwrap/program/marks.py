"""Marks of keys of a definition: what the texts under them mean, for checks and for the reference.

A mark is written into the type of a field: ``files: Annotated[list[str], FILLED]``. It holds for
all texts below the field, but not for those in structs, whose fields have marks of their own.
"""

from __future__ import annotations

import msgspec

FILLED = msgspec.Meta(extra={"texts": "filled"})
"""Texts in which ``{name}`` stands for a value."""

INPUT_NAME = msgspec.Meta(extra={"texts": "input"})
"""Texts that are names of inputs, or of other keys of `job_parameters`."""
