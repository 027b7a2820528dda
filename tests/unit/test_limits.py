"""Limits of sizes: what is refused, in one sentence, and what never is; and work that is linear."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, PermanentError, RecipeError
from zwrap.message.content import RECIPE_HEADER, Message
from zwrap.message.jsontext import encode
from zwrap.message.limits import DEFAULTS, Limits
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.recipe.substitution import Filling, fill
from zwrap.service.dispatcher import Dispatcher
from zwrap.service.mailer import Mailer, recipients
from zwrap.service.runner import Runner
from zwrap.service.settling import handle_delivery
from zwrap.submission.request import PreparedJob, prepare
from zwrap.transport.memory import MemoryBroker, MemoryTransport


class Ended:
    """The end of one request to a Dispatcher: the reason of its dead letter, or its messages."""

    def __init__(self, body: object, site: str = "") -> None:
        text = "version: 1\nenvironments: {default: [limits]}\nlimits: {plugin: limits" + site + "}"
        configuration = Configuration.from_string(text).activate() if site else Configuration()
        self.broker = MemoryBroker()
        transport = MemoryTransport(self.broker)
        transport.send("processing_recipe", body)
        began = time.process_time()
        service = Dispatcher(configuration, transport)
        transport.subscribe("processing_recipe")
        if delivery := transport.receive(0):
            handle_delivery(service, delivery)
        self.worked_s = time.process_time() - began
        dead = self.broker.dead_letters.get("processing_recipe", [])
        self.reason = dead[0].reason.splitlines()[0] if dead else ""

    def sent(self, queue: str) -> int:
        return len(self.broker.queues.get(queue, []))


def request(recipe: dict[str, Any], **parameters: object) -> dict[str, Any]:
    return {"custom_recipe": recipe, "parameters": parameters}


def starts(number: int) -> dict[str, Any]:
    return {"1": {"queue": "q"}, "start": [[1, []]] * number}


def chain(number: int) -> dict[str, Any]:
    nodes: dict[str, Any] = {str(n): {"queue": "q", "output": n + 1} for n in range(1, number)}
    return {**nodes, str(number): {"queue": "q"}, "start": [[1, []]]}


def outputs(number: int) -> dict[str, Any]:
    return {"1": {"queue": "q", "output": [2] * number}, "2": {"queue": "q"}, "start": [[1, []]]}


def dense(number: int) -> dict[str, Any]:
    nodes = {str(n): {"queue": "q", "output": [*range(n + 1, number + 1)]}
             for n in range(1, number)}  # fmt: skip
    return {**nodes, str(number): {"queue": "q"}, "start": [[1, []]]}


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def output(value: object) -> dict[str, Any]:
    return {"1": {"queue": "q", "output": value}, "start": [[1, []]]}


def text(value: str) -> dict[str, Any]:
    return {"1": {"queue": "q", "p": value}, "start": [[1, []]]}


NODE: dict[str, Any] = {"1": {"queue": "q"}, "start": [[1, []]]}

REFUSED: dict[str, tuple[object, str]] = {
    "start pairs": (request(starts(4000)), "'start'"),
    "nodes": (request(chain(20_000)), "'nodes'"),
    "references": (request(dense(1200)), "'outputs'"),
    "outputs": (request(outputs(30_000)), "'outputs'"),
    "outputs of error": (request({**starts(1), "error": [1] * 30_000}), "'outputs'"),
    "width": (request(text("{guid:>999999999}")), "'format_width'"),
    "width in other digits": (request(text("{guid:>٩٩٩٩٩٩٩٩٩}")), "'format_width'"),
    "precision": (request(text("{f:.99999999}"), f=1.5), "'format_width'"),
    "width of a parameter": (request(text("{n:{w}}"), n=1, w=10**9), "'format_width'"),
    "width of many digits": (request(text("{n:" + "9" * 5000 + "}"), n=1), "'format_width'"),
    "recipes": ({"recipes": ["r"] * 1000}, "'recipes'"),
    "filled": (
        request({"1": {"queue": "q", "p": "{x}" * 1000}, "start": [[1, []]]}, x="y" * 10**6),
        "'filled_bytes'",
    ),
    "replaced": (
        request({"1": {"queue": "q", "p": ["{$REPLACE:x}"] * 10_000}, "start": [[1, []]]},
                x=list(range(10_000))),
        "'filled_bytes'",
    ),
    "first messages": (
        request({"1": {"queue": "q", "p": "y" * 5 * 10**6}, "start": [[1, []]] * 1000}),
        "'copies_bytes'",
    ),
    "parameters that are nested": (request(NODE, x=nested(400)), "'depth'"),
    "outputs that are nested": (request(output(nested(400))), "'depth'"),
    "both nested, and put in": (
        request({"1": {"queue": "q", "p": "{$REPLACE:x}"}, "start": [[1, []]]}, x=nested(95)),
        "",
    ),
    "queue": (request({"1": {"queue": "é" * 200}, "start": [[1, []]]}), "'name_bytes'"),
    "topic": (request({"1": {"topic": "t" * 256}, "start": [[1, []]]}), "'name_bytes'"),
    "delay": (
        request({"1": {"queue": "q", "transport-delay": 1e20}, "start": [[1, []]]}), "'delay_s'",
    ),
    "delay of many digits": (
        request({"1": {"queue": "q", "transport-delay": 10**400}, "start": [[1, []]]}), "'delay_s'",
    ),
    "delay that is a boolean": (
        request({"1": {"queue": "q", "transport-delay": True}, "start": [[1, []]]}),
        "not a number of seconds",
    ),
    "delay that is no number": (
        request({"1": {"queue": "q", "transport-delay": float("nan")}, "start": [[1, []]]}),
        "'delay_s'",
    ),
    "node number": (request({str(2**63): {}, "start": [[2**63, []]]}), "2147483647"),
    "node number of many digits": (request({"9" * 5000: {}, "start": [[1, []]]}), "2147483647"),
    "node number below 0": (request({"-1": {}, "start": [[-1, []]]}), "above 0"),
    "one node twice": (request({"1": {}, "01": {}, "start": [[1, []]]}), "each is there once"),
    "one node in two scripts": (request({"1": {}, "\u0661": {}, "start": [[1, []]]}), "'\u0661'"),
    "start that is a boolean": (request({"1": {}, "start": [[True, []]]}), "does not exist"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_too_large_is_refused_in_a_sentence_that_names_the_key(name: str) -> None:
    body, key = REFUSED[name]
    ended = Ended(body)
    if name.startswith("both"):  # the sum is within reach of all who handle it
        assert ended.reason == "" or "'depth'" in ended.reason
        return
    assert key in ended.reason
    assert "Error" not in ended.reason
    assert len(ended.reason) < 1000
    assert ended.worked_s < 10.0  # without limits it is minutes


def test_a_body_that_is_too_large_is_refused_before_it_is_decoded() -> None:
    ended = Ended({"x": "y" * 1000}, site=", body_bytes: 500")
    assert "'body_bytes'" in ended.reason


@pytest.mark.parametrize(
    ("body", "site"),
    [
        (request(starts(3)), ", start: 2"),
        (request(chain(3)), ", nodes: 2"),
        (request(outputs(3)), ", outputs: 2"),
        (request(starts(9)), ", sent_bytes: 100"),
        (request(starts(9)), ", copies_bytes: 100"),
        (request({**NODE, "1": {"queue": "q", "x": "{guid:>99}"}}), ", format_width: 98"),
        (request({**NODE, "1": {"queue": "qqq"}}), ", name_bytes: 2"),
        (request({**NODE, "1": {"queue": "q", "transport-delay": 3}}), ", delay_s: 2"),
        (request(NODE, x=nested(40)), ", depth: 20"),
        ({"recipes": ["a", "b"]}, ", recipes: 1"),
    ],
)
def test_a_site_sets_each_limit(body: object, site: str) -> None:
    key = site.strip(", ").partition(":")[0]
    assert f"section limits, key '{key}'" in Ended(body, site).reason


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (request(starts(200)), 200),
        (request(chain(500)), 1),
        (request(outputs(1000)), 1),
        (request(NODE, x=nested(50)), 1),
        (request({"1": {"queue": "q", "output": 2}, "2": {"queue": "q", "p": "{guid:>500}"},
                  "start": [[1, []]]}), 1),
        (request({"1": {"queue": "q"}, "start": [[1, [f"/dls/{'x' * 90}/{n}.cbf"
                                                      for n in range(100_000)]]]}), 1),
        (request({"1": {"queue": "q", "p": "{$REPLACE:files}"}, "start": [[1, []]]},
                 files=[f"/dls/{'x' * 90}/{n}.cbf" for n in range(100_000)]), 1),
        (request({"001": {"queue": "q"}, "start": [[1, []]]}), 1),
        (request({"1": {"queue": "q" * 200}, "start": [[1, []]]}), 0),
        (request({"1": {"queue": "q", "transport-delay": 86_400}, "start": [[1, []]]}), 1),
    ],
)  # fmt: skip
def test_what_is_honest_is_not_refused(body: object, sent: int) -> None:
    ended = Ended(body)
    assert ended.reason == ""
    assert ended.sent("q") == sent


@pytest.mark.parametrize(
    ("key", "value"),
    [("nodes", "0"), ("depth", "5"), ("depth", "1000"), ("delay_s", "1.0e+9"), ("start", "x"),
     ("nodse", "7"), ("body_bytes", "1.5")],
)  # fmt: skip
def test_a_wrong_limit_is_told_with_its_line(key: str, value: str) -> None:
    text = f"version: 1\nenvironments: {{default: [l]}}\nl:\n  plugin: limits\n  {key}: {value}\n"
    with pytest.raises(ConfigurationError, match=f"line 5, key 'l.{key}'"):
        _ = Configuration.from_string(text).activate().site.limits


def test_without_a_section_the_defaults_hold() -> None:
    assert Configuration().site.limits == DEFAULTS == Limits()


# -- work that is linear ---------------------------------------------------------------------------


def seconds_of(work: Callable[[], object]) -> float:
    """Return the shortest processor time of three."""
    times = []
    for _ in range(3):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def faulty(number: int) -> dict[str, Any]:
    return {str(n): {"output": 10**6 + n} for n in range(1, number)}


LARGE = Limits(nodes=10**6, start=10**6, outputs=10**6, sent_bytes=10**12)


@pytest.mark.parametrize(
    ("recipe", "size"),
    [(chain, 2000), (outputs, 4000), (starts, 4000),
     (faulty, 1000)],
    ids=["chain", "outputs", "starts", "faults"],
)  # fmt: skip
def test_validation_is_linear(recipe: Callable[[int], dict[str, Any]], size: int) -> None:
    def validated(number: int) -> Callable[[], None]:
        made = Recipe(recipe(number))

        def work() -> None:
            with contextlib.suppress(PermanentError):
                made.validate(LARGE)

        return work

    assert seconds_of(validated(8 * size)) < 24 * seconds_of(validated(size)) + 0.02


def test_messages_to_many_nodes_have_a_limit_in_all() -> None:
    body = json.loads(Envelope(Recipe(outputs(1000)), 1, payload="x" * 10**6).to_json())
    envelope = Envelope.from_body(body)
    assert len(envelope.send("", "", default=True)) == 1000
    with pytest.raises(PermanentError, match=r"1000 messages.*key 'sent_bytes'"):
        envelope.send("", "x" * 10**6, default=True)


class Weighing(MemoryTransport):
    """Encodes what is sent, as others do, weighs it, and forgets it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0
        self.heaviest_bytes = 0

    def _carry_out(self, messages: Any, deliveries: Any, settlement: Any) -> None:
        encoded = [encode(message) for message in messages]
        self.sent += len(encoded)
        self.heaviest_bytes = max(self.heaviest_bytes, sum(map(len, encoded)))
        super()._carry_out([], deliveries, settlement)


