"""Errors with `stop_early`: they end a program while it runs, but never for what it was given."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from zwrap.host.beneath import ANYWHERE, AllowedDirectories
from zwrap.program import listing
from zwrap.program.causes.errorlist import KnownErrors
from zwrap.program.listing import NOT_LISTED, Listing
from zwrap.program.reading import parse_definition
from zwrap.program.run import Run
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.wrapper import early, given
from zwrap.wrapper.early import EarlyStop
from zwrap.wrapper.given import with_files
from zwrap.wrapper.heartbeat import Heartbeat
from zwrap.wrapper.step import ProgramStep

FATAL = {"pattern": "^FATAL: .*", "cause": "fatal", "stop_early": True}
APPENDS = "echo all is well >> a.out; sleep 0.5"


def watch(
    directory: Path,
    values: list[Any] | None = None,
    began: float = 0.0,
    allowed: AllowedDirectories = ANYWHERE,
    before: Listing = NOT_LISTED,
    **error: Any,
) -> EarlyStop:
    """Return a watch on the output of a program that was given these values."""
    definition = parse_definition({"command": ["x"], "errors": [{**FATAL, **error}]}, "here", "p")
    out, err = (directory / name for name in ("p.log", "p.err"))
    run = Run(
        directory=directory,
        stdout=out,
        stderr=err,
        began=began,
        exit_status=0,
        allowed=allowed,
        before=before,
    )
    return EarlyStop(KnownErrors(definition, {}), run, lambda: with_files(values or [], run))


def written(file: Path, text: str) -> None:
    with file.open("a") as stream:
        stream.write(text)


def test_only_what_is_new_is_read_and_only_whole_lines(tmp_path: Path) -> None:
    looks, log = watch(tmp_path), tmp_path / "p.log"
    assert looks.look() is None
    written(log, "all is well\nFATAL")
    assert looks.look() is None
    written(log, ": out of luck")
    assert looks.look() is None
    written(log, "\n")
    found = looks.look()
    assert found
    assert (found.cause, found.says) == ("fatal", "stdout says: FATAL: out of luck")
    assert looks.look() is None


def test_a_file_that_begins_anew_is_read_from_its_begin(tmp_path: Path) -> None:
    looks, log = watch(tmp_path, where="*.out"), tmp_path / "a.out"
    written(log, "a long line before\n")
    assert looks.look() is None
    log.write_text("FATAL: x\n")
    assert looks.look()


def test_a_line_of_an_earlier_attempt_in_a_log_that_grows_ends_no_program(tmp_path: Path) -> None:
    log = tmp_path / "a.out"
    log.write_text("FATAL: of an earlier attempt\n")
    before = listing.taken(tmp_path, ["*.out"])
    looks = watch(tmp_path, before=before, where="*.out")
    assert looks.look() is None
    written(log, "all is well\n")
    assert looks.look() is None
    written(log, "FATAL: of this one\n")
    assert looks.look()

    replaced = watch(tmp_path, before=before, where="*.out")
    (tmp_path / "new").write_text("FATAL: in another file of this name\n" + "well\n" * 20)
    (tmp_path / "new").replace(log)
    assert replaced.look()


def test_a_good_run_goes_on_though_its_log_tells_of_an_earlier_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.out").write_text("FATAL: of an earlier attempt\n")
    error = {**FATAL, "where": "*.out"}
    for further in ([], [{"name": "more", "command": ["/bin/sh", "-c", APPENDS]}]):
        ended = ran(tmp_path, APPENDS, monkeypatch, errors=[error], then=further)
        assert (ended.failures, ended.known) == ([], None)


def test_what_is_not_marked_ends_no_program(tmp_path: Path) -> None:
    written(tmp_path / "p.log", "FATAL: x\n")
    assert watch(tmp_path, stop_early=False).look() is None
    assert watch(tmp_path).look()


@pytest.mark.parametrize("values", [
    [["prog", "title=FATAL: not me"]],
    [{"title": "fatal:   not me"}],
    ["keyword 1\ntitle FATAL: not me\n"],
    [{"deep": [{"title": "FATAL: not me"}]}],
])  # fmt: skip
def test_text_that_the_program_was_given_is_an_echo(tmp_path: Path, values: list[Any]) -> None:
    written(tmp_path / "p.log", "FATAL: not me\n")
    assert watch(tmp_path, values, pattern="FATAL: not").look() is None


def test_an_echo_in_a_longer_line_is_none_and_an_error_about_a_value_is_one(
    tmp_path: Path,
) -> None:
    values = [{"title": "FATAL: a title", "image": "/data/FATAL/a_0001.cbf"}]
    written(tmp_path / "p.log", "title is FATAL: a title (24 characters)\n/data/FATAL/a_0002.cbf\n")
    looks = watch(tmp_path, values, pattern="FATAL.*")
    assert looks.look() is None
    written(tmp_path / "p.log", "FATAL: /data/FATAL/a_0001.cbf cannot be read\n")
    assert looks.look()


def test_lines_of_an_input_file_are_echoes_and_those_of_its_own_log_are_not(
    tmp_path: Path,
) -> None:
    for name in ("run.inp", "run.out"):
        (tmp_path / name).write_text(f"title FATAL: in {name}\n")
    os.utime(tmp_path / "run.inp", (1.0, 1.0))  # before the run
    for name, is_error in (("run.inp", False), ("run.out", True)):
        (tmp_path / "p.log").write_text(f"> title FATAL: in {name}\n")
        looks = watch(tmp_path, ["run.inp", "log=run.out"], began=2.0, pattern="FATAL")
        assert (looks.look() is not None) is is_error


NOT_ME = "title FATAL: not me\n"


def looked(directory: Path, values: list[Any], began: float = 2.0, said: str = NOT_ME) -> Any:
    """Return what is found when a program prints a line, given files from before the run."""
    for path in directory.rglob("*"):
        if began == 2.0:
            os.utime(path, (1.0, 1.0))
    (directory / "p.log").write_text(said)
    return watch(directory, values, began=began, pattern="FATAL").look()


def test_the_whole_of_a_long_input_file_is_searched(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("x\n" * given.KEPT_BYTES + NOT_ME + "y\n" * given.PORTION_BYTES)
    assert looked(tmp_path, ["in"]) is None
    assert looked(tmp_path, ["in"], said="FATAL: lost\n")


def test_what_a_binary_input_holds_is_an_echo(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"MTZ \0\1" + b"VERS MTZ:V1.1 TITLE FATAL: not me  NCOL 9")
    assert looked(tmp_path, ["in"]) is None
    (tmp_path / "in").write_bytes(b"\x7fELF\0 FATAL: %s")  # a program holds its own messages
    assert looked(tmp_path, ["in"])


def test_files_of_an_input_directory_are_searched(tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "a").write_text(NOT_ME)
    assert looked(tmp_path, ["d"]) is None
    assert looked(tmp_path, ["d"], said="FATAL: lost\n")


@pytest.mark.parametrize("are", ["named", "in a directory"])
def test_a_program_that_was_given_more_files_than_are_searched_is_not_ended(
    tmp_path: Path, are: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "d").mkdir()
    names = [f"d/{number:02}" for number in range(given.MOST_FILES + 1)]
    for name in names:
        (tmp_path / name).touch()
    values: list[Any] = names if are == "named" else ["d"]
    assert looked(tmp_path, values, said="FATAL: lost\n") is None
    assert "of that not all can be searched. It is judged at its end." in caplog.text
    (tmp_path / names[0]).unlink()
    assert looked(tmp_path, values[-given.MOST_FILES :], said="FATAL: lost\n")


@pytest.mark.parametrize(
    ("name", "value"), [("SEARCHED_BYTES", given.KEPT_BYTES), ("MOST_NAMES", 0),
                        ("MOST_LOOKED_AT", 0)],
)  # fmt: skip
def test_a_program_whose_input_is_too_much_to_be_searched_is_not_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    (tmp_path / "in").write_text("x\n" * given.KEPT_BYTES)
    assert looked(tmp_path, ["in"], said="FATAL: lost\n")
    monkeypatch.setattr(given, name, value)
    assert looked(tmp_path, ["in"], said="FATAL: lost\n") is None


def test_a_program_with_an_input_that_may_not_be_read_here_is_not_ended(tmp_path: Path) -> None:
    run_in, outside = tmp_path / "run", tmp_path / "key"
    run_in.mkdir()
    outside.write_text("x\n")
    os.utime(outside, (1.0, 1.0))
    (run_in / "p.log").write_text("FATAL: lost\n")
    for allowed, found in ((tmp_path, True), (run_in, False)):
        looks = watch(run_in, [str(outside)], 2.0, AllowedDirectories([allowed], "x"))
        assert (looks.look() is not None) is found


def test_a_file_of_the_clock_tick_in_which_the_run_began_is_input(tmp_path: Path) -> None:
    (tmp_path / "in").write_text(NOT_ME)
    os.utime(tmp_path / "in", (100.0, 100.0))
    assert looked(tmp_path, ["in"], began=100.0) is None
    assert looked(tmp_path, ["in"], began=90.0)


def test_a_pattern_that_takes_too_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(early, "SEARCH_S", 0.05)
    looks = watch(tmp_path, pattern="^(a|aa)+$")
    written(tmp_path / "p.log", "a" * 60 + "b\n")
    assert looks.look() is None
    began = time.monotonic()
    written(tmp_path / "p.log", "a" * 60 + "b\n")
    assert looks.look() is None
    assert time.monotonic() - began < 0.05


def ran(
    directory: Path,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    errors: list[Any] | None = None,
    then: list[Any] | None = None,
    **more: Any,
) -> Any:
    """Return the end of a shell command that is looked at all the time."""
    monkeypatch.setattr(early.EarlyStop.__init__, "__defaults__", (0.02,))
    node = {"job_parameters": {"working_directory": str(directory), **more}}
    given = {
        "command": ["/bin/sh", "-c", command], "errors": errors or [FATAL],
        "limits": {"grace_s": 1}, "inputs": {"title": {}}, "then": then or [],
    }  # fmt: skip
    step = ProgramStep(
        parse_definition(given, "here", "p"),
        Envelope(Recipe({"start": [[1, []]], "1": node}), 1), Heartbeat("p", "p", {}),
    )  # fmt: skip
    return step.run(lambda _: contextlib.nullcontext())


def test_a_program_is_ended_as_soon_as_the_error_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = "f=FATAL; echo $f: lost; trap '' TERM; while :; do sleep 0.1; done"
    ended = ran(tmp_path, command, monkeypatch)
    assert ended.returncode == -9
    assert ended.elapsed_s < 30
    assert ended.failures[0].startswith("p: stdout says: FATAL: lost; it was stopped after ")
    assert ended.failures[0].endswith("by a known error (fatal)")
    assert ended.facts["cause_label"] == "fatal"


def test_a_program_that_prints_its_command_is_not_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = ran(tmp_path, "echo 'FATAL: a title'; sleep 0.5", monkeypatch, title="FATAL: a title")
    assert (ended.failures, ended.known) == ([], None)
