"""Known errors of programs: what is found, what is said of it, and which entries are refused."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from zwrap.attempt.record import encode_submission, parse_submission
from zwrap.attempt.verdict import Verdict
from zwrap.configuration.clusters import policy_of
from zwrap.errors import ProgramError, UnknownNameError
from zwrap.job import Interruption, Outcome, Resources
from zwrap.message.content import Message
from zwrap.program.causes import recognition
from zwrap.program.causes.errorlist import KnownErrors
from zwrap.program.causes.errortables import read_table
from zwrap.program.causes.knownerrors import KnownError
from zwrap.program.causes.literals import literals, may_match
from zwrap.program.causes.recognition import recognized
from zwrap.program.reading import parse_definition, read_definition
from zwrap.program.run import Run
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.wrapper.ended import Ended
from zwrap.wrapper.ending import concluded
from zwrap.wrapper.heartbeat import Heartbeat
from zwrap.wrapper.step import ProgramStep

NO_SPOTS = {
    "pattern": r"^Error: no spots in (?P<sweep>\w+)", "cause": "no-spots-found",
    "says": "sweep {sweep} has no spots", "remedy": "Look at the images of {sweep}.",
}  # fmt: skip
COUNT = {"type": "integer", "minimum": 1}
PRINTS = "echo '{text}' >&2; exit {status}"


def left(directory: Path, *, status: int = 1, **texts: str) -> Run:
    """Return a run that left these files; ``stdout`` and ``stderr`` are its output."""
    for name, text in texts.items():
        (directory / name).write_text(text)
    out, err = (directory / name for name in ("stdout", "stderr"))
    return Run(directory=directory, stdout=out, stderr=err, began=0.0, exit_status=status)


def found(run: Run, *errors: dict[str, Any]) -> str | None:
    known = recognized([KnownError(**each) for each in errors], run)
    return known.cause if known else None


def envelope(directory: Path, **job_parameters: Any) -> Envelope:
    node = {
        "queue": "cluster.submission", "output": {"failure": 2, "success": 2}, "error": 3,
        "job_parameters": {"working_directory": str(directory), **job_parameters},
    }  # fmt: skip
    wire = {"start": [[1, []]], "1": node, "2": {"queue": "told"}, "3": {"queue": "wrong"}}
    return Envelope(Recipe({**wire, "error": [3]}), 1, environment={"ID": "r"})


def ran(directory: Path, definition: dict[str, Any], **job_parameters: Any) -> Ended:
    """Return the end of a run of a shell command by a definition."""
    step = ProgramStep(
        parse_definition(definition, "here", "prog"), envelope(directory, **job_parameters),
        Heartbeat("prog", "prog", {}),
    )  # fmt: skip
    return step.run(lambda _: contextlib.nullcontext())


def shell(text: str, status: int = 1) -> list[str]:
    return ["/bin/sh", "-c", PRINTS.format(text=text, status=status)]


def verdict_on(ended: Ended, step: Envelope, retry: Any = None) -> Verdict:
    """Return the verdict on the end of a step that was submitted under a retry policy."""
    message = Message(step.body(), {"workflows-recipe": True}, "an-id")
    policy = policy_of(retry, None, "here")
    text = encode_submission(message, "cluster.submission", Resources(), policy)
    draft = Verdict(
        token="t-1", outcome=Outcome.SUCCESS, witness="wrapper", cause="", job_id="1", exit_status=1
    )
    known = parse_submission(text, "here")
    return concluded(draft, ended, Interruption(), step, {}, known, None, None)


# -- what is found ---------------------------------------------------------------------------


def test_the_first_entry_that_is_found_names_the_cause(tmp_path: Path) -> None:
    run = left(tmp_path, stderr="a\nb\n")
    first, second = ({"pattern": text, "cause": text} for text in ("b", "a"))
    assert (found(run, first, second), found(run, second, first)) == ("b", "a")
    assert found(run, {"pattern": "c", "cause": "c"}) is None


def test_an_error_is_looked_for_where_its_entry_says(tmp_path: Path) -> None:
    run = left(tmp_path, stdout="out", stderr="err", **{"run.log": "log"})
    everywhere = {"pattern": "^(out|err|log)$", "cause": "c"}
    assert found(run, {**everywhere, "where": "*.log", "pattern": "log"}) == "c"
    assert found(run, {**everywhere, "where": "stdout", "pattern": "err"}) is None
    assert found(run, {**everywhere, "where": ["*.txt", "stderr"], "pattern": "err"}) == "c"
    assert found(run, {"pattern": "log", "cause": "c"}) is None


def test_of_many_files_the_newest_are_searched_as_far_as_number_size_and_time_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{name}.log" for name in "dcba"]  # the newest one is first by name
    run = left(tmp_path, stdout="x" * 50, **{name: f"FAULT {name}\n" for name in names})
    for at, name in enumerate(names):
        os.utime(tmp_path / name, (at, at))
    read: list[str] = []
    text = Run.text
    monkeypatch.setattr(Run, "text", lambda run, file: read.append(file.name) or text(run, file))
    errors = [KnownError(pattern=each, cause="c", where=["*.log"]) for each in ("none", "FAULT .*")]
    known = recognized(errors, run)
    assert known
    assert known.says == "a.log says: FAULT a.log"
    assert read == [*reversed(names)]

    for bound, value in (("MOST_FILES", 2), ("MOST_CHARACTERS", 20)):
        read.clear()
        with monkeypatch.context() as patch:
            patch.setattr(recognition, bound, value)
            absent = KnownError(pattern="none", cause="c", where=["*.log", "stdout"])
            assert recognized([absent, absent], run) is None
        assert read == ["a.log", "b.log", "stdout"], bound

    read.clear()
    times = iter([0.0, 0.0, *[31.0] * 9])
    with pytest.raises(ProgramError, match="was given up"):
        recognized(errors, run, lambda: next(times))
    assert read == ["a.log"]


def test_the_last_match_is_told_since_a_traceback_shows_its_source_first(tmp_path: Path) -> None:
    text = 'raise ValueError(f"no spots in {sweep}")\nValueError: no spots in S2\n'
    run = left(tmp_path, stderr=text)
    error = KnownError(pattern=r"no spots in (?P<s>[^\s\"]+)", cause="c", says="{s} has none")
    known = recognized([error], run)
    assert known
    assert known.says == "S2 has none"


@pytest.mark.parametrize(("status", "pattern", "matches"), [
    (127, "127", True), (127, "12", False), (-9, "137", True), (3, "[12]", False),
])  # fmt: skip
def test_an_exit_status_matches_as_a_whole(
    tmp_path: Path, status: int, pattern: str, matches: bool
) -> None:
    entry = {"where": "exit_status", "pattern": pattern, "cause": "c"}
    assert (found(left(tmp_path, status=status), entry) == "c") is matches


def test_a_pattern_that_takes_too_long_only_leaves_the_cause_out(tmp_path: Path) -> None:
    given = {"command": shell("a" * 40 + "b"), "errors": [{"pattern": "^(a|aa)+$", "cause": "c"}]}
    definition = parse_definition(given, "here", "prog")
    run = left(tmp_path, stderr="a" * 60 + "b")
    times = iter([0.0, 0.0, 100.0, *[200.0] * 9])
    with pytest.raises(ProgramError, match="was given up"):
        recognized(definition.errors, run, lambda: next(times))


# -- what is said ----------------------------------------------------------------------------


def test_a_failure_begins_with_the_cause_and_ends_with_the_remedy(tmp_path: Path) -> None:
    ended = ran(tmp_path, {"command": shell("Error: no spots in SWEEP1"), "errors": [NO_SPOTS]})
    (failure,) = ended.failures
    assert failure.startswith("prog: sweep SWEEP1 has no spots; it exited with status 1")
    verdict = verdict_on(ended, envelope(tmp_path))
    assert verdict.cause.endswith(". Look at the images of SWEEP1.")
    assert (verdict.cause_label, verdict.outcome) == ("no-spots-found", Outcome.FAILURE)
    told = [message.message["payload"] for message in verdict.final]
    assert told[0] == verdict.cause
    assert told[1]["cause_label"] == "no-spots-found"
    assert told[1]["remedy"] == "Look at the images of SWEEP1."


def test_the_line_itself_is_said_where_the_entry_says_little(tmp_path: Path) -> None:
    entry = {"pattern": "no spots", "cause": "no-spots-found"}
    ended = ran(tmp_path, {"command": shell("Error: no spots at all"), "errors": [entry]})
    assert ended.failures[0].startswith("prog: stderr says: Error: no spots at all; ")


def test_a_success_has_no_known_error_whatever_it_printed(tmp_path: Path) -> None:
    ended = ran(tmp_path, {"command": shell("Error: no spots in S", 0), "errors": [NO_SPOTS]})
    assert (ended.failures, ended.known) == ([], None)
    verdict = verdict_on(ended, envelope(tmp_path))
    assert (verdict.cause_label, verdict.remedy, verdict.corrected) == ("", "", [])


def test_a_run_that_was_ended_from_outside_is_not_explained(tmp_path: Path) -> None:
    command = ["/bin/sh", "-c", "echo 'Error: no spots in S' >&2; exec sleep 60"]
    given = {"command": command, "errors": [NO_SPOTS], "limits": {"time": 1}}
    ended = ran(tmp_path, given)
    assert (ended.known, ended.failures) == (None, ["prog: it exceeded its time limit of 1 s"])


def test_placeholders_in_names_of_files_are_filled_in(tmp_path: Path) -> None:
    command = ["/bin/sh", "-c", "echo bad > x_1.log; exit 1"]
    entry = {"where": "{crystal}_*.log", "pattern": "bad", "cause": "c"}
    given = {"command": command, "errors": [entry], "inputs": {"crystal": {}}}
    ended = ran(tmp_path, given, crystal="x")
    assert ended.known
    assert ended.known.cause == "c"


def test_the_command_that_failed_is_explained_by_its_own_output(tmp_path: Path) -> None:
    given = {
        "command": shell("Error: no spots in FIRST", 0), "errors": [NO_SPOTS],
        "then": [{"name": "two", "command": shell("Error: no spots in SECOND")}],
    }  # fmt: skip
    (failure,) = ran(tmp_path, given).failures
    assert failure.startswith("prog: command 2 of 2 (two): sweep SECOND has no spots; ")


# -- entries that are refused ----------------------------------------------------------------


@pytest.mark.parametrize(("change", "said"), [
    ({"cause": "No Spots"}, "small letters and digits with hyphens"),
    ({"cause": "x" * 61}, "up to 60 characters"),
    ({"pattern": "("}, "not a valid regular expression"),
    ({"says": "{sweeep} is empty"}, "'{sweeep}' is no named group .* it has sweep"),
    ({"where": [""]}, "key 'where' is empty"),
    ({"where": "exit_status", "stop_early": True}, "cannot be looked at while"),
    ({"where": "**/x", "stop_early": True}, "cannot be looked at while"),
    ({"retry": {"set": {}}}, "'retry.set' is empty"),
    ({"retry": {"set": {"job": object()}}}, "texts, numbers"),
    ({"retry": {"set": {"jobs": 1}}}, "no input 'jobs'.*inputs: count; blocks: none"),
    ({"retry": {"set": {"count": 0}}}, "input 'count' is 0; a whole number of at least 1 is exp"),
    ({"retry": {"set": {"count": "many"}}}, "'retry.set': input 'count' is 'many'"),
])  # fmt: skip
def test_an_entry_that_is_wrong_is_refused(change: dict[str, Any], said: str) -> None:
    entry = {**NO_SPOTS, **change}
    with pytest.raises(ProgramError, match=said):
        parse_definition(
            {"command": ["true"], "errors": [entry], "inputs": {"count": COUNT}}, "here", "prog"
        )


def test_an_unknown_table_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "prog.yaml").write_text("command: [x]\nerrors_of: [dails]\n")
    with pytest.raises(UnknownNameError, match=r"table of errors 'dails' .*Did you mean 'dials'"):
        read_definition(tmp_path / "prog.yaml")


def test_a_table_of_the_site_goes_before_the_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "errors").mkdir()
    (tmp_path / "errors" / "dials.yaml").write_text(
        "where: [mine.log]\nerrors: [{pattern: bad, cause: mine}]\n"
    )
    (tmp_path / "prog.yaml").write_text(
        "command: [x]\nerrors: [{pattern: x, cause: own}]\nerrors_of: [dials]\n"
    )
    definition = read_definition(tmp_path / "prog.yaml")
    entries = KnownErrors(definition, {}).entries
    assert [(each.cause, each.where) for each in entries] == [
        ("own", ["stderr", "stdout"]), ("mine", ["mine.log"]),
    ]  # fmt: skip


def test_a_table_says_once_what_stands_before_each_pattern(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(
        "begins: '^(?:Sorry|Error): '\n"
        "errors: [{pattern: 'a|b', cause: x}, {pattern: c, cause: y}]\n"
    )
    patterns = [each.pattern for each in read_table(tmp_path / "t.yaml")]
    assert patterns == ["^(?:Sorry|Error): (?:a|b)", "^(?:Sorry|Error): (?:c)"]
    (tmp_path / "t.yaml").write_text("begins: '('\nerrors: [{pattern: a, cause: x}]\n")
    with pytest.raises(ProgramError, match="pattern"):
        read_table(tmp_path / "t.yaml")


def test_a_table_that_cannot_be_read_only_leaves_the_cause_out(tmp_path: Path) -> None:
    (tmp_path / "errors").mkdir()
    (tmp_path / "errors" / "mine.yaml").write_text("errors: [{pattern: '(', cause: c}]\n")
    (tmp_path / "prog.yaml").write_text("command: [x]\nerrors_of: [mine]\n")
    definition = read_definition(tmp_path / "prog.yaml")
    assert KnownErrors(definition, {}).recognized(left(tmp_path, stderr="x")) is None


# -- corrections -----------------------------------------------------------------------------

CORRECTED = {
    "command": shell("Error: no spots in S"), "inputs": {"threshold": {}, "jobs": {}},
    "options": [{"block": "xia2"}],
    "errors": [{**NO_SPOTS, "retry": {"set": {"threshold": 5, "xia2.small_molecule": True}}}],
}  # fmt: skip

MADE = {
    "step": 1, "cause": "no-spots-found", "set": {"threshold": 5, "xia2.small_molecule": True},
}  # fmt: skip


def again(directory: Path, retry: Any, definition: Any = None, **given: Any) -> Verdict:
    """Return the verdict on a run with a known error under a policy; `given`: job parameters."""
    environment = given.pop("environment", {})
    step = envelope(directory, **given)
    step.environment.update(environment)
    return verdict_on(ran(directory, definition or CORRECTED, **given), step, retry)


def test_a_correction_is_off_unless_the_policy_allows_it(tmp_path: Path) -> None:
    for retry in (None, False, {"on": ["lost"]}, {"corrections": False, "on": []},
                  {"corrections": ["another"]}):  # fmt: skip
        assert again(tmp_path, retry).outcome is Outcome.FAILURE


@pytest.mark.parametrize("allowed", [True, ["no-spots-found"]])
def test_a_correction_is_the_next_attempt_with_other_job_parameters(
    tmp_path: Path, allowed: Any
) -> None:
    verdict = again(tmp_path, {"corrections": allowed}, xia2={"atom": "S"})
    assert verdict.outcome is Outcome.RETRIED
    assert verdict.cause_label == "no-spots-found"
    said = "It is tried again as attempt 2, corrected: threshold = 5, xia2.small_molecule = True."
    assert verdict.cause.endswith(said)
    (message,) = verdict.final
    assert message.destination == "cluster.submission"
    parameters = message.message["recipe"]["1"]["job_parameters"]
    assert parameters["threshold"] == 5
    assert parameters["xia2"] == {"atom": "S", "small_molecule": True}
    assert message.message["environment"]["zwrap-corrected"] == [MADE]


def test_what_was_corrected_stands_in_the_messages_of_the_next_attempt(tmp_path: Path) -> None:
    first = again(tmp_path, {"corrections": True})
    step = Envelope.from_body(first.final[0].message)
    verdict = verdict_on(Ended(returncode=0), step)
    made = [MADE]
    assert (verdict.outcome, verdict.corrected) == (Outcome.SUCCESS, made)
    for message in verdict.final:
        assert message.message["payload"] == "Finished processing"
        assert message.message["environment"]["zwrap-corrected"] == made


def test_the_same_correction_is_never_made_twice(tmp_path: Path) -> None:
    made = [MADE]
    retry = {"corrections": True, "limit": 9}
    assert again(tmp_path, retry, environment={"zwrap-corrected": made}).outcome is Outcome.FAILURE
    same = {"threshold": 5, "xia2": {"small_molecule": True}}
    assert again(tmp_path, retry, **same).outcome is Outcome.FAILURE


def test_corrections_of_an_earlier_step_are_none_of_a_later_one(tmp_path: Path) -> None:
    earlier = {"zwrap-corrected": [{**MADE, "step": 7}]}
    verdict = again(tmp_path, {"corrections": True}, environment=earlier)
    assert verdict.corrected == []
    assert verdict.final[0].message["environment"]["zwrap-corrected"] == [{**MADE, "step": 7}, MADE]


def test_a_correction_has_its_own_limit_too(tmp_path: Path) -> None:
    error = {
        "pattern": r"at least (?P<count>\d+)", "cause": "too-few",
        "retry": {"set": {"jobs": "{count}"}, "limit": 2},
    }  # fmt: skip
    given = {**CORRECTED, "command": shell("at least 12"), "errors": [error]}
    retry = {"corrections": True, "limit": 9}
    made: list[dict[str, Any]] = []
    for count in (3, 7):
        verdict = again(tmp_path, retry, given, environment={"zwrap-corrected": list(made)})
        assert verdict.final[0].message["recipe"]["1"]["job_parameters"]["jobs"] == 12
        made.append({"step": 1, "cause": "too-few", "set": {"jobs": count}})
    verdict = again(tmp_path, retry, given, environment={"zwrap-corrected": made})
    assert verdict.outcome is Outcome.FAILURE


def test_corrections_and_other_retries_have_one_limit(tmp_path: Path) -> None:
    step = envelope(tmp_path)
    ended = ran(tmp_path, CORRECTED)
    message = Message(
        step.body(), {"workflows-recipe": True, "zwrap-retries": 2, "zwrap-attempt": 3}, "an-id"
    )
    for limit, outcome in ((2, Outcome.FAILURE), (3, Outcome.RETRIED)):
        policy = policy_of({"on": ["lost"], "corrections": True, "limit": limit}, None, "here")
        text = encode_submission(message, "cluster.submission", Resources(), policy)
        draft = Verdict(
            token="t-3", outcome=Outcome.SUCCESS, witness="wrapper", cause="", job_id="1",
            exit_status=1,
        )  # fmt: skip
        known = parse_submission(text, "here")
        found = concluded(draft, ended, Interruption(), step, {}, known, None, None)
        assert found.outcome is outcome


def test_no_correction_follows_what_came_from_outside(tmp_path: Path) -> None:
    step = envelope(tmp_path)
    message = Message(step.body(), {"workflows-recipe": True}, "an-id")
    policy = policy_of({"corrections": True}, None, "here")
    text = encode_submission(message, "cluster.submission", Resources(), policy)
    draft = Verdict(
        token="t-1", outcome=Outcome.SUCCESS, witness="wrapper", cause="", job_id="1", exit_status=1
    )
    ended = ran(tmp_path, CORRECTED)
    known = parse_submission(text, "here")
    stopped = Interruption(by="SIGTERM")
    found = concluded(draft, ended, stopped, step, {}, known, None, None)
    assert found.outcome is Outcome.FAILURE


def test_a_correction_of_a_table_that_the_program_does_not_know_is_left_out(
    tmp_path: Path,
) -> None:
    (tmp_path / "errors").mkdir()
    (tmp_path / "errors" / "mine.yaml").write_text(
        "errors: [{pattern: 'Error: (?P<x>.*)', cause: c, retry: {set: {other: 1}}}]\n"
    )
    file = tmp_path / "prog.yaml"
    file.write_text("command: [/bin/sh, -c, 'echo Error: y >&2; exit 1']\nerrors_of: [mine]\n")
    step = envelope(tmp_path)
    ended = ProgramStep(read_definition(file), step, Heartbeat("p", "p", {})).run(
        lambda _: contextlib.nullcontext()
    )
    assert ended.known
    assert ended.changes == {}
    assert verdict_on(ended, step, {"corrections": True}).outcome is Outcome.FAILURE


def test_a_policy_is_kept_without_what_an_earlier_release_does_not_know() -> None:
    policy = policy_of({"on": ["lost"]}, None, "here")
    text = encode_submission(Message({}, {}, "i"), "q", Resources(), policy)
    assert b"corrections" not in text


@pytest.mark.parametrize(("pattern", "needed"), [
    ("abc", ("abc",)), ("^ab(c|de)f+$", ("ab",)), ("x?(?:long|longer)y", ("long",)),
    ("(?:one|two)", ("one", "two")), ("(?:one|)", None), (r"\w+", None), ("(?i)abc", None),
    ("(?i:abc)d", ("d",)), ("(?:abc){2}", ("abc",)), ("(?:abc)*d", ("d",)),
])  # fmt: skip
def test_texts_that_each_match_holds(pattern: str, needed: tuple[str, ...] | None) -> None:
    assert literals(pattern) == needed


@given(st.lists(st.sampled_from(["a", "b", "(?:ab|ba)", "a?", "[ab]", "(a|)", "b+"]), max_size=5),
       st.text("ab", max_size=12))  # fmt: skip
def test_what_is_left_out_holds_no_match(parts: list[str], text: str) -> None:
    pattern = "".join(parts)
    assert may_match(pattern, text) or re.search(pattern, text) is None
