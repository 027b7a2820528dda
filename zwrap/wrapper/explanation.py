"""The explanation of a failure by a known error of the program, with its correction."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from zwrap.errors import ProgramError
from zwrap.program.causes.corrections import Route, corrected
from zwrap.program.causes.recognition import Recognized
from zwrap.program.definition import Definition
from zwrap.wrapper.ended import Ended, Facts

log = logging.getLogger(__name__)


def explained(
    ended: Ended,
    name: str,
    failures: Sequence[str],
    known: Recognized | None,
    definition: Definition,
    job_parameters: Mapping[str, object],
) -> Ended:
    """Return the end of a run with its failure as one sentence, which begins with the cause.

    Args:
        ended: End of the run.
        name: Name of the program, and of the command if there are several.
        failures: Clauses about what was wrong; none for a success, which nothing explains.
        known: Known error that explains them; None: none does.
        definition: Definition of the program.
        job_parameters: Those of the step.
    """
    if not failures:
        return replace(ended, failures=[], known=None)
    if known is None:
        return replace(ended, failures=[f"{name}: {'; '.join(failures)}"])
    clauses = [known.says, *(clause for clause in failures if clause != known.says)]
    facts: Facts = {**ended.facts, "cause_label": known.cause}
    if known.remedy:
        facts["remedy"] = known.remedy
    return replace(
        ended,
        failures=[f"{name}: {'; '.join(clauses)}"],
        known=known,
        changes=_changes(known, definition, job_parameters),
        facts=facts,
    )


def _changes(
    known: Recognized, definition: Definition, job_parameters: Mapping[str, object]
) -> dict[Route, object]:
    """Return the values of a correction; empty if the program does not take them."""
    try:
        return corrected(definition, known.set, job_parameters)
    except ProgramError as error:  # the table may be that of several programs
        log.warning("The correction of %r is left out: %s", known.cause, error)
        return {}
