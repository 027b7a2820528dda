"""Whatever a name or a text from outside holds, each command shows it so that it cannot act."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from rich.console import Console

import zwrap
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import SUBMITTED, Attempt
from zwrap.attempt.verdict import Verdict
from zwrap.cli import common, output, wrap
from zwrap.cli.zwrap import COMMANDS
from zwrap.configuration.log_lines import PrintableFormatter
from zwrap.configuration.recipe_id import RecipeIDFormatter
from zwrap.configuration.site import Configuration
from zwrap.host.printable import INDENT
from zwrap.job import Outcome
from zwrap.message.content import STATUS_TOPIC
from zwrap.message.jsontext import encode
from zwrap.transport.connect import connect

HOSTILE = (
    "q\x1b[31m\x9b31m\n2026-01-01 00:00:00,000 ERROR zwrap: FORGED\r\u202e\u2028[bold][link=x]"
)
"""Text that acts on a terminal, begins a line of its own, and is markup of rich."""

MARKUP = "[/nope]"
SECRET = "s3cret"


def acts(text: str) -> list[str]:
    """Return the characters of a text, its ends of lines apart, that act on a terminal."""
    acting = [c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c != "\n"]
    return acting + [c for c in text if c in "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e"]


def assert_clean(text: str) -> None:
    assert acts(text) == []
    assert not re.search(r"(?m)^2026-01-01", text)
    assert SECRET not in text


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the directory of a site in which every name and text is hostile, on a terminal."""
    for name in ("recipes", "programs", "drop", "work"):
        (tmp_path / name).mkdir()
    settings = {
        "version": 1,
        "mq": {"plugin": "spool", "path": str(tmp_path / "spool")},
        "store": {
            "plugin": "storage",
            "zocalo.recipe_directory": str(tmp_path / "recipes"),
            "zocalo.go.fallback_location": str(tmp_path / "drop"),
            HOSTILE: HOSTILE,
            "url": f"postgresql://h/d?user=u&sslpassword={SECRET}",
        },
        "batch": {
            "plugin": "clusters",
            HOSTILE: {
                "kind": "slurmrest",
                "url": f"http://u:{SECRET}@127.0.0.1:1",
                "api_version": "v0.0.40",
                "environment": {"SLURM_JWT": SECRET, "MY_API_KEY": SECRET},
            },
        },
        "environments": {"default": ["mq", "store", "batch"], HOSTILE: ["mq"]},
    }
    (tmp_path / "site.yml").write_text(json.dumps(settings))
    monkeypatch.setenv("ZOCALO_CONFIG", str(tmp_path / "site.yml"))
    monkeypatch.setenv("TERM", "dumb")  # no styles, so that every ESC is one from outside
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.chdir(tmp_path / "work")
    fill(tmp_path)
    yield tmp_path
    sys.excepthook = sys.__excepthook__


def recipe() -> dict[str, object]:
    commands = {"cluster": {"commands": "true", "job_name": "n"}, "workingdir": "/tmp/x"}
    return {
        "start": [[1, []]],
        "1": {
            "service": HOSTILE + MARKUP,
            "queue": HOSTILE,
            "parameters": commands,
            "output": {HOSTILE: 2},
        },
        "2": {"wrapper": {"task_information": HOSTILE + MARKUP}, "topic": HOSTILE},
    }


