"""Tools take what the site's section of limits takes; a bad job keeps no other from its tool."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from zwrap_schedulers.slurm.token import read_token

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import SUBMITTED, Attempt
from zwrap.cli import amqp_dispatcher, configure_rabbitmq, dlq_reinject, go
from zwrap.cli.zwrap import main
from zwrap.configuration.site import Configuration
from zwrap.errors import PERMANENT, PermanentError, UnreachableError
from zwrap.host.given import read_given
from zwrap.message.jsontext import encode
from zwrap.service.dispatcher import Dispatcher
from zwrap.service.loop import Loop
from zwrap.transport.connect import connect
from zwrap.transport.failures import NoPermissionError
from zwrap.transport.rabbitmq.management.wanted import users_from
from zwrap.transport.spool.transport import SpoolTransport

LONG = "é" * 115
"""Name of a queue that the default limits refuse, and the site's do not."""

STEP = {
    "queue": LONG,
    "parameters": {"workingdir": "/tmp/x", "cluster": {"commands": "true", "job_name": "n"}},
}
RECIPE = {"start": [[1, []], [2, []]], "1": STEP, "2": {"queue": "q"}}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    sections = {
        "version": 1,
        "mq": {"plugin": "spool", "path": str(tmp_path / "spool")},
        "store": {"plugin": "storage", "zocalo.recipe_directory": str(tmp_path / "recipes"),
                  "zocalo.go.fallback_location": str(tmp_path / "drop")},
        "sizes": {"plugin": "limits", "name_bytes": 250, "nodes": 4},
        "environments": {"default": ["mq", "store", "sizes"]},
    }  # fmt: skip
    (tmp_path / "site.yml").write_text(json.dumps(sections))
    monkeypatch.setenv("ZOCALO_CONFIG", str(tmp_path / "site.yml"))
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "good.json").write_text(json.dumps(RECIPE))
    more = {str(number): {"queue": "q"} for number in range(2, 8)}
    (tmp_path / "recipes" / "large.json").write_text(
        json.dumps({**RECIPE, **more, "start": [[n, []] for n in range(1, 8)]})
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def replayed(recipe: Path) -> list[str]:
    """Return the command line that replays a run of the first step of a recipe."""
    body = {"recipe": json.loads(recipe.read_text()), "recipe-pointer": 1, "recipe-path": []}
    body["recipe"]["1"]["job_parameters"] = {"command": "true"}
    (file := recipe.with_suffix(".step")).write_text(json.dumps(body))
    wrapped = ["--recipewrapper", str(file), "--wrap", "command"]
    return ["replay", str(recipe.parent), *wrapped, "--dry-run"]


TOOLS = {
    "show": lambda recipe: ["recipe", "show", str(recipe)],
    "check": lambda recipe: ["recipe", "check", str(recipe)],
    "render": lambda recipe: ["render", str(recipe)],
    "replay": replayed,
    "go": lambda recipe: ["-n", "--dry-run", "-f", str(recipe)],
}


@pytest.mark.parametrize("tool", TOOLS)
def test_each_tool_has_the_limits_of_the_site(
    tool: str, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = go.main if tool == "go" else main
    for name in ("good", "large"):
        ended = command(TOOLS[tool](site / "recipes" / f"{name}.json"))
        told = capsys.readouterr()
        assert ("'nodes'" in told.err) == (name == "large"), told
        assert "'name_bytes'" not in told.err
        assert (ended == 0) == (name == "good"), told


def test_a_request_for_two_recipes_has_the_limits_of_the_site(site: Path) -> None:
    configuration = Configuration.from_file().activate()
    with connect(configuration) as transport:
        transport.send("processing_recipe", {"recipes": ["good", "good"], "parameters": {}})
        Loop(Dispatcher(configuration, transport), transport, once=True).run()
        assert transport.inspector().waiting(LONG) == 2


# -- resubmission ----------------------------------------------------------------------------------


def job(site: Path, name: str, submission: object = None) -> None:
    """Write a job that has ended into the ledger."""
    place = site / name
    place.mkdir()
    header = {"zwrap-id": name, "original-destination": "/queue/cluster.submission"}
    content: Any = {"header": header, "message": {"recipe": RECIPE, "recipe-pointer": 1}}
    if submission is not None:
        content = submission
    if isinstance(content, bytes):
        (place / "submission.json").write_bytes(content)
    else:
        (place / "submission.json").write_bytes(encode(content))
    ledger = Ledger.of(Configuration.from_file().activate())
    attempt = Attempt(
        token=f"{name}-1", recipe_id="r", step=1, cluster="local", job_name=name, job_id=name,
        job_directory=str(place),
    )  # fmt: skip
    ledger.reserve([attempt])
    ledger.record({attempt.token: {"state": SUBMITTED, "job_id": name, "seen_state": "failed",
                                   "outcome": "failure"}})  # fmt: skip
    ledger.close()


LARGE = {str(number): {"queue": "q"} for number in range(2, 8)}
HOSTILE: dict[str, object] = {
    "no JSON": b"x",
    "empty": b"",
    "deep": b"[" * 100_000,
    "a list": [],
    "no message": {"header": {}},
    "no header": {"message": {}},
    "no recipe": {"header": {}, "message": 1},
    "too large": {"header": {}, "message": {"recipe": {**RECIPE, **LARGE}, "recipe-pointer": 1}},
    "attempt": {"header": {"zwrap-attempt": 10**30}, "message": {"recipe": RECIPE,
                                                                 "recipe-pointer": 1}},
    "nowhere": {"header": {}, "message": {"recipe": RECIPE, "recipe-pointer": 1}},
}  # fmt: skip


@pytest.mark.parametrize("kind", [*HOSTILE, "FIFO", "gone", "unknown name"])
def test_a_job_that_cannot_be_resubmitted_keeps_no_other_from_it(
    kind: str, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job(site, "first")
    if kind != "unknown name":
        job(site, "bad", HOSTILE.get(kind))
    job(site, "last")
    file = site / "bad" / "submission.json"
    if kind in ("FIFO", "gone"):
        file.unlink()
    if kind == "FIFO":
        os.mkfifo(file)
    assert main(["resubmit", "first", "bad", "last"]) == 100
    told = capsys.readouterr()
    assert [line.split()[0] for line in told.out.splitlines()] == ["first", "last"]
    [sentence] = told.err.splitlines()
    assert "bad is not sent: " in sentence
    with connect(Configuration.from_file().activate()) as transport:
        assert transport.inspector().waiting("cluster.submission") == 2


# -- requests that cannot be sent ------------------------------------------------------------------


@pytest.mark.parametrize("stored", [True, False], ids=["drop directory", "none"])
def test_a_request_for_which_a_permission_is_missing_is_stored_or_told(
    stored: bool, site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NoPermissionError("ActiveMQ: user 'x' is not allowed to write there.")

    monkeypatch.setattr(SpoolTransport, "send", refuse)
    if not stored:
        text = (site / "site.yml").read_text()
        (site / "site.yml").write_text(text.replace("zocalo.go.fallback_location", "elsewhere"))
    ended = go.main(["-n", "-r", "good"])
    told = capsys.readouterr()
    [sentence] = told.err.splitlines()
    assert "user 'x' is not allowed to write there." in sentence
    assert ended == (0 if stored else 100)
    assert len(list((site / "drop").glob("*"))) == stored


@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    words=st.lists(
        st.one_of(
            st.sampled_from(
                ["-n", "-p", "-r", "-s", "-f", "-a", "-v", "--drop", "a=b", "=", "1", "-1", "0",
                 "9" * 5000, "²", "\udcff", "\x1b[31m", "x\ny", "/dev/zero", "/dev/null", "/",
                 "-s=x", "x" * 300, "recipes/good.json", "recipes/large.json", "--",
                 "--set=a=\udc80"]
            ),
            st.text(max_size=8).filter(lambda text: "\0" not in text),
        ),
        max_size=6,
    )
)  # fmt: skip
def test_no_arguments_of_go_end_in_a_traceback(words: list[str], site: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            ended: object = go.main(["--dry-run", *words])
        except SystemExit as left:
            ended = left.code
    assert ended in (0, 1, 2, 100, 111), err.getvalue()
    assert "Traceback" not in err.getvalue()
    for text in (out.getvalue(), err.getvalue()):
        assert "\x1b" not in text
        text.encode()


@pytest.mark.parametrize("given", ["9" * 5000, "9" * 19, "0", "²", "\x1b[31m5", "5.0", "-0"])
def test_go_refuses_what_is_no_data_collection_id(
    given: str, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert site.is_dir()
    assert go.main(["-r", "good", "--", given]) == 1
    error = capsys.readouterr().err
    assert "is not a data collection ID: a whole number above 0, of up to 18 digits" in error
    assert len(error) < 300
    assert "\x1b" not in error


@pytest.mark.parametrize(
    "error", [KeyError("getpwuid(): uid not found: 7"), OSError("No username")]
)
def test_a_user_without_a_name_is_known_by_the_number(
    error: Exception, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers run as users of whom they do not know; Python 3.13 raises the OSError."""

    def unknown() -> str:
        raise error

    monkeypatch.setattr("getpass.getuser", unknown)
    assert go.main(["-n", "-r", "good"]) == 0
    (file,) = (site / "spool" / "processing_recipe" / "incoming").iterdir()
    assert json.loads(file.read_text())["headers"]["zocalo.go.user"] == str(os.getuid())


@pytest.mark.parametrize("command", [["go", "-n", "-f"], ["render"], ["recipe", "check"]])
def test_a_recipe_without_an_end_is_refused(
    command: list[str], site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "endless").symlink_to("/dev/zero")
    words = [*command, "endless"]
    ended = go.main(words[1:]) if words[0] == "go" else main(words)
    assert ended
    assert "endless has more than 33554432 bytes" in "".join(capsys.readouterr())


@pytest.mark.parametrize("command", [["go", "-n", "--dry-run", "-f"], ["render"]])
def test_a_recipe_comes_through_a_pipe(command: list[str], site: Path) -> None:
    """Shells name one for ``<(...)``; it can be read once."""
    reader, writer = os.pipe()
    os.write(writer, (site / "recipes" / "good.json").read_bytes())
    os.close(writer)
    words = [*command, f"/dev/fd/{reader}"]
    try:
        assert (go.main(words[1:]) if words[0] == "go" else main(words)) == 0
    finally:
        os.close(reader)


@pytest.mark.parametrize("more", [[], ["--lines"]])
@pytest.mark.parametrize("piped", [False, True])
def test_a_message_without_an_end_is_refused(
    more: list[str],
    *,
    piped: bool,
    site: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (site / "endless").symlink_to("/dev/zero")
    key, limit = ("sent_bytes", 256 << 20) if more else ("body_bytes", 32 << 20)
    with Path("/dev/zero").open() as zero:
        monkeypatch.setattr("sys.stdin", zero)
        assert main(["publish", *more, "q", "-" if piped else "endless"]) == PERMANENT
    name = "standard input" if piped else "endless"
    said = capsys.readouterr().err
    assert f"{name} has more than the {limit} bytes that" in said
    assert said.endswith(f"(section limits, key '{key}').\n")


def test_a_line_that_is_no_message_for_a_service_keeps_all_lines_from_being_sent(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "many").write_bytes(b'1\n\n"%s"\n' % (b"x" * (32 << 20)))
    assert main(["publish", "--lines", "q", "many"]) == PERMANENT
    assert "The line 3 of many has 33554434 bytes" in capsys.readouterr().err
    (site / "many").write_bytes(b'1\n\n{"a": 2}\n')
    assert main(["publish", "--lines", "q", "many"]) == 0
    with connect(Configuration.from_file().activate()) as transport:
        assert transport.inspector().queues()["q"] == 2


def test_a_message_is_asked_for_where_standard_input_is_closed(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert main(["publish", "q"]) == PERMANENT
    assert "There is no standard input" in capsys.readouterr().err


def test_names_without_an_end_are_refused_by_reinject(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/zero").open() as zero:
        monkeypatch.setattr("sys.stdin", zero)
        assert dlq_reinject.main([]) == PERMANENT
    assert "standard input has more than 67108864 bytes" in capsys.readouterr().err


def test_an_exported_dead_letter_that_is_larger_than_any_is_not_read(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (site / "huge").open("wb") as file:
        file.truncate(10 << 30)
    assert dlq_reinject.main(["huge"]) == PERMANENT
    assert "huge has 10737418240 bytes; at most 2147483648" in capsys.readouterr().err


def test_settings_without_an_end_are_refused(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "endless").symlink_to("/dev/zero")
    (site / "endless.ini").symlink_to("/dev/zero")
    refusal = "has more than 33554432 bytes"
    conf = ["-t", "PikaTransport", "--rabbit-conf", "endless"]
    commands = [
        lambda: main([*conf, "publish", "q", "recipes/good.json"]),
        lambda: configure_rabbitmq.main(["endless"]),
        lambda: amqp_dispatcher.main(["--validate", "--config", "endless"]),
        lambda: main(["check"]),
    ]
    for number, command in enumerate(commands):
        if number == len(commands) - 1:
            monkeypatch.setenv("ZOCALO_CONFIG", str(site / "endless"))
        assert command() == PERMANENT
        assert refusal in capsys.readouterr().err
    with pytest.raises(PermanentError, match=refusal):
        users_from(site)
    with pytest.raises(UnreachableError, match="is not a valid token"):
        read_token(str(site / "endless"), "The token")
    with pytest.raises(PermanentError, match="has more than"):
        read_given(site / "endless", 10)


@pytest.mark.parametrize(
    ("header", "attempt"), [({}, 1), ({"zwrap-attempt": 3}, 3), ({"zwrap-attempt": 10**30}, None)]
)
def test_peek_tells_the_attempt_and_how_often_the_message_was_handed_out(
    header: dict[str, object],
    attempt: int | None,
    site: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with connect(Configuration.from_file().activate()) as transport:
        transport.send("q", 1, header)
        transport.subscribe("q")
        delivery = transport.receive(1)
        assert delivery
        delivery.retry(counted=True)
    assert main(["peek", "q"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["attempt"], shown["delivery_count"]) == (attempt, 2)


# -- what a recipe leaves open ---------------------------------------------------------------------

OPEN = {
    "start": [[1, []]],
    "1": {"queue": "q", "a": "{text}", "b": "{$REPLACE:ispyb_dc_info[x]}", "c": "{guid}"},
}


@pytest.mark.parametrize("how", ["-r", "-f"])
def test_go_tells_which_placeholders_get_no_value(
    how: str, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = site / "recipes" / "open.json"
    file.write_text(json.dumps(OPEN))
    recipe = ["-r", "open"] if how == "-r" else ["-f", str(file)]
    for words, missing in (
        (["-n"], ["{text}", "{$REPLACE:ispyb_dc_info[x]}"]),
        (["7"], ["{text}"]),  # with an ID, a filter of the Dispatcher knows the rest
        (["7", "-s", "text=1"], []),
    ):
        assert go.main([*recipe, *words]) == 0
        told = capsys.readouterr().err
        assert [
            each for each in ("{text}", "{$REPLACE:ispyb_dc_info[x]}") if each in told
        ] == missing
        assert told.count("no parameter gives a value to") == bool(missing)
        assert "{guid}" not in told


def test_a_recipe_that_go_cannot_read_is_left_to_the_dispatcher(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "recipes" / "broken.json").write_text("{")
    os.mkfifo(site / "recipes" / "pipe.json")
    for name in ("broken", "absent", "pipe", "x" * 300):
        assert go.main(["-n", "-r", name]) == 0
        assert capsys.readouterr().err == ""


def test_recipe_check_fills_in_and_tells_what_stays_open(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "open.json").write_text(json.dumps(OPEN))
    assert main(["recipe", "check", "open.json"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["recipe", "check", "-s", "text=1", "open.json"]) == 0
    told = capsys.readouterr().err
    assert "Recipe open.json: no parameter gives a value to {$REPLACE:ispyb_dc_info[x]};" in told
    assert "{text}" not in told


def test_recipe_check_looks_at_what_the_parameters_make_of_a_recipe(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "odd.json").write_text(json.dumps({"start": [[1, []]], "1": {"queue": "{place}"}}))
    assert main(["recipe", "check", "-s", "place=zwrap.verdict", "odd.json"]) == 100
    assert "'zwrap.verdict', which is zwrap's own" in capsys.readouterr().err


def test_recipe_check_refuses_a_key_that_is_there_twice(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = '{"start": [[1, 0]], "1": {"queue": "a"}, "1": {"queue": "b"}}'
    (site / "recipes" / "twice.json").write_text(text)
    assert main(["recipe", "check", "recipes/twice.json"]) == 100
    assert "Recipe recipes/twice.json: key '1' is there more than once" in capsys.readouterr().err
    assert main(["check"]) == 100
    assert "twice.json: key '1' is there more than once" in capsys.readouterr().err
    assert go.main(["-n", "-f", "recipes/twice.json"]) == 0
    assert "key '1' is there more than once" in capsys.readouterr().err


def test_render_tells_what_stays_open(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parameters = {"workingdir": str(site), "cluster": {"commands": "echo {text}", "job_name": "n"}}
    step = {"queue": "q", "parameters": parameters}
    (site / "step.json").write_text(json.dumps({"start": [[1, []]], "1": step}))
    assert main(["render", "step.json"]) == 0
    assert "step.json: no parameter gives a value to {text};" in capsys.readouterr().err
    assert main(["render", "step.json", "-s", "text=1"]) == 0
    assert "no parameter" not in capsys.readouterr().err
