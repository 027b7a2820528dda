"""Services that judge images, gather those of a scan, and follow a detector that writes them."""

from __future__ import annotations

import workflows.recipe
from workflows.services.common_service import CommonService


class SpotCounter(CommonService):
    """Judges an image by its number of spots; rejects what is no image, and tries again once."""

    _service_name = "Spot counter"
    _logger_name = "beamline.services.spots"

    def initializing(self):
        self.log.debug("Spot counter starting")
        workflows.recipe.wrap_subscribe(
            self._transport,
            "beamline.spots",
            self.judge,
            acknowledgement=True,
            log_extender=self.extend_log,
        )

    def judge(self, rw, header, message):
        parameters = rw.recipe_step.get("parameters", {})
        if not isinstance(message, dict) or "spots" not in message:
            self.log.error("Message holds no number of spots")
            self._transport.nack(header, requeue=False)
            return
        if message["spots"] < 0:
            self.log.error("Image %s is not readable", message["image"])
            rw.transport.nack(header)
            return

        with self.extend_log("image", message["image"]):
            txn = rw.transport.transaction_begin(subscription_id=header["subscription"])
            if message.get("not_yet") and not header.get("redelivered"):
                self.log.info("Image is not complete yet")
                rw.transport.transaction_abort(txn)
                rw.transport.nack(header)
                return
            rw.transport.ack(header, transaction=txn)
            rw.set_default_channel("judged")
            good = message["spots"] >= int(parameters["threshold"])
            rw.send(
                {"image": message["image"], "good": good, "share": message["spots"] / 3},
                transaction=txn,
            )
            rw.send_to("good" if good else "poor", message, transaction=txn)
            rw.send_to("nobody-listens", message, transaction=txn)
            rw.transport.transaction_commit(txn)
            self.log.info("Image has %d spots", message["spots"])


class Gatherer(CommonService):
    """Gathers images; passes them on when a scan is complete, or none comes any more."""

    _service_name = "Gatherer"
    _logger_name = "beamline.services.gatherer"

    def initializing(self):
        self._held = []
        self._register_idle(1, self.pass_on)
        workflows.recipe.wrap_subscribe(
            self._transport,
            "beamline.gather",
            self.hold,
            acknowledgement=True,
            prefetch_count=20,
            log_extender=self.extend_log,
        )

    def hold(self, rw, header, message):
        self._held.append((rw, header, message))
        if len(self._held) >= rw.recipe_step["parameters"]["images"]:
            self.pass_on()

    def pass_on(self):
        if not self._held:
            return
        first, header, _ = self._held[0]
        txn = self._transport.transaction_begin(subscription_id=header["subscription"])
        for _, header, _ in self._held:
            self._transport.ack(header, transaction=txn)
        first.send([message for _, _, message in self._held], transaction=txn)
        self._transport.transaction_commit(txn)
        self._held = []


class Follower(CommonService):
    """Follows a detector image by image: sends itself a message until all have been seen."""

    _service_name = "Follower"
    _logger_name = "beamline.services.follower"

    def initializing(self):
        workflows.recipe.wrap_subscribe(
            self._transport,
            "beamline.follow",
            self.look,
            acknowledgement=True,
            exclusive=False,
            log_extender=self.extend_log,
        )

    def look(self, rw, header, message):
        seen = message.get("seen", 0) if isinstance(message, dict) else 0
        images = int(rw.recipe_step["parameters"]["images"])
        every = int(rw.recipe_step["parameters"].get("every", 1))

        txn = rw.transport.transaction_begin(subscription_id=header["subscription"])
        rw.transport.ack(header, transaction=txn)
        seen += 1
        if seen == 1:
            rw.send_to("first", {"image": seen}, transaction=txn)
        if seen % every == 0:
            rw.send_to("every", {"image": seen}, header={"image": str(seen)}, transaction=txn)
        if seen < images:
            rw.checkpoint({"seen": seen}, transaction=txn)
        else:
            rw.environment["images"] = seen
            rw.send_to("last", {"image": seen}, transaction=txn)
            rw.send_to("finally", {"images seen": seen, "success": True}, transaction=txn)
        rw.transport.transaction_commit(txn)
