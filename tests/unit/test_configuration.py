"""Rules of the site configuration."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from zwrap.configuration import Configuration
from zwrap.errors import ConfigurationError, UnknownNameError

SITE = """
version: 1
one: {plugin: storage, a: 1, b: {c: 1}}
two: {plugin: storage, a: 2}
three: {plugin: storage, d: 3}
sp: {plugin: spool, path: spool, durable: false}
tr: {plugin: transport, default: SpoolTransport}
lazy: lazy.yml
odd: {plugin: a-plugin-you-dont-have}
environments:
  default: live
  live: work
  work: {zeta: one, plugins: [sp, one], alpha: [two, tr]}
  test: [one, three]
  files: [lazy]
  strange: [odd, one]
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    file = tmp_path / "site.yml"
    file.write_text(SITE)
    return file


def test_aliases_chain_and_groups_count_alphabetically_plugins_last(site: Path) -> None:
    configuration = Configuration.from_file(site).activate()
    assert configuration.active_environments == ["default"]
    assert configuration.storage["a"] == 1  # two (alpha), then one (zeta)
    assert configuration.transport == "SpoolTransport"


def test_storage_blocks_merge_and_environments_add_up(site: Path) -> None:
    configuration = Configuration.from_file(site).activate(["test", "work"])
    assert configuration.storage == {"a": 1, "b": {"c": 1}, "d": 3}


def test_an_inactive_plugin_is_none(site: Path) -> None:
    assert Configuration.from_file(site).activate(["test"]).spool is None


def test_two_configurations_share_nothing(site: Path) -> None:
    first = Configuration.from_file(site).activate()
    first.storage["b"]["c"] = "changed"
    assert Configuration.from_file(site).activate().storage["b"]["c"] == 1


def test_the_spool_is_relative_to_the_file(site: Path) -> None:
    configuration = Configuration.from_file(site).activate()
    assert configuration.spool.path == str(site.parent / "spool")
    assert configuration.spool.durable is False


def test_the_environment_variables_are_obeyed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOCALO_CONFIG", str(site))
    monkeypatch.setenv("ZOCALO_DEFAULT_ENV", "test")
    configuration = Configuration.from_file().activate()
    assert configuration.active_environments == ["test"]


def test_without_a_file_everything_is_default() -> None:
    configuration = Configuration.from_file().activate()
    assert configuration.is_embedded
    assert configuration.storage is None


def test_a_file_reference_is_read_when_it_is_needed(site: Path) -> None:
    configuration = Configuration.from_file(site)
    with pytest.raises(ConfigurationError, match=r"'lazy' refers to .*lazy\.yml, which cannot be"):
        configuration.activate(["files"])
    (site.parent / "lazy.yml").write_text("plugin: storage\nsecret: 1\n")
    assert Configuration.from_file(site).activate(["files"]).storage == {"secret": 1}
    (site.parent / "lazy.yml").write_text("- nothing\n")
    with pytest.raises(ConfigurationError, match=r"lazy\.yml must be a mapping"):
        Configuration.from_file(site).activate(["files"])


def test_an_uninstalled_plugin_is_a_warning(site: Path, caplog: pytest.LogCaptureFixture) -> None:
    configuration = Configuration.from_file(site).activate(["strange"])
    assert "plugin 'a-plugin-you-dont-have' is not installed" in caplog.text
    assert configuration.storage["a"] == 1


def test_checking_reads_every_section(site: Path) -> None:
    (site.parent / "lazy.yml").write_text("plugin: storage\n")
    lines = list(Configuration.from_file(site).check())
    assert "good: section lazy (plugin storage)" in lines
    assert "warning: section odd: plugin 'a-plugin-you-dont-have' is not installed" in lines
    assert len(lines) == 7


def test_logging_is_set_up_and_its_verbosity_only_rises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = Configuration.from_string(
        """
        version: 1
        log:
          plugin: logging
          loggers: {zwrap.test: {level: WARNING}}
          verbose:
            - loggers: {zwrap.test: {level: INFO}}
            - loggers: {zwrap.test: {level: DEBUG}}
        environments: {default: [log]}
        """
    ).activate()
    logger = logging.getLogger("zwrap.test")
    assert logger.level == logging.WARNING
    configuration.logging.verbosity = 9
    assert (logger.level, configuration.logging.verbosity) == (logging.DEBUG, 2)
    configuration.logging.verbosity = 0
    assert (logger.level, configuration.logging.verbosity) == (logging.DEBUG, 2)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "needs 'version: 1'"),
        ("[]", "needs 'version: 1'"),
        ("version: 2", "key 'version' is 2; the number 1 is expected"),
        ("version: '1'", "key 'version' is '1'; the number 1 is expected"),
        ("version: 1\nx: {y", "is not valid YAML"),
        ("version: 1\nx: {y: 1}", "section 'x' must be a mapping with a text under 'plugin'"),
        ("version: 1\nx: 7", "section 'x' must be a mapping"),
        ("version: 1\nenvironments: []", "key 'environments' must be a mapping"),
        ("version: 1\nenvironments: {a: 7}", "environment 'a' is 7; a list of sections"),
        ("version: 1\nenvironments: {a: [[b]]}", "names \\['b'\\], which is no section name"),
        ("version: 1\nenvironments: {a: b, b: a}", "is an alias of itself: a -> b -> a"),
        ("version: 1\ninclude: [x.yml]", "key 'include'"),
    ],
)
def test_each_fault_is_one_sentence(text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        Configuration.from_string(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{a: [storge]}", "Unknown section 'storge'.*Did you mean 'storage'"),
        ("{a: live}", "Unknown environment 'live'"),
    ],
)
def test_a_wrong_name_is_answered_with_the_known_ones(text: str, complaint: str) -> None:
    with pytest.raises(UnknownNameError, match=complaint):
        Configuration.from_string(f"version: 1\nstorage: {{plugin: storage}}\nenvironments: {text}")


def test_an_undefined_environment_is_answered_with_the_known_ones(site: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'work'"):
        Configuration.from_file(site).activate(["wrk"])


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ("{plugin: spool}", "section 'x': Object missing required field `path`"),
        ("{plugin: spool, path: 1}", "Expected `str`, got `int` - at `\\$.path`"),
        ("{plugin: spool, path: a, durabel: true}", "unknown field `durabel`"),
        ("{plugin: transport}", "section 'x', key 'default' must name a transport"),
        ("{plugin: logging, handlers: {h: {class: no.such}}}", "logging section of"),
    ],
)
def test_a_plugin_checks_its_keys(section: str, complaint: str) -> None:
    text = f"version: 1\nx: {section}\nenvironments: {{default: [x]}}"
    with pytest.raises(ConfigurationError, match=complaint):
        Configuration.from_string(text).activate()


def test_an_unreadable_file_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"/nowhere/site\.yml cannot be read"):
        Configuration.from_file("/nowhere/site.yml")
