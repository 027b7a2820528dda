"""Tests of settings of a site's Grid Engine: default options, a JSV, queues, moved accounting."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .batch import Batch, emptied
from .conftest import Site
from .ends import concluded, described, send, told
from .gridengine import configured, qmaster
from .jobs import jobs, states, waiting

pytestmark = pytest.mark.slow

Wait = Callable[..., Any]

SOON_S = 20.0
"""Time within which good jobs are submitted, whatever stands beside them, in seconds."""


@pytest.fixture
def on_sge(site: Site, sge: dict[str, str]) -> Iterator[Site]:
    """Yield a site whose steps run on Grid Engine; its jobs end and its queues are open then."""
    described(site, "sge", sge)
    site.sections["clusters"]["cluster"]["accounting_lag_s"] = 2
    site.write_config()
    yield site
    qmaster(sge, "qmod", "-e", "*")
    for _ in emptied(Batch("sge", sge)):
        pass


@pytest.fixture
def common(sge: dict[str, str]) -> Iterator[Path]:
    """Yield the directory of files that hold for all; those that tests add go with them."""
    place = Path(sge["SGE_ROOT"], "default", "common")
    before = set(place.iterdir())
    yield place
    for file in {*place.iterdir()} - before:
        file.unlink()


def submitter(site: Site, **env: str) -> None:
    assert site.run("zocalo.service", "-s", "Submitter", "--once", env=env).returncode == 0


def test_a_job_has_no_secret_of_the_submitter_even_if_the_site_hands_on_all_variables(
    on_sge: Site, common: Path, wait_until: Wait
) -> None:
    """`-V` is a usual line of sge_request."""
    (common / "sge_request").write_text("-V\n")
    send(on_sge, *((f"w{number}", {"commands": "env >seen; echo >>seen"}) for number in range(3)))
    submitter(on_sge, MY_SECRET="hush", PYTHONPATH="/nonexistent/x", SGE_TASK_ID="77")
    for number in range(3):
        seen = on_sge.directory / f"w{number}" / "seen"
        wait_until(lambda file=seen: file.exists() and file.read_text()[-2:] == "\n\n", seconds=60)
        found = dict(line.split("=", 1) for line in seen.read_text().splitlines() if "=" in line)
        secret = ("MY_SECRET", "PYTHONPATH", "GLIBC_TUNABLES", "DRMAA_LIBRARY_PATH", "ZWRAP_STATE")
        assert not {*secret} & {*found}
        assert found["SGE_TASK_ID"] != "77"
        assert found["HOME"] == str(Path.home())
        assert found["SGE_CELL"] == "default"


def test_default_options_for_arrays_and_directories_change_no_job(
    on_sge: Site, common: Path, wait_until: Wait
) -> None:
    (common / "sge_request").write_text("-t 1-3 -cwd -j y\n")
    send(on_sge, *((f"w{number}", {"job_name": "w"}) for number in range(3)), command="pwd >>ran")
    submitter(on_sge)
    places = [on_sge.directory / f"w{number}" for number in range(3)]
    wait_until(lambda: all((place / "ran").exists() for place in places), seconds=60)
    wait_until(lambda: Counter(job["state"] for job in jobs(on_sge)) == {"success": 3}, seconds=60)
    assert [(place / "ran").read_text() for place in places] == [f"{place}\n" for place in places]


def test_a_job_that_is_held_says_who_lets_it_go(
    on_sge: Site, sge: dict[str, str], common: Path, wait_until: Wait
) -> None:
    """`-h` in sge_request holds each job for ever."""
    (common / "sge_request").write_text("-h\n")
    send(on_sge, ("w", {}))
    submitter(on_sge)
    [job] = wait_until(lambda: [job for job in jobs(on_sge) if job["state"] == "pending"])
    assert job["cause"] == f"held: `qrls {job['job_id']}` lets it go"
    qmaster(sge, "qrls", job["job_id"])
    wait_until(lambda: states(on_sge)["w"][0] == "success", seconds=60)


def test_a_submitter_whose_directory_was_removed_submits_jobs(on_sge: Site) -> None:
    """Grid Engine refuses each job of such a process."""
    left = on_sge.directory / "left"
    left.mkdir()
    send(on_sge, ("w", {}))
    loses = 'rmdir "$PWD" && exec zocalo.service -s Submitter --once'
    process = on_sge.start("sh", "-c", loses, cwd=left)
    assert process.wait(60) == 0
    assert states(on_sge)["w"][0] in ("pending", "running", "success")


@pytest.mark.parametrize("place", ["beside", "elsewhere"])
def test_a_job_whose_record_was_moved_away_has_ended_well(
    on_sge: Site, sge: dict[str, str], common: Path, tmp_path: Path, wait_until: Wait, place: str
) -> None:
    """The file is moved as logrotate does it; only it records the end of a job without wrapper."""
    moved = common / "accounting-20261127"
    if place == "elsewhere":
        moved = tmp_path / "archive" / "accounting.1"
        moved.parent.mkdir()
        pattern = f"{moved.parent}/accounting.*"
        on_sge.sections["clusters"]["cluster"]["accounting_files"] = pattern
        on_sge.write_config()
    live = common / "accounting"
    send(on_sge, *((f"w{number}", {"commands": "true", "array": False}) for number in range(2)))
    submitter(on_sge)
    ids = [job["job_id"] for job in jobs(on_sge)]
    wait_until(lambda: all(f":{job_id}:" in live.read_text() for job_id in ids), seconds=60)
    given = configured(sge, tmp_path, "finished_jobs", "0")
    try:
        shutil.copy(live, moved)
        live.unlink()
        live.touch()
        on_sge.service("Watcher")
        for number in range(2):
            job = concluded(on_sge, wait_until, f"w{number}", seconds=60)
            assert job["outcome"] == "success", job
    finally:
        configured(sge, tmp_path, "finished_jobs", given)


def test_jobs_wait_while_all_queues_are_disabled(
    on_sge: Site, sge: dict[str, str], wait_until: Wait
) -> None:
    qmaster(sge, "qmod", "-d", "*")
    on_sge.service("Submitter")
    send(on_sge, *((f"w{number}", {}) for number in range(3)))
    wait_until(lambda: len(jobs(on_sge)) == 3, seconds=SOON_S)
    wait_until(lambda: {state for state, _ in states(on_sge).values()} == {"pending"}, seconds=5)
    qmaster(sge, "qmod", "-e", "*")
    wait_until(lambda: Counter(job["state"] for job in jobs(on_sge)) == {"success": 3}, seconds=60)
    assert on_sge.dead_letters("cluster.submission") == []


JSV = """#!/bin/sh
while read -r word rest; do
    case $word in
    START) name=; echo STARTED ;;
    PARAM) case $rest in N\\ *) name=${rest#N } ;; esac ;;
    BEGIN)
        case $name in
        never*) echo "RESULT STATE REJECT ask for less than that" ;;
        later*) echo "RESULT STATE REJECT_WAIT come back after the maintenance" ;;
        other*) echo "PARAM q_hard long.q"; echo "RESULT STATE CORRECT moved to long.q" ;;
        *) echo "RESULT STATE ACCEPT" ;;
        esac ;;
    QUIT) exit 0 ;;
    esac
