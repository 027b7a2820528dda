"""A site may restrict who tells services to end: to those who can read its key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zwrap.cli import shutdown
from zwrap.configuration.key import site_key
from zwrap.configuration.site import Configuration
from zwrap.host.sitekey import SiteKey
from zwrap.message.content import Message
from zwrap.service.commands import SIGNED_AT_HEADER, VALID_S, Commands, signed_headers
from zwrap.service.contract import Service
from zwrap.service.loop import Loop
from zwrap.transport.connect import connect
from zwrap.transport.memory import MemoryTransport

COMMAND = {"command": "shutdown", "service": "Service"}


def configuration(**keys: Any) -> Configuration:
    text = {"version": 1, "s": {"plugin": "security", **keys}}
    text["environments"] = {"default": ["s"]}
    return Configuration.from_string(json.dumps(text)).activate()


@pytest.fixture
def key(tmp_path: Path) -> SiteKey:
    made = site_key(configuration(key_file=str(tmp_path / "key")))
    made.sign("made")
    return made


def restricted(tmp_path: Path) -> Configuration:
    return configuration(key_file=str(tmp_path / "key"), signed_commands=True)


def refusal(commands: Commands, body: Any, headers: dict[str, Any]) -> str:
    return commands.refusal(Message(body, headers, "m"))


def test_by_default_anybody_may_tell_services_to_end(tmp_path: Path) -> None:
    assert refusal(Commands(configuration()), COMMAND, {}) == ""
    assert not (tmp_path / "state" / "site.key").exists(), "nobody needs a key for that"


def test_a_restricted_service_obeys_who_has_the_key(tmp_path: Path, key: SiteKey) -> None:
    headers = signed_headers(COMMAND, key)
    at_s = int(str(headers[SIGNED_AT_HEADER])) / 1000
    commands = Commands(restricted(tmp_path), lambda: at_s - 1)
    assert refusal(commands, COMMAND, headers) == ""
    for forged in (
        {}, {**headers, "zwrap-signature": "0" * 64}, {**headers, "zwrap-signature": None},
        {**headers, SIGNED_AT_HEADER: "0"}, {**headers, SIGNED_AT_HEADER: None},
        signed_headers(COMMAND, SiteKey(tmp_path / "other")),
    ):  # fmt: skip
        assert "not signed with the key of the site" in refusal(commands, COMMAND, forged)
    other = {"command": "shutdown", "service": "Another"}
    assert "not signed" in refusal(commands, other, headers)


def test_a_signed_command_cannot_be_used_again(tmp_path: Path, key: SiteKey) -> None:
    """Everybody hears it; neither a later service nor a later time obeys it."""
    headers = signed_headers(COMMAND, key)
    at_s = int(str(headers[SIGNED_AT_HEADER])) / 1000
    clock = [at_s - 100]
    running = Commands(restricted(tmp_path), lambda: clock[0])
    clock[0] = at_s + 1
    started_again = Commands(restricted(tmp_path), lambda: clock[0])
    assert refusal(running, COMMAND, headers) == ""
    assert "before this service began" in refusal(started_again, COMMAND, headers)
    clock[0] = at_s + VALID_S + 1
    assert "more than a minute ago" in refusal(running, COMMAND, headers)


def test_a_restricted_service_without_a_key_obeys_nobody_and_says_why(tmp_path: Path) -> None:
    lost = configuration(key_file=str(tmp_path / "none" / "key"), signed_commands=True)
    headers = signed_headers(COMMAND, SiteKey(tmp_path / "other"))
    assert "cannot be read" in refusal(Commands(lost), COMMAND, headers)


def test_the_loop_tells_what_it_does_not_obey(
    tmp_path: Path, key: SiteKey, caplog: pytest.LogCaptureFixture
) -> None:
    transport = MemoryTransport()
    loop = Loop(Service(restricted(tmp_path), transport), transport)
    for _ in range(3):
        loop._command(Message(COMMAND, {}, "m"))
    assert not loop._stop.is_set()
    told = [each for each in caplog.messages if "A command to shut down is not obeyed" in each]
    assert len(told) == 1
    loop._command(Message(COMMAND, signed_headers(COMMAND, key), "m"))
    assert loop._stop.is_set()


@pytest.mark.parametrize("has_key", [True, False])
def test_the_command_line_signs_if_it_can_and_makes_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_key: bool
) -> None:
    monkeypatch.setenv("ZWRAP_SPOOL", str(tmp_path / "spool"))
    if has_key:
        site_key(Configuration()).sign("made")
    commands = Commands(Configuration())
    with connect(Configuration()) as heard:
        heard.subscribe_topic("command")
        assert shutdown.main(["-s", "Service"]) == 0
        delivery = heard.receive(5)
    assert delivery
    assert delivery.message.body == COMMAND
    assert ("zwrap-signature" in delivery.message.headers) is has_key
    assert commands.refusal(delivery.message) == ""
    assert (tmp_path / "state" / "site.key").exists() is has_key


def test_an_order_that_nobody_would_obey_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZWRAP_SPOOL", str(tmp_path / "spool"))
    file = tmp_path / "site.yml"
    file.write_text(
        "version: 1\np: {plugin: security, signed_commands: true, key_file: gone}\n"
        "environments: {default: [p]}\n"
    )
    monkeypatch.setenv("ZOCALO_CONFIG", str(file))
    assert shutdown.main(["-s", "Service"]) == 100
    said = capsys.readouterr()
    assert "Stopping" not in said.out
    assert f"The key of the site, {tmp_path}/gone, cannot be read" in said.err
