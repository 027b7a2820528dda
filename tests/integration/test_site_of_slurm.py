"""Tests of settings of a site's Slurm: limits of a QOS, partitions, a job_submit plug-in.

In each case good jobs beside a bad one are submitted soon, and the bad one is told in Slurm's
words.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Site
from .ends import concluded, described, send, told
from .jobs import attempts, states, waiting

pytestmark = pytest.mark.slow

Wait = Callable[..., Any]

SOON_S = 20.0
"""Time within which good jobs are submitted, whatever stands beside them, in seconds."""

TOO_LONG = {"commands": "true", "time_limit": "2:00:00"}
"""A job that asks for more than the 10 minutes that each QOS here allows."""


@pytest.fixture
def on_slurm(site: Site, slurm_accounting: dict[str, Any]) -> Iterator[Site]:
    """Yield a site whose steps run on Slurm; its jobs end then."""
    described(site, "slurm", {"SLURM_CONF": slurm_accounting["SLURM_CONF"]})
    yield site
    slurm_says(slurm_accounting, "scancel", f"--user={getpass.getuser()}")


@pytest.fixture
def limits(slurm_accounting: dict[str, Any], wait_until: Wait) -> Iterator[None]:
    """Let the user have two QOS that allow 10 minutes.

    `strict` refuses a job that asks for more, `lax` lets it wait for ever.
    """
    user = f"name={getpass.getuser()}"

    def manage(*command: str) -> str:
        return slurm_says(slurm_accounting, "sacctmgr", "-i", *command)

    manage("add", "qos", "strict", "set", "MaxWall=00:10:00", "Flags=DenyOnLimit")
    manage("add", "qos", "lax", "set", "MaxWall=00:10:00")
    manage("modify", "user", "where", user, "set", "qos+=strict,lax")

    def known() -> bool:
        tried = ["sbatch", "--test-only", "--qos=lax", "--time=1", "--chdir=/", "--wrap=true"]
        environment = {**os.environ, "SLURM_CONF": slurm_accounting["SLURM_CONF"]}
        done = subprocess.run(tried, env=environment, capture_output=True, check=False)
        return done.returncode == 0

    wait_until(known)
    yield
    manage("modify", "user", "where", user, "set", "qos-=strict,lax")
    manage("delete", "qos", "strict,lax")


def slurm_says(slurm: dict[str, Any], *command: str) -> str:
    environment = {**os.environ, "SLURM_CONF": slurm["SLURM_CONF"]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def taken(site: Site, beginning: str) -> int:
    """Return the number of jobs that Slurm has taken, of those whose names begin so."""
    return len(by_job_id(site, beginning))


def by_job_id(site: Site, beginning: str) -> list[str]:
    """Return the names of the jobs that Slurm has taken, by their ids: the order of submission."""
    known = [(each.job_id, each.job_name) for each in attempts(site) if each.job_id]
    known.sort(key=lambda each: [int(number) for number in str(each[0]).split("_")])
    return [name for _, name in known if name.startswith(beginning)]


def letters_of(site: Site, wait_until: Wait, count: int, seconds: float = SOON_S) -> list[str]:
    """Wait for the dead letters of the Submitter; return their reasons."""
    found: list[str] = wait_until(
        lambda: len(each := site.dead_letters("cluster.submission")) >= count and each,
        seconds=seconds,
    )
    assert len(found) == count, found
    return found


@pytest.mark.parametrize("array", [True, False])
def test_a_limit_of_a_qos_on_one_job_refuses_that_job_and_stops_no_other(
    on_slurm: Site, limits: None, wait_until: Wait, array: bool
) -> None:
    """Slurm has one text for such limits and for those on the number of jobs."""
    long = {**TOO_LONG, "array": array, "qos": "strict", "job_name": "bad"}
    bad = [(f"bad{n}", long) for n in range(7)]
    plain = {"commands": "true", "array": array, "qos": "strict", "time_limit": "0:05:00"}
    good = [(f"good{n}", {**plain, "job_name": "good"}) for n in range(60)]
    send(on_slurm, *bad[:4], *good, *bad[4:])
    began = time.monotonic()
    on_slurm.service("Submitter")
    wait_until(lambda: taken(on_slurm, "good") == 60, seconds=SOON_S)
    assert time.monotonic() - began < SOON_S
    for letter in letters_of(on_slurm, wait_until, 7):
        assert "refused the job: QOSMaxWallDurationPerJobLimit" in letter
        assert "Job violates accounting/QOS policy" in letter
    errors = [str(payload) for payload in told(on_slurm)["errors"]]
    assert len(errors) == 7
    assert all("QOSMaxWallDurationPerJobLimit" in error for error in errors)
    assert waiting(on_slurm) == {}


def test_a_limit_that_slurmrestd_does_not_name_holds_that_job_alone(
    site: Site, slurm_accounting: dict[str, Any], limits: None, wait_until: Wait
) -> None:
    """It may be one that gives way; the hour for which the job waits is made short here."""
    described(site, "slurmrest", {})
    reached = {key: slurm_accounting[key] for key in ("url", "user_token")}
    site.sections["clusters"]["cluster"] |= {**reached, "held_s": 5}
    site.write_config()
    bad = [(f"bad{n}", {**TOO_LONG, "qos": "strict"}) for n in range(3)]
    plain = {"commands": "true", "qos": "strict", "time_limit": "0:05:00", "job_name": "good"}
    send(site, *bad, *((f"good{n}", plain) for n in range(10)))
    site.service("Submitter")
    wait_until(lambda: taken(site, "good") == 10, seconds=SOON_S)
    wait_until(lambda: waiting(site).keys() == {name for name, _ in bad}, seconds=SOON_S)
    for cause in waiting(site).values():
        assert "Job violates accounting/QOS policy" in cause
        assert "it waits since" in cause
    for letter in letters_of(site, wait_until, 3, seconds=60):
        assert "has not taken the job for" in letter
        assert "Job violates accounting/QOS policy" in letter
    assert len(told(site)["errors"]) == 3


def test_a_job_that_waits_for_ever_for_its_qos_is_given_up(
    on_slurm: Site, limits: None, wait_until: Wait
) -> None:
    on_slurm.service("Watcher")
    send(on_slurm, ("w", {**TOO_LONG, "qos": "lax"}))
    assert on_slurm.run("zocalo.service", "-s", "Submitter", "--once").returncode == 0
    job = concluded(on_slurm, wait_until, "w", seconds=60)
    assert job["outcome"] == "failure"
    assert "QOSMaxWallDurationPerJobLimit" in job["cause"]
    assert told(on_slurm)["failure"] == [job["cause"]]


def test_a_limit_on_all_jobs_refuses_one_that_alone_exceeds_it_and_lets_others_wait(
    on_slurm: Site, slurm_accounting: dict[str, Any], limits: None, wait_until: Wait
) -> None:
    """GrpTRES: two jobs of one CPU run beside each other, one of four never will."""
    manage = ("sacctmgr", "-i", "modify", "qos", "strict", "set")
    slurm_says(slurm_accounting, *manage, "GrpTRES=cpu=2")
    plain = {"commands": "sleep 1", "qos": "strict", "time_limit": "0:05:00"}
    wait_until(lambda: "cpu=2" in slurm_says(slurm_accounting, "scontrol", "show", "assoc_mgr"))
    send(on_slurm, ("bad", {**plain, "tasks": 4}), *((f"good{n}", plain) for n in range(6)))
    on_slurm.service("Submitter")
    on_slurm.service("Watcher")
    wait_until(lambda: taken(on_slurm, "good") == 6, seconds=SOON_S)
    [letter] = letters_of(on_slurm, wait_until, 1)
    assert "refused the job: QOSGrpCpuLimit" in letter
    for number in range(6):
        job = concluded(on_slurm, wait_until, f"good{number}", seconds=60)
        assert job["outcome"] == "success", job


CLI_FILTER = """\
function slurm_cli_setup_defaults(options, early)
    options["time"] = "7"
    options["comment"] = "set by the site"
    return slurm.SUCCESS
