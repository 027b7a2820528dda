"""What each key of a cluster block becomes in each batch system, and which values are taken."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from zwrap_schedulers.local import Local, LocalOptions
from zwrap_schedulers.sge.sge import GridEngine, SGEOptions
from zwrap_schedulers.slurm.directives import fields
from zwrap_schedulers.slurm.rest import SlurmRest, SlurmRestOptions

from zwrap.attempt.record import Attempt
from zwrap.cli.resubmit import _message
from zwrap.cli.zwrap import main
from zwrap.configuration.clusters import ClusterSettings
from zwrap.configuration.joboptions import why_not
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, OutageError, RequestError, TemplateError
from zwrap.job import JobRequest, Resources
from zwrap.message.content import Message
from zwrap.message.limits import DEFAULTS
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.scheduler import ArrayForm, Rejected, Reply
from zwrap.submission.arrays import shape_of
from zwrap.submission.clusters import Clusters
from zwrap.submission.recognition import Recognized
from zwrap.submission.refused import refused_attempt
from zwrap.submission.request import prepare
from zwrap.submission.script import NEEDED, Renderer
from zwrap.submission.template import Templates

OPTIONS = ("switches", "spread-job", "js")
SETTINGS = ClusterSettings(kind="slurm", allowed_options=OPTIONS)


def step(**block: Any) -> Envelope:
    node = {
        "queue": "cluster.submission",
        "parameters": {"workingdir": "/w", "cluster": {"commands": "run", **block}},
    }
    return Envelope(Recipe({"start": [[1, []]], "1": node}), 1)


def request(settings: ClusterSettings = SETTINGS, **block: Any) -> JobRequest:
    return prepare(step(**block), "t-1", "c", lambda _: settings).request


def script(template: str, **block: Any) -> str:
    return Templates().render(template, request(**block), SGEOptions(), needed=NEEDED)


def directives(template: str, **block: Any) -> list[str]:
    prefix = "#$ " if template.startswith("sge") else "#SBATCH "
    lines = script(template, **block).splitlines()
    found = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
    return [line for line in found if line not in ("-S /bin/bash", "-notify")]


def slurmrestd(version: int, **block: Any) -> dict[str, object]:
    return fields(script("slurm.sh.j2", **block), version)


BEGIN = {"begin": "2026-11-28T20:00"}
UTC_BEGIN = {"begin": "2026-11-28T20:00:00Z"}
EPOCH = int(datetime(2026, 11, 28, 20, tzinfo=UTC).timestamp())
LOCAL_EPOCH = int(datetime(2026, 11, 28, 20).timestamp())  # noqa: DTZ001  (local is meant)


@pytest.mark.parametrize(
    ("block", "slurm", "old", "new"),
    [
        ({"gres": "gpu:a100:2,shard:1"}, ["--gres=gpu:a100:2,shard:1"],
         {"gres": "gpu:a100:2,shard:1"}, {"tres_per_node": "gres/gpu:a100:2,gres/shard:1"}),
        ({"gres": "nvme", "gpus_per_node": 2}, ["--gpus-per-node=2", "--gres=nvme"],
         {"gres": "nvme", "gpus_per_node": "2"}, {"tres_per_node": "gres/gpu:2,gres/nvme"}),
        ({"reservation": "maint"}, ["--reservation=maint"], {"reservation": "maint"}, None),
        ({"licenses": "xds:2"}, ["--licenses=xds:2"], {"licenses": "xds:2"}, None),
        ({"comment": "i03"}, ["--comment=i03"], {"comment": "i03"}, None),
        ({"mail": "a@b.org"}, ["--mail-user=a@b.org", "--mail-type=END,FAIL"],
         {"mail_user": "a@b.org", "mail_type": "END,FAIL"},
         {"mail_user": "a@b.org", "mail_type": ["END", "FAIL"]}),
        ({"mail_on": ["fail", "begin"]}, ["--mail-type=BEGIN,FAIL"], {"mail_type": "BEGIN,FAIL"},
         {"mail_type": ["BEGIN", "FAIL"]}),
        ({"mail_on": ["end", "time_limit"]}, ["--mail-type=END,TIME_LIMIT"],
         {"mail_type": "END,TIME_LIMIT"}, {"mail_type": ["END", "TIME=100%"]}),
        (BEGIN, ["--begin=2026-11-28T20:00:00"], {"begin_time": "2026-11-28T20:00:00"},
         {"begin_time": LOCAL_EPOCH}),
        (UTC_BEGIN, [f"--begin=uts{EPOCH}"], {"begin_time": f"uts{EPOCH}"}, {"begin_time": EPOCH}),
        ({"nice": -5}, ["--nice=-5"], {"nice": -5}, None),
        ({"priority": "4000000000"}, ["--priority=4000000000"], {"priority": 4000000000}, None),
        ({"nodelist": "n[1-2]"}, ["--nodelist=n[1-2]"], {"nodelist": "n[1-2]"},
         {"required_nodes": ["n[1-2]"]}),
        ({"nodelist": "n[1-2,4],m1"}, ["--nodelist=n[1-2,4],m1"],
         {"nodelist": "n[1-2,4],m1"}, {"required_nodes": ["n[1-2,4]", "m1"]}),
        ({"requeue": True}, ["--requeue"], {"requeue": True}, None),
        ({"requeue": "false"}, ["--no-requeue"], {"no_requeue": True}, {"requeue": False}),
        ({"memory_per_node": "4G"}, ["--mem=4096M"], {"memory_per_node": 4096}, None),
        ({"memory_per_node": 500}, ["--mem=500M"], {"memory_per_node": 500}, None),
        ({"memory_per_node": 0}, ["--mem=0M"], {"memory_per_node": 0}, None),
        ({"min_memory_per_cpu": "1.5GB"}, ["--mem-per-cpu=1536M"], {"memory_per_cpu": 1536}, None),
        ({"ntasks_per_node": 2}, ["--ntasks-per-node=2"], {"tasks_per_node": 2}, None),
        ({"exclusive": "user"}, ["--exclusive=user"], {"exclusive": "user"}, {"shared": ["user"]}),
        ({"exclusive": "true"}, ["--exclusive"], {"exclusive": "exclusive"}, {"shared": ["none"]}),
        ({"exclusive": "false"}, [], {}, {}),
    ],
)  # fmt: skip
def test_a_key_is_an_option_of_sbatch_and_a_field_of_slurmrestd(
    block: dict[str, Any], slurm: list[str], old: dict[str, Any], new: dict[str, Any] | None
) -> None:
    assert directives("slurm.sh.j2", **block) == slurm
    assert slurmrestd(38, **block) == old
    assert slurmrestd(42, **block) == (old if new is None else new)


def test_a_signal_to_the_script_needs_a_newer_slurmrestd() -> None:
    """That of 22.05 refuses it, whichever version of its interface is used."""
    block = {"signal": "SIGUSR1@300"}
    assert directives("slurm.sh.j2", **block) == ["--signal=B:USR1@300"]
    assert slurmrestd(42, **block) == {
        "kill_warning_signal": "USR1", "kill_warning_delay": 300,
        "kill_warning_flags": ["BATCH_JOB"],
    }  # fmt: skip
    with pytest.raises(RequestError, match=r"no signal to the script of a job before v0\.0\.39"):
        slurmrestd(38, **block)


def test_the_status_of_a_job_that_was_warned_is_that_of_its_commands(tmp_path: Path) -> None:
    """The signal interrupts the shell that waits for them, at any moment of their end."""
    text = Templates().render(
        "slurm.sh.j2",
        replace(
            request(signal="USR1@60"), working_directory=tmp_path, job_directory=tmp_path,
            commands="bash -c 'trap \"exit 7\" USR1; echo; while :; do :; done'; exit 3",
        ),
    )  # fmt: skip
    for _ in range(10):
        job = subprocess.Popen(["bash", "-c", text], stdout=subprocess.PIPE, process_group=0)
        assert job.stdout
        assert job.stdout.readline() == b"\n"
        job.send_signal(signal.SIGUSR1)
        assert job.wait(30) == 3
        job.stdout.close()


def test_what_the_version_of_a_server_cannot_express_is_refused_for_that_job_alone(
    tmp_path: Path,
) -> None:
    """The version is known only after the server was asked, which must hold up no other job."""
    file = tmp_path / "script"
    file.write_text(script("slurm.sh.j2", signal="USR1@9"))
    options = SlurmRestOptions(url="http://h", user_token="t")
    question = SlurmRest("c", options).submit(request(), file)
    reply = Reply(status=200, output=json.dumps({"paths": {"/slurm/v0.0.38/jobs": {}}}))
    answer = question.read(reply)
    assert isinstance(answer, Rejected)
    assert "remove the key 'signal'" in answer.reason


def test_a_start_after_some_time_counts_from_the_submission() -> None:
    assert directives("slurm.sh.j2", begin="PT1H") == ["--begin=now+3600"]
    assert slurmrestd(38, begin="1:00:00") == {"begin_time": "now+3600"}
    [at] = slurmrestd(42, begin=3600).values()
    assert isinstance(at, int)
    assert abs(at - time.time() - 3600) < 60


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"reservation": "17"}, ["-ar 17"]),
        ({"licenses": "xds:2,matlab:1"}, ["-l xds=2,matlab=1"]),
        ({"comment": "i03"}, ["-ac comment=i03"]),
        ({"mail": "a@b.org"}, ["-M a@b.org", "-m ea"]),
        ({"mail_on": "begin"}, ["-m b"]),
        (BEGIN, ["-a 202611282000.00"]),
        ({"nice": 5}, ["-p -5"]),
        ({"priority": 7}, ["-p 7"]),
        ({"nodelist": "n1.site"}, ["-l hostname=n1.site"]),
        ({"requeue": True}, ["-r y"]),
        ({"requeue": False}, ["-r n"]),
        ({"memory_per_node": "4G", "tasks": 2}, ["-pe smp 2", "-l h_vmem=2048M"]),
        ({"cpus_per_task": 16, "max_slots": 20}, ["-pe smp 16-20"]),
        ({"max_slots": 4}, ["-pe smp 1-4"]),
        ({"options": {"js": 10, "spread-job": True}}, ["-js 10", "-spread-job"]),
    ],
)
def test_a_key_is_an_option_of_qsub(block: dict[str, Any], expected: list[str]) -> None:
    assert directives("sge.sh.j2", **block) == expected
    GridEngine("old", SGEOptions()).submit(request(**block), Path("/s"))


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"gres": "gpu:2"}, "name them under 'constraints' .*: remove the key 'gres'"),
        ({"signal": "USR1@60"}, "warns each job before its end by itself"),
        ({"ntasks_per_node": 2}, "remove the key 'ntasks_per_node'"),
        ({"exclusive": "user"}, "'exclusive' may be true or false"),
        ({"memory_per_node": 0}, "give 'memory_per_node' as a size"),
        ({"licenses": "xds"}, "'licenses' is 'xds'; resources as 'matlab:2' are expected"),
        ({"reservation": "maint"}, "the number of an advance reservation"),
        ({"nodelist": "n1,n2"}, "'nodelist' is 'n1,n2'; one host"),
        ({"nodelist": "n1", "exclude": "n2"}, "remove one of 'nodelist' and 'exclude'"),
        ({"comment": "a=b"}, "a word without ',' and '='"),
        ({"mail_on": "requeue"}, "begin, end and fail are expected"),
        ({"begin": "PT1H"}, "a local date and time without a zone"),
        (UTC_BEGIN, "a local date and time without a zone"),
        ({"priority": 2000}, "-1023 to 1024 are expected"),
        ({"nice": 2000}, "-1024 to 1023 are expected"),
        ({"nice": 1, "priority": 1}, "remove one of 'nice' and 'priority'"),
    ],
)
def test_grid_engine_refuses_with_a_sentence_what_it_cannot_give(
    block: dict[str, Any], words: str
) -> None:
    asked = request(**block)
    Templates().render("sge.sh.j2", asked, SGEOptions(), needed=NEEDED)
    with pytest.raises(RequestError, match=words):
        GridEngine("old", SGEOptions()).submit(asked, Path("/s"))


@pytest.mark.parametrize(
    "block",
    [{"gres": "gpu:1"}, {"licenses": "x"}, {"reservation": "r"}, {"nodelist": "n"},
     {"signal": "USR1@9"}, {"mail": "a@b"}, {"mail_on": "end"}, BEGIN, {"exclusive": "user"},
     {"options": {"js": "1"}}],
)  # fmt: skip
def test_this_machine_refuses_what_it_cannot_give(block: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"[Rr]emove the key"):
        Local("local", LocalOptions()).submit(request(**block), Path("/s"))


def test_this_machine_gives_each_task_of_its_only_node_its_processors() -> None:
    given = {"comment": "c", "nice": 3, "priority": 1, "requeue": True, "memory_per_node": 0}
    asked = request(ntasks_per_node=3, cpus_per_task=2, **given)
    call: Any = Local("local", LocalOptions()).submit(asked, Path("/s")).call
    assert call.argv[call.argv.index("--cpus") + 1] == "6"


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"reservation": "a b"}, "key 'reservation' is 'a b'; one word is expected"),
        ({"partition": "-p"}, "key 'partition' is '-p'; one word is expected, which"),
        ({"comment": "a\n#SBATCH --wrap=x"}, "key 'comment' is .*; one word is expected"),
        ({"licenses": "a#b"}, "key 'licenses'"),
        ({"nodelist": "/etc/passwd"}, "key 'nodelist' is '/etc/passwd'; names of nodes"),
        ({"exclude": "./list"}, "key 'exclude' is './list'; names of nodes"),
        ({"gres": "gpu:a:b:c"}, "key 'gres' is 'gpu:a:b:c'; resources such as 'gpu:2'"),
        ({"gres": "-x"}, "key 'gres'"),
        ({"mail": "a@b,-X"}, "key 'mail' is 'a@b,-X'; mail addresses"),
        ({"mail_on": ["end", "soon"]}, "key 'mail_on' is .*; some of begin, end, fail"),
        ({"signal": "TERM@60"}, "key 'signal' is 'TERM@60'; a signal such as 'USR1@300'"),
        *(({"signal": f"{name}@60"}, "one of USR1, USR2, is expected")
          for name in ("HUP", "INT", "QUIT", "XCPU", "2", "99")),
        ({"signal": "USR1@60 --wrap"}, "key 'signal'"),
        ({"gres": "gpu:1," * 100}, "key 'gres' has 101 items; 100 at most are expected"),
        ({"mail": "a@b," * 100}, "key 'mail' has 101 items; 100 at most are expected"),
        ({"gres": "gpu:a:1234567890"}, "key 'gres' is 'gpu:a:1234567890'"),
        ({"gres": "gpu:1,"}, "key 'gres' is 'gpu:1,'"),
        *(({"comment": f"a{end}b"}, "key 'comment' is .*; one word is expected")
          for end in ("\x85", "\u2028", "\u2029")),
        ({"begin": "1969-12-31T20:00"}, "'1969-12-31T20:00'; a date from 1970 on is expected"),
        ({"begin": "1970-01-01T00:30+01:00"}, "a date from 1970 on is expected"),
        ({"memory_per_node": 4000.5}, "key 'memory_per_node' is 4000.5; a number of megabytes"),
        ({"memory_per_node": float("inf")}, "key 'memory_per_node' is inf"),
        ({"begin": "16:00"}, "key 'begin' is '16:00', which may be a time of day or a duration"),
        ({"begin": "2026-13-01T00:00"}, "key 'begin' is '2026-13-01T00:00', which is no date"),
        ({"begin": "soon"}, "key 'begin' is 'soon'; a duration"),
        ({"exclusive": "group"}, "key 'exclusive' is 'group'; true, false or 'user'"),
        ({"memory_per_node": "lots"}, "key 'memory_per_node' is 'lots'; a size"),
        ({"memory_per_node": -1}, "key 'memory_per_node' is -1; a number of megabytes"),
        ({"memory_per_node": True}, "key 'memory_per_node' is True"),
        ({"min_memory_per_cpu": 0}, "key 'min_memory_per_cpu' is 0; a number of megabytes"),
        ({"min_memory_per_cpu": "0"}, "key 'min_memory_per_cpu' is '0'; a size above 0"),
        ({"cpus_per_task": 8, "max_slots": 4}, "key 'max_slots' is 4; 8 or more are expected"),
        ({"priority": -1}, r"`\$.priority`"),
        ({"options": {"switches": "1 --wrap=x"}}, "key 'options', option 'switches' is '1 --wrap"),
        ({"options": {"switches": "-x"}}, "option 'switches' is '-x'; one word"),
        ({"options": {"switches": ["1"]}}, "option 'switches' is .*; one word is expected"),
        ({"options": {"burst": "1"}}, "does not let steps give the option 'burst'.*switches, spr"),
    ],
)  # fmt: skip
def test_a_value_of_no_use_is_refused_with_its_key(block: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        request(**block)
    assert str(caught.value).startswith("node 1, parameters, key 'cluster'")


@pytest.mark.parametrize("key", ["gres", "mail"])
def test_a_list_of_any_length_is_looked_at_in_no_time(key: str) -> None:
    """A backtracking pattern takes twice the time for each further item."""
    item = {"gres": "gpu:1", "mail": "a@b"}[key]
    began = time.process_time()
    for value in (",".join([item] * 1000) + ",:", ",".join([item] * 50) + ",:", item * 1000 + ":"):
        with pytest.raises(RequestError, match=f"key '{key}'"):
            request(**{key: value})
    assert time.process_time() - began < 2


def test_zero_is_a_value_of_an_option_and_false_leaves_it_out() -> None:
    options = {"switches": 0, "js": 0.0, "spread-job": False}
    assert request(options=options).resources.options == {"switches": "0", "js": "0.0"}
    assert request(options={"switches": "0"}).resources.options == {"switches": "0"}


def test_a_whole_number_may_have_a_decimal_point() -> None:
    """Recipes that were filled in by a calculation have such numbers."""
    given = {"memory_per_node": 4000.0, "min_memory_per_cpu": 500.0, "tasks": 2.0}
    wanted = {"memory_mib": 4000, "memory_per_cpu_mib": 500, "tasks": 2}
    assert request(**given).resources == Resources(**wanted)


def test_commands_of_a_sites_own_are_warned_like_those_of_zwrap(
    tmp_path: Path,
) -> None:
    """The shell would end at the signal if the trap were part of the block that they replace."""
    (tmp_path / "own.sh.j2").write_text(
        '{% extends "zwrap/slurm.sh.j2" %}\n{% block commands %}\n'
        "own() { bash -c \"trap 'echo warned; exit 7' USR1; echo; while :; do :; done\"; }; own\n"
        "{% endblock %}\n"
    )
    asked = request(signal="USR1@60")
    text = Templates(tmp_path).render(
        "own.sh.j2", replace(asked, working_directory=tmp_path, job_directory=tmp_path)
    )
    job = subprocess.Popen(["bash", "-c", text], stdout=subprocess.PIPE, process_group=0)
    assert job.stdout
    assert job.stdout.readline() == b"\n"
    job.send_signal(signal.SIGUSR1)
    assert job.stdout.read() == b"warned\n"
    assert job.wait(30) == 7
    job.stdout.close()


def test_an_empty_text_is_as_if_the_key_were_not_there() -> None:
    empty = dict.fromkeys(("partition", "gres", "mail", "nodelist", "comment", "begin"), "")
    assert request(**empty).resources == Resources()


@pytest.mark.parametrize(
    "block",
    [{"gres": "gpu:1"}, {"reservation": "r"}, {"licenses": "x"}, {"comment": "c"},
     {"signal": "USR1@60"}, BEGIN, {"nice": 1}, {"priority": 1}, {"nodelist": "n1"},
     {"requeue": False}, {"memory_per_node": 0}, {"ntasks_per_node": 2}, {"exclusive": "user"},
     {"options": {"switches": "1"}}],
)  # fmt: skip
def test_jobs_that_ask_for_other_things_do_not_share_an_array(block: dict[str, Any]) -> None:
    form = ArrayForm("_", "X", prefix="#SBATCH")
    shapes = [
        shape_of(request(**each), script("slurm.sh.j2", **each), form) for each in ({}, block)
    ]
    assert None not in shapes
    assert shapes[0] != shapes[1]


def test_only_a_line_feed_ends_a_directive() -> None:
    """Bash and sbatch take other line ends of Unicode for text."""
    text = "#!/bin/bash\n#SBATCH --comment=a\u2028b\x85c\n#SBATCH --switches=1\n\nrun\n"
    shape = shape_of(request(), text, ArrayForm("_", "X", prefix="#SBATCH"))
    assert shape
    assert shape.directives == ("#SBATCH --comment=a\u2028b\x85c", "#SBATCH --switches=1")


def test_a_job_with_mail_is_not_joined_to_others() -> None:
    """A batch system sends one mail for an array."""
    assert not request(mail="a@b").array
    assert request().array


# -- options that the site allows ------------------------------------------------------------------


def test_an_option_is_given_only_where_the_site_allows_it() -> None:
    given = {"--switches": 1, "spread-job": True, "js": False}
    assert directives("slurm.sh.j2", options=given) == ["--spread-job", "--switches=1"]
    with pytest.raises(RequestError, match=r"'allowed_options' \(there are none\)"):
        request(ClusterSettings(kind="slurm"), options=given)


@pytest.mark.parametrize(
    ("kind", "option", "reason"),
    [
        ("slurm", "job-name", "zwrap gives it itself"),
        ("slurm", "--export", "zwrap gives it itself"),
        ("slurm", "wra", "zwrap gives it itself"),
        ("slurmrest", "get-user-env", "zwrap gives it itself"),
        ("slurm", "time", "the key 'time_limit' of a block stands for it"),
        ("slurm", "J", "the long name is expected"),
        ("sge", "-N", "zwrap gives it itself"),
        ("sge", "V", "zwrap gives it itself"),
        ("sge", "sync", "zwrap gives it itself"),
        ("sge", "pe", "the key 'cpus_per_task' of a block stands for it"),
        ("sge", "a b", "it is no name of an option"),
        ("pbs", "t", "zwrap gives it itself"),
        ("local", "nice", "the built-in batch system has no options"),
        ("slurm", "switches", None),
        ("slurm", "mem-bind", None),
        ("sge", "js", None),
        ("pbs", "W", None),
    ],
)
def test_a_site_cannot_allow_what_is_zwrap_s(kind: str, option: str, reason: str | None) -> None:
    assert why_not(option, kind) == reason


def test_an_option_that_cannot_be_allowed_is_refused_with_its_line() -> None:
    text = (
        "version: 1\nenvironments: {default: [c]}\nc:\n  plugin: clusters\n"
        "  prod:\n    kind: slurm\n    allowed_options: [switches, --wrap]\n"
    )
    words = "line 7, key 'c.prod.allowed_options': steps cannot give the option '--wrap': zwrap"
    with pytest.raises(ConfigurationError, match=words):
        _ = Configuration.from_string(text).activate().site.clusters


# -- templates of a site ---------------------------------------------------------------------------


def site_with(tmp_path: Path, template: str) -> Configuration:
    (tmp_path / "own.sh.j2").write_text(template)
    sections = {
        "store": {"plugin": "storage", "zwrap.template_directory": str(tmp_path)},
        "batch": {"plugin": "clusters", "prod": {"kind": "slurm", "template": "own.sh.j2"}},
    }
    site = {"version": 1, "environments": {"default": ["store", "batch"]}, **sections}
    return Configuration.from_string(json.dumps(site)).activate()


def rendered(configuration: Configuration, **block: Any) -> str:
    renderer = Renderer(configuration)
    prepared, cluster = renderer.prepare(step(**block), "t-1")
    return renderer.script(prepared.request, cluster)


def test_values_of_a_step_reach_the_site_s_template(tmp_path: Path) -> None:
    site = site_with(
        tmp_path,
        '{% extends "zwrap/slurm.sh.j2" %}\n{% block setup %}\n'
        "export IMAGE={{ template.image | default('none') }}\n{% endblock %}\n",
    )
    nasty = "a b$(touch x).sif"
    assert f"export IMAGE='{nasty}'\n" in rendered(site, template={"image": nasty})
    assert "export IMAGE=none\n" in rendered(site)


def test_a_template_without_a_line_for_a_key_loses_it_not_silently(tmp_path: Path) -> None:
    site = site_with(tmp_path, "#!/bin/bash\n#SBATCH --nodes=1\n{{ commands | shell }}\n")
    assert "run" in rendered(site, partition="as_before")
    for block in ({"gres": "gpu:1"}, {"requeue": False}, {"nice": 0}):
        [key] = block
        with pytest.raises(TemplateError, match=f"own.sh.j2 has no line for '{key}'"):
            rendered(site, **block)


# -- once more -------------------------------------------------------------------------------------


def test_another_attempt_with_other_keys_is_checked_as_the_first(tmp_path: Path) -> None:
    site = {
        "version": 1, "environments": {"default": ["c"]},
        "c": {"plugin": "clusters", "p": {"kind": "slurm", "allowed_options": ["switches"]}},
    }  # fmt: skip
    clusters = Clusters(Configuration.from_string(json.dumps(site)).activate())
    attempt = Attempt(token="t-1", recipe_id="r", step=1, cluster="p", job_name="n",
                      job_directory="/w/.zwrap/t-1")  # fmt: skip
    content = {
        "header": {"zwrap-id": "i", "original-destination": "/queue/q"},
        "message": step(gres="gpu:1").body(),
    }

    def again(**changes: str) -> Any:
        file = tmp_path / "submission.json"
        return _message(attempt, [attempt], changes, clusters, content, file, DEFAULTS)

    sent = again(gres="gpu:2", requeue="false", **{"options.switches": "1"}).message
    assert sent["recipe"]["1"]["parameters"]["cluster"] == {
        "commands": "run", "gres": "gpu:2", "requeue": "false", "options": {"switches": "1"},
    }  # fmt: skip
    for wrong in ({"gres": "a b"}, {"options.wrap": "x"}, {"memory_per_node": "much"}):
        with pytest.raises(RequestError, match="key 'cluster'"):
            again(**wrong)


@pytest.mark.parametrize(
    ("job_id", "changes", "expected"),
    [
        ("7", {}, "old"),
        ("7", {"scheduler": "prod"}, "prod"),
        (None, {"scheduler": "prod"}, "prod"),
    ],
)
def test_a_step_that_names_no_cluster_is_resubmitted_to_that_of_its_job(
    tmp_path: Path, job_id: str | None, changes: dict[str, str], expected: str
) -> None:
    site = {"version": 1, **TWO, "environments": {"default": ["batch"]}}
    clusters = Clusters(Configuration.from_string(json.dumps(site)).activate())
    attempt = Attempt(token="t-1", recipe_id="r", step=1, cluster="old", job_name="n",
                      job_id=job_id, job_directory="/w/.zwrap/t-1")  # fmt: skip
    header = {"zwrap-id": "i", "original-destination": "/queue/q"}
    content = {"header": header, "message": step().body()}

    def again(**changes: str) -> str:
        file = tmp_path / "submission.json"
        sent = _message(attempt, [attempt], changes, clusters, content, file, DEFAULTS)
        body: Any = sent.message
        name: str = body["recipe"]["1"]["parameters"]["cluster"]["scheduler"]
        return name

    assert again(**changes) == expected
    if job_id is None:
        with pytest.raises(RequestError, match="names no cluster"):
            again()


# -- what clusters make of a recipe ----------------------------------------------------------------

TWO = {
    "batch": {
        "plugin": "clusters",
        "prod": {"kind": "slurm", "defaults": {"partition": "p"}},
        "old": {"kind": "sge"},
    },
}

SLURM = {
    "plugin": "slurm", "url": "http://x", "user_token": "t", "user": "u", "api_version": "v0.0.38",
}  # fmt: skip


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def written(sections: dict[str, Any]) -> None:
        names = {"version": 1, "environments": {"default": list(sections)}}
        (tmp_path / "site.yml").write_text(json.dumps({**names, **sections}))
        monkeypatch.setenv("ZOCALO_CONFIG", str(tmp_path / "site.yml"))

    return written


def recipe(tmp_path: Path, *parameters: dict[str, Any]) -> str:
    nodes = {
        str(number): {"queue": "cluster.submission", "parameters": {"workingdir": "/w", **each}}
        for number, each in enumerate(parameters, 1)
    }
    starts = [[int(number), []] for number in nodes]
    (tmp_path / "r.json").write_text(json.dumps({"start": starts, **nodes}))
    return str(tmp_path / "r.json")


def test_a_recipe_is_good_only_if_its_jobs_can_be_submitted(
    site: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site({**TWO, "s": {"plugin": "storage", "scheduler": "prod"}})
    file = recipe(
        tmp_path,
        {"cluster": {"commands": "run {x}", "gres": "gpu:1", "time_limit": "{limit}"}},
        {"cluster": "old", "cluster_commands": "run",
         "cluster_submission_parameters": "-pe smp 16-20 -l mfree=4G"},
        {"cluster": "prod", "cluster_commands": "run", "workingdir": "{ispyb_directory}",
         "cluster_submission_parameters": "-pe smp 16-20 -l mfree=4G"},
        {"cluster": {"commands": "run", "partitoin": "x"}},
        {"cluster": {"commands": "run", "scheduler": "nowhere"}},
    )  # fmt: skip
    assert main(["recipe", "check", file]) == 100
    shown = capsys.readouterr()
    told = shown.out.splitlines()
    assert told[:4] == [
        (
            "  node 1 on cluster old: refused: Cluster 'old' is Grid Engine, which has resources "
            "of each site's own: name them under 'constraints' (gpu_type=a100): remove the key "
            "'gres'.; known later: time_limit"
        ),
        "  node 1 on cluster prod: --partition=p --gres=gpu:1; known later: time_limit",
        "  node 2 on cluster old: -S /bin/bash -notify -pe smp 16-20 -l h_vmem=4096M",
        (
            "  node 3 on cluster prod: --partition=p --cpus-per-task=16 --mem-per-cpu=4096M "
            "(the least of up to 20 slots)"
        ),
    ]
    assert told[4].startswith("  node 4 on cluster old: Unknown key 'partitoin'")
    assert told[5:] == ["1 checked."]
    assert "node 4, parameters, key 'cluster'" in shown.err
    assert "Unknown scheduler 'nowhere'" in shown.err
    assert "node 1" not in shown.err


def test_a_step_with_tasks_and_one_that_waits_for_it_are_good(
    site: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site({"c": {"plugin": "clusters", "prod": {"kind": "slurm"}}})
    file = recipe(
        tmp_path,
        {"cluster": {"commands": "run", "array": "0-99%10"}},
        {"cluster": {"commands": "run", "dependency": 1}},
        {"cluster": {"commands": "run", "dependency": "{node}"}},
    )
    assert main(["recipe", "check", file]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[3].endswith("known later: dependency")
    file = recipe(tmp_path, {"cluster": {"commands": "run", "dependency": 2}})
    assert main(["recipe", "check", file]) == 100


def test_a_check_of_the_site_looks_at_the_jobs_of_its_recipes(
    site: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    recipe(recipes, {"cluster": {"commands": "run", "mail": "-x", "scheduler": "prod"}})
    store = {"plugin": "storage", "zocalo.recipe_directory": str(recipes)}
    site({"store": store, **TWO})
    assert main(["check"]) == 100
    shown = capsys.readouterr()
    assert "node 1, parameters, key 'cluster', key 'mail' is '-x'; mail addresses" in shown.err
    assert "warning: steps that name no cluster are refused: of the clusters old, prod" in shown.out


def test_without_a_site_file_a_cluster_of_a_site_is_no_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ZOCALO_CONFIG", raising=False)
    file = recipe(tmp_path, {"cluster": {"commands": "run", "scheduler": "prod"}})
    assert main(["recipe", "check", file]) == 0
    assert "node 1 on cluster prod: Unknown scheduler 'prod'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("sections", "default"),
    [
        ({"c": {"plugin": "clusters", "prod": {"kind": "slurm"}}}, "prod"),
        ({**TWO, "s": {"plugin": "storage", "scheduler": "old"}}, "old"),
        ({**TWO, "s": {"plugin": "storage", "scheduler": "local"}}, "local"),
        ({**TWO, "slurm": SLURM}, "slurm"),
        (
            {"c": {"plugin": "clusters", "far": {"kind": "sge"}, "local": {"kind": "local"}}},
            "local",
        ),
        ({"slurm": SLURM, "iris": {**SLURM, "plugin": "iris"}}, "slurm"),
        ({"iris": {**SLURM, "plugin": "iris"}}, "iris"),
        ({}, "local"),
    ],
)
def test_the_cluster_for_steps_that_name_none_is_one_that_the_site_describes(
    site: Any, sections: dict[str, Any], default: str
) -> None:
    site(sections)
    renderer = Renderer(Configuration.from_file().activate())
    prepared, _ = renderer.prepare(step(), "t-1")
    assert prepared.request.cluster == default


def test_of_several_clusters_none_is_taken_by_chance(
    site: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A step that names no cluster is refused, with the choices; one that names one is not."""
    site(TWO)
    configuration = Configuration.from_file().activate()
    words = (
        "node 1, parameters, key 'cluster': The step names no cluster, and the site describes "
        "several: old, prod. Name one in the step (key 'scheduler'), or for all such steps in the "
        "site file (storage key 'scheduler'; as 'scheduler: local' they run on the host of the "
        "service)."
    )
    with pytest.raises(RequestError, match=f"^{re.escape(words)}$"):
        Renderer(configuration).prepare(step(), "t-1")
    prepared, _ = Renderer(configuration).prepare(step(scheduler="old"), "t-1")
    assert prepared.request.cluster == "old"

    file = recipe(tmp_path, {"cluster": {"commands": "run"}})
    assert main(["recipe", "check", file]) == 100
    shown = capsys.readouterr()
    assert shown.err.endswith(f": recipe {file}: {words}\n")
    assert "node 1 on cluster prod: --partition=p" in shown.out

    assert main(["check"]) == 0
    assert "clusters: old, prod; default: none\n" in capsys.readouterr().out


