"""What messages may do on a site: where files may be, what may be run, which queues are targets."""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from zwrap.attempt.directory import SUBMISSION, JobDirectory
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import SUBMITTED, Attempt
from zwrap.attempt.verdict import messages_on
from zwrap.cli import exposed, security
from zwrap.cli.zwrap import main
from zwrap.configuration.site import Configuration
from zwrap.errors import (
    ConfigurationError,
    MessageError,
    ProgramError,
    RecipeError,
    RequestError,
    ZwrapError,
)
from zwrap.host.beneath import AllowedDirectories, OutsideError
from zwrap.job import State
from zwrap.message.jsontext import encode
from zwrap.message.limits import ANY_SIZE, DEFAULTS, of_submitted
from zwrap.pool import shepherd
from zwrap.pool.jobs import DONE, LocalBatch, LocalEnd, LocalJob, read_end
from zwrap.program import judgement
from zwrap.program.reading import parse_definition
from zwrap.recipe.destinations import is_closed
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.service import runner, submitter
from zwrap.service.contract import Service
from zwrap.service.dispatcher import Dispatcher
from zwrap.service.jsonlines import JSONLines
from zwrap.service.loop import handle_delivery
from zwrap.service.runner import Runner
from zwrap.service.submitter import Submitter
from zwrap.service.watcher.conclusion import InDirectory
from zwrap.transport.memory import MemoryTransport
from zwrap.transport.spool.transport import SpoolTransport
from zwrap.wrapper import command, results
from zwrap.wrapper.heartbeat import Heartbeat
from zwrap.wrapper.permission import permitted_program
from zwrap.wrapper.step import ProgramStep

from .swapping import SWAPPED_S, listing, swapping

ROOT = Path(__file__).parents[2]

KEY = "(section security, key 'directories')"


def configured(**security: Any) -> Configuration:
    """Return the configuration of a site with a section `security`."""
    text = {
        "version": 1,
        "security": {"plugin": "security", **security},
        "environments": {"default": ["security"]},
    }
    return Configuration.from_string(json.dumps(text)).activate()


