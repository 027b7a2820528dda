"""Rules of the progress of a running program: where it is found, and what it tells."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from zwrap.cli import heard
from zwrap.cli.monitor import Participants
from zwrap.configuration.site import Configuration
from zwrap.errors import ProgramError, TransportError
from zwrap.host.beneath import AllowedDirectories
from zwrap.message.content import STATUS_TOPIC
from zwrap.program.checks.checking import checked
from zwrap.program.keys.progress import Progress
from zwrap.program.plan import plan
from zwrap.program.reading import parse_definition
from zwrap.transport.memory import MemoryBroker, MemoryTransport
from zwrap.wrapper import output
from zwrap.wrapper.counting import CHANGES, Count, number
from zwrap.wrapper.heartbeat import Heartbeat
from zwrap.wrapper.output import PORTION_BYTES, Output
from zwrap.wrapper.progress import LONGEST_TEXT, ProgressReader

from .clock import ManualClock

STEP = r"STEP +(?P<done>[\d,]+) / (?P<total>[\d,]+)"


WITHOUT_RETURN = st.binary(max_size=60).map(lambda data: data.replace(b"\r", b""))


class Following:
    """A program that writes to a file, and the reader of its progress."""

    def __init__(self, directory: Path, file: str = "stdout", **rule: Any) -> None:
        self.directory, self.clock = directory, ManualClock()
        streams = {"stdout": directory / "p.log", "stderr": directory / "p.err"}
        progress = Progress(**{"pattern": STEP, "file": file, **rule})
        self.output = Output(file, directory, streams)
        self.reader = ProgressReader(progress, self.output, self.clock)

    def writes(self, text: str, file: str = "p.log") -> None:
        with (self.directory / file).open("a", newline="") as stream:
            stream.write(text)

    def fields(self) -> dict[str, Any]:
        """Return the fields of a heartbeat, when the search for them is over."""
        found = self.reader.fields()
        assert self.reader._thread
        if self.reader._thread.is_alive():  # the machine is busy
            self.reader._thread.join()
            found = {"progress": self.reader._text, **self.reader._count.fields()}
        return found if found.get("progress") else {}


def counted(done: float, total: float | None = None, **further: float) -> dict[str, Any]:
    both = {"progress_done": done} | ({} if total is None else {"progress_total": total})
    return {**both, **further}


# -- where it is written ---------------------------------------------------------------------------


def test_progress_is_found_on_standard_error(tmp_path: Path) -> None:
    program = Following(tmp_path, "stderr")
    program.writes("STEP 1 / 9\n", "p.log")
    assert program.fields() == {}
    program.writes("STEP 3 / 8\n", "p.err")
    assert program.fields() == {"progress": "3/8", **counted(3, 8)}


def test_of_the_files_of_a_pattern_the_one_that_was_written_to_last_counts(tmp_path: Path) -> None:
    (tmp_path / "old.log").write_text("STEP 7 / 7\n")
    os.utime(tmp_path / "old.log", (2e9, 2e9))  # later than all others
    program = Following(tmp_path, "**/*.log")
    assert program.fields() == {}
    (tmp_path / "below").mkdir()
    program.writes("STEP 1 / 8\n", "below/a.log")
    os.utime(tmp_path / "below/a.log", (1000, 1000))
    assert program.fields()["progress"] == "1/8"
    program.writes("STEP 1 / 5\n", "b.log")
    assert program.fields()["progress"] == "1/5"


def test_what_a_file_held_before_the_program_began_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "run.log"
    file.write_text("STEP 90 / 90\n")
    program = Following(tmp_path, "run.log")
    program.writes("begins\n", "run.log")
    assert program.fields() == {}
    program.writes("STEP 1 / 90\n", "run.log")
    assert program.fields()["progress"] == "1/90"
    again = Following(tmp_path, "run.log")
    file.write_text("STEP 2 / 3\n")  # written anew, and shorter
    assert again.fields()["progress"] == "2/3"
    again.writes("." * 100 + "\nSTEP 3 / 3\n", "run.log")
    assert again.fields()["progress"] == "3/3"


def test_a_carriage_return_ends_a_line(tmp_path: Path) -> None:
    """Progress bars are one line, which is written again and again, and never ends."""
    bar = r"^(?P<done>\d+)%\|.*\| (\d+)/(\d+)$"
    program = Following(tmp_path, "stderr", pattern=bar, total=100)
    program.writes("\r0%|    | 0/40\r25%|█   | 10/40", "p.err")
    assert program.fields() == {"progress": "0/0/40", **counted(0, 100)}
    assert program.fields()["progress_done"] == 25  # nothing was added: it is no half of a line
    program.writes("\r50%|██  | 20/40\r", "p.err")
    assert program.fields() == {"progress": "50/20/40", **counted(50, 100)}
    program.writes("done\r\n75%|███ | 30/40\r\n", "p.err")
    assert program.fields()["progress_done"] == 75


def test_the_last_line_counts_if_it_is_the_only_one(tmp_path: Path) -> None:
    program = Following(tmp_path)
    program.writes("STEP 12 / 1")
    assert "progress_total" not in program.fields()
    program.writes("00")
    program.clock.move(3)
    assert program.fields() == {"progress": "12/100", **counted(12, 100)}
    program.writes("\nSTEP 13 / 100")
    program.clock.move(3)
    assert program.fields()["progress_done"] == 12
    program.clock.move(3)
    assert program.fields()["progress_done"] == 13


def test_lines_that_belong_together_are_found_though_read_at_different_times(
    tmp_path: Path,
) -> None:
    program = Following(tmp_path, pattern=r"^cycle (\d+)\n.*\n +of (\d+)$")
    program.writes("cycle 3\nsome\n")
    assert program.fields() == {}
    program.writes("  of 7\n")
    assert program.fields() == {"progress": "3/7"}


def test_a_huge_log_costs_no_more_than_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Following(tmp_path)
    read: list[int] = []

    def pread(descriptor: int, size: int, place: int) -> bytes:
        read.append(size)
        return os_pread(descriptor, size, place)

    os_pread = os.pread
    monkeypatch.setattr(output.os, "pread", pread)
    program.writes("STEP 1 / 4\n")
    os.truncate(tmp_path / "p.log", 10 * 2**30)
    program.writes("\nSTEP 2 / 4\n")
    assert program.fields()["progress_done"] == 2
    assert program.fields()["progress_done"] == 2
    assert read == [PORTION_BYTES]  # there was no more to read
    program.writes("x" * 100 * 2**10 + "\nSTEP 3 / 4\n")
    assert program.fields()["progress_done"] == 3
    assert read == [PORTION_BYTES] * 2
    program.writes("STEP 4 / 4\n")
    assert program.fields()["progress_done"] == 4
    assert read[2] < PORTION_BYTES / 10


def test_the_first_line_of_a_portion_is_not_half_of_one(tmp_path: Path) -> None:
    program = Following(tmp_path)
    program.writes(f"STEP 1112 / 4000\n{' ' * (PORTION_BYTES - 9)}\n")
    assert program.fields() == {}


WRONG = ("/var/log/x", "../x.log", "a/../../x", "", ".", "x\0", "**.log", "{scratch}/x",
         "{working_directory}/x")  # fmt: skip


@pytest.mark.parametrize("file", WRONG)
def test_a_file_that_is_none_of_the_run_costs_the_progress_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str
) -> None:
    """Neither what the definition names is read, nor what an input puts into the name."""
    data = {"command": ["x"], "scratch": "keep", "progress": {"pattern": "x", "file": file}}
    known = {"scratch": "/s", "working_directory": str(tmp_path)}
    [planned] = plan(parse_definition(data, "d", "d"), known)
    assert planned.command.progress is None
    assert "No progress is shown: d, key 'progress.file': It is" in caplog.text
    with pytest.raises(ProgramError, match=r"^d, key 'progress\.file': It is .* is expected\.$"):
        checked(data, "d", "d")


def test_a_value_may_name_the_file(caplog: pytest.LogCaptureFixture) -> None:
    definition = parse_definition(
        {"command": ["x"], "progress": {"pattern": "x", "file": "{name}.log"}}, "d", "d"
    )
    [filled] = plan(definition, {"name": "run"})
    assert filled.command.progress
    assert filled.command.progress.file == "run.log"
    assert caplog.text == ""
    for values in ({"name": "/etc/x"}, {"name": ["a", "b"]}):
        [filled] = plan(definition, values)
        assert filled.command.progress is None
    assert "'/etc/x.log'" in caplog.text


@pytest.mark.parametrize("error", [OSError(errno.ESTALE, "stale"), ValueError("x")])
def test_a_search_for_files_that_fails_costs_the_progress_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def glob(*_: object) -> None:
        raise error

    monkeypatch.setattr(Path, "glob", glob)
    assert Output("*.log", tmp_path, {}).portion().text == ""


def test_no_link_leads_out_of_the_allowed_directories(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    for directory in (inside, outside):
        directory.mkdir()
    (outside / "secret").write_text("STEP 1 / 2\n")
    allowed = AllowedDirectories([inside])
    streams = {"stdout": inside / "p.log"}
    read = {name: Output(name, inside, streams, allowed) for name in ("stdout", "*.txt")}
    for name in ("p.log", "a.txt"):
        (inside / name).symlink_to(outside / "secret")
    assert [each.portion().text for each in read.values()] == ["", ""]
    for name in ("p.log", "a.txt"):
        (inside / name).unlink()
        (inside / name).write_text("STEP 3 / 4\n")
    assert [each.portion().text for each in read.values()] == ["STEP 3 / 4\n"] * 2


def test_what_is_no_file_and_a_file_that_is_removed_are_no_progress(tmp_path: Path) -> None:
    program = Following(tmp_path, "*.log")
    (tmp_path / "a.log").mkdir()
    assert program.fields() == {}
    os.mkfifo(tmp_path / "b.log")
    program.writes("STEP 1 / 2\n", "c.log")
    os.utime(tmp_path / "c.log", (1000, 1000))
    assert program.fields()["progress"] == "1/2"
    stdout = Following(tmp_path)
    assert stdout.fields() == {}
    stdout.writes("STEP 1 / 2\n")
    assert stdout.fields()["progress"] == "1/2"
    (tmp_path / "p.log").unlink()
    assert stdout.fields()["progress"] == "1/2"


@given(st.lists(WITHOUT_RETURN | st.just(b"\nSTEP 2 / 9\n"), max_size=6))
def test_whatever_a_program_writes_is_read_once(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    program = Following(tmp_path_factory.mktemp("any"), pattern="STEP")
    lines = 0
    for piece in pieces:
        with (program.directory / "p.log").open("ab") as stream:
            stream.write(piece)
        portion = program.output.portion()
        assert portion.known <= portion.whole <= len(portion.text)
        lines += portion.text[portion.known : portion.whole].count("\nSTEP 2 / 9\n")
    assert lines == pieces.count(b"\nSTEP 2 / 9\n")


# -- what it tells ---------------------------------------------------------------------------------


def test_rate_and_time_left_come_from_done_and_total(tmp_path: Path) -> None:
    program = Following(tmp_path)
    program.writes("STEP 10 / 1,010\n")
    assert program.fields() == {"progress": "10/1,010", **counted(10, 1010)}
    for done in range(20, 60, 10):
        program.clock.move(3)
        program.writes(f"STEP {done} / 1,010\n")
        program.fields()
    found = program.fields()
    assert found == {
        "progress": "50/1,010",
        **counted(50, 1010, progress_per_s=pytest.approx(10 / 3, rel=1e-3), remaining_s=288),
    }


def test_what_is_read_at_once_has_no_rate(tmp_path: Path) -> None:
    """Only the last line of a portion was written shortly before it is read."""
    program = Following(tmp_path)

    def clock() -> float:
        program.clock.move(0.001)  # even a search takes some time
        return program.clock.now

    program.reader = ProgressReader(Progress(pattern=STEP), program.output, clock)
    program.writes("".join(f"STEP {done} / 60\n" for done in range(1, 10)))
    assert program.fields() == {"progress": "9/60", **counted(9, 60)}
    program.clock.move(3)
    program.writes("".join(f"STEP {done} / 60\n" for done in range(10, 16)))
    assert program.fields()["progress_per_s"] == pytest.approx(2.0, rel=0.01)


def test_without_such_groups_only_the_text_is_shown(tmp_path: Path) -> None:
    program = Following(tmp_path, pattern=r"STEP (\d+) / (\d+)")
    program.writes("STEP 1 / 8\n")
    assert program.fields() == {"progress": "1/8"}
    words = Following(tmp_path, "stderr", pattern=r"STEP (?P<done>\S+)")
    words.writes("STEP one\nSTEP " + "x" * 5000 + "\n", "p.err")
    assert words.fields() == {"progress": "x" * LONGEST_TEXT}


def notes(*counts: float | None, total: float | None = 100, step_s: float = 1.0) -> Count:
    clock = ManualClock()
    count = Count(clock)
    for done in counts:
        clock.move(step_s)
        if done is not None:
            count.note(clock(), done, total)
    return count


def test_the_count_of_several_workers_never_falls() -> None:
    assert notes(10, 20, 30, 28).fields()["progress_done"] == 30
    assert notes(10, 20, 30, 28).fields()["progress_per_s"] == 10


def test_a_new_stage_begins_to_count_anew() -> None:
    for count in (
        notes(50, 100, 60),  # everything was done
        notes(50, 90, 10),  # less than half
    ):
        found = count.fields()
        assert found["progress_done"] in (60, 10)
        assert "progress_per_s" not in found
    clock = ManualClock()
    count = Count(clock)
    count.note(clock(), 30, 100)
    count.note(clock(), 20, 50)  # of another number of things
    assert count.fields() == counted(20, 50)
    count.note(clock(), 20, 50, "scaling")
    clock.move(1)
    count.note(clock(), 30, 60, "scaling")  # more things have turned up
    assert count.fields() == counted(30, 60, progress_per_s=10.0, remaining_s=3)
    count.note(clock(), 40, 60, "merging")
    assert count.fields() == counted(40, 60)


def test_the_rate_is_that_of_late_and_falls_when_the_program_stands() -> None:
    slow_then_fast = [n * 0.01 for n in range(50)] + [1.0 + n for n in range(CHANGES)]
    assert notes(*slow_then_fast, total=1000).fields()["progress_per_s"] == pytest.approx(1.0)
    running = notes(10, 20, 30).fields()
    stands = notes(10, 20, 30, *[None] * 98).fields()
    assert (running["progress_per_s"], running["remaining_s"]) == (10.0, 7)
    assert stands["progress_per_s"] == pytest.approx(20 / 99, rel=1e-3)
    assert stands["remaining_s"] == round(70 / (20 / 99))
    long_steps = notes(1, 2, 3, total=9, step_s=600)
    assert long_steps.fields()["remaining_s"] == 3600


def test_a_number_is_one_that_counts() -> None:
    assert [number(text) for text in ("12", "1,234,567", "45.5", " 7")] == [12, 1234567, 45.5, 7]
    wrong = (None, "", "one", "-1", "nan", "inf", "9" * 400, "12,5", "1e16")
    assert [number(text) for text in wrong] == [None] * len(wrong)


things = st.floats(0, 1e15)


@given(st.lists(st.tuples(things, things | st.none(), st.floats(0, 1e6))))
def test_fields_are_numbers_whatever_is_printed(
    counts: list[tuple[float, float | None, float]],
) -> None:
    clock = ManualClock()
    count = Count(clock)
    for done, total, wait_s in counts:
        count.note(clock(), done, total)
        clock.move(wait_s)
        for value in count.fields().values():
            assert value >= 0
            assert value < float("inf")


# -- where it is seen ------------------------------------------------------------------------------


def test_the_heartbeat_has_progress_beside_the_end_of_the_log(tmp_path: Path) -> None:
    heartbeat = Heartbeat("t", "p", {})
    log, errors = tmp_path / "p.log", tmp_path / "p.err"
    heartbeat.follow(Progress(pattern=STEP, file="stderr"), log, errors, tmp_path)
    log.write_text("hello\n")
    errors.write_text("STEP 3 / 8\n")
    body = heartbeat.body()
    if "progress" not in body:  # the machine was busy
        assert heartbeat._progress
        assert heartbeat._progress._thread
        heartbeat._progress._thread.join()
        body = heartbeat.body()
    assert (body["tail"], body["progress"], body["progress_total"]) == (["hello"], "3/8", 8)
    heartbeat.follow(None, log, errors, tmp_path)  # the next command has none
    assert "progress" not in heartbeat.body()


def test_the_status_monitor_shows_progress_and_the_time_left() -> None:
    transport = MemoryTransport()
    seen = Participants(transport)
    left: list[Any] = [{"remaining_s": 7200}, {}, {"remaining_s": "soon"}, {"remaining_s": 1e300}]
    for further in left:
        body = {"host": f"h{left.index(further)}", "task": "t", "progress": "3/8", **further}
        transport.broadcast(STATUS_TOPIC, body)
    transport.broadcast(STATUS_TOPIC, {"host": "x", "progress": ["odd"]})
    assert [row[-1] for row in seen.rows()] == ["3/8, 2 hours left", "3/8", "3/8", "3/8", None]


def test_the_heartbeat_of_one_job_is_heard(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broker, clock = MemoryBroker(), ManualClock()

    class Listening(MemoryTransport):
        """A transport on which three wrappers send as soon as somebody subscribes."""

        def subscribe_topic(self, topic: str) -> None:
            super().subscribe_topic(topic)
            for token in ("other", "mine", "mine too"):
                self.broadcast(topic, {"token": token, "progress": token})

        def receive(self, timeout_s: float) -> Any:
            assert 0 < timeout_s <= heard.WAIT_S
            clock.move(timeout_s / 4)
            return super().receive(0)

    monkeypatch.setattr(heard, "connect", lambda *_: Listening(broker))
    configuration = Configuration.from_string("version: 1\n")
    found = heard.heartbeat_of("mine", configuration, clock)
    assert found == {"token": "mine", "progress": "mine"}
    assert heard.heartbeat_of("nobody", configuration, clock) is None

    def refuse(*_: object) -> None:
        raise TransportError("the broker is away")

    monkeypatch.setattr(heard, "connect", refuse)
    assert heard.heartbeat_of("mine", configuration, clock) is None
    assert "cannot be heard: the broker is away" in capsys.readouterr().err
