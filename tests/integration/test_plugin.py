"""The batch system in examples/plugin-pbs: installed as a site does, and used on a real cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from .conftest import Site
from .release import pip

pytestmark = pytest.mark.slow

PLUGIN = Path(__file__).parents[2] / "examples" / "plugin-pbs"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment with the plug-in; zwrap in it is the wheel of the tests' own."""
    place = tmp_path_factory.mktemp("plugin")
    subprocess.run(
        [sys.executable, "-P", "-m", "venv", "--without-pip", place / "venv"], check=True
    )
    shutil.copytree(PLUGIN, place / "source")
    python = place / "venv" / "bin" / "python"
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", place / "wheel", place / "source")
    [wheel] = (place / "wheel").glob("*.whl")
    pip("--python", python, "install", "--no-deps", "--no-index", wheel)
    [packages] = place.glob("venv/lib/python*/site-packages")
    (packages / "zwrap.pth").write_text(sysconfig.get_path("purelib") + "\n")
    ours = Path(sys.executable).parent
    for name in ("zwrap", "zocalo.wrap", "zocalo.service", "zocalo.go"):
        script = place / "venv" / "bin" / name
        script.write_text((ours / name).read_text().replace(str(ours), str(script.parent)))
        script.chmod(0o755)
    return place / "venv" / "bin"


@pytest.fixture
def pbs(slurm_torque: dict[str, Any], site: Site, installed: Path) -> Site:
    """Return a site whose only cluster is Slurm behind the commands of PBS."""
    records = site.directory / "records"
    records.mkdir()
    site.bin = installed
    site.settings["scheduler"] = "old"
    site.sections["batch"] = {
        "plugin": "clusters",
        "old": {
            "kind": "pbs", "records": str(records), "lag_s": 2.0,
            "programs": slurm_torque["programs"], "environment": slurm_torque["environment"],
        },
    }  # fmt: skip
    site.write_config()
    return site


def test_the_contract_holds_from_the_wheel(pbs: Site, installed: Path) -> None:
    """The author of a plug-in runs the suite in this way."""
    done = subprocess.run(
        [
            installed / "python", "-P", "-m", "zwrap.testing", "-p", "no:cacheprovider",
            "-q", "-rs", "--cluster", "old", "--alone", "nodes=2", "--alone", "cpus_per_task=8",
            "--basetemp", pbs.directory / "try",
        ],
        env=pbs.environment(), cwd=pbs.directory, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    skipped = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert ["there are no arrays" in line for line in skipped] == [True]


def test_a_step_runs_under_the_plug_in_with_its_own_template(pbs: Site) -> None:
    step = {
        "queue": "cluster.submission",
        "parameters": {
            "cluster": {
                "commands": "zocalo.wrap --wrap command --recipewrapper $RECIPEWRAP",
                "job_name": "hello", "partition": "main", "time_limit": "0:05:00",
            },
            "workingdir": str(pbs.directory / "w"),
        },
        "job_parameters": {"command": ["sh", "-c", "echo $PBS_JOBID"]},
        "output": {"job_submitted": 2, "success": 3, "failure": 3},
    }  # fmt: skip
    recipe = {"start": [[1, []]], "1": step, "2": {"queue": "submitted"}, "3": {"queue": "ended"}}
    file = pbs.recipes / "r.json"
    file.write_text(json.dumps(recipe))
    shown = pbs.run("zwrap", "render", str(file))
    assert "#PBS -q main\n" in shown.stdout
    assert "#PBS -l walltime=0:05:00\n" in shown.stdout
    assert pbs.run("zwrap", "check").returncode == 0
    for line in (
        ["zocalo.go", "--no-dcid", "-r", "r"],
        ["zocalo.service", "-s", "Dispatcher", "--once"],
        ["zocalo.service", "-s", "Submitter", "--once"],
    ):
        assert pbs.run(*line).returncode == 0
    [submitted] = pbs.take("submitted")
    [ended] = pbs.take("ended", seconds=60)
    assert ended["payload"] == "Finished processing", pbs.logs()
    job_id = str(submitted["payload"]["jobid"])
    [claim] = (pbs.directory / "w").glob("**/claim.json")
    assert json.loads(claim.read_text())["job_id"] == job_id, "its inside half was asked"
