"""Bad inputs of the kinds in the folder, drawn by hypothesis: a good one with one or two changes.

A change replaces a value, removes it, or spoils the text. Paths and commands are drawn from lists,
because the services that get them do what they say.
"""

from __future__ import annotations

import base64
import copy
import gzip
import json
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from hypothesis.errors import HypothesisDeprecationWarning

from . import files
from .bad import QUEUES, RECIPE, Bad, job


def deep(depth: int, key: str = "") -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {key: value} if key else [value]
    return value


NUMBERS = st.sampled_from([
    0, -1, True, 0.1, 1e-308, 1e20, 1e308, -1e308, 2**31, 2**63, 2**64, 10**30, 10**400,
    float("nan"), float("inf"), float("-inf"),
])  # fmt: skip

TEXTS = st.sampled_from([
    "", " ", "\0", "a\0b", "a\nb", "\x1b[31mred", "\x9b31m", "\u2028", "\u202e", "\ud800", "\udcff",
    "é" * 200, "x" * 256, "x" * 5000, "../../x", "..", ".", "/", "~", "-x", "--help", "[/nope]",
    "[link=", "{", "}", "{}", "{0}", "{x[0]}", "{guid:>999999999}", "{guid:>99999}", "{n:c}",
    "{n!z}", "{guid.__class__}", "{" * 500, "%s%n", "$(touch x)", "`x`", "'", '"', "\\", "a b",
    "9" * 5000, "-9" * 3, "1e999", "0x10", "١٢", "NaN", "1:2:3:4:5", "1-2-3", "10T", "=",
    "a=b", ",",
    ";", "#SBATCH --x", "a" * 30 + "!", "(a+)+$", "<a@b>", "a@[1", "((((", "=?utf-8?b?Cg==?=",
])  # fmt: skip

SHAPES = st.sampled_from([
    None, [], {}, [None], [[]], [{}], {"": None}, {"a": {"b": None}}, {"select": ["x"]}, [[1, []]],
    ["x"] * 3000, {f"k{n}": n for n in range(2000)}, deep(60), deep(330), deep(480), deep(330, "a"),
    list(range(3000)),
])  # fmt: skip

VALUES = st.one_of(
    NUMBERS, TEXTS, SHAPES, st.text(max_size=20), st.integers(),
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5),
                 lambda inner: st.lists(inner, max_size=3)
                 | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=8),
)  # fmt: skip

PATHS: st.SearchStrategy[str] = st.sampled_from([
    "@WORK@/x", "@WORK@", "@WORK@/", "@WORK@/a/../b", "@WORK@/loop/x", "@WORK@/a\0b",
    "@WORK@/\ud800",
    "@WORK@/a\nb", "@WORK@/é" + "é" * 150, "@WORK@/" + "n" * 300, "@WORK@/" + "d/" * 3000,
    "@WORK@/{x}", "@WORK@/$HOME", "@WORK@/-x", "/dev/null/x", "/dev/full", "/proc/x/y",
    "/proc/self/x", "/sys/kernel/x", "", ".", "x", None, 5, [], {},
])  # fmt: skip

COMMANDS = st.sampled_from([
    "true", "exit 3", "false", "", " ", "\0", "echo a\0b", "echo \ud800", "echo 'x", "/nonexistent",
    "@WORK@", "echo $RECIPEWRAP", "x" * 300, "true\n" * 500, "# " + "x" * 200_000, None, 5, [], {},
    ["true"], [["true"]], [5], {"a": 1}, "kill -9 $$", "printf '\\377' >&2; exit 3",
])  # fmt: skip

