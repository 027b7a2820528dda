"""A wrong input of a program is told before there is a job, where that can be known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import REJECTED, SUBMITTED
from zwrap.cli import go
from zwrap.cli.zwrap import main
from zwrap.configuration.site import Configuration
from zwrap.job import JobRequest
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.service.loop import Loop
from zwrap.service.submitter import Submitter
from zwrap.submission.programs import Programs
from zwrap.transport.memory import MemoryBroker, MemoryTransport

from .clock import ManualClock

DEFINITION = """
command: [run, "{model}"]
inputs:
  model: {type: file, required: true}
  d_min: {type: number, minimum: 0.3, maximum: 50}
  count: {type: integer, default: "{payload[count]}"}
"""


Shown = pytest.CaptureFixture[str]


class Site:
    """A site with a definition of its own, whose jobs run on this host."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.programs = directory / "programs"
        self.programs.mkdir()
        (self.programs / "own.yaml").write_text(DEFINITION)
        self.recipes = directory / "recipes"
        self.recipes.mkdir()
        self.templates = directory / "templates"
        self.templates.mkdir()
        self.transport = MemoryTransport(MemoryBroker(ManualClock()))
        self.cluster: dict[str, Any] = {"kind": "local"}

    def file(self) -> Path:
        store = {"plugin": "storage", "zwrap.program_directory": str(self.programs),
                 "zwrap.template_directory": str(self.templates),
                 "zocalo.recipe_directory": str(self.recipes)}  # fmt: skip
        text = {"version": 1, "environments": {"default": ["c", "s"]}, "s": store,
                "c": {"plugin": "clusters", "c": self.cluster}}  # fmt: skip
        file = self.directory / "site.yml"
        file.write_text(json.dumps(text))
        return file

    def recipe(self, command: str = "", outputs: Any = None, **parameters: Any) -> Recipe:
        command = command or "zocalo.wrap --wrap own --recipewrapper $RECIPEWRAP"
        node = {
            "queue": "cluster.submission",
            "parameters": {
                "workingdir": str(self.directory / "w"),
                "cluster": {"commands": command, "scheduler": "c"},
            },
            "job_parameters": parameters,
            "output": {"failure": 2, "completed": 3, "success": 2} if outputs is None else outputs,
        }
        ends = {"2": {"queue": "failed"}, "3": {"queue": "done"}, "4": {"queue": "errors"}}
        return Recipe({"start": [[1, {"count": "4"}]], "1": node, "error": 4, **ends})

    def submit(self, recipe: Recipe) -> list[tuple[str, str | None]]:
        """Let a Submitter work; return state and reason of each row."""
        self.transport.commit(Envelope(recipe, 1, environment={"ID": "r"}).start())
        configuration = Configuration.from_file(self.file()).activate()
        Loop(Submitter(configuration, self.transport), self.transport, once=True).run()
        return [(row.state, row.reason) for row in Ledger.of(configuration).of_recipes(["r"])]

    def bodies(self, queue: str) -> list[Any]:
        self.transport.subscribe(queue)
        found = []
        while delivery := self.transport.receive(0):
            body = delivery.message.body
            assert isinstance(body, dict)
            found.append(body["payload"])
            delivery.ack()
        return found


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path / "state"))
    made = Site(tmp_path)
    monkeypatch.setenv("ZOCALO_CONFIG", str(made.file()))
    return made


WRONG = "Input 'd_min' of program 'own' is 'high'; a number from 0.3 to 50 is expected."


def test_a_step_with_a_wrong_input_fails_without_a_job(site: Site) -> None:
    assert site.submit(site.recipe(model="/gone", d_min="high")) == [(REJECTED, WRONG)]
    assert site.bodies("failed") == [WRONG]
    assert site.bodies("done") == ["Finished processing"]
    [told] = site.bodies("errors")
    assert (told["error"], told["step"]) == (WRONG, 1)
    assert site.transport.broker.dead_letters.get("cluster.submission", []) == []
    assert not (site.directory / "w").exists()


def test_a_step_whose_inputs_fit_is_submitted_whether_its_files_exist_or_not(site: Site) -> None:
    assert site.submit(site.recipe(model="/gone", d_min="2.0")) == [(SUBMITTED, None)]


def test_nodes_that_may_have_other_definitions_decide_themselves(site: Site) -> None:
    site.cluster["shared_filesystem"] = False
    [(state, _)] = site.submit(site.recipe(d_min="high"))
    assert state == SUBMITTED


