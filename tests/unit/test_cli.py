"""Rules of the command line of `zwrap`: its options, and which command is meant."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import pytest

from zwrap import units
from zwrap.cli import common
from zwrap.cli.zwrap import COMMANDS, main
from zwrap.configuration.site import Configuration
from zwrap.errors import RequestError
from zwrap.transport.connect import connect
from zwrap.transport.options import BrokerOptions, TransportChoice

RECIPE = {"start": [[1, []]], "1": {"queue": "somewhere", "parameters": {}}}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a recipe file at a site whose environments are called like commands."""
    names = ", ".join(f"{name}: [store]" for name in COMMANDS)
    site = f"version: 1\nstore: {{plugin: storage}}\nenvironments: {{{names}}}\n"
    (tmp_path / "site.yml").write_text(site)
    monkeypatch.setenv("ZOCALO_CONFIG", str(tmp_path / "site.yml"))
    file = tmp_path / "r.json"
    file.write_text(json.dumps(RECIPE))
    return str(file)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    "before",
    [["-e", "{}"], ["--environment", "{}"], ["-t", "{}"], ["--rabbit-user", "{}"], ["-e{}"]],
)
def test_the_value_of_an_option_may_be_called_like_a_command(
    recipe: str, before: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [each.format(name) for each in before]
    assert main([*options, "recipe", "show", recipe]) == 0
    assert "somewhere" in capsys.readouterr().out


def test_options_behind_a_command_are_that_command_s(recipe: str) -> None:
    assert main(["exec", "sh", "-c", "test $0 = -e", "-e", "nowhere"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["Q", "--expires", "60", "-"], ["--expires", "60", "Q", "-"], ["Q", "-", "--expires", "60"],
        ["Q", "--expires", "60"], ["--expires", "60", "Q"],
    ],
)  # fmt: skip
def test_options_of_publish_may_stand_anywhere(
    arguments: list[str], recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"a": 1}')))
    assert main(["publish", *arguments]) == 0
    with connect(Configuration.from_file().activate()) as transport:
        assert transport.inspector().queues()["Q"] == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_tells_how_it_is_used(
    command: str, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"zwrap {command}" in capsys.readouterr().out


def options(*arguments: str) -> argparse.Namespace:
    configuration = Configuration()
    parser = argparse.ArgumentParser()
    common.add_common_options(parser, configuration)
    return common.parsed(parser, arguments, configuration)


def test_options_for_the_chosen_broker_are_handed_on_and_others_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = options(
        "-t", "PikaTransport", "--rabbit-host", "h", "--rabbit-pass", "p", "--rabbit-conf", "c",
        "--stomp-prfx", "x",
    )  # fmt: skip
    broker = BrokerOptions(host="h", password="p", conf="c")
    assert given.transport == TransportChoice("PikaTransport", broker)
    assert "--stomp-prfx has no effect: the transport is PikaTransport" in capsys.readouterr().err
    again = options(*common.transport_arguments(given.transport))
    assert again.transport == given.transport
    given = options("--rabbit-host", "h")
    assert given.transport == TransportChoice("SpoolTransport")
    assert "the transport is SpoolTransport" in capsys.readouterr().err


def test_connect_hands_the_options_to_a_transport_only_if_there_are_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[object, ...]] = []

    class Theirs:
        @classmethod
        def from_configuration(cls, *given: object) -> None:
            seen.append(given)

    monkeypatch.setattr("zwrap.plugins.registry.find", lambda group, name: Theirs)
    configuration = Configuration()
    connect(configuration, "Theirs")
    connect(configuration, TransportChoice("Theirs"))
    connect(configuration, TransportChoice("Theirs", BrokerOptions(host="h")))
    assert seen == [(configuration,), (configuration,), (configuration, BrokerOptions(host="h"))]


def test_a_key_and_its_value() -> None:
    assert units.key_value("k=v=w", "-s") == ("k", "v=w")
    assert units.key_value("k=", "-s") == ("k", "")
    for wrong in ("k", "=v", ""):
        with pytest.raises(RequestError, match=r"-s '.*' is not usable; KEY=VALUE is expected"):
            units.key_value(wrong, "-s")