SPECIAL: Mapping[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(
        ("workingdir", "working_directory", "recipewrapper", "recipefile", "recipeenvironment",
         "standard_output", "standard_error", "output_file", "output_filename",
         "results_directory"), PATHS,
    ),
    **dict.fromkeys(("commands", "cluster_commands", "command"), COMMANDS),
    "topic": TEXTS,
}  # fmt: skip


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the ways to all values in a value."""
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = list(enumerate(value))[:5]
    found = [path] if path else []
    for key, each in inner:
        found += paths_of(each, (*path, key))
    return found


@st.composite
def changed(draw: st.DrawFn, good: Any) -> Any:
    """Draw a good value with one or two changes."""
    value = copy.deepcopy(good)
    for _ in range(draw(st.sampled_from([1, 1, 2]))):
        ways = paths_of(value)
        if not ways:
            break
        path = draw(st.sampled_from(ways))
        place = value
        for key in path[:-1]:
            place = place[key]
        key = path[-1]
        change = draw(st.sampled_from(["replace"] * 6 + ["remove", "rename"]))
        if change == "replace" or isinstance(place, list):
            drawn = draw(SPECIAL.get(key, VALUES) if isinstance(key, str) else VALUES)
            place[key] = json.loads(json.dumps(drawn))  # a copy: the next change may be in it
        elif change == "remove":
            del place[key]
        else:
            place[draw(st.one_of(TEXTS, st.text(max_size=5)))] = place.pop(key)
    return value


SPOIL: list[Callable[[bytes], bytes]] = [
    lambda text: text[: len(text) // 2],
    lambda text: text + text,
    lambda text: text.replace(b":", b"", 1),
    lambda text: b"\xef\xbb\xbf" + text,
    lambda text: text.decode("utf-8", "replace").encode("utf-16"),
    gzip.compress,
    lambda text: text.replace(b"a", b"\xff", 1),
    lambda text: b"[" * 100_000 + text,
    lambda text: b"",
]


@st.composite
def bodies(draw: st.DrawFn, good: Any) -> bytes:
    """Draw the text of a message."""
    text = json.dumps(draw(changed(good))).encode()
    spoiled: bytes = draw(st.sampled_from([lambda same: same] * 60 + SPOIL))(text)
    return spoiled


HEADERS: st.SearchStrategy[dict[str, object]] = st.one_of(
    st.just({}),
    st.just({}),
    st.fixed_dictionaries(
        {}, optional={"zwrap-attempt": NUMBERS | TEXTS, "zwrap_deliveries": TEXTS,
                      "dlq-reason": TEXTS, "dlq-reinjected": TEXTS, "x": TEXTS},
    ),
)  # fmt: skip

ENVELOPE = {"recipe-pointer": 1, "recipe-path": [], "environment": {"ID": "g1"}, "payload": [1]}


def step(queue: str, parameters: Any, **more: Any) -> dict[str, Any]:
    return {
        "recipe": {
            "start": [[1, []]],
            "error": [[3, []]],
            "1": {"queue": queue, "parameters": parameters, "output": {"x": 2}, "error": 3, **more},
            "2": {"queue": "q", "transport-delay": 1},
            "3": {"queue": "q2"},
        },
        **ENVELOPE,
    }


def _new_job() -> Any:
    return step(
        "cluster.submission",
        {
            "cluster": {
                "commands": "exit 3", "job_name": "n", "cpus_per_task": 1, "time_limit": "0:01:00",
                "memory_per_node": 100, "partition": "p", "nodes": 1,
                "environment": {"A": "b"},
            },
            "workingdir": "@WORK@/jobs", "recipewrapper": "rw.json", "recipefile": "r.json",
            "standard_output": "out", "standard_error": "err",
            "retry": {"on": ["timeout"], "limit": 1, "walltime_factor": 2, "memory_factor": 2},
        },
        output={"job_submitted": 2, "failure": 2},
        wrapper={"task_information": "x"},
        job_parameters={"working_directory": "@WORK@/jobs", "command": ["true"]},
    )  # fmt: skip


GOOD: Mapping[str, Sequence[Any]] = {
    "Dispatcher": [
        {
            "custom_recipe": {
                "start": [[1, [{"a": 1}]]],
                "error": [[2, []]],
                "1": {"queue": "q", "parameters": {"p": "{guid} {n}", "r": "{$REPLACE:n}"},
                      "output": {"x": 2, "y": [2]}, "transport-delay": 1, "error": 2},
                "2": {"queue": "q2"},
            },
            "parameters": {"guid": "g1", "n": 5},
        },
        {"recipes": ["none", "such"], "parameters": {"guid": "g", "x": "y"}},
    ],
    "Submitter": [
        _new_job(),
        step("cluster.submission", {
            "cluster": "local", "workingdir": "@WORK@/jobs", "cluster_commands": "exit 3",
            "cluster_queue": "q", "cluster_project": "p", "cluster_parallel_environment": "smp 4",
            "cluster_submission_parameters": "-l h_rt=01:00:00,h_vmem=4G -pe smp 2",
        }),
    ],
    "Runner": [
        step("runner.submission", {
            "workingdir": "@WORK@/runner", "commands": ["true"], "timeout": 5, "output_file": "o",
            "recipewrapper": "rw.json", "recipeenvironment": "e.json",
        }, output={"job_processed": 2, "timeout": 2}),
    ],
    "Mailer": [
        step("mailnotification", {
            "recipients": ["a@b.c", "d@e.f"], "from": "x@y.z", "subject": "s",
            "content": "{payload}",
        }),
        step("mailnotification", {
            "recipients": {"select": "x", "x": ["a@b.c"], "all": "d@e.f"}, "content": ["a", "b"],
        }),
    ],
    "JSONLines": [
        step("jsonlines", {"output_filename": "@WORK@/lines", "include": ["a"], "exclude": ["b"]}),
    ],
    "worker": [{"kind": "none", "list": [1, {"a": 2}]}],
}  # fmt: skip

_VERDICT = {
    "token": "@TOKEN@", "outcome": "failure", "witness": "wrapper", "cause": "c", "job_id": "1",
    "exit_status": 1, "elapsed_s": 1.0, "peak_memory_mib": 5.0, "program": "p",
    "final": [{"destination": "q", "message": 1, "headers": {"zwrap-id": "generated"},
               "delay_s": 1}],
}  # fmt: skip
_CLAIM = {"token": "@TOKEN@", "job_id": "1", "process": "p", "run": 1}


@st.composite
def messages(draw: st.DrawFn, service: str) -> Bad:
    """Draw a message to a service."""
    body = draw(bodies(draw(st.sampled_from(GOOD[service]))))
    marked = {} if service in ("Dispatcher", "worker") else RECIPE
    return Bad(service, "generated", body, {**marked, **draw(HEADERS)})


@st.composite
def of_attempts(draw: st.DrawFn) -> Bad:
    """Draw a heartbeat, a verdict message, or a job that spoils its own directory."""
    kind = draw(st.sampled_from(["heartbeat", "verdict", "job", "job"]))
    if kind == "heartbeat":
        body = draw(bodies({"token": "@TOKEN@", "memory_mib": 5, "job_id": "1", "status": 4}))
        return Bad("Watcher", "generated heartbeat", body, topic="transient.status")
    if kind == "verdict":
        body = draw(bodies(_VERDICT))
        return Bad("Watcher", "generated verdict", body, queue="zwrap.verdict")
    name, good = draw(st.sampled_from(
        [("verdict.json", _VERDICT), ("claim.json", _CLAIM), ("outbox/incoming/0-x", _VERDICT),
         ("outbox/incoming/0.zwrap", {"destination": "q", "message": 1})]
    ))  # fmt: skip
    text = base64.b64encode(draw(bodies(good))).decode()[:100_000]
    put = f"mkdir -p outbox/incoming; echo {text} | base64 -d >{name}"
    body = json.dumps(job(f"cd $ZWRAP_JOB_DIRECTORY; {put}; exit 3", "generated")).encode()
    return Bad("Watcher", f"generated {name}", body, RECIPE)


def spool_files(service: str) -> st.SearchStrategy[Bad]:
    """Draw a file in the queue of a service."""
    return st.sampled_from(sorted(files.KINDS)).map(
        lambda kind: Bad(service, "generated file", file=kind)
    )


def inputs(service: str, *, spool: bool) -> st.SearchStrategy[Bad]:
    """Draw an input for a service."""
    if service == "Watcher":
        return of_attempts()
    if spool:
        return st.one_of(messages(service), messages(service), messages(service),
                         spool_files(service))  # fmt: skip
    return messages(service)


_lock = threading.Lock()


def collected(service: str, count: int, seed: int, *, spool: bool) -> list[Bad]:
    """Return the inputs that a seed stands for."""
    found: list[Bad] = []

    @hypothesis.seed(seed)
    @settings(
        max_examples=count, phases=[Phase.generate], database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(inputs(service, spool=spool))
    def take(each: Bad) -> None:
        found.append(each)

    with _lock, warnings.catch_warnings():
        # Other threads use the module `random`, which strategies should not.
        warnings.simplefilter("ignore", HypothesisDeprecationWarning)
        take()
    return found


assert set(GOOD) | {"Watcher"} == set(QUEUES)