class Site:
    """A site whose messages may name paths below ``work``, beside which is a file to keep."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.work = directory / "work"
        (self.work / "job").mkdir(parents=True)
        (directory / "workx").mkdir()
        self.out = directory / "out"
        self.out.mkdir()
        (self.out / "precious").write_text("kept")
        (self.work / "leads").symlink_to(self.out)
        (self.work / "job" / "leads").symlink_to(self.out)
        (self.work / "job" / "file").symlink_to(self.out / "precious")
        self.configuration = configured(directories=[str(self.work)])
        self.transport = MemoryTransport()
        self.submitted: list[str] = []
        self._monkeypatch = monkeypatch

    def without_batch_system(self) -> None:
        """Have files written as ever, and no job submitted."""

        def submit_all(_: Any, __: Any, jobs: Any, on_outcomes: Any, *more: Any) -> None:
            del more
            for job in jobs:
                try:
                    job.write()
                    self.submitted.append(job.attempt.token)
                    on_outcomes([(job.attempt.token, "1")])
                except Exception as error:
                    on_outcomes([(job.attempt.token, error)])

        self._monkeypatch.setattr(submitter, "submit_all", submit_all)

    def handle(self, kind: Callable[..., Any], step: dict[str, Any], **keys: Any) -> list[str]:
        """Have a service handle one step; return the reasons of its dead letters."""
        service = kind(self.configuration, self.transport)
        queue = service.queue
        recipe = Recipe({"start": [[1, 0]], "1": {"queue": queue, **step}, "2": {"queue": "told"}})
        self.transport.subscribe(queue, 10)
        body = {**Envelope(recipe, 1, payload={"a": 1}).body(), **keys}
        self.transport.send(queue, body, {"workflows-recipe": True})
        delivery = self.transport.receive(0)
        assert delivery
        handle_delivery(service, delivery, lambda _: None)
        service.idle()
        service.close()
        dead = self.transport.broker.dead_letters.pop(queue, [])
        return [each.reason for each in dead]

    def is_untouched(self) -> bool:
        """Return True if what is outside of the allowed directory is as it was."""
        kept = (self.out / "precious").read_text() == "kept"
        return (
            kept
            and os.listdir(self.out) == ["precious"]
            and not any((self.directory / "workx").iterdir())
        )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


PATHS = [
    "../../out/precious", "../../out/new", "../../workx/new", "{}/out/precious", "{}/workx/new",
    "{}/work/../out/new", "leads/new", "leads/new/newer", "{}/work/leads/precious", "//etc/new",
]  # fmt: skip
"""Paths that lead out of ``work``, by text or by link; relative ones start in ``work/job``."""


# -- paths: the Submitter --------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["recipewrapper", "wrapper", "recipeenvironment", "recipefile"])
@pytest.mark.parametrize("path", PATHS)
def test_no_file_for_a_job_is_written_outside(site: Site, key: str, path: str) -> None:
    site.without_batch_system()
    step = {
        "parameters": {
            "cluster": {"commands": "true"},
            "workingdir": str(site.work / "job"),
            key: path.format(site.directory),
        }
    }
    [reason] = site.handle(Submitter, step)
    assert f"node 1, parameters, key '{key}' is '" in reason
    assert KEY in reason
    assert site.submitted == []
    assert site.is_untouched()


@pytest.mark.parametrize("key", ["standard_output", "standard_error"])
@pytest.mark.parametrize("path", [*PATHS, "file", "leads/precious"])
def test_no_batch_system_is_told_to_print_outside(site: Site, key: str, path: str) -> None:
    site.without_batch_system()
    step = {
        "parameters": {
            "cluster": {"commands": "true"},
            "workingdir": str(site.work / "job"),
            key: path.format(site.directory),
        }
    }
    [reason] = site.handle(Submitter, step)
    assert f"node 1, parameters, key '{key}' is '" in reason
    assert site.submitted == []


@pytest.mark.parametrize(
    "path", ["{}/out", "{}/workx", "{}/work/../out", "{}/work/leads", "{}/work/leads/new", "/"]
)
def test_no_job_works_outside(site: Site, path: str) -> None:
    site.without_batch_system()
    given = {"cluster": {"commands": "true"}, "workingdir": path.format(site.directory)}
    [reason] = site.handle(Submitter, {"parameters": given})
    assert "node 1, parameters, key 'workingdir' is '" in reason
    assert KEY in reason
    assert site.is_untouched()


def test_a_planted_job_directory_is_not_followed(site: Site) -> None:
    site.without_batch_system()
    (site.work / "other").mkdir()
    for target in (site.out, site.work / "other"):
        (site.work / "job" / ".zwrap").symlink_to(target)
        given = {"cluster": {"commands": "true"}, "workingdir": str(site.work / "job")}
        [reason] = site.handle(Submitter, {"parameters": given})
        assert "'.zwrap' is a link" in reason or "leads by a link" in reason
        (site.work / "job" / ".zwrap").unlink()
    assert list((site.work / "other").iterdir()) == []
    assert site.is_untouched()


def test_all_files_of_a_job_are_written_inside(site: Site) -> None:
    site.without_batch_system()
    (site.work / "there").mkdir()
    (site.work / "link").symlink_to("there")
    given = {
        "cluster": {"commands": "wrap $RECIPEWRAP $RECIPEFILE $RECIPEENV"},
        "workingdir": str(site.work / "new" / "job"),
        "recipewrapper": "sub/rw.json",
        "recipefile": str(site.work / "link" / "recipe.json"),
        "standard_output": "/dev/null",
        "standard_error": "err/txt",
    }
    assert site.handle(Submitter, {"parameters": given}) == []
    [token] = site.submitted
    own = site.work / "new" / "job" / ".zwrap" / token
    assert {each.name for each in own.iterdir()} == {"script", SUBMISSION, "environment.json"}
    assert json.loads((site.work / "new/job/sub/rw.json").read_bytes())["recipe-pointer"] == 1
    assert (site.work / "there" / "recipe.json").exists()
    assert str(site.work / "new/job/sub/rw.json") in (own / "script").read_text()
    assert "/proc/self/fd" not in (own / "script").read_text()
    assert site.is_untouched()


def test_without_directories_all_paths_are_good(site: Site) -> None:
    site.configuration = configured()
    site.without_batch_system()
    given = {
        "cluster": {"commands": "true"},
        "workingdir": str(site.work / "job"),
        "recipewrapper": "../../out/precious",
        "recipefile": "leads/recipe.json",
    }
    assert site.handle(Submitter, {"parameters": given}) == []
    assert "recipe-pointer" in (site.out / "precious").read_text()
    assert (site.out / "recipe.json").exists()


@pytest.mark.parametrize("key", ["working_directory", "output", "error"])
def test_the_built_in_batch_system_opens_no_path_that_leads_out(
    site: Site, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shepherd, "SIGNALS", ())  # which it ignores, in a process of its own
    batch = LocalBatch(site.directory / "batch")
    job = site.work / "job"
    paths = {"working_directory": str(job), "output": f"{job}/out", "error": f"{job}/err"}
    for below, state in (([str(site.work)], State.COMPLETED), ([f"{job}/x"], State.FAILED)):
        (job / "x").mkdir(exist_ok=True)
        end = ended_job(batch, LocalJob(name="n", below=below, **paths))
        assert end.state is state
    led = {**paths, key: f"{job}/leads" if key == "working_directory" else f"{job}/file"}
    end = ended_job(batch, LocalJob(name="n", below=[str(site.work)], **led))
    assert end.state is State.FAILED
    assert "which leads by a link" in (end.reason or "")
    assert site.is_untouched()


def ended_job(batch: LocalBatch, job: LocalJob) -> LocalEnd:
    """Return the end of a job that writes to both outputs and into its directory."""
    number = batch.submit(job, "#!/bin/sh\necho 1; echo 2 >&2; touch here\n")
    assert batch.claim(number)
    shepherd.run_job(batch, number)
    return read_end(batch.path(DONE, number))


# -- paths: other services -------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["output_file", "recipewrapper", "recipefile", "recipeenvironment"])
@pytest.mark.parametrize("path", PATHS)
def test_the_runner_writes_no_file_outside(site: Site, key: str, path: str) -> None:
    given = {
        "commands": ["touch here"],
        "workingdir": str(site.work / "job"),
        key: path.format(site.directory),
    }
    [reason] = site.handle(Runner, {"parameters": given})
    assert f"node 1, parameters, key '{key}' is '" in reason
    assert not (site.work / "job" / "here").exists()
    assert site.is_untouched()


@pytest.mark.parametrize("path", ["{}/out", "{}/work/leads", "{}/workx", "{}/work/leads/new"])
def test_the_runner_works_nowhere_else(site: Site, path: str) -> None:
    given = {"commands": ["touch here"], "workingdir": path.format(site.directory)}
    [reason] = site.handle(Runner, {"parameters": given})
    assert "node 1, parameters, key 'workingdir' is '" in reason
    assert site.is_untouched()


def test_the_runner_works_inside(site: Site) -> None:
    given = {
        "commands": ["pwd", "touch here", "cat $RECIPEWRAP"],
        "workingdir": str(site.work / "new"),
        "output_file": "logs/all.txt",
        "recipewrapper": "rw.json",
    }
    assert site.handle(Runner, {"parameters": given}) == []
    printed = (site.work / "new" / "logs" / "all.txt").read_text()
    assert printed.startswith(f"{site.work}/new\n{{")
    assert (site.work / "new" / "here").exists()


@pytest.mark.parametrize("path", ["../../out/x", "leads/x", "leads/new/x", "file", "{}/workx/x"])
def test_jsonlines_writes_no_line_outside(site: Site, path: str) -> None:
    file = path if path.startswith("{}") else f"{{}}/work/job/{path}"
    given = {"output_filename": file.format(site.directory)}
    [reason] = site.handle(JSONLines, {"parameters": given})
    assert "Node 1, parameters, key 'output_filename' is '" in reason
    assert KEY in reason
    assert site.is_untouched()


def test_jsonlines_writes_lines_inside(site: Site) -> None:
    (site.work / "link").symlink_to("job/lines")
    given = {"output_filename": str(site.work / "link")}
    for _ in range(2):
        assert site.handle(JSONLines, {"parameters": given}) == []
    assert (site.work / "job" / "lines").read_text() == '{"a":1}\n{"a":1}\n'


def test_who_swaps_the_working_directory_has_no_service_write_outside(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def printing(_: object, __: list[str], places: Any) -> tuple[int, str, bool]:
        with places.output.open("a") as output:
            output.write("printed")
        return 0, "", False

    # A program would end, with its own descendants, the process that swaps.
    monkeypatch.setattr(runner._Task, "run", printing)
    site.without_batch_system()
    (site.work / "job").rename(site.directory / "unused")
    (site.work / "work" / ".zwrap").mkdir(parents=True)
    working = str(site.work / "work")
    job = {"cluster": {"commands": "wrap $RECIPEWRAP"}, "workingdir": working, "recipefile": "r"}
    commands = {"commands": ["true"], "workingdir": working, "output_file": "printed"}
    lines = {"output_filename": f"{working}/lines"}
    with swapping(site.work, site.out):
        before, refused = listing(site.out), 0
        until = time.monotonic() + SWAPPED_S
        while time.monotonic() < until:
            for kind, given in ((Submitter, job), (Runner, commands), (JSONLines, lines)):
                refused += len(site.handle(kind, {"parameters": given}))
    assert site.submitted
    assert refused
    assert listing(site.out) == before


# -- paths: a job ----------------------------------------------------------------------------------


class Step:
    """A step of wrapper `command` in its job."""

    def __init__(self, site: Site, command: str, **given: Any) -> None:
        keys = ("parameter_files", "options", "files", "outputs", "directory", "success")
        defined = {key: given.pop(key) for key in keys if key in given}
        definition = parse_definition(
            {"command": ["/bin/sh", "-c", command], **defined}, "here", "prog"
        )
        parameters = {"working_directory": str(site.work / "job"), **given}
        node = {"job_parameters": parameters, "output": {"result-all-files": 2, "o": 2}}
        recipe = Recipe({"start": [[1, 0]], "1": node, "2": {"queue": "told"}})
        self.heartbeat = Heartbeat("prog", "prog", {})
        allowed = site.configuration.site.allowed
        self.step = ProgramStep(definition, Envelope(recipe, 1), self.heartbeat, allowed)

    def run(self) -> Any:
        import contextlib

        return self.step.run(lambda _: contextlib.nullcontext())


OPTIONS: dict[str, Any] = {"options": [{"block": "b"}], "b": {"x": "1"}}


@pytest.mark.parametrize("path", ["{}/out", "{}/workx", "{}/work/leads", "{}/work/job/../../out"])
def test_no_program_works_outside(site: Site, path: str) -> None:
    step = Step(site, "touch here", working_directory=path.format(site.directory))
    with pytest.raises(OutsideError, match=r"^Node 1, job_parameters, key 'working_directory' is"):
        step.run()
    assert site.is_untouched()


@pytest.mark.parametrize("path", PATHS)
def test_no_parameter_file_is_written_outside(site: Site, path: str) -> None:
    name = path.format(site.directory)
    files = [{"prefix": "x", "file": name, "argument": "x"}]
    with pytest.raises((OutsideError, ProgramError), match="parameter file"):
        Step(site, "true", parameter_files=files, **OPTIONS).run()
    assert site.is_untouched()


@pytest.mark.parametrize("name", ["prog.log", "prog.err"])
def test_no_output_of_a_program_goes_through_a_link(site: Site, name: str) -> None:
    (site.work / "job" / name).symlink_to(site.out / "precious")
    ended = Step(site, "echo printed; echo complained >&2").run()
    assert ended.failures == []
    assert site.is_untouched()


@pytest.mark.parametrize("name", ["prog.log", "prog.err"])
def test_no_link_is_planted_just_before_a_program_starts(
    site: Site, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plant(directory: Path) -> float:
        (directory / name).symlink_to(site.out / "precious")
        return 0.0

    monkeypatch.setattr(command, "time_stamp", plant)
    with pytest.raises(OutsideError, match="which leads by a link"):
        Step(site, "echo printed; echo complained >&2").run()
    assert site.is_untouched()


@pytest.mark.parametrize("key", ["results_directory", "pipeline-final"])
@pytest.mark.parametrize("path", ["{}/out", "{}/work/leads", "{}/work/leads/new", "{}/workx/new"])
def test_no_result_is_copied_outside(site: Site, key: str, path: str) -> None:
    place: Any = path.format(site.directory)
    given = {key: place if key == "results_directory" else {"path": place, "patterns": ["*"]}}
    ended = Step(site, "echo 1 > result", files=[{"pattern": "result"}], **given).run()
    [failure] = ended.failures
    assert f"job_parameters, key '{key}" in failure
    assert KEY in failure
    assert site.is_untouched()


def test_who_swaps_the_directory_of_results_has_no_copy_outside(site: Site) -> None:
    """What he can read there is not copied for him either."""
    (site.out / "result").write_text("kept")
    (site.work / "job" / "good").write_text("1")
    (site.work / "work" / ".zwrap").mkdir(parents=True)
    (site.work / "work" / "result").write_text("1")
    allowed, done, refused = site.configuration.site.allowed, 0, 0
    with swapping(site.work, site.out):
        before = listing(site.out)
        until = time.monotonic() + SWAPPED_S
        while time.monotonic() < until:
            for source, target in (("job/good", "work"), ("work/result", "copies")):
                path, given = site.work / source, {"results_directory": str(site.work / target)}
                record = {"file_path": str(path.parent), "file_name": path.name}
                try:
                    results.copied([record], path.parent, given, allowed)  # type: ignore[list-item]
                    done += 1
                except (ZwrapError, OSError):
                    refused += 1
    assert done
    assert refused
    assert listing(site.out) == before
    assert {each.read_text() for each in (site.work / "copies").glob("result")} <= {"1"}


def test_no_link_is_made_outside(site: Site) -> None:
    site.configuration = configured(directories=[str(site.work / "job")])
    step = Step(site, "true", create_symlink="latest")
    with pytest.raises(OutsideError, match="job_parameters, key 'create_symlink' is"):
        step.run()
    assert not (site.directory / "latest").is_symlink()


def test_a_result_that_leads_out_is_none(site: Site) -> None:
    ended = Step(
        site,
        f"touch {site.out}/precious; ln -s {site.out}/precious result; echo 1 > good",
        files=[{"pattern": "result"}, {"pattern": "good"}, {"pattern": f"{site.out}/*"}],
        outputs={"o": {"file": f"{site.out}/precious", "parser": "text", "required": False}},
        results_directory=str(site.work / "results"),
    ).run()
    assert ended.failures == []
    assert [each.name for each in (site.work / "results").iterdir()] == ["good"]
    assert not any("kept" in str(message.message) for message in ended.messages)


@pytest.mark.parametrize("status", [0, 3])
def test_no_output_that_leads_out_is_told(site: Site, status: int) -> None:
    """The program puts links in the places of its output while it runs."""
    (site.out / "precious").write_text("kept secret: 7")
    swap = "; ".join(
        f"ln -sf {site.out}/precious {name}" for name in ("prog.log", "prog.err", "file.json")
    )
    outputs = {"o": {"file": "file.json", "parser": "text", "required": False}}
    step = Step(site, f"{swap}; exit {status}", outputs=outputs)
    ended = step.run()
    assert "kept secret" not in repr((ended, step.heartbeat.body()))
    assert bool(ended.failures) == bool(status)


def test_a_file_that_leads_out_just_before_it_is_parsed_is_not_read(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = judgement._parsed

    def swapped(output: Any, file: Path, *others: Any) -> object:
        file.unlink()
        file.symlink_to(site.out / "precious")
        return parsed(output, file, *others)

    monkeypatch.setattr(judgement, "_parsed", swapped)
    ended = Step(
        site, "echo mine > found", outputs={"o": {"file": "found", "parser": "text"}}
    ).run()
    assert "kept" not in repr(ended)
    assert any("leads by a link" in failure for failure in ended.failures)


def test_a_program_works_inside(site: Site) -> None:
    ended = Step(
        site,
        "pwd; cat x.phil > result; echo complained >&2",
        parameter_files=[{"prefix": "x", "file": "x.phil", "argument": "x.phil"}],
        files=[{"pattern": "result"}],
        directory="inner",
        results_directory=str(site.work / "results" / "deep" / "er"),
        create_symlink="latest",
        working_directory=str(site.work / "new" / "job"),
        **OPTIONS,
    ).run()
    assert ended.failures == []
    inner = site.work / "new" / "job" / "inner"
    assert (inner / "prog.log").read_text() == f"{inner}\n"
    assert (inner / "prog.err").read_text() == "complained\n"
    assert (site.work / "results" / "deep" / "er" / "inner" / "result").read_text() == "x=1\n"
    assert os.readlink(site.work / "latest") == "new/job"
    [message] = ended.messages
    assert message.message["payload"]["filelist"] == [  # type: ignore[index]
        str(site.work / "results" / "deep" / "er" / "inner" / "result")
    ]


# -- paths: files of zwrap itself ------------------------------------------------------------------


@pytest.fixture
def of_another(site: Site) -> Path:
    """Return the directory of another's attempt, to which a link leads from ``work/job/own``."""
    directory = site.work / "other" / ".zwrap" / "t-1"
    JobDirectory(directory).make()
    (directory / "script").write_text("kept")
    (site.work / "job" / "own").symlink_to(directory)
    return directory


