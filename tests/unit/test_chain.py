"""Rules of several commands in one step: order, limits, failures, stop signals, and replay."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.verdict import Verdict, parse_verdict
from zwrap.errors import ProgramError
from zwrap.host.beneath import ANYWHERE, AllowedDirectories, OutsideError
from zwrap.job import Interruption, Outcome
from zwrap.message.jsontext import encode
from zwrap.program import listing, run as program_run
from zwrap.program.asked import as_asked
from zwrap.program.checks.report import TOLD, rules
from zwrap.program.reading import parse_definition
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.wrapper.ended import Ended
from zwrap.wrapper.ending import concluded
from zwrap.wrapper.heartbeat import Heartbeat
from zwrap.wrapper.process import Program
from zwrap.wrapper.step import ProgramStep


class Chain:
    """A step of several commands in a directory."""

    def __init__(
        self,
        directory: Path,
        given: dict[str, Any],
        allowed: AllowedDirectories = ANYWHERE,
        **parameters: Any,
    ) -> None:
        node = {
            "job_parameters": {"working_directory": str(directory), **parameters},
            "output": {"result-individual-file": 2, "numbers": 2},
        }
        recipe = Recipe({"start": [[1, 0]], "1": node, "2": {"queue": "told"}})
        self.heartbeat = Heartbeat("prog", "prog", {})
        self.started: list[str] = []
        self.step = ProgramStep(
            parse_definition(given, "test.yaml", "prog"),
            Envelope(recipe, 1),
            self.heartbeat,
            allowed,
        )

    @contextlib.contextmanager
    def running(self, program: Program) -> Iterator[None]:
        self.started.append(str(self.heartbeat.body()["statustext"]))
        yield

    def run(self, stopped_by: Callable[[], str] = str) -> Ended:
        return self.step.run(self.running, stopped_by)


def script(text: str, **keys: Any) -> dict[str, Any]:
    return {"command": ["/bin/sh", "-c", text], **keys}


def test_commands_run_one_after_the_other_and_heartbeats_tell_which(tmp_path: Path) -> None:
    chain = Chain(
        tmp_path,
        {
            **script("cat >first; echo 1; echo warned >&2", stdin="in {x}\n", stdout="one.txt"),
            "inputs": {"x": {}},
            "then": [
                {"name": "two", **script("pwd; cat first one.txt", directory="sub/dir")},
                {"name": "three", **script("cat first one.txt; cat")},
            ],
        },
        x="y",
    )
    ended = chain.run()
    assert ended.failures == [
        (
            "prog: command 2 of 3 (two): it exited with status 1, its last words: "
            "cat: one.txt: No such file or directory"
        )
    ]
    assert (tmp_path / "one.txt").read_text() == "1\n"
    assert (tmp_path / "prog.err").read_text() == "warned\n"
    assert (tmp_path / "sub/dir/two.log").read_text() == f"{tmp_path}/sub/dir\n"
    assert chain.started == [
        "starting, command 1 of 3 (prog)",
        "starting, command 2 of 3 (two)",
    ]
    assert not (tmp_path / "three.log").exists()
    assert chain.heartbeat.body()["statustext"] == "starting"


def test_each_command_has_a_progress_of_its_own(tmp_path: Path) -> None:
    """It is searched for in the command's own files, below its own directory."""
    for fifo in ("ready", "go"):
        os.mkfifo(tmp_path / fifo)
    held = f"; echo >{tmp_path}/ready; read x <{tmp_path}/go"
    steps = {"pattern": r"STEP (?P<done>\d+) / (?P<total>\d+)"}
    chain = Chain(
        tmp_path,
        {
            **script(f"echo STEP 1 / 3 >&2{held}", progress={**steps, "file": "stderr"}),
            "inputs": {"x": {}},
            "then": [
                {
                    "name": "two",
                    "directory": "sub",
                    **script(f"echo STEP 2 / 5 >y.log{held}"),
                    "progress": {**steps, "file": "{x}.log"},
                },
                {"name": "three", **script(f"echo STEP 3 / 7{held}")},
            ],
        },
        x="y",
    )
    seen = []

    @contextlib.contextmanager
    def running(_: Program) -> Iterator[None]:
        (tmp_path / "ready").read_text()  # until the program has opened, written and closed it
        body = chain.heartbeat.body()
        if chain.heartbeat._progress and "progress" not in body:  # the machine was busy
            assert chain.heartbeat._progress._thread
            chain.heartbeat._progress._thread.join()
            body = chain.heartbeat.body()
        seen.append((body.get("progress"), body.get("progress_total")))
        (tmp_path / "go").write_text("\n")
        yield

    assert chain.step.run(running, str).failures == []
    assert seen == [("1/3", 3), ("2/5", 5), (None, None)]


