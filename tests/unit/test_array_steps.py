"""A step with several tasks: each is a job, and the recipe hears each."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from zwrap_schedulers.sge import inside as sge_inside
from zwrap_schedulers.slurm import inside as slurm_inside

from zwrap.attempt.record import kind_of
from zwrap.configuration.clusters import ClusterSettings
from zwrap.configuration.key import site_key
from zwrap.configuration.site import Configuration
from zwrap.errors import RequestError
from zwrap.message.content import ATTEMPT_HEADER, ID_HEADER, Message, Outgoing
from zwrap.message.identity import child_id, identify, origin_after, token_of
from zwrap.message.jsontext import decode, encode
from zwrap.message.limits import Limits
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.service.arraysteps import ArraySteps
from zwrap.service.contract import Work
from zwrap.service.loop import Loop
from zwrap.service.submitter import Submitter
from zwrap.submission import tasks
from zwrap.submission.block import check_defaults
from zwrap.submission.request import prepare
from zwrap.submission.script import Renderer
from zwrap.submission.tasks import (
    SENT_HEADER,
    TASK_HEADER,
    TASK_OF_HEADER,
    Tasks,
    copies,
    task_in,
    tasks_of,
    whole_of,
)
from zwrap.transport.delivery import Delivery
from zwrap.transport.memory import MemoryTransport
from zwrap.transport.portions import PORTION_BYTES
from zwrap.transport.signing import Signer
from zwrap.transport.unit import Unit


def step(array: object, **more: Any) -> Envelope:
    node = {
        "queue": "cluster.submission", "output": {"job_submitted": 2},
        "parameters": {
            "workingdir": "/w", "recipewrapper": "rw.json",
            "cluster": {"commands": "run $RECIPEWRAP", "array": array, "job_name": "a", **more},
        },
    }  # fmt: skip
    recipe = Recipe({"start": [[1, []]], "1": node, "2": {"queue": "told"}})
    return Envelope(recipe, 1, environment={"ID": "r"})


@pytest.mark.parametrize(
    ("given", "tasks"),
    [
        ("0-3", Tasks((0, 1, 2, 3), None)),
        ("1,4-10:2,4", Tasks((1, 4, 6, 8, 10), None)),
        ("0-99%10", Tasks(tuple(range(100)), 10)),
        (7, Tasks((7,), None)),
        (True, True),
        (False, False),
        ("false", False),
    ],
)
def test_tasks_are_written_as_for_sbatch(given: object, tasks: Tasks | bool) -> None:
    assert tasks_of(given, "here", Limits()) == tasks


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("3-1", "here is '3-1'; true, false, or numbers of tasks"),
        ("0-3%0", "here is '0-3%0'; true"),
        ("0-3%", "here is '0-3%'; true"),
        ("a", "here is 'a'; true"),
        ("", "here is ''; true"),
        (1.5, "here is 1.5; true"),
        ("-1", "here is '-1'; true"),
        ("0-9:0", "here is '0-9:0'; true"),
        ("0-1000", "more than 1000 tasks [(]section limits, key 'tasks'[)]"),
        ("0-999999999", "more than 1000 tasks"),
    ],
)
def test_what_names_no_tasks_is_refused(given: object, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        tasks_of(given, "here", Limits())


def test_each_task_is_a_message_with_its_number() -> None:
    message = Message(step("0-2").body(), {
        "workflows-recipe": True, "zwrap-id": "i", "zwrap-origin": "o", "zwrap-signature": "s",
        "x-death": [], "traceparent": "t", ATTEMPT_HEADER: 2,
    }, "i")  # fmt: skip
    sent = copies(step("0-2"), message, "q")
    assert [each.destination for each in sent] == ["q"] * 3
    own = [{key: each.headers[key] for key in (TASK_HEADER, TASK_OF_HEADER)} for each in sent]
    assert own == [{TASK_HEADER: n, TASK_OF_HEADER: child_id("i", "tasks")} for n in range(3)]
    common = {"workflows-recipe": True, "traceparent": "t", ATTEMPT_HEADER: 2}
    assert [each.headers for each in sent] == [common | each for each in own]
    bodies: list[Any] = [each.message for each in sent]
    assert [body["environment"] for body in bodies] == [
        {"ID": "r", "array-task": number} for number in range(3)
    ]
    assert bodies[0]["recipe"] == step("0-2").recipe.wire
    for each in sent:
        message = Message(each.message, each.headers, "x")
        assert copies(Envelope.from_body(each.message), message, "q") == [], "it is one job"
        assert whole_of(message) == child_id("i", "tasks")


def test_a_step_of_one_job_is_not_taken_apart() -> None:
    for array in (True, False, None):
        assert copies(step(array), Message({}, {}, "i"), "q") == []


def test_tasks_that_are_counted_need_the_id_of_their_recipe() -> None:
    nameless = Envelope(step("0-3%2").recipe, 1)
    with pytest.raises(RequestError, match="no 'ID' in its environment, by which the tasks that"):
        copies(nameless, Message({}, {}, "i"), "q")
    assert len(copies(step("0-3%2"), Message({}, {}, "i"), "q")) == 4


def test_the_messages_for_tasks_have_a_limit_together() -> None:
    envelope = step("0-2")
    small = Envelope(envelope.recipe, 1, limits=Limits(copies_bytes=500))
    with pytest.raises(RequestError, match="key 'array' is '0-2': the messages for 3 tasks"):
        copies(small, Message({}, {}, "i"), "q")


def test_of_a_large_step_some_tasks_have_messages_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last message is for the others; whoever handles it goes on in the same way."""
    envelope = step("0-2000:200,7")
    monkeypatch.setattr(tasks, "PORTION_BYTES", 4 * len(encode(envelope.body())))
    numbers: list[list[object]] = []
    others: list[dict[str, object]] = []
    left = [Outgoing("q", envelope.body(), {"workflows-recipe": True, ATTEMPT_HEADER: 2})]
    while left:
        headers = left[0].headers
        message = Message(left[0].message, headers, str(headers.get(ID_HEADER, "i")))
        sent = copies(Envelope.from_body(message.body), message, "q")
        left = [each for each in sent if TASK_HEADER not in each.headers]
        assert left in ([], sent[-1:])
        tasks_now = [dict(each.headers) for each in sent if each not in left]
        numbers.append([headers.pop(TASK_HEADER) for headers in tasks_now])
        others += tasks_now
    assert numbers == [[0, 7, 200, 400], [600, 800, 1000, 1200], [1400, 1600, 1800, 2000]]
    assert others == [others[0]] * 12, "by the other headers they are tasks of the same step"
    assert others[0]["workflows-recipe"] is True
    assert others[0][ATTEMPT_HEADER] == 2


