"""An identity has an owner: who uses another's id takes nothing from it, and a repeat is known.

Requests go through a Dispatcher and a Submitter; the batch system takes each token once.
"""

from __future__ import annotations

import copy
import itertools
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from zwrap.attempt.directory import SUBMISSION
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import SUBMITTED, Attempt, parse_submission
from zwrap.attempt.retry import continuation, next_attempt
from zwrap.configuration.key import site_key
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError
from zwrap.host.sitekey import SiteKey
from zwrap.job import Cause
from zwrap.message.content import ORIGIN_HEADER, SIGNATURE_HEADER, Message, Outgoing
from zwrap.message.identity import (
    child_id,
    digest_of,
    former_token,
    origin_after,
    origin_of_content,
    token_of,
)
from zwrap.message.jsontext import decode, encode
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.service import submitter
from zwrap.service.contract import Service
from zwrap.service.dispatcher import Dispatcher
from zwrap.service.loop import Loop
from zwrap.service.submitter import Submitter
from zwrap.submission import tasks
from zwrap.submission.pending import PendingJob
from zwrap.submission.recognition import Recognition, Recognized
from zwrap.transport.deadletters import export, read, reinjected
from zwrap.transport.memory import MemoryTransport
from zwrap.transport.signing import Signer
from zwrap.transport.unit import Unit

QUEUE = "cluster.submission"
RETRY = {"on": ["out_of_memory"], "limit": 3}


