"""The Zocalo manual (0.26), walked through as printed, on the spool."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import BIN, Site

EXAMPLES = Path(__file__).parents[2] / "examples"
Wait = Callable[..., Any]

SITE = """\
# What contrib/site-configuration.yml of python-zocalo has, for the spool.
version: 1

spool-live:
  plugin: spool
  path: live

spool-test:
  plugin: spool
  path: test

constants:
  plugin: storage
  zocalo.recipe_directory: {recipes}
  zocalo.go.fallback_location: drop
  zocalo.dlq.purge_location: DLQ

logs:
  plugin: logging
  formatters:
    plain: {{class: zwrap.context.RecipeIDFormatter, format: "%(name)s %(message)s"}}
  handlers:
    console: {{class: logging.StreamHandler, formatter: plain}}
  root: {{handlers: [console]}}
  loggers:
    zwrap: {{level: WARNING}}
  verbose:
    - loggers: {{zwrap: {{level: INFO}}}}
    - loggers: {{zwrap: {{level: DEBUG}}}}

unknown:
  plugin: a-plugin-you-dont-have

environments:
  live:
    transport: spool-live
    plugins: [constants, logs]
  test:
    transport: spool-test
    plugins: [constants, logs, unknown]
  default: live
"""


class Manual(Site):
    """A site as the manual sets it up, and a shell in a working directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        (self.recipes / "example.json").write_text(
            (EXAMPLES / "recipes" / "example.json").read_text()
        )
        self.config.write_text(SITE.format(recipes=self.recipes))
        self.spool = directory / "live"
        self.work = directory / "work"
        self.work.mkdir()

    def shell(self, line: str, status: int = 0) -> str:
        """Run a line as it is printed; its output."""
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line], cwd=self.work, env=self.environment(),
            text=True, capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == status, (line, done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def written(self) -> list[Any]:
        file = self.work / "example.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def manual(tmp_path: Path) -> Iterator[Manual]:
    made = Manual(tmp_path)
    yield made
    made.end()


def start(manual: Manual, *environment: str) -> list[subprocess.Popen[str]]:
    return [manual.service(name, *environment) for name in ("Dispatcher", "Runner", "JSONLines")]


def shut_down(manual: Manual, services: list[subprocess.Popen[str]], environment: str = "") -> None:
    for name in ("Dispatcher", "Runner", "JSONLines"):
        said = manual.shell(f"zocalo.shutdown -s {name} {environment}")
        assert said.startswith(f"Stopping all instances of {name}\n")
    for service in services:
        assert service.wait(15) == 0


@pytest.mark.parametrize("environment", ["", "-e test"])
def test_starting_up(manual: Manual, wait_until: Wait, environment: str) -> None:
    services = start(manual, *environment.split())
    said = manual.shell(f'zocalo.go -r example -s workingdir="$(pwd)" 1234 {environment}')
    assert "Running recipes ['example']\nfor data collection 1234\n\nSubmitted.\n" in said
    wait_until(lambda: len(manual.written()) == 2)
    assert (manual.work / "example.txt").read_text() == "data collection 1234\n"
    record, success = manual.written()
    assert record["file_name"] == "example.txt"
    assert success == "Finished processing"
    table = manual.shell(f"zocalo.status_monitor --once {environment}")
    for name in ("Dispatcher", "Runner", "JSONLines"):
        assert re.search(rf"{name}.*(idle|processing)", table), table
    shut_down(manual, services, environment)


def test_a_dry_run_sends_no_message(manual: Manual) -> None:
    said = manual.shell('zocalo.go -r example -s workingdir="$(pwd)" --dry-run 1234')
    assert said == (
        "Running recipes ['example']\nfor data collection 1234\n\n"
        "Not sending message (running with --dry-run)\n"
    )
    said = manual.shell("zocalo.go -r example --drop --dry-run -v 1234")
    assert f"Not storing message in {manual.directory}/drop (running with --dry-run)" in said
    assert '"ispyb_dcid": 1234' in said
    assert manual.transport().inspector().waiting("processing_recipe") == 0
    assert not (manual.directory / "drop").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-r example -p 5", "Running recipes ['example']\n\nReprocessing task submitted for ID 5."),
        ("-n -r example", "Running recipes ['example']\nwithout specified data collection.\n\nSub"),
        (
            "-f {recipe} 7",
            "Running recipe from file {recipe}\nfor data collection 7\n\nSubmitted.\n",
        ),
    ],
)
def test_what_go_prints(manual: Manual, line: str, said: str) -> None:
    recipe = str(manual.recipes / "example.json")
    assert manual.shell(f"zocalo.go {line}".format(recipe=recipe)).startswith(
        said.format(recipe=recipe)
    )