SECTIONS = {"version": 1, "environments": {"default": []}}


@pytest.fixture
def signer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Signer:
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path / "state"))
    return Signer(site_key(Configuration.from_string(json.dumps(SECTIONS))))


def started(envelope: Envelope, signer: Signer | None) -> Message:
    """Return the message of a step as it came of a request that has not changed.

    Without a signer another program sent it, and the broker gave it an id.
    """
    if signer is None:
        return Message(envelope.body(), {"workflows-recipe": True}, child_id("broker", "x"))
    request = Message({"recipes": ["r"]}, {}, "request")
    unit = Unit(request.id, signer.after(request, "processing_recipe"))
    unit.send(Outgoing("q", envelope.body(), {"workflows-recipe": True}))
    return received(unit.outgoing[0])


def received(message: Outgoing) -> Message:
    body = decode(encode(message.message))
    return Message(body, message.headers, identify(body, message.headers))


def taken_apart(message: Message, signer: Signer) -> tuple[dict[int | None, Message], int]:
    """Return the message for each task of a step, and the number of portions."""
    steps, transport, found, portions = ArraySteps(MemoryTransport(), signer), None, {}, 0
    left = [message]
    while left:
        portions += 1
        [one] = left
        delivery: Any = Delivery(transport, one, "q", delivery_count=1, topic=False)  # type: ignore[arg-type]
        sent = map(received, steps.messages(Work(delivery, Envelope.from_body(one.body))))
        left = []
        for each in sent:
            if (number := task_in(each)) is None:
                left.append(each)
            else:
                assert number not in found
                found[number] = each
    return found, portions