def fill(directory: Path) -> None:
    """Put hostile names and texts in every place that a command shows."""
    (directory / "recipes" / f"{HOSTILE}.json").write_text(json.dumps(recipe()))
    (directory / "recipes" / "bad\x1b.json").write_text('{"start": "\x1b\\u001b"')
    names = [HOSTILE.encode(), b"plain", b"bytes\xff\x1b"]
    for name in names:
        place = os.path.join(os.fsencode(directory / "spool"), name)
        for part in (b"incoming", b"pending", b"tmp", b"errors"):
            os.makedirs(os.path.join(place, part), exist_ok=True)
        if name == names[-1]:
            continue  # which of its messages can be read is said elsewhere
        body = encode({"headers": {HOSTILE: HOSTILE}, "message": {HOSTILE: HOSTILE + "\x7f\x9b"}})
        for part in (b"incoming/0001", b"errors/0001", b"errors/0002"):
            with open(os.path.join(place, part), "wb") as file:  # noqa: PTH123
                file.write(body)
        with open(os.path.join(place, b"errors/0001.reason"), "w") as file:  # noqa: PTH123
            file.write(HOSTILE)
    (directory / "drop" / "one").write_text(
        json.dumps({"headers": {"zocalo.go.host": HOSTILE}, "message": {"recipes": [HOSTILE]}})
    )
    definition = {
        "command": ["true", HOSTILE, f"{{{MARKUP}}}"],
        "description": HOSTILE,
        "inputs": {HOSTILE + MARKUP: {"description": HOSTILE}},
        "outputs": {HOSTILE: {"file": "*", "parser": "text", "channel": HOSTILE}},
        "files": [{"pattern": "*"}, {"pattern": HOSTILE}],
        "success": {"no_text": [{"file": "*", "pattern": "FORGED"}], "no_files": [HOSTILE]},
    }
    (directory / "programs" / "odd.yaml").write_text(json.dumps(definition))
    (directory / "run").mkdir()
    (directory / "run" / HOSTILE).write_text(HOSTILE)
    configuration = Configuration.from_file().activate()
    with connect(configuration) as transport:
        status = {"host": "h\x1b", "status": 3, "service": HOSTILE + MARKUP, "statustext": MARKUP}
        transport.broadcast(STATUS_TOPIC, {**status, "recipe_ID": HOSTILE}, replaces="h")
        transport.flush()
    ledger = Ledger.of(configuration)
    for number, cluster in enumerate((HOSTILE, "gone" + MARKUP)):
        job = directory / f"job{number}"
        job.mkdir()
        attempt = Attempt(
            token=f"t{number}-1",
            recipe_id=HOSTILE,
            step=1,
            cluster=cluster,
            job_name=HOSTILE + MARKUP,
            job_id=str(number),
            job_directory=str(job),
        )
        ledger.reserve([attempt])
        ledger.record({attempt.token: {"state": SUBMITTED, "job_id": str(number)}})
    verdict = Verdict(
        token="t0-1",
        outcome=Outcome.FAILURE,
        witness=HOSTILE,
        cause=HOSTILE,
        job_id="0",
        exit_status=1,
    )
    (directory / "job0" / "verdict.json").write_bytes(encode(verdict))
    (directory / "job0" / "job.err").write_text(HOSTILE)
    ledger.close()


RECIPE_FILE = f"recipes/{HOSTILE}.json"

