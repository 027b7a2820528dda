"""Bad inputs: messages, broadcasts, jobs that spoil their directory, and files in a spool."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

INPUTS = Path(__file__).parent / "inputs"

RECIPE = {"workflows-recipe": True}

QUEUES = {
    "Dispatcher": "processing_recipe",
    "Submitter": "cluster.submission",
    "Watcher": "cluster.submission",
    "Runner": "runner.submission",
    "Mailer": "mailnotification",
    "JSONLines": "jsonlines",
    "worker": "hostile.words",
}
"""Service to the queue to which bad ones are sent. The Watcher meets most of its own as jobs."""


@dataclass(frozen=True)
class Bad:
    """A bad input, and where it is sent."""

    service: str
    name: str
    body: bytes = b""
    """The text of the message, which need not be JSON. @WORK@ in it is a directory of the site,
    @TOKEN@ the token of an attempt that lives."""
    headers: Mapping[str, Any] = field(default_factory=dict)
    queue: str = ""
    topic: str = ""
    """A broadcast, not a message of a queue."""
    file: str = ""
    """Kind of a file in the spool (`files.KINDS`), not a message."""
    shell: bool = False
    """True for a job that spoils its own directory."""
    told: bool = False
    """True if the step must end as `failure`: the envelope can be read."""

    def __str__(self) -> str:
        what = self.file or self.body.decode("utf-8", "backslashreplace")
        shown = re.sub(
            r"(.)\1{39,}", lambda run: f"{run[1]}<{len(run[0])} times>", what, flags=re.DOTALL
        )
        where = f" on topic {self.topic}" if self.topic else ""
        given = {name: text for name, text in self.headers.items() if name not in RECIPE}
        heads = f" headers {str(given)[:300]}" if given else ""
        return f"{self.service}/{self.name}{where}{heads}: {shown[:1000]}"


def job(commands: str, identity: str, **more: Any) -> dict[str, Any]:
    """Return the envelope of a step that becomes a job in a directory of its own.

    Where it was submitted is sent to node 2, its failure to node 3, both of queue hostile.good.
    """
    return {
        "recipe": {
            "1": {
                "queue": "cluster.submission",
                "parameters": {
                    "cluster": {"commands": commands, "job_name": "hostile", **more},
                    "workingdir": f"@WORK@/jobs/{identity}",
                },
                "output": {"job_submitted": 2, "failure": 3},
            },
            "2": {"queue": "hostile.good"},
            "3": {"queue": "hostile.good"},
            "start": [[1, []]],
        },
        "recipe-pointer": 1,
        "recipe-path": [],
        "environment": {"ID": identity},
        "payload": [],
    }  # fmt: skip


def read(file: Path) -> Bad:
    """Return the input in a file.

    That is the body of a message, or an object with exactly `headers` and `message`; or one with
    `message` and `topic` (a broadcast) or `queue` (another one than that of the service); or with
    `shell`: a job with these commands.
    """
    service, name, body = file.parent.name, file.stem, file.read_bytes()
    headers: dict[str, Any] = {} if service in ("Dispatcher", "worker") else dict(RECIPE)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    keys = set(found) if isinstance(found, dict) else set()
    if keys == {"headers", "message"}:
        return Bad(service, name, _text(found["message"]), found["headers"])
    if "shell" in keys:
        body = _text(job(found["shell"], f"bad-{name}"))
        return Bad(service, name, body, RECIPE, shell=True, told=found.get("told", False))
    if "message" in keys and keys & {"topic", "queue"}:
        where = {key: found[key] for key in ("topic", "queue") if key in found}
        marked = dict(RECIPE) if where.get("queue") == QUEUES[service] else {}
        return Bad(service, name, _text(found["message"]), marked, **where)
    return Bad(service, name, body, headers)


def _text(value: Any) -> bytes:
    return json.dumps(value).encode()


def kept() -> Iterator[Bad]:
    """Yield the inputs of the folder."""
    for file in sorted(INPUTS.glob("*/*.json")):
        yield read(file)
