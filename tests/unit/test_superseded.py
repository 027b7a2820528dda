"""Rules of copies that a failed attempt made: a later success at the step takes them away."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from zwrap.host.beneath import ANYWHERE, AllowedDirectories
from zwrap.program.reading import parse_definition
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.wrapper import results, superseded
from zwrap.wrapper.heartbeat import Heartbeat
from zwrap.wrapper.step import ProgramStep
from zwrap.wrapper.superseded import COPIES

FAILS = "echo broken > error.txt; echo 1 > run.log; mkdir -p inner; echo 1 > inner/a.log; exit 1"
SUCCEEDS = "rm -f error.txt; echo 2 > run.log; echo 2 > result.mtz"


class Steps:
    """Attempts at steps in one working directory, with one directory of results."""

    def __init__(self, directory: Path) -> None:
        self.working = directory / "work"
        self.results = directory / "results"
        self.attempts = 0
        self.allowed = ANYWHERE

    def run(self, command: str, **given: Any) -> bool:
        """Run an attempt; True if it was a success."""
        self.attempts += 1
        attempt = self.working / ".zwrap" / f"m{self.attempts}-1"
        attempt.mkdir(parents=True)
        name, payload = given.pop("name", "prog"), given.pop("payload", [])
        environment = given.pop("environment", {})
        parameters = {
            "working_directory": str(self.working),
            "results_directory": str(self.results),
            **given,
        }
        recipe = Recipe({"start": [[1, 0]], "1": {"job_parameters": parameters}})
        definition = parse_definition(
            {
                "command": ["/bin/sh", "-c", command],
                "files": [{"pattern": "**/*.log", "type": "log"}, {"pattern": "error.txt",
                          "type": "log"}, {"pattern": "*.mtz"}],
            },
            "here", name,
        )  # fmt: skip
        envelope = Envelope(recipe, 1, payload=payload, environment=environment)
        step = ProgramStep(definition, envelope, Heartbeat(name, name, {}), self.allowed, attempt)
        return not step.run(lambda _: contextlib.nullcontext()).failures

    def copies(self) -> set[str]:
        """Return the names of the files in the directory of results."""
        return {
            str(file.relative_to(self.results))
            for file in self.results.rglob("*")
            if file.is_file()
        }


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps(tmp_path)


def test_what_a_failed_attempt_copied_does_not_stand_beside_a_success(
    steps: Steps, caplog: pytest.LogCaptureFixture
) -> None:
    assert not steps.run(FAILS)
    assert steps.copies() == {"error.txt", "run.log", "inner/a.log", "prog.log"}
    (steps.results / "of-a-person").touch()
    assert steps.run(SUCCEEDS)
    assert steps.copies() == {"of-a-person", "run.log", "result.mtz", "prog.log"}
    assert (steps.results / "run.log").read_text() == "2\n"
    assert f"{steps.results}/error.txt was removed: a failed attempt had copied" in caplog.text
    assert (steps.working / "inner/a.log").exists(), "the working directory stays as it is"
    assert not list(steps.working.glob(f".zwrap/*/{COPIES}"))


def test_copies_of_several_failed_attempts_are_removed(steps: Steps) -> None:
    assert not steps.run(FAILS)
    assert not steps.run("echo 3 > other.log; echo again > error.txt; exit 1")
    assert steps.run(SUCCEEDS)
    assert steps.copies() == {"run.log", "result.mtz", "prog.log"}


@pytest.mark.parametrize("change", ["content", "hidden", "replaced", "link"])
def test_a_copy_that_was_changed_since_stays(
    steps: Steps, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert not steps.run(FAILS)
    copy = steps.results / "error.txt"
    before = copy.stat()
    if change == "link":
        copy.unlink()
        copy.symlink_to(steps.working / "error.txt")
    elif change == "replaced":
        other = steps.results / "other"
        other.write_bytes(copy.read_bytes())
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        other.replace(copy)
    else:
        copy.write_text("mended\n" if change == "content" else "BROKEN\n")
        if change == "hidden":
            os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert steps.run(SUCCEEDS)
    assert os.path.lexists(copy)
    assert "error.txt stays: it was changed since" in caplog.text
    assert "inner/a.log" not in steps.copies()


@pytest.mark.parametrize(
    "other",
    [
        {"name": "another"},
        {"payload": {"image": 2}},
        {"environment": {"array-task": 2}},
        {"results_directory": "elsewhere"},
    ],
)
def test_a_success_at_another_step_removes_no_copy(
    steps: Steps, tmp_path: Path, other: dict[str, Any]
) -> None:
    if "results_directory" in other:
        other = {"results_directory": str(tmp_path / "elsewhere")}
    assert not steps.run(FAILS)
    before = steps.copies()
    assert steps.run(SUCCEEDS, **other)
    assert steps.copies() >= before
    assert steps.run(SUCCEEDS)
    assert "error.txt" not in steps.copies()


def test_a_correction_of_job_parameters_makes_no_other_step(steps: Steps) -> None:
    assert not steps.run(FAILS, d_min=1.5)
    assert steps.run(SUCCEEDS, d_min=2)
    assert "error.txt" not in steps.copies()


def test_what_a_success_copied_stays(steps: Steps) -> None:
    assert steps.run("echo 1 > one.mtz")
    assert not steps.run(FAILS)
    assert steps.run(SUCCEEDS)
    assert steps.copies() == {"one.mtz", "run.log", "result.mtz", "prog.log"}


def test_final_files_of_a_failed_attempt_are_removed_too(steps: Steps, tmp_path: Path) -> None:
    final = {"pipeline-final": {"path": str(tmp_path / "final"), "patterns": ["error.*"]}}
    assert not steps.run(FAILS, **final)
    assert [file.name for file in (tmp_path / "final").iterdir()] == ["error.txt"]
    assert steps.run(SUCCEEDS, **final)
    assert not list((tmp_path / "final").iterdir())


def test_a_failure_to_copy_is_a_failure_whose_copies_are_known(steps: Steps) -> None:
    (steps.results / "result.mtz").mkdir(parents=True)
    assert not steps.run(f"echo 1 > error.txt; {SUCCEEDS}; echo 1 > error.txt")
    assert "error.txt" in steps.copies()
    (steps.results / "result.mtz").rmdir()
    assert steps.run(SUCCEEDS)
    assert steps.copies() == {"run.log", "result.mtz", "prog.log"}


def planted(steps: Steps, *files: Path) -> Path:
    """Let the record of a failed attempt name further files; the record."""
    assert not steps.run(FAILS)
    [record] = steps.working.glob(f".zwrap/*/{COPIES}")
    kept = json.loads(record.read_text().splitlines()[0])
    with record.open("a") as stream:
        for file in files:
            status = file.lstat()
            now = [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
            stream.write(json.dumps({**kept, "path": str(file), "status": now}) + "\n")
    return record


def test_no_record_makes_a_success_remove_a_file_elsewhere(steps: Steps, tmp_path: Path) -> None:
    """The job may write into its directory what it likes."""
    precious = tmp_path / "precious"
    precious.touch()
    steps.results.mkdir()
    planted(steps, precious, steps.results / ".." / "precious")
    assert steps.run(SUCCEEDS)
    assert precious.exists()
    assert "error.txt" not in steps.copies()


def test_no_copy_behind_a_link_that_leads_out_is_removed(steps: Steps, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").touch()
    steps.results.mkdir()
    (steps.results / "leads").symlink_to(out)
    steps.allowed = AllowedDirectories([steps.working, steps.results], "the setting")
    planted(steps, steps.results / "leads" / "precious")
    assert steps.run(SUCCEEDS)
    assert (out / "precious").exists()
    assert "error.txt" not in steps.copies()


def test_a_filesystem_that_fails_costs_no_success(
    steps: Steps, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    planted(steps)

    def failing(*_: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(superseded, "_read", failing)
    assert steps.run(SUCCEEDS)
    assert "are not looked for any further: [Errno 116]" in caplog.text


def test_no_record_behind_a_link_is_read_or_removed(steps: Steps, tmp_path: Path) -> None:
    record = planted(steps)
    record.parent.rename(tmp_path / "of-others")
    record.parent.symlink_to(tmp_path / "of-others")
    assert steps.run(SUCCEEDS)
    assert record.exists()
    assert "error.txt" in steps.copies()


def test_what_a_process_copied_that_was_killed_meanwhile_is_known(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = results._copy

    def killed(source: Path, target: Path, *others: Any) -> None:
        if target.name == "a.log":
            raise KeyboardInterrupt
        copy(source, target, *others)

    with monkeypatch.context() as patch:
        patch.setattr(results, "_copy", killed)
        with pytest.raises(KeyboardInterrupt):
            steps.run(f"{FAILS.removesuffix('; exit 1')}; mv error.txt 0.log; exit 1")
    assert steps.copies() == {"0.log"}
    [record] = steps.working.glob(f".zwrap/*/{COPIES}")
    with record.open("a") as stream:
        stream.write('{"step": "torn')
    assert steps.run(SUCCEEDS + "; rm 0.log")
    assert steps.copies() == {"run.log", "result.mtz", "prog.log"}


@pytest.mark.parametrize(
    "content", ["", "[]", '{"step": 1}', '{"step": "x", "path": "a", "status": [1]}']
)
def test_a_damaged_record_costs_no_success(steps: Steps, content: str) -> None:
    planted(steps).write_text(content)
    assert steps.run(SUCCEEDS)
    assert "error.txt" in steps.copies()


@pytest.mark.parametrize("name", ["a\0b", "a\0/b", "\ud800", "\ud800/b", "x" * 10_000])
def test_a_path_in_a_record_that_is_none_costs_no_success(steps: Steps, name: str) -> None:
    record = planted(steps)
    kept = json.loads(record.read_text().splitlines()[0])
    with record.open("a") as stream:
        stream.write(json.dumps({**kept, "path": f"{steps.results}/{name}"}) + "\n")
    assert steps.run(SUCCEEDS)
    assert "error.txt" not in steps.copies()


def forged(steps: Steps, victim: Path, directory: str = "anything-1") -> Path:
    """Write what an attempt would have kept if it had copied a file; the record."""
    record = planted(steps, victim)
    lines = record.read_text().splitlines()
    record.unlink()
    place = steps.working / ".zwrap" / directory
    place.mkdir()
    new = place / COPIES
    new.write_text(lines[-1] + "\n")
    new.chmod(0o600)
    return new


def result_of_another(steps: Steps) -> Path:
    victim = steps.results / "other_visit" / "final.mtz"
    victim.parent.mkdir(parents=True)
    victim.write_text("result of another experiment")
    return victim


def test_a_record_with_all_marks_of_an_own_one_counts(steps: Steps) -> None:
    """So that the tests below refuse for their own reasons."""
    victim = result_of_another(steps)
    forged(steps, victim)
    assert steps.run(SUCCEEDS)
    assert not victim.exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
def test_a_record_that_others_may_read_or_write_does_not_count(steps: Steps, mode: int) -> None:
    """Copies and logs that a message asks for are files of this user, too, with such modes."""
    victim = result_of_another(steps)
    forged(steps, victim).chmod(mode)
    assert steps.run(SUCCEEDS)
    assert victim.exists()


def test_a_record_under_two_names_does_not_count(steps: Steps, tmp_path: Path) -> None:
    victim = result_of_another(steps)
    (tmp_path / "other").hardlink_to(forged(steps, victim))
    assert steps.run(SUCCEEDS)
    assert victim.exists()


@pytest.mark.parametrize("directory", ["anything", ".hidden-1", "written", "a b-1"])
def test_a_record_beside_the_attempts_does_not_count(steps: Steps, directory: str) -> None:
    victim = result_of_another(steps)
    forged(steps, victim, directory)
    assert steps.run(SUCCEEDS)
    assert victim.exists()


@pytest.mark.parametrize("whose", ["record", "directory"])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_a_record_of_another_user_does_not_count(steps: Steps, whose: str) -> None:
    victim = result_of_another(steps)
    record = forged(steps, victim)
    os.chown(record if whose == "record" else record.parent, 12345, -1)
    assert steps.run(SUCCEEDS)
    assert victim.exists()


def test_a_record_is_for_its_user_alone(steps: Steps) -> None:
    assert not steps.run(FAILS)
    [record] = steps.working.glob(f".zwrap/*/{COPIES}")
    assert record.stat().st_mode & 0o777 == 0o600


def test_of_many_and_long_records_a_bounded_part_is_read(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not steps.run(FAILS)
    assert not steps.run("echo 3 > other.log; exit 1")
    first = steps.working / ".zwrap" / "m1-1" / COPIES
    os.utime(first, (1, 1))
    with monkeypatch.context() as patch:
        patch.setattr(superseded, "RECORDS", 1)
        assert steps.run(SUCCEEDS)
    assert "other.log" not in steps.copies()
    assert "error.txt" in steps.copies(), "the record of the attempt that failed first is left"
    monkeypatch.setattr(superseded, "COPIES_BYTES", 20)
    assert steps.run(SUCCEEDS)
    assert "error.txt" in steps.copies()
