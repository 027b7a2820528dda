"""The program that a step's job runs, as far as its commands tell, and what the step gives it.

A wrong input is found before the job is submitted. Whether its files exist is looked at on the node
only, and so is everything where nodes may have other definitions than this host.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from zwrap.errors import PermanentError, ProgramError, ZwrapError
from zwrap.host.clock import Clock, elapsed
from zwrap.job import JobRequest
from zwrap.message.limits import Limits
from zwrap.program.checks.parameters import remark
from zwrap.program.choice import Choice
from zwrap.program.definition import Definition
from zwrap.program.invocation import given_inputs, values
from zwrap.program.reading import INLINE_PROGRAM, SHIPPED_PREFIX, find_program
from zwrap.recipe.envelope import Envelope

KEPT_S = 60.0
"""Time for which it is known what runs under a name that the site has no definition of, in
seconds."""

PLACEHOLDER = re.compile(r"\{[^{}\s]+\}")

_WRAP = re.compile(
    r"(?:^|[;&|(\s])zocalo\.wrap\s(?:[^;&|\n]*\s)?--wrap(?:\s+|=)(?P<quote>['\"]?)"
    r"(?P<name>[\w.:+-]+)(?P=quote)(?=[\s;&|)]|$)"
)
"""A call of zwrap's wrapper, by its name and not by a path to that of another installation."""

_WORD = r"(?:\"\$\{?\w+\}?\"|\$\{?\w+\}?|'[^'$`\\]*'|\"[^\"$`\\]*\"|[^\s;&|<>()$`'\"\\]+)"
"""A word of shell text that is there as it is, or one variable."""

_ALONE = re.compile(
    rf"(?:exec\s+)?zocalo\.wrap(?:\s+(?:--(?:wrap|recipewrapper)(?:\s+|=){_WORD}"
    rf"|--compat-exit|-v+|--verbose|\d?>>?\s*(?:&\d|{_WORD})))+"
)
"""Shell text before which no other program is called, or found, and that chooses no other site."""

_CHANGING = re.compile(r"PATH|BASH_ENV|(?:PYTHON|LD_|ZOCALO|ZWRAP).*")
"""Environment variables that may change what runs under a name."""

LONGEST_LINE = 4000
"""Length of the longest line in which a program is looked for, in characters."""

LONGEST_NAME = 250
"""Length of the longest name of a program, in characters: that of a file."""

MOST_KEPT = 1000
"""Number of names, other than those of the site's definitions, of which it is known what runs."""

LIMITS = Limits(filled_bytes=1 << 20)
"""Bound on what is filled into the inputs of one step here; the job tells what is wrong beyond."""


class Run(NamedTuple):
    """The definition that a job runs."""

    definition: Definition
    is_certain: bool
    """True if the commands do no more than call it, so that no other can run in its place."""


