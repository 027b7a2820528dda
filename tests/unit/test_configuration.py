"""Rules of the site configuration."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, FaultsError, UnknownNameError
from zwrap.transport.connect import default_transport

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
    assert configuration.active_environments == ("default",)
    assert configuration.storage["a"] == 1  # two (alpha), then one (zeta)
    assert configuration.transport == "SpoolTransport"


def test_storage_blocks_merge_and_environments_add_up(site: Path) -> None:
    configuration = Configuration.from_file(site).activate(["test", "work"])
    assert configuration.storage == {"a": 1, "b": {"c": 1}, "d": 3}


def test_an_inactive_plugin_is_none(site: Path) -> None:
    assert Configuration.from_file(site).activate(["test"]).spool is None


def test_two_configurations_share_no_state(site: Path) -> None:
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
    assert configuration.active_environments == ("test",)


def test_without_a_file_everything_is_default() -> None:
    configuration = Configuration.from_file().activate()
    assert configuration.is_embedded
    assert configuration.storage is None


def test_a_file_reference_is_read_when_it_is_needed(site: Path) -> None:
    configuration = Configuration.from_file(site)
    with pytest.raises(
        ConfigurationError,
        match=r"site\.yml, line 8, key 'lazy' refers to a file: .*lazy\.yml cannot be read",
    ):
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
    assert any(
        "line 9, key 'odd': plugin 'a-plugin-you-dont-have' is not installed" in x for x in lines
    )
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
        ("", "'version: 1' is missing"),
        ("[]", "'version: 1' is missing"),
        ("version: 2", "key 'version' is 2; the number 1 is expected"),
        ("version: '1'", "key 'version' is '1'; the number 1 is expected"),
        (
            "version: 1\nx:\n\ty: 1",
            "line 3, is not valid YAML: .*a tab, say: YAML is indented with blanks only",
        ),
        ("version: 1\nx: %y", "line 2, is not .*a text that begins with '%' needs quotes"),
        (
            'version: 1\nx: "\\d"',
            r"line 2, is not .*a backslash in \"...\" begins an escape; put patterns in '...'",
        ),
        ("version: 1\nx: a: b", 'line 2, is not .*a text with ": " in it needs quotes'),
        ("version: 1\nx: *.csv", "line 2, is not .*a text that begins with .* needs quotes"),
        ("version: 1\nx: {a}/b", "is not .*behind a closing quote or brace"),
        ("version: 1\nx: 'a\ny: 1", "is not .*the quote in line 2 is not closed"),
        (
            "version: 1\nx: {y",
            "the configuration, line 3, is not valid YAML: did not find expected ',' or '}'",
        ),
        (
            "version: 1\nx:\n  a: 1\n  a: 2",
            "line 4: key 'x.a' is there twice; the first is in line 3",
        ),
        (
            "version: 1\nx: {plugn: storage}",
            "line 2, key 'x' must be.*Is 'plugn' a misspelt 'plugin'",
        ),
        ("version: 1\nx: {y: 1}", "line 2, key 'x' must be a mapping with a text under 'plugin'"),
        ("version: 1\nx: 7", "key 'x' must be a mapping"),
        ("version: 1\nenvironments: []", "key 'environments' must be a mapping"),
        (
            "version: 1\nenvironments: {a: 7}",
            "line 2, key 'environments.a' is 7; a list of sections",
        ),
        ("version: 1\nenvironments: {a: [[b]]}", "names \\['b'\\], which is not a section name"),
        ("version: 1\nenvironments: {a: b, b: a}", "is an alias of itself: a -> b -> a"),
        ("version: 1\ninclude: [x.yml]", "line 2, key 'include': the file .*x.yml cannot be read"),
        ("version: 1\ninclude: 7", "key 'include' must be a list of files"),
        ("version: 1\ninclude: [7]", "key 'include' names 7; a list of files"),
        ("version: 1\nenvironments: {a: {g: 7}}", "group 'g' is 7; a section or a list"),
        ("version: 1\nenvironments: {a: [include]}", "names 'include', which is not a section but"),
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
        ("{plugin: spool}", "line 2, key 'x' has no key 'path', which plugin 'spool' needs"),
        (
            "{plugin: spool, path: 1}",
            "key 'x.path': a text is expected, not a whole number; put it",
        ),
        ("{plugin: spool, path: a, durabel: true}", "key 'x.durabel': no such key is known. Known"),
        ("{plugin: transport}", "key 'x' has no key 'default', which plugin 'transport' needs"),
        ("{plugin: logging, handlers: {h: {class: no.such}}}", "line 2, key 'x' cannot be used"),
        ("{plugin: logging, verbose: 1}", "key 'x.verbose' must be a list"),
        ("{plugin: logging, verbose: [1]}", "key 'x.verbose.0' must be a mapping"),
        (
            "{plugin: logging, verbose: [{root: {handlers: [a]}}]}",
            "key 'x.verbose.0.root.handlers' cannot be changed by an incremental",
        ),
        ("{plugin: logging, incremental: true, filters: {}}", "key 'x.filters' cannot be changed"),
        ("{plugin: smtp, host: h}", "has no key 'port', which plugin 'smtp' needs"),
        ("{plugin: smtp, host: h, port: 25, from: me}", "key 'x.from' is 'me'; an e-mail address"),
        ("{plugin: smtp, host: h, port: '25'}", "key 'x.port': a whole number is expected, not a"),
        ("{plugin: graylog, protocol: TLS, host: h, port: 1}", "is 'TLS'; UDP or TCP is expected"),
        (
            "{plugin: stomp, host: h, port: 1, username: u, password: true, prefix: p}",
            "line 2, key 'x.password': a text is expected, not true or false; put it in quotes",
        ),
        ("{plugin: pika, host: h, port: 1}", "has no key 'username', which plugin 'pika' needs"),
        (
            "{plugin: pika, host: h, port: 1, username: u, password: p, vhost: /, tls: 7}",
            "key 'x.tls': true or false or a text is expected, not a whole number",
        ),
        (
            "{plugin: pika, host: h, port: [1], username: u, password: p, vhost: /}",
            "key 'x.port': a port number, or a text with several of them is expected, not a list",
        ),
        ("{plugin: slurm, url: u}", "has no key 'api_version', which plugin 'slurm' needs"),
        ("{plugin: iris, url: u, api_version: 0.44}", "key 'x.api_version': a text is expected"),
        ("{plugin: rabbitmqapi, base_url: u}", "has no key 'username'"),
        ("{plugin: jmx, host: u}", "has no key 'port'"),
    ],
)
def test_a_plugin_checks_its_keys(section: str, complaint: str) -> None:
    text = f"version: 1\nx: {section}\nenvironments: {{default: [x]}}"
    plugin = re.findall(r"plugin: (\w+)", section)[0]
    if plugin in ("logging", "graylog"):  # these do something when they are activated
        with pytest.raises(ConfigurationError, match=complaint):
            Configuration.from_string(text).activate()
        return
    with pytest.raises(ConfigurationError, match=complaint):
        list(Configuration.from_string(text).check())
    configuration = Configuration.from_string(text).activate()
    for _ in range(2):  # a section that is wrong is wrong each time
        with pytest.raises(ConfigurationError, match=complaint):
            getattr(configuration, plugin)
        with pytest.raises(ConfigurationError, match=complaint):
            getattr(configuration.site, "default_transport" if plugin == "transport" else plugin)
    if plugin != "smtp":
        assert configuration.site.smtp is None, "nothing else is harmed"


TYPED = """
version: 1
first: {plugin: storage, zocalo.recipe_directory: recipes, zwrap.program_directory: /programs,
        zocalo.go.fallback_location: first, scheduler: iris}
