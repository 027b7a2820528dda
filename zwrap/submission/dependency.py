"""The steps for which a step waits, and the run of a recipe in which they know each other."""

from __future__ import annotations

from collections.abc import Mapping

from zwrap.errors import RequestError, short
from zwrap.message.identity import digest_of
from zwrap.message.limits import Limits
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.recipe.queues import CLUSTER, is_of_kind
from zwrap.recipe.references import entries_in, numbers_in
from zwrap.submission.tasks import tasks_of

QUEUE = "cluster.submission"
"""Queue of the steps that become jobs, if not of a Submitter with a queue of its own."""


def steps_before(given: object, envelope: Envelope, limits: Limits) -> dict[int, int]:
    """Return the steps that key `dependency` of a cluster block names, with their numbers of jobs.

    Raises RequestError, which names the key, for anything but steps of the recipe that become jobs,
    on the queue of this one, and do not wait for it. Nobody knows whether a Submitter of this
    ledger reads another queue; if it does not, the step would wait without an end.
    """
    if given in (None, "", []):
        return {}
    where = f"node {envelope.pointer}, parameters, key 'cluster', key 'dependency'"
    if envelope.recipe_id is None:
        raise RequestError(f"{where}: the recipe has no 'ID' in its environment, so no other step.")
    queue, recipe = _queue_of(envelope), envelope.recipe
    blocks = {number: _block(recipe, number, queue) for number in _numbers(given, where, limits)}
    found: dict[int, int] = {}
    jobs = 0
    for number, block in blocks.items():
        if block is None or number == envelope.pointer:
            raise RequestError(
                f"{where} names node {number}; another node on queue {queue!r} is expected."
            )
        at = f"node {number}, parameters, key 'cluster', key 'array'"
        array = tasks_of(block["array"], at, limits) if block.get("array") is not None else True
        found[number] = 1 if isinstance(array, bool) else len(array.numbers)
        jobs += found[number]
        if jobs > limits.outputs:
            raise RequestError(
                f"{where}: the steps that it names have more than {limits.outputs} jobs (section "
                "limits, key 'outputs')."
            )
    _check_order(envelope, blocks, where, limits)
    return found


def _numbers(given: object, where: str, limits: Limits) -> list[int]:
    """Return numbers of nodes: one, or a list."""
    if entries_in(given) > limits.nodes:
        raise RequestError(
            f"{where} is {short(given)}, which is more than {limits.nodes} nodes (section limits, "
            "key 'nodes')."
        )
    numbers = numbers_in(given)
    if numbers is None:
        raise RequestError(f"{where} is {short(given)}; numbers of nodes are expected.")
    return numbers


def _queue_of(envelope: Envelope) -> object:
    """Return the queue that a step names, whatever queue its message came from."""
    named = envelope.step.get("queue")
    return named if is_of_kind(named, CLUSTER) else QUEUE


def _block(recipe: Recipe, number: int, queue: object) -> Mapping[str, object] | None:
    """Return the cluster block of a step on a queue of jobs; None: there is no such step."""
    if number not in recipe or recipe.node(number).get("queue") != queue:
        return None
    parameters = recipe.node(number).get("parameters")
    block = parameters.get("cluster") if isinstance(parameters, Mapping) else None
    return block if isinstance(block, Mapping) else {}


def _check_order(
    envelope: Envelope,
    blocks: Mapping[int, Mapping[str, object] | None],
    where: str,
    limits: Limits,
) -> None:
    """Raise RequestError if a step waits for this one, of those for which this one waits.

    Each step is read once, so that the work grows with the numbers that are named, not with the
    ways through them; of these there may be as many as of references in outputs.
    """
    queue = _queue_of(envelope)
    seen, count = set(blocks), len(blocks)
    left = [(number, number) for number in blocks]
    while left:
        number, first = left.pop()
        block = blocks[number] if number in blocks else _block(envelope.recipe, number, queue)
        given = (block or {}).get("dependency")
        if given in (None, "", []):
            continue
        at = f"node {number}, parameters, key 'cluster', key 'dependency'"
        named = _numbers(given, at, limits)
        count += len(named)
        if count > limits.outputs:
            raise RequestError(
                f"{where}: the steps before this one name more than {limits.outputs} nodes under "
                "'dependency' (section limits, key 'outputs')."
            )
        if envelope.pointer in named:
            raise RequestError(f"{where} names node {first}, which waits for this one.")
        left += [(each, first) for each in named if each not in seen]
        seen.update(named)


def run_of(envelope: Envelope) -> str | None:
    """Return a digest by which the steps of one run of a recipe know each other; None: no run.

    A sender may give a run the ID of another one; its recipe is hardly the same. What a retry, or
    `zwrap resubmit`, changes in a recipe does not count: the cluster block of a step and its
    time limit.
    """
    if envelope.recipe_id is None:
        return None
    recipe = {key: _lasting(value) for key, value in envelope.recipe.wire.items()}
    return digest_of([envelope.recipe_id, recipe])


def _lasting(node: object) -> object:
    """Return a node without what another attempt at its step may change."""
    if not isinstance(node, dict):
        return node
    lasting = dict(node)
    for outer, inner in (("parameters", "cluster"), ("job_parameters", "timeout")):
        given = node.get(outer)
        if isinstance(given, dict):
            lasting[outer] = {key: value for key, value in given.items() if key != inner}
        if not lasting.get(outer):
            lasting.pop(outer, None)
    return lasting