def test_a_large_recipe_with_many_first_nodes_is_sent_in_bounded_memory() -> None:
    files = [f"/dls/{'x' * 90}/{n}.cbf" for n in range(100_000)]
    recipe = {"1": {"queue": "q", "files": files}, "start": [[1, []]] * 200}
    transport = Weighing()
    with transport.broker.changed:
        message = Message(request(recipe), {}, "m")
        transport.broker.put(
            "processing_recipe", message, delivery_count=1, delay_s=0, expires_s=None
        )
    transport.subscribe("processing_recipe")
    delivery = transport.receive(0)
    assert delivery
    service = Dispatcher(Configuration(), transport)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    handle_delivery(service, delivery)
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert transport.broker.dead_letters == {}
    assert transport.sent == 200
    assert 10 * 2**20 < transport.heaviest_bytes < 48 * 2**20
    assert grown_mib < 400, "all of it would be 2 GB"


def test_first_messages_share_the_recipe() -> None:
    recipe = Recipe(starts(2000))
    messages = Envelope(recipe, 1).start()
    bodies = [message.message for message in messages]
    assert all(isinstance(body, dict) for body in bodies)
    assert len({id(body["recipe"]) for body in bodies if isinstance(body, dict)}) == 1


# -- placeholders ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["{n:c}", "{x[" + "9" * 5000 + "]}", "{x[" + "9" * 5000 + "]} {", "{x:{y}}", "{f:d}",
     "{a:" * 2000 + "}" * 2000, "{" * 5001, "}" * 5001, "{x:{", "{n:c}{", "{f!x:>>}",
     "{x[0][9][0]}", "{x:.}", "{x:1_0}"],
)  # fmt: skip
def test_what_cannot_be_filled_in_stays(text: str) -> None:
    parameters = {"n": 10**30, "x": "text", "f": 1.5, "a": "b"}
    assert fill(text, parameters) == text


