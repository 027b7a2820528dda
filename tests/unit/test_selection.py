"""The query language: each field of a query means the jobs that it says, and no others."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.ledger.place import default_file
from zwrap.attempt.ledger.query import Queries
from zwrap.attempt.record import SUBMITTED, Attempt
from zwrap.cli import zwrap
from zwrap.configuration.clusters import ClusterSettings
from zwrap.errors import RequestError
from zwrap.job import State
from zwrap.monitor.selection import parse_query, parse_time
from zwrap.submission.clusters import Cluster, Clusters

from .watched import Told, status

RECIPES = "d53fe2b2-1", "d53fe2b2-2", "728066f0-1"
NOW = time.time()


def message(number: int) -> dict[str, object]:
    commands = ["set -e", f"zocalo.wrap --wrap prog{number % 2} x"]
    step = {
        "parameters": {"cluster": {"commands": commands}},
        "job_parameters": {"d_min": 2, "list": [{"a.b": "c"}]},
    }  # fmt: skip
    recipe = {"start": [[1, []]], "1": step}
    return {
        "recipe": recipe, "recipe-pointer": 1, "recipe-path": [], "environment": {"ID": "r"},
        "payload": {"dcid": number, "on": True, "text": "7"},
    }  # fmt: skip


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Told:
    system = Told()
    cluster = Cluster("local", ClusterSettings(kind="told"), system)  # type: ignore[arg-type]
    monkeypatch.setattr(Clusters, "get", lambda *_: cluster)
    return system


@pytest.fixture
def ledger(tmp_path: Path, system: Told) -> Iterator[Ledger]:
    """Return the ledger of a site with 12 jobs: number n is n hours old; those from 9 on run."""
    ledger = Ledger.in_file(default_file())
    rows = []
    for n in range(12):
        place = tmp_path / f"visit{n % 2}" / f"sample_{n}" / ".zwrap" / f"t{n:02}-1"
        place.mkdir(parents=True)
        kept = {"header": {}, "message": message(n)}
        (place / "submission.json").write_text(json.dumps(kept))
        rows.append(Attempt(
            token=f"t{n:02}-1", recipe_id=RECIPES[n % 3], step=n % 4, cluster="ab"[n // 6],
            job_name=f"xia2-{n}", job_directory=str(place), created=NOW - 3600.0 * (12 - n),
        ))  # fmt: skip
    ledger.reserve(rows)
    ledger.record({
        row.token: {
            "state": SUBMITTED, "job_id": str(n % 6),
            "outcome": None if n > 8 else ("success", "failure", "failure")[n % 3],
            "cause": None if n > 8 else ("finished", "No spots in 3 images", "killed")[n % 3],
            "cause_label": "no-spots" if n % 3 == 1 and n < 9 else None,
        }
        for n, row in enumerate(rows)
    })  # fmt: skip
    system.live = {str(n % 6): status(str(n % 6), State.RUNNING, name=f"xia2-{n}.t{n:02}-1")
                   for n in (9, 10, 11)}  # fmt: skip
    yield ledger
    ledger.close()


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Return exit status, output and complaints of `zwrap jobs`."""
    ended = zwrap.main(["jobs", *arguments])
    shown = capsys.readouterr()
    return ended, shown.out, shown.err


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[int]:
    """Return the numbers of the jobs that `zwrap jobs` lists."""
    ended, out, said = asked(capsys, "--json", *arguments)
    assert ended == 0, said
    return [int(json.loads(line)["token"][1:3]) for line in out.splitlines()]