end
function slurm_cli_pre_submit(options, pack_offset)
    if options["job-name"]:find("^never") then
        slurm.log_error("projects of that name have ended")
        return slurm.ERROR
    end
    return slurm.SUCCESS
end
function slurm_cli_post_submit(offset, job_id, step_id)
    print("Your job has number " .. job_id)
    return slurm.SUCCESS
end
"""


@pytest.fixture
def filtered(slurm_accounting: dict[str, Any]) -> Iterator[None]:
    """Let sbatch use a cli_filter of the site."""
    file = Path(slurm_accounting["SLURM_CONF"])
    given = file.read_text()
    (file.parent / "cli_filter.lua").write_text(CLI_FILTER)
    file.write_text(f"{given}CliFilterPlugins=lua\n")
    try:
        yield
    finally:
        file.write_text(given)


def test_a_filter_of_sbatch_refuses_its_job_and_its_defaults_hold(
    on_slurm: Site, slurm_accounting: dict[str, Any], filtered: None, wait_until: Wait
) -> None:
    names = ["never0", *(f"good{n}" for n in range(3)), "own"]
    blocks = {"own": {"time_limit": "0:02:00"}}
    send(on_slurm, *((name, {"commands": "sleep 5", **blocks.get(name, {})}) for name in names))
    on_slurm.service("Submitter")
    wait_until(lambda: taken(on_slurm, "good") + taken(on_slurm, "own") == 4, seconds=SOON_S)
    [letter] = letters_of(on_slurm, wait_until, 1)
    assert "refused the job: lua: projects of that name have ended" in letter
    limits = {
        job.job_name: slurm_says(
            slurm_accounting, "squeue", "-h", f"--jobs={job.job_id}", "-O", "TimeLimit:|,Comment:|"
        ).strip()
        for job in attempts(on_slurm)
        if job.job_id
    }
    assert limits["good0"] == "7:00|set by the site|"
    assert limits["own"] == "2:00|set by the site|"


CLOSED = {"short": "DRAIN", "yielding": "INACTIVE", "requeued": "DOWN"}
"""Partition to its state in a maintenance. Slurm refuses jobs for the first two, and takes those
for the last one."""


def test_jobs_wait_for_their_partition_and_go_in_by_age(
    on_slurm: Site, slurm_accounting: dict[str, Any], wait_until: Wait
) -> None:
    """Jobs of another partition go on meanwhile; the Submitter is started anew."""

    def partition(name: str, state: str) -> None:
        slurm_says(
            slurm_accounting, "scontrol", "update", f"PartitionName={name}", f"State={state}"
        )

    names = [(f"{place}{n}", place) for n in range(3) for place in (*CLOSED, "main")]
    blocks = [(n, {"commands": "true", "partition": p, "time_limit": 120}) for n, p in names]
    try:
        for place, state in CLOSED.items():
            partition(place, state)
        send(on_slurm, *blocks)
        first = on_slurm.service("Submitter")
        wait_until(lambda: len(waiting(on_slurm)) == 6, seconds=SOON_S)
        wait_until(lambda: taken(on_slurm, "main") == 3, seconds=SOON_S)
        for name, cause in waiting(on_slurm).items():
            assert name.startswith(("short", "yielding"))
            assert "Required partition not available (inactive or drain); it waits since" in cause
        wait_until(lambda: states(on_slurm)["requeued2"] == ("pending", "PartitionDown"))
        first.terminate()
        assert first.wait(30) == 0
        on_slurm.service("Submitter")
        send(on_slurm, ("later", {"commands": "true", "partition": "short", "time_limit": 120}))
        send(on_slurm, ("other", {"commands": "true", "partition": "main"}))
        wait_until(lambda: taken(on_slurm, "other") == 1, seconds=SOON_S)
        wait_until(lambda: len(waiting(on_slurm)) == 7, seconds=SOON_S)
    finally:
        for place in CLOSED:
            partition(place, "UP")
    wait_until(lambda: taken(on_slurm, "") == 14, seconds=75)
    order = by_job_id(on_slurm, "")
    assert by_job_id(on_slurm, "short")[0] == "short0"
    assert by_job_id(on_slurm, "yielding")[0] == "yielding0"
    assert order.index("later") > max(order.index(f"short{n}") for n in range(3))
    assert on_slurm.dead_letters("cluster.submission") == []


JOB_SUBMIT = """\
function slurm_job_submit(job, partitions, uid)
    if job.name:find("^never") then
        slurm.log_user("ask for less than that")
        return slurm.ERROR
    end
    return slurm.SUCCESS
