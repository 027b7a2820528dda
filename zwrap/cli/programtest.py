"""`zwrap program test`: judge the files of finished runs, and hold them against expectations."""

from __future__ import annotations

import argparse
from pathlib import Path

from zwrap.cli.common import complain, say
from zwrap.cli.programs import checked, job_parameters, payload_of
from zwrap.cli.programtrial import show
from zwrap.configuration.site import Configuration
from zwrap.errors import PermanentError, ProgramError, RequestError
from zwrap.program.definition import Definition
from zwrap.program.keys.expectation import Expectation, disappointments


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Judge a directory, or those of the definition's own tests.

    Return 0 if the run was a success, or if all expectations hold, else 1.
    """
    directory, given = _directory(options.given)
    parameters = job_parameters(given)
    definition = checked(options.name, configuration.site.program_directory, parameters)
    parameters = job_parameters(given, definition)
    if directory is None:
        if given:
            raise RequestError(
                "Job parameters are given, and no directory of a finished run before them: "
                "zwrap program test NAME DIR KEY=VALUE ..."
            )
        return _own_tests(definition, as_json=options.json)
    if not directory.is_dir():
        raise ProgramError(f"{directory} is not a directory; one of a finished run is expected.")
    from zwrap.wrapper.trial import Trial

    payload = payload_of(options.payload)
    judged = Trial(definition, parameters, payload, directory.absolute(), saved=True).judge(
        options.exit_status
    )
    show(judged, as_json=options.json)
    return 1 if judged.failures else 0


def _directory(given: list[str]) -> tuple[Path | None, list[str]]:
    """Return the directory on a command line, which stands first, and the rest of it."""
    if given and ("=" not in given[0] or Path(given[0]).is_dir()):
        return Path(given[0]), given[1:]
    return None, given


def _own_tests(definition: Definition, *, as_json: bool) -> int:
    """Judge each directory that the definition names; return 1 if an expectation does not hold."""
    if not definition.tests:
        raise RequestError(
            f"Program {definition.name!r} ({definition.source}) has no 'tests'; name a directory: "
            f"zwrap program test {definition.name} DIR KEY=VALUE ..."
        )
    status = 0
    for expected in definition.tests:
        try:
            said = _tried(definition, expected, as_json=as_json)
        except PermanentError as error:
            said = [str(error)]
        for sentence in said:
            complain(f"{definition.name}, test {expected.directory}: {sentence}")
            status = 1
        if not said:
            say(f"good: {definition.name}, test {expected.directory}")
    return status


def _tried(definition: Definition, expected: Expectation, *, as_json: bool) -> list[str]:
    """Judge one directory; return a sentence for each expectation that does not hold."""
    from zwrap.wrapper.trial import Trial

    directory = (Path(definition.source).parent / expected.directory).absolute()
    trial = Trial(definition, expected.job_parameters, expected.payload, directory, saved=True)
    judged = trial.judge(expected.exit_status)
    outputs = {each.name: each.value for each in judged.outputs if not each.said}
    said = disappointments(
        expected,
        failed=bool(judged.failures),
        cause=judged.known.cause if judged.known else "",
        outputs=outputs,
    )
    if said or as_json:
        show(judged, as_json=as_json)
    return said