@pytest.mark.parametrize("restricted", [True, False])
@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (Submitter, "recipewrapper"), (Submitter, "recipefile"), (Submitter, "recipeenvironment"),
        (Submitter, "standard_output"), (Submitter, "workingdir"), (Runner, "recipefile"),
        (Runner, "output_file"), (Runner, "workingdir"), (JSONLines, "output_filename"),
    ],
)  # fmt: skip
def test_no_message_names_a_file_of_zwraps_own(
    site: Site, of_another: Path, kind: type[Service], key: str, restricted: bool
) -> None:
    """It would be the verdict, or the script, of another's job."""
    site.without_batch_system()
    if not restricted:
        site.configuration = configured()
    names = ["script", "verdict.json"] if key != "workingdir" else ["", "new"]
    for place in (of_another, site.work / "job" / "own") if restricted else (of_another,):
        for name in names:
            working = str(site.work / "job")
            given = {"cluster": {"commands": "true"}, "workingdir": working, "commands": ["true"]}
            given[key] = str(place / name)
            [reason] = site.handle(kind, {"parameters": given})
            assert f"ode 1, parameters, key '{key}' is '" in reason
            assert "among zwrap's own files; a path without '.zwrap' is expected." in reason
    assert site.submitted == []
    assert [each.name for each in of_another.iterdir()] == ["script"]
    assert (of_another / "script").read_text() == "kept"