def test_the_only_command_is_not_numbered(tmp_path: Path) -> None:
    chain = Chain(tmp_path, script("exit 3"))
    assert chain.run().failures == ["prog: it exited with status 3"]
    assert chain.started == ["starting"]


def test_each_command_is_judged_by_its_own_rules_before_the_next_starts(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("old")
    rules = {"exit_status": [7], "files": ["a.txt"], "text": [{"file": "stdout", "pattern": "A"}]}
    given = {
        **script("echo A; echo a >a.txt; exit 7", success=rules),
        "then": [
            {
                "name": "b",
                **script("echo B", success={"no_text": [{"file": "stdout", "pattern": "A"}]}),
            },
            {"name": "c", **script("true", success={"files": ["b.txt"]})},
            {"name": "d", **script("touch never")},
        ],
    }
    [failure] = Chain(tmp_path, given).run().failures
    assert failure.startswith("prog: command 3 of 4 (c): it did not write b.txt")
    assert not (tmp_path / "never").exists()
    given["then"] = [{"name": "c", **script("true", success={"files": ["a.txt"]})}]
    [failure] = Chain(tmp_path, given).run().failures
    assert failure.startswith("prog: command 2 of 2 (c): it did not write a.txt")


def test_a_command_that_is_not_required_may_fail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report = {"name": "report", "required": False, **script("exit 3", limits={"time": 60})}
    given = {
        **script("echo '{\"n\": 1}' >n.json"),
        "then": [report, {"command": ["no-such-program"], "required": False}],
        "outputs": {"numbers": {"file": "n.json", "parser": "json"}},
        "files": [{"pattern": "*.log", "type": "log"}],
    }
    ended = Chain(tmp_path, given).run()
    assert ended.failures == []
    assert ended.wrapper_status == 0
    first, second = ended.facts["failed_commands"]
    assert first == "command 2 of 3 (report), which is not required: it exited with status 3"
    assert second.startswith("command 3 of 3 (no-such-program), which is not required: The program")
    assert first in caplog.text
    assert len(ended.messages) == 4  # three logs, and what was parsed
    failing = Chain(tmp_path, {**given, "then": [report, {"name": "x", **script("exit 4")}]}).run()
    assert failing.failures == ["prog: command 3 of 3 (x): it exited with status 4"]
    assert failing.facts["failed_commands"] == [first]
    assert (failing.facts["exit_status"], failing.wrapper_status) == (4, 4)


def test_a_further_command_that_cannot_be_started_is_a_failure_with_results(
    tmp_path: Path,
) -> None:
    given = {
        **script("echo done"),
        "then": [{"command": ["no-such-program"]}],
        "files": [{"pattern": "stdout", "type": "log"}],
    }
    ended = Chain(tmp_path, given).run()
    assert ended.failures[0].startswith("prog: command 2 of 2 (no-such-program): The program 'no-")
    assert ended.wrapper_status == 100
    assert len(ended.messages) == 1
    with pytest.raises(ProgramError, match="'no-such-program' was not found"):
        Chain(tmp_path, {"command": ["no-such-program"], "then": [script("touch never")]}).run()
    assert not (tmp_path / "never").exists()


def test_a_value_that_no_command_can_take_is_told_before_the_first_starts(tmp_path: Path) -> None:
    given = {
        **script("touch never"),
        "inputs": {"x": {}},
        "then": [{"command": ["cat"], "stdin": "{x}\n", "required": False}],
    }
    with pytest.raises(ProgramError, match="several lines"):
        Chain(tmp_path, given, x="a\nb").run()
    assert not (tmp_path / "never").exists()


def test_a_limit_of_a_command_bounds_that_command_only(tmp_path: Path) -> None:
    slow = script("sleep 30", limits={"time": 1, "grace_s": 1})
    given = {**script("true"), "then": [{"name": "slow", **slow}, {"name": "c", **script("true")}]}
    ended = Chain(tmp_path, given).run()
    assert ended.failures == ["prog: command 2 of 3 (slow): it exceeded its time limit of 1 s"]
    given["then"][0]["required"] = False
    ended = Chain(tmp_path, given).run()
    assert (ended.failures, ended.timed_out) == ([], False)
    assert ended.facts["elapsed_s"] > 1


def test_the_limit_of_the_attempt_bounds_all_commands_together(tmp_path: Path) -> None:
    given = {
        **script("sleep 0.5", limits={"time": 1}),
        "then": [
            {"name": "slow", "required": False, **script("sleep 30", limits={"time": 20})},
            {"name": "c", **script("touch never")},
        ],
    }
    ended = Chain(tmp_path, given, timeout=2).run()
    assert ended.failures == [
        "prog: command 2 of 3 (slow): the commands of the step exceeded their time limit of 2 s"
    ]
    assert ended.timed_out
    assert not (tmp_path / "never").exists()


def test_a_stop_between_two_commands_starts_no_further_one(tmp_path: Path) -> None:
    given = {
        **script("true"),
        "then": [
            {"name": "b", "required": False, **script("touch never")},
            {"name": "c", **script("touch never")},
        ],
    }
    ended = Chain(tmp_path, given).run(lambda: "SIGTERM")
    assert ended.failures == ["prog: command 2 of 3 (b): the step was stopped before it by SIGTERM"]
    assert ended.stopped_by == "SIGTERM"
    assert not (tmp_path / "never").exists()
    given["then"] = [{"name": "c", **script("touch never")}]
    ended = Chain(tmp_path, given).run(lambda: "SIGTERM")
    assert ended.failures == ["prog: command 2 of 2 (c): the step was stopped before it by SIGTERM"]
    assert not (tmp_path / "never").exists()


def finished_work(*reports: dict[str, Any]) -> dict[str, Any]:
    return {
        **script("echo done >r.mtz; echo own >&2"),
        "success": {"files": ["r.mtz"]},
        "files": [{"pattern": "r.mtz"}],
        "then": [{"required": False, **each} for each in reports],
    }


def test_what_stops_commands_that_are_not_required_costs_no_finished_work(tmp_path: Path) -> None:
    slow = {"name": "slow", **script("sleep 30")}
    never = {"name": "never", **script("touch never")}
    given = finished_work(slow, never)
    ended = Chain(tmp_path, given, timeout=2).run()
    assert (ended.failures, ended.timed_out, ended.wrapper_status) == ([], False, 0)
    assert len(ended.messages) == 1
    assert ended.facts["failed_commands"] == [
        (
            "command 2 of 3 (slow), which is not required: the commands of the step exceeded their "
            "time limit of 2 s"
        )
    ]
    assert ended.elapsed_s > 1.5
    chain = Chain(tmp_path, given)

    @contextlib.contextmanager
    def running(program: Program) -> Iterator[None]:
        if "(slow)" in str(chain.heartbeat.body()["statustext"]):
            program.stop("SIGTERM")
        yield

    ended = chain.step.run(running)
    assert (ended.failures, ended.stopped_by) == ([], None)
    [said] = ended.facts["failed_commands"]
    assert re.search(r"it was stopped after \d s by SIGTERM$", said)
    ended = Chain(tmp_path, given).run(lambda: "SIGTERM")
    assert ended.failures == []
    [said] = ended.facts["failed_commands"]
    assert said.endswith("which is not required: the step was stopped before it by SIGTERM")
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("last", ["echo lost >&2; exit 127", "kill -9 $$", "no-such-program"])
def test_status_and_error_output_are_those_of_the_required_command(
    tmp_path: Path, last: str
) -> None:
    report = {"name": "b", "command": ["no-such-program"]} if last == "no-such-program" else {
        "name": "b", **script(last)
    }  # fmt: skip
    given = finished_work(report)
    given["command"] = ["/bin/sh", "-c", "sleep 0.2; echo own >&2; echo done >r.mtz"]
    given["errors"] = [{"where": "exit_status", "pattern": "127|137", "cause": "of-another"}]
    ended = Chain(tmp_path, given).run()
    assert (ended.failures, ended.returncode, ended.facts["exit_status"]) == ([], 0, 0)
    assert ended.facts["stderr_tail"] == ["own"]
    assert ended.facts["elapsed_s"] >= 0.2
    given["outputs"] = {"o": {"file": "r.mtz", "parser": "json"}}
    ended = Chain(tmp_path, given).run()
    assert ended.failures
    assert ended.known is None
    assert (ended.facts["exit_status"], ended.wrapper_status) == (0, 1)


def test_the_cause_of_a_success_does_not_depend_on_what_is_not_required(tmp_path: Path) -> None:
    ended = Chain(tmp_path, finished_work({"name": "b", **script("exit 3")})).run()
    draft = Verdict(
        token="t", outcome=Outcome.SUCCESS, witness="wrapper", cause="", job_id="1", exit_status=0,
        failed_commands=ended.facts["failed_commands"],
    )  # fmt: skip
    envelope = Envelope(Recipe({"start": [[1, 0]], "1": {}}), 1)
    verdict = concluded(draft, ended, Interruption(), envelope, {}, None, None, None)
    assert verdict.cause == "finished"
    assert parse_verdict(encode(verdict), "here").failed_commands == [
        "command 2 of 2 (b), which is not required: it exited with status 3"
    ]


def test_times_are_told_where_the_last_command_cannot_be_started(tmp_path: Path) -> None:
    given = {**script("sleep 0.2"), "then": [{"name": "b", "command": ["no-such-program"]}]}
    ended = Chain(tmp_path, given).run()
    assert ended.elapsed_s >= 0.2
    assert ended.facts["elapsed_s"] >= 0.2
    assert ended.facts["leftover_processes"] == 0


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("fault", ["file", "link", "late link"])
def test_a_further_command_without_a_directory_is_the_failure_of_that_command(
    tmp_path: Path, fault: str, required: bool
) -> None:
    work, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    for each in (work, elsewhere):
        each.mkdir()
    late = f"; ln -s {elsewhere} sub" if fault == "late link" else ""
    given = {
        **script(f"echo done >r.mtz{late}"),
        "files": [{"pattern": "r.mtz", "type": "log"}],
        "then": [
            {"name": "b", "directory": "sub", "required": required, **script("true")},
            {"name": "c", **script("touch third")},
        ],
    }
    if fault == "file":
        (work / "sub").touch()
    elif fault == "link":
        (work / "sub").symlink_to(elsewhere)
    step = Chain(work, given, AllowedDirectories([work])).step
    if fault == "link" and required:  # told before the work is done
        with pytest.raises(OutsideError):
            step.run(lambda _: contextlib.nullcontext())
        return
    ended = step.run(lambda _: contextlib.nullcontext())
    assert len(ended.messages) == 1
    assert (work / "third").exists() is not required
    assert ("command 2 of 3 (b)" in " ".join(ended.failures)) is required
    assert ("failed_commands" in ended.facts) is not required


def test_a_loop_keeps_no_listings_and_shares_the_time_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        **script("true"),
        "inputs": {"l": {"type": "list"}},
        "success": {"files": []},
        "then": [
            {"name": "b", **script("true"), "for_each": {"e": "l"}, "success": {"no_files": ["x"]}}
        ],
    }
    asked = []
    taken = listing.taken

    def noted(*args: Any, longest_s: float = listing.LISTING_S) -> listing.Listing:
        asked.append(longest_s)
        return taken(*args, longest_s=longest_s)

    monkeypatch.setattr(listing, "taken", noted)
    chain = Chain(tmp_path, given, l=["1", "2", "3"])
    times = iter(range(0, 1000, 7))
    chain.step._chain._clock = lambda: float(next(times))
    assert chain.run().failures == []
    assert asked == [20.0, 20.0, 13.0, 6.0]
    assert list(chain.step.judged_commands) == []
    (tmp_path / "x").touch()
    assert listing.taken(tmp_path, ["x"], longest_s=0.0).patterns == frozenset()


