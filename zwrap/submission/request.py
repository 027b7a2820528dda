"""Job requests from recipe steps on queue `cluster.submission`, and the files that steps name.

The keys are those of Diamond's cluster submission service, and `wrapper` of cryoem-services.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from zwrap.attempt.directory import job_directory
from zwrap.errors import RequestError, UnknownNameError, short
from zwrap.host.beneath import ANYWHERE, AllowedDirectories
from zwrap.job import Count, JobRequest, Resources
from zwrap.jsontext import typed
from zwrap.limits import DEFAULTS, Limits
from zwrap.message import encode
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.quoting import replace_quoted
from zwrap.recipe.sizes import is_long
from zwrap.submission import legacy, named
from zwrap.submission.execution import check_environment, check_nul
from zwrap.units import seconds


class ClusterBlock(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The `cluster` block of a step's parameters. Memory is in MiB, which batch systems call MB."""

    commands: str | list[str]
    scheduler: str | None = None
    job_name: str | None = None
    environment: dict[str, object] | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    nodes: Count | None = None
    tasks: Count | None = None
    cpus_per_task: Count | None = None
    memory_per_node: Count | None = None
    min_memory_per_cpu: Count | None = None
    gpus: Count | None = None
    gpus_per_node: Count | None = None
    time_limit: object = None
    exclusive: bool = False
    constraints: str | None = None
    prefer: str | None = None
    exclude: str | None = None
    array: bool = True
    """True if the job may be a task of an array, with other jobs that wait."""


REFUSED = {
    "array": "one message is one job, and zwrap itself joins messages to arrays (false: never)",
    **legacy.REFUSED,
}
"""Key of another submission service to the reason why it cannot be honoured."""

RECIPEWRAP_KEYS = ("recipewrapper", "wrapper")
"""Parameters that name the file for ``$RECIPEWRAP``."""

ALIKE = sorted({*Resources.__struct_fields__} & {*ClusterBlock.__struct_fields__})
"""Keys of the cluster block that have the same name in `Resources`."""


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
    defaults: Callable[[str], Mapping[str, object]] = lambda _: {},
    limits: Limits = DEFAULTS,
    allowed: AllowedDirectories = ANYWHERE,
) -> PreparedJob:
    """Return the job request of a recipe step, and the files that it names.

    Args:
        envelope: The message at the step.
        token: The token of the attempt.
        default_cluster: Name of the cluster for a step that names none.
        defaults: Function from the name of a cluster to defaults of keys of the cluster block.
        limits: Limits of sizes.
        allowed: Directories below which the step may name paths.

    Raises:
        RequestError: A key is wrong; the text names the key and what is expected.
    """
    where = f"node {envelope.pointer}, parameters"
    parameters = parameters_of(envelope)
    options = parameters.get("cluster_submission_parameters")
    check_commands(options, limits, f"{where}, key 'cluster_submission_parameters'")
    block = legacy.cluster_block(parameters, where)
    scheduler = block.get("scheduler") if isinstance(block, Mapping) else None
    cluster_name = str(scheduler or default_cluster)
    cluster = _cluster(block, defaults(cluster_name), f"{where}, key 'cluster'")
    working = absolute_path(parameters.get("workingdir"), f"{where}, key 'workingdir'")
    directory = job_directory(working, token)
    text = cluster.commands if isinstance(cluster.commands, str) else "\n".join(cluster.commands)
    check_commands(text, limits, f"{where}, key 'commands'")
    variables, files = step_files(envelope, parameters, working, directory, text)
    for name, value in variables.items():
        text = replace_variable(text, name, value, where)
    request = JobRequest(
        cluster=cluster_name,
        job_name=_job_name(
            cluster.job_name or envelope.task or envelope.step.get("service") or "zwrap"
        ),
        token=token,
        working_directory=working,
        job_directory=directory,
        commands=text,
        environment=_environment(cluster, f"{where}, key 'cluster'"),
        resources=_resources(cluster, where),
        array=cluster.array,
        standard_output=file_of(working, parameters.get("standard_output"), directory, "job.out"),
        standard_error=file_of(working, parameters.get("standard_error"), directory, "job.err"),
        below=tuple(map(str, allowed.directories)),
    )
    return PreparedJob(request, files, named.checked(allowed, parameters, working, where))


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
) -> tuple[dict[str, str], dict[Path, bytes]]:
    """Return the values of ``$RECIPEWRAP`` and the like in commands, and the files behind them.

    A file is written at the path that the step names, relative to `working`. A file without such a
    path is written, in `directory`, only if `text`, the commands, mentions its variable.
    """
    variables = {"RECIPEPOINTER": str(envelope.pointer)}
    files: dict[Path, bytes] = {}
    for name, keys, default, content in _documents(envelope):
        given = next((parameters[key] for key in keys if parameters.get(key)), None)
        if given or re.search(variable_pattern(name), text):
            path = file_of(working, given, directory, default)
            variables[name] = str(path)
            files[path] = content()
    return variables, files


