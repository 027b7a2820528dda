"""Advice: the needs of earlier jobs tell what the next should ask for."""

from __future__ import annotations

from typing import Any

from zwrap.attempt.record import Attempt, kind_of
from zwrap.cli.advice import Advice, advise
from zwrap.job import Resources


def ended(name: str, outcome: str | None, **values: Any) -> Attempt:
    given = {"cluster": "c", "job_directory": "/d", "recipe_id": "r", "step": 1, **values}
    return Attempt(token=f"{id(values)}", job_name=name, outcome=outcome, **given)


def test_the_largest_need_with_a_margin_is_proposed() -> None:
    [advice] = advise([
        ended("xia2", "success", elapsed_s=100.0, peak_memory_mib=900.0),
        ended("xia2", "success", elapsed_s=300.0, peak_memory_mib=400.0),
        ended("xia2", "success", elapsed_s=200.0),
        ended("xia2", "retried", peak_memory_mib=1000.0),
        ended("xia2", None, elapsed_s=9999.0),
    ])  # fmt: skip
    assert advice == Advice(
        job_name="xia2", cluster="c", asked="", succeeded=3, other=1, median_s=200.0,
        longest_s=300.0, peak_mib=1000.0, time_limit=480, memory_per_node=1300,
    )  # fmt: skip


def test_each_name_and_cluster_has_its_own() -> None:
    found = advise([
        ended("b", "success", elapsed_s=1.0),
        ended("a", "failure"),
        ended("a", "failure", cluster="d"),
    ])  # fmt: skip
    assert [(each.job_name, each.cluster) for each in found] == [("a", "c"), ("a", "d"), ("b", "c")]
    assert found[0] == Advice("a", "c", "", 0, 1, None, None, None, None, None)
    assert advise([]) == []


def test_jobs_of_one_name_that_ask_for_other_things_have_their_own() -> None:
    """The need of a job with a GPU says little about one without."""
    found = advise([
        ended("a", "success", elapsed_s=10.0, asked="gres=gpu:a100:1"),
        ended("a", "success", elapsed_s=1000.0, asked=""),
        ended("a", "success", elapsed_s=1000.0, asked=None),
    ])  # fmt: skip
    assert [(each.asked, each.succeeded, each.time_limit) for each in found] == [
        ("", 2, 1500), ("gres=gpu:a100:1", 1, 60),
    ]  # fmt: skip


def test_what_a_job_asked_for_is_kept_without_what_changes_no_need() -> None:
    resources = Resources(
        partition="p", memory_mib=10, walltime_s=60, exclude="n1", mail="a@b", comment="x",
        gres="gpu:2", options={"switches": "1", "spread-job": ""},
    )  # fmt: skip
    assert kind_of(resources) == (
        "gres=gpu:2 options.spread-job=True options.switches=1 partition=p"
    )
    assert kind_of(Resources()) == ""