def test_a_stop_ends_the_step_though_the_command_is_not_required(tmp_path: Path) -> None:
    given = {
        **script("true"),
        "then": [
            {"name": "b", "required": False, **script("sleep 30")},
            {"name": "c", **script("touch never")},
        ],
    }
    chain = Chain(tmp_path, given)

    @contextlib.contextmanager
    def running(program: Program) -> Iterator[None]:
        if "(b)" in str(chain.heartbeat.body()["statustext"]):
            program.stop("SIGUSR1")
        yield

    ended = chain.step.run(running)
    [said] = ended.failures
    assert re.fullmatch(r"prog: command 2 of 3 \(b\): it was stopped after \d s by SIGUSR1", said)
    assert not (tmp_path / "never").exists()


def test_only_the_own_command_of_a_definition_saves_its_state(tmp_path: Path) -> None:
    given = {
        **script("exit 85"),
        "checkpoint": {"signal": "USR1", "exit_status": [85]},
        "success": {"exit_status": []},
        "then": [{"name": "b", **script("exit 85")}],
    }
    saves = []

    @contextlib.contextmanager
    def running(program: Program) -> Iterator[None]:
        saves.append(program.saves)
        if len(saves) == 2:
            program.stop("SIGTERM")
        yield

    ended = Chain(tmp_path, given).step.run(running)
    assert saves == [True, False]
    assert not ended.saved