class Site:
    """A Dispatcher, a Submitter, and the jobs that came about, in order."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.transport = MemoryTransport()
        self.jobs: list[PendingJob] = []
        self.edit("true")
        section = {"plugin": "storage", "zocalo.recipe_directory": str(directory)}
        text = {"version": 1, "s": section, "c": {"plugin": "clusters"}}
        text["environments"] = {"default": ["s", "c"]}
        self.configuration = Configuration.from_string(json.dumps(text)).activate()

    def step(self, commands: str, owner: str, **parameters: Any) -> dict[str, Any]:
        block = {"commands": commands, "job_name": "n", "memory_per_node": 1000}
        given = {"cluster": block, "workingdir": f"{self.directory}/{owner}", **parameters}
        return {"queue": QUEUE, "output": {"job_submitted": 2}, "parameters": given}

    def last(self, owner: str) -> dict[str, Any]:
        """Return a step that follows from a job, and is followed by none."""
        return {**self.step("true", owner), "output": {}}

    def edit(self, commands: str, **block: Any) -> None:
        """Write the recipe with these commands."""
        step = self.step(commands, "{owner}")
        step["parameters"]["cluster"] |= block
        recipe = {"start": [[1, []]], "1": step, "2": {"queue": "told"}}
        (self.directory / "r.json").write_text(json.dumps(recipe))

    def run(self, kind: type[Service]) -> None:
        """Let a service handle what waits."""
        with MemoryTransport(self.transport.broker) as transport:
            Loop(kind(self.configuration, transport), transport, once=True).run()

    def request(self, owner: str, identity: str = "x") -> None:
        body = {"recipes": ["r"], "parameters": {"owner": owner}}
        self.transport.send("processing_recipe", body, {"zwrap-id": identity})
        self.run(Dispatcher)

    def message(self, owner: str, **step: Any) -> dict[str, Any]:
        """Return the body of a message that somebody else sends to the Submitter."""
        recipe = {"start": [[1, []]], "1": self.step("true", owner, **step), "2": {"queue": "told"}}
        return Envelope(Recipe(recipe), 1, environment={"ID": owner}).body()

    def send(self, body: Any, identity: str, **headers: Any) -> None:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.transport.send(QUEUE, body, {"workflows-recipe": True, "zwrap-id": identity} | headers)

    def resend(self, message: Message) -> None:
        self.transport.send(QUEUE, message.body, dict(message.headers))

    def submit(self) -> list[str]:
        """Let the Submitter work; return whose jobs there are by now."""
        self.run(Submitter)
        assert not self.transport.broker.dead_letters.get(QUEUE)
        return [job.request.working_directory.name for job in self.jobs]

    def waiting(self, queue: str = QUEUE) -> list[Message]:
        return [entry.message for entry in self.transport.broker.queues.get(queue, ())]

    def ledger(self) -> Ledger:
        return Ledger.of(self.configuration)

    def kept(self, job: PendingJob) -> Any:
        """Return the submission that a job keeps."""
        job.write()
        file = job.request.job_directory / SUBMISSION
        return parse_submission(file.read_bytes(), str(file))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    place = Site(tmp_path)

    def submit_all(
        ledger: Ledger, _: Any, jobs: Sequence[PendingJob], on_outcomes: Any, *more: Any
    ) -> None:
        del more
        outcomes = {}
        for job in jobs:
            token = job.attempt.token
            if (row := ledger.get(token)) is None:
                ledger.reserve([job.attempt])
                place.jobs.append(job)
                ledger.record({token: {"state": SUBMITTED, "job_id": f"{len(place.jobs)}"}})
                row = ledger.get(token)
            assert row
            outcomes[token] = row.job_id
        on_outcomes(list(outcomes.items()))

    monkeypatch.setattr(submitter, "submit_all", submit_all)
    return place


# -- attacks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("forged_first", [True, False])
@pytest.mark.parametrize("apart", [True, False])
def test_two_contents_under_one_id_both_run(site: Site, forged_first: bool, apart: bool) -> None:
    """They come in either order, in one batch or in two."""
    owners = ["thief", "victim"] if forged_first else ["victim", "thief"]
    for owner in owners:
        site.send(site.message(owner), "victim-id")
        if apart:
            site.submit()
    assert sorted(site.submit()) == ["thief", "victim"]
    assert sorted(message.body["environment"]["ID"] for message in site.waiting("told")) == [
        "thief", "victim",
    ]  # fmt: skip
    for owner in owners:
        site.send(site.message(owner), "victim-id")
    assert sorted(site.submit()) == ["thief", "victim"], "repeats are known"


@pytest.mark.parametrize("forged_first", [True, False])
def test_an_id_that_the_dispatcher_will_use_is_foretold_in_vain(
    site: Site, forged_first: bool
) -> None:
    site.request("victim")
    [message] = site.waiting()
    site.transport.broker.queues[QUEUE].clear()
    stolen = {name: message.headers[name] for name in (ORIGIN_HEADER, SIGNATURE_HEADER)}
    forged = Message(site.message("thief"), {**message.headers, **stolen}, message.id)
    for each in (forged, message) if forged_first else (message, forged):
        site.resend(each)
        site.submit()
    assert sorted(site.submit()) == ["thief", "victim"]


@pytest.mark.parametrize("forged_first", [True, False])
def test_two_requests_under_one_id_both_start_their_recipes(site: Site, forged_first: bool) -> None:
    for owner in ("thief", "victim") if forged_first else ("victim", "thief"):
        site.request(owner, "one-and-the-same")
    assert sorted(site.submit()) == ["thief", "victim"]


def test_what_follows_from_two_contents_under_one_id_is_not_the_same_either(site: Site) -> None:
    """Each `job_submitted` has the same id, and brings a job of its own about."""
    for owner in ("thief", "victim"):
        body = site.message(owner)
        body["recipe"]["2"] = site.last(f"after-{owner}")
        site.send(body, "victim-id")
        site.submit()
    assert sorted(site.submit()) == ["after-thief", "after-victim", "thief", "victim"]


def test_the_content_that_the_origin_of_a_message_was_made_of_does_not_stand_for_it(
    site: Site,
) -> None:
    """Whoever sends the step itself under the id of what will follow from it takes no place."""
    body = site.message("victim")
    body["recipe"]["2"] = site.last("after")
    site.send(body, child_id("victim-id", 0))
    site.submit()
    site.send(body, "victim-id")
    assert sorted(site.submit()) == ["after", "after", "victim", "victim"]


def test_another_s_next_attempt_takes_the_place_of_none(site: Site) -> None:
    """The id, the origin and the number of the attempt are known to whoever sees the first one."""
    site.send(site.message("victim", retry=RETRY), "victim-id")
    site.submit()
    kept = site.kept(site.jobs[0])
    again = next_attempt(kept, Cause.OUT_OF_MEMORY)
    assert again
    site.transport.send(QUEUE, site.message("thief"), again.message.headers)
    assert site.submit() == ["victim", "thief"]
    for _ in range(2):
        site.transport.commit([again.message])
    assert site.submit() == ["victim", "thief", "victim"], "once, and not never"
    site.transport.send(QUEUE, site.message("thief"), again.message.headers)
    assert site.submit() == ["victim", "thief", "victim"]


# -- honest repeats --------------------------------------------------------------------------------


def test_a_recipe_that_was_edited_between_two_tries_of_a_request_starts_once(site: Site) -> None:
    site.request("me")
    site.submit()
    for commands in ("echo edited", "echo edited again"):
        site.edit(commands)
        site.request("me")
    first, second = site.waiting()
    assert first.body != second.body
    assert site.submit() == ["me"]
    assert len(site.waiting("told")) == 3, "each is told of the one job"


def test_the_tasks_of_a_recipe_that_was_edited_between_two_tries_start_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a larger recipe fewer tasks are taken at a time, and the jobs are the same."""
    for commands, size in (("true", 1), ("true " * 200, 6000), ("true", 10**6)):
        site.edit(commands, array="0-9")
        monkeypatch.setattr(tasks, "PORTION_BYTES", size)
        site.request("victim")
        assert len(site.submit()) == 10
    assert sorted(job.request.task.number for job in site.jobs if job.request.task) == [*range(10)]


