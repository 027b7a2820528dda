"""Chains of real DIALS commands in one job, on images that are simulated here."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .conftest import Site

pytestmark = pytest.mark.slow

SIMULATE = Path(__file__).parents[1] / "programs/simulate-images"
CHANNELS = ("success", "failure", "result-individual-file", "result-all-files")
IMAGES = 4


@pytest.fixture
def images(tmp_path: Path) -> Path:
    if not shutil.which("dials.import", path="/usr/bin"):
        pytest.fail("DIALS is not installed: as root, apt-get install dials python3-dials")
    subprocess.run([SIMULATE, tmp_path / "images", str(IMAGES)], check=True)
    return tmp_path / "images"


def run(site: Site, working: Path, program: str, **parameters: Any) -> dict[str, list[Any]]:
    """Run a step; return the payloads that it sent, by channel."""
    working.mkdir()
    nodes = {str(number): {"queue": name} for number, name in enumerate(CHANNELS, 2)}
    step = {
        "job_parameters": {"working_directory": str(working), **parameters},
        "output": {name: number for number, name in enumerate(CHANNELS, 2)},
    }
    file = working / "rw.json"
    recipe = {"start": [[1, []]], "1": step, **nodes}
    file.write_text(
        json.dumps(
            {"recipe": recipe, "recipe-pointer": 1, "environment": {"ID": "guid"}, "payload": []}
        )
    )
    process = site.start(
        "zocalo.wrap", "--wrap", program, "--recipewrapper", str(file),
        env={"OMP_NUM_THREADS": "1"}, cwd=working,
    )  # fmt: skip
    _, log = process.communicate(timeout=600)
    assert "Traceback" not in log, log
    inspector = site.transport().inspector()
    return {
        name: [b["payload"] for b in site.take(name, inspector.waiting(name))] for name in CHANNELS
    }


def test_lattice_points_of_images_come_from_four_commands(
    site: Site, tmp_path: Path, images: Path
) -> None:
    sent = run(
        site, tmp_path / "work", "rlv",
        template=str(images / "sim_####.img"), image_first=1, image_last=IMAGES, nproc=1,
    )  # fmt: skip
    assert sent["failure"] == []
    [points] = [each for each in sent["result-individual-file"] if each["file_type"] == "recip"]
    assert points["file_name"] == "rlp.json.gz"
    with gzip.open(Path(points["file_path"], points["file_name"])) as file:
        assert len(json.load(file)["rlp"]) > 3 * 50


def test_the_first_command_that_fails_is_named_and_ends_the_chain(
    site: Site, tmp_path: Path, images: Path
) -> None:
    sent = run(
        site, tmp_path / "work", "rlv",
        template=str(images / "other_####.img"), image_first=1, image_last=IMAGES,
    )  # fmt: skip
    assert sent["success"] == []
    [failure] = sent["failure"]
    assert "does not match any files" in failure or "imported.expt" in failure
    assert not (tmp_path / "work/strong.refl").exists()