@pytest.mark.parametrize("key", ["working_directory", "results_directory", "pipeline-final"])
def test_no_file_of_a_program_is_among_zwraps_own(site: Site, of_another: Path, key: str) -> None:
    for place in (of_another, of_another / "new", site.work / "job" / "own"):
        path: Any = str(place)
        given = {key: {"path": path, "patterns": ["*"]} if key == "pipeline-final" else path}
        step = Step(site, "echo 1 > script", files=[{"pattern": "script"}], **given)
        if key == "working_directory":
            with pytest.raises(OutsideError, match=r"key 'working_directory' is .* zwrap's own"):
                step.run()
            continue
        [failure] = step.run().failures
        assert f"job_parameters, key '{key}" in failure
        assert "among zwrap's own files" in failure
    assert (of_another / "script").read_text() == "kept"
    assert [each.name for each in of_another.iterdir()] == ["script"]


# -- what may be run -------------------------------------------------------------------------------

REQUEST = {"custom_recipe": {"1": {"queue": "q"}, "start": [[1, 0]]}, "parameters": {}}


def asked(configuration: Configuration, request: dict[str, Any]) -> tuple[list[str], set[str]]:
    """Have a Dispatcher handle a request; return reasons of dead letters, and queues."""
    transport = MemoryTransport()
    service = Dispatcher(configuration, transport)
    transport.subscribe("processing_recipe")
    transport.send("processing_recipe", request)
    while delivery := transport.receive(0):
        handle_delivery(service, delivery, lambda _: None)
    dead = transport.broker.dead_letters.get("processing_recipe", [])
    queues = {name for name, entries in transport.broker.queues.items() if entries}
    return [each.reason for each in dead], queues


