"""Templates of files that are written before the start: Jinja2 in a sandbox, within bounds.

A template sees the values of the step and no other: neither files nor the process's environment. A
value is printed as a single text of one line, so that it cannot add lines of its own to the file.
Filters make no more of values than the largest text, and no part of a template runs when it is only
checked.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

import jinja2
import jinja2.filters
import jinja2.meta
import jinja2.sandbox
from jinja2.runtime import Context

from zwrap.errors import ProgramError, short
from zwrap.program.files.dumping import phil_word

if TYPE_CHECKING:
    from _typeshed import TraceFunction

LARGEST_TEXT = 32 << 20
"""Size of the largest text that a template makes, in characters."""

MOST_STEPS = 1_000_000
"""Largest number of lines of a template's code that run: about a second."""

LARGEST_WIDTH = 999
"""Largest width, or precision, in filter ``format``."""

_FILE = "<zwrap template>"
"""Name of a template's code."""

_BREAKS = re.compile("[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]")

_FILTERS = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "groupby",
    "int", "items", "last", "length", "list", "lower", "map", "max", "min", "reject",
    "rejectattr", "reverse", "round", "select", "selectattr", "sort", "string",
    "sum", "title", "tojson", "trim", "truncate", "unique", "upper", "wordcount",
)  # fmt: skip
"""Filters of Jinja2 whose result is not much larger than what they are given; besides, there are
`replace` and `join`, whose results together have a largest size."""

_METHODS = (
    "endswith", "get", "items", "keys", "lower", "lstrip", "removeprefix", "removesuffix", "rstrip",
    "split", "splitlines", "startswith", "strip", "upper", "values",
)  # fmt: skip
"""Methods of values that a template may call; for the rest there are filters."""


class _Lines(str):
    """A text that may have several lines."""

    __slots__ = ()


class _StepsError(Exception):
    """A template runs too long."""


class _Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """An environment in which a template can only read the values that it is given."""

    intercepted_binops = frozenset(["*", "**", "%"])

    left = LARGEST_TEXT
    """Number of characters that filters may still make."""

    def charge(self, size: int) -> None:
        """Count what a filter makes before it does; TemplateRuntimeError if it is too much."""
        self.left -= size
        if self.left < 0:
            raise jinja2.TemplateRuntimeError(
                f"'replace' and 'join' make more than {LARGEST_TEXT} characters"
            )

    def is_safe_attribute(self, obj: object, attr: str, value: object) -> bool:
        """Return True for the few methods of texts, lists and objects, and for a loop's values."""
        if isinstance(obj, (str, list, dict, int, float)):
            return attr in _METHODS
        return bool(super().is_safe_attribute(obj, attr, value))

    def wrap_str_format(self, value: object) -> None:
        """Return no method `format`, which may ask for any width."""

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        """Return a product, a power or a remainder of numbers of a usual size."""
        limit = 1000 if operator == "**" else 1e100
        if not all(isinstance(n, (int, float)) and abs(n) <= limit for n in (left, right)):
            raise jinja2.TemplateRuntimeError(f"'{operator}' is for numbers of a usual size here")
        return super().call_binop(context, operator, left, right)


def check_template(text: str, where: str) -> None:
    """Raise ProgramError, which begins with `where`, for a text that is no template."""
    _compiled(text, where)


def names_in(text: str) -> set[str]:
    """Return the names of the values for which a template asks, as far as it does not set them."""
    return set(jinja2.meta.find_undeclared_variables(_environment().parse(text)))


def rendered(text: str, values: Mapping[str, object], where: str) -> str:
    """Return the text of a file.

    Args:
        text: The template.
        values: Values by name.
        where: Place of the template, for sentences.

    Raises:
        ProgramError: The template asks for a value that is not there, prints one that is no single
            line, or goes on for too long; the text names its line.
    """
    template, line = _compiled(text, where), None
    try:
        with _Steps(MOST_STEPS):
            return _bounded(template.generate(dict(values)))
    except _StepsError:
        why = f"it was given up after {MOST_STEPS} steps"
    except jinja2.TemplateError as error:
        why = (error.message or type(error).__name__).rstrip(".")
        line = _line(error.__traceback__)
    except Exception as error:  # an expression of the template failed as Python does
        why = f"{type(error).__name__}: {error}".rstrip(".")
        line = _line(error.__traceback__)
    place = f", line {line} of the template" if line else ""
    raise ProgramError(f"{where}{place}: {why}.") from None


def _bounded(chunks: Iterator[str]) -> str:
    """Return chunks as one text, unless it is too large."""
    parts, size = [], 0
    for chunk in chunks:
        size += len(chunk)
        if size > LARGEST_TEXT:
            raise jinja2.TemplateRuntimeError(
                f"the text of the file has more than {LARGEST_TEXT} characters"
            )
        parts.append(chunk)
    return "".join(parts)