def test_a_definition_that_cannot_be_read_here_refuses_no_step(site: Site) -> None:
    (site.programs / "own.yaml").write_text("comand: [x]")
    [(state, _)] = site.submit(site.recipe(d_min="high"))
    assert state == SUBMITTED


def test_a_changed_definition_counts_from_the_next_step(site: Site) -> None:
    programs = Programs(site.programs)
    envelope = Envelope(site.recipe(model="/m", d_min="60"), 1, payload={"count": 1})
    asked = request("zocalo.wrap --wrap own --recipewrapper x")
    assert "from 0.3 to 50" in programs.fault(envelope, asked)
    (site.programs / "own.yaml").write_text(DEFINITION.replace("50", "100"))
    assert programs.fault(envelope, asked) == ""


def test_a_step_whose_inputs_are_very_large_is_left_to_its_job(site: Site) -> None:
    """Filling in very large values would take memory of a service that all steps share."""
    programs = Programs(site.programs)
    large = {"large": "x" * 500_000, "d_min": "{large}{large}{large}"}
    asked = request("zocalo.wrap --wrap own --recipewrapper x")
    envelope = Envelope(site.recipe(model="/m", **large), 1, payload={"count": 1})
    assert programs.fault(envelope, asked) == ""
    large["d_min"] = "{large}"
    envelope = Envelope(site.recipe(model="/m", **large), 1, payload={"count": 1})
    assert "from 0.3 to 50" in programs.fault(envelope, asked)


