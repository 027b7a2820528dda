"""Every reader of outside bytes takes them or refuses them by a documented error, and soon.

Texts are good ones with some bytes changed; values are good ones with one or two changed
(`generated.changed`). The longest time is CPU time, so that a busy machine does not matter.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from zwrap_schedulers.sge.replies import read_qacct, read_qstat, read_silent
from zwrap_schedulers.slurm import replies as slurm, restreplies as rest

from zwrap.attempt.directory import JobDirectory
from zwrap.configuration.clusters import ClusterSettings
from zwrap.configuration.site import Configuration
from zwrap.errors import ZwrapError
from zwrap.message.content import Message
from zwrap.message.identity import attempt_of, identify
from zwrap.message.jsontext import decode
from zwrap.program.definition import SHIPPED_PROGRAMS
from zwrap.program.parsers.table import parse
from zwrap.program.reading import read_definition
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.scheduler import Reply
from zwrap.service.watcher.heartbeats import Heartbeats
from zwrap.submission.request import prepare
from zwrap.submission.tasks import copies
from zwrap.transport import deadletters
from zwrap.transport.rabbitmq.headers import as_table
from zwrap.transport.rabbitmq.received import Received as FromRabbitMQ
from zwrap.transport.spool.content import read_message
from zwrap.transport.spool.files import Name
from zwrap.transport.stomp.received import Received as FromActiveMQ
from zwrap.units import mib, seconds

from . import generated
from .generated import GOOD, TEXTS, VALUES, changed

TESTS = Path(__file__).parents[1]
RECORDED = TESTS / "unit" / "recorded"
XIA2 = TESTS / "data" / "xia2" / "v3.12.0"
SITES = sorted((TESTS.parent / "examples").rglob("site*.yml"))

LIMIT_S = 5.0
"""Longest CPU time for one input, in seconds."""

EXAMPLES = int(os.environ.get("ZWRAP_HOSTILE_EXAMPLES") or 0)

fuzzed = settings(
    max_examples=EXAMPLES or settings().max_examples, database=None,
    derandomize=not EXAMPLES,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow,
                           HealthCheck.data_too_large, HealthCheck.large_base_example],
)  # fmt: skip
"""The same few in each run of CI; with ZWRAP_HOSTILE_EXAMPLES=N, N other ones for each reader."""


@contextlib.contextmanager
def documented() -> Iterator[None]:
    """Let errors of zwrap pass, and nothing else, within the limit."""
    began = time.thread_time()
    with contextlib.suppress(ZwrapError):
        yield
    used_s = time.thread_time() - began
    assert used_s < LIMIT_S, f"took {used_s:.1f} s"


JUNK = st.one_of(
    st.binary(max_size=8),
    st.sampled_from([
        b"\0", b"\xff\xfe", b"\x1b[31m", b"\n\n", b" " * 3000, b"9" * 5000, b"NaN", b"1e999",
        b"-", b"|",
        b"||||||||", b"<", b"</", b"]]>", b"&x;", b"{", b"}", b"[" * 3000, b"\t", b"=" * 60,
        b"", b":",
        b"<a>" * 3000, "١٢é\u2028".encode(), b"'", b'"', b"- - - - -", b"!!python/object:x {}",
        b"&a [*a]", b"2020-13-45", b"1" * 300 + b"T", b"(", b"*",
    ]),
)  # fmt: skip


@st.composite
def spoilt(draw: st.DrawFn, good: bytes) -> bytes:
    """Draw a text with up to three places changed."""
    text = good
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        gone = draw(st.sampled_from([0, 0, 1, 1, 5, 50, 1 << 30]))
        text = text[:at] + draw(JUNK) + text[at + gone :]
    return text


def swapped(good: bytes) -> st.SearchStrategy[bytes]:
    """Draw a text with one word replaced by another text."""
    words = good.split()
    return st.tuples(st.sampled_from(words or [b""]), st.one_of(JUNK, TEXTS.map(_encoded))).map(
        lambda drawn: good.replace(drawn[0], drawn[1], 1)
    )


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def texts(good: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(spoilt(good), swapped(good))


def documents(good: Any) -> st.SearchStrategy[bytes]:
    """Draw JSON texts, most of them well-formed."""
    whole = changed(good).map(lambda value: json.dumps(value).encode())
    return st.one_of(whole, whole, whole, texts(json.dumps(good).encode()))


# -- messages --------------------------------------------------------------------------------------

JOBS = [*GOOD["Submitter"], *GOOD["Runner"], *GOOD["JSONLines"]]


@fuzzed
@given(st.sampled_from(JOBS).flatmap(documents))
def test_envelope(text: bytes) -> None:
    with documented():
        envelope = Envelope.from_body(decode(text))
        envelope.send("x", 1)
        envelope.send_error({"error": "x"})
        envelope.to_json()


@fuzzed
@given(st.sampled_from(GOOD["Submitter"]).flatmap(documents))
def test_job_request(text: bytes) -> None:
    with documented():
        prepare(Envelope.from_body(decode(text)), "t-1", "local")


ALL_KEYS = {
    "start": [[1, []], [2, []]],
    "2": {"queue": "cluster.submission", "parameters": {"cluster": {"commands": "x"}}},
    "1": {
        "queue": "cluster.submission",
        "parameters": {
            "workingdir": "/w",
            "cluster": {
                "commands": "true", "array": "0-9:3%2", "dependency": [2], "gres": "gpu:a100:2",
                "licenses": "a:1,b:2", "reservation": "r", "comment": "c", "mail": "a@b.org,c",
                "mail_on": ["begin", "end"], "signal": "B:USR1@300", "begin": "2026-11-28T20:00Z",
                "nice": 5, "priority": 7, "nodelist": "n[1-2],m", "exclude": "k", "requeue": "0",
                "memory_per_node": "4G", "min_memory_per_cpu": "500M", "ntasks_per_node": 2,
                "exclusive": "user", "max_slots": 9, "options": {"--switches": 1, "x": True},
                "template": {"a": [1]}, "qsub_submission_parameters": "-pe smp 1-4 -l mfree=1G",
            },
        },
    },
}  # fmt: skip
"""A recipe whose first step has each key of a cluster block."""


def submitted(recipe: Recipe) -> int:
    """Prepare the job of a task of the first step; return the number of its tasks."""
    envelope = Envelope(recipe, 1, environment={"ID": "r"})
    taken_apart = copies(envelope, Message(envelope.body(), {"zwrap-task": "x"}, "i"), "q")
    settings = ClusterSettings(kind="slurm", allowed_options=("switches", "x"))
    prepare(envelope, "t-1", "local", lambda _: settings, task=3)
    return len(taken_apart)


def test_the_keys_of_a_cluster_block_are_good_as_they_are() -> None:
    assert submitted(Recipe(ALL_KEYS)) == 4


@pytest.mark.parametrize("count", [26, 99, 10_000])
@pytest.mark.parametrize("end", [",:", ",", ":", "@", "\u2028", ""])
@pytest.mark.parametrize("item", ["gpu:1", "g", "a@b", "n[1-2]", "B:SIG", "9:9", "-"])
def test_long_lists_in_a_cluster_block(item: str, end: str, count: int) -> None:
    """A pattern that can match in two ways must not try all of them."""
    value = ",".join([item] * count) + end
    for key in ("gres", "mail", "mail_on", "nodelist", "licenses", "signal", "begin", "array",
                "time_limit", "memory_per_node", "exclusive"):  # fmt: skip
        with documented():
            submitted(Recipe({**ALL_KEYS, "1": {**ALL_KEYS["1"], "parameters": {
                "workingdir": "/w", "cluster": {"commands": "true", key: value},
            }}}))  # type: ignore[dict-item]  # fmt: skip


@fuzzed
@given(documents(ALL_KEYS))
def test_every_key_of_a_cluster_block(text: bytes) -> None:
    with documented():
        submitted(Recipe.from_json(text))


@fuzzed
@given(documents(GOOD["Dispatcher"][0]["custom_recipe"]), VALUES)
def test_recipe(text: bytes, value: object) -> None:
    with documented():
        recipe = Recipe.from_json(text)
        _ = recipe.start, recipe.error, recipe.nodes
        for quoted in (False, True):
            recipe.apply_parameters({"guid": "g", "n": value, "x": [value]}, quote_commands=quoted)


@fuzzed
@given(TEXTS | st.text(st.sampled_from("{}[]!:.>09nxg$'\"#\\ "), max_size=30), VALUES)
def test_placeholders(text: str, value: object) -> None:
    recipe = Recipe({"start": [[1, []]], "1": {"queue": "q", "p": text, "commands": text}})
    for quoted in (False, True):
        with documented():
            recipe.apply_parameters({"guid": "g", "n": value, "x": [value]}, quote_commands=quoted)


@fuzzed
@given(st.dictionaries(st.sampled_from(
    ["zwrap-id", "zwrap-attempt", "dlq-reinjected", "zwrap_deliveries", "x-delivery-count",
    "x-death",
     "dlq-reason", "workflows-recipe", "x"]), VALUES))  # fmt: skip
def test_headers_of_amqp(headers: dict[str, object]) -> None:
    with documented():
        properties = SimpleNamespace(headers=headers, timestamp=None, expiration="9" * 30)
        consumer, method = SimpleNamespace(exclusive=True), SimpleNamespace(redelivered=True)
        received = FromRabbitMQ(
            consumer, None, method, properties, b"{}", "q", "dead", 0.0,  # type: ignore[arg-type]
        )  # fmt: skip
        _ = received.delivery_count, received.reason, received.sent_at, received.expired
        found = received.plain_headers(())
        identify({}, found)
        attempt_of(found)
        as_table(found)


@fuzzed
@given(st.dictionaries(st.sampled_from(
    ["zwrap-id", "zwrap-attempt", "message-id", "zwrap_deliveries", "expires", "timestamp",
    "redelivered",
     "dlq-reason", "dlqDeliveryFailureCause"]), TEXTS | st.text(max_size=10)))  # fmt: skip
def test_headers_of_stomp(headers: dict[str, str]) -> None:
    with documented():
        received = FromActiveMQ(None, headers, b"{}", "q", "dead", 0.0)  # type: ignore[arg-type]
        _ = received.delivery_count, received.reason, received.sent_at, received.expired
        _ = received.identity
        attempt_of(received.own_headers)
        received.dead_copy("/queue/x", "reason", "/queue/q")


@fuzzed
@given(documents({"headers": {"zwrap-id": "x", "workflows-recipe": True}, "message": {"a": [1]}}),
       st.booleans())  # fmt: skip
def test_file_of_a_spool(text: bytes, foreign: bool) -> None:
    with documented():
        read_message(text, foreign, "queue/name")


@fuzzed
@given(st.text(st.sampled_from("ab~aen0129.\n\udcff"), max_size=30) | TEXTS)
def test_name_in_a_spool(text: str) -> None:
    with documented():
        str(Name.parse(text))


@fuzzed
@given(documents({"exported": {}, "header": {"zwrap-id": "x", "x-death": [{"queue": "q"}],
                  "original-destination": "/queue/q", "zwrap-attempt": 1},
                  "message": 1}))  # fmt: skip
def test_exported_dead_letter(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "letter"
    file.write_bytes(text)
    with documented():
        deadletters.reinjected(deadletters.read(file), file, None)


@fuzzed
@given(documents({"token": "t", "memory_mib": 5.0, "host": "h"}))
def test_heartbeat(text: bytes) -> None:
    heard = Heartbeats()
    with documented():
        heard.hear(decode(text))
    memory = heard.peak_memory_mib("t")
    assert memory is None or (math.isfinite(memory) and memory >= 0)


# -- files of an attempt ---------------------------------------------------------------------------

KEPT = {
    "header": {"zwrap-id": "x", "zwrap-attempt": 1}, "message": generated.GOOD["Submitter"][0],
    "exported": {}, "asked": {"memory_per_node": 5, "time_limit": 60},
    "retry": {"on": ["timeout"], "limit": 1},
}  # fmt: skip


@fuzzed
@given(documents(generated._VERDICT))
def test_verdict(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "verdict.json").write_bytes(text)
    with documented():
        JobDirectory(tmp_path).verdict()


@fuzzed
@given(documents(generated._CLAIM))
def test_claim(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "claim.json"
    file.unlink(missing_ok=True)
    file.write_bytes(text)
    with documented():
        JobDirectory(tmp_path).claimed()
    with documented():
        JobDirectory(tmp_path).claim("t-1", "1")


@fuzzed
@given(documents(KEPT))
def test_submission(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "submission.json").write_bytes(text)
    with documented():
        JobDirectory(tmp_path).submission()


# -- files of a site -------------------------------------------------------------------------------


@fuzzed
@given(st.sampled_from(SITES).flatmap(lambda file: texts(file.read_bytes())))
def test_site_file(text: bytes) -> None:
    with documented():
        site = Configuration.from_string(text.decode("utf-8", "replace")).activate().site
        for name in [name for name in vars(type(site)) if not name.startswith("_")]:
            with contextlib.suppress(ZwrapError):
                getattr(site, name)


DEFINITIONS = sorted(SHIPPED_PROGRAMS.glob("*.yaml"))


@fuzzed
@given(st.sampled_from(DEFINITIONS).flatmap(lambda file: texts(file.read_bytes())))
def test_program_definition(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "program.yaml"
    file.write_bytes(text)
    with documented():
        read_definition(file)


@fuzzed
@given(VALUES, TEXTS)
def test_units(value: object, text: str) -> None:
    with documented():
        seconds(value, "here")
    with documented():
        mib(text, "here")


# -- replies of batch systems ----------------------------------------------------------------------

SQUEUE = """\
9_2|FAILED|512|NonZeroExitCode|r26817n1|N/A|a.t-1|
10|RUNNING|0|None|r26817n1|2026-11-26T11:00:00|b.t-2|
13|PENDING|0|ReqNodeNotAvail, UnavailableNodes:r26817n[1-2]||2026-11-26T12:00:00|e.t-5|
"""
SACCT = """\
10|RUNNING|0:0|None|n1|b.t-2|
11|OUT_OF_MEMORY|0:125|None|n1|c.t-3|
12|CANCELLED by 0|0:15|None|n1|d.t-4|
"""
SLURMREST = {
    "errors": [], "warnings": [],
    "jobs": [{
        "job_id": 5, "name": "a.t-1", "job_state": ["RUNNING"], "user_name": "u", "nodes": "n1",
        "state_reason": "None", "exit_code": {"status": ["SUCCESS"], "return_code": {"number": 0}},
        "array_job_id": {"number": 0}, "array_task_id": {"number": 0}, "array_task_string": "1-3",
        "restart_cnt": 0, "start_time": {"number": 5}, "state": {"current": ["FAILED"],
        "reason": "x"},
    }],
    "job_id": 5, "step_id": "x", "result": {"job_id": 5},
}  # fmt: skip
REPLIES: dict[str, tuple[bytes, Callable[[Reply], object]]] = {
    "squeue": (SQUEUE.encode(), slurm.read_squeue),
    "sacct": (SACCT.encode(), slurm.read_sacct),
    "scontrol": ((RECORDED / "scontrol.txt").read_bytes(), slurm.read_limits),
    "sbatch": (b"5;cluster\n", slurm.read_submission),
    "sbatch --test-only": (b"sbatch: Job 5 to start at 2026-11-26T11:00:00\n", slurm.read_verdict),
    "qstat": ((RECORDED / "qstat.xml").read_bytes(), read_qstat),
    "qhost": ((RECORDED / "qstat.xml").read_bytes(), read_silent),
    "qacct": ((RECORDED / "qacct.txt").read_bytes(), read_qacct),
}
STRUCTURED: dict[str, Callable[[Reply], object]] = {
    "jobs": lambda reply: rest.read_jobs(reply, "u"),
    "records": rest.read_records,
    "submission": rest.read_submission,
}


@pytest.mark.parametrize("program", REPLIES)
@fuzzed
@given(data=st.data(), status=st.sampled_from([0, 0, 0, 1]))
def test_reply(program: str, data: st.DataObject, status: int) -> None:
    good, read = REPLIES[program]
    text = data.draw(texts(good)).decode("utf-8", "replace")
    with documented():
        read(Reply(status=status, output=text))


@pytest.mark.parametrize("question", STRUCTURED)
@fuzzed
@given(text=documents(SLURMREST), status=st.sampled_from([200, 200, 200, 500]))
def test_reply_of_slurmrestd(question: str, text: bytes, status: int) -> None:
    with documented():
        STRUCTURED[question](Reply(status=status, output=text.decode("utf-8", "replace")))


# -- outputs of programs ---------------------------------------------------------------------------

STATISTICS = b"""\
                                        Overall    Low     High