def _compiled(text: str, where: str) -> jinja2.Template:
    """Return a template; ProgramError, which names the line, for a text that is none."""
    environment = _environment()
    try:
        code = environment.compile(text, filename=_FILE)
    except jinja2.TemplateSyntaxError as error:
        why = (error.message or "").rstrip(".")
        raise ProgramError(f"{where}, line {error.lineno} of the template: {why}.") from None
    except Exception as error:  # nested more deeply than Python's compiler goes, say
        why = f"{error}".rstrip(".")
        raise ProgramError(f"{where}: the template cannot be read: {why}.") from None
    return jinja2.Template.from_code(environment, code, environment.make_globals(None))


def _environment() -> _Sandbox:
    """Return the environment of one template."""
    environment = _Sandbox(
        undefined=jinja2.StrictUndefined,
        finalize=_printed,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
        optimized=False,  # else filters of constants run when a template is only checked
    )
    filters = environment.filters
    environment.filters = {name: filters[name] for name in _FILTERS}
    environment.filters.update(format=_formatted, lines=_lines, phil=_phil)
    environment.filters.update(join=_joined, replace=_replaced)
    for name in ("lipsum", "namespace", "cycler", "joiner"):
        environment.globals.pop(name, None)
    return environment


@jinja2.pass_context  # else what is constant would be printed when a template is only checked
def _printed(_context: Context, value: object) -> object:
    """Return a value as a template prints it: a single line, unless filter ``lines`` allows more.

    Raises TemplateRuntimeError for a value that would add to the file what the template has not.
    """
    if isinstance(value, (_Lines, jinja2.Undefined)):
        return value
    if value is None:
        raise jinja2.TemplateRuntimeError(
            "a value that is printed is null; {% if NAME is not none %} is expected around it"
        )
    if isinstance(value, (list, tuple, Mapping)):
        raise jinja2.TemplateRuntimeError(
            f"{short(value)} is printed; a single value is expected, by {{% for %}} or 'join', say"
        )
    if _BREAKS.search(text := str(value)):
        raise jinja2.TemplateRuntimeError(
            f"{short(text)} has a line break, or another control character; filter 'lines' prints "
            "such a text, where that is meant"
        )
    return text


def _lines(value: object) -> _Lines:
    """Allow line breaks in a text that is printed; `filter`."""
    return _Lines(value)


def _formatted(form: str, *values: object) -> str:
    """Return numbers and texts in a form such as ``%8.3f``; `filter`."""
    if re.search(r"\*|\d{4}", form):
        raise jinja2.TemplateRuntimeError(
            f"{short(form)} asks for a width of more than {LARGEST_WIDTH} characters"
        )
    return form % values


@jinja2.pass_environment
def _joined(
    environment: _Sandbox, values: Iterable[object], separator: str = "", attribute: object = None
) -> str:
    """Return values as one text; `filter`."""
    read = None
    if attribute is not None:
        read = jinja2.filters.make_attrgetter(environment, str(attribute))
    texts = []
    for value in values:
        texts.append(str(read(value) if read else value))
        environment.charge(len(texts[-1]) + len(separator))
    return str(separator).join(texts)


@jinja2.pass_environment
def _replaced(
    environment: _Sandbox, value: object, old: str, new: str, count: int | None = None
) -> str:
    """Return a text with another one in place of a part; `filter`."""
    text, old, new = str(value), str(old), str(new)
    times = text.count(old) if count is None or count < 0 else min(text.count(old), count)
    environment.charge(len(text) + times * (len(new) - len(old)))
    return text.replace(old, new, -1 if count is None else count)


def _phil(value: object) -> str:
    """Return a value as a word of phil, in quotes if it needs them; `filter`."""
    try:
        return phil_word(value, "it")
    except ProgramError as error:
        raise jinja2.TemplateRuntimeError(str(error)) from None


class _Steps:
    """A bound on the number of lines of a template's code that run inside the context."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._before = sys.gettrace()

    def __enter__(self) -> None:
        sys.settrace(self._called)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _called(self, frame: FrameType, _event: str, _argument: object) -> TraceFunction | None:
        """Return the function that counts, if it is a template's code that is called."""
        return self._counted if frame.f_code.co_filename == _FILE else None

    def _counted(self, _frame: FrameType, _event: str, _argument: object) -> TraceFunction:
        """Count a line."""
        self._left -= 1
        if self._left < 0:
            raise _StepsError
        return self._counted


def _line(traceback: TracebackType | None) -> int | None:
    """Return the line of a template in which an error came up; None: it is not known."""
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == _FILE:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line