def test_a_site_may_take_recipes_of_its_own_only(tmp_path: Path) -> None:
    assert asked(configured(), REQUEST) == ([], {"q"})
    [reason], queues = asked(configured(custom_recipe=False), REQUEST)
    assert "Key 'custom_recipe' of the request holds a recipe" in reason
    assert "(section security, key 'custom_recipe')" in reason
    assert queues == set()
    [reason], _ = asked(configured(custom_recipe=False), {"parameters": {}, "custom_recipe": {}})
    assert "The request names no recipe" in reason


def test_a_site_may_run_programs_of_its_definitions_only() -> None:
    recipe = Recipe({"start": [[1, 0]], "1": {"job_parameters": {"command": ["true"]}}})
    envelope = Envelope(recipe, 1)
    closed = configured(inline_command=False)
    assert permitted_program("command", envelope, configured(), None)
    with pytest.raises(ProgramError, match=r"^Node 1, job_parameters, key 'command' brings a.*"
                       r"\(section security, key 'inline_command'\)"):  # fmt: skip
        permitted_program("command", envelope, closed, None)
    defined = permitted_program("gemmi-merge", envelope, closed, None)
    assert defined
    assert defined.command != ["true"]
    brings = Envelope(Recipe({"start": [[1, 0]], "1": {"job_parameters": {"commands": "true"}}}), 1)
    assert permitted_program("xia2", brings, configured(), None).set_up == ["true"]
    with pytest.raises(ProgramError, match=r"^Node 1, job_parameters, key 'commands' brings a.*"
                       r"'inline_command'\)\. Put such lines under 'set_up'"):  # fmt: skip
        permitted_program("xia2", brings, closed, None)
    with pytest.raises(ProgramError, match=r"key 'command' brings a"):
        permitted_program("zwrap:command", envelope, closed, None)


def test_a_site_may_have_no_runner() -> None:
    Runner(configured(), MemoryTransport())
    with pytest.raises(ConfigurationError, match=r"No Runner .*\(section security, key 'runner'\)"):
        Runner(configured(runner=False), MemoryTransport())


# -- queues and topics -----------------------------------------------------------------------------

OWN = [
    ("queue", "zwrap.verdict"),
    ("queue", "zwrap.delay.5s"),
    ("queue", "dlq.processing_recipe"),
    ("queue", "DLQ.processing_recipe"),
    ("queue", "q,zwrap.verdict"),
    ("queue", "q, queue://zwrap.verdict"),
    ("queue", "q,topic://zwrap.verdict"),
    ("queue", "q,topic://command"),
    ("queue", "topic://command"),
    ("queue", "q,prefix.zwrap.verdict"),
    ("queue", "q,a.b.dlq.x"),
    ("topic", "command"),
    ("topic", "zwrap.x"),
    ("topic", "a,topic://command"),
    ("topic", "command?x=1"),
    ("topic", "command\x01"),
    ("queue", "topic://command\t?consumer.priority=1"),
    ("exchange", "command"),
    ("exchange", "zwrap.delay.5s"),
]
OTHERS = [
    ("queue", "zwrap"),
    ("queue", "zwrapper.verdict"),
    ("queue", "my.zwrap.verdict"),
    ("queue", "command"),
    ("queue", "command.x"),
    ("queue", "dlq"),
    ("queue", "cluster.submission"),
    ("topic", "transient.status"),
    ("topic", "commands"),
    ("queue", 5),
]


@pytest.mark.parametrize(("kind", "name"), OWN)
def test_zwraps_own_names_are_no_targets(kind: str, name: str) -> None:
    assert is_closed(kind, name, ())
    recipe = {"1": {"queue": "q", "output": 2}, "2": {kind: name}, "start": [[1, 0]]}
    [reason], queues = asked(configured(), {"custom_recipe": recipe, "parameters": {}})
    assert f"node 2, key {kind!r} is " in reason
    assert "zwrap's own and no target for a recipe (section security, key 'queues'" in reason
    assert queues == set()
    with pytest.raises(RecipeError, match="node 2"):
        Recipe(recipe).validate()


@pytest.mark.parametrize(("kind", "name"), OTHERS)
def test_all_other_names_are_targets(kind: str, name: object) -> None:
    assert not is_closed(kind, name, ())


def test_a_site_opens_names_to_recipes() -> None:
    opened = configured(queues=["zwrap.site.*", "dlq.archive"])
    recipe = {"1": {"queue": "zwrap.site.x"}, "2": {"queue": "dlq.archive"},
              "start": [[1, 0], [2, 0]]}  # fmt: skip
    request = {"custom_recipe": recipe, "parameters": {}}
    assert asked(opened, request) == ([], {"zwrap.site.x", "dlq.archive"})
    assert is_closed("queue", "zwrap.verdict", opened.site.limits.open_names)
    assert is_closed("queue", "zwrap.site.x,zwrap.verdict", opened.site.limits.open_names)


def test_a_parameter_does_not_make_a_name_of_zwraps() -> None:
    recipe = {"1": {"queue": "{a}.{b}"}, "start": [[1, 0]]}
    request = {"custom_recipe": recipe, "parameters": {"a": "zwrap", "b": "verdict"}}
    [reason], queues = asked(configured(), request)
    assert "'zwrap.verdict'" in reason
    assert queues == set()


def test_a_request_that_is_never_ready_goes_to_no_queue_of_zwraps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parameters = {"dispatcher_timeout": -1, "dispatcher_error_queue": "zwrap.verdict", "guid": "g"}
    monkeypatch.setattr(Dispatcher, "_is_ready", lambda *_: False)
    [reason], queues = asked(configured(), {"parameters": parameters})
    assert "'dispatcher_error_queue'" in reason
    assert queues == set()