High resolution limit                           1.30    3.53    1.30
Low resolution limit                           55.46   55.48    1.32
Completeness                                   98.0   100.0    71.6
Rmerge(I)                                     0.046   0.030   0.343
"""
OUTPUTS: dict[str, tuple[bytes, dict[str, object]]] = {
    "json": (b'{"a": {"b": [1, 2.5, null]}}', {"key": "a.b"}),
    "lines": (b"a\nb c\n", {"pattern": "b"}),
    "regex": (b"x = 5\ny = 1e3\n", {"pattern": r"x = (?P<x>\S+)"}),
    "table": (b"a b\n1 2\n3 4\n", {"header": "^a b"}),
    "text": (b"abc\n", {}),
    "merging-statistics": (STATISTICS, {}),
    "xia2": (b"", {}),
    "fast_dp": (b"", {}),
    "ispyb-xml": (b"", {}),
}


def real(name: str) -> bytes:
    """Return the output of a real program, or a text that resembles it."""
    good = OUTPUTS[name][0]
    if name == "xia2":
        good = next(iter(sorted(XIA2.rglob("xia2.json")))).read_bytes()
    if name in ("ispyb-xml", "fast_dp"):
        shared = TESTS.parent.parent / "shared" / "data"
        where = {"ispyb-xml": "autoPROC/AutoProcessingWrappers/autoPROC.xml",
                 "fast_dp": "fast_dp/fast_dp.json"}  # fmt: skip
        file = shared / where[name]
        good = file.read_bytes() if file.exists() else RESEMBLING[name]
    return good


RESEMBLING = {
    "ispyb-xml": b"""<?xml version="1.0"?><AutoProcContainer><AutoProc><spaceGroup>P 1</spaceGroup>
