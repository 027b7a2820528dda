"""A site whose services run as processes, and the good message of each, which must come through."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller

from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, ZwrapError
from zwrap.message.content import ORIGIN_HEADER, Message
from zwrap.message.identity import token_of
from zwrap.transport.connect import connect
from zwrap.transport.contract import Transport

from .bad import QUEUES, RECIPE, Bad, job
from .doors import Door
from .files import KINDS

BIN = Path(sys.executable).parent

PROCESSES: dict[str, list[str]] = {
    **{
        name: ["zocalo.service", "-s", name]
        for name in ("Dispatcher", "Submitter", "Watcher", "Runner", "Mailer", "JSONLines",
                     "Schlockmeister")
    },
    "worker": ["zwrap", "process_queue", "--queue_name", QUEUES["worker"]],
}  # fmt: skip

READ = sorted({*QUEUES.values(), "zwrap.verdict"})
"""The queues of the services."""

MEMORY_BYTES = 2 << 30
"""Address space of a service: one that reads without a limit fails, and not the machine."""

ENDS_S = 40.0
"""Time within which a service ends after SIGTERM, in seconds."""

WORKER = """
import os, sys
from zwrap.workers.functions import queue_json_publish, worker

class Unprintable(Exception):
    def __str__(self):
        raise ValueError("str fails")

def recurse():
    recurse()

def fork():
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)

def fail(error):
    raise error

KINDS = {
    "exit0": lambda: sys.exit(0), "exit3": lambda: sys.exit(3), "exit100": lambda: sys.exit(100),
    "interrupt": lambda: fail(KeyboardInterrupt()), "memory": lambda: fail(MemoryError()),
    "generator": lambda: fail(GeneratorExit()), "stop": lambda: fail(StopIteration()),
    "text": lambda: fail(ValueError("a\\nb\\x1b[31m")), "unprintable": lambda: fail(Unprintable()),
    "long": lambda: fail(ValueError("x" * 5_000_000)), "fork": fork, "recursion": recurse,
    "surrogate": lambda: fail(ValueError("bad \\udcff path")),
}

@worker("hostile.words", time_limit_s=20)
def words(message):
    if isinstance(message, dict) and "good" in message:
        queue_json_publish("hostile.good", message)
    elif isinstance(message, dict):
        KINDS.get(str(message.get("kind")), lambda: None)()
"""


class _Mailbox:
    """A mail server's handler that notes subjects."""

    def __init__(self) -> None:
        self.subjects: set[str] = set()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        for line in envelope.content.decode("latin-1").split("\r\n\r\n")[0].split("\r\n"):
            if line.lower().startswith("subject: good-"):
                self.subjects.add(line[9:])
        return "250 OK"


