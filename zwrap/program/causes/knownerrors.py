"""Known errors of a program: texts that tell why a run failed, each with its cause and remedy.

An entry explains a failure and does not make one: success rules do that. The first entry that is
found, in the order of the definition and then of its tables, names the cause.
"""

# Annotations are not postponed: msgspec would compile each when a job starts.
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import msgspec

from zwrap.errors import ProgramError, short
from zwrap.job import Count
from zwrap.program.keys.marks import FILLED
from zwrap.program.patterns import check_pattern

EXIT_STATUS = "exit_status"
"""Place of an error that the exit status tells."""

OUTPUT = ("stderr", "stdout")
"""Places where an error is looked for if its entry names none."""

LONGEST_LABEL = 60
"""Length of the longest label, in characters."""

_LABEL = r"[a-z0-9]+(-[a-z0-9]+)*"
FIELD = r"\{([A-Za-z_]\w*)\}"
"""Form of a placeholder for a named group."""


class Correction(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The change of job parameters with which a further attempt may succeed.

    It is made only where the retry policy of step or site allows corrections.
    """

    set: dict[str, object]
    """Job parameters and their values: an input, or an option as ``block.option`` or in a mapping
    below its block. ``{group}`` in a text stands for a named group of the pattern."""
    limit: Count = 1
    """Largest number of attempts that are made with this correction, with other values each time:
    the same values are never set twice."""


class KnownError(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A text or exit status by which a program's failure is known, with its cause and remedy."""

    where: Annotated[str | list[str], FILLED] = []
    """``stderr``, ``stdout``, ``exit_status``, or the pattern of a file that this run wrote, or a
    list of them; nothing: stderr and stdout, or what the table of errors says."""
    pattern: str
    """Regular expression; ``^`` and ``$`` match at the ends of each line. The whole exit status
    (128 + signal for a program that a signal killed) must match."""
    cause: str
    """Label of the cause: small letters and digits, with hyphens between words."""
    says: str = ""
    """Cause as a clause for people, in which ``{group}`` stands for a named group of the pattern;
    empty: the line of the match."""
    remedy: str = ""
    """Advice for people, as sentences; ``{group}`` likewise."""
    retry: Correction | None = None
    """Change of job parameters with which a further attempt may succeed."""
    stop_early: bool = False
    """True if the error is also looked for while the program runs, which is then ended."""


def places(error: KnownError, usual: Sequence[str] = OUTPUT) -> list[str]:
    """Return the places of an error; `usual` ones if its entry names none."""
    given = [error.where] if isinstance(error.where, str) else error.where
    return given or list(usual)


def check_errors(errors: Sequence[KnownError], at: Callable[..., str], *route: str) -> None:
    """Raise ProgramError for a fault that the types of the keys do not exclude.

    Args:
        errors: Known errors.
        at: Function from keys, from the outermost, to file and line.
        route: Keys below which the errors are.
    """
    for number, error in enumerate(errors):
        _check(error, f"{at(*route, str(number))}, known error {number + 1} ({error.cause[:80]!r})")


def _check(error: KnownError, where: str) -> None:
    """Raise ProgramError, which begins with `where`, for a fault of one entry."""
    if len(error.cause) > LONGEST_LABEL or not re.fullmatch(_LABEL, error.cause):
        raise ProgramError(
            f"{where}: the cause is no label; small letters and digits with hyphens between words "
            f"are expected, such as 'no-spots-found', up to {LONGEST_LABEL} characters."
        )
    check_pattern(error.pattern, where)
    groups = re.compile(error.pattern).groupindex
    texts = [error.says, error.remedy, *_texts_in(error.retry.set if error.retry else {})]
    for name in (name for text in texts for name in re.findall(FIELD, text)):
        if name not in groups:
            raise ProgramError(
                f"{where}: '{{{name}}}' is no named group of the pattern {short(error.pattern)}; "
                f"it has {', '.join(groups) or 'none'}."
            )
    _check_correction(error.retry, where)
    for place in places(error):
        if not place:
            raise ProgramError(f"{where}, key 'where' is empty; {_PLACES}.")
        if error.stop_early and (place == EXIT_STATUS or "**" in place):
            raise ProgramError(
                f"{where}: {place!r} cannot be looked at while the program runs; with 'stop_early' "
                "stderr, stdout or a file pattern without '**' is expected under 'where'."
            )


def _check_correction(correction: Correction | None, where: str) -> None:
    """Raise ProgramError, which begins with `where`, for a correction that cannot be made."""
    if correction is None:
        return
    if not correction.set:
        raise ProgramError(f"{where}, key 'retry.set' is empty; job parameters are expected.")
    for value in _leaves(correction.set):
        if value is not None and not isinstance(value, (str, int, float)):
            raise ProgramError(
                f"{where}, key 'retry.set': {short(value)} is a {type(value).__name__}; texts, "
                "numbers, true, false, lists and mappings of them are expected."
            )


_PLACES = "stderr, stdout, exit_status or a file pattern is expected"


def _texts_in(value: object) -> Iterator[str]:
    """Yield the texts in the values of a correction."""
    return (each for each in _leaves(value) if isinstance(each, str))


def _leaves(value: object) -> Iterator[object]:
    """Yield the values in lists and mappings."""
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)
    else:
        yield value