FIELD = st.text("{}[]:!.$0129xyn><^#,_%dcf ", max_size=30)


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(st.lists(FIELD, max_size=4).map("{".join), st.sampled_from(["", "x", "{n}"]))
def test_no_text_raises_anything_but_a_limit(text: str, extra: str) -> None:
    parameters: dict[str, object] = {"x": 10**30, "y": [1.5, {"n": "z"}], "n": 7, "0": float("nan")}
    with contextlib.suppress(RecipeError):
        assert isinstance(Filling(parameters).value([text + extra, {text: f"{{{text}}}"}]), list)


# -- envelopes and recipes of any kind -------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(-3, 5), st.integers(), st.floats(), st.just(10**400), st.just(2**63), st.booleans(),
)  # fmt: skip
VALUES = st.recursive(
    st.one_of(st.none(), NUMBERS, st.sampled_from(["", "1", "01", "x", "\ud800", "9" * 5000])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["a", "b", "1", "queue"]), inner, max_size=3),
    ),
    max_leaves=8,
)
NODES = st.one_of(
    VALUES,
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("queue", "topic", "output", "error", "transport-delay", "parameters",
             "job_parameters", "wrapper"),
            VALUES,
        ),
    ),
)  # fmt: skip
RECIPES = st.one_of(
    VALUES,
    st.fixed_dictionaries(
        {},
        optional={"start": VALUES, "error": VALUES, "1": NODES, "2": NODES, "01": NODES,
                  "-1": NODES, "x": NODES},
    ),
)  # fmt: skip
BODIES = st.one_of(
    VALUES,
    st.fixed_dictionaries(
        {"recipe": RECIPES},
        optional={"recipe-pointer": VALUES, "recipe-path": VALUES, "environment": VALUES,
                  "payload": VALUES, "x": VALUES},
    ),
)  # fmt: skip


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(BODIES)
def test_an_envelope_raises_documented_errors_only(body: object) -> None:
    try:
        envelope = Envelope.from_body(body)
    except PermanentError:
        return
    undocumented: list[Exception] = []
    for work in (
        lambda: envelope.send("a", None),
        lambda: envelope.send("", None, default=True),
        lambda: envelope.send_error(None),
        envelope.start,
        lambda: envelope.checkpoint(None),
        lambda: envelope.job_parameters,
        lambda: (envelope.recipe_id, envelope.task, envelope.to_json()),
        lambda: list(envelope.recipe.targets(envelope.pointer)),
        envelope.recipe.validate,
        lambda: envelope.recipe.apply_parameters({"a": 1}),
        lambda: envelope.recipe.merged(Recipe(NODE)),
    ):
        try:
            work()
        except PermanentError:
            continue
        except Exception as error:
            undocumented.append(error)
    assert not undocumented


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(RECIPES)
def test_a_request_is_dead_or_started_never_a_fault_of_the_service(recipe: object) -> None:
    ended = Ended({"custom_recipe": recipe, "parameters": {}})
    assert "Traceback" not in ended.reason
    assert "service failed" not in ended.reason


