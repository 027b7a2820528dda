"""What a site file means is what is used: the transport, and what `zwrap check` says of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zwrap.cli.zwrap import main
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError
from zwrap.service.dispatcher import Dispatcher
from zwrap.service.loop import Loop
from zwrap.transport.connect import connect, default_transport
from zwrap.transport.options import TransportChoice
from zwrap.transport.spool.transport import SpoolTransport

DOCS = Path(__file__).parents[2] / "docs"

SECTIONS = """
mq: {plugin: pika, host: h, port: 1, username: u, password: s3cret, vhost: v}
active: {plugin: stomp, host: a, port: 2, username: w, password: s3cret, prefix: p}
files: {plugin: spool, path: x}
chosen: {plugin: transport, default: PikaTransport}
spooled: {plugin: transport, default: SpoolTransport}
stored: {plugin: storage, zocalo.default_transport: StompTransport}
"""


def site(groups: str) -> Configuration:
    text = f"version: 1\nenvironments:\n  default: {groups}\n  alias: default\n{SECTIONS}"
    return Configuration.from_string(text).activate()


@pytest.mark.parametrize(
    ("groups", "chosen"),
    [
        ("[mq]", "PikaTransport"),
        ("[active, stored]", "StompTransport"),
        ("[active]", "StompTransport"),
        ("[files]", "SpoolTransport"),
        ("[stored]", "StompTransport"),
        ("{transport: mq}", "PikaTransport"),
        ("{transport: active, plugins: [mq]}", "StompTransport"),
        ("{transport: chosen, plugins: [mq, active]}", "PikaTransport"),
        ("{transport: [mq, chosen]}", "PikaTransport"),
        ("{transport: mq, plugins: [spooled]}", "SpoolTransport"),
        ("{transport: files, plugins: [mq]}", "SpoolTransport"),
        ("[mq, files, spooled]", "SpoolTransport"),
    ],
)
def test_a_section_that_is_active_is_used_if_no_other_is_chosen(groups: str, chosen: str) -> None:
    assert default_transport(site(groups)) == chosen
    other = site(groups)
    other.activate(["alias"])
    assert default_transport(other) == chosen


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        ("[mq, active]", ["'mq' (plugin pika)", "'active' (plugin stomp)", "PikaTransport or St"]),
        ("[mq, files]", ["'mq' (plugin pika)", "'files' (plugin spool)", "SpoolTransport or Pika"]),
        ("{transport: [mq, active]}", ["group 'transport'", "'mq' (plugin pika)", "does not tell"]),
        ("{transport: stored, plugins: [mq, files]}", []),
    ],
)  # fmt: skip
def test_a_doubt_is_told_to_whoever_connects_and_to_no_other(
    groups: str, told: list[str], capsys: pytest.CaptureFixture[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    configuration = site(groups)
    if not told:
        assert default_transport(configuration) == "StompTransport"
        return
    for choice in (None, TransportChoice("")):
        with pytest.raises(ConfigurationError) as caught:
            connect(configuration, choice)
        assert all(part in str(caught.value) for part in told), caught.value
    file = tmp_path / "site.yml"
    file.write_text(f"version: 1\nenvironments: {{default: {groups}}}\n{SECTIONS}")
    monkeypatch.setenv("ZOCALO_CONFIG", str(file))
    assert main(["config", "show"]) == 0
    (tmp_path / "one.json").write_text("1")
    capsys.readouterr()
    assert main(["publish", "q", str(tmp_path / "one.json")]) == 100
    assert told[0] in capsys.readouterr().err
    assert main(["-t", "SpoolTransport", "peek", "q"]) == 100
    assert "Unknown queue" in capsys.readouterr().err


# -- zwrap check -------------------------------------------------------------------------------


def checked(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> tuple[int, str, str]:  # fmt: skip
    file = tmp_path / "site.yml"
    file.write_text(text)
    monkeypatch.setenv("ZOCALO_CONFIG", str(file))
    status = main(["check"])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_check_shows_where_everything_is_in_one_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def block(groups: str) -> list[str]:
        more = "batch: {plugin: clusters, prod: {kind: local}}\n"
        more += "pg: {plugin: ledger, url: 'postgresql://me:s3cret@db/zw'}\n"
        text = f"version: 1\nenvironments: {{default: {groups}}}\n{SECTIONS}{more}"
        _, out, err = checked(text, tmp_path, monkeypatch, capsys)
        assert "s3cret" not in out + err
        lines = out.splitlines()
        assert lines[0] == f"configuration: {tmp_path}/site.yml"
        assert lines[1] == "environments: default (active: default)"
        return lines[2:7]

    ledger = f"ledger: {tmp_path}/state/ledger.sqlite"
    assert block("[mq, batch]") == [
        "transport: PikaTransport, h:1", "login: user 'u'", "queues: vhost 'v'", ledger,
        "clusters: prod; default: prod",
    ]  # fmt: skip
    assert block("[active]")[:3] == [
        "transport: StompTransport, a:2", "login: user 'w'", "queues: names begin with 'p.'",
    ]  # fmt: skip
    place = f"{tmp_path}/x"
    assert block("[files]")[:3] == [
        f"transport: SpoolTransport, {place}", "login: none, files belong to this user",
        f"queues: directories below {place}",
    ]  # fmt: skip


def test_check_tells_all_faults_of_a_site_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """
version: 1
environments: {default: [mq, active, st, mail, batch]}
mq: {plugin: pika, host: h, port: 1}
active: {plugin: stomp, host: a, port: 2, username: w, password: p, prefix: 7}
st: {plugin: storage, zocalo.recipe_directory: 8}
mail: {plugin: smtp, host: h, port: many}
batch: {plugin: clusters, prod: {kind: nosuch}}
"""
    status, out, err = checked(text, tmp_path, monkeypatch, capsys)
    assert status == 100
    for part in (
        "Several sections say where messages go", "'username', which plugin 'pika'",
        "'password', which plugin 'pika'", "'active.prefix': a text", "'mail.port': a whole number",
        "zocalo.recipe_directory' is 8", "Unknown kind of cluster 'nosuch'",
    ):  # fmt: skip
        assert err.count(part) == 1, (part, err)
    assert "good: template local.sh.j2" in out, "what comes after a fault is checked, too"


def test_check_tells_faults_that_keep_sections_from_being_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """
version: 1
environments: {default: [gone, log]}
gone: nowhere.yml
log: {plugin: logging, verbose: 7}
mail: {plugin: smtp, host: h, port: many}
"""
    status, _, err = checked(text, tmp_path, monkeypatch, capsys)
    assert status == 100
    for part in ("nowhere.yml cannot be read", "'log.verbose' must be a list", "'mail.port'"):
        assert err.count(part) == 1, (part, err)


def test_a_broker_that_is_not_used_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    head = "version: 1\nenvironments: {default: %s}\n"
    told = checked(head % "[mq, spooled]" + SECTIONS, tmp_path, monkeypatch, capsys)[1]
    assert f"transport: SpoolTransport, {tmp_path}/state/spool\n" in told
    assert "warning: a section of plugin 'pika' is active, but messages go to the spool" in told
    told = checked(head % "[mq, chosen]" + SECTIONS, tmp_path, monkeypatch, capsys)[1]
    assert "warning" not in told


def test_an_address_of_rabbitmq_in_the_environment_that_is_not_used_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RABBITMQ_URL", "amqp://u:p@mq.site.org:2/v")
    head = "version: 1\nenvironments: {default: %s}\n"
    told = checked(head % "[spooled]" + SECTIONS, tmp_path, monkeypatch, capsys)[1]
    assert "warning: RABBITMQ_URL is set, but messages go over SpoolTransport: the" in told
    told = checked(head % "[mq]" + SECTIONS, tmp_path, monkeypatch, capsys)[1]
    assert "transport: PikaTransport, mq.site.org:2\n" in told
    assert "RABBITMQ_URL is set" not in told


def test_the_log_of_a_service_begins_with_where_its_messages_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with SpoolTransport(tmp_path / "spool") as transport, caplog.at_level("INFO"):
        Loop(Dispatcher(Configuration(), transport), transport, once=True).run()
    told = f"Dispatcher reads queue processing_recipe of spool {tmp_path}/spool"
    assert caplog.messages[0] == told


# -- the forms in the documentation ------------------------------------------------------------


def forms() -> list[tuple[str, str]]:
    """Return the page and the text of each part of a site file in the documentation."""
    return [
        (page.name, text)
        for page in sorted(DOCS.glob("*.md"))
        for text in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
        if "plugin:" in text
    ]


def test_pages_show_site_files() -> None:
    pages = {page for page, _ in forms()}
    assert {"brokers.md", "site.md", "security.md", "workers.md"} <= pages


@pytest.mark.parametrize(("page", "text"), forms())
def test_each_form_in_the_documentation_loads_and_is_used(page: str, text: str) -> None:
    whole = "version:" in text
    configuration = Configuration.from_string(text if whole else f"version: 1\n{text}")
    lines = list(configuration.check())
    assert not [line for line in lines if line.startswith("warning")], (page, lines)
    described = re.findall("plugin: (pika|stomp)", text)
    if whole and described:
        meant = {"pika": "PikaTransport", "stomp": "StompTransport"}[described[0]]
        assert default_transport(configuration.activate()) == meant