second: {plugin: storage, zocalo.go.fallback_location: ~/drop, zwrap.quote_commands: true,
         zocalo.default_transport: StompTransport, zwrap.template_directory: 7}
mail: {plugin: smtp, host: h, port: 25, from: me@here}
pika: {plugin: pika, host: h, port: '1,2', username: u, password: p, vhost: /, tls: true}
api: {plugin: rabbitmqapi, base_url: u, username: u, password: p}
work: {plugin: workers, modules: [a], errors: errors}
eat: {plugin: consumers, consumers: [{}], prefetch: 3}
sp: {plugin: spool, path: spool}
tr: {plugin: transport, default: PikaTransport}
environments:
  default: [first, second, mail, pika, api, work, eat, sp]
  more: [tr]
"""


def test_zwrap_asks_for_typed_sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    file = tmp_path / "site.yml"
    file.write_text(TYPED)
    configuration = Configuration.from_file(file).activate()
    site = configuration.site
    assert (site.recipe_directory, site.program_directory, site.drop_directory) == (
        tmp_path / "recipes", Path("/programs"), Path("/home/me/drop"),
    )  # fmt: skip
    assert (site.dead_letter_directory, site.logbook_directory) == (None, None)
    assert (site.quote_commands, site.scheduler) == (True, "iris")
    assert site.default_transport == "StompTransport"
    assert site.smtp
    assert (site.smtp.host, site.smtp.port, site.smtp.sender) == ("h", 25, "me@here")
    assert site.pika
    assert (site.pika.port, site.pika.tls, site.pika.ca_file) == ("1,2", True, None)
    assert site.rabbitmqapi
    assert site.rabbitmqapi.vhost == "/"
    assert site.workers
    assert (site.workers.modules, site.workers.errors) == (["a"], str(tmp_path / "errors"))
    assert site.consumers == {"consumers": [{}], "prefetch": 3}
    assert site.spool
    assert site.spool.path == str(tmp_path / "spool")
    assert (site.stomp, site.jmx, site.ledger, site.slurm, site.clusters) == (None,) * 4 + ({},)
    place = r"site\.yml, line 6, key 'second\.zwrap\.template_directory' is 7; a text is expected"
    with pytest.raises(ConfigurationError, match=place):
        site.template_directory  # noqa: B018
    configuration.activate(["more"])
    assert configuration.site.default_transport == "PikaTransport", "plugin goes before storage"


def test_what_zc_gives_is_what_the_plugins_of_python_zocalo_give(tmp_path: Path) -> None:
    file = tmp_path / "site.yml"
    file.write_text(TYPED)
    zc = Configuration.from_file(file).activate()
    assert zc.pika == {
        "plugin": "pika", "host": "h", "port": "1,2", "username": "u", "password": "p",
        "vhost": "/", "tls": True,
    }  # fmt: skip
    assert (zc.rabbitmqapi["vhost"], zc.smtp["from"]) == ("/", "me@here")
    assert zc.storage["zwrap.template_directory"] == 7
    assert zc.workers == {"modules": ["a"], "errors": str(tmp_path / "errors")}
    assert zc.consumers == {"consumers": [{}], "prefetch": 3}
    assert (zc.transport, zc.activate(["more"]).transport) == (None, "PikaTransport")
    zc.pika["host"] = "changed"
    assert zc.site.pika
    assert zc.site.pika.host == "h"


def test_settings_of_a_connection_are_no_surprise_to_the_check() -> None:
    lines = list(Configuration.from_string(TYPED).check())
    warnings = [line for line in lines if line.startswith("warning")]
    assert len(warnings) == 1
    assert "key 'eat.prefetch' means nothing to plugin 'consumers'" in warnings[0]


def test_without_a_site_file_no_yaml_is_loaded() -> None:
    code = """
