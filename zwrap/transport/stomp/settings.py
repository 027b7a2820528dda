"""Address and credentials of ActiveMQ, from plugin `stomp` and the command line."""

from __future__ import annotations

from pathlib import Path

import msgspec

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError
from zwrap.transport.options import BrokerOptions
from zwrap.transport.settings import addresses, from_file

PORT = 61613


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses and credentials of one ActiveMQ."""

    addresses: tuple[tuple[str, int], ...] = (("localhost", PORT),)
    username: str = ""
    password: str = ""
    prefix: str = ""
    """Beginning of the names of queues and topics on the server, without its dot."""
    heartbeat_s: float = 10.0
    """Interval of heart-beats, in seconds."""
    tls: bool = False
    ca_file: str | None = None


def server_from(configuration: Configuration, options: BrokerOptions | None = None) -> Server:
    """Return the configured server; options of the command line take precedence over `stomp`."""
    given = configuration.site.stomp
    values: dict[str, object] = msgspec.structs.asdict(given) if given else {}
    values = {key: value for key, value in values.items() if value is not None}
    options = options or BrokerOptions()
    if options.conf:
        values.update(from_file(Path(options.conf), ("stomp",)))
    values.update(options.values())
    found = addresses("ActiveMQ", values.pop("host", "localhost"), values.pop("port", None) or PORT)
    try:
        chosen = {key: values[key] for key in Server.__struct_fields__ if key in values}
        return msgspec.convert({**chosen, "addresses": found}, Server, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"The settings of ActiveMQ are not usable: {error}.") from None