def test_no_step_that_was_sent_past_the_dispatcher_gives_orders_to_services(site: Site) -> None:
    heard = MemoryTransport(site.transport.broker)
    heard.subscribe_topic("command")
    site.without_batch_system()
    step = {
        "parameters": {"cluster": {"commands": "true"}, "workingdir": str(site.work / "job")},
        "output": {"job_submitted": 2},
    }
    recipe = {"start": [[1, 0]], "1": {"queue": "cluster.submission", **step},
              "2": {"topic": "command"}}  # fmt: skip
    [reason] = site.handle(Submitter, step, recipe=recipe, command="shutdown", service="Watcher")
    assert "node 2, key 'topic' is 'command'" in reason
    assert site.submitted == []
    assert heard.receive(0) is None


def test_no_envelope_sends_to_zwraps_own(caplog: pytest.LogCaptureFixture) -> None:
    recipe = Recipe({"start": [[1, 0]], "1": {"output": {"a": 2, "b": 3}, "error": [2, 3]},
                     "2": {"topic": "command"}, "3": {"queue": "q"}})  # fmt: skip
    for limits in (DEFAULTS, ANY_SIZE, of_submitted(configured(queues=["x"]).site.limits)):
        envelope = Envelope.from_body(Envelope(recipe, 1).body(), limits)
        assert envelope.send("a", 1) == []
        assert "sent to node 2: key 'topic' is 'command', which is zwrap's own" in caplog.text
        caplog.clear()
        assert [message.destination for message in envelope.send("b", 1)] == ["q"]
        assert [message.destination for message in messages_on(envelope, None, 1)] == ["q"]
    opened = of_submitted(configured(queues=["command"]).site.limits)
    envelope = Envelope.from_body(Envelope(recipe, 1).body(), opened)
    assert [message.destination for message in envelope.send("a", 1)] == ["command"]


def watched(tmp_path: Path, **header: Any) -> tuple[MemoryTransport, Attempt]:
    """Return a job whose directory somebody changed: its recipe leads to topic `command`."""
    own = tmp_path / "job" / ".zwrap" / "t-1"
    JobDirectory(own).make()
    recipe = {"start": [[1, 0]], "1": {"queue": "cluster.submission", "error": [2, 3],
              "parameters": {}},
              "2": {"topic": "command"}, "3": {"queue": "told"}}  # fmt: skip
    body = {**Envelope(Recipe(recipe), 1).body(), "command": "shutdown"}
    (own / SUBMISSION).write_bytes(encode({"header": header, "message": body}))
    attempt = Attempt(token="t-1", recipe_id="r", step=1, cluster="c", job_name="n",
                      job_directory=str(own), job_id="7", seen_state="failed")  # fmt: skip
    return MemoryTransport(), attempt


def test_the_watcher_gives_no_orders_for_a_job(tmp_path: Path) -> None:
    transport, attempt = watched(tmp_path)
    heard = MemoryTransport(transport.broker)
    heard.subscribe_topic("command")
    InDirectory(transport).find(attempt)
    assert heard.receive(0) is None
    assert len(transport.broker.queues["told"]) == 1
    opened = of_submitted(configured(queues=["command"]).site.limits)
    transport, attempt = watched(tmp_path / "opened")
    heard = MemoryTransport(transport.broker)
    heard.subscribe_topic("command")
    InDirectory(transport, limits=opened).find(attempt)
    assert heard.receive(0) is not None


@pytest.mark.parametrize(("queue", "goes"), [("zwrap.verdict", 0), ("cluster.submission", 1)])
def test_another_attempt_is_sent_to_no_queue_of_zwraps(
    tmp_path: Path, queue: str, goes: int
) -> None:
    transport, attempt = watched(tmp_path, **{"original-destination": f"/queue/{queue}"})
    file = Path(attempt.job_directory) / SUBMISSION
    attempt = replace(attempt, seen_state="node_fail")
    policy = {"on": ["node_fail"], "limit": 3}
    file.write_bytes(encode({**json.loads(file.read_bytes()), "retry": policy}))
    InDirectory(transport).find(attempt)
    assert len(transport.broker.queues.get(queue, [])) == goes


def test_another_attempt_is_sent_to_a_queue_that_the_site_has_opened(tmp_path: Path) -> None:
    transport, attempt = watched(tmp_path, **{"original-destination": "/queue/zwrap.site"})
    file = Path(attempt.job_directory) / SUBMISSION
    policy = {"on": ["node_fail"], "limit": 3}
    file.write_bytes(encode({**json.loads(file.read_bytes()), "retry": policy}))
    opened = of_submitted(configured(queues=["zwrap.site"]).site.limits)
    InDirectory(transport, limits=opened).find(replace(attempt, seen_state="node_fail"))
    assert len(transport.broker.queues["zwrap.site"]) == 1


def test_the_watcher_follows_no_job_directory_out(tmp_path: Path) -> None:
    transport, attempt = watched(tmp_path)
    allowed = AllowedDirectories([tmp_path], "section security, key 'directories'")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "job" / ".zwrap").rename(tmp_path / "elsewhere" / "zwrap")
    (tmp_path / "job" / ".zwrap").symlink_to(tmp_path / "elsewhere" / "zwrap")
    found = tmp_path / "elsewhere" / "zwrap" / "t-1"
    conclusion = InDirectory(transport, allowed=allowed)
    with pytest.raises(RequestError, match=r"^Its directory is .*'\.zwrap' is a link"):
        conclusion.find(attempt)
    assert not (found / "verdict.json").exists()
    for name in ("verdict.json", "claim.json"):
        (found / name).write_text("{}")
    assert not conclusion.has_verdict(attempt)
    assert conclusion.claim_age_s(attempt) is None
    with pytest.raises(RequestError, match="is a link"):
        conclusion.submission(attempt)


TOLD = {"start": [[1, 0]], "1": {"error": [2], "parameters": {}}, "2": {"queue": "told"}}

SWAPPED_JOBS = 2000
"""Number of jobs that a Watcher concludes meanwhile, at most."""