def test_names_of_programs_are_not_remembered_without_end(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_for = []
    monkeypatch.setattr("zwrap.submission.programs._shipped", looked_for.append)
    programs = Programs(site.programs)
    for number in [*range(1001), 1000, 0]:
        assert programs.of(request(f"zocalo.wrap --wrap other{number} --recipewrapper x")) is None
    assert len(looked_for) == 1002  # the last but one was known, the first one not any more
    programs.of(request(f"zocalo.wrap --wrap {'x' * 251} --recipewrapper x"))
    assert len(looked_for) == 1002


def request(commands: str, **environment: str) -> JobRequest:
    return JobRequest(
        cluster="c", job_name="j", token="t-1", working_directory=Path("/w"),
        job_directory=Path("/w/.zwrap/t-1"), commands=commands, environment=environment,
        standard_output=Path("/w/o"), standard_error=Path("/w/e"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("commands", "name"),
    [
        ("zocalo.wrap --wrap own --recipewrapper x", "own"),
        ("# zocalo.wrap --wrap other\nmodule load y\nzocalo.wrap -v \\\n --wrap='own' -x\n", "own"),
        ("cd /d && exec zocalo.wrap --recipewrapper x --wrap own >runinfo 2>&1", "own"),
        ("zocalo.wrap --wrap gemmi-merge --recipewrapper x", "gemmi-merge"),
        ("zocalo.wrap --wrap own; zocalo.wrap --wrap own", None),
        ("zocalo.wrap --wrap $NAME", None),
        ("zocalo.wrap --wrap {name}", None),
        ("dlstbx.wrap --wrap own", None),
        ("/opt/zocalo/bin/zocalo.wrap --wrap own", None),
        ("zocalo.wrap --wrap command", None),
        ("zocalo.wrap --wrap gone", None),
        ("true", None),
    ],
)
def test_the_program_of_a_job_is_known_from_its_commands(
    site: Site, commands: str, name: str | None
) -> None:
    run = Programs(site.programs).of(request(commands))
    assert (run.definition.name if run else None) == name


@pytest.mark.parametrize(
    ("commands", "environment", "certain"),
    [
        ("zocalo.wrap --wrap gemmi-merge --recipewrapper x >runinfo", {}, True),
        ("module load other\nzocalo.wrap --wrap gemmi-merge --recipewrapper x", {}, False),
        ("cd /d; zocalo.wrap --wrap gemmi-merge --recipewrapper x", {}, False),
        ("zocalo.wrap --wrap gemmi-merge --recipewrapper x", {"PYTHONPATH": "/d"}, False),
        ("zocalo.wrap --wrap own --recipewrapper $RECIPEWRAP -v >>o 2>&1", {}, True),
        ("exec zocalo.wrap --recipewrapper=\"${RECIPEWRAP}\" --wrap='own'", {}, True),
        ("module load other\nzocalo.wrap --wrap own --recipewrapper x", {}, False),
        ("zocalo.wrap -e test --wrap own --recipewrapper x", {}, False),
        ("zocalo.wrap --env=test --wrap own --recipewrapper x", {}, False),
        ("zocalo.wrap $OPTIONS --wrap own --recipewrapper x", {}, False),
        ("zocalo.wrap --wrap own --recipewrapper $(source y)", {}, False),
        ("export ZOCALO_CONFIG=/o\nzocalo.wrap --wrap own --recipewrapper x", {}, False),
        ("ssh other zocalo.wrap --wrap own --recipewrapper x", {}, False),
        ("if true; then zocalo.wrap --wrap own; fi", {}, False),
        ("zocalo.wrap --wrap own --recipewrapper x", {"ZOCALO_CONFIG": "/o"}, False),
        ("zocalo.wrap --wrap own --recipewrapper x", {"OTHER": "/o"}, True),
    ],
)
def test_a_definition_is_certain_only_where_the_commands_choose_no_other(
    site: Site, commands: str, environment: dict[str, str], certain: bool
) -> None:
    """Else the job may find a class of that name, or another site's, which takes other inputs."""
    run = Programs(site.programs).of(request(commands, **environment))
    assert run is not None
    assert run.is_certain == certain


SETUP = "{% extends 'zwrap/local.sh.j2' %}{% block setup %}\nmodule load y\n{% endblock %}"
COMMENT = "{% extends 'zwrap/local.sh.j2' %}{% block directives %}\n#OTHER -x\n{% endblock %}"


@pytest.mark.parametrize(("template", "state"), [(SETUP, SUBMITTED), (COMMENT, REJECTED)])
def test_a_job_that_a_template_sets_up_tells_itself_of_a_wrong_input(
    site: Site, template: str, state: str, capsys: Shown
) -> None:
    """It may load another program, or class, of that name."""
    (site.templates / "local.sh.j2").write_text(template)
    recipe = site.recipe(model="/m", d_min="high")
    assert [row[0] for row in site.submit(recipe)] == [state]
    status = main(["recipe", "check", written(site, "r", recipe)])
    assert status == (0 if state == SUBMITTED else 100)
    told = capsys.readouterr()
    assert "Input 'd_min' of program 'own' is 'high'" in told.out + told.err


def written(site: Site, name: str, recipe: Recipe) -> str:
    file = site.recipes / f"{name}.json"
    file.write_text(recipe.to_json())
    return str(file)


def test_a_recipe_with_a_wrong_input_is_not_good(site: Site, capsys: Shown) -> None:
    assert main(["recipe", "check", written(site, "r", site.recipe(model="m", d_min=99))]) == 100
    assert (
        "node 1, job_parameters: Input 'd_min' of program 'own' is 99;" in capsys.readouterr().err
    )
    assert main(["recipe", "check", written(site, "r", site.recipe(d_min=2))]) == 100
    assert "Program 'own' needs input 'model'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "parameters",
    [{"model": "{model}", "d_min": "{d_min}"}, {"own": "{$REPLACE:own}"}, {"model": "m", "{k}": 1},
     {"{k}": 1}],
)  # fmt: skip
def test_what_is_filled_in_later_is_no_fault_of_a_recipe(
    site: Site, parameters: dict[str, Any]
) -> None:
    assert main(["recipe", "check", written(site, "r", site.recipe(**parameters))]) == 0


def test_a_check_of_a_recipe_names_unknown_job_parameters(site: Site, capsys: Shown) -> None:
    file = written(site, "r", site.recipe(model="m", dmin=2))
    assert main(["recipe", "check", file]) == 0
    told = capsys.readouterr().out
    assert "warning: job_parameters: program 'own' knows no key 'dmin' (did you mean 'd_min'?)" in (
        told
    )


def test_a_request_that_is_tried_tells_of_wrong_inputs(site: Site, capsys: Shown) -> None:
    written(site, "r", site.recipe(model="{model}", d_min="{d_min}"))
    assert go.main(["-n", "--dry-run", "-r", "r", "-s", "model=m", "-s", "d_min=99"]) == 100
    assert "Recipe r: node 1, job_parameters: Input 'd_min'" in capsys.readouterr().err
    assert go.main(["-n", "--dry-run", "-r", "r", "-s", "model=m", "-s", "d_min=9"]) == 0
    assert go.main(["-n", "--dry-run", "-r", "r", "-s", "model=m"]) == 0
