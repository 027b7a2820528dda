"""Job requests from recipe steps on queue `cluster.submission`, and the files that steps name.

The parameters are those of Diamond's cluster submission service, and `wrapper` of cryoem-services;
`zwrap.submission.block` reads the `cluster` block among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from zwrap.attempt.directory import ENVELOPE, job_directory
from zwrap.configuration.clusters import ClusterSettings
from zwrap.errors import RequestError, short
from zwrap.host.beneath import ANYWHERE, AllowedDirectories
from zwrap.job import ArrayTask, JobRequest
from zwrap.message.jsontext import encode
from zwrap.message.limits import DEFAULTS, Limits
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.quoting import replace_quoted
from zwrap.recipe.sizes import is_long
from zwrap.submission import dependency, legacy, named
from zwrap.submission.block import cluster_block, environment_of, resources_of
from zwrap.submission.execution import check_nul
from zwrap.submission.tasks import tasks_of

RECIPEWRAP_KEYS = ("recipewrapper", "wrapper")
"""Parameters that name the file for ``$RECIPEWRAP``."""


class PreparedJob(msgspec.Struct, frozen=True):
    """A job request, and the files to write before it is submitted."""

    request: JobRequest
    files: dict[Path, bytes]
    places: dict[Path, str] = {}
    """Path that the step names to its place in the step, for sentences about it."""


def prepare(
    envelope: Envelope,
    token: str,
    default_cluster: str,
    settings: Callable[[str], ClusterSettings] = lambda name: ClusterSettings(kind=name),
    limits: Limits = DEFAULTS,
    allowed: AllowedDirectories = ANYWHERE,
    task: int | None = None,
) -> PreparedJob:
    """Return the job request of a recipe step, and the files that it names.

    Args:
        envelope: The message at the step.
        token: The token of the attempt.
        default_cluster: Name of the cluster for a step that names none; empty: there is none.
        settings: Function from the name of a cluster to its description.
        limits: Limits of sizes.
        allowed: Directories below which the step may name paths.
        task: Number of the task for which the message is; None: the step's only one, or its first.

    Raises:
        RequestError: A key is wrong; the text names the key and what is expected.
    """
    where = f"node {envelope.pointer}, parameters"
    parameters = parameters_of(envelope)
    for place, options in legacy.option_texts(parameters, where):
        check_commands(options, limits, place)
    block = legacy.translated(parameters, where)
    scheduler = block.get("scheduler") if isinstance(block, Mapping) else None
    cluster_name = str(scheduler or default_cluster)
    place = f"{where}, key 'cluster'"
    described = _settings_of(cluster_name, settings, place)
    cluster = cluster_block(block, described.defaults, place)
    resources = resources_of(cluster, place, described.allowed_options)
    working = absolute_path(parameters.get("workingdir"), f"{where}, key 'workingdir'")
    directory = job_directory(working, token)
    text = cluster.commands if isinstance(cluster.commands, str) else "\n".join(cluster.commands)
    check_commands(text, limits, f"{where}, key 'commands'")
    at = f"{where}, key 'cluster', key 'array'"
    array = True if cluster.array is None else tasks_of(cluster.array, at, limits)
    own = None if isinstance(array, bool) else array.task(task, at)
    variables, files = step_files(envelope, parameters, working, directory, text, own)
    for name, value in variables.items():
        text = replace_variable(text, name, value, where)
    request = JobRequest(
        cluster=cluster_name,
        job_name=safe_job_name(
            cluster.job_name or envelope.task or envelope.step.get("service") or "zwrap"
        ),
        token=token,
        working_directory=working,
        job_directory=directory,
        commands=text,
        environment=environment_of(cluster, f"{where}, key 'cluster'"),
        resources=resources,
        array=bool(array) and not resources.mail_on,  # an array gets one mail
        values=cluster.template or {},
        task=own,
        after=dependency.steps_before(cluster.dependency, envelope, limits),
        standard_output=file_of(working, parameters.get("standard_output"), directory, "job.out"),
        standard_error=file_of(working, parameters.get("standard_error"), directory, "job.err"),
        below=tuple(map(str, allowed.directories)),
    )
    return PreparedJob(request, files, named.checked(allowed, parameters, working, where))


def _settings_of(
    name: str, settings: Callable[[str], ClusterSettings], where: str
) -> ClusterSettings:
    """Return the description of a cluster; RequestError, with the place, if none is chosen."""
    try:
        return settings(name)
    except RequestError as error:
        raise RequestError(f"{where}: {error}") from None


def check_commands(text: object, limits: Limits, where: str) -> None:
    """Raise RequestError if shell text is longer than its limit, or holds a NUL."""
    if isinstance(text, str) and is_long(text, limits.commands_bytes):
        raise RequestError(
            f"{where} has more than {limits.commands_bytes} bytes (section limits, key "
            "'commands_bytes'). Put long lists into a file, and give its path."
        )
    if isinstance(text, str):
        check_nul(text, where, "shell text can hold")


def parameters_of(envelope: Envelope) -> Mapping[str, object]:
    """Return the parameters of a step that becomes a job; RequestError if there are none."""
    parameters: object = envelope.step.get("parameters")
    if not isinstance(parameters, dict):
        raise RequestError(
            f"node {envelope.pointer}, parameters: an object with 'cluster' and 'workingdir' is "
            "expected."
        )
    return parameters


def file_of(working: Path, given: object, directory: Path, default: str) -> Path:
    """Return the path that a step gives, relative to `working`, else the default in `directory`."""
    check_nul(str(given), f"The path {short(given)}", "path can")
    return working / str(given) if given else directory / default


def step_files(
    envelope: Envelope,
    parameters: Mapping[str, object],
    working: Path,
    directory: Path,
    text: str,
    task: ArrayTask | None = None,
) -> tuple[dict[str, str], dict[Path, bytes]]:
    """Return the values of ``$RECIPEWRAP`` and the like in commands, and the files behind them.

    A file is written at the path that the step names, relative to `working`. A file without such a
    path is written, in `directory`, only if `text`, the commands, mentions its variable. Each task
    of a step has files of its own, whose names end in its number.
    """
    variables = {"RECIPEPOINTER": str(envelope.pointer)}
    files: dict[Path, bytes] = {}
    for name, keys, default, content in _documents(envelope):
        given = next((parameters[key] for key in keys if parameters.get(key)), None)
        if given or re.search(variable_pattern(name), text):
            path = file_of(working, given, directory, default)
            path = path.with_name(f"{path.name}.{task.number}") if task and given else path
            variables[name] = str(path)
            files[path] = content()
    return variables, files


def is_handed_over(envelope: Envelope) -> bool:
    """Return True if the job of a step gets the step as a file, which only a wrapper needs."""
    parameters = parameters_of(envelope)
    if any(parameters.get(key) for key in RECIPEWRAP_KEYS):
        return True
    return (
        re.search(variable_pattern("RECIPEWRAP"), str(legacy.translated(parameters, "")))
        is not None
    )


def _documents(
    envelope: Envelope,
) -> list[tuple[str, tuple[str, ...], str, Callable[[], bytes]]]:
    """Return variable, parameter keys, default file name and content of each file for a job."""
    recipe = envelope.recipe
    return [
        ("RECIPEWRAP", RECIPEWRAP_KEYS, ENVELOPE, envelope.to_json),
        (
            "RECIPEENV", ("recipeenvironment",), "environment.json",
            lambda: encode(envelope.environment),
        ),
        ("RECIPEFILE", ("recipefile",), "recipe.json", lambda: recipe.to_json().encode()),
    ]  # fmt: skip


def absolute_path(value: object, where: str) -> Path:
    """Return a value as an absolute path; RequestError, which names `where`, if it is not one."""
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise RequestError(f"{where} is {short(value)}; an absolute path is expected.")
    return Path(value)


def safe_job_name(name: object) -> str:
    """Return a name that every batch system accepts: safe characters, a letter first."""
    safe = re.sub(r"[^A-Za-z0-9_.+-]+", "_", str(name))[:64]
    return safe if safe[:1].isalpha() else f"j{safe}"


def replace_variable(text: str, name: str, value: str, where: str = "shell text") -> str:
    """Return shell `text` with ``$name`` and ``${name}`` replaced by `value`, quoted as needed.

    Raises RequestError, which names `where`, if the value cannot be put in safely.
    """

    def fault(sentence: str) -> RequestError:
        return RequestError(f"{where}, commands: {sentence}")

    return replace_quoted(text, variable_pattern(name), lambda _: value, fault)


def variable_pattern(name: str) -> str:
    """Return the regular expression for ``$name`` and ``${name}``."""
    return rf"\$(?:{name}\b|\{{{name}\}})"