CASES = [
    "zwrap recipe show RECIPE",
    "zwrap recipe show --dot RECIPE",
    "zwrap recipe check RECIPE BAD",
    "zwrap recipe check -s HOSTILE=HOSTILE RECIPE",
    "zwrap check",
    "zwrap check --broker",
    "zwrap check --security",
    "zwrap config show",
    "zwrap render RECIPE",
    "zwrap exec true",
    "zwrap jobs",
    "zwrap jobs --json",
    "zwrap jobs t0",
    "zwrap jobs HOSTILE",
    "zwrap jobs --tsv",
    "zwrap events t0",
    "zwrap events t0 --json",
    "zwrap events HOSTILE",
    "zwrap jobs --columns job,name,program,user,directory,id,witness",
    "zwrap jobs --by state,cause,name,cluster,recipe",
    "zwrap jobs --by directory,program,user --tsv",
    "zwrap jobs --count --cause HOSTILE --name HOSTILE --cluster HOSTILE",
    "zwrap jobs --recipe HOSTILE --dir HOSTILE --where payload=HOSTILE --look 5",
    "zwrap jobs --state HOSTILE",
    "zwrap jobs --since HOSTILE",
    "zwrap jobs --until HOSTILE",
    "zwrap jobs --step HOSTILE",
    "zwrap jobs --program HOSTILE --user HOSTILE",
    "zwrap jobs advise",
    "zwrap ledger check",
    "zwrap ledger check --json",
    "zwrap ledger backup HOSTILE",
    "zwrap ledger upgrade --json",
    "zwrap ledger create",
    "zwrap cancel t1",
    "zwrap cancel --dry-run t0 t1 --reason HOSTILE",
    "zwrap cancel --recipe HOSTILE",
    "zwrap cancel --name *nope* --yes --expect 3",
    "zwrap resubmit --dry-run t0 t1 --again",
    "zwrap resubmit --recipe HOSTILE --yes --reason HOSTILE",
    "zwrap logs t0 -n 5",
    "zwrap logs t0 --list",
    "zwrap logs HOSTILE -f",
    "zwrap logs t0 --json",
    "zwrap consumers HOSTILE plain",
    "zwrap publish HOSTILE BAD",
    "zwrap pipe HOSTILE other --once",
    "zwrap peek plain",
    "zwrap peek HOSTILE",
    "zwrap peek --dead plain",
    "zwrap resubmit t0",
    "zwrap clusters",
    "zwrap clusters HOSTILE",
    "zwrap clusters --json",
    "zwrap purge HOSTILE --yes",
    "zwrap drain HOSTILE other",
    "zwrap process_queue --list -m HOSTILE",
    "zwrap replay HOSTILE",
    "zwrap program list",
    "zwrap program show ODD",
    "zwrap program show HOSTILE",
    "zwrap program schema ODD",
    "zwrap program test ODD RUN x=HOSTILE",
    "zwrap program test HOSTILE HOSTILE",
    "zwrap program run ODD x=HOSTILE --dry-run",
    "zwrap program run ODD x=HOSTILE --directory RUN",
    "zwrap program new HOSTILE --from RUN",
    "zwrap program new odd --from RUN",
    "zwrap program complete -- ODD x=HOSTILE",
    "zwrap program complete HOSTILE HOSTILE",
    "zocalo.go -n -f BAD",
    "zocalo.go -n -v --dry-run -f RECIPE",
    "zocalo.wrap --wrap HOSTILE --recipewrapper RECIPE",
    "zocalo.service -s HOSTILE",
    "zocalo.shutdown HOSTILE",
    "zocalo.pickup -v -w 0",
    "zocalo.queue_drain --wait 0 --stop 0.5 plain other",
    "zocalo.queue_monitor --once",
    "zocalo.status_monitor --once",
    "zocalo.configure_rabbitmq BAD",
    "zocalo.dlq_check",
    "zocalo.dlq_check --json",
    "zocalo.dlq_purge --wait 0.1",
    "zocalo.dlq_reinject -v BAD",
    "amqp-dispatcher --validate --config BAD",
]
"""Command lines that show something of the hostile site; each command is among them."""


def test_each_command_is_tried() -> None:
    scripts = {
        each.name
        for each in metadata.distribution("zwrap").entry_points
        if each.group == "console_scripts"
    }
    tried = {each.split()[0] for each in CASES}
    assert tried == scripts
    assert {each.split()[1] for each in CASES if each.startswith("zwrap ")} == set(COMMANDS)