end
function slurm_job_modify(job, record, partitions, uid)
    return slurm.SUCCESS
end
"""


@pytest.fixture
def plugins(slurm_accounting: dict[str, Any]) -> Iterator[Callable[[str], None]]:
    """Yield a function that lets the controller use a job_submit plug-in."""
    file = Path(slurm_accounting["SLURM_CONF"])
    given = file.read_text()
    (file.parent / "job_submit.lua").write_text(JOB_SUBMIT)

    def use(name: str) -> None:
        file.write_text(f"{given}JobSubmitPlugins={name}\n")
        slurm_says(slurm_accounting, "scontrol", "reconfigure")

    yield use
    file.write_text(given)
    slurm_says(slurm_accounting, "scontrol", "reconfigure")


def test_a_job_that_a_plug_in_of_the_site_refuses_waits_alone_with_its_words(
    on_slurm: Site, plugins: Callable[[str], None], wait_until: Wait
) -> None:
    """Slurm says "Unspecified error" for whatever a plug-in means, if not told otherwise."""
    on_slurm.sections["clusters"]["cluster"]["held_s"] = 5
    on_slurm.write_config()
    plugins("lua")
    names = ["never0", "never1", *(f"good{n}" for n in range(6))]
    send(on_slurm, *((name, {"commands": "true"}) for name in names))
    on_slurm.service("Submitter")
    wait_until(lambda: taken(on_slurm, "good") == 6, seconds=SOON_S)
    wait_until(lambda: waiting(on_slurm).keys() == {"never0", "never1"}, seconds=SOON_S)
    for cause in waiting(on_slurm).values():
        assert cause.startswith("ask for less than that")
    for letter in letters_of(on_slurm, wait_until, 2, seconds=60):
        assert "has not taken the job for" in letter
        assert "ask for less than that" in letter
    assert len(told(on_slurm)["errors"]) == 2


def test_a_job_without_the_time_limit_that_a_site_demands_is_refused(
    on_slurm: Site, plugins: Callable[[str], None], wait_until: Wait
) -> None:
    plugins("require_timelimit")
    send(on_slurm, ("bad", {"commands": "true"}), ("good", {"commands": "true", "time_limit": 60}))
    assert on_slurm.run("zocalo.service", "-s", "Submitter", "--once").returncode == 0
    [letter] = letters_of(on_slurm, wait_until, 1)
    assert "refused the job: Batch job submission failed: Time limit specification" in letter
    assert taken(on_slurm, "good") == 1


@pytest.mark.parametrize(("given", "shown"), [("1-12", "1-12:00:00"), ("1-12:30", "1-12:30:00")])
def test_days_and_hours_are_what_slurm_makes_of_them(
    on_slurm: Site, slurm_accounting: dict[str, Any], given: str, shown: str
) -> None:
    """sbatch(1): days-hours, and days-hours:minutes."""
    send(on_slurm, ("w", {"commands": "sleep 60", "time_limit": given}))
    assert on_slurm.run("zocalo.service", "-s", "Submitter", "--once").returncode == 0
    [job] = attempts(on_slurm)
    assert (
        slurm_says(slurm_accounting, "squeue", "-h", f"--jobs={job.job_id}", "-o%l") == f"{shown}\n"
    )


POWER_SAVING = """\
SuspendProgram=/bin/true
ResumeProgram=/bin/true
SuspendTime=36000
SuspendTimeout=1
ResumeTimeout=5
"""
"""Nodes that are told to start do not come, until a person resumes them."""


@pytest.fixture
def powered_down(
    slurm_accounting: dict[str, Any], wait_until: Wait
) -> Iterator[Callable[[], None]]:
    """Let all nodes be powered down; yield a function that lets them come."""
    file, nodes = Path(slurm_accounting["SLURM_CONF"]), ",".join(slurm_accounting["nodes"])
    given = file.read_text()

    def nodes_are(state: str) -> None:
        slurm_says(slurm_accounting, "scontrol", "update", f"NodeName={nodes}", f"State={state}")

    def resume() -> None:
        file.write_text(given)
        slurm_says(slurm_accounting, "scontrol", "reconfigure")
        with contextlib.suppress(subprocess.CalledProcessError):  # those that are not down
            nodes_are("RESUME")

    file.write_text(given + POWER_SAVING)
    try:
        slurm_says(slurm_accounting, "scontrol", "reconfigure")
        nodes_are("POWER_DOWN_FORCE")
        shown = "scontrol", "show", "node"
        wait_until(lambda: slurm_says(slurm_accounting, *shown).count("POWERED_DOWN") == 2,
                   seconds=30)  # fmt: skip
        yield resume
    finally:
        resume()
        wait_until(lambda: slurm_says(slurm_accounting, "sinfo", "-h", "-o%t").split() == ["idle"],
                   seconds=60)  # fmt: skip


def test_a_job_whose_node_has_to_be_switched_on_waits_and_is_not_lost(
    on_slurm: Site, powered_down: Callable[[], None], wait_until: Wait
) -> None:
    """Its node does not come up in time; Slurm puts the job back into the queue."""
    on_slurm.sections["clusters"]["cluster"]["lost_s"] = 1
    on_slurm.write_config()
    on_slurm.service("Watcher")
    send(on_slurm, ("w", {"commands": "true"}))
    assert on_slurm.run("zocalo.service", "-s", "Submitter", "--once").returncode == 0
    seen = set()
    deadline = time.monotonic() + 12
    while time.monotonic() < deadline:
        seen |= {(each.seen_state, each.outcome) for each in attempts(on_slurm)}
        time.sleep(0.2)
    assert ("pending", None) in seen
    assert seen <= {(None, None), ("pending", None), ("running", None)}
    powered_down()
    job = concluded(on_slurm, wait_until, "w", seconds=90)
    assert job["outcome"] == "success", job
