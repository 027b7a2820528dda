"""Rules of clusters with names in the site file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zwrap.cli.zwrap import main
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, UnknownNameError
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
    assert (prod.template, prod.defaults) == (
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