@pytest.mark.parametrize("line", CASES)
def test_no_command_shows_raw_text_from_outside(
    line: str, site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script, *given_words = line.split()
    words = {
        "HOSTILE": HOSTILE,
        "RECIPE": str(site / RECIPE_FILE),
        "BAD": str(site / "recipes/bad\x1b.json"),
        "ODD": str(site / "programs/odd.yaml"),
        "RUN": str(site / "run"),
    }
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    ended = run(script, [words.get(each, each) for each in given_words])
    shown = capsys.readouterr()
    if "--json" not in line:
        assert_clean(shown.out)
    assert_clean(shown.err)
    assert ended in (0, 1, 2, 3, 100, 111)
    for each in shown.out.splitlines() if "--json" in line else []:
        json.loads(each)


def run(script: str, arguments: list[str]) -> object:
    """Run a command in this process, and return its exit status."""
    [entry] = metadata.entry_points(group="console_scripts", name=script)
    main = wrap.main if script == "zocalo.wrap" else entry.load()  # which takes no arguments
    try:
        return main(arguments)
    except SystemExit as ended:
        return ended.code


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("zocalo.status_monitor --once", MARKUP),
        ("zwrap recipe show RECIPE", MARKUP),
        ("zwrap jobs", MARKUP),
        ("zocalo.queue_monitor --once", "[bold][link=x]"),
        ("zwrap clusters", "http://u:(hidden)@127.0.0.1:1"),
        ("zwrap config show", "SLURM_JWT: (hidden)"),
    ],
)
def test_markup_is_shown_as_it_is(
    line: str, expected: str, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script, *words = line.split()
    assert run(script, [str(site / RECIPE_FILE) if e == "RECIPE" else e for e in words]) == 0
    assert expected in capsys.readouterr().out


# -- doors -------------------------------------------------------------------------------------

DOORS = {
    "cli/common.py", "pool/__main__.py", "pool/runner.py", "service/deadline.py",
    "workers/timelimit.py",
}  # fmt: skip
"""Modules that write to standard output or standard error; all others use theirs, or log."""

WITH_RICH = {"cli/output.py", "recipe/drawing.py"}


def _attributes(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_all_that_is_written_goes_through_the_doors() -> None:
    home = Path(zwrap.__file__).parent
    writing, rich = set(), set()
    for file in home.rglob("*.py"):
        name = str(file.relative_to(home))
        text = file.read_text()
        called = set(_attributes(ast.parse(text)))
        if called & {"print", "sys.stdout.write", "sys.stderr.write", "sys.stdout.writelines"}:
            writing.add(name)
        if re.search(r"^\s*(from|import) rich", text, re.MULTILINE):
            rich.add(name)
    assert writing == DOORS
    assert rich == WITH_RICH


ANY = st.text(st.characters(exclude_categories=()))


@given(st.lists(st.lists(ANY, min_size=2, max_size=2), max_size=3))
def test_a_table_of_any_texts_is_clean(rows: list[list[str]]) -> None:
    file = io.StringIO()
    Console(file=file, width=500).print(output.table(["a", "b"], rows))
    assert acts(file.getvalue()) == []


def test_a_text_without_end_does_not_fill_a_table() -> None:
    file = io.StringIO()
    Console(file=file, width=2000).print(output.table(["a"], [["x" * 10**6], [None]]))
    assert file.getvalue().count("x") == output.CELL_WIDTH


# -- logs --------------------------------------------------------------------------------------


def logged(log: Callable[[logging.Logger], object], formatter: logging.Formatter) -> str:
    """Return what a handler with a formatter writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PrintableFormatter(formatter))
    logger = logging.Logger("test")  # noqa: LOG001
    logger.addHandler(handler)
    log(logger)
    return stream.getvalue()


FORMATTER = RecipeIDFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


@given(ANY, ANY)
def test_a_message_is_one_line_of_the_log(text: str, recipe_id: str) -> None:
    extra = {"recipe_ID": recipe_id}
    found = logged(lambda log: log.warning("Queue %s: %s", text, text, extra=extra), FORMATTER)
    assert found.count("\n") == 1
    assert acts(found) == []


@given(ANY)
def test_a_traceback_stays_in_several_lines_of_which_none_can_be_a_record(text: str) -> None:
    def fail(log: logging.Logger) -> None:
        try:
            raise ValueError(f"{text}\n2026-01-01 00:00:00,000 ERROR zwrap: FORGED")
        except ValueError:
            log.exception("Failed")

    first, second, *others = logged(fail, FORMATTER).rstrip("\n").split("\n")
    assert first.endswith("ERROR test: Failed")
    assert second == "Traceback (most recent call last):"
    assert len(others) >= 4
    assert all(each.startswith(INDENT) for each in others)
    assert acts("\n".join(others)) == []


def test_secrets_in_the_log_are_hidden_and_colours_of_a_formatter_stay() -> None:
    colour = logging.Formatter("\x1b[31m%(message)s\x1b[0m")
    text = logged(lambda log: log.error("No reply of amqp://u:%s@h", SECRET), colour)
    assert text == "\x1b[31mNo reply of amqp://u:(hidden)@h\x1b[0m\n"


def test_every_handler_that_writes_lines_is_made_printable_once(tmp_path: Path) -> None:
    root = logging.getLogger("zwrap.test.shown")
    handler = logging.FileHandler(tmp_path / "log")
    root.addHandler(handler)
    try:
        common.make_logs_printable()
        made = handler.formatter
        common.make_logs_printable()
        assert isinstance(made, PrintableFormatter)
        assert handler.formatter is made
        root.error("a\nb\udcff")
    finally:
        root.removeHandler(handler)
        handler.close()
    assert (tmp_path / "log").read_text() == "a\\nb\\udcff\n"