def test_a_recipe_message_within_limits_is_opened_by_its_header() -> None:
    body = json.loads(Envelope(Recipe(NODE), 1).to_json())
    broker = MemoryBroker()
    transport = MemoryTransport(broker)
    transport.send("processing_recipe", {**body, "payload": request(NODE)}, {RECIPE_HEADER: True})
    service = Dispatcher(Configuration(), transport)
    transport.subscribe("processing_recipe")
    delivery = transport.receive(0)
    assert delivery is not None
    handle_delivery(service, delivery)
    assert len(broker.queues["q"]) == 1


# -- commands --------------------------------------------------------------------------------------


def prepared(parameters: dict[str, Any], limits: Limits = DEFAULTS) -> PreparedJob:
    recipe = Recipe({"1": {"parameters": {"workingdir": "/w", **parameters}}, "start": [[1, []]]})
    return prepare(Envelope(recipe, 1), "0" * 32 + "-1", "local", limits=limits)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"cluster": {"commands": "x" * 5_000_000}}, "'commands_bytes'"),
        ({"cluster": {"commands": ["x" * 3_000_000] * 2}}, "'commands_bytes'"),
        ({"cluster_commands": "x", "cluster_submission_parameters": "y" * 5_000_000},
         "'commands_bytes'"),
        ({"cluster_commands": "x", "cluster_submission_parameters": "y" * 3_000_000},
         "option 'y"),
        ({"cluster_commands": "x", "cluster_submission_parameters": "-pe smp " + "9" * 5000},
         "is not understood"),
        ({"cluster": {"commands": "true\0"}}, "NUL"),
        ({"cluster": {"commands": "x", "environment": {"A": "b\0"}}}, "NUL"),
        ({"cluster": {"commands": "x"}, "recipewrapper": "a\0b"}, "NUL"),
        ({"cluster": {"commands": "x"}, "standard_output": "a\0b"}, "NUL"),
        *(({"cluster": {"commands": "x", key: value}}, "key 'cluster")
          for key in ("nodes", "cpus_per_task", "memory_per_node", "gpus")
          for value in (0, -1, True, 1.5, 2**63, 10**400, "9" * 5000, float("nan"), float("inf"))
          if (key, value) != ("memory_per_node", 0)),  # which is all memory of a node
        *(({"cluster": {"commands": "x", "time_limit": value}}, "key 'time_limit'")
          for value in (0, -1, True, 1e308, 10**400, "9" * 5000, float("nan"), "1:" * 50)),
    ],
)  # fmt: skip
def test_a_value_of_a_job_that_is_too_large_is_told(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(PermanentError, match=r"node 1, parameters|NUL") as caught:
        prepared(parameters)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_long_commands_are_not_refused_by_default() -> None:
    assert len(prepared({"cluster": {"commands": "x" * 4_000_000}}).request.commands) == 4_000_000
    assert prepared({"cluster": {"commands": "x", "memory_per_node": 2**30}})


# -- recipients ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_recipients", "said"),
    [
        ([f"u{n}@example.org" for n in range(10_000)], "10000 recipients.*key 'recipients'"),
        (",".join(["u@example.org"] * 10_000), "10000 recipients.*key 'recipients'"),
        ([["a@b.c"]], "'recipients' holds"),
        ({"select": "x", "x": {"a": 1}}, "'recipients' holds"),
        ({"select": ["x"], "x": "a@b.c"}, "'select' must name one"),
        ({"select": {"x": 1}}, "'select' must name one"),
        ("a@[1", "The head of the mail cannot be written"),
        ("(" * 2000, "The head of the mail cannot be written"),
        ("<", "The head of the mail cannot be written"),
        ("a@b\n.c", "The head of the mail cannot be written"),
        ("((((((", "hold no address"),
        (",", "hold no address"),
        ("a:;", "hold no address"),
    ],
)
def test_recipients_that_cannot_be_are_told(given_recipients: object, said: str) -> None:
    section = "m: {plugin: smtp, host: h, port: 1, from: a@b}"
    text = f"version: 1\nenvironments: {{default: [m]}}\n{section}"
    broker = MemoryBroker()
    transport = MemoryTransport(broker)
    service = Mailer(Configuration.from_string(text).activate(), transport)
    transport.subscribe("mailnotification")
    transport.send(
        "mailnotification", {"parameters": {"recipients": given_recipients}, "content": "x"}
    )
    delivery = transport.receive(0)
    assert delivery is not None
    handle_delivery(service, delivery)
    (letter,) = broker.dead_letters["mailnotification"]
    assert re.search(said, letter.reason.splitlines()[0])
    assert "Traceback" not in letter.reason