def test_a_request_that_was_put_back_and_is_handled_again_starts_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the Dispatcher sends itself later holds the time of that."""
    monkeypatch.setattr("zwrap.service.dispatcher.READY_DELAY_S", 0.0)
    ready = iter([False, False, True, True])
    monkeypatch.setattr(Dispatcher, "_is_ready", lambda *_: next(ready))
    body = {"recipes": ["r"], "parameters": {"owner": "me"}}
    for _ in range(2):
        site.transport.send("processing_recipe", body, {"zwrap-id": "x"})
    site.run(Dispatcher)
    assert len({message.id for message in site.waiting()}) == 1
    assert site.submit() == ["me"]


def test_what_a_submitter_sent_on_before_it_died_is_sent_on_once(site: Site) -> None:
    body = site.message("me")
    body["recipe"]["2"] = site.last("after")
    site.send(body, "an-id")
    [message] = site.waiting()
    site.submit()
    site.resend(message)
    assert site.submit() == ["me", "after"]


@pytest.mark.parametrize("signed", [True, False])
def test_a_dead_letter_that_was_exported_and_put_back_is_the_next_attempt_once(
    site: Site, tmp_path: Path, signed: bool
) -> None:
    if signed:
        site.request("me")
    else:
        site.send(site.message("me"), "an-id")
    [message] = site.waiting()
    site.submit()
    site.resend(message)
    site.transport.subscribe(QUEUE)
    delivery = site.transport.receive(1)
    assert delivery
    file = export(delivery, tmp_path / "exported").file
    delivery.ack()
    for _ in range(2):
        site.transport.commit([reinjected(read(file), file, None)])
    assert site.submit() == ["me", "me"]
    families = {job.attempt.token.rpartition("-")[0] for job in site.jobs}
    assert len(families) == 1
    assert [job.attempt.token[-2:] for job in site.jobs] == ["-1", "-2"]


@pytest.mark.parametrize("signed", [True, False])
def test_the_next_attempt_with_more_memory_is_one_of_the_same_family(
    site: Site, signed: bool
) -> None:
    if signed:
        (site.directory / "r.json").write_text(json.dumps({
            "start": [[1, []]], "1": site.step("true", "{owner}", retry=RETRY),
            "2": {"queue": "told"},
        }))  # fmt: skip
        site.request("me")
    else:
        site.send(site.message("me", retry=RETRY), "an-id")
    site.submit()
    for number in (2, 3):
        again = next_attempt(site.kept(site.jobs[-1]), Cause.OUT_OF_MEMORY)
        assert again
        assert SIGNATURE_HEADER not in again.message.headers
        for _ in range(3):
            site.transport.commit([again.message])
        assert site.submit() == ["me"] * number
    asked = [job.request.resources.memory_mib for job in site.jobs]
    assert asked == [1000, 1500, 2250]
    assert len({job.attempt.token[:-2] for job in site.jobs}) == 1


@pytest.mark.parametrize("signed", [True, False])
def test_a_message_that_passes_through_other_hands_unchanged_is_the_same(
    site: Site, signed: bool
) -> None:
    """Relays keep the headers, and write the JSON text anew."""
    if signed:
        site.request("me")
    else:
        site.send(site.message("me"), "an-id")
    [message] = site.waiting()
    site.submit()
    shuffled = json.loads(json.dumps(message.body, sort_keys=True, indent=3))
    turned = dict(reversed(list(shuffled.items())))
    site.transport.send(QUEUE, turned, dict(reversed(list(message.headers.items()))))
    assert site.submit() == ["me"]


# -- ledgers and messages of earlier releases ------------------------------------------------------


def former_row(site: Site, message: Message, number: int = 1) -> None:
    """Write the row of an attempt as an earlier release did."""
    template = site.jobs[0].attempt
    row = replace(template, token=former_token(message.id, number), digest=None)
    ledger = site.ledger()
    ledger.reserve([row])
    ledger.record({row.token: {"state": SUBMITTED, "job_id": "former"}})
    ledger.close()


@pytest.mark.parametrize("signed", [True, False])
def test_a_job_that_an_earlier_release_submitted_is_known(site: Site, signed: bool) -> None:
    site.send(site.message("other"), "other-id")
    site.submit()
    if signed:  # by a Dispatcher of today, for a request that one of yesterday handled, too
        site.request("me")
    else:
        site.send(site.message("me"), "an-id")
    [message] = site.waiting()
    former_row(site, message)
    assert site.submit() == ["other"]
    assert site.waiting("told")[-1].body["payload"]["jobid"] == "former"


def test_the_next_attempt_of_a_job_of_an_earlier_release_is_of_its_family(site: Site) -> None:
    site.send(site.message("other"), "other-id")
    site.submit()
    body = site.message("me")
    former_row(site, Message(body, {}, "an-id"))
    for _ in range(2):
        site.send(body, "an-id", zwrap_attempt=2)
    assert site.submit() == ["other", "me"]
    assert site.jobs[1].attempt.token == former_token("an-id", 2)
    site.send(site.message("thief"), "an-id", zwrap_attempt=2)
    site.send(body, "an-id", zwrap_attempt=2)
    assert site.submit() == ["other", "me", "thief"]


def test_a_message_that_was_under_way_unsigned_and_comes_again_signed_is_the_same(
    site: Site,
) -> None:
    site.request("me")
    [message] = site.waiting()
    headers = dict(message.headers)
    for name in (ORIGIN_HEADER, SIGNATURE_HEADER):
        del headers[name]
    site.transport.broker.queues[QUEUE].clear()
    site.transport.send(QUEUE, message.body, headers)
    site.submit()
    site.resend(message)
    assert site.submit() == ["me"]


def test_a_message_that_another_host_could_prove_is_the_same_to_a_host_that_cannot(
    site: Site, tmp_path: Path
) -> None:
    """Two hosts share a ledger, and not their keys."""
    site.request("me")
    [message] = site.waiting()
    site.submit()
    ledger = site.ledger()
    other = Recognition(ledger, Signer(SiteKey(tmp_path / "other.key")))
    [found] = other.attempts([message])
    assert not isinstance(found, Exception)
    assert found.token == site.jobs[0].attempt.token
    changed = Message({**message.body, "payload": 7}, message.headers, message.id)
    [found] = other.attempts([changed])
    assert not isinstance(found, Exception)
    assert found.token not in (site.jobs[0].attempt.token, "")
    ledger.close()


# -- signatures ------------------------------------------------------------------------------------


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(SiteKey(tmp_path / "key"))


def signed(signer: Signer, body: Any, parent: Message, queue: str = QUEUE) -> Message:
    unit = Unit(parent.id, signer.after(parent, queue))
    unit.send(Outgoing(QUEUE, body, {"workflows-recipe": True}))
    [sent] = unit.outgoing
    return Message(decode(encode(sent.message)), sent.headers, str(sent.headers["zwrap-id"]))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.text(max_size=3) | st.integers(0, 20)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_what_a_service_signs_its_receiver_proves(
    tmp_path_factory: pytest.TempPathFactory, body: dict[Any, Any]
) -> None:
    """Any content keeps its signature when it is decoded, and when it is passed on."""
    signer = Signer(SiteKey(tmp_path_factory.getbasetemp() / "shared.key"))
    parent = Message({"a": 1}, {}, "parent")
    message = signed(signer, body, parent)
    origin = signer.origin(message)
    assert origin.is_proven
    content = origin_of_content(digest_of({"a": 1}))
    assert origin.text == origin_after(f"{content}/{QUEUE}")
    assert signer.origin(replace(message, body=decode(encode(message.body)))) == origin


@pytest.mark.parametrize("change", ["body", "id", "origin", "signature", "no origin"])
def test_a_signature_holds_for_one_id_one_origin_and_one_content(
    signer: Signer, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    message = signed(signer, {"a": 1}, Message({}, {}, "parent"))
    headers = dict(message.headers)
    if change == "no origin":
        del headers[ORIGIN_HEADER]
    elif change == "origin":
        headers[ORIGIN_HEADER] = origin_after("another")
    elif change == "signature":
        headers[SIGNATURE_HEADER] = 7
    forged = Message(
        {"a": 2} if change == "body" else message.body, headers,
        "another" if change == "id" else message.id,
    )  # fmt: skip
    assert not signer.origin(forged).is_proven
    assert "it counts as a message from outside" in caplog.text


def test_a_message_that_brings_an_id_is_not_signed(signer: Signer) -> None:
    """It may be anybody's: a service passes it on, or a job has named it."""
    parent = Message({}, {}, "parent")
    unit = Unit(parent.id, signer.after(parent, QUEUE))
    unit.send(Outgoing(QUEUE, 1, {"zwrap-id": "victim-id"}), Outgoing("topic", 1, topic=True))
    assert [SIGNATURE_HEADER in each.headers for each in unit.outgoing] == [False, False]


