"""Tests of a definition that cannot hold, whatever the definition says.

Jobs do not read tests at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zwrap.errors import PermanentError
from zwrap.program.checks.faults import Fault, unknown
from zwrap.program.checks.parameters import unknown_parameters
from zwrap.program.definition import Definition
from zwrap.program.invocation import given_inputs, values
from zwrap.program.keys.expectation import Expectation
from zwrap.program.keys.inputs import converted
from zwrap.program.parsers.route import steps
from zwrap.program.plan import commands


def expectation_faults(definition: Definition) -> Iterator[Fault]:
    """Yield a complaint for each thing of a test that does not exist, or cannot be."""
    for number, test in enumerate(definition.tests):
        for fault in _faults(definition, test):
            yield Fault(("tests", str(number), *fault.route), fault.said)


def _faults(definition: Definition, test: Expectation) -> Iterator[Fault]:
    """Yield the faults of one test, with keys in it."""
    place = Path(definition.source).parent / test.directory
    if not place.is_dir():
        said = f"{place} is not a directory; one with the files of a finished run is expected."
        yield Fault(("directory",), said)
    if test.cause is not None and test.cause not in (causes := _causes(definition)):
        yield Fault(("cause",), unknown("cause", test.cause, causes))
    if test.outcome == "success":
        yield from _of_success(definition, test)
    for clause in unknown_parameters(definition, test.job_parameters):
        yield Fault(("job_parameters",), f"The program knows no {clause}.")
    yield from _of_parameters(definition, test, place)
    outputs = [*definition.outputs]
    for way in test.values:
        name = next((step for step, _ in steps(way)), "")
        if name not in outputs and way not in outputs:
            yield Fault(("values",), unknown("output", name, outputs))


def _of_success(definition: Definition, test: Expectation) -> Iterator[Fault]:
    """Yield what is expected beside a success, and excludes one."""
    if test.cause is not None:
        said = (
            "A cause is that of a failure, and a success is expected; write 'outcome: failure' "
            "beside it."
        )
        yield Fault(("cause",), said)
    accepted = [command.success.exit_status for command in commands(definition)]
    if not any(test.exit_status in each or not each for each in accepted):
        said = (
            f"With exit status {test.exit_status} a run is no success: 'success.exit_status' is "
            f"{accepted[0]}. Write 'outcome: failure' beside it, or accept the status there."
        )
        yield Fault(("exit_status",), said)


def _of_parameters(definition: Definition, test: Expectation, place: Path) -> Iterator[Fault]:
    """Yield the faults of job parameters with which no job would start."""
    given = {**test.job_parameters, "working_directory": str(place.absolute())}
    wrong = []
    for name, value in given_inputs(definition, given).items():
        declared = definition.inputs[name]
        if value != declared.default and not (isinstance(value, str) and "{" in value):
            try:
                converted(declared, value, f"Input {name!r}")
            except PermanentError as error:
                wrong.append(Fault(("job_parameters", name), str(error)))
    yield from wrong
    if not wrong:
        try:
            values(definition, given, test.payload, {})
        except PermanentError as error:
            yield Fault(("job_parameters",), str(error))


def _causes(definition: Definition) -> list[str]:
    """Return the labels of the known errors of a definition."""
    from zwrap.program.causes.errorlist import known_errors

    found = known_errors(definition.errors, definition.errors_of, definition.source)
    return sorted({error.cause for error in found})
