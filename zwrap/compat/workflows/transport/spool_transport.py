"""The transport for the spool, which python-workflows lacks."""

from __future__ import annotations

from typing import Any, ClassVar

from zwrap.compat.workflows.transport.site_transport import SiteTransport


class SpoolTransport(SiteTransport):
    """Transport for the spool, as the site file describes it (plugin ``spool``)."""

    name = "SpoolTransport"
    defaults: ClassVar[dict[str, Any]] = {}
    config: ClassVar[dict[str, Any]] = {}
