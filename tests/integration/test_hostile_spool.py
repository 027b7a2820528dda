"""Real commands and services on a spool into which somebody threw all kinds of files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ..hostile_files import ILL, NAMES, SECRET, UNFIT
from .conftest import Site, transport_of

KINDS = {**UNFIT, **ILL}

WORKERS = """
from zwrap.workers.functions import worker

@worker("q")
def q(message):
    with open("seen", "a") as file:
        file.write(ascii(message) + chr(10))
"""


def scatter(directory: Path) -> int:
    """Make a file of each kind and of each name in a directory; return their number."""
    for number, (kind, make) in enumerate(KINDS.items()):
        make(directory / f"{number:02d} {kind}".replace("/", "_"))
    for number, name in enumerate(NAMES):
        list(KINDS.values())[number % len(KINDS)](directory / name)
    return len([name for name in os.listdir(directory) if not name.startswith(".")])


@pytest.fixture
def hostile(site: Site) -> Site:
    """Return a site with hostile files in each place of queue ``q``, and two good messages."""
    (site.directory / "site_workers.py").write_text(WORKERS)
    with transport_of(site) as transport:
        transport.send("q", "good 1")
        transport.send("q", "good 2")
        transport.broadcast("command", {})
    for place in ("q/incoming", "q/tmp", "q/pending", ".topics/command"):
        scatter(site.spool / place)
    return site


def test_tools_and_services_go_on(hostile: Site) -> None:
    site = hostile
    environment = {"PYTHONPATH": str(site.directory)}
    ended = site.run("zocalo.queue_monitor", "--once")
    assert ended.returncode == 0, ended
    worker = ["zwrap", "process_queue", "--queue_name", "q", "-m", "site_workers", "--once"]
    ended = site.run(*worker, env=environment)
    assert ended.returncode == 0, ended
    assert SECRET not in ended.stderr
    seen = (site.directory / "seen").read_text().splitlines()
    assert [line for line in seen if "good" in line] == ["'good 1'", "'good 2'"]
    assert os.listdir(site.spool / "q" / "incoming") in ([], [".secret"])
    for service in ("Dispatcher", "Schlockmeister"):
        ended = site.run("zocalo.service", "-s", service, "--once")
        assert ended.returncode == 0, ended

    ended = site.run("zocalo.dlq_check")
    assert ended.returncode == 1, ended
    letters = int(ended.stdout.split("contains ")[1].split()[0])
    assert letters >= len(KINDS)
    ended = site.run("zwrap", "peek", "q", "--dead", "-n", "100")
    assert ended.returncode == 0, ended
    assert SECRET not in ended.stdout
    ended = site.run("zwrap", "drain", "q", "elsewhere", "--dead", "--limit", "1")
    assert ended.returncode in (0, 100), ended

    ended = site.run("zocalo.dlq_purge", "--location", "DLQ")
    assert ended.returncode == 0, ended
    files = [file for file in (site.directory / "DLQ").rglob("*") if file.is_file()]
    assert len(files) >= letters - 1
    assert not any(SECRET in file.read_text() for file in files)
    ended = site.run("zocalo.dlq_check")
    assert ended.returncode == 0, ended
    ended = site.run("zocalo.dlq_reinject", *map(str, files))
    assert ended.returncode in (0, 100), ended
    ended = site.run("zocalo.queue_monitor", "--once")
    assert ended.returncode == 0, ended


def test_a_letter_that_cannot_be_exported_stays_and_the_others_go(site: Site) -> None:
    with transport_of(site) as transport:
        transport.subscribe("q", 3)
        for body in ("a", "b", "c"):
            transport.send("q", body)
        for _ in range(3):
            delivery = transport.receive(5)
            assert delivery
            delivery.dead_letter("because")
    module = site.directory / "sitecustomize.py"
    module.write_text(
        "from zwrap.transport import deadletters\n"
        "true = deadletters.export\n"
        "def export(delivery, directory, prefix):\n"
        "    if delivery.message.body == 'b':\n"
        "        raise ValueError('this one is odd')\n"
        "    return true(delivery, directory, prefix)\n"
        "deadletters.export = export\n"
    )
    ended = site.run("zocalo.dlq_purge", env={"PYTHONPATH": str(site.directory)})
    assert ended.returncode == 100, ended
    assert "this one is odd" in ended.stderr
    assert "1 dead letter(s) could not be exported, and stay where they were." in ended.stderr
    assert len(list((site.directory / "DLQ").rglob("msg-*"))) == 2
    ended = site.run("zocalo.dlq_check")
    assert "DLQ for q contains 1 entries" in ended.stdout


def test_pickup_sends_the_good_beside_the_bad(site: Site) -> None:
    drop = site.directory / "drop"
    drop.mkdir()
    site.settings["zocalo.go.fallback_location"] = str(drop)
    site.write_config()
    scatter(drop)
    for name in os.listdir(drop):
        os.utime(drop / name, (1, 1), follow_symlinks=False)
    (drop / "z good").write_text('{"headers": {}, "message": {"recipes": ["good"]}}')
    ended = site.run("zocalo.pickup", "-w", "0", "-d", "0")
    assert ended.returncode == 100, ended
    assert "with recipes good" in ended.stdout
    with transport_of(site) as transport:
        transport.subscribe("processing_recipe")
        delivery = transport.receive(5)
        assert delivery
        assert delivery.message.body == {"recipes": ["good"]}


def test_a_pipe_passes_the_good_beside_the_bad(site: Site) -> None:
    source, target = site.directory / "a", site.directory / "b"
    (source / "incoming").mkdir(parents=True)
    scatter(source / "incoming")
    (source / "incoming" / "z good").write_text("1")
    ended = site.run("zwrap", "pipe", f"{source}", f"{target}", "--once")
    assert ended.returncode == 0, ended
    assert (target / "incoming" / "z good").read_text() == "1"
    shutil.rmtree(source)
