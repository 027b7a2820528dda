"""What a definition says without effect: no fault, and perhaps not what was meant."""

from __future__ import annotations

import re
from collections.abc import Iterator

from zwrap.program.checks.parameters import used_names
from zwrap.program.definition import Definition
from zwrap.program.keys.marks import FILLED, marked

_DOUBLED = re.compile(r"\{\{([\w-]+)\}\}")


def remarks(definition: Definition) -> Iterator[str]:
    """Yield a sentence for each input that is used nowhere, or that stands in doubled braces."""
    used = set(used_names(definition))
    for name, declared in definition.inputs.items():
        if name not in used and declared.block is None:
            yield f"{definition.source}: input {name!r} is used nowhere."
    for route, text, _ in marked(definition, FILLED):
        for name in _DOUBLED.findall(text):
            if name in definition.inputs:
                yield (
                    f"{definition.source}, key {'.'.join(route)!r}: '{{{{{name}}}}}' is the text "
                    f"'{{{name}}}'; the value of input {name!r} is '{{{name}}}', in single braces."
                )