def test_a_check_names_no_cluster_where_none_is_chosen(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(*_: object) -> None:
        raise OutageError("The disk is away.")

    site(TWO)
    monkeypatch.setattr(Renderer, "prepare", away)
    main(["recipe", "check", recipe(tmp_path, {"cluster": {"commands": "run"}})])
    told = [line for line in capsys.readouterr().out.split("\n") if line.startswith("  node")]
    places = "  node 1", "  node 1 on cluster old", "  node 1 on cluster prod"
    assert told == [f"{place}: cannot be told now: The disk is away." for place in places]


@pytest.mark.parametrize(
    "parameters",
    [
        {"cluster": {"commands": "run", "scheduler": "{where}"}},
        {"cluster": "{where}", "cluster_commands": "run"},
    ],
)
@pytest.mark.parametrize("store", [{}, {"s": {"plugin": "storage", "scheduler": "old"}}])
def test_a_step_whose_cluster_is_known_later_may_go_to_each_of_the_site(
    site: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    parameters: dict[str, Any],
    store: dict[str, Any],
) -> None:
    site({**TWO, **store})
    assert main(["recipe", "check", recipe(tmp_path, parameters)]) == 0
    shown = capsys.readouterr()
    key = "cluster" if "cluster_commands" in parameters else "scheduler"
    assert shown.out.splitlines()[1:] == [
        f"  node 1 on cluster old: -S /bin/bash -notify; known later: {key}",
        f"  node 1 on cluster prod: --partition=p; known later: {key}",
        "1 checked.",
    ]
    assert shown.err == ""


def test_a_step_that_names_no_cluster_is_a_rejected_row_of_none(site: Any) -> None:
    site(TWO)
    whose = Recognized("t-1", "o", "d", None)
    row = refused_attempt(
        step(), Message({}, {}, "m-1"), whose, Clusters(Configuration.from_file().activate())
    )
    assert (row.token, row.cluster) == ("t-1", "")
