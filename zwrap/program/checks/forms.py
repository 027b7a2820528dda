"""Inputs of a program for forms and shells: a JSON Schema, and completions of ``key=value``."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from zwrap.program.definition import Definition
from zwrap.program.keys.inputs import Group, Input

DIALECT = "https://json-schema.org/draft/2020-12/schema"
"""Version of JSON Schema."""

_TYPES = {"text": "string", "integer": "integer", "number": "number", "boolean": "boolean",
          "file": "string"}  # fmt: skip


def schema(definition: Definition) -> dict[str, object]:
    """Return the JSON Schema of the job parameters of a program, for a form.

    Properties are in the order of the definition, which ``order`` numbers for readers that keep
    none; an input of a block is a property of that block. Names of files have the format ``path``.
    Job parameters beside the inputs are allowed.
    """
    blocks: dict[str | None, dict[str, Input]] = {}
    for name, declared in definition.inputs.items():
        blocks.setdefault(declared.block, {})[name] = declared
    order = {name: number for number, name in enumerate(definition.inputs, 1)}
    own = _object(blocks.pop(None, {}), order)
    properties = own["properties"]
    assert isinstance(properties, dict)
    properties |= {str(block): _object(inputs, order) for block, inputs in blocks.items()}
    rules = [rule for group in definition.groups for rule in _rules(group, definition.inputs)]
    return {
        "$schema": DIALECT,
        "title": definition.name,
        **({"description": definition.description} if definition.description else {}),
        **own,
        **({"allOf": rules} if rules else {}),
    }


def completions(definition: Definition, word: str, given: Collection[str] = ()) -> list[str]:
    """Return what a shell may put in place of a word that is to be ``key=value``.

    Args:
        definition: The definition.
        word: The word as far as it is written.
        given: Other words of the command line; an input that one of them gives is left out.

    Returns:
        Words that begin with `word`: inputs as ``key=``, or values of one that has choices or is
        true or false; none where the shell knows better, as for names of files.
    """
    key, equals, _ = word.partition("=")
    if not equals:
        used = {each.partition("=")[0] for each in given}
        lists = {name for name, each in definition.inputs.items() if each.type == "list"}
        names = [name for name in definition.inputs if name not in used - lists]
        return [f"{name}=" for name in names if name.startswith(word)]
    declared = definition.inputs.get(key)
    if declared is None:
        return []
    values = [str(choice) for choice in declared.choices]
    if not values and declared.item == "boolean":
        values = ["true", "false"]
    return [text for text in (f"{key}={value}" for value in values) if text.startswith(word)]


def _object(inputs: Mapping[str, Input], order: Mapping[str, int]) -> dict[str, object]:
    """Return the schema of an object with these inputs."""
    properties: dict[str, object] = {
        name: {**_property(declared), "title": name, "order": order[name]}
        for name, declared in inputs.items()
    }
    required = [
        name for name, each in inputs.items() if each.required and each.default in (None, "", [])
    ]
    return {
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
    }


def _property(declared: Input) -> dict[str, object]:
    """Return the schema of one input."""
    single = _single(declared)
    found: dict[str, object] = single
    if declared.type == "list":
        found = {"type": "array", **({"items": single} if single else {})}
    elif declared.type is None and declared.file:
        name = {"type": "string", "format": "path"}
        found = {"anyOf": [name, {"type": "array", "items": name}]}
    if declared.description:
        found["description"] = declared.description
    if declared.default is not None:
        found["default"] = declared.default
    return found


def _single(declared: Input) -> dict[str, object]:
    """Return the schema of a single value, or of an entry of a list."""
    if declared.item is None:
        return {}
    found: dict[str, object] = {"type": _TYPES[declared.item]}
    if declared.item == "file":
        found["format"] = "path"
    if declared.choices:
        found["enum"] = list(declared.choices)
    if declared.minimum is not None:
        found["minimum"] = declared.minimum
    if declared.maximum is not None:
        found["maximum"] = declared.maximum
    if declared.pattern is not None:
        found["pattern"] = f"^(?:{declared.pattern})$"
    return found


def _rules(group: Group, inputs: Mapping[str, Input]) -> list[dict[str, object]]:
    """Return the schemas that say what a group of inputs needs; none where a block is between."""
    if any(inputs[name].block for name in group.names):
        return []
    each: list[dict[str, object]] = [{"required": [name]} for name in group.names]
    if group.one_of:
        return [{"oneOf": each}]
    if group.any_of:
        return [{"anyOf": each}]
    names = group.names
    return [{"dependentRequired": {name: [n for n in names if n != name] for name in names}}]