def test_without_a_usable_key_services_work_and_say_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    signer = Signer(SiteKey(tmp_path / "missing" / "key"))
    messages = [signed(signer, {"n": n}, Message({}, {}, "parent")) for n in range(3)]
    assert not any(SIGNATURE_HEADER in message.headers for message in messages)
    told = [each for each in caplog.messages if "neither signed nor count as signed" in each]
    assert len(told) == 1
    assert "key 'key_file'" in told[0]


def test_a_site_names_its_key_and_two_hosts_share_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = {
        "version": 1, "environments": {"default": ["own"]},
        "own": {"plugin": "security", "key_file": str(tmp_path / "shared")},
    }  # fmt: skip
    configuration = Configuration.from_string(json.dumps(text)).activate()
    services = []
    for host in ("one", "two"):
        monkeypatch.setenv("ZWRAP_STATE", str(tmp_path / host))
        services.append(Dispatcher(configuration, MemoryTransport()))
    message = signed(services[0].signer, {}, Message({}, {}, "parent"))
    assert services[1].signer.origin(message).is_proven
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "one" / "site.key").exists()


# -- tokens ----------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.integers(1, 3)),
        min_size=1, max_size=12,
    ),
    st.randoms(),
)  # fmt: skip
def test_messages_have_one_token_exactly_if_id_content_and_attempt_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, sent: list[tuple[str, int, int]], choice: Any
) -> None:
    """The senders are not zwrap; messages are repeated, and divided into batches at random."""
    place = tmp_path_factory.mktemp("ledger")
    ledger = Ledger(f"sqlite:///{place}/ledger.sqlite")
    recognition = Recognition(ledger, Signer(SiteKey(place / "key")))
    tokens: dict[tuple[str, int, int], set[str]] = {}
    left = [*sent, *sent]
    while left:
        batch, left = left[: choice.randint(1, 4)], left[4:]
        messages = [
            Message({"content": content}, {"zwrap-attempt": number}, identity)
            for identity, content, number in batch
        ]
        for what, found in zip(batch, recognition.attempts(messages), strict=True):
            assert not isinstance(found, Exception)
            tokens.setdefault(what, set()).add(found.token)
            reserve(ledger, found.token, found.digest)
    ledger.close()
    assert all(len(each) == 1 for each in tokens.values())
    assert len(set().union(*tokens.values())) == len(tokens)
    assert all(re.fullmatch(r"[0-9a-f]{32}-\d+", each) for each in set().union(*tokens.values()))


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans()), max_size=10),
)
def test_whoever_forges_what_the_site_signs_has_the_same_jobs_and_takes_none(
    tmp_path_factory: pytest.TempPathFactory, sent: list[tuple[int, int, bool]]
) -> None:
    """A signed message is one attempt, whatever its content; each forged content is its own."""
    place = tmp_path_factory.mktemp("ledger")
    ledger = Ledger(f"sqlite:///{place}/ledger.sqlite")
    signer = Signer(SiteKey(place / "key"))
    recognition = Recognition(ledger, signer)
    honest: dict[int, set[str]] = {}
    forged: set[str] = set()
    for request, content, is_forged in sent:
        parent = Message({"request": request}, {}, "one-id")
        message = signed(signer, {"edited": content}, parent)
        if is_forged:
            message = replace(message, body={"forged": content})
        [found] = recognition.attempts([message])
        assert not isinstance(found, Exception)
        reserve(ledger, found.token, found.digest)
        (forged if is_forged else honest.setdefault(request, set())).add(found.token)
    ledger.close()
    assert all(len(each) == 1 for each in honest.values())
    assert len(set().union(*honest.values(), set())) == len(honest)
    assert forged.isdisjoint(set().union(*honest.values(), set()))