@pytest.mark.parametrize("is_signed", [True, False])
@pytest.mark.parametrize("most", [1, 4, 5, 7])
def test_the_identity_of_a_task_does_not_depend_on_the_portion_in_which_it_is_sent(
    monkeypatch: pytest.MonkeyPatch, signer: Signer, is_signed: bool, most: int
) -> None:
    """So a step that is taken apart again, by any release, becomes the same jobs."""
    envelope = step("0-20:2")
    message = started(envelope, signer if is_signed else None)
    whole, portions = taken_apart(message, signer)
    assert portions == 1
    monkeypatch.setattr(tasks, "PORTION_BYTES", most * len(encode(envelope.body())))
    found, portions = taken_apart(message, signer)
    assert portions > 1
    assert identities(found, signer) == identities(whole, signer)
    origin = origin_after(f"{signer.origin(message).text}/q")
    assert [(each.id, signer.origin(each).text) for each in found.values()] == [
        (child_id(message.id, rank), origin) for rank in range(11)
    ], "as releases do that send all at once"
    assert message.id not in {each.id for each in found.values()}


@pytest.mark.parametrize("most", [4, 5])
def test_a_step_whose_recipe_was_edited_meanwhile_has_the_same_tasks(
    monkeypatch: pytest.MonkeyPatch, signer: Signer, most: int
) -> None:
    """A request is handled again, and a recipe has grown: fewer messages are in a portion."""
    before, after = step("0-20:2"), step("0-20:2", commands="run $RECIPEWRAP" + " " * 2000)
    monkeypatch.setattr(tasks, "PORTION_BYTES", most * len(encode(before.body())))
    found = [taken_apart(started(each, signer), signer) for each in (before, after)]
    assert found[0][1] < found[1][1], "more portions"
    assert identities(found[0][0], signer) == identities(found[1][0], signer)


def identities(found: dict[int | None, Message], signer: Signer) -> dict[int | None, object]:
    """Return id, origin, step and token of the message for each task."""
    return {
        number: (each.id, (origin := signer.origin(each)).text, origin.is_proven, whole_of(each),
                 token_of(each, origin.text))
        for number, each in found.items()
    }  # fmt: skip


def test_the_message_for_further_tasks_is_the_same_one_as_before(
    monkeypatch: pytest.MonkeyPatch, signer: Signer
) -> None:
    """What is noted of the step as a whole, such as its refusal, is found by either."""
    monkeypatch.setattr(tasks, "PORTION_BYTES", 1)
    envelope = step("0-3")
    message = started(envelope, signer)
    headers = {**message.headers, "x-death": [], ATTEMPT_HEADER: 2}
    before = Message(message.body, headers, message.id)
    last = received(copies(envelope, before, "q")[-1])
    assert dict(last.headers) == {
        **message.headers, ATTEMPT_HEADER: 2, ID_HEADER: before.id, SENT_HEADER: 3,
    }  # fmt: skip
    assert (last.id, last.body) == (before.id, before.body)
    assert signer.origin(last) == signer.origin(before)
    assert signer.origin(last).is_proven


@pytest.mark.parametrize("sent", [3, "3", 999999999])
def test_a_message_for_no_task_is_refused(sent: object) -> None:
    message = Message({}, {SENT_HEADER: sent}, "i")
    with pytest.raises(RequestError, match=r"names 3 tasks, and the message says that .* of them"):
        copies(step("0-2"), message, "q")


