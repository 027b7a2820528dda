"""Definitions in recipes, those of wrapper `command`, as far as they are known without values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from zwrap.errors import FaultsError, PermanentError
from zwrap.program.checks.checking import check_form, checked
from zwrap.program.reading import INLINE_PROGRAM, inline_definition
from zwrap.recipe.substitution import Filling

_WRAPS = re.compile(rf"--wrap[ =]['\"]?(?:zwrap:)?{INLINE_PROGRAM}(?![\w.-])")

LATER = "\ue000"
"""Text in place of a value that a Dispatcher fills in, which no recipe holds."""

_TEXTS = ("command", "set_up", "environment", "directory", "description", "messages")
"""Keys of a definition in which any text may stand."""


class _Later:
    """A value that a Dispatcher fills in later, every key of which may be there."""

    def __getitem__(self, key: int | str) -> _Later:
        return self

    def __format__(self, spec: str) -> str:
        return LATER


class _Every(Mapping[str, object]):
    """The parameters of a recipe that are known later only: there may be one of every name."""

    def __getitem__(self, key: str) -> object:
        return _Later()

    def __contains__(self, key: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def inline_faults(nodes: Mapping[int, Mapping[str, object]]) -> list[PermanentError]:
    """Return the faults of the definitions in the steps of a recipe whose wrapper is `command`."""
    found: list[PermanentError] = []
    for number, node in sorted(nodes.items()):
        parameters = node.get("job_parameters")
        if isinstance(parameters, Mapping) and _WRAPS.search(str(node.get("parameters"))):
            try:
                _check(parameters, f"node {number}, job_parameters")
            except PermanentError as error:
                found += error.faults if isinstance(error, FaultsError) else [error]
    return found


def _check(parameters: Mapping[str, object], where: str) -> None:
    """Raise ProgramError or FaultsError if the definition in job parameters is wrong.

    What is known later only is left out; then what the rest refers to is not known, either.
    """
    data = inline_definition({key: _filled(value) for key, value in parameters.items()}, where)
    known = {key: each for key, each in data.items() if key in _TEXTS or LATER not in str(each)}
    if len(known) < len(data):
        check_form(known, where, INLINE_PROGRAM)
    else:
        checked(known, where, INLINE_PROGRAM, further=parameters)


def _filled(value: object) -> object:
    """Return a value of a recipe as a Dispatcher would fill it in."""
    return _plain(Filling(_Every()).value(value))


def _plain(value: object) -> object:
    """Return a value with text in place of what is known later only."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return LATER if isinstance(value, _Later) else value