def test_what_commands_leave_behind_is_counted_in_all(tmp_path: Path) -> None:
    leaves = "setsid sleep 30 >/dev/null 2>&1 & sleep 0.2"
    ended = Chain(tmp_path, {**script(leaves), "then": [{"name": "b", **script(leaves)}]}).run()
    assert ended.leftovers == ended.facts["leftover_processes"] == 2


def test_a_loop_runs_a_command_for_each_entry_and_names_the_one_that_failed(tmp_path: Path) -> None:
    given = {
        **script('test "$0" != b && echo "$0" >"$1.out"'),
        "inputs": {"l": {"required": True}},
        "for_each": {"sweep": "l"},
        "success": {"files": ["{sweep_number}.out"]},
        "files": [{"pattern": "stdout", "type": "log"}, {"pattern": "*.out", "partial": True}],
    }
    given["command"] = [*given["command"], "{sweep}", "{sweep_number}"]
    ended = Chain(tmp_path, given, l=["$(a)", "c"]).run()
    assert ended.failures == []
    assert (tmp_path / "1.out").read_text() == "$(a)\n"
    ended = Chain(tmp_path, given, l=["a", "b", "c"]).run()
    assert ended.failures == [
        (
            "prog: command 2 of 3 (prog, sweep 2 of 3): it exited with status 1; it did not write "
            "2.out (only one from before this run is there)"
        )
    ]