import sys
from zwrap.attempt.record import Attempt
from zwrap.configuration.site import Configuration
from zwrap.transport.connect import default_transport
configuration = Configuration.from_file().activate()
site = configuration.site
assert (default_transport(configuration), site.spool, site.program_directory) == (
    "SpoolTransport", None, None)
assert configuration.storage is None and site.clusters == {} and configuration.for_jobs()
print("yaml" in sys.modules)
"""
    environment = {key: value for key, value in os.environ.items() if key != "ZOCALO_CONFIG"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_an_unreadable_file_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"/nowhere/site\.yml cannot be read"):
        Configuration.from_file("/nowhere/site.yml")


# -- included files --------------------------------------------------------------------------


def files(directory: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (directory / f"{name}.yml").write_text("version: 1\n" + text)
    return directory / "main.yml"


def test_included_files_win_and_lists_of_plugins_are_joined(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    main = files(
        tmp_path,
        main="a: {plugin: storage, v: main}\nb: {plugin: storage, w: main}\n"
        "tr: {plugin: transport, default: Main}\n"
        "environments: {default: {transport: tr, plugins: [a]}, only: [b]}\n"
        "include: [more/one.yml, two.yml]\n",
        two="a: {plugin: storage, v: two, x: 2}\n",
    )
    files(
        tmp_path / "more",
        one="a: {plugin: storage, v: one}\nc: {plugin: storage, y: 3}\n"
        "other: {plugin: transport, default: One}\n"
        "environments: {default: {transport: other, plugins: [c]}, alias: only}\n"
        "include: [deep.yml]\n",
        deep="c: {plugin: storage, y: deep}\n",
    )
    configuration = Configuration.from_file(main)
    assert configuration.environment_members["default"] == ["other", "a", "c"]
    assert configuration.environment_members["alias"] == ["b"]
    configuration.activate()
    assert configuration.transport == "One"
    assert configuration.storage == {"v": "two", "x": 2, "y": "deep"}


def test_files_that_include_each_other_are_refused(tmp_path: Path) -> None:
    main = files(tmp_path, main="include: [one.yml]", one="include: [main.yml]")
    with pytest.raises(ConfigurationError, match=r"line 2, key 'include' goes in a circle: .*main"):
        Configuration.from_file(main)


def test_a_fault_of_an_included_file_names_that_file(tmp_path: Path) -> None:
    main = files(tmp_path, main="include: [one.yml]", one="x: {plugin: spool, path: 1}\n")
    with pytest.raises(ConfigurationError, match=r"one\.yml, line 2, key 'x\.path': a text"):
        list(Configuration.from_file(main).check())


def test_a_referred_file_is_checked_like_a_section(tmp_path: Path) -> None:
    main = files(tmp_path, main="x: secrets.yml\nenvironments: {default: [x]}\n")
    (tmp_path / "secrets.yml").write_text("plugin: stomp\nhost: h\nport: 1\nusername: u\n"
                                          "password: [4711]\nprefix: p\n")  # fmt: skip
    configuration = Configuration.from_file(main).activate()
    with pytest.raises(ConfigurationError) as caught:
        configuration.site.stomp  # noqa: B018
    assert "secrets.yml, line 5, key 'password': a text is expected" in str(caught.value)
    assert "4711" not in str(caught.value)


# -- the real files --------------------------------------------------------------------------


def test_the_site_file_of_python_zocalo_loads_or_says_what_is_wrong(
    elsewhere: Path, tmp_path: Path
) -> None:
    original = (elsewhere / "siteconfig/site-configuration.yml").read_text()
    file = tmp_path / "site-configuration.yml"
    file.write_text(original)
    missing = r"line 104, key 'include': the file /local/site/common_configuration.yml cannot be"
    with pytest.raises(ConfigurationError, match=missing):
        Configuration.from_file(file)

    file.write_text(original.replace("include:\n  - /local/site/common_configuration.yml", ""))
    configuration = Configuration.from_file(file)
    assert configuration.environment_members == {
        "live": ["stomp-live", "graylog-live"], "test": ["stomp-test"],
        "default": ["stomp-live", "graylog-live"],
    }  # fmt: skip
    absent = r"key 'stomp-live' refers to a file: /path/secrets.yml cannot be read: No such file"
    with pytest.raises(ConfigurationError, match=absent):
        configuration.activate()

    configuration = Configuration.from_file(file).activate(["test"])
    assert configuration.stomp["password"] == "12345"
    assert configuration.site.stomp
    assert configuration.site.stomp.password == "12345"
    assert default_transport(configuration) == "StompTransport"


def test_a_file_that_is_no_site_file_is_said_to_be_none(elsewhere: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"rabbitmq-configuration\.yaml is not a site"):
        Configuration.from_file(elsewhere / "siteconfig/rabbitmq-configuration.yaml")


@pytest.mark.parametrize("number", ["12345", "0815", "1.50", "1e5", "1_000", "12:30"])
def test_a_password_that_looks_like_a_number_is_the_text_that_is_written(number: str) -> None:
    text = f"version: 1\nmq: {{plugin: pika, host: h, port: 1, username: {number}, vhost: /,\n"
    text += f"     password: {number}}}\nenvironments: {{default: [mq]}}"
    found = Configuration.from_string(text).activate().site.pika
    assert found
    assert (found.username, found.password, found.port) == (number, number, 1)


def test_all_faults_of_a_file_are_told_at_once() -> None:
    text = """