def test_requests_for_a_transport_that_is_away_are_picked_up_later(
    manual: Manual, wait_until: Wait
) -> None:
    manual.spool.write_text("in the way")
    said = manual.shell('zocalo.go -r example -s workingdir="$(pwd)" 1')
    assert "Message successfully stored in" in said
    assert "Submitted." not in said
    manual.shell('zocalo.go -r example -s workingdir="$(pwd)" --drop 2')
    manual.shell("zocalo.pickup -w 0", status=111)
    assert len(list((manual.directory / "drop").glob("*"))) == 2
    manual.spool.unlink()
    said = manual.shell("zocalo.pickup --wait 0 --delay 0")
    assert said.startswith("Found 2 files\nConnecting to SpoolTransport...\nSending ")
    assert "with recipes example\nDone (1 of 2)\n" in said
    assert list((manual.directory / "drop").iterdir()) == []
    services = start(manual)
    wait_until(lambda: len(manual.written()) == 4)
    shut_down(manual, services)
    assert manual.shell("zocalo.pickup") == "Found 0 files\n"


# -- pickup ------------------------------------------------------------------------------------


def drop(manual: Manual, name: str, content: str, age_s: float = 60) -> Path:
    file = manual.directory / "drop" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)
    os.utime(file, (time.time() - age_s, time.time() - age_s))
    return file


def request(name: str) -> str:
    headers = {"zocalo.go.host": "h"}
    return json.dumps({"headers": headers, "message": {"recipes": [name], "parameters": {}}})


def test_pickup_sends_oldest_first_and_puts_bad_files_aside(manual: Manual) -> None:
    drop(manual, "b", request("first"), 90)
    bad = [drop(manual, name, text, 80) for name, text in (("x", "{"), ("y", "[]"), ("z", ""))]
    drop(manual, "a", request("second"), 70)
    fresh = drop(manual, "n", '{"headers": {}, "mess', 0)
    said = manual.shell("zocalo.pickup -w 0 -d 0 -v", status=100)
    assert "from host h with recipes first\nDone (1 of 6)" in said
    assert '"recipes": [' in said
    bodies = manual.take("processing_recipe", 2)
    assert [body["recipes"] for body in bodies] == [["first"], ["second"]]
    aside = manual.directory / "drop" / "errors"
    for file in bad:
        assert not file.exists()
        assert (aside / file.name).exists()
        assert (aside / f"{file.name}.reason").read_text()
    assert fresh.exists(), "what may still be being written is left alone"


def test_two_pickups_never_send_a_request_twice(manual: Manual) -> None:
    for number in range(60):
        drop(manual, f"f{number}", request(str(number)))
    line = "zocalo.pickup -w 0 -d 0"
    processes = [manual.start("bash", "-c", line, cwd=manual.work) for _ in range(3)]
    for process in processes:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    bodies = manual.take("processing_recipe", 60)
    assert sorted(int(body["recipes"][0]) for body in bodies) == list(range(60))
    assert manual.transport().inspector().waiting("processing_recipe") == 0


