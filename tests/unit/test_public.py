"""Names of zwrap that programs of a site import: each is where docs/compat-zocalo.md says."""

from __future__ import annotations

import logging
import os
import pkgutil
import re
from pathlib import Path

import pytest

import zwrap
from zwrap.configuration.recipe_id import RecipeIDFormatter, annotate_log_records, recipe_context
from zwrap.host.links import create_parent_symlink
from zwrap.service.status import extended_status_dictionary

DOCS = Path(__file__).parents[2] / "docs"
KEPT = {
    module: re.findall(r"`(\w+)`", names)
    for module, names in re.findall(
        r"^\| `(zwrap[\w.]*)` \| (.+) \|$", (DOCS / "compat-zocalo.md").read_text(), re.MULTILINE
    )
}


@pytest.mark.parametrize(("module", "names"), KEPT.items())
def test_each_name_that_the_page_promises_is_where_it_says(module: str, names: list[str]) -> None:
    for name in names:
        assert pkgutil.resolve_name(f"{module}:{name}")


def test_the_page_is_read() -> None:
    assert sum(map(len, KEPT.values())) > 30


def test_what_is_offered_at_the_top_is_what_the_page_says() -> None:
    for name in KEPT["zwrap"]:
        assert getattr(zwrap, name).__name__ == name
        assert name in dir(zwrap)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = zwrap.nothing


def test_an_import_of_python_zocalo_has_one_new_home() -> None:
    """Under its own module path, where it behaves as it did; zwrap's own may behave otherwise."""
    rows = re.compile(r"^\| `(?:zocalo|workflows)\.[\w.]+` \| `zwrap\.(?!compat\.)", re.MULTILINE)
    for page in DOCS.glob("*.md"):
        assert page.name == "compat-zocalo.md" or not rows.search(page.read_text()), page


# -- links -------------------------------------------------------------------------------------


def test_a_link_is_made_levels_above_and_is_relative(tmp_path: Path) -> None:
    run = tmp_path / "results" / "run" / "17"
    run.mkdir(parents=True)
    assert create_parent_symlink(run, "latest")
    assert os.readlink(tmp_path / "results" / "latest") == "run/17"
    assert create_parent_symlink(str(run), "one", levels=1)
    assert os.readlink(tmp_path / "results" / "run" / "one") == "17"


def test_only_links_are_replaced_and_only_on_request(tmp_path: Path) -> None:
    for name in ("17", "18"):
        (tmp_path / "run" / name).mkdir(parents=True)
    (tmp_path / "file").write_text("kept")
    assert not create_parent_symlink(tmp_path / "run" / "17", "file", overwrite_symlink=True)
    assert create_parent_symlink(tmp_path / "run" / "17", "link")
    assert not create_parent_symlink(tmp_path / "run" / "18", "link")
    assert os.readlink(tmp_path / "link") == "run/17"
    assert create_parent_symlink(tmp_path / "run" / "18", "link", overwrite_symlink=True)
    assert os.readlink(tmp_path / "link") == "run/18"
    assert (tmp_path / "file").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "run"]


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(ValueError, match="An absolute path"):
        create_parent_symlink("run/17", "link")


# -- context -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "fields"),
    [
        ({}, {}),
        ({"SLURM_JOB_ID": "7"}, {"cluster_JOB_ID": "7"}),
        (
            {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "2"},
            {"cluster_JOB_ID": "5_2"},
        ),
        (
            {"JOB_ID": "8", "SGE_CELL": "c", "SGE_TASK_ID": "undefined"},
            {"cluster_JOB_ID": "8", "cluster_SGE_CELL": "c"},
        ),
        (
            {"JOB_ID": "8", "SGE_CELL": "c", "SGE_TASK_ID": "3"},
            {"cluster_JOB_ID": "8.3", "cluster_SGE_CELL": "c"},
        ),
        ({"JOB_ID": "8"}, {}),  # without a cell it is not a job of Grid Engine
        ({"ZWRAP_LOCAL_JOB_ID": "9"}, {"cluster_JOB_ID": "9"}),
    ],
)
def test_the_batch_job_is_in_the_status(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], fields: dict[str, str]
) -> None:
    monkeypatch.delenv("SGE_CELL", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert extended_status_dictionary() == {"zocalo": zwrap.__version__, **fields}


def test_every_line_of_the_log_carries_the_recipe_at_work(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("zwrap.test.context")
    annotate_log_records()
    annotate_log_records()  # a second time changes nothing
    caplog.handler.setFormatter(RecipeIDFormatter("%(message)s"))
    with caplog.at_level(logging.INFO), recipe_context("guid"):
        logger.info("inside")
        logger.info("its own", extra={"recipe_ID": "other"})
    logger.warning("outside")
    assert caplog.text == "inside [recipe guid]\nits own [recipe other]\noutside\n"
