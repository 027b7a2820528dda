"""Services that use transports themselves: plain messages, broadcasts, a second connection."""

from __future__ import annotations

import json

import workflows.transport
from workflows.services.common_service import CommonService
from workflows.transport.pika_transport import PikaTransport


class Announcer(CommonService):
    """Tells everybody what it is told, and writes down what it hears of the shutter."""

    _service_name = "Announcer"
    _logger_name = "beamline.services.announcer"

    def initializing(self):
        self._set_name(f"Announcer of {self.config.storage['beamline.name']}")
        self._transport.subscribe_broadcast("beamline.shutter", self.hear)
        self._transport.subscribe("beamline.announce", self.announce, acknowledgement=True)

    def hear(self, header, message):
        self.log.info("The shutter is %s", message["shutter"])
        self._transport.send("beamline.heard", {"heard": message["shutter"]})

    def announce(self, header, message):
        self._transport.broadcast(
            "beamline.notices", {"notice": message, "live": self._environment.get("live")}
        )
        self._transport.raw_send("beamline.announced", json.dumps({"text": message}))
        self._transport.send("beamline.announced", message, headers={"beamline": "i99"})
        self._transport.ack(header)


class Courier(CommonService):
    """Carries messages over connections of its own, as bridges between brokers do."""

    _service_name = "Courier"
    _logger_name = "beamline.services.courier"

    def initializing(self):
        self._out = [PikaTransport(), workflows.transport.lookup(None)()]
        for transport in self._out:
            transport.connect()
        self._transport.subscribe("beamline.courier", self.carry, acknowledgement=True)

    def carry(self, header, message):
        for transport in self._out:
            transport.send("beamline.carried", message, headers={"by": self.get_name()})
        self._transport.ack(header)

    def in_shutdown(self):
        for transport in self._out:
            transport.disconnect()
