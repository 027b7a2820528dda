"""Check of the steps of a recipe against the clusters of a site, without asking any of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from zwrap.configuration.clusters import policy_of
from zwrap.configuration.site import Configuration
from zwrap.errors import TemporaryError, UnknownNameError, ZwrapError
from zwrap.job import JobRequest
from zwrap.message.jsontext import copied
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Node, Recipe
from zwrap.recipe.queues import CLUSTER, is_of_kind
from zwrap.submission.clusters import Cluster
from zwrap.submission.legacy import KEYS
from zwrap.submission.named import FILES, OUTPUTS
from zwrap.submission.programs import Programs, is_open
from zwrap.submission.request import parameters_of
from zwrap.submission.script import Renderer, has_directives, seen_from_elsewhere

TOKEN = f"{'0' * 32}-1"
"""Token of a job that will never be."""

FREE = ("commands", "job_name", "environment", "template")
"""Keys of a cluster block whose values may hold placeholders without a change of the job's form."""

NAMING = frozenset(("cluster", "scheduler"))
"""Keys of the parameters in the old form, and of a cluster block, that name the cluster."""


class Opinion(NamedTuple):
    """The result of checking one step for one cluster."""

    node: int
    cluster: str
    """Name of the cluster; empty: neither step nor site chooses one."""
    goes_there: bool
    """True if the step would be submitted to this cluster; False if that is not known."""
    said: str
    fault: ZwrapError | None = None
    """Reason why the cluster, or zwrap, would refuse the job; None: nothing known speaks against
    it."""


class Inspection:
    """Check of the steps of recipes by the Submitter's rules, as far as the values are known."""

    def __init__(self, configuration: Configuration) -> None:
        self._renderer = Renderer(configuration)
        self._site = configuration.site
        self._programs = Programs(configuration.site.program_directory)
        self._is_embedded = configuration.is_embedded

    def opinions(self, recipe: Recipe) -> Iterator[Opinion]:
        """Yield the result for the cluster that a step names, or else for each of the site.

        If the name is known later only, each of the site is one to which the step may go.
        """
        for number, node in sorted(recipe.nodes.items()):
            if is_of_kind(node.get("queue"), CLUSTER):
                yield from self._of_step(recipe, number, node)

    def _of_step(self, recipe: Recipe, number: int, node: Node) -> Iterator[Opinion]:
        """Yield the opinions on one step."""
        clusters = self._renderer.clusters
        left_open = self._fill_in(node)
        later = f"; known later: {', '.join(left_open)}" if left_open else ""
        named = _cluster_in(node)
        goes_to: str | None = named or clusters.default
        others = {*clusters.described(), clusters.default}
        if named is not None:
            others = {named}
        elif not NAMING.isdisjoint(left_open):
            others, goes_to = set(clusters.described()), None
        for name in sorted(others):
            goes_there = name == goes_to
            try:
                said = self._form(recipe, number, _sent_to(name, node))
            except UnknownNameError as error:
                known = named is None or named in clusters.names() or not self._is_embedded
                fault = error if known else None  # a site file elsewhere may describe it
                yield Opinion(number, name, goes_there, f"{error}{later}", fault)
            except TemporaryError as error:
                yield Opinion(number, name, goes_there, f"cannot be told now: {error}{later}")
            except ZwrapError as error:
                yield Opinion(number, name, goes_there, f"refused: {error}{later}", error)
            else:
                yield Opinion(number, name, goes_there, f"{said}{later}")

    def _form(self, recipe: Recipe, number: int, node: Node) -> str:
        """Return what a job of a step asks for on its cluster; ZwrapError if it is refused."""
        changed = Recipe({**recipe.wire, str(number): node}, recipe.name)
        envelope = Envelope(changed, number, environment={"ID": TOKEN}, limits=self._site.limits)
        prepared, cluster = self._renderer.prepare(envelope, TOKEN)
        where = f"node {number}, parameters"
        policy_of(parameters_of(envelope).get("retry"), cluster.settings.retry, where)
        request, inlined = prepared.request, None
        if not cluster.settings.shared_filesystem:
            request, inlined = seen_from_elsewhere(request), prepared.files
        script = self._renderer.script(prepared.request, cluster, inlined)
        inputs = ""
        if cluster.settings.shared_filesystem:  # else its nodes may have other definitions
            is_plain = partial(self._renderer.is_plain, prepared.request, cluster, script)
            inputs = self._programs.check(envelope, prepared.request, is_plain)
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(script)
            file.flush()
            cluster.scheduler.verify(request, Path(file.name))  # refuses what cannot be expressed
        asked = _asked(cluster, request, script)
        return f"{asked}; {inputs}" if inputs else asked

    def _fill_in(self, node: Node) -> list[str]:
        """Take values out of a node that are known later only; return their keys."""
        parameters = node.get("parameters")
        if not isinstance(parameters, dict):
            return []
        directories = self._site.allowed.directories
        if is_open(parameters.get("workingdir")):
            parameters["workingdir"] = str(Path(directories[0] if directories else "/", "w"))
        for key in (*FILES, *OUTPUTS):
            if is_open(parameters.get(key)):
                del parameters[key]
        outer = ("cluster", *KEYS[1:])
        left_open = [key for key in outer if is_open(parameters.get(key), text=True)]
        for key in left_open:
            del parameters[key]
        block = parameters.get("cluster")
        if isinstance(block, dict):
            inner = [key for key, value in block.items() if key not in FREE and is_open(value)]
            for key in inner:
                del block[key]
            left_open += inner
        return left_open


def _cluster_in(node: Node) -> str | None:
    """Return the name of the cluster that a step names; None: it names none."""
    parameters = node.get("parameters")
    given = parameters.get("cluster") if isinstance(parameters, dict) else None
    name = given.get("scheduler") if isinstance(given, Mapping) else given
    return name if isinstance(name, str) and name else None


def _sent_to(name: str, node: Node) -> Node:
    """Return a copy of a step that names a cluster."""
    sent = copied(node)
    parameters = sent.get("parameters")
    if isinstance(parameters, dict):
        block = parameters.get("cluster")
        if isinstance(block, dict):
            block["scheduler"] = name
        elif any(parameters.get(key) for key in KEYS):
            parameters["cluster"] = name
    return sent


def _asked(cluster: Cluster, request: JobRequest, script: str) -> str:
    """Return what a job asks its cluster for: the directives of its script, or a clause."""
    form, most = cluster.scheduler.arrays, request.resources.max_slots
    if not has_directives(cluster) or form is None:
        return "runs on this machine" if cluster.settings.kind == "local" else "would be taken"
    lines = script.split("\n")[1:]
    found = [line[len(form.prefix) :].strip() for line in lines if line.startswith(form.prefix)]
    told = " ".join(found) or "asks for the defaults of the batch system"
    ignored = most is not None and f"-{most}" not in told
    return f"{told} (the least of up to {most} slots)" if ignored else told
