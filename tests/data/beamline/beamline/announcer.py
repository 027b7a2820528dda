"""A service that uses the transport itself: queues of plain messages, and broadcasts."""

from __future__ import annotations

import json

from workflows.services.common_service import CommonService


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
