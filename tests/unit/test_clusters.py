"""Rules of clusters with names in the site file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zwrap.cli.zwrap import main
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, UnknownNameError
from zwrap.job import Cause
from zwrap.submission.clusters import Clusters

SITE = """\
version: 1
environments:
  default: [first, second]
first:
  plugin: clusters
  prod:
    kind: slurm
    environment: {SLURM_CONF: /etc/slurm/prod.conf}
    programs: /opt/slurm/bin
    template: prod.sh.j2
    defaults: {partition: cs04r, exclusive: true}
  old: {kind: local}
second:
  plugin: clusters
  old:
    kind: sge
    environment: {SGE_ROOT: /opt/sge}
    memory: mem_free
    timeout_s: 5
"""


def clusters(text: str = SITE) -> Clusters:
    return Clusters(Configuration.from_string(text).activate())


def test_each_cluster_has_its_own_settings() -> None:
    site = clusters()
    prod = site.get("prod")
    assert (prod.template, prod.settings.defaults) == (
        "prod.sh.j2", {"partition": "cs04r", "exclusive": True},
    )  # fmt: skip
    call: Any = prod.scheduler.states().call
    assert call.environment["SLURM_CONF"] == "/etc/slurm/prod.conf"
    assert call.environment["PATH"].startswith("/opt/slurm/bin:")
    old = site.get("old")
    assert (old.template, old.scheduler.options.memory) == ("sge.sh.j2", "mem_free")
    asked: Any = old.scheduler.states().call
    assert (asked.environment["SGE_ROOT"], asked.timeout_s) == ("/opt/sge", 5)
    assert site.described() == ["old", "prod"]


def test_what_is_not_described_is_what_the_environment_shows() -> None:
    site = clusters("version: 1")
    assert site.default == "local"
    assert site.described() == ["local"]
    assert site.get("slurm").template == "slurm.sh.j2"
    with pytest.raises(UnknownNameError, match=r"Unknown scheduler 'slrm'.*mean 'slurm'"):
        site.get("slrm")
    with pytest.raises(ConfigurationError, match=r"'slurmrest' is not described: .*field `url`"):
        site.get("slurmrest")


@pytest.mark.parametrize(
    ("described", "complaint"),
    [
        ("slurm", "line 4, key 'c.x': a cluster is a mapping with a text under 'kind'"),
        ({"kind": "slrm"}, "Unknown kind of cluster 'slrm'.*line 4.*Did you mean 'slurm'"),
        ({"kind": "slurm", "template": 3}, "key 'c.x': Expected `str"),
        (
            {"kind": "slurm", "conf": "/x"},
            r"unknown field `conf`. Keys of a cluster of kind 'slurm",
        ),
        ({"kind": "sge", "timeout_s": 0}, "Expected `float` > 0.0 - at `\\$.timeout_s`"),
        ({"kind": "sge", "environment": {"A": 1}}, "Expected `str`, got `int`"),
    ],
)
def test_a_cluster_that_is_described_wrongly(described: Any, complaint: str) -> None:
    section = f"{{plugin: clusters,\n  x: {json.dumps(described)}}}"
    text = f"version: 1\nenvironments: {{default: [c]}}\nc: {section}\n"
    with pytest.raises((ConfigurationError, UnknownNameError), match=complaint) as caught:
        clusters(text).get("x")
    assert "\n" not in str(caught.value)


def test_a_cluster_that_is_not_used_may_have_options_that_nobody_understands() -> None:
    site = clusters(SITE.replace("memory: mem_free", "memry: mem_free"))
    assert site.get("prod").settings.kind == "slurm"
    with pytest.raises(ConfigurationError, match=r"unknown field `memry`. Keys of a cluster of"):
        site.get("old")


@pytest.mark.parametrize("given", ["false", "null"])
def test_a_cluster_may_say_that_no_job_is_tried_again(given: str) -> None:
    site = clusters(SITE.replace("    timeout_s: 5", f"    retry: {given}"))
    assert site.get("old").settings.retry is None


def test_the_keys_of_a_cluster_are_told_apart_from_those_of_its_kind() -> None:
    text = SITE.replace(
        "    timeout_s: 5",
        "    timeout_s: 5\n    watch_s: 7\n    give_up_s: 8\n    stalled_s: 9\n    lost_s: 10\n"
        "    max_jobs: 11\n    shared_filesystem: false\n"
        "    retry: {on: [timeout], ceiling: {time_limit: '1-12'}}",
    )
    settings = clusters(text).get("old").settings
    assert (settings.watch_s, settings.give_up_s, settings.stalled_s) == (7, 8, 9)
    assert (settings.lost_s, settings.max_jobs, settings.shared_filesystem) == (10, 11, False)
    assert settings.retry
    assert (settings.retry.on, settings.retry.ceiling.time_limit) == ([Cause.TIMEOUT], 36 * 3600)
    assert set(settings.options) == {"environment", "memory", "timeout_s"}
    known = ", ".join(sorted(("kind", "template", "defaults", "max_jobs", "watch_s", "retry")))
    with pytest.raises(ConfigurationError) as caught:
        clusters(SITE.replace("programs: /opt", "programms: /opt")).get("prod")
    for key in known.split(", "):
        assert key in str(caught.value)


def test_a_slurmrestd_of_python_zocalo_is_a_cluster_of_its_name() -> None:
    text = (
        "version: 1\nenvironments: {default: [i]}\n"
        "i: {plugin: iris, url: 'http://h', api_version: v0.0.40, user_token: /run/token}\n"
    )
    iris = clusters(text).get("iris")
    assert (iris.settings.kind, iris.scheduler.options.url) == ("slurmrest", "http://h")
    assert clusters(text).described() == ["iris"]


def test_check_reads_every_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOCALO_CONFIG", str(tmp_path / "site.yml"))
    file = tmp_path / "site.yml"
    file.write_text(SITE.replace("memory: mem_free", "memry: mem_free"))
    assert main(["check"]) == 100
    told = capsys.readouterr().err
    assert "Unknown template 'prod.sh.j2'" in told
    assert "unknown field `memry`" in told
    sound = SITE.replace("template: prod.sh.j2", "template: slurm.sh.j2")
    file.write_text(sound.replace("partition: cs04r", "partitio: cs04r"))
    assert main(["check"]) == 100
    told = capsys.readouterr().err
    assert "Unknown key 'partitio' (cluster 'prod', key 'defaults'). Did you mean" in told
    file.write_text(sound)
    assert main(["check"]) == 0
    assert "good: cluster prod\n" in capsys.readouterr().out