def test_a_killed_pickup_loses_no_file_and_repeats_under_the_same_id(manual: Manual) -> None:
    for number in range(40):
        drop(manual, f"f{number}", request(str(number)))
    for _ in range(4):
        process = manual.start("zocalo.pickup", "-w", "0", "-d", "0.01", cwd=manual.work)
        time.sleep(0.5)
        process.send_signal(signal.SIGKILL)
        process.wait()
    manual.shell("zocalo.pickup -w 0 -d 0")
    transport = manual.transport()
    transport.subscribe("processing_recipe", 1000)
    seen: dict[str, str] = {}
    while delivery := transport.receive(0.2):
        name = delivery.message.body["recipes"][0]
        assert seen.setdefault(name, delivery.message.id) == delivery.message.id
    assert len(seen) == 40
    assert not [path for path in (manual.directory / "drop").rglob("*") if path.is_file()]


# -- dead letters --------------------------------------------------------------------------------


def dead(manual: Manual, *names: str) -> None:
    for name in names:
        manual.shell(f'zocalo.go -r {name} -s workingdir="$(pwd)" 1234')
    manual.shell("zocalo.service -s Dispatcher --once")


def test_dead_letters_as_printed(manual: Manual, wait_until: Wait) -> None:
    assert manual.shell("zocalo.dlq_check") == "No DLQ messages found\n"
    dead(manual, "later")
    said = manual.shell("zocalo.dlq_check", status=1)
    assert said == ("DLQ for processing_recipe contains 1 entries\nTotal of 1 DLQ messages found\n")
    table = manual.shell("zocalo.queue_monitor --once")
    assert re.search(r"processing_recipe +. +0 +. +1", table), table
    said = manual.shell(f"zocalo.dlq_purge --output-directory={manual.directory}/dlq")
    assert said.startswith("Found 1 DLQ messages in processing_recipe\n    Message ")
    assert said.endswith("\nDone.\n")
    [file] = (manual.directory / "dlq").glob("*/msg-*")
    assert f"\n  {file}\n" in said
    content = json.loads(file.read_text())
    assert set(content) == {"exported", "header", "message"}
    assert content["message"]["recipes"] == ["later"]
    assert "Unknown recipe 'later'" in content["header"]["dlq-reason"]
    assert content["header"]["original-destination"] == "/queue/processing_recipe"
    assert manual.shell("zocalo.dlq_check") == "No DLQ messages found\n"

    (manual.recipes / "later.json").write_text((manual.recipes / "example.json").read_text())
    said = manual.shell(f"zocalo.dlq_reinject {file}")
    assert said == f"Parsing message from {file}\nsent to processing_recipe\nDone.\n\n"
    assert file.exists()
    services = start(manual)
    wait_until(lambda: len(manual.written()) == 2)
    shut_down(manual, services)


@pytest.mark.parametrize("change", ["cat", "sed -E 's/^  +\\//        \\//'"])
def test_purge_piped_into_reinject(manual: Manual, change: str) -> None:
    """The second is the output of python-zocalo 1.3 and later: eight blanks before a file."""
    dead(manual, "a", "b")
    said = manual.shell(f"zocalo.dlq_purge | {change} | zocalo.dlq_reinject -r -w 0.1")
    assert said.startswith("2 filenames read from stdin\nParsing message from /")
    assert manual.transport().inspector().waiting("processing_recipe") == 2
    assert not list((manual.directory / "DLQ").glob("*/*"))


def test_a_dead_letter_put_back_is_a_new_attempt_each_time(manual: Manual) -> None:
    dead(manual, "a")
    attempts = []
    for _ in range(3):
        manual.shell("zocalo.dlq_purge > out; zocalo.dlq_reinject -r < out")
        transport = manual.transport()
        transport.subscribe("processing_recipe")
        delivery = transport.receive(1)
        assert delivery
        attempts.append((delivery.message.id, delivery.message.headers["zwrap-attempt"]))
        assert delivery.message.headers["dlq-reinjected"] == "True"
        assert delivery.message.headers["zocalo.go.user"]
        assert "dlq-reason" not in delivery.message.headers
        delivery.dead_letter("again")
        transport.close()
    assert [attempt for _, attempt in attempts] == [2, 3, 4]
    assert len({identity for identity, _ in attempts}) == 1