class Site:
    """Services of one site, their logs, and what came of the good messages."""

    def __init__(self, directory: Path, door: Door, services: Iterable[str] = PROCESSES) -> None:
        self.directory, self.door = directory, door
        self.work = directory / "work"
        (self.work / "jobs").mkdir(parents=True)
        (self.work / "loop").symlink_to("loop")
        (directory / "run" / "a").mkdir(parents=True)
        self._mailbox = _Mailbox()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._mail = Controller(self._mailbox, hostname="127.0.0.1", port=port)
        self._mail.start()
        batch = {"kind": "local", "watch_s": 0.3, "settle_s": 0.2}
        far = {**batch, "shared_filesystem": False}  # so that the Watcher reads zwrap.verdict
        sections = {
            **door.sections,
            "store": {"plugin": "storage"},
            "batch": {"plugin": "clusters", "local": batch, "far": far},
            "mail": {"plugin": "smtp", "host": "127.0.0.1", "port": port, "from": "zwrap@site.org"},
            "work": {"plugin": "workers", "modules": ["hostile_workers"], "errors": "failed"},
        }
        (directory / "hostile_workers.py").write_text(WORKER)
        text = json.dumps({
            "version": 1, "environments": {"default": list(sections)}, **sections,
        })  # fmt: skip
        (directory / "site.yml").write_text(text)
        self.environment = {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "HOME": str(directory),
            "PYTHONPATH": str(directory),
            "ZOCALO_CONFIG": str(directory / "site.yml"),
            "ZWRAP_STATE": str(directory / "state"),
            "ZWRAP_LOCAL_CPUS": "4",
        }
        self.configuration = Configuration.from_string(text).activate()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._read: dict[str, int] = defaultdict(int)
        """Length of each log that was looked at."""
        self._arrived: set[tuple[str, int]] = set()
        """Identity of an envelope, and the node that was reached."""
        self._ended = threading.Event()
        with self.connected() as transport:
            for queue in [*READ, "hostile.good"]:
                transport.subscribe(queue)  # makes those that are to be declared
        self._collector = threading.Thread(target=self._collect, daemon=True)
        self._collector.start()
        for name in services:
            self.start(name)

    def connected(self) -> Transport:
        return connect(self.configuration)

    # -- good ones ---------------------------------------------------------------------------------

    def _collect(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(ZwrapError), self.connected() as transport:
                transport.subscribe("hostile.good", 50)
                while not self._ended.is_set():
                    if delivery := transport.receive(0.5):
                        self._note(delivery.message.body)
                        delivery.ack()

    def _note(self, body: object) -> None:
        if isinstance(body, dict) and "good" in body:
            self._arrived.add((str(body["good"]), 2))
        elif isinstance(body, dict) and isinstance(body.get("environment"), dict):
            self._arrived.add((str(body["environment"].get("ID")), int(body["recipe-pointer"])))

    def send_good(self, transport: Transport, service: str, name: str) -> None:
        """Send the good message of a service."""
        out = {"queue": "hostile.good"}
        queue, headers = QUEUES[service], dict(RECIPE)
        body: Any = {
            "recipe": {"start": [[1, []]], "1": {"queue": queue}, "2": out},
            "recipe-pointer": 1, "recipe-path": [], "environment": {"ID": name},
            "payload": {"n": name},
        }  # fmt: skip
        node = body["recipe"]["1"]
        if service == "Dispatcher":
            recipe = {"start": [[2, []]], "2": out}
            body, headers = {"custom_recipe": recipe, "parameters": {"guid": name}}, {}
        elif service in ("Submitter", "Watcher"):
            body = job("exit 3" if service == "Watcher" else "true", name)
        elif service == "Runner":
            node["parameters"] = {"workingdir": str(self.work / "runner"), "commands": ["true"]}
            node["output"] = {"job_processed": 2}
        elif service == "Mailer":
            node["parameters"] = {"recipients": "a@b.c", "subject": name, "content": "x"}
        elif service == "JSONLines":
            node["parameters"] = {"output_filename": str(self.work / "good.jsonl")}
        else:
            body, headers = {"good": name}, {}
        text = json.dumps(body).replace("@WORK@", str(self.work))
        transport.send(queue, json.loads(text), headers)

    def has_arrived(self, service: str, name: str) -> bool:
        """Return True if the good message was handled."""
        if service == "Mailer":
            return name in self._mailbox.subjects
        if service == "JSONLines":
            with contextlib.suppress(FileNotFoundError):
                return f'"{name}"' in (self.work / "good.jsonl").read_text()
            return False
        return (name, 3 if service == "Watcher" else 2) in self._arrived

    def was_told(self, name: str) -> bool:
        """Return True if the failure of a job was sent."""
        return (name, 3) in self._arrived

    # -- bad ones ----------------------------------------------------------------------------------

    def send_bad(self, bad: Bad, identity: str) -> None:
        """Send a bad input; its id is `identity` unless it has one."""
        if bad.file:
            KINDS[bad.file](self.directory / "spool" / QUEUES[bad.service])
            return
        headers = {"zwrap-id": identity, **bad.headers}
        token = ""
        if b"@TOKEN@" in bad.body and bad.topic + bad.queue:  # a job that it may be about
            content = json.dumps(job("sleep 0.5; exit 3", f"for-{identity}")).encode()
            content = self._filled(content, "")
            with contextlib.suppress(MessageError):  # its number of attempts is impossible
                token = token_of(Message(json.loads(content), headers, str(headers["zwrap-id"])))
            self.door.put(QUEUES["Watcher"], content, headers | RECIPE)
        elif b"@TOKEN@" in bad.body:  # its own; a first attempt's would follow from the content
            headers = {"zwrap-attempt": 2, ORIGIN_HEADER: f"content-{'0' * 64}", **headers}
            token = token_of(Message(None, headers, identity))
        body = self._filled(bad.body, token)
        if bad.topic:
            self.door.tell(bad.topic, body)
        else:
            self.door.put(bad.queue or QUEUES[bad.service], body, headers)

    def _filled(self, body: bytes, token: str) -> bytes:
        return body.replace(b"@WORK@", str(self.work).encode()).replace(b"@TOKEN@", token.encode())

    # -- processes ---------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                ["prlimit", f"--as={MEMORY_BYTES}", *PROCESSES[name]],
                env=self.environment, cwd=self.directory / "run" / "a", stdout=log, stderr=log,
            )  # fmt: skip

    def ended(self, *names: str) -> str:
        """Return which of these services have ended, and how; "": none."""
        return ", ".join(
            f"{name} ended with status {self.processes[name].returncode}"
            for name in names
            if self.processes[name].poll() is not None
        )

    def logged(self, name: str) -> str:
        """Return what was logged since the last call."""
        with (self.directory / f"{name}.log").open("rb") as log:
            log.seek(self._read[name])
            content = log.read()
        self._read[name] += len(content)
        return content.decode("utf-8", "backslashreplace")

    def tool(self, *command: str) -> str:
        """Run a command of the site and return its output, or say that it fails."""
        try:
            done = subprocess.run(
                ["prlimit", f"--as={MEMORY_BYTES}", *command], env=self.environment, check=False,
                capture_output=True, cwd=self.directory, timeout=60, errors="backslashreplace",
                text=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"FAULT: {' '.join(command)} hangs"
        if "Traceback" in done.stderr or "\x1b" in done.stdout + done.stderr:
            return f"FAULT: {' '.join(command)}: {done.stderr[-1000:]!r}"
        return done.stdout

    def renew(self, names: list[str], queues: list[str]) -> None:
        """Start services anew without what made them fail: their queues and rows."""
        for name in names:
            self.processes[name].kill()
            self.processes[name].wait()
        if "Watcher" in names:
            for file in (self.directory / "state").glob("ledger.sqlite*"):
                file.rename(file.with_name(f"{time.time_ns()}-{file.name}"))
        for queue in queues:
            for place in ("incoming", "pending", "tmp"):
                self._cleared(self.directory / "spool" / queue / place)
            self.drained(queue)
        self._cleared(self.directory / "spool" / ".topics" / "command")
        for name in names:
            self.start(name)

    def _cleared(self, place: Path) -> None:
        with contextlib.suppress(FileNotFoundError), os.scandir(os.fsencode(place)) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)

    def drained(self, queue: str) -> list[str]:
        """Remove what waits in a queue; the ids."""
        ids = []
        with contextlib.suppress(Exception), self.connected() as transport:
            transport.subscribe(queue, 50)
            while delivery := transport.receive(1.5):
                ids.append(delivery.message.id)
                delivery.ack()
        return ids

    def stop(self) -> Iterator[str]:
        """Ask all services to end; yield what is wrong with that."""
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + ENDS_S
        for name, process in self.processes.items():
            try:
                status = process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                yield f"{name} did not end within {ENDS_S:g} s after SIGTERM"
                process.kill()
                process.wait()
            else:
                if status:
                    yield f"{name} ended with status {status} after SIGTERM"

    def left_over(self) -> list[str]:
        """Command lines of services of this site that outlived it."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdecimal() and self._is_of_site(entry):
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    if "zocalo.service" in command or "process_queue" in command:
                        found.append(command)
                        os.kill(int(entry.name), signal.SIGKILL)
        return found

    def _is_of_site(self, entry: Path) -> bool:
        return (
            f"ZOCALO_CONFIG={self.directory}/site.yml".encode() in (entry / "environ").read_bytes()
        )

    def close(self) -> None:
        self._ended.set()
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        self._collector.join(5)
        self._mail.stop()
        self.left_over()
        batch = self.directory / "state" / "localbatch"
        if batch.exists():
            command = [sys.executable, "-P", "-m", "zwrap.pool", "--directory", str(batch)]
            listed = subprocess.run([*command, "list"], capture_output=True, text=True, check=False)
            for each in json.loads(listed.stdout or "[]"):
                subprocess.run([*command, "cancel", each["job_id"]], check=False)
        self.door.close()