version: 1
a: {plugn: storage}
b: {plugin: storage}
environments: {default: [b, c], other: [[b]], third: nowhere, fourth: [include]}
"""
    with pytest.raises(FaultsError) as caught:
        Configuration.from_string(text)
    told = [str(fault) for fault in caught.value.faults]
    assert len(told) == 5
    for part in ("key 'a' must be", "section 'c'", "names ['b']", "'nowhere'", "names 'include'"):
        assert sum(part in each for each in told) == 1, part


def test_all_faults_of_a_section_are_told_at_once() -> None:
    text = "version: 1\nmq: {plugin: pika, host: [h], port: 1, password: p, vhost: 7}"
    with pytest.raises(FaultsError) as caught:
        list(Configuration.from_string(text).check())
    told = [str(fault) for fault in caught.value.faults]
    assert [each.partition(", ")[2] for each in told] == [
        "line 2, key 'mq.host': a text is expected, not a list.",
        told[1].partition(", ")[2],
        "line 2, key 'mq.vhost': a text is expected, not a whole number; put it in quotes.",
    ]
    assert "has no key 'username', which plugin 'pika' needs" in told[1]


# -- as printed in the manual, and by others --------------------------------------------------


def test_programmatic_use_as_printed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zwrap.configuration

    zc = zwrap.configuration.from_file(site)
    assert "live" in zc.environments
    zc.activate_environment("live")
    assert zc.active_environments == ("live",)
    assert zc.storage["a"] == 1
    assert zc.smtp is None
    monkeypatch.setenv("ZOCALO_CONFIG", str(site))
    assert zwrap.configuration.from_file().environments == zc.environments
    assert zwrap.configuration.from_string("version: 1\n\n").environments == frozenset()
    assert "5 environments, 7 plugin configurations, active: live" not in repr(zc)
    assert repr(zc).endswith("7 plugin configurations, active: live>")


class Schema:
    """A schema that a plugin of others brings along: marshmallow's interface."""

    def __init__(self, **options: str) -> None:
        assert options == {"unknown": "exclude"}

    def validate(self, values: dict[str, object]) -> dict[str, list[str]]:
        return {} if "host" in values else {"host": ["Missing data for required field."]}