def reserve(ledger: Ledger, token: str, digest: str) -> None:
    ledger.reserve([Attempt(token=token, recipe_id="r", step=1, cluster="c", job_name="n",
                            job_directory="/d", digest=digest)])  # fmt: skip


def test_the_token_of_a_message_is_that_of_its_proven_origin() -> None:
    message = Message({"a": 1}, {}, "m")
    origins = [None, origin_after("one"), origin_after("two")]
    assert len({token_of(message, origin) for origin in origins}) == 3
    assert token_of(message) == token_of(Message({"a": 1}, {ORIGIN_HEADER: origins[1]}, "m"))
    stated = Message({"a": 2}, {ORIGIN_HEADER: origins[1], "zwrap-attempt": 2}, "m")
    assert token_of(stated)[:-2] == token_of(message, origins[1])[:-2]
    assert token_of(stated)[:-2] != token_of(message)[:-2]


@pytest.mark.parametrize("stated", [None, 7, "", "content-1", "own-" + "0" * 64, "x\ny"])
def test_an_origin_that_is_none_is_not_heeded(stated: Any) -> None:
    message = Message({}, {ORIGIN_HEADER: stated, "zwrap-attempt": 2}, "m")
    assert token_of(message) == token_of(Message({}, {"zwrap-attempt": 2}, "m"))