def test_purging_one_queue_leaves_the_others(manual: Manual) -> None:
    dead(manual, "a")
    transport = manual.transport()
    transport.subscribe("other")
    transport.send("other", "")
    delivery = transport.receive(1)
    assert delivery
    delivery.dead_letter("for a test")
    transport.close()
    said = manual.shell("zocalo.dlq_purge dlq.other --wait 0.1")
    assert said.startswith("Found 1 DLQ messages in other\n")
    assert manual.shell("zocalo.dlq_check", status=1).startswith("DLQ for processing_recipe")
    [file] = (manual.directory / "DLQ").glob("*/*")
    assert json.loads(file.read_text())["message"] == ""
    manual.shell(f"zocalo.dlq_reinject -d third {file}")
    assert manual.take("third") == [""], "an empty message is a message"


def test_purging_a_queue_that_does_not_exist_makes_none(manual: Manual) -> None:
    assert manual.shell("zocalo.dlq_purge nosuch") == "Found 0 DLQ messages in nosuch\nDone.\n"
    assert manual.transport().inspector().queues() == {}


def test_a_killed_purge_loses_no_dead_letter_and_revives_none(manual: Manual) -> None:
    transport = manual.transport()
    transport.subscribe("q")
    for number in range(200):
        transport.send("q", number)
        delivery = transport.receive(1)
        assert delivery
        delivery.dead_letter(f"reason {number}")
    transport.close()
    for _ in range(4):
        process = manual.start("zocalo.dlq_purge", cwd=manual.work)
        time.sleep(0.45)
        process.send_signal(signal.SIGKILL)
        process.wait()
    manual.shell("zocalo.dlq_purge")
    contents = [json.loads(f.read_text()) for f in (manual.directory / "DLQ").glob("*/msg-*")]
    assert sorted({content["message"] for content in contents}) == list(range(200))
    for content in contents:
        assert content["header"]["dlq-reason"] == f"reason {content['message']}"
    assert manual.transport().inspector().queues() == {"q": 0}