def test_a_file_is_written_just_before_the_command_that_gets_it(tmp_path: Path) -> None:
    """It lies in that command's directory, and has the entry of its loop."""
    given = {
        **script("ls"),
        "inputs": {"l": {}},
        "write": [{"file": "run.inp", "template": "{{ sweep }}\n", "before": "b"}],
        "then": [
            {
                "name": "b",
                **script("cat run.inp", directory="sub/{sweep_number}"),
                "for_each": {"sweep": "l"},
            }
        ],
    }
    assert Chain(tmp_path, given, l=["x", "y"]).run().failures == []
    assert "run.inp" not in (tmp_path / "prog.log").read_text()
    assert [(tmp_path / f"sub/{n}/b-{n}.log").read_text() for n in (1, 2)] == ["x\n", "y\n"]


def test_output_of_an_earlier_run_stays_until_the_command_that_replaces_it(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("old\n")
    (tmp_path / "never.log").write_text("old\n")
    (tmp_path / "never.err").write_text("old\n")
    given = {
        **script("cat model"),
        "then": [
            {"name": "b", **script("echo new", stdout="model")},
            {"name": "c", **script("exit 1")},
            {"name": "never", **script("true")},
        ],
    }
    assert Chain(tmp_path, given).run().failures
    assert (tmp_path / "prog.log").read_text() == "old\n"
    assert (tmp_path / "model").read_text() == "new\n"
    assert judged(tmp_path, given, 0) == ["prog: command 4 of 4 (never): it did not run"]
    (tmp_path / "model").unlink()
    (tmp_path / "model").mkdir()
    given["command"] = ["true"]
    [failure] = Chain(tmp_path, given).run().failures
    assert failure.startswith("prog: command 2 of 4 (b): The output of the program cannot be")


# -- replay ----------------------------------------------------------------------------------------


def judged(directory: Path, given: dict[str, Any], status: int | None, **kwargs: Any) -> list[str]:
    step = Chain(directory, given, **kwargs).step
    return step.judge(0.0, status, copy=False).failures


def test_replay_judges_each_command_and_the_status_is_that_of_the_last_which_ran(
    tmp_path: Path,
) -> None:
    given = {
        **script("true", success={"exit_status": [7]}),
        "then": [
            {
                "name": "b",
                **script("echo done", success={"text": [{"file": "stdout", "pattern": "done"}]}),
            },
            {"name": "c", **script("true", success={"exit_status": [5]})},
        ],
    }
    for name in ("prog.log", "prog.err", "b.err"):
        (tmp_path / name).touch()
    (tmp_path / "b.log").write_text("other\n")
    assert judged(tmp_path, given, 0) == [
        (
            "prog: command 2 of 3 (b): stdout does not hold the expected 'done'; "
            "its last words: other"
        )
    ]
    (tmp_path / "b.log").write_text("done\n")
    assert judged(tmp_path, given, 0) == ["prog: command 3 of 3 (c): it did not run"]
    (tmp_path / "c.err").touch()
    assert judged(tmp_path, given, 0) == ["prog: command 3 of 3 (c): it exited with status 0"]
    assert judged(tmp_path, given, 5) == []
    assert judged(tmp_path, given, None) == []


def test_replay_of_files_without_output_judges_all_commands_by_their_files(tmp_path: Path) -> None:
    given = {
        **script("x", success={"files": ["a"]}),
        "then": [{"name": "b", "required": False, **script("x", success={"files": ["b"]})}],
    }
    (tmp_path / "a").write_text("a")
    assert judged(tmp_path, given, None) == []
    (tmp_path / "a").unlink()
    assert judged(tmp_path, given, None) == ["prog: it did not write a"]


def test_replay_gives_the_status_to_the_required_command(tmp_path: Path) -> None:
    given = {**script("true"), "then": [{"name": "b", "required": False, **script("exit 3")}]}
    assert Chain(tmp_path, given).run().failures == []
    assert judged(tmp_path, given, 0) == []
    assert judged(tmp_path, given, 4) == ["prog: it exited with status 4"]


def test_set_up_lines_of_a_step_are_run_once(tmp_path: Path) -> None:
    """They may change files; those of the definition are run for each command."""
    given = {
        **script("true"),
        "set_up": ["echo each >>ran"],
        "set_up_key": "commands",
        "then": [{"name": "b", **script("true")}],
    }
    brought = {"commands": ["echo '{once}' >>ran"]}
    defined = as_asked(parse_definition(given, "t.yaml", "prog"), brought, "here", lambda _: None)
    node = {"job_parameters": {**brought, "working_directory": str(tmp_path)}}
    envelope = Envelope(Recipe({"start": [[1, 0]], "1": node}), 1)
    step = ProgramStep(defined, envelope, Heartbeat("p", "p", {}))
    assert step.run(lambda _: contextlib.nullcontext()).failures == []
    assert (tmp_path / "ran").read_text() == "each\n{once}\neach\n"


def test_job_parameters_bring_several_commands(tmp_path: Path) -> None:
    """The wrapper `command` takes the same keys as a file."""
    from zwrap.program.reading import find_program

    parameters = json.loads(
        '{"command": ["cat"], "stdin": "x\\n", "then": [{"command": ["cat", "command.log"]}]}'
    )
    defined = find_program("command", parameters)
    assert defined is not None
    node = {"job_parameters": {**parameters, "working_directory": str(tmp_path)}}
    envelope = Envelope(Recipe({"start": [[1, 0]], "1": node}), 1)
    step = ProgramStep(defined, envelope, Heartbeat("p", "p", {}))
    assert step.run(lambda _: contextlib.nullcontext()).failures == []
    assert (tmp_path / "cat.log").read_text() == "x\n"


def wide(directory: Path, rounds: int) -> dict[str, Any]:
    """Return a loop whose rules look at all files, and write those of a finished run of it."""
    for number in range(1, rounds + 1):
        (directory / f"{number}.out").write_text("done\n")
        (directory / f"prog-{number}.err").touch()
        (directory / f"prog-{number}.log").write_text("end\n")
    return {
        "command": ["run", "{n}"],
        "inputs": {"l": {"type": "list"}},
        "for_each": {"n": "l"},
        "success": {
            "files": ["*.out"],
            "no_files": ["*.error"],
            "text": [
                {"file": "*.out", "pattern": "^done"},
                {"file": "stdout", "pattern": "^end"},
            ],
            "no_text": [{"file": "*.out", "pattern": "fault"}],
        },
    }


def counted(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Path], list[Path]]:
    """Return lists that get each file that is found by a pattern, and each that is read."""
    matched: list[Path] = []
    read: list[Path] = []
    matching, text = program_run.matching, program_run._text

    def found(directory: Path, pattern: str) -> Iterator[Path]:
        for file in matching(directory, pattern):
            matched.append(file)
            yield file

    monkeypatch.setattr(program_run, "matching", found)
    monkeypatch.setattr(program_run, "_text", lambda place: (read.append(place), text(place))[1])
    return matched, read