class Programs:
    """The definitions that jobs run, each read once until its file changes.

    Args:
        site_directory: Directory of the site's definitions; None: it has none.
        clock: Clock, in seconds.
    """

    def __init__(self, site_directory: Path | None, clock: Clock = elapsed) -> None:
        self._directory = site_directory
        self._clock = clock
        self._of_site: dict[str, tuple[tuple[int, int, int], Definition | None]] = {}
        self._others: dict[str, tuple[float, Definition | None]] = {}

    def of(self, request: JobRequest) -> Run | None:
        """Return the definition that a job runs; None: it is not known, or none.

        It is known if the commands call `zocalo.wrap` once, with a name that is there as it is. Of
        wrapper `command` the definition is that of the message, which is not looked at here.
        """
        lines = _lines(request.commands)
        calls = [line for line in lines if "--wrap" in line]
        if len(calls) != 1 or calls[0].count("--wrap") != 1 or len(calls[0]) > LONGEST_LINE:
            return None
        call = _WRAP.search(calls[0])
        name = call["name"] if call else ""
        if name.removeprefix(SHIPPED_PREFIX) in ("", INLINE_PROGRAM) or len(name) > LONGEST_NAME:
            return None
        found = self._own(name) or self._other(name)
        alone = len(lines) == 1 and _ALONE.fullmatch(lines[0]) is not None
        changes = any(map(_CHANGING.fullmatch, request.environment))
        return Run(found, alone and not changes) if found is not None else None

    def fault(self, envelope: Envelope, request: JobRequest) -> str:
        """Return the sentence about a wrong input of a step; empty: none is known to be wrong.

        It holds if the script of the job sets nothing up (`Renderer.is_plain`).
        """
        run = self.of(request)
        if run is None or not run.is_certain:
            return ""
        try:
            parameters = envelope.job_parameters
            payload, environment = envelope.payload, envelope.environment
            values(run.definition, parameters, payload, environment, limits=LIMITS)
        except ProgramError as error:
            return str(error)
        except ZwrapError:  # of another kind, which the job tells
            return ""
        return ""

    def check(self, envelope: Envelope, request: JobRequest, is_plain: Callable[[], bool]) -> str:
        """Return a clause about the inputs of a step of a recipe; empty: they are good.

        A value with a placeholder is known later only, and counts as good. `is_plain`: function
        that returns True if the script of the job sets nothing up.

        Raises:
            ProgramError: An input is wrong, so that no job would be submitted.
        """
        run = self.of(request)
        parameters = envelope.step.get("job_parameters") or {}
        if run is None or not isinstance(parameters, Mapping):
            return ""
        later = _known_later(run.definition, parameters)
        said = [f"warning: {text}" for text in [remark(run.definition, parameters)] if text]
        try:
            values(run.definition, parameters, {}, {}, later)
        except PermanentError as error:
            if run.is_certain and is_plain():
                raise ProgramError(f"node {envelope.pointer}, job_parameters: {error}") from None
            said.append(f"warning: {error}")
        return "; ".join(said)

    def _own(self, name: str) -> Definition | None:
        """Return the site's definition of a name; None: there is none that can be read."""
        if self._directory is None or "/" in name or SHIPPED_PREFIX in name:
            return None
        try:
            status = (self._directory / f"{name}.yaml").stat()
        except OSError:
            return None
        version = (status.st_ino, status.st_size, status.st_mtime_ns)
        if self._of_site.get(name, (None, None))[0] != version:
            self._of_site[name] = version, _read(name, self._directory)
        return self._of_site[name][1]

    def _other(self, name: str) -> Definition | None:
        """Return the shipped definition of a name; None: there is none, or a class runs."""
        known = self._others.get(name)
        if known is None or self._clock() - known[0] > KEPT_S:
            self._others.pop(name, None)
            self._others[name] = known = self._clock(), _shipped(name)
            if len(self._others) > MOST_KEPT:  # the one that was looked for longest ago
                del self._others[next(iter(self._others))]
        return known[1]


def _lines(commands: str) -> list[str]:
    """Return the lines of shell text that are neither empty nor comments."""
    lines = map(str.strip, commands.replace("\\\n", " ").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def is_open(value: object, *, text: bool = False) -> bool:
    """Return True if a value holds a placeholder; `text`: of texts only."""
    if isinstance(value, str):
        return PLACEHOLDER.search(value) is not None
    if text:
        return False
    if isinstance(value, Mapping):
        return any(map(is_open, value)) or any(map(is_open, value.values()))
    return isinstance(value, list) and any(map(is_open, value))


def _known_later(definition: Definition, parameters: Mapping[str, object]) -> set[str]:
    """Return the inputs whose values are known when the recipe is filled in, or the job runs."""
    given = given_inputs(definition, parameters)
    if any(map(is_open, parameters)) or is_open(parameters.get(definition.name), text=True):
        return set(given)
    blocks = {name: parameters.get(each.block or "") for name, each in definition.inputs.items()}
    return {
        name for name, value in given.items() if is_open(value) or is_open(blocks[name], text=True)
    }


def _shipped(name: str) -> Definition | None:
    """Return the shipped definition that runs under a name; None: none, or a class does."""
    try:
        choice = Choice.of(name)
    except ZwrapError:
        return None
    return None if choice.entry is not None else _read(name, None)


def _read(name: str, directory: Path | None) -> Definition | None:
    """Return a definition; None: it cannot be used, which the job tells."""
    try:
        return find_program(name, {}, directory)
    except ZwrapError:
        return None