def test_ten_thousand_tasks_with_an_ordinary_recipe_are_sent() -> None:
    envelope = step("0-9999", environment={"NOTE": "x" * 20_000})
    large = Envelope(envelope.recipe, 1, environment={"ID": "r"}, limits=Limits(tasks=10_000))
    size = len(encode(large.body()))
    message, found = Message(large.body(), {}, "i"), list[object]()
    while True:
        sent = copies(large, message, "q")
        assert sum(len(encode(each.message)) for each in sent[:2]) < 2 * size + 100
        assert len(sent) * size < PORTION_BYTES + 2 * size
        found += [each.headers[TASK_HEADER] for each in sent if TASK_HEADER in each.headers]
        if TASK_HEADER in sent[-1].headers:
            break
        message = Message(sent[-1].message, sent[-1].headers, "i")
    assert found == list(range(10_000))


@pytest.mark.parametrize(
    ("given", "number"),
    [("1", 1), (1, 1), (0, 0), (True, None), (None, None), ("x", None), ("-1", None),
     ("9" * 5000, None)],
)  # fmt: skip
def test_a_number_of_a_task_in_a_header_is_read_or_left_alone(
    given: object, number: int | None
) -> None:
    assert task_in(Message({}, {TASK_HEADER: given}, "i")) == number


def test_a_message_for_a_task_that_the_step_does_not_name_is_refused() -> None:
    """Someone has edited the message, or `zwrap resubmit -s array=...` has."""
    words = r"key 'cluster', key 'array' names no task 7, for which the message is .header 'zwrap-t"
    with pytest.raises(RequestError, match=words):
        prepare(step("0-3"), "t-1", "c", task=7)


@pytest.mark.parametrize("given", [None, 7, "elsewhere", "x" * 36])
def test_only_a_mark_of_zwrap_s_own_tells_which_tasks_belong_together(given: object) -> None:
    headers = {TASK_HEADER: 1, TASK_OF_HEADER: given}
    assert whole_of(Message({}, headers, "i")) is None
    mark = child_id("i", "tasks")
    assert whole_of(Message({}, {**headers, TASK_OF_HEADER: mark}, "i")) == mark
    assert whole_of(Message({}, {TASK_OF_HEADER: mark}, "i")) is None


def test_a_site_cannot_make_all_its_steps_several_jobs() -> None:
    settings = ClusterSettings(kind="slurm", defaults={"array": "0-3"})
    with pytest.raises(RequestError, match="the default of 'array' may be true or false"):
        check_defaults(settings, "here")


# -- the job of a task -----------------------------------------------------------------------------


def test_each_task_has_files_of_its_own() -> None:
    """Their contents differ by the number of the task."""
    prepared = prepare(step("0-3"), "t-1", "c", task=2)
    assert prepared.request.commands == "run /w/rw.json.2"
    assert list(prepared.files) == [Path("/w/rw.json.2")]
    assert prepare(step(True), "t-1", "c").request.commands == "run /w/rw.json"


def site(tmp_path: Path, kind: str = "local", **options: Any) -> Configuration:
    text = {
        "version": 1, "environments": {"default": ["c"]},
        "c": {"plugin": "clusters", "c": {"kind": kind, **options}},
    }  # fmt: skip
    return Configuration.from_string(json.dumps(text)).activate()


SAID = 'echo "$ZWRAP_ARRAY_TASK $SLURM_ARRAY_TASK_ID $SLURM_ARRAY_TASK_COUNT $SGE_TASK_LAST"'


