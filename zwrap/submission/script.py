"""Job requests and job scripts of recipe steps; nothing is submitted here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from zwrap.attempt.secret import SECRET
from zwrap.attempt.verdict import QUEUE_VARIABLE, VERDICT_QUEUE
from zwrap.calls import batchjob
from zwrap.configuration.site import Configuration
from zwrap.errors import TemporaryError, ZwrapError
from zwrap.host.commands import other_owner
from zwrap.host.programs import own_directory, own_script
from zwrap.job import JobRequest
from zwrap.recipe.envelope import Envelope
from zwrap.submission.clusters import Cluster, Clusters
from zwrap.submission.request import PreparedJob, prepare
from zwrap.submission.template import Templates

TASK_VARIABLE = "ZWRAP_ARRAY_TASK"
"""Environment variable of a job that holds the number of its task of a step."""

NEEDED = (
    "begin", "comment", "gres", "licenses", "mail", "mail_on", "nice", "nodelist",
    "ntasks_per_node", "options", "priority", "requeue", "reservation", "signal",
)  # fmt: skip
"""Resources for which a template of a batch system with directives must have lines, because no
batch system of an earlier release refuses them."""


def has_directives(cluster: Cluster) -> bool:
    """Return True if the batch system reads resources in the job script."""
    form = cluster.scheduler.arrays
    return form is not None and bool(form.prefix)


class Renderer:
    """Preparation of requests and scripts by the templates and clusters of a site."""

    def __init__(self, configuration: Configuration) -> None:
        self._directory = configuration.site.template_directory
        self._templates: dict[Path | None, Templates] = {}
        """Templates of the site, by the directory of those that a batch system brings."""
        self._told = configuration.for_jobs()
        self._limits = configuration.site.limits
        self._allowed = configuration.site.allowed
        self.clusters = Clusters(configuration)

    def prepare(
        self, envelope: Envelope, token: str, task: int | None = None
    ) -> tuple[PreparedJob, Cluster]:
        """Return the job request of a step, or of one of its tasks, and its cluster.

        Raises:
            RequestError: A key is wrong; the text names it.
            UnknownNameError: There is no such cluster.
        """
        prepared = prepare(
            envelope,
            token,
            self.clusters.default,
            lambda name: self.clusters.get(name).settings,
            self._limits,
            self._allowed,
            task,
        )
        return prepared, self.clusters.get(prepared.request.cluster)

    def script(
        self,
        request: JobRequest,
        cluster: Cluster,
        inlined: Mapping[Path, bytes] | None = None,
    ) -> str:
        """Return the job script; `inlined`: files that the script writes on a node without ours.

        Raises TemplateError, which names the template and the value at fault.
        """
        templates = self._templates_with(cluster.scheduler.template_directory)
        return self._rendered(templates, cluster.template, request, cluster, inlined)

    def is_plain(self, request: JobRequest, cluster: Cluster, script: str) -> bool:
        """Return True if a job script does no more than the one that zwrap ships.

        Comments and directives do not count. What else a site's template does, such as a line of
        its block `setup`, may change which program a job finds.
        """
        if cluster.scheduler.template_directory is not None:
            return False  # that of a plug-in
        name = cluster.scheduler.template
        try:
            shipped = self._rendered(Templates(), name, request, cluster, None)
        except ZwrapError:
            return False
        return _doing(script) == _doing(shipped)

    def _rendered(
        self,
        templates: Templates,
        name: str,
        request: JobRequest,
        cluster: Cluster,
        inlined: Mapping[Path, bytes] | None,
    ) -> str:
        """Return the job script that a template makes."""
        attempt = {
            "ZWRAP_TOKEN": request.token,
            "ZWRAP_JOB_DIRECTORY": str(request.job_directory),
            batchjob.VARIABLE: cluster.scheduler.inside or cluster.settings.kind,
        }
        if request.task:
            attempt[TASK_VARIABLE] = str(request.task.number)
        if inlined is not None:
            attempt[QUEUE_VARIABLE] = VERDICT_QUEUE
        # Variables about the site and the attempt; none else of the submitting host.
        given = {**self._told, **attempt, **request.environment}
        rendered = replace(request, environment=given)
        programs = own_programs() if inlined is None else []
        files = None
        if inlined is not None:
            files = {path: content.decode() for path, content in inlined.items()}
        return templates.render(
            name, rendered, cluster.scheduler.options, programs, files,
            private=[request.job_directory / SECRET],
            lenient_setup=cluster.settings.setup == "lenient",
            needed=NEEDED if has_directives(cluster) else (),
        )  # fmt: skip

    def _templates_with(self, brought: Path | None) -> Templates:
        """Return the templates of the site, and those in a directory of a batch system."""
        if brought not in self._templates:
            self._templates[brought] = Templates(self._directory, brought)
        return self._templates[brought]


def _doing(script: str) -> list[str]:
    """Return the lines of a script that are neither empty nor comments."""
    lines = map(str.strip, script.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def own_programs() -> list[Path]:
    """Return the console scripts of this installation that a job finds on its PATH.

    `zocalo.wrap` is left out if another distribution has taken its name, or removed it: the job
    script then makes a link of that name to `zwrap`.

    Raises TemporaryError if `zwrap` does not exist, for example while a new version is being
    installed.
    """
    script = own_script("zwrap")
    if script is None:
        raise TemporaryError(
            f"The program zwrap of this installation was not found in {own_directory()}."
        )
    zwrap = Path(script)
    wrap = zwrap.with_name("zocalo.wrap")
    return [wrap, zwrap] if wrap.exists() and not other_owner(wrap) else [zwrap]


def seen_from_elsewhere(request: JobRequest) -> JobRequest:
    """Return the request for nodes on which the job has yet to create its directories.

    The job itself then redirects its output to files there.
    """
    nowhere = Path("/dev/null")
    return replace(
        request,
        working_directory=Path("/"),
        standard_output=nowhere,
        standard_error=nowhere,
    )