def shortened(value: object) -> str:
    """Return the name of a case: its options."""
    return " ".join(map(str, value)) if isinstance(value, list) else ""


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        (["--state", "failure"], [1, 2, 4, 5, 7, 8]),
        (["--state", "failure,running"], [1, 2, 4, 5, 7, 8, 9, 10, 11]),
        (["--state", "failure", "--state", "running", "-n", "4"], [8, 9, 10, 11]),
        (["--state", "waiting"], []),
        (["--cause", "no-spots"], [1, 4, 7]),
        (["--cause", "NO SPOTS"], [1, 4, 7]),
        (["--cause", "killed", "--cause", "no-spots", "-n", "3"], [5, 7, 8]),
        (["--cause", "%"], []),
        (["--name", "xia2-1*"], [1, 10, 11]),
        (["--name", "XIA2-?", "--state", "success"], [0, 3, 6]),
        (["--name", "xia2_1"], []),
        (["--step", "3"], [3, 7, 11]),
        (["--step", "1,2", "--cluster", "b"], [6, 9, 10]),
        (["--recipe", "7280"], [2, 5, 8, 11]),
        (["--recipe", "728066f0\u2026"], [2, 5, 8, 11]),
        (["--recipe", "d53fe2b2-2", "--recipe", "728066f0-1", "--until", "9h"], [1, 2]),
        (["--recipe", "unknown"], []),
        (["--dir", "visit1"], [1, 3, 5, 7, 9, 11]),
        (["--dir", "visit1/sample_1"], [1]),
        (["--dir", "visit"], []),
        (["--since", "2.5h"], [10, 11]),
        (["--since", "4.5h", "--until", "2.5h"], [8, 9]),
        (["--program", "prog1", "--cluster", "b"], [7, 9, 11]),
        (["--where", "payload.dcid=5"], [5]),
        (["--where", "payload.dcid=5", "--where", "payload.text=7"], [5]),
        (["--where", "payload.text=8"], []),
        (["--where", "payload.on=true", "-n", "2"], [10, 11]),
        (["--where", "payload.on=1"], []),
        (["--where", "job_parameters.list.0.a.b=c", "-n", "1"], [11]),
        (["--where", "environment.ID=r", "--where", "step.job_parameters.d_min=2"], [*range(12)]),
        (["--user", "no such user"], []),
        (["t01", "t03", "a:0"], [0, 1, 3]),
        (["t01", "t03", "--cluster", "b"], []),
        (["t01", "t03", "--name", "*-3", "--dir", "visit1", "--step", "3"], [3]),
    ],
    ids=shortened,
)  # fmt: skip
def test_each_option_means_the_jobs_that_it_says(
    options: list[str],
    numbers: list[int],
    ledger: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert found(capsys, *options) == numbers
    ended, out, said = asked(capsys, "--count", *[each for each in options if each != "-n"][:2])
    assert (ended, out.strip().isdecimal()) == (0, True), said


def test_numbers_are_those_of_the_lists(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    for options in ([], ["--state", "failure"], ["--cause", "no-spots"], ["--program", "prog1"]):
        _, out, _ = asked(capsys, "--count", *options)
        assert int(out) == len(found(capsys, *options))
    _, out, _ = asked(capsys, "--state", "failure,running", "--by", "cause,program", "--tsv")
    assert out.splitlines() == [
        "jobs\tcause\tprogram", "2\t\tprog1", "2\tkilled\tprog0", "2\tno-spots\tprog1",
        "1\t\tprog0", "1\tkilled\tprog1", "1\tno-spots\tprog0",
    ]  # fmt: skip
    _, out, _ = asked(capsys, "--by", "state", "--json")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"jobs": 6, "state": "failure"}, {"jobs": 3, "state": "running"},
        {"jobs": 3, "state": "success"},
    ]  # fmt: skip


def test_a_job_that_is_concluded_while_jobs_are_read_is_listed_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    each = Queries.each

    def late(self: Queries, *given: Any, **values: Any) -> Iterator[Attempt]:
        if values.get("outcome"):  # those without an end have been read
            ledger.record({"t10-1": {"outcome": "failure"}})
        yield from each(self, *given, **values)

    monkeypatch.setattr(Queries, "each", late)
    assert found(capsys, "--state", "failure,running", "-n", "4") == [8, 9, 10, 11]


