"""zwrap, python-zocalo and a facility's package in one environment, whichever came first."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

import pytest

from .conftest import Site
from .release import pip, wheel_of

pytestmark = pytest.mark.slow

VERSIONS = ("zocalo==1.5.0", "workflows==3.3")

FACILITY = """
import workflows.recipe
import zocalo.wrapper
from workflows.services.common_service import CommonService


class Base(zocalo.wrapper.BaseWrapper):
    "The base class of all wrappers of a facility."

    def prepare(self, payload):
        super().prepare(payload)
        self.recwrap.send_to("metrics", "prepare")

    def done(self, payload):
        self.recwrap.send_to("metrics", "done")
        super().done(payload=payload)


class Xia2(Base):
    def run(self):
        self.recwrap.environment = {**self.recwrap.environment, "by": "facility"}
        self.recwrap.send_to("metrics", self.recwrap.recipe_step["job_parameters"]["word"])
        return True


class Step(CommonService):
    "A service of a facility."

    def initializing(self):
        workflows.recipe.wrap_subscribe(
            self._transport, "steps", self.step, acknowledgement=True, log_extender=self.extend_log
        )

    def step(self, rw, header, message):
        transaction = rw.transport.transaction_begin(subscription_id=header["subscription"])
        rw.transport.ack(header, transaction=transaction)
        rw.send_to("made", {"twice": 2 * message["n"]}, transaction=transaction)
        rw.transport.transaction_commit(transaction)


def sends_on(message, parameters):
    "A filter of a facility, which makes the recipe as an object of python-workflows."
    if "to" in parameters:
        graph = {"start": [[1, "{to}"]], 1: {"queue": "{to}"}}
        theirs = workflows.recipe.Recipe(recipe=graph)
        theirs.apply_parameters(parameters)
        message["recipe"] = theirs.merge(message["recipe"])
    return message, parameters
"""

ENTRY_POINTS = """
[zocalo.services.dispatcher.filters]
sends_on = facility:sends_on
[zocalo.wrappers]
xia2 = facility:Xia2
[workflows.services]
Step = facility:Step
"""

WHEEL = """Wheel-Version: 1.0
Generator: test
Root-Is-Purelib: true
Tag: py3-none-any
"""

CHANNELS = ("starting", "success", "failure", "completed", "metrics")

STARTS = {
    "zocalo.go": "from zocalo.cli.go import run; run()",
    "zocalo.wrap": "from zocalo.cli.wrap import run; run()",
    "zocalo.shutdown": "from zocalo.cli.shutdown import run; run()",
    "zocalo.dlq_check": "from zocalo.cli.dlq_check import run; run()",
    "zocalo.service": "from zocalo.service import start_service; start_service()",
}
"""Programs of python-zocalo, without the files of their names."""


def facility_wheel(directory: Path) -> Path:
    """Make the wheel of a facility's package."""
    file = directory / "facility-2.1-py3-none-any.whl"
    info = "facility-2.1.dist-info"
    contents = {
        "facility.py": FACILITY,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: facility\nVersion: 2.1\n",
        f"{info}/WHEEL": WHEEL,
        f"{info}/entry_points.txt": ENTRY_POINTS,
    }
    with zipfile.ZipFile(file, "w") as wheel:
        for name, text in contents.items():
            wheel.writestr(name, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*contents]))
    return file


class Wheels:
    """What is installed, and a directory with what python-zocalo needs."""

    def __init__(self, directory: Path) -> None:
        made = directory / "made"
        made.mkdir()
        pip("download", "--no-deps", "-d", made, *VERSIONS)
        self.needed = directory / "needed"
        pip("install", "--target", self.needed, "--find-links", made, *VERSIONS)
        [self.zocalo] = made.glob("zocalo-*.whl")
        [self.workflows] = made.glob("workflows-*.whl")
        self.zwrap = wheel_of(None, directory)
        self.facility = facility_wheel(directory)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    return Wheels(tmp_path_factory.mktemp("wheels"))