# -- the key ---------------------------------------------------------------------------------------


def test_the_key_is_made_once_for_its_user_alone(tmp_path: Path) -> None:
    keys = [SiteKey(tmp_path / "site.key") for _ in range(3)]
    assert len({key.sign("a", "b") for key in keys}) == 1
    assert (tmp_path / "site.key").stat().st_mode & 0o777 == 0o600
    assert keys[0].holds(keys[1].sign("a"), "a")
    assert not keys[0].holds(keys[1].sign("a"), "b")
    assert not any(keys[0].holds(each, "a") for each in (None, 7, "", "\xe9", b"x"))
    assert keys[0].sign("a", "b") != keys[0].sign("ab") != keys[0].sign("ab", "")


@pytest.mark.parametrize("content", ["", "short\n", None])
def test_what_is_no_key_is_told_with_its_file(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "site.key"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=re.escape(str(file))):
        SiteKey(file, create=False).sign("a")


def test_the_log_names_no_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "short").write_text("sesame\n")
    for name in ("short", "made"):
        signed(Signer(SiteKey(tmp_path / name)), {}, Message({}, {}, "parent"))
    assert "sesame" not in caplog.text
    assert (tmp_path / "made").read_text().strip() not in caplog.text


def test_ids_of_a_repeat_are_those_of_before(signer: Signer) -> None:
    """Transports and other programs recognise a repeat by its id."""
    parent = Message({}, {}, "parent")
    first, second = (signed(signer, {"edited": n}, parent) for n in range(2))
    assert first.id == second.id
    assert first.headers[ORIGIN_HEADER] == second.headers[ORIGIN_HEADER]
    assert list(itertools.chain(first.headers)) == list(second.headers)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zwrap.service.loop.ONCE_WAIT_S", 0.01)


def test_the_next_attempt_by_wrapper_and_by_watcher_is_one_attempt(site: Site) -> None:
    """Each sends it if no verdict can be written, with what it knows of the end."""
    site.send(site.message("me", retry=RETRY), "an-id")
    site.submit()
    kept = site.kept(site.jobs[0])
    by_watcher = next_attempt(kept, Cause.OUT_OF_MEMORY)
    by_wrapper = continuation(kept, 3, 500.0)
    assert by_watcher
    assert by_wrapper
    assert by_wrapper.message.message["recipe"]["1"]["job_parameters"] == {"timeout": 500}
    for again in (by_watcher, by_wrapper, by_watcher):
        site.transport.commit([again.message])
        site.submit()
    assert [job.attempt.token[-2:] for job in site.jobs] == ["-1", "-2"]