def test_500_recipients_are_taken() -> None:
    addresses = [f"u{n}@example.org" for n in range(500)]
    assert recipients({"recipients": addresses}) == addresses


# -- the Runner ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "said"),
    [({"commands": ["x" * 5_000_000]}, "'commands_bytes'"), ({"commands": ["a\0"]}, "NUL"),
     ({"commands": ["true"] * 20_000}, "key 'commands' holds 20000 commands"),
     ({"commands": ["true"], "timeout": 10**30}, "key 'timeout'"),
     ({"commands": ["true"], "timeout": "9" * 5000}, "key 'timeout'"),
     ({"commands": ["true"], "timeout": float("inf")}, "key 'timeout'"),
     ({"commands": ["true"], "recipewrapper": "a\0"}, "NUL"),
     ({"commands": ["true"], "output_file": "a\0"}, "NUL")],
)  # fmt: skip
def test_commands_that_cannot_be_run_are_told(
    parameters: dict[str, Any], said: str, tmp_path: Path
) -> None:
    broker = MemoryBroker()
    transport = MemoryTransport(broker)
    service = Runner(Configuration(), transport)
    transport.subscribe("runner.submission")
    recipe = Recipe({"1": {"parameters": {"workingdir": str(tmp_path), **parameters}},
                     "start": [[1, []]]})  # fmt: skip
    transport.send("runner.submission", Envelope(recipe, 1).body(), {RECIPE_HEADER: True})
    delivery = transport.receive(0)
    assert delivery is not None
    handle_delivery(service, delivery)
    (letter,) = broker.dead_letters["runner.submission"]
    assert said in letter.reason.splitlines()[0]
    assert "Traceback" not in letter.reason


def test_reading_a_small_file_takes_little_memory(tmp_path: Path) -> None:
    """A job may have less memory than the largest file that is read."""
    (tmp_path / "out").write_text("n: 7\n")
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from zwrap.program.parsers.generic import parse_regex\n"
        "limit = 200 << 20\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "print(parse_regex(Path(sys.argv[1]), {'pattern': r'n: (?P<n>\\d+)'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, tmp_path / "out"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert "7" in done.stdout, done.stderr