class Shared:
    """An environment in which all of them are installed."""

    site: Site

    def __init__(self, directory: Path, wheels: Wheels, first: str) -> None:
        self.first = first
        self.bin = directory / "bin"
        subprocess.run([sys.executable, "-P", "-m", "venv", "--without-pip", directory], check=True)
        [packages] = directory.glob("lib/python*/site-packages")
        for place in (wheels.needed, Path(sysconfig.get_path("purelib"))):
            for each in place.iterdir():
                name = each.name.partition("-")[0].partition("_")[0]
                if name not in ("zocalo", "workflows", "zwrap", "bin", "pip"):
                    target = packages / each.name
                    if not target.exists():
                        target.symlink_to(each)
        both = [[wheels.workflows, wheels.zocalo, wheels.facility], [wheels.zwrap]]
        for one in both if first == "zocalo" else reversed(both):
            self.pip("install", "--no-deps", "--no-index", *one)

    def at(self, site: Site) -> Shared:
        """Run its commands at a site."""
        self.site, site.bin = site, self.bin
        return self

    def pip(self, *arguments: str | Path) -> None:
        pip("--python", self.bin / "python", *arguments)

    def theirs(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program of python-zocalo."""
        return subprocess.run(
            [str(self.bin / "python"), "-c", STARTS[name], *arguments],
            env=self.site.environment(), cwd=self.site.directory, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip

    def step(self) -> Path:
        """Write the file of a step."""
        nodes = {str(number): {"queue": name} for number, name in enumerate(CHANNELS, 2)}
        outputs = {name: number for number, name in enumerate(CHANNELS, 2)}
        one = {"queue": "q", "job_parameters": {"word": "hello"}, "output": outputs}
        file = self.site.directory / "rw.json"
        file.write_text(
            json.dumps(
                {"recipe": {"start": [[1, []]], "1": one, **nodes}, "recipe-pointer": 1,
                 "recipe-path": [], "environment": {"ID": "guid"}, "payload": []}
            )
        )  # fmt: skip
        return file

    def wrap(self, name: str) -> tuple[subprocess.CompletedProcess[str], dict[str, list[Any]]]:
        """Run a step with zwrap; what came of it, and the messages by queue."""
        step = str(self.step())
        done = self.site.run("zwrap", "zocalo.wrap", "--wrap", name, "--recipewrapper", step)
        transport = self.site.transport()
        waiting = {queue: transport.inspector().waiting(queue) for queue in CHANNELS}
        transport.close()
        return done, {queue: self.site.take(queue, n) for queue, n in waiting.items() if n}

    def check(self) -> str:
        """Run `zwrap check`."""
        done = self.site.run("zwrap", "check")
        assert done.returncode == 0, done.stderr
        return done.stdout


ORDERS = pytest.mark.parametrize("first", ["zocalo", "zwrap"])


@pytest.fixture(scope="module", params=["zocalo", "zwrap"])
def installed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, wheels: Wheels
) -> Shared:
    """Return an environment that no test changes, for each order of installation."""
    return Shared(tmp_path_factory.mktemp("env"), wheels, request.param)


@pytest.fixture
def shared(installed: Shared, site: Site) -> Shared:
    return installed.at(site)


def payloads(messages: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {queue: [body["payload"] for body in bodies] for queue, bodies in messages.items()}


def test_in_one_environment_each_finds_its_own(shared: Shared) -> None:
    first = shared.first
    for name in STARTS:
        theirs = shared.theirs(name, "--help")
        assert theirs.returncode == 0, theirs.stderr
        assert "--rabbit-host" in theirs.stdout, f"{name} of theirs declares options of transports"
        ours = shared.site.run("zwrap", name, "--help")
        assert (ours.returncode, ours.stdout.partition("\n")[0][: len(name) + 7]) == (
            0, f"usage: {name}",
        )  # fmt: skip
    by_name = shared.site.run("zocalo.go", "--version")
    assert by_name.stdout.startswith("zwrap ") == (first == "zocalo")
    told = shared.check()
    line = "warning: zocalo 1.5.0 is installed here, too" if first == "zocalo" else (
        f"warning: commands in {shared.bin} are those of another distribution: "
        "zocalo.configure_rabbitmq (zocalo.cli.configure_rabbitmq), "
    )  # fmt: skip
    assert line in told
    assert "wrapper 'xia2' is class facility:Xia2 of distribution facility 2.1" in told


def test_a_class_of_a_facility_runs_unchanged_as_under_python_zocalo(shared: Shared) -> None:
    done, sent = shared.wrap("xia2")
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stderr.splitlines() if "wrapper 'xia2' is class" in line]
    assert "INFO" in line
    assert "it goes before definition" in line
    assert payloads(sent) == {
        "starting": ["Starting processing"], "metrics": ["prepare", "hello", "done"],
        "success": ["Finished processing"], "completed": ["Finished processing"],
    }  # fmt: skip
    assert sent["completed"][0]["environment"] == {"ID": "guid", "by": "facility"}
    theirs = shared.theirs(
        "zocalo.wrap", "-t", "OfflineTransport", "--wrap", "xia2",
        "--recipewrapper", str(shared.step()),
    )  # fmt: skip
    assert theirs.returncode == 0, theirs.stderr
    assert "successfully finished processing" in theirs.stderr
    done, sent = shared.wrap("zwrap:xia2")
    assert done.returncode == 100
    assert "The program 'xia2' was not found" in payloads(sent)["failure"][0]


def test_a_service_of_a_facility_runs_unchanged_on_the_base_of_python_workflows(
    shared: Shared,
) -> None:
    nodes = {"1": {"queue": "steps", "output": {"made": 2}}, "2": {"queue": "made"}}
    body = {
        "recipe": {"start": [[1, []]], **nodes}, "recipe-pointer": 1, "recipe-path": [],
        "environment": {"ID": "guid"}, "payload": {"n": 21},
    }  # fmt: skip
    with shared.site.transport() as transport:
        transport.send("steps", body, {"workflows-recipe": True})
    done = shared.site.run("zwrap", "zocalo.service", "-s", "Step", "--once")
    assert done.returncode == 0, done.stderr
    [made] = shared.site.take("made")
    assert (made["payload"], made["recipe-path"]) == ({"twice": 42}, [1])
    with shared.site.transport() as transport:
        inspector = transport.inspector()
        assert [inspector.waiting(queue) for queue in ("steps", "made")] == [0, 0]
    assert shared.site.dead_letters("steps") == []


def test_a_filter_of_a_facility_may_make_a_recipe_of_python_workflows(shared: Shared) -> None:
    with shared.site.transport() as transport:
        transport.send("processing_recipe", {"parameters": {"to": "made"}})
    done = shared.site.run("zwrap", "zocalo.service", "-s", "Dispatcher", "--once")
    assert done.returncode == 0, done.stderr
    [made] = shared.site.take("made")
    assert (made["payload"], made["recipe"]["1"]["queue"]) == ("made", "made")
    assert shared.site.dead_letters("processing_recipe") == []


def test_a_job_of_zwrap_has_its_wrapper_whoever_has_the_name(shared: Shared) -> None:
    step = json.loads(shared.step().read_text())["recipe"]
    step["1"].update(
        queue="cluster.submission",
        parameters={
            "workingdir": str(shared.site.directory / "work"),
            "cluster": {
                "scheduler": "local", "job_name": "n",
                "commands": "zocalo.wrap --wrap xia2 --recipewrapper $RECIPEWRAP",
            },
        },
    )  # fmt: skip
    recipe = shared.site.directory / "r.json"
    recipe.write_text(json.dumps(step))
    shared.site.run("zwrap", "zocalo.go", "--no-dcid", "-f", str(recipe))
    for service in ("Dispatcher", "Submitter"):
        done = shared.site.run("zwrap", "zocalo.service", "-s", service, "--once")
        assert done.returncode == 0, done.stderr
    [completed] = shared.site.take("completed")
    assert completed["environment"]["by"] == "facility"
    attempts = list((shared.site.directory / "work" / ".zwrap").glob("*/verdict.json"))
    assert len(attempts) == 1, "the wrapper of zwrap leaves a verdict"


RECIPE = {
    "start": [[1, []]],
    "1": {
        "queue": "cluster.submission",
        "parameters": {
            "workingdir": "/tmp",
            "cluster": {"scheduler": "local", "commands": "zocalo.wrap --wrap x"},
        },
    },
}


@ORDERS
def test_after_theirs_is_uninstalled_ours_has_its_commands_all_the_same(
    first: str, site: Site, tmp_path: Path, wheels: Wheels
) -> None:
    shared = Shared(tmp_path / "env", wheels, first).at(site)
    shared.pip("uninstall", "-y", "zocalo")
    assert not (shared.bin / "zocalo.go").exists(), "pip removes files whoever wrote them"
    told = shared.check()
    assert f"warning: commands are missing in {shared.bin}: zocalo.configure_rabbitmq, " in told
    recipe = shared.site.directory / "r.json"
    recipe.write_text(json.dumps(RECIPE))
    script = shared.site.run("zwrap", "render", str(recipe)).stdout
    assert "ln -sf -- zwrap " in script
    done, sent = shared.wrap("dummy-of-nobody")
    assert done.returncode == 100
    assert "Unknown wrapper" in payloads(sent)["failure"][0]
    done, sent = shared.wrap("xia2")
    [failure] = payloads(sent)["failure"]
    assert "facility:Xia2 of distribution facility 2.1" in failure
    assert "cannot be imported: ModuleNotFoundError: No module named 'zocalo'" in failure


@ORDERS
def test_after_ours_is_uninstalled_theirs_runs(
    first: str, site: Site, tmp_path: Path, wheels: Wheels
) -> None:
    shared = Shared(tmp_path / "env", wheels, first).at(site)
    shared.pip("uninstall", "-y", "zwrap")
    assert not (shared.bin / "zwrap").exists()
    for name in STARTS:
        theirs = shared.theirs(name, "--help")
        assert theirs.returncode == 0, theirs.stderr