@pytest.mark.parametrize("old_form", [True, False])
def test_a_step_that_names_no_cluster_stays_on_that_of_its_first_attempt(
    site: Site, old_form: bool
) -> None:
    """Its wrapper may be of an earlier release, which did not keep the name of the cluster."""
    body = site.message("me", retry=RETRY)
    if old_form:
        parameters = body["recipe"]["1"]["parameters"]
        del parameters["cluster"]
        parameters["cluster_commands"] = "true"
        parameters["retry"] = {"on": ["lost"]}
    site.send(body, "an-id")
    site.submit()
    kept = site.kept(site.jobs[0])
    assert kept.cluster == "local"
    several = {"plugin": "clusters", "a": {"kind": "local"}, "b": {"kind": "local"}}
    text = {"version": 1, "c": several, "environments": {"default": ["c"]}}
    site.configuration = Configuration.from_string(json.dumps(text)).activate()
    cause = Cause.LOST if old_form else Cause.OUT_OF_MEMORY
    by_watcher = next_attempt(kept, cause)
    by_wrapper = next_attempt(replace(kept, cluster=None), cause)
    assert by_watcher
    assert by_wrapper
    site.transport.commit([by_watcher.message])
    site.submit()
    assert [job.request.cluster for job in site.jobs] == ["local", "local"]
    recognition = Recognition(site.ledger(), Signer(site_key(site.configuration)))
    for each in (by_watcher.message, by_wrapper.message):
        message = Message(each.message, each.headers, str(each.headers["zwrap-id"]))
        [whose] = recognition.attempts([message])
        assert isinstance(whose, Recognized)
        assert whose.token == site.jobs[1].attempt.token


# -- another's next attempt ------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{}, {"memory_per_node": 1, "time_limit": 1, "exclude": "all"}])
@pytest.mark.parametrize("states", [True, False])
def test_who_sends_the_next_attempt_of_another_does_not_take_it_away(
    site: Site, change: dict[str, Any], states: bool
) -> None:
    """He knows the message, and so its origin; not the proof, which the job has got."""
    body = site.message("me", retry=RETRY)
    site.send(body, "an-id")
    site.submit()
    kept = site.kept(site.jobs[0])
    stolen = copy.deepcopy(body)
    stolen["recipe"]["1"]["parameters"]["cluster"].update(change)
    origin = {"zwrap_origin": kept.header[ORIGIN_HEADER]} if states else {}
    site.send(stolen, "an-id", zwrap_attempt=2, zwrap_retries=99, **origin)
    site.submit()
    again = next_attempt(kept, Cause.OUT_OF_MEMORY)
    assert again
    for _ in range(2):
        site.transport.commit([again.message])
        site.submit()
    assert len(site.jobs) == 3, "the owner's second attempt, and once"
    assert site.jobs[-1].request.resources.memory_mib == 1500
    assert site.kept(site.jobs[-1]).header["zwrap-retries"] == 1


def test_who_sends_another_s_message_before_him_has_no_say_in_its_retries(site: Site) -> None:
    body = site.message("me", retry=RETRY)
    site.send(body, "an-id", zwrap_retries=99, zwrap_continued=99)
    site.send(body, "an-id")
    site.submit()
    assert len(site.jobs) == 1
    assert next_attempt(site.kept(site.jobs[0]), Cause.OUT_OF_MEMORY)
    assert continuation(site.kept(site.jobs[0]), 1, None)


@pytest.mark.parametrize("wrong", ["id", "origin", "number", "proof"])
def test_the_proof_of_a_next_attempt_holds_for_one_attempt(signer: Signer, wrong: str) -> None:
    origin = origin_of_content(digest_of("content"))
    proof = signer.next_attempt("an-id", origin, 2)
    message = Message(None, {"zwrap-follows": proof}, "an-id")
    assert signer.is_next_attempt(message, origin, 2)
    if wrong == "id":
        message = replace(message, id="another")
    elif wrong == "proof":
        message = replace(message, headers={"zwrap-follows": 7})
    stated = origin_of_content(digest_of("other")) if wrong == "origin" else origin
    assert not signer.is_next_attempt(message, stated, 3 if wrong == "number" else 2)


def test_a_message_that_two_services_get_is_followed_by_messages_of_each(signer: Signer) -> None:
    parent = Message({"a": 1}, {}, "parent")
    first, second = (signed(signer, 1, parent, queue) for queue in (QUEUE, "another"))
    assert first.headers[ORIGIN_HEADER] != second.headers[ORIGIN_HEADER]
