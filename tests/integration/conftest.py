"""A site on the embedded default: a spool, and the commands as a user runs them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.configuration.site import Configuration
from zwrap.transport.connect import connect
from zwrap.transport.contract import Transport
from zwrap.transport.rabbitmq.management.api import PermissionSpec, RabbitMQAPI, VHostSpec
from zwrap.transport.spool.transport import SpoolTransport

from .warm import HANGS_S, targets, warm

BIN = Path(sys.executable).parent


class Site:
    """One spool, one state directory, and processes that end with the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bin = BIN
        """Where the commands of the site are."""
        self.spool = directory / "spool"
        self.recipes = directory / "recipes"
        self.recipes.mkdir()
        self.config = directory / "site.yml"
        self.settings: dict[str, Any] = {"zocalo.recipe_directory": str(self.recipes)}
        self.sections: dict[str, dict[str, Any]] = {}
        """Further plugin configurations."""
        self.processes: list[subprocess.Popen[str]] = []
        self.write_config()

    def write_config(self) -> None:
        names = ["store", "files", *self.sections]
        more = "".join(f"{name}: {json.dumps(text)}\n" for name, text in self.sections.items())
        written = self.config.with_suffix(".new")  # a wrapper that just starts reads it whole
        written.write_text(
            "version: 1\n"
            f"environments: {{default: [{', '.join(names)}]}}\n"
            f"{more}"
            f"store: {json.dumps({'plugin': 'storage', **self.settings})}\n"
            f"files: {json.dumps({'plugin': 'spool', 'path': str(self.spool)})}\n"
        )
        written.replace(self.config)

    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        return {
            **kept,
            "PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin",
            "ZOCALO_CONFIG": str(self.config),
            "ZWRAP_STATE": str(self.directory / "state"),
            **{key: value for key, value in os.environ.items() if key.startswith("ZWRAP_LOCAL")},
        }

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        environment = {**self.environment(), **options.pop("env", {})}
        process = subprocess.Popen(
            command,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=options.pop("cwd", self.directory),
            **options,
        )
        self.processes.append(process)
        return process

    def run(
        self, *command: str, env: dict[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; a console script of zwrap as `warm` does."""
        environment = {**self.environment(), **(env or {})}
        if self.bin == BIN and command[0] in targets() and "PYTHONPATH" not in environment:
            done = warm().run(command, environment, cwd or self.directory)
        else:
            process = self.start(*command, env=env or {}, cwd=cwd or self.directory)
            output, error = process.communicate(timeout=HANGS_S)
            done = subprocess.CompletedProcess(command, process.returncode, output, error)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def service(self, name: str, *options: str) -> subprocess.Popen[str]:
        command = ["zocalo.service", "-s", name, *options]
        with (self.directory / f"{name}.log").open("a") as log:
            process = subprocess.Popen(command, env=self.environment(), text=True, stderr=log)
        self.processes.append(process)
        return process

    def transport(self) -> SpoolTransport:
        return SpoolTransport(self.spool)

    def take(self, queue: str, count: int = 1, seconds: float = 30) -> list[Any]:
        """Bodies of the next messages of a queue."""
        transport = self.transport()
        transport.subscribe(queue, prefetch=count)
        deadline = time.monotonic() + seconds
        bodies = []
        while len(bodies) < count and time.monotonic() < deadline:
            if delivery := transport.receive(0.2):
                bodies.append(delivery.message.body)
                delivery.ack()
        transport.close()
        assert len(bodies) == count, f"{len(bodies)} of {count} messages on {queue}; {self.logs()}"
        return bodies

    def dead_letters(self, queue: str) -> list[str]:
        return [reason for _, reason in self.transport().queue(queue).dead_letters()]

    def logs(self) -> str:
        return "\n".join(log.read_text()[-3000:] for log in self.directory.glob("*.log"))

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGKILL)
            process.communicate()
        directory = self.directory / "state" / "localbatch"
        if directory.exists():
            command = [sys.executable, "-P", "-m", "zwrap.pool", "--directory", str(directory)]
            listed = subprocess.run([*command, "list"], capture_output=True, text=True, check=True)
            for job in json.loads(listed.stdout):
                subprocess.run([*command, "cancel", job["job_id"]], check=True)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.end()


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    def wait(condition: Callable[[], Any], seconds: float = 20) -> Any:
        deadline = time.monotonic() + seconds
        pause_s = 0.02
        while not (result := condition()):
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(pause_s)
            pause_s = min(0.2, pause_s * 1.2)
        return result

    return wait


REAL = pytest.mark.slow


@pytest.fixture(
    params=[
        "spool",
        pytest.param("quorum", marks=REAL),
        pytest.param("classic", marks=REAL),
        pytest.param("activemq", marks=REAL),
    ]
)
def bus(request: pytest.FixtureRequest, site: Site) -> Iterator[Site]:
    """Yield a site on one of the transports."""
    site.settings["zocalo.dlq.purge_location"] = str(site.directory / "DLQ")
    site.settings["zocalo.go.fallback_location"] = str(site.directory / "drop")
    site.write_config()
    if request.param == "spool":
        yield site
        return
    sections: dict[str, dict[str, Any]]
    if request.param == "activemq":
        given = request.getfixturevalue("activemq")
        keys = {key: given[key] for key in ("host", "port", "username", "password")}
        sections = {
            "mq": {"plugin": "stomp", "prefix": f"t{uuid.uuid4().hex}", **keys},
            "api": {"plugin": "jmx", **keys, "port": given["jolokia_port"],
                    "base_url": given["jolokia_base_url"]},
            "chosen": {"plugin": "transport", "default": "StompTransport"},
        }  # fmt: skip
    else:
        given = request.getfixturevalue("rabbitmq")
        user = {key: given[key] for key in ("username", "password")}
        api = RabbitMQAPI(given["api"], given["username"], given["password"])
        vhost = f"test-{uuid.uuid4()}"
        api.add_vhost(VHostSpec(name=vhost))
        api.set_permissions(
            PermissionSpec(vhost=vhost, user="admin", configure=".*", write=".*", read=".*")
        )
        sections = {
            "mq": {"plugin": "pika", "host": given["host"], "port": given["port"], **user,
                   "vhost": vhost, "declare": request.param},
            "api": {"plugin": "rabbitmqapi", "base_url": given["api"], **user},
            "chosen": {"plugin": "transport", "default": "PikaTransport"},
        }  # fmt: skip
    text = site.config.read_text().replace("[store, files]", "[store, mq, api, chosen]")
    text += "".join(f"{name}: {json.dumps(section)}\n" for name, section in sections.items())
    site.config.write_text(text)
    yield site
    if request.param != "activemq":
        api.delete_vhost(vhost)
        api.close()


def transport_of(bus: Site) -> Transport:
    return connect(Configuration.from_file(bus.config).activate())


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("slurm", "sge")]


@pytest.fixture(params=["local", *SLOW])
def on(request: pytest.FixtureRequest, site: Site) -> Iterator[Site]:
    """Yield a site whose jobs are those of one batch system."""
    environment = {}
    if request.param != "local":
        told = request.getfixturevalue(request.param)
        environment = {name: text for name, text in told.items() if name != "nodes"}
    described = {"kind": request.param, "environment": environment}
    site.settings["scheduler"] = "cluster"
    site.sections["clusters"] = {"plugin": "clusters", "cluster": described}
    site.write_config()
    yield site
    if request.param != "local":  # those of this machine end with the site
        listed = site.run("zwrap", "jobs", "--json").stdout
        for job in map(json.loads, listed.splitlines()):
            if job["state"] in ("pending", "running"):
                site.run("zwrap", "cancel", job["job_id"])
