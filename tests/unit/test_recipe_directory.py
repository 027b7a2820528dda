"""Names of recipes: what a request may name, what is refused, and who agrees on it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from zwrap.cli import check
from zwrap.cli.openparameters import tell_oddities
from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, RecipeError, UnknownNameError
from zwrap.message.limits import DEFAULTS
from zwrap.recipe import directory
from zwrap.recipe.directory import named_recipe, names
from zwrap.service.dispatcher import Dispatcher
from zwrap.service.loop import handle_delivery
from zwrap.transport.memory import MemoryTransport

RECIPE = {"start": [[1, []]], "1": {"queue": "first", "a": "{text}"}}


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """Return a recipe directory with recipes that have names, and files that have none."""
    directory = tmp_path / "recipes"
    for name in (
        "top", "mx/xia2", "mx/v2.1/xia2", "odd names/x", ".git/x", "mx/.hidden", "target/real",
    ):  # fmt: skip
        file = directory / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(RECIPE))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.json").write_text(json.dumps(RECIPE))
    (directory / "away").symlink_to(outside)
    (directory / "mx" / "linked.json").symlink_to(outside / "x.json")
    (directory / "latest.json").symlink_to("target/real.json")
    return directory


@pytest.mark.parametrize("name", ["top", "mx/xia2", "mx/v2.1/xia2", "latest"])
def test_a_recipe_has_a_name_below_the_directory(recipes: Path, name: str) -> None:
    assert named_recipe(name, recipes, DEFAULTS).start[0][0] == 1


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("../outside/x", MessageError, "is not a valid recipe name"),
        ("mx/../top", MessageError, "is not a valid recipe name"),
        ("mx//xia2", MessageError, "is not a valid recipe name"),
        ("/mx/xia2", MessageError, "is not a valid recipe name"),
        ("mx/", MessageError, "is not a valid recipe name"),
        ("mx/.hidden", MessageError, "is not a valid recipe name"),
        ("mx/xia2\n", MessageError, "is not a valid recipe name"),
        ("a/" * 200 + "a", MessageError, "is longer than"),
        ("away/x", RecipeError, "away is a link"),
        ("mx/linked", RecipeError, r"linked\.json is a link"),
        ("top/xia2", UnknownNameError, "Did you mean 'mx/xia2'"),
    ],
)
def test_no_name_leads_out_of_the_directory(
    recipes: Path, name: str, kind: type[Exception], reason: str
) -> None:
    with pytest.raises(kind, match=reason):
        named_recipe(name, recipes, DEFAULTS)


def test_a_sentence_about_an_unknown_name_stays_short_among_any_number_of_recipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest is found beside where the recipe would be, without a look at all of them."""
    for number in range(1200):
        file = tmp_path / f"beamline-{number // 100}" / f"pipeline-of-the-{number}.json"
        file.parent.mkdir(exist_ok=True)
        file.touch()
    (tmp_path / "mx").mkdir()
    (tmp_path / "mx" / "xia2.json").touch()
    looked_at: list[str] = []
    link = directory._link
    monkeypatch.setattr(directory, "_link", lambda *of: looked_at.append(of[1]) or link(*of))
    with pytest.raises(UnknownNameError) as caught:
        named_recipe("mx/xia3", tmp_path, DEFAULTS)
    sentence = str(caught.value)
    assert "Did you mean 'mx/xia2'? Known: beamline-" in sentence
    assert re.search(r", mx/xia2\. There are 9\d\d others or more\.$", sentence)
    assert sentence.count(",") == directory.SHOWN - 1
    assert len(sentence) < 1000
    assert len(looked_at) == directory.LOOKED_AT + 1
    monkeypatch.setattr(directory, "LOOKED_AT", 5000)
    with pytest.raises(UnknownNameError, match=r"There are 1181 others\.$"):
        named_recipe("mx/xia3", tmp_path, DEFAULTS)


def configured(recipes: Path) -> Configuration:
    """Return the configuration of a site with these recipes."""
    storage = json.dumps({"plugin": "storage", "zocalo.recipe_directory": str(recipes)})
    text = f"version: 1\nstore: {storage}\nenvironments: {{default: [store]}}"
    return Configuration.from_string(text).activate()


def test_dispatcher_check_and_go_agree_on_the_names(
    recipes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = ["latest", "mx/v2.1/xia2", "mx/xia2", "target/real", "top"]
    assert names(recipes) == known
    configuration = configured(recipes)
    read = [what.removeprefix("recipe ") for what, _ in check._recipes(configuration)]
    assert read == [str(recipes / f"{name}.json") for name in known]
    refused = ["mx/linked", "away/x", "../outside/x"]
    request: dict[str, Any] = {"recipes": [*known, *refused], "parameters": {}}
    tell_oddities(configuration.site, request, with_ispyb=False)
    told = capsys.readouterr().err.splitlines()
    assert [line.partition("Recipe ")[2].partition(":")[0] for line in told] == known
    transport = MemoryTransport()
    service = Dispatcher(configuration, transport)
    transport.subscribe(service.queue, 100)
    for name in request["recipes"]:
        transport.send(service.queue, {"recipes": [name]})
        delivery = transport.receive(1)
        assert delivery
        handle_delivery(service, delivery)
    assert len(transport.broker.queues["first"]) == len(known)
    assert len(transport.broker.dead_letters[service.queue]) == len(refused)


def test_a_file_whose_name_no_request_may_have_is_checked_as_ever(tmp_path: Path) -> None:
    (tmp_path / "two words.json").write_text(json.dumps(RECIPE))
    assert [what for what, _ in check._recipes(configured(tmp_path))] == [
        f"recipe {tmp_path / 'two words.json'}"
    ]