def test_a_job_finds_the_number_that_the_step_gives(tmp_path: Path) -> None:
    """The number of its job in the batch system's own array does not matter."""
    envelope = step("3-9:2", commands=f"{SAID}; echo $ZWRAP_BATCH_TASK")
    parameters: Any = envelope.step["parameters"]
    parameters["workingdir"] = str(tmp_path)
    renderer = Renderer(site(tmp_path))
    prepared, cluster = renderer.prepare(envelope, "t-1", 5)
    prepared.request.job_directory.mkdir(parents=True)
    script = renderer.script(prepared.request, cluster)
    for given, own in (({}, ""), ({"SLURM_ARRAY_TASK_ID": "2"}, "2"), ({"SGE_TASK_ID": "4"}, "4")):
        environment = {"PATH": "/usr/bin:/bin", **given}
        done = subprocess.run(
            ["bash", "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout == f"5 5 4 9\n{own}\n"


def test_the_wrapper_of_a_task_knows_the_id_that_the_batch_system_gave() -> None:
    slurm = {"SLURM_JOB_ID": "11", "SLURM_ARRAY_TASK_ID": "5"}
    single = slurm_inside.job({**slurm, "ZWRAP_BATCH_TASK": ""})
    joined = slurm_inside.job({**slurm, "SLURM_ARRAY_JOB_ID": "9", "ZWRAP_BATCH_TASK": "2"})
    assert [each and each.job_id for each in (single, joined)] == ["11", "9_2"]
    sge = {"JOB_ID": "7", "SGE_CELL": "default", "SGE_TASK_ID": "5"}
    found = [sge_inside.job({**sge, "ZWRAP_BATCH_TASK": own}) for own in ("", "undefined", "2")]
    assert [each and each.job_id for each in found] == ["7", "7", "7.2"]


# -- the Submitter ---------------------------------------------------------------------------------


def test_the_recipe_hears_of_the_job_of_each_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path / "state"))
    transport, taken = MemoryTransport(), []

    def submit_all(_: Any, __: Any, jobs: Any, on_outcomes: Any, *more: Any) -> None:
        del more
        taken.extend(jobs)
        on_outcomes([(job.attempt.token, str(n)) for n, job in enumerate(jobs, 1)])

    monkeypatch.setattr("zwrap.service.submitter.submit_all", submit_all)
    envelope = step("4-6")
    transport.commit(envelope.start())
    again = transport.broker.queues["cluster.submission"][0]
    for _ in range(2):  # the second time as if the first had not been settled
        Loop(Submitter(site(tmp_path), transport), transport, once=True).run()
        transport.broker.queues["cluster.submission"].append(again)
    bodies = [entry.message.body for entry in transport.broker.queues["told"]]
    assert [body["environment"]["array-task"] for body in bodies] == [4, 5, 6] * 2
    assert [body["payload"]["jobid"] for body in bodies[:3]] == [1, 2, 3]
    tokens = [job.attempt.token for job in taken]
    assert len(set(tokens)) == 3, "a repeat is the same tasks"
    assert [job.request.task.number for job in taken[:3]] == [4, 5, 6]
    assert {kind_of(job.request.resources) for job in taken} == {""}
    assert "cluster.submission" not in transport.broker.dead_letters


def test_each_task_of_a_large_step_is_one_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its messages are sent some at a time, also if some of them were sent before."""
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path / "state"))
    transport, taken, largest = MemoryTransport(), [], [0]

    def submit_all(_: Any, __: Any, jobs: Any, on_outcomes: Any, *more: Any) -> None:
        del more
        taken.extend(jobs)
        waiting = transport.broker.queues["cluster.submission"]
        largest.append(len(waiting) + len(jobs))
        on_outcomes([(job.attempt.token, str(n)) for n, job in enumerate(jobs, 1)])

    monkeypatch.setattr("zwrap.service.submitter.submit_all", submit_all)
    envelope = step("0-39")
    monkeypatch.setattr(tasks, "PORTION_BYTES", 10 * len(encode(envelope.body())))
    transport.commit(envelope.start())
    again = transport.broker.queues["cluster.submission"][0]
    for _ in range(2):
        Loop(Submitter(site(tmp_path), transport), transport, once=True).run()
        transport.broker.queues["cluster.submission"].append(again)
    bodies = [entry.message.body for entry in transport.broker.queues["told"]]
    told = [body["environment"]["array-task"] for body in bodies]
    assert sorted(told) == sorted([*range(40), *range(40)])
    assert len({job.attempt.token for job in taken}) == 40
    assert max(largest) <= 11
    assert "cluster.submission" not in transport.broker.dead_letters