def test_who_swaps_a_job_directory_has_no_watcher_write_outside(site: Site) -> None:
    """What is outside looks like another's job directory."""
    body = Envelope(Recipe(TOLD), 1).body()
    submission = encode({"header": {}, "message": body})
    tokens = [f"t{number}-1" for number in range(SWAPPED_JOBS)]
    for token in tokens:
        for place in (site.work / "work" / ".zwrap" / token, site.out / token):
            place.mkdir(parents=True)
            (place / SUBMISSION).write_bytes(submission)
    transport = MemoryTransport()
    watcher = InDirectory(transport, allowed=site.configuration.site.allowed)
    concluded = refused = 0
    with swapping(site.work, site.out):
        before = listing(site.out)
        until = time.monotonic() + SWAPPED_S
        for token in itertools.takewhile(lambda _: time.monotonic() < until, tokens):
            directory = site.work / "work" / ".zwrap" / token
            attempt = Attempt(token=token, recipe_id="r", step=1, cluster="c", job_name="n",
                              job_directory=str(directory), job_id="7",
                              seen_state="failed")  # fmt: skip
            try:
                concluded += watcher.find(attempt) is not None
            except (ZwrapError, OSError):
                refused += 1
    assert concluded
    assert refused
    assert listing(site.out) == before
    assert len(transport.broker.queues["told"]) == concluded


def test_errors_and_logs_of_a_watcher_name_the_directory(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    own = site.work / "job" / ".zwrap" / "t-1"
    JobDirectory(own).make()
    attempt = Attempt(token="t-1", recipe_id="r", step=1, cluster="c", job_name="n",
                      job_directory=str(own), job_id="7", seen_state="failed")  # fmt: skip
    watcher = InDirectory(MemoryTransport(), allowed=site.configuration.site.allowed)
    with pytest.raises(MessageError, match=f"^{re.escape(str(own))}/submission.json cannot be"):
        watcher.find(attempt)
    refused = {"start": [[1, 0]], "1": {"error": [2], "parameters": {}}, "2": {"queue": "x" * 300}}
    body = Envelope(Recipe(refused), 1).body()
    (own / SUBMISSION).write_bytes(encode({"header": {}, "message": body}))
    with SpoolTransport(site.directory / "spool") as transport:
        allowed = site.configuration.site.allowed
        assert InDirectory(transport, allowed=allowed).find(attempt)
    assert f"kept in {own}/outbox/errors/" in caplog.text
    assert "/proc/" not in caplog.text


def test_the_watcher_concludes_jobs_from_before_the_restriction(tmp_path: Path) -> None:
    transport, attempt = watched(tmp_path)
    allowed = AllowedDirectories([tmp_path / "other"], "section security, key 'directories'")
    assert InDirectory(transport, allowed=allowed).find(attempt)


def recipes_of(place: Path) -> list[Path]:
    return sorted(place.rglob("*.json"))


def test_no_public_recipe_and_no_example_sends_to_zwraps_own(elsewhere: Path) -> None:
    files = [*recipes_of(elsewhere / "recipes"), *recipes_of(ROOT / "examples")]
    assert len(files) > 20
    for file in files:
        Recipe(json.loads(file.read_bytes())).check_destinations(DEFAULTS)


# -- the section -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"directories": ["dls"]}, "'dls' is no absolute path without '..'"),
        ({"directories": ["/dls/.."]}, "'/dls/..' is no absolute path without '..'"),
        ({"directories": "/dls"}, "a list is expected, not a text"),
        ({"directories": [5]}, "a text is expected, not a whole number"),
        ({"queues": [" "]}, "' ' names no queue"),
        ({"runner": "no"}, "true or false is expected, not a text"),
        ({"directory": ["/x"]}, "no such key is known. Known keys: plugin, directories,"),
    ],
)
def test_a_wrong_section_is_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        configured(**settings).site.allowed  # noqa: B018
    assert complaint in str(refused.value)
    assert f"key 'security.{next(iter(settings))}'" in str(refused.value)


def test_the_limits_of_a_site_have_no_key_for_names() -> None:
    text = "version: 1\nl: {plugin: limits, open_names: ['*']}\nenvironments: {default: [l]}"
    with pytest.raises(ConfigurationError, match="no such key is known"):
        Configuration.from_string(text).activate().site.limits  # noqa: B018


def test_without_a_section_only_zwraps_own_names_are_closed() -> None:
    site = Configuration().site
    assert site.limits == DEFAULTS
    assert not site.allowed.is_restricted
    assert (site.security.custom_recipe, site.security.inline_command, site.security.runner) == (
        True, True, True,
    )  # fmt: skip


# -- zwrap check --security ------------------------------------------------------------------------

ROOT_WARNING = "warning: this is root"


def told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, file: Path, text: str
) -> list[str]:
    file.write_text(text)
    file.chmod(0o644)
    monkeypatch.setenv("ZOCALO_CONFIG", str(file))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    if not exposed.HARD_LINKS.is_relative_to(file.parent):  # what this host does says little
        monkeypatch.setattr(exposed, "HARD_LINKS", file.parent / "no such file")
    assert main(["check", "--security"]) == 0
    return capsys.readouterr().out.splitlines()


def test_an_open_site_is_told_line_by_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    state.chmod(0o757)
    (state / "spool" / ".topics" / "command").mkdir(parents=True)
    (state / "spool" / ".topics" / "command").chmod(0o777)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes").chmod(0o777)
    text = f"""
version: 1
s: {{plugin: storage, zocalo.recipe_directory: {tmp_path}/recipes}}
unused: {{plugin: security, runner: false}}
p: {{plugin: security, queues: [zwrap.x]}}
environments: {{default: [s, p]}}
"""
    lines = told(capsys, monkeypatch, tmp_path / "site.yml", text)
    for begin in (
        "warning: section unused (plugin security) is in no active environment",
        "warning: directories: messages may name any path",
        "warning: custom_recipe: requests may bring",
        "warning: inline_command: steps of wrapper 'command'",
        "warning: runner: a Runner executes",
        "warning: zwrap.quote_commands is off",
        "warning: queues: recipes may send to 'zwrap.x'",
        f"warning: {state}/spool/.topics/command: its group may write, everybody may write",
        f"warning: the state directory {state}: its group may read, everybody may read and write. ",
        f"warning: the recipes {tmp_path}/recipes: its group may write, everybody may write. ",
        f"good: the site file {tmp_path}/site.yml",
    ):
        assert any(line.startswith(begin) for line in lines), begin
    assert f"Write: chmod 0700 {state}" in "\n".join(lines)
    assert f"Write: chmod 0755 {tmp_path}/recipes" in "\n".join(lines)
    assert "good: PATH of this environment" in lines
    assert all(
        "Write" in line or "Remove" in line or line.startswith(ROOT_WARNING) or "no active" in line
        for line in lines
        if line.startswith("warning: ")
    )


