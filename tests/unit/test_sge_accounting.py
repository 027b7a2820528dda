"""Records of Grid Engine in the files to which its accounting was moved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from zwrap_schedulers.sge.accounting import MOST_FILES, moved_away
from zwrap_schedulers.sge.sge import GridEngine, SGEOptions

from zwrap.errors import UnreachableError
from zwrap.job import State
from zwrap.scheduler import Command, Question, Reply

NO_JOBS = Reply(status=0, output="<?xml version='1.0'?>\n<job_info></job_info>\n")
NOT_FOUND = Reply(status=1, error="error: job id 7 not found\n")
SUMS = "OWNER     WALLCLOCK         UTIME\n" + "=" * 40 + "\n"
RULE = "=" * 62 + "\n"
ENDED = (
    "<zombie_jobs><job_list><JB_job_number>7</JB_job_number><JB_name>j.t-1</JB_name>"
    "<state>z</state></job_list></zombie_jobs>"
)
RECORD = f"{RULE}hostname  n1\njobname  j.t-1\njobnumber  {{}}\nfailed  0\nexit_status  {{}}\n"


@pytest.fixture
def common(tmp_path: Path) -> Path:
    """Return the directory of the accounting, of which a newer and an older file were moved."""
    place = tmp_path / "default" / "common"
    place.mkdir(parents=True)
    for age_s, name in ((0, "accounting"), (10, "accounting-20261127"), (20, "accounting.1")):
        (place / name).touch()
        now = (place / name).stat().st_mtime
        os.utime(place / name, (now, now - age_s))
    return place


def sge(common: Path, **keys: Any) -> GridEngine:
    environment = {"SGE_ROOT": str(common.parents[1])}
    return GridEngine("c", SGEOptions(environment=environment, **keys))


def first(question: Question[Any]) -> Question[Any]:
    """Return the question that follows when the qmaster has no job."""
    return further(question, NO_JOBS)


def further(question: Question[Any], reply: Reply = NOT_FOUND) -> Question[Any]:
    """Return the question to which a reply leads."""
    answer = question.read(reply)
    assert isinstance(answer, Question)
    return answer


def asked(question: Question[Any]) -> list[str]:
    assert isinstance(question.call, Command)
    return question.call.argv


def test_a_record_is_searched_in_the_newest_file_first(common: Path) -> None:
    live = first(sge(common).accounting({"7": 60.0}))
    assert asked(live) == ["qacct", "-j", "7"]
    newest = further(live)
    assert asked(newest) == ["qacct", "-f", f"{common}/accounting-20261127", "-j", "7"]
    oldest = further(newest)
    assert asked(oldest) == ["qacct", "-f", f"{common}/accounting.1", "-j", "7"]
    found = oldest.read(Reply(status=0, output=RECORD.format(7, 3)))
    assert isinstance(found, dict)
    assert (found["7"].state, found["7"].exit_code) == (State.FAILED, 3)
    assert oldest.read(NOT_FOUND) == {}


def test_moved_files_are_searched_only_for_a_record_that_is_late(common: Path) -> None:
    """The accounting has its time (`accounting_lag_s`) first."""
    assert first(sge(common).accounting({"7": 5.0})).read(NOT_FOUND) == {}
    both = first(sge(common).accounting({"7": 60.0, "8": 60.0}))
    newest = further(both, Reply(status=0, output=RECORD.format(8, 0) + SUMS))
    assert asked(newest)[1:3] == ["-f", f"{common}/accounting-20261127"]
    found = newest.read(Reply(status=0, output=RECORD.format(7, 0) + SUMS))
    assert isinstance(found, dict)
    assert found.keys() == {"7", "8"}


def test_a_file_without_a_record_of_the_user_is_an_answer(common: Path) -> None:
    """The accounting file is new after each rotation."""
    both = first(sge(common, accounting_files="").accounting({"7": 60.0, "8": 60.0}))
    assert both.read(Reply(status=0, output=SUMS)) == {}
    with pytest.raises(UnreachableError, match="without a valid record"):
        both.read(Reply(status=0, output="what is this\n"))


NO_ANSWER = Reply(status=None, error="no answer from qacct within 30 s")


def test_a_name_is_not_searched_well_if_a_moved_file_cannot_be_asked(common: Path) -> None:
    """Its job would be submitted again."""
    newest = further(first(sge(common).find("j.t-1")))
    with pytest.raises(UnreachableError, match="no answer"):
        newest.read(NO_ANSWER)


def test_a_moved_file_that_cannot_be_asked_keeps_no_end_from_being_told(common: Path) -> None:
    """A job without a record does not count as deleted then."""
    ended = f"<?xml version='1.0'?>\n<job_info>{ENDED}</job_info>\n"
    live: Any = sge(common).accounting({"7": 60.0, "8": 60.0}).read(Reply(status=0, output=ended))
    oldest = further(live).read(NO_ANSWER)
    assert asked(oldest)[2] == f"{common}/accounting.1"
    found = oldest.read(Reply(status=0, output=RECORD.format(8, 0) + SUMS))
    assert isinstance(found, dict)
    assert found.keys() == {"8"}


def test_a_name_is_searched_in_moved_files_before_it_is_submitted_again(common: Path) -> None:
    live = first(sge(common).find("j.t-1"))
    assert asked(live) == ["qacct", "-j", "j.t-1"]
    newest = further(live)
    assert asked(newest) == ["qacct", "-f", f"{common}/accounting-20261127", "-j", "j.t-1"]
    found = newest.read(Reply(status=0, output=RECORD.format(7, 0)))
    assert isinstance(found, list)
    assert [status.job_id for status in found] == ["7"]


def test_compressed_files_are_named_and_only_the_newest_others_searched(
    common: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(MOST_FILES + 5):
        (common / f"accounting-{number}").touch()
    (common / "accounting-20261126.gz").touch()
    (common / "accounting.d").mkdir()
    (common / "accounting-dangling").symlink_to("/nonexistent/file")
    root = {"SGE_ROOT": str(common.parents[1])}
    for _ in range(2):
        found = moved_away("$SGE_ROOT/$SGE_CELL/common/accounting*", root)
    assert len(found) == MOST_FILES
    assert not any(name.endswith((".gz", ".d", "-dangling", ".1")) for name in found)
    [record] = caplog.records
    assert record.getMessage().startswith(f"{common}/accounting-20261126.gz is compressed, and")
    assert "delaycompress" in record.getMessage()
    assert moved_away("", {}) == moved_away("$NOWHERE/x", {}) == []


def test_a_record_that_was_moved_goes_before_what_the_qmaster_remembers(common: Path) -> None:
    """It remembers jobs that ended (`qstat -s z`), also those that were never recorded."""
    ended = f"<?xml version='1.0'?>\n<job_info>{ENDED}</job_info>\n"
    live = sge(common).accounting({"7": 60.0}).read(Reply(status=0, output=ended))
    assert isinstance(live, Question)
    newest = further(live)
    found = newest.read(Reply(status=0, output=RECORD.format(7, 0)))
    assert isinstance(found, dict)
    assert found["7"].state is State.COMPLETED
    nowhere = further(newest).read(NOT_FOUND)
    assert isinstance(nowhere, dict)
    assert found != nowhere
    assert nowhere["7"].reason == "it was deleted before it started"