def test_how_far_files_are_looked_into_is_told(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, said = asked(capsys, "--where", "payload.dcid=3", "--look", "4")
    assert out == "No jobs.\n"
    assert "The files of the newest 4 jobs were looked into, back to 20" in said
    assert found(capsys, "--where", "payload.dcid=3", "--look", "12") == [3]
    assert "looked" not in asked(capsys, "--where", "payload.dcid=3", "--look", "12")[2]


def test_files_that_are_damaged_or_gone_hide_no_job(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "visit1/sample_3/.zwrap/t03-1/submission.json").write_text("[")
    (tmp_path / "visit1/sample_5/.zwrap/t05-1/submission.json").unlink()
    assert found(capsys, "--where", "payload.on=true", "--until", "5.5h") == [0, 1, 2, 4, 6]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--state", "nonsense"], "Unknown state 'nonsense' (--state)."),
        (["--state", "failed,runing"], "Did you mean 'running'?"),
        (["--since", "yesterday"], "an age such as 10m, 2h, 3d or 1w, or a local time"),
        (["--until", "2026-13-01"], "--until '2026-13-01' is no time"),
        (["--step", "one"], "--step 'one': the number of a step is expected"),
        (["--where", "dcid=1"], "the path begins with payload, environment"),
        (["--where", "payload.dcid"], "PATH=VALUE"),
        (["--by", "causes"], "Unknown field 'causes' (--by). Did you mean 'cause'?"),
        (["--columns", "nmae"], "Unknown column 'nmae' (--columns). Did you mean 'name'?"),
        (["--recipe", "d53fe2b2"], "may mean d53fe2b2-1, d53fe2b2-2; write more of it"),
        (["0"], "'0' may mean t00-1 on a, t06-1 on b; write more of the token, or CLUSTER:JOB."),
        (["b:77"], "Unknown job 'b:77'"),
        (["--look", "0"], "--look 0: a number of jobs, from 1, is expected"),
        *[([option, value], f"{option} is empty")
          for option in ("--state", "--cause", "--program", "--name", "--step", "--cluster",
                         "--recipe", "--dir", "--user")
          for value in ("", " ")],
        (["--cluster", "a,,b"], "--cluster is empty"),
    ],
    ids=shortened,
)  # fmt: skip
def test_what_has_no_meaning_is_refused_with_what_would_have(
    options: list[str], words: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, out, said = asked(capsys, *options)
    assert (ended, out) == (100, "")
    assert words in said


def test_times_are_ages_or_local_times() -> None:
    now = 1_790_000_000.0
    for text, age_s in (
        ("30s", 30),
        ("10m", 600),
        ("2h", 7200),
        ("1.5d", 129_600),
        ("1w", 604_800),
    ):
        assert parse_time(text, "--since", now) == now - age_s
    today = time.strftime("%Y-%m-%d", time.localtime(now))
    assert parse_time("9:05", "-", now) == parse_time(f"{today}T09:05", "-", now)
    assert parse_time("09:05:07", "-", now) == parse_time(f"{today} 09:05:07", "-", now)
    assert parse_time(today, "-", now) == time.mktime(time.strptime(today, "%Y-%m-%d"))
    assert parse_time("1970-01-02T00:00:00+00:00", "-", now) == 86_400.0
    for text in ("", "-2h", "2 h", "2y", "25:00", "9999999999d5", "+2h", "0000-01-01", "1" * 5000):
        with pytest.raises(RequestError, match=r"^--since .*is no time; an age such as"):
            parse_time(text, "--since", now)
    assert parse_query(now=now).is_empty


# -- what people see ---------------------------------------------------------------------------


def test_a_list_fits_into_80_columns(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    ledger.record({"t08-1": {"cause": "a long cause, " * 9, "job_name": "\u6570\u636e" * 30}})
    _, out, _ = asked(capsys)
    lines = out.splitlines()
    assert len(lines) == 13
    assert max(map(cell_len, lines)) <= 80
    assert lines[0].split() == [
        "job", "name", "recipe", "step", "cluster", "state", "age", "cause",
    ]  # fmt: skip
    assert lines[9].endswith("\u2026")
    assert lines[10].split() == ["3", "xia2-9", "d53fe2b2-1", "1", "b", "running", "3h"]
    for line in lines[1:]:
        recipe = next(each for each in line.split() if each.startswith(("d53", "728")))
        assert asked(capsys, "--recipe", recipe, "--count")[1] == "4\n"


def test_what_is_piped_is_plain_and_whole(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.record({"t08-1": {"cause": "a long\tcause,\n" * 9}})
    _, out, _ = asked(capsys, "--cluster", "b", "--columns", "job,cause")
    assert out.isascii()
    assert ("a long cause, " * 9).strip() in out
    _, out, _ = asked(capsys, "--cluster", "b", "--tsv", "--columns", "job,step,state,age,token")
    assert [line.split("\t") for line in out.splitlines()][:2] == [
        ["job", "step", "state", "age", "token"], ["0", "2", "success", "6h", "t06-1"],
    ]  # fmt: skip
    _, out, _ = asked(capsys, "--cluster", "b", "--json", "--columns", "job,program", "-n", "1")
    assert json.loads(out) == {"job": "5", "program": "prog1"}


def test_one_job_is_about_ten_lines(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "visit1/sample_1/prog1.log").write_text("here\n")
    ledger.record({"t01-1": {"seen": NOW - 7200.0, "witness": "cluster a"}})
    _, out, _ = asked(capsys, "a:1")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert 6 <= len(lines) <= 12
    assert lines["job"] == "1 on a: xia2-1, step 1 of recipe d53fe2b2-2"
    assert lines["state"] == "failure (told by cluster a, 2h ago)"
    assert lines["cause"] == "no-spots: No spots in 3 images"
    assert lines["log"] == str(tmp_path / "visit1/sample_1/prog1.log")
    assert lines["where"] == str(tmp_path / "visit1/sample_1")
    assert lines["again"] == "zwrap resubmit 1"
    _, out, _ = asked(capsys, "--json", "a:1")
    full: dict[str, Any] = json.loads(out)
    assert (full["token"], full["state"], full["attempts"][0]["job_id"]) == (
        "t01-1",
        "failure",
        "1",
    )


def test_names_come_from_standard_input(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out, _ = asked(capsys, "--state", "failure", "--tsv", "--columns", "token,state")
    read, write = os.pipe()
    os.write(write, out.replace("token", "job").encode() + b"\n# none\n")
    os.close(write)
    with os.fdopen(read) as given:
        monkeypatch.setattr("sys.stdin", given)
        assert found(capsys, "-") == [1, 2, 4, 5, 7, 8]
