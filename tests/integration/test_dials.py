"""The real DIALS programs of Debian 12 as wrapped steps, with their odd ways to end."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from .conftest import Site

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
UNMERGED = ROOT / "examples/demo/data/cm0001v1_xinsu1_scaled_unmerged.mtz"
SCALED = ROOT / "tests/data/xia2/v3.12.0/success_insulin_sad/DataFiles/cm0001v1_xinsu1_scaled.expt"
CHANNELS = ("success", "failure", "symmetry", "statistics", "resolution", "result-all-files")


class Dials:
    """Steps in one working directory; the payloads that each sent, by channel."""

    def __init__(self, site: Site, working: Path) -> None:
        self.site = site
        self.working = working
        working.mkdir()

    def run(self, program: str, **parameters: Any) -> tuple[int, dict[str, list[Any]]]:
        nodes = {str(number): {"queue": name} for number, name in enumerate(CHANNELS, 2)}
        step = {
            "job_parameters": {"working_directory": str(self.working), **parameters},
            "output": {name: number for number, name in enumerate(CHANNELS, 2)},
        }
        file = self.working / "rw.json"
        file.write_text(
            json.dumps(
                {"recipe": {"start": [[1, []]], "1": step, **nodes}, "recipe-pointer": 1,
                 "environment": {"ID": "guid"}, "payload": []}
            )
        )  # fmt: skip
        process = self.site.start(
            "zocalo.wrap", "--wrap", program, "--recipewrapper", str(file),
            env={"OMP_NUM_THREADS": "1"}, cwd=self.working,
        )  # fmt: skip
        _, log = process.communicate(timeout=600)  # real programs: minutes on a busy machine
        assert "Traceback" not in log, log
        transport = self.site.transport()
        sent = {
            name: [b["payload"] for b in self.site.take(name, transport.inspector().waiting(name))]
            for name in CHANNELS
        }
        return process.returncode, sent


@pytest.fixture
def dials(site: Site, tmp_path: Path) -> Dials:
    if not shutil.which("dials.scale", path="/usr/bin"):
        pytest.fail("DIALS is not installed: as root, apt-get install dials python3-dials")
    return Dials(site, tmp_path / "work")


def test_symmetry_scaling_and_resolution_of_real_data(dials: Dials, elsewhere: Path) -> None:
    for name in ("integrated.expt", "integrated.refl"):
        shutil.copyfile(elsewhere / "dials_input/quartz" / name, dials.working / name)
    status, sent = dials.run(
        "dials.symmetry", experiments="integrated.expt", reflections="integrated.refl"
    )
    assert status == 0, sent
    assert sent["symmetry"][0]["lattice_point_group"] == "-P 6 2"

    status, sent = dials.run(
        "dials.scale",
        experiments="symmetrized.expt",
        reflections="symmetrized.refl",
        **{"dials.scale": {"json": "scale.json"}},
    )
    assert status == 0, sent
    oracle = json.loads((dials.working / "scale.json").read_text())
    assert oracle, "the option reached the program"
    [statistics] = sent["statistics"]
    assert statistics["overall"]["n_tot_obs"] == 1406
    assert statistics["overall"]["completeness"] == 100.0
    assert 0.08 < statistics["overall"]["r_merge"] < 0.13
    assert any(name.endswith("/scaled.refl") for name in sent["result-all-files"][0]["filelist"])

    status, sent = dials.run("dials.estimate_resolution", files=["scaled.expt", "scaled.refl"])
    assert status == 0, "its exit status is 1 although it succeeded"
    assert 0.5 < sent["resolution"][0]["cc_half"] < 0.65

    status, sent = dials.run("command", command=["dials.merge", "scaled.expt", "scaled.refl"])
    assert status == 1, "it fails on a data set this small, with a real traceback"
    assert re.search(r"exited with status 1, its last words: \w*Error", sent["failure"][0]), sent


def test_estimate_resolution_succeeds_with_exit_status_1(dials: Dials) -> None:
    status, sent = dials.run("dials.estimate_resolution", files=str(UNMERGED))
    assert (status, sent["success"]) == (0, ["Finished processing"])
    assert 1.5 < sent["resolution"][0]["cc_half"] < 2.2


def test_scaling_without_reflections_prints_help_exits_with_0_and_is_a_failure(
    dials: Dials,
) -> None:
    status, sent = dials.run("dials.scale", experiments=str(SCALED))
    assert status == 1
    [failure] = sent["failure"]
    assert "it did not write scaled.expt; it did not write scaled.refl" in failure


def test_an_import_of_images_that_are_not_there_exits_with_0_and_says_why(dials: Dials) -> None:
    status, sent = dials.run(
        "command", command=["dials.import", "/no/such/image_0001.cbf"],
        success={"files": ["imported.expt"]},
    )  # fmt: skip
    assert status == 1
    words = "its last words: File /no/such/image_0001.cbf not found, then its help"
    assert sent["failure"] == [f"command: it did not write imported.expt; {words}"]


def test_a_file_that_is_no_data_is_a_failure_that_says_so(dials: Dials) -> None:
    (dials.working / "no.mtz").write_text("nothing")
    status, sent = dials.run("dials.estimate_resolution", files="no.mtz")
    assert status == 1
    assert "stderr says: " in sent["failure"][0]


def test_xtriage_on_an_ambiguous_file_says_sorry(dials: Dials) -> None:
    merged = UNMERGED.with_name("cm0001v1_xinsu1_scaled.mtz")
    status, sent = dials.run("command", command=["phenix.xtriage", str(merged)])
    assert status == 1
    assert "its last words: " in sent["failure"][0]
    assert "Sorry: Multiple equally suitable arrays" in (dials.working / "command.err").read_text()
