"""Which deaths are followed by another attempt, and what that asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from zwrap.attempt.directory import SUBMISSION, JobDirectory
from zwrap.attempt.record import KeptSubmission, encode_submission, parse_submission
from zwrap.attempt.retry import NextAttempt, continuation, edited, next_attempt, step_in
from zwrap.configuration.clusters import Policy, of_site, policy_of
from zwrap.errors import ConfigurationError, MessageError, RequestError
from zwrap.job import Cause, Resources
from zwrap.message.content import ATTEMPT_HEADER, Message, Outgoing
from zwrap.message.identity import LARGEST_ATTEMPT, attempt_of, token_of
from zwrap.message.jsontext import encode
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.units import LARGEST_MIB, LONGEST_S

EVERYTHING = ["node_fail", "preempted", "out_of_memory", "timeout", "lost"]
ASKED = Resources(memory_mib=1000, walltime_s=600)


def message(**headers: Any) -> Message:
    step = {"queue": "cluster.submission", "parameters": {"cluster": {"commands": "true"}}}
    body = Envelope(Recipe({"start": [[1, []]], "1": step}), 1, environment={"ID": "r"}).body()
    return Message(body, {"workflows-recipe": True, **headers}, "an-id")


def tried(
    tmp_path: Path, cause: str, policy: Any, asked: Resources = ASKED, **headers: Any
) -> NextAttempt | None:
    directory = JobDirectory(tmp_path / "job")
    directory.make()
    known = policy_of(policy, None, "here")
    text = encode_submission(message(**headers), "cluster.submission", asked, known)
    (directory.path / SUBMISSION).write_bytes(text)
    policy_cause = next((each for each in Cause if each.value == cause), None)
    return next_attempt(directory.submission(), policy_cause)


def block(again: NextAttempt | None) -> dict[str, Any]:
    assert again
    changed: dict[str, Any] = again.message.message["recipe"]["1"]["parameters"]["cluster"]
    return changed


def test_a_step_that_names_its_nodes_stays_on_them() -> None:
    policy = policy_of({"on": ["node_fail"], "exclude_node": True}, None, "here")
    kept = encode_submission(message(), "cluster.submission", Resources(nodelist="n1"), policy)
    known = parse_submission(kept, "here")
    assert block(next_attempt(known, Cause.NODE_FAIL, "n1")) == {"commands": "true"}


def test_there_is_no_more_memory_than_all_of_a_node(tmp_path: Path) -> None:
    assert tried(tmp_path, "out_of_memory", {"on": EVERYTHING}, Resources(memory_mib=0)) is None


def test_an_entry_of_a_mapping_in_a_block_can_be_changed() -> None:
    body = message().body
    once = edited(body, {"options.switches": "1", "template.image": "a.sif", "gres": "gpu:2"})
    twice = edited(once, {"options.switches": "", "gres": ""})
    given = [step_in(each)["parameters"] for each in (once, twice)]
    assert given == [
        {"cluster": {"commands": "true", "gres": "gpu:2", "options": {"switches": "1"},
                     "template": {"image": "a.sif"}}},
        {"cluster": {"commands": "true", "options": {}, "template": {"image": "a.sif"}}},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("cause", "changes"),
    [
        ("node_fail", {}),
        ("preempted", {}),
        ("lost", {}),
        ("out_of_memory", {"memory_per_node": 1500}),
        ("timeout", {"time_limit": 900}),
    ],
)
def test_another_attempt_asks_for_more_of_what_it_lacked(
    tmp_path: Path, cause: str, changes: dict[str, int]
) -> None:
    again = tried(tmp_path, cause, {"on": EVERYTHING})
    assert block(again) == {"commands": "true", **changes}
    assert again
    assert again.message.destination == "cluster.submission"
    assert all(f"{key} {value}" in again.said for key, value in changes.items())


@pytest.mark.parametrize("cause", ["failed", "cancelled", "hopeless", "completed", "timeout"])
def test_what_the_policy_does_not_name_is_final(tmp_path: Path, cause: str) -> None:
    assert tried(tmp_path, cause, {"on": ["node_fail"]}) is None
    assert tried(tmp_path, cause, None) is None
    assert tried(tmp_path, cause, False) is None


def test_the_message_is_the_same_and_its_attempt_the_next(tmp_path: Path) -> None:
    again = tried(tmp_path, "lost", {"on": ["lost"], "limit": 5}, **{"zwrap-attempt": 3})
    assert again
    headers = again.message.headers
    assert (headers["zwrap-id"], headers["zwrap-attempt"]) == ("an-id", 4)
    assert headers["workflows-recipe"] is True
    assert token_of(received(again.message)).endswith("-4")
    assert token_of(received(again.message))[:-2] == token_of(message())[:-2]
    assert "as attempt 4." in again.said


def received(sent: Outgoing) -> Message:
    return Message(sent.message, sent.headers, str(sent.headers["zwrap-id"]))


def test_retries_are_counted_whoever_else_tries(tmp_path: Path) -> None:
    policy = {"on": ["lost"], "limit": 2}
    done = []
    headers: dict[str, Any] = {"zwrap-attempt": 7}
    while again := tried(tmp_path, "lost", policy, **headers):
        headers = dict(again.message.headers)
        done.append(headers["zwrap-attempt"])
    assert done == [8, 9]


@pytest.mark.parametrize(
    ("ceiling", "value"),
    [({"memory_per_node": 1200}, 1200), ({"memory_per_node": 9000}, 1500), ({}, 1500)],
)
def test_no_more_than_the_ceiling_is_asked_for(
    tmp_path: Path, ceiling: dict[str, Any], value: int
) -> None:
    policy = {"on": EVERYTHING, "ceiling": ceiling}
    assert block(tried(tmp_path, "out_of_memory", policy))["memory_per_node"] == value


@pytest.mark.parametrize(
    ("cause", "asked", "policy"),
    [
        ("out_of_memory", Resources(), {}),
        ("timeout", Resources(), {}),
        ("out_of_memory", ASKED, {"memory_factor": 1}),
        ("out_of_memory", ASKED, {"ceiling": {"memory_per_node": 1000}}),
        ("timeout", ASKED, {"ceiling": {"time_limit": "0:10:00"}}),
    ],
)
def test_what_would_die_the_same_death_is_not_tried(
    tmp_path: Path, cause: str, asked: Resources, policy: dict[str, Any]
) -> None:
    assert tried(tmp_path, cause, {"on": EVERYTHING, **policy}, asked) is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "missing required field `on`"),
        ({"on": ["failed"]}, "Invalid enum value 'failed'"),
        ({"on": [], "limits": 3}, "unknown field `limits`"),
        ({"on": [], "limit": 0}, "Expected `int` >= 1"),
        ({"on": [], "ceiling": {"time_limit": "soon"}}, "'soon'; a duration"),
        (True, "Expected `object`"),
    ],
)
def test_a_policy_that_is_none_is_refused_with_what_is_expected(given: Any, words: str) -> None:
    with pytest.raises(RequestError, match=r"here, key 'retry': .*Expected: 'on'") as caught:
        policy_of(given, None, "here")
    assert words in str(caught.value)
    if isinstance(given, dict):
        with pytest.raises(ConfigurationError, match=r"site\.yml:3, key 'retry'"):
            of_site(given, "site.yml:3")


def test_a_step_s_own_policy_goes_before_the_site_s() -> None:
    site = Policy(on=[Cause.LOST])
    assert policy_of(None, site, "here") == site
    assert policy_of(False, site, "here") is None
    assert policy_of({"on": ["timeout"]}, site, "here") == Policy(on=[Cause.TIMEOUT])


def test_what_is_no_submission_is_said_to_be_that(tmp_path: Path) -> None:
    directory = JobDirectory(tmp_path / "job")
    directory.make()
    with pytest.raises(MessageError, match=r"submission\.json cannot be read"):
        directory.submission()
    (directory.path / SUBMISSION).write_text("[]")
    with pytest.raises(MessageError, match=r"submission\.json does not hold a submission"):
        directory.submission()


def test_the_attempt_travels_with_the_envelope(tmp_path: Path) -> None:
    again = tried(tmp_path, "lost", {"on": ["lost"]})
    assert again
    assert again.message.message["environment"] == {"ID": "r", "zwrap-attempt": 2}


@pytest.mark.parametrize("before", [None, "n1"])
def test_a_node_that_failed_is_not_used_again(tmp_path: Path, before: str | None) -> None:
    directory = JobDirectory(tmp_path / "job")
    directory.make()
    policy = policy_of({"on": ["node_fail", "lost"], "exclude_node": True}, None, "here")
    asked = Resources(exclude=before)
    text = encode_submission(message(), "cluster.submission", asked, policy)
    (directory.path / SUBMISSION).write_bytes(text)
    known = directory.submission()
    assert block(next_attempt(known, Cause.NODE_FAIL, "n2"))["exclude"] == (
        "n1,n2" if before else "n2"
    )
    for again in (next_attempt(known, Cause.NODE_FAIL), next_attempt(known, Cause.LOST, "n2")):
        assert "exclude" not in block(again)


def test_a_step_that_goes_on_has_what_is_left_of_its_time_and_ends_some_day(
    tmp_path: Path,
) -> None:
    directory = JobDirectory(tmp_path / "job")
    directory.make()

    def after(times: int, remaining_s: float | None) -> NextAttempt | None:
        headers = {"zwrap-continued": times, ATTEMPT_HEADER: times + 1} if times else {}
        text = encode_submission(message(**headers), "cluster.submission", ASKED, None)
        (directory.path / SUBMISSION).write_bytes(text)
        return continuation(directory.submission(), 2, remaining_s)

    again = after(0, 99.5)
    assert again
    assert again.message.headers["zwrap-continued"] == 1
    assert again.message.message["recipe"]["1"]["job_parameters"] == {"timeout": 99}
    assert block(again) == {"commands": "true"}
    unlimited = after(1, None)
    assert unlimited
    assert "job_parameters" not in unlimited.message.message["recipe"]["1"]
    assert after(2, None) is None
    assert after(0, 0.5) is None


def test_a_cluster_may_say_that_no_job_is_tried_again() -> None:
    assert of_site(False, "site.yml:3") is None
    assert of_site(None, "site.yml:3") is None
    assert of_site({"on": ["lost"]}, "site.yml:3") == Policy(on=[Cause.LOST])


@pytest.mark.parametrize("count", ["often", None, [1], 1.0])
def test_a_damaged_count_of_retries_is_no_retry(tmp_path: Path, count: Any) -> None:
    again = tried(tmp_path, "lost", {"on": ["lost"]}, **{"zwrap-retries": count, ATTEMPT_HEADER: 2})
    assert again
    assert again.message.headers["zwrap-retries"] == 1


@pytest.mark.parametrize("count", ["often", None, [1]])
def test_a_damaged_count_of_continuations_is_none(tmp_path: Path, count: Any) -> None:
    text = encode_submission(
        message(**{"zwrap-continued": count, ATTEMPT_HEADER: 2}), "q", ASKED, None
    )
    directory = JobDirectory(tmp_path / "job")
    directory.make()
    (directory.path / SUBMISSION).write_bytes(text)
    again = continuation(directory.submission(), 2, 10.0)
    assert again
    assert again.message.headers["zwrap-continued"] == 1


@pytest.mark.parametrize(("remaining_s", "follows"), [(1.0, True), (0.99, False), (-5.0, False)])
def test_less_than_a_second_is_not_worth_another_job(
    tmp_path: Path, remaining_s: float, follows: bool
) -> None:
    directory = JobDirectory(tmp_path / "job")
    directory.make()
    text = encode_submission(message(), "cluster.submission", ASKED, None)
    (directory.path / SUBMISSION).write_bytes(text)
    again = continuation(directory.submission(), 2, remaining_s)
    assert (again is not None) == follows
    if again:
        assert again.said == "It has saved what it had, and goes on as attempt 2 with 1 s left."


@pytest.mark.parametrize(
    ("parameters", "expected", "names"),
    [
        ({"cluster": {"commands": "true"}}, {"commands": "true", "scheduler": "old"}, True),
        ({"cluster": {"scheduler": "b"}}, {"scheduler": "b"}, False),
        ({"cluster_commands": "true"}, "old", True),
        ({"cluster_commands": "true", "cluster": "b"}, "b", False),
    ],
)
def test_another_attempt_goes_to_the_cluster_of_the_last_one(
    parameters: dict[str, Any], expected: Any, names: bool
) -> None:
    """It may have left the state of its program there, and the default may be another by now."""
    first = message()
    step_in(first.body)["parameters"] = parameters
    policy = policy_of({"on": EVERYTHING}, None, "here")
    text = encode_submission(first, "cluster.submission", ASKED, policy, cluster="old")
    known = parse_submission(text, "here")
    for again in (next_attempt(known, Cause.LOST), continuation(known, 3, 100.0)):
        assert block(again) == expected
        assert again
        assert (again.message.headers.get("zwrap-cluster") == "old") == names


# -- what was kept by an earlier release, or is damaged --------------------------------------------


def kept(tmp_path: Path, asked: Resources = ASKED, **changes: Any) -> KeptSubmission:
    """Return a kept submission, with some of its values changed on disk."""
    directory = JobDirectory(tmp_path / "job")
    directory.make()
    known = policy_of({"on": EVERYTHING}, None, "here")
    text = encode_submission(message(), "cluster.submission", asked, known)
    content = json.loads(text)
    for key, value in changes.items():
        content[key].update(value)
    (directory.path / SUBMISSION).write_text(json.dumps(content))
    return directory.submission()


@pytest.mark.parametrize(
    ("ceiling", "limit_s"),
    [("12:00", 720), ("0:11:40", 700), ("1-00", 900), ("9999-00:00:00", 900), ("soon", 900),
     (10**12, 900), (800, 800)],
)  # fmt: skip
def test_a_ceiling_is_read_as_the_release_that_kept_it_read_it(
    tmp_path: Path, ceiling: Any, limit_s: int
) -> None:
    """Earlier revisions kept the text of the site, of which A:B was minutes and seconds."""
    known = kept(tmp_path, retry={"ceiling": {"time_limit": ceiling}})
    assert block(next_attempt(known, Cause.TIMEOUT))["time_limit"] == limit_s


def test_a_kept_ceiling_of_days_is_read(tmp_path: Path) -> None:
    day_s = 24 * 3600
    long = Resources(walltime_s=4 * day_s)
    known = kept(tmp_path, long, retry={"ceiling": {"time_limit": "5-12:07:08"}})
    expected_s = 5 * day_s + 12 * 3600 + 7 * 60 + 8
    assert block(next_attempt(known, Cause.TIMEOUT))["time_limit"] == expected_s


def test_a_factor_without_bound_that_was_kept_asks_for_the_most_there_is(tmp_path: Path) -> None:
    factors = {"walltime_factor": 1e308, "memory_factor": 1e308}
    known = kept(tmp_path, retry=factors)
    assert block(next_attempt(known, Cause.TIMEOUT))["time_limit"] == LONGEST_S
    assert block(next_attempt(known, Cause.OUT_OF_MEMORY))["memory_per_node"] == LARGEST_MIB


@pytest.mark.parametrize("factor", [1e308, float("inf"), float("nan")])
def test_a_factor_has_a_bound(factor: float) -> None:
    with pytest.raises(RequestError, match=r"walltime_factor.*Expected: 'on'"):
        policy_of({"on": ["timeout"], "walltime_factor": factor}, None, "here")


def test_who_does_not_know_where_a_step_came_from_does_not_try_it_again(tmp_path: Path) -> None:
    known = kept(tmp_path, header={"original-destination": None})
    assert next_attempt(known, Cause.TIMEOUT) is None
    assert continuation(known, 3, None) is None


def test_a_policy_that_cannot_be_read_is_none_and_the_rest_is_kept(tmp_path: Path) -> None:
    """An infinite factor was kept as null."""
    known = kept(tmp_path, retry={"memory_factor": None})
    assert known.retry is None
    assert known.asked.memory_per_node == 1000


numbers = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, 1, -1, 10**400, -(10**400), 2**63, 1e308, 5e-324, "9" * 9, "1:00:00"]),
)  # fmt: skip
"""Values in place of a number of a kept submission."""


@given(
    header=st.dictionaries(
        st.sampled_from([ATTEMPT_HEADER, "zwrap-retries", "zwrap-id", "x"]), numbers | st.none()
    ),
    asked=st.dictionaries(
        st.sampled_from(["memory_per_node", "min_memory_per_cpu", "time_limit"]), numbers
    ),
    policy=st.dictionaries(
        st.sampled_from(["limit", "memory_factor", "walltime_factor"]), numbers
    ),
    ceiling=st.dictionaries(
        st.sampled_from(["memory_per_node", "min_memory_per_cpu", "time_limit"]), numbers
    ),
    cause=st.sampled_from(list(Cause)),
)  # fmt: skip
def test_whatever_numbers_a_kept_submission_holds_the_next_attempt_has_usable_ones(
    header: dict[str, Any],
    asked: dict[str, Any],
    policy: dict[str, Any],
    ceiling: dict[str, Any],
    cause: Cause,
) -> None:
    """Any process of the user's may write the file."""
    kept = {
        "header": {"original-destination": "/queue/cluster.submission", **header},
        "message": message().body,
        "asked": asked,
        "retry": {"on": EVERYTHING, "limit": 10**9, "ceiling": ceiling, **policy},
    }
    try:
        known = parse_submission(encode(kept), "here")
    except MessageError:
        return
    again = next_attempt(known, cause, "n1")
    if again is None:
        return
    assert 2 <= attempt_of(again.message.headers) <= LARGEST_ATTEMPT
    changes = block(again)
    assert 0 < changes.get("memory_per_node", 1) <= LARGEST_MIB
    assert 0 < changes.get("min_memory_per_cpu", 1) <= LARGEST_MIB
    assert 0 < changes.get("time_limit", 1) <= LONGEST_S
    encode(again.message)