done
"""


def test_a_job_that_a_jsv_rejects_is_told_in_its_words_and_stops_no_other(
    on_sge: Site, sge: dict[str, str], tmp_path: Path, wait_until: Wait
) -> None:
    """The words of REJECT and REJECT_WAIT come in one way: both are asked once more and again.

    The hour is made short here.
    """
    on_sge.sections["clusters"]["cluster"]["held_s"] = 5
    on_sge.write_config()
    script = tmp_path / "jsv"
    script.write_text(JSV)
    script.chmod(0o755)
    given = configured(sge, tmp_path, "jsv_url", f"script:{script}")
    try:
        on_sge.service("Submitter")
        good = [f"good{number}" for number in range(4)]
        names = ["never", "later", "other", *good]
        send(on_sge, *((name, {}) for name in names), command="echo $QUEUE >queue")
        ended = {"other", *good}
        ran = {name: on_sge.directory / name / "queue" for name in ended}
        wait_until(lambda: ended <= {*states(on_sge)}, seconds=SOON_S)
        words = {"never": "ask for less than that", "later": "come back after the maintenance"}
        wait_until(lambda: waiting(on_sge).keys() == words.keys(), seconds=SOON_S)
        for name, cause in waiting(on_sge).items():
            assert f"{words[name]}; it waits since " in cause
        wait_until(lambda: all(file.exists() for file in ran.values()), seconds=60)
        assert ran["other"].read_text() == "long.q\n"
        letters = wait_until(
            lambda: len(each := on_sge.dead_letters("cluster.submission")) == 2 and each,
            seconds=60,
        )
    finally:
        configured(sge, tmp_path, "jsv_url", given)
    for said in words.values():
        assert any(said in letter and "has not taken the job for" in letter for letter in letters)
    errors = [str(payload) for payload in told(on_sge)["errors"]]
    assert len(errors) == 2
    assert all(any(said in error for error in errors) for said in words.values())


def test_more_jobs_than_a_user_may_have_wait_and_go_in_by_age(
    on_sge: Site, sge: dict[str, str], tmp_path: Path, wait_until: Wait
) -> None:
    given = configured(sge, tmp_path, "max_u_jobs", "2")
    try:
        on_sge.service("Submitter")
        send(on_sge, *((f"w{number}", {}) for number in range(5)), command="sleep 8")
        wait_until(lambda: waiting(on_sge).keys() == {"w2", "w3", "w4"}, seconds=SOON_S)
        for cause in waiting(on_sge).values():
            assert "only 2 jobs are allowed per user" in cause
            assert "it waits since" in cause
    finally:
        configured(sge, tmp_path, "max_u_jobs", given)
    wait_until(lambda: Counter(job["state"] for job in jobs(on_sge)) == {"success": 5}, seconds=90)
    ids = {job["job_name"]: int(job["job_id"]) for job in jobs(on_sge)}
    assert sorted(ids, key=lambda name: ids[name]) == sorted(ids)
    assert on_sge.dead_letters("cluster.submission") == []


def test_days_and_hours_are_what_grid_engine_makes_of_them(
    on_sge: Site, sge: dict[str, str]
) -> None:
    send(on_sge, ("w", {"commands": "sleep 60", "time_limit": "1-12:30"}))
    submitter(on_sge)
    [job] = jobs(on_sge)
    assert f"h_rt={36 * 3600 + 1800}" in qmaster(sge, "qstat", "-j", job["job_id"])