class Other:
    Schema = Schema

    @staticmethod
    def activate(configuration: dict[str, object], config_object: Configuration) -> object:
        return (configuration["host"], config_object.storage)


def test_plugins_of_others_are_found_checked_and_called(monkeypatch: pytest.MonkeyPatch) -> None:
    from zwrap.plugins import registry

    found = registry.find
    monkeypatch.setattr(
        registry, "find", lambda group, name: Other if name == "other" else found(group, name)
    )
    text = "version: 1\ns: {plugin: storage, k: 1}\no: {plugin: other, host: h}\n"
    zc = Configuration.from_string(text + "environments: {default: [s, o]}").activate()
    assert zc.other == ("h", {"k": 1})
    text = "version: 1\no: {plugin: other}\nenvironments: {default: [o]}"
    with pytest.raises(
        ConfigurationError, match=r"line 2, key 'o\.host': Missing data for required"
    ):
        Configuration.from_string(text).activate()


# -- zwrap config show -------------------------------------------------------------------------


def test_the_merged_configuration_is_shown_with_origins_and_without_secrets(
    tmp_path: Path,
) -> None:
    from zwrap.configuration import display

    main = files(
        tmp_path,
        main="mq:\n  plugin: pika\n  host: h\n  port: 5672\n  username: u\n  password: s3cret\n"
        "  vhost: /\nst: {plugin: storage, a: 1, url: 'amqp://me:s3cret@h/'}\n"
        "far: secrets.yml\nlost: gone.yml\n"
        "sl: {plugin: slurm, url: u, api_version: v, user_token: /run/token}\n"
        "nested: {plugin: storage, x: {api_key: s3cret, l: [{token: s3cret}]}}\n"
        "environments: {default: [st, nested]}\ninclude: [one.yml]\n",
        one="st:\n  plugin: storage\n  a: 2\n",
    )
    (tmp_path / "secrets.yml").write_text("plugin: smtp\nhost: h\nport: 25\npassword: s3cret\n")
    text = "\n".join(display.lines(Configuration.from_file(main).activate()))
    assert "s3cret" not in text
    assert "  password: (hidden)" in text
    assert "  user_token: /run/token" in text
    line = next(line for line in text.splitlines() if line.startswith("  a: 2"))
    assert line.endswith(f"# {tmp_path}/one.yml:4")
    assert f"# {tmp_path}/secrets.yml:3" in text
    assert re.search(rf"  default: \[st, nested\] +# {tmp_path}/main.yml:\d+, active\n", text)
    assert "gone.yml cannot be read" in text
    assert "# storage, as default merges it:" in text
