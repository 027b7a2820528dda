"""Rules on the way from a recipe step to a job script."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from zwrap.errors import RequestError, TemplateError, UnknownNameError
from zwrap.job import JobRequest
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.submission.request import is_handed_over, prepare, replace_variable
from zwrap.submission.template import Templates

GOLDEN = Path(__file__).parent / "golden"
NASTY = '/a b/it\'s "q" $HOME `id` \\ {x}\nnext'


def envelope(cluster: object = None, **parameters: Any) -> Envelope:
    cluster = {"commands": "run", **cluster} if isinstance(cluster, dict) else cluster
    node = {
        "queue": "cluster.submission",
        "wrapper": {"task_information": "a task"},
        "parameters": {"cluster": cluster or {"commands": "run"}, "workingdir": "/w", **parameters},
    }
    recipe = Recipe({"start": [[1, []]], "1": {"queue": "x", "output": 2}, "2": node})
    return Envelope(recipe, 2, environment={"ID": "guid"}, path=[1])


def test_every_resource_key_is_understood_also_as_text() -> None:
    block = {
        "scheduler": "other", "job_name": "my job!", "environment": {"A": 1},
        "partition": "p", "account": "a", "qos": "q", "nodes": "1", "tasks": 2,
        "cpus_per_task": "3", "memory_per_node": 4, "min_memory_per_cpu": 5, "gpus": 6,
        "gpus_per_node": 7, "time_limit": "1:00:01", "exclusive": True, "constraints": "c",
        "prefer": "x", "exclude": "n1", "commands": ["one", "two"],
    }  # fmt: skip
    request = prepare(envelope(block), "tok-1", "local").request
    assert (request.cluster, request.job_name, request.commands) == ("other", "my_job_", "one\ntwo")
    assert request.environment == {"A": "1"}
    resources = request.resources
    assert (resources.nodes, resources.tasks, resources.cpus_per_task) == (1, 2, 3)
    assert (resources.memory_mib, resources.memory_per_cpu_mib) == (4, 5)
    assert (resources.gpus, resources.gpus_per_node) == (6, 7)
    assert (resources.walltime_s, resources.exclusive) == (3601, True)
    assert request.full_name == "my_job_.tok-1"


def test_defaults_are_the_site_s_cluster_and_the_attempt_s_directory() -> None:
    request = prepare(envelope(), "tok-1", "local").request
    assert request.cluster == "local"
    assert request.job_name == "a_task"
    assert request.job_directory == Path("/w/.zwrap/tok-1")
    assert request.standard_output == Path("/w/.zwrap/tok-1/job.out")


def test_a_step_is_handed_over_where_the_job_gets_it_as_a_file() -> None:
    assert not is_handed_over(envelope())
    assert is_handed_over(envelope(recipewrapper="envelope.json"))
    assert is_handed_over(envelope({"commands": "zocalo.wrap --recipewrapper ${RECIPEWRAP}"}))
    assert not is_handed_over(envelope({"commands": "run $RECIPEWRAPPED"}))


@pytest.mark.parametrize("key", ["recipewrapper", "wrapper"])
def test_the_envelope_is_written_where_either_key_says(key: str) -> None:
    prepared = prepare(envelope({"commands": "wrap $RECIPEWRAP"}, **{key: "sub/rw"}), "t-1", "x")
    assert prepared.request.commands == "wrap /w/sub/rw"
    content = prepared.files[Path("/w/sub/rw")]
    assert Envelope.from_body(__import__("json").loads(content)).pointer == 2


def test_all_four_tokens_are_replaced_and_their_files_written() -> None:
    commands = "$RECIPEWRAP ${RECIPEENV} $RECIPEFILE $RECIPEPOINTER $RECIPEPOINTERS"
    prepared = prepare(envelope({"commands": commands}), "t-1", "x")
    where = "/w/.zwrap/t-1"
    assert prepared.request.commands == (
        f"{where}/envelope.json {where}/environment.json {where}/recipe.json 2 $RECIPEPOINTERS"
    )
    assert prepared.files[Path(where, "environment.json")] == b'{"ID":"guid"}'
    assert Recipe.from_json(prepared.files[Path(where, "recipe.json")])[2]["queue"]


@pytest.mark.parametrize(
    ("cluster", "parameters", "complaint"),
    [
        ({}, {"workingdir": "relative"}, "key 'workingdir' is 'relative'; an absolute path"),
        ({}, {"workingdir": None}, "key 'workingdir' is None"),
        ("text", {}, "node 2, parameters, key 'cluster': an object with at least 'commands'"),
        ({"commands": ""}, {}, "key 'commands' is empty"),
        ({"commands": 7}, {}, r"\$.commands"),
        ({"nodes": 0}, {}, r"Expected `int` >= 1 - at `\$.nodes`"),
        ({"time_limit": "soon"}, {}, "key 'time_limit' is 'soon'; a duration above 0"),
        ({"array": "1-3x"}, {}, "key 'array' is '1-3x'; true, false, or numbers of tasks"),
        ({"partitoin": "x"}, {}, "Unknown key 'partitoin'.*Did you mean 'partition'"),
    ],
)
def test_each_fault_names_the_key(cluster: Any, parameters: Any, complaint: str) -> None:
    with pytest.raises((RequestError, UnknownNameError), match=complaint):
        prepare(envelope(cluster, **parameters), "t-1", "local")


@pytest.mark.parametrize("around", ["%s", '"%s"', "'%s'", 'x"y"%s', "'a'\"b %s\"", '\\"%s'])
@pytest.mark.parametrize("value", ["/plain/path", NASTY])
def test_a_path_arrives_whole_whatever_the_quotes_around_its_token(around: str, value: str) -> None:
    """The shell prints for the replaced text what it prints for a real variable."""
    command = "printf %s " + around.replace("%s", "$RECIPEWRAP")
    text = replace_variable(command, "RECIPEWRAP", value)
    printed = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True)
    marker = subprocess.run(
        ["bash", "-c", "printf %s " + around.replace("%s", "@")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert printed.stdout == marker.stdout.replace("@", value)


def request(**values: Any) -> JobRequest:
    defaults: dict[str, Any] = {
        "cluster": "local",
        "job_name": "name",
        "token": "tok-1",
        "working_directory": Path("/w"),
        "job_directory": Path("/w/.zwrap/tok-1"),
        "commands": "true",
        "standard_output": Path("/o"),
        "standard_error": Path("/e"),
    }
    return JobRequest(**{**defaults, **values})


def test_the_local_script_is_as_agreed() -> None:
    script = Templates().render(
        "local.sh.j2",
        request(
            working_directory=Path("/data/it's here"),
            environment={"ZWRAP_TOKEN": "tok-1", "A": "two words"},
            commands="echo $A\nzocalo.wrap --wrap x",
        ),
    )
    golden = GOLDEN / "local.sh"
    assert script == golden.read_text(), f"rendered differently from {golden}"


def test_no_part_of_a_value_is_run(tmp_path: Path) -> None:
    directory = tmp_path / "a b'c\"d$HOME`touch x`\nnewline"
    directory.mkdir()
    script = Templates().render(
        "local.sh.j2",
        request(
            working_directory=directory,
            job_name="$(touch y)\nrm -rf x",
            environment={"V": NASTY},
            commands='pwd; printf %s "$V"',
        ),
    )
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == f"{directory}\n{NASTY}"
    assert ran.stderr == ""
    assert list(directory.iterdir()) == []


def test_a_site_template_extends_a_block_and_keeps_the_rest(tmp_path: Path) -> None:
    (tmp_path / "local.sh.j2").write_text(
        '{% extends "zwrap/local.sh.j2" %}\n'
        "{% block setup %}\nmodule load {{ cluster }}\n{% endblock %}\n"
    )
    script = Templates(tmp_path).render("local.sh.j2", request(environment={"A": "b"}))
    assert "module load local\n" in script
    assert "export A=b\n" in script


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{{ unknown }}", "Template local.sh.j2 cannot be rendered: 'unknown' is undefined"),
        ("line\n{% if %}", "Template .*local.sh.j2, line 2: "),
        ("{{ job_name | directive }}", "Template local.sh.j2: 'a\\\\nb' cannot be on a dir"),
        ("{{ 'A-B' | variable }}", "is not a valid name of an environment variable"),
        ("{{ ''.__class__ }}", "cannot be rendered: .*is unsafe"),
        ("{{ 1 + job_name }}", "Template local.sh.j2 cannot be rendered: TypeError: "),
        ('{% extends "zwrap/locl.sh.j2" %}', "Unknown template 'zwrap/locl.sh.j2'"),
    ],
)
def test_a_faulty_site_template_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "local.sh.j2").write_text(text)
    with pytest.raises((TemplateError, UnknownNameError), match=complaint):
        Templates(tmp_path).render("local.sh.j2", request(job_name="a\nb"))


def test_an_unknown_template_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'local\.sh\.j2'"):
        Templates().render("locl.sh.j2", request())


def test_templates_of_job_scripts_can_be_named(tmp_path: Path) -> None:
    """The script of an array is no template of jobs."""
    (tmp_path / "own.sh.j2").write_text("")
    assert Templates(tmp_path).names() == [
        "job.sh.j2", "local.sh.j2", "own.sh.j2", "sge.sh.j2", "slurm.sh.j2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "walltime_s"),
    [("1-12", 36 * 3600), ("1-12:30", 36 * 3600 + 1800), ("PT1H", 3600), ("01:00", 3600),
     ("1 day, 00:00:00", 86400), (0.5, 1), ("90", 90)],
)  # fmt: skip
def test_a_time_limit_means_the_same_in_every_block(given: object, walltime_s: int) -> None:
    block = {"commands": "run", "time_limit": given}
    assert prepared_old({"cluster": block}).resources.walltime_s == walltime_s
    options = {"cluster_submission_parameters": f"-l h_rt='{given}'"}
    if "," not in str(given):  # which separates resources there
        assert prepared_old(old(**options)).resources.walltime_s == walltime_s


def old(**parameters: Any) -> dict[str, Any]:
    """Return a step as it was written for Grid Engine."""
    return {"cluster": None, "cluster_commands": "run", **parameters}


def prepared_old(parameters: dict[str, Any]) -> JobRequest:
    node = {"queue": "x", "parameters": {"workingdir": "/w", **parameters}}
    return prepare(Envelope(Recipe({"start": [[1, []]], "1": node}), 1), "tok-1", "local").request


def test_steps_of_old_are_understood() -> None:
    options = (
        "-N name -pe smp 4 -l h_rt=1:00:00,h_vmem=4G -l exclusive,gpu=2,redhat_release=rhel7 "
        "-q medium.q -P mx -notify -S /bin/bash -l infiniband"
    )
    request = prepared_old(old(cluster="hamilton", cluster_submission_parameters=options))
    resources = request.resources
    assert (request.cluster, request.job_name, request.commands) == ("hamilton", "name", "run")
    assert (resources.cpus_per_task, resources.memory_per_cpu_mib) == (4, 4096)
    assert (resources.walltime_s, resources.exclusive, resources.gpus) == (3600, True, 2)
    assert (resources.partition, resources.account) == ("medium.q", "mx")
    assert resources.constraints == "redhat_release=rhel7,infiniband=true"
    request = prepared_old(old(cluster_project="i03", cluster_queue="high.q"))
    assert (request.cluster, request.resources.account) == ("local", "i03")
    assert request.resources.partition == "high.q"
    mpi = prepared_old(old(cluster_submission_parameters="-pe openmpi 40"))
    assert mpi.resources.tasks == 40
    assert prepared_old(old(cluster_submission_parameters="-pe zmpi 8")).resources.tasks == 8


@pytest.mark.parametrize(
    ("slots", "least", "most"),
    [
        ("16", 16, None),
        ("16-20", 16, 20),
        ("16-16", 16, None),
        ("-20", 1, 20),
        ("4-", 4, 9_999_999),
    ],
)
def test_a_range_of_slots_asks_for_the_least_and_keeps_the_most(
    slots: str, least: int, most: int | None
) -> None:
    options = f"-pe smp {slots} -l mfree=4G"
    resources = prepared_old(old(cluster_submission_parameters=options)).resources
    assert (resources.cpus_per_task, resources.max_slots) == (least, most)
    assert resources.memory_per_cpu_mib == 4096
    assert resources.constraints is None


def test_options_of_qsub_in_a_block_stand_for_keys_and_keys_go_before_them() -> None:
    block = {
        "commands": "run", "cpus_per_task": 2, "partition": None,
        "qsub_submission_parameters": "-pe smp 4 -l h_rt=1:00:00 -q high.q",
    }  # fmt: skip
    resources = prepared_old({"cluster": block}).resources
    assert (resources.cpus_per_task, resources.walltime_s) == (2, 3600)
    assert resources.partition == "high.q"
    wrong = {"commands": "run", "qsub_submission_parameters": "-t 1-10"}
    with pytest.raises(RequestError, match="key 'qsub_submission_parameters': option '-t' cannot"):
        prepared_old({"cluster": wrong})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("-t 1-10", "option '-t' cannot be honoured; known are -N, -P, -S, -cwd, -l"),
        ("-o /tmp/x", "-o cannot be honoured; use 'standard_output' instead"),
        ("-pe smp", "-pe lacks a value"),
        ("-pe smp 4-8:2", "'-pe smp 4-8:2' is not understood"),
        ("-pe smp 8-4", "'-pe smp 8-4' is not understood"),
        ("-pe smp -", "'-pe smp -' is not understood"),
        ("-l h_vmem=lots", "-l h_vmem is 'lots'; a size above 0 is expected"),
        ("-l h_rt=soon", "'cluster_submission_parameters': -l h_rt is 'soon'; a duration above 0"),
        ("-S /bin/tcsh", "'-S /bin/tcsh' is not understood"),
        ("-N 'x", "which a shell would refuse: No closing quotation"),
        (["-N", "x"], "a text with options of qsub is expected"),
    ],
)
def test_an_old_option_that_has_no_meaning_is_refused(options: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        prepared_old(old(cluster_submission_parameters=options))
    assert "node 1, parameters, key 'cluster_submission_parameters'" in str(caught.value)


def test_old_and_new_keys_do_not_mix() -> None:
    with pytest.raises(RequestError, match="'cluster_queue' belongs to the old form"):
        prepared_old({"cluster": {"commands": "run"}, "cluster_queue": "q"})


def test_the_templates_of_a_plug_in_come_between_the_site_s_and_zwrap_s(tmp_path: Path) -> None:
    site, brought = tmp_path / "site", tmp_path / "brought"
    for place in (site, brought):
        place.mkdir()
        for name in ("pbs.sh.j2", "slurm.sh.j2"):
            (place / name).write_text(
                '{% extends "zwrap/job.sh.j2" %}{% block directives %}#'
                + place.name
                + "{% endblock %}"
            )
    (site / "pbs.sh.j2").unlink()
    assert "#brought" in Templates(site, brought).render("pbs.sh.j2", request())
    assert "#site" in Templates(site, brought).render("slurm.sh.j2", request())
    assert "#brought" in Templates(None, brought).render("slurm.sh.j2", request())
    with pytest.raises(UnknownNameError):
        Templates(site).render("pbs.sh.j2", request())