def test_a_closed_site_is_told_to_be_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "data" / "work"
    work.mkdir(parents=True)
    text = f"""
version: 1
s: {{plugin: storage, zwrap.quote_commands: true}}
p: {{plugin: security, directories: [{work}], custom_recipe: false, inline_command: false,
     runner: false}}
environments: {{default: [s, p]}}
"""
    lines = told(capsys, monkeypatch, tmp_path / "site.yml", text)
    warnings = [line for line in lines if line.startswith("warning: ")]
    assert all(line.startswith(ROOT_WARNING) for line in warnings)
    assert f"good: directories: messages may name paths below {work}" in lines
    assert "good: runner: false" in lines
    (tmp_path / "data").chmod(0o777)
    lines = told(capsys, monkeypatch, tmp_path / "site.yml", text)
    assert any(f"everybody may write in {tmp_path}/data, and put" in line for line in lines)


def test_what_lies_in_a_closed_state_directory_is_open_to_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    (state / "spool").mkdir(parents=True)
    (state / "spool").chmod(0o2770)
    text = "version: 1\nenvironments: {default: []}\n"
    for mode, word in ((0o700, "good"), (0o710, "warning")):
        state.chmod(mode)
        lines = told(capsys, monkeypatch, tmp_path / "site.yml", text)
        of_spool = [line for line in lines if f"the spool {state}/spool" in line]
        assert [line.partition(":")[0] for line in of_spool] == [word]
        can_end = "good: only this user can end services (topic 'command')" in lines
        assert can_end is (word == "good")


def test_places_to_which_messages_may_have_files_written_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("recipes", "data", "home", "state"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    base = f"""
version: 1
s: {{plugin: storage, zocalo.recipe_directory: {tmp_path}/recipes}}
environments: {{default: [s, p]}}
p: {{plugin: security, directories: """

    def found(directory: str) -> list[str]:
        lines = told(capsys, monkeypatch, tmp_path / "site.yml", f"{base}[{directory}]}}")
        below = f"is below {tmp_path}, so that messages may have files written there"
        return [line.split()[2] for line in lines if below in line]

    assert found(f"{tmp_path}/data") == []
    whole = [f"{tmp_path}/{name}" for name in ("home", "state", "site.yml", "recipes")]
    assert found(f"{tmp_path}/link") == whole


@pytest.mark.parametrize(("content", "word"), [("0\n", "warning"), ("1\n", "good"), (None, "")])
def test_whether_users_make_hard_links_to_files_of_others_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    content: str | None, word: str,
) -> None:  # fmt: skip
    """No descriptor tells by which of its names a file was meant."""
    monkeypatch.setattr(exposed, "HARD_LINKS", tmp_path / "protected_hardlinks")
    if content is not None:
        (tmp_path / "protected_hardlinks").write_text(content)
    text = "version: 1\nenvironments: {default: []}\n"
    lines = told(capsys, monkeypatch, tmp_path / "site.yml", text)
    found = [line.partition(": ")[0] for line in lines if ": fs.protected_hardlinks: " in line]
    assert found == ([word] if word else [])


def test_what_makes_programs_and_options_open_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin").chmod(0o777)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}/bin:")
    text = (
        "version: 1\nc: {plugin: clusters, big: {kind: slurm, allowed_options: [--hint]}}\n"
        "environments: {default: [c]}\n"
    )
    lines = told(capsys, monkeypatch, tmp_path / "site.yml", text)
    for begin in (
        f"warning: PYTHONPATH: in {tmp_path}/bin everybody may write, and modules of Python are",
        "warning: PYTHONPATH: entry '' is where one happens to stand, and modules of Python are",
        "warning: allowed_options: whoever may send a step may give these to cluster big: hint. ",
    ):
        assert any(line.startswith(begin) for line in lines), begin


def test_a_fault_of_one_part_ends_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site.yml").write_text(
        "version: 1\nl: {plugin: ledger, url: 'postgresql://127.0.0.1:1/x'}\n"
        "c: {plugin: clusters, big: {kind: slurm, key: 1}}\nenvironments: {default: [l, c]}\n"
    )
    monkeypatch.setenv("ZOCALO_CONFIG", str(tmp_path / "site.yml"))
    assert main(["check", "--security"]) in (100, 111)
    shown = capsys.readouterr()
    assert shown.err.count("The ledger postgresql") == shown.err.count("'c.big'") == 1
    for begin in ("warning: key: each host", "good: the site file", "good: PATH of this"):
        assert begin in shown.out, begin


def test_a_key_where_nodes_can_read_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "version: 1\np: {plugin: security, key_file: site.key}\nenvironments: {default: [p]}\n"
    kinds = iter(["ext4", "nfs4"])
    monkeypatch.setattr(security, "filesystem_of", lambda _: next(kinds))
    told_of = "warning: key: "
    for expected in (0, 1):
        lines = told(capsys, monkeypatch, tmp_path / "site.yml", text)
        assert sum(line.startswith(told_of) for line in lines) == expected


def test_attempts_without_a_secret_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.in_file(tmp_path / "state" / "ledger.sqlite")
    attempts = [
        Attempt(token=f"t{number}-1", recipe_id="r", step=1, cluster="far", job_name="n",
                job_directory="/x", job_id=str(number))
        for number in range(4)
    ]  # fmt: skip
    ledger.reserve(attempts)
    ledger.record({each.token: {"state": SUBMITTED} for each in attempts})
    ledger.record({"t0-1": {"outcome": "success"}})
    for token, secret in (("t0-1", None), ("t1-1", None), ("t2-1", None), ("t3-1", "s")):
        ledger.remote.keep(token, "{}", secret)
    ledger.close()
    text = (
        "version: 1\ns: {plugin: security, signed_commands: true}\nenvironments: {default: [s]}\n"
    )
    lines = told(capsys, monkeypatch, tmp_path / "site.yml", text)
    assert any(line.startswith("warning: verdicts: ") and "of 2 attempts" in line for line in lines)
    assert "good: signed_commands: only who has the key of the site can end services" in lines