TAKE_ONE_AND_DIE = """
import os, signal
from zwrap.configuration.site import Configuration
from zwrap.transport.connect import connect
with connect(Configuration.from_file().activate()) as transport:
    transport.inspector().subscribe_dead_letters("processing_recipe")
    assert transport.receive(5)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_last_dead_letter_is_known_although_whoever_took_it_was_killed(manual: Manual) -> None:
    dead(manual, "a")
    died = manual.start(str(manual.bin / "python"), "-P", "-c", TAKE_ONE_AND_DIE)
    assert died.wait(30) == -signal.SIGKILL
    assert "Total of 1 DLQ messages found" in manual.shell("zocalo.dlq_check", status=1)
    assert "Found 1 DLQ messages" in manual.shell("zocalo.dlq_purge")
    assert len(list((manual.directory / "DLQ").glob("*/*"))) == 1
    assert manual.shell("zocalo.dlq_check") == "No DLQ messages found\n"


def test_what_was_never_a_message_is_exported_and_not_sent_as_it_is(manual: Manual) -> None:
    queue = manual.transport().queue("q")
    (queue.path / "incoming" / "foreign").write_bytes(b"\xff{")
    transport = manual.transport()
    transport.subscribe("q")
    assert transport.receive(0.1) is None
    transport.close()
    manual.shell("zocalo.dlq_purge")
    [file] = (manual.directory / "DLQ").glob("*/*")
    assert "holds what was never a message" in manual.shell(f"zocalo.dlq_reinject {file}", 100)


STOMP = {
    "destination": "/queue/DLQ.zocalo.q",
    "original-destination": "/queue/q",
    "message-id": "1",
}
DEATH = {"queue": "q", "exchange": "", "count": 1}


@pytest.mark.parametrize(
    ("header", "queue"),
    [
        (STOMP, "q"),
        ({"destination": "/queue/DLQ.q"}, "q"),
        ({"x-death": [DEATH], "message-id": 7, "routing_key": "dlq.q"}, "q"),
        ({"x-death": [{**DEATH, "exchange": "results"}]}, "q"),
        ({"x-death": str([DEATH])}, "q"),
    ],
)
def test_dead_letters_exported_by_the_originals(
    manual: Manual, header: dict[str, Any], queue: str
) -> None:
    file = manual.work / "msg"
    own = {
        "workflows-recipe": "True", "subscription": "1", "site": "kept",
        "x-first-death-queue": "q", "x-delivery-count": 3, **header,
    }  # fmt: skip
    file.write_text(json.dumps({"exported": {}, "header": own, "message": {"m": 1}}))
    manual.shell(f"zocalo.dlq_reinject {file}")
    transport = manual.transport()
    transport.subscribe(queue)
    delivery = transport.receive(1)
    assert delivery
    assert delivery.message.body == {"m": 1}
    headers = dict(delivery.message.headers)
    headers.pop("zwrap-id")
    assert headers == {
        "workflows-recipe": "True", "site": "kept", "dlq-reinjected": "True", "zwrap-attempt": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "msg is not valid JSON"),
        ("[]", "no object under 'header'"),
        pytest.param('{"header": {}}', "nothing under 'message'", id="no message"),
        ('{"header": {}, "message": 1}', "does not say where its message was going"),
        ('{"header": {"destination": "q"}, "message": 1}', "does not say where"),
        ('{"header": {"x-death": "[["}, "message": 1}', "does not say where"),
    ],
)
def test_a_file_that_is_no_dead_letter_is_said_and_the_others_are_sent(
    manual: Manual, content: str, complaint: str
) -> None:
    (manual.work / "msg").write_text(content)
    (manual.work / "good").write_text(json.dumps({"header": STOMP, "message": 1}))
    said = manual.shell("zocalo.dlq_reinject -r gone msg good", status=100)
    assert complaint in said
    assert "Ignoring missing file gone" in said
    assert manual.take("q") == [1]
    assert (manual.work / "msg").exists()
    assert not (manual.work / "good").exists()
    assert manual.shell("zocalo.dlq_reinject", status=1) == "No DLQ message files given.\n"


# -- queue_drain ---------------------------------------------------------------------------------


def test_draining_a_queue_into_another(manual: Manual) -> None:
    for number in range(3):
        manual.transport().send("a", number, {"h": number})
    said = manual.shell("zocalo.queue_drain a b --wait 0 --stop 0.3")
    assert said.startswith("Reading messages from a\nWriting messages to b\n\nMessage date: 20")
    assert "   1 message(s) drained in " in said
    assert re.search(r"3 message\(s\) drained, no message seen for 0\.[3-9] seconds\n$", said)
    transport = manual.transport()
    transport.subscribe("b", 10)
    for number in range(3):
        delivery = transport.receive(1)
        assert delivery
        assert (delivery.message.body, delivery.message.headers["h"]) == (number, number)
    assert transport.inspector().waiting("a") == 0


def test_draining_to_where_the_recipe_says(manual: Manual) -> None:
    manual.shell('zocalo.go -r example -s workingdir="$(pwd)" 1234')
    manual.shell("zocalo.service -s Dispatcher --once")
    manual.shell("zocalo.queue_drain runner.submission held --wait 0 --stop 0.2")
    assert manual.transport().inspector().waiting("held") == 1
    said = manual.shell("zocalo.queue_drain held . --wait 0 --stop 0.2")
    assert "Writing messages to automatically determined destinations\n" in said
    assert re.search(r"Recipe ID:    [0-9a-f-]{36}\nTarget Queue: runner.submission\n", said)
    assert manual.transport().inspector().waiting("runner.submission") == 1
    manual.transport().send("held", "plain")
    said = manual.shell("zocalo.queue_drain held . --wait 0 --stop 0.2", status=1)
    assert said.endswith("Could not determine target queue for message\n")
    assert manual.transport().inspector().waiting("held") == 1


def test_draining_tells_what_a_cluster_job_is(manual: Manual) -> None:
    node = {
        "queue": "cluster.submission",
        "parameters": {"cluster_project": "i03", "workingdir": "/d"},
    }
    body = {"recipe": {"start": [[1, []]], "1": node}, "recipe-pointer": 1, "environment": {}}
    manual.transport().send("held", body, {"workflows-recipe": True})
    said = manual.shell("zocalo.queue_drain held . --wait 0 --stop 0.2")
    assert "Target Queue: cluster.submission\nBeamline I03\nWorking directory /d\n" in said


def test_an_interrupted_drain_tells_its_counts(manual: Manual, wait_until: Wait) -> None:
    manual.transport().send("a", 1)
    process = manual.start("zocalo.queue_drain", "a", "b", "--wait", "0", cwd=manual.work)
    wait_until(lambda: manual.transport().inspector().waiting("b") == 1)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 1
    assert error.endswith("Cancelling, 1 message(s) drained, 0 message(s) unprocessed in memory\n")


# -- all of them ---------------------------------------------------------------------------------

COMMANDS = (
    "go", "wrap", "service", "shutdown", "queue_drain", "pickup", "dlq_check", "dlq_purge",
    "dlq_reinject", "queue_monitor", "status_monitor",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_the_common_options(manual: Manual, command: str) -> None:
    said = manual.shell(f"zocalo.{command} '-?'")
    assert "default, live, test" in " ".join(said.split())
    for option in (
        "--environment", "--transport", "--rabbit-host", "--rabbit-port", "--rabbit-user",
        "--rabbit-pass", "--rabbit-vhost", "--rabbit-conf", "--stomp-host", "--stomp-port",
        "--stomp-user", "--stomp-pass", "--stomp-prfx", "--stomp-conf",
    ):  # fmt: skip
        assert option in said
    assert (BIN / f"zocalo.{command}").exists()


def test_an_option_without_effect_is_said(manual: Manual) -> None:
    said = manual.shell("zocalo.dlq_check --rabbit-host mq --stomp-prfx=DLQ")
    assert "--rabbit-host has no effect: the transport is SpoolTransport" in said
    assert "--stomp-prfx has no effect" in said


def test_an_unknown_transport_or_environment_is_answered_with_the_known_ones(
    manual: Manual,
) -> None:
    assert "Unknown transport 'X'" in manual.shell("zocalo.dlq_check -t X", status=100)
    assert "Known: default, live, test" in manual.shell("zocalo.dlq_check -e liv", status=100)


def test_the_log_is_as_loud_as_asked_and_names_the_recipe(manual: Manual) -> None:
    manual.shell('zocalo.go -r example -s workingdir="$(pwd)" 1234')
    quiet = manual.shell("zocalo.service -s dispatch --once")
    assert "Starting recipe" not in quiet
    manual.shell('zocalo.go -r example -s workingdir="$(pwd)" -s guid=my-guid 1234')
    loud = manual.shell("zocalo.service -s dispatch --once -v")
    [line] = [line for line in loud.splitlines() if "Starting recipe" in line]
    assert line.endswith("[recipe my-guid]")


def test_config_show_prints_what_holds(manual: Manual) -> None:
    said = manual.shell("zwrap -e test config show")
    assert re.search(r"  path: test +# .*site.yml:10\n", said)
    assert "# storage, as test merges it:" in said


def test_sample_recipes_are_sound() -> None:
    from zwrap.recipe.graph import Recipe

    found = [Recipe.from_file(file) for file in EXAMPLES.rglob("recipes/*.json")]
    assert len(found) >= 2