def test_all_rules_of_a_command_look_for_the_files_of_a_pattern_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {**wide(tmp_path, 0), **script("echo done >$0; echo end")}
    given["command"].append("{n}.out")
    matched, read = counted(monkeypatch)
    assert Chain(tmp_path, given, l=["1", "2", "3"]).run().failures == []
    assert len(matched) == 1 + 2 + 3
    assert len(read) == 3 * (1 + 1 + 1)  # only what each has written


@pytest.mark.parametrize("reported", [False, True])
def test_files_at_which_all_rules_of_a_loop_look_are_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reported: bool
) -> None:
    matched, read = counted(monkeypatch)
    rounds = 30
    given = wide(tmp_path, rounds)
    chain = Chain(tmp_path, given, l=[str(number) for number in range(rounds)])
    if reported:
        chain.step.keep_judged()
    assert chain.step.judge(0.0, 0, copy=False).failures == []
    assert len(matched) == rounds  # one pattern
    assert len(read) == 2 * rounds + rounds  # for two patterns, and each output
    if reported:
        assert len(chain.step.judged_commands) == rounds
        found = [list(rules(each.rules, each.run)) for each in chain.step.judged_commands]
        assert all(rule.holds for each in found for rule in each)
        assert found[0][1].said.endswith(f"27.out, and {rounds - TOLD} more")
        assert len(matched) == rounds
        assert len(read) == 3 * rounds + rounds + 1 + rounds


def test_runs_that_are_judged_together_in_several_directories_find_their_own_files(
    tmp_path: Path,
) -> None:
    given = wide(tmp_path, 1)
    given["then"] = [{"name": "b", "directory": "sub", **script("x", success={"files": ["*.out"]})}]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/b.err").touch()
    assert judged(tmp_path, given, 0, l=["1"]) == [
        "prog: command 2 of 2 (b): it did not write *.out"
    ]
    (tmp_path / "sub/x.out").touch()
    assert judged(tmp_path, given, 0, l=["1"]) == ["prog: command 2 of 2 (b): it left *.out empty"]
    (tmp_path / "sub/x.out").write_text("x")
    assert judged(tmp_path, given, 0, l=["1"]) == []