def is_handed_over(envelope: Envelope) -> bool:
    """Return True if the job of a step gets the step as a file, which only a wrapper needs."""
    parameters = parameters_of(envelope)
    if any(parameters.get(key) for key in RECIPEWRAP_KEYS):
        return True
    return (
        re.search(variable_pattern("RECIPEWRAP"), str(legacy.cluster_block(parameters, "")))
        is not None
    )


def _documents(
    envelope: Envelope,
) -> list[tuple[str, tuple[str, ...], str, Callable[[], bytes]]]:
    """Return variable, parameter keys, default file name and content of each file for a job."""
    recipe = envelope.recipe
    return [
        ("RECIPEWRAP", RECIPEWRAP_KEYS, "envelope.json", envelope.to_json),
        (
            "RECIPEENV", ("recipeenvironment",), "environment.json",
            lambda: encode(envelope.environment),
        ),
        ("RECIPEFILE", ("recipefile",), "recipe.json", lambda: recipe.to_json().encode()),
    ]  # fmt: skip


def check_defaults(defaults: Mapping[str, object], where: str) -> None:
    """Raise RequestError if a site's defaults for cluster blocks are not valid."""
    _cluster({"commands": "true"}, defaults, where)


def _cluster(block: object, defaults: Mapping[str, object], where: str) -> ClusterBlock:
    """Return a cluster block, with `defaults` for missing keys; RequestError if it is wrong."""
    if not isinstance(block, Mapping):
        raise RequestError(f"{where}: an object with at least 'commands' is expected.")
    refused = dict(REFUSED)
    if isinstance(block.get("array"), bool):
        del refused["array"]
    for key, reason in refused.items():
        if block.get(key):
            raise RequestError(f"{where}, key {key!r} cannot be honoured: {reason}.")
    given = {key: value for key, value in block.items() if key not in refused}
    merged = {**defaults, **given}
    for key in merged:
        if key not in ClusterBlock.__struct_fields__:
            raise UnknownNameError("key", key, ClusterBlock.__struct_fields__, where)
    try:
        cluster = typed(merged, ClusterBlock, strict=False)
    except (msgspec.ValidationError, OverflowError, ValueError) as error:
        raise RequestError(f"{where}: {error}.") from None
    if not cluster.commands:
        raise RequestError(f"{where}, key 'commands' is empty; shell text is expected.")
    return cluster


def absolute_path(value: object, where: str) -> Path:
    """Return a value as an absolute path; RequestError, which names `where`, if it is not one."""
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise RequestError(f"{where} is {short(value)}; an absolute path is expected.")
    return Path(value)


def _resources(cluster: ClusterBlock, where: str) -> Resources:
    """Return the resources of a cluster block, with units in the names."""
    limit = cluster.time_limit
    return Resources(
        **{name: getattr(cluster, name) for name in ALIKE},
        memory_mib=cluster.memory_per_node,
        memory_per_cpu_mib=cluster.min_memory_per_cpu,
        walltime_s=None if limit is None else seconds(limit, f"{where}, key 'time_limit'"),
    )


def _environment(cluster: ClusterBlock, where: str) -> dict[str, str]:
    """Return the environment variables of a cluster block as text, which a job can have."""
    found = {name: str(value) for name, value in (cluster.environment or {}).items()}
    check_environment(found, f"{where}, environment")
    return found


def _job_name(name: object) -> str:
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