<refinedCell_a>1.0</refinedCell_a></AutoProc><AutoProcScalingContainer><AutoProcScaling>
<recordTimeStamp>2026-11-26 11:00:00</recordTimeStamp></AutoProcScaling>
<AutoProcScalingStatistics><scalingStatisticsType>overall</scalingStatisticsType>
<resolutionLimitLow>50</resolutionLimitLow></AutoProcScalingStatistics></AutoProcScalingContainer>
</AutoProcContainer>""",
    "fast_dp": json.dumps({
        "unit_cell": [1, 2, 3, 90, 90, 90], "refined_beam": [1, 2], "spacegroup": "P 1",
        "scaling_statistics": {name: {"r_merge": 0.1} for name in ("overall", "innerShell",
        "outerShell")},
    }).encode(),
}  # fmt: skip
"""Where the real files are not: they are kept outside of the project."""


@pytest.mark.parametrize("name", OUTPUTS)
@fuzzed
@given(data=st.data())
def test_output_of_a_program(name: str, tmp_path: Path, data: st.DataObject) -> None:
    file = tmp_path / "output"
    file.write_bytes(data.draw(texts(real(name))))
    with documented():
        parse(name, file, OUTPUTS[name][1])


@pytest.mark.parametrize("blanks", [1000, 20_000])
def test_a_line_of_blanks_costs_no_time(tmp_path: Path, blanks: int) -> None:
    file = tmp_path / "log"
    file.write_bytes(STATISTICS + b"High resolution limit" + b" " * blanks + b"x\n")
    with documented():
        parse("merging-statistics", file, {})
