"""Settings that all brokers share: addresses, TLS, and INI files of python-workflows."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from zwrap.errors import ConfigurationError, TransportError, ZwrapError
from zwrap.host.given import read_text_given


def addresses(what: str, host: object, port: object) -> tuple[tuple[str, int], ...]:
    """Return the pairs of hosts and ports.

    Each of the two may be a list, separated by commas; one port may stand for all hosts. Raises
    ConfigurationError, whose text begins with `what`, if they do not match.
    """
    hosts, ports = _listed(host), _listed(port)
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        raise ConfigurationError(
            f"{what} has {len(hosts)} hosts and {len(ports)} ports; one port, or one for each "
            "host, is expected."
        )
    for each in ports:
        if not each.isdecimal() or not 0 < int(each) < 65536:
            raise ConfigurationError(
                f"{what}'s port is {each!r}; a number up to 65535 is expected."
            )
    return tuple((name, int(number)) for name, number in zip(hosts, ports, strict=True))


def _listed(value: object) -> list[str]:
    """Return the entries of a list that commas separate."""
    return [entry.strip() for entry in str(value).split(",") if entry.strip()]


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a TLS context that trusts the authority in `ca_file`, else those of this host.

    Raises ConfigurationError if the file is not usable.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(
            f"ca_file {ca_file} is not usable: {error.strerror or error}. Certificates in PEM "
            "form are expected."
        ) from None


def untrusted(where: str, error: ssl.SSLError) -> ZwrapError:
    """Return the error of zwrap for an error of TLS.

    The result is a ConfigurationError if the server's certificate is not trusted, else a
    TransportError.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConfigurationError(
            f"{where} shows a certificate that is not trusted: {error.verify_message}. Key "
            "'ca_file' names the certificate of its signer."
        )
    return TransportError(
        f"{where} does not speak TLS as expected ({error.reason or error}); is the port right?"
    )


def from_file(path: Path, sections: Sequence[str]) -> dict[str, str]:
    """Return the settings in the first of `sections` that an INI file has.

    Raises ConfigurationError if the file is not usable or has no such section.
    """
    import configparser  # few sites have such a file

    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_text_given(path), str(path))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from None
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} is not a valid INI file: {' '.join(str(error).split())}."
        ) from None
    for section in sections:
        if parser.has_section(section):
            return dict(parser[section])
    raise ConfigurationError(f"{path} has no section [{sections[0]}].")
