"""Station "dispatcher": receives requests and sends the first messages of their recipes."""

from __future__ import annotations

import contextlib
import logging
import math
import re
import time
from collections.abc import Iterator, Mapping
from typing import ClassVar

from zwrap.attempt import sender
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError, PermanentError, short
from zwrap.host.files import write_atomically
from zwrap.host.modes import make_readable
from zwrap.message.content import RECIPE_HEADER, Outgoing
from zwrap.message.identity import recipe_id_of
from zwrap.message.jsontext import copied, pretty
from zwrap.message.limits import Limits
from zwrap.plugins import registry
from zwrap.recipe.changing import ChangingRecipe
from zwrap.recipe.destinations import is_closed, refusal
from zwrap.recipe.directory import named_recipe
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.recipe.remarks import repeated_remark, unfilled_remark
from zwrap.recipe.sizes import is_long
from zwrap.service import hooks
from zwrap.service.contract import Service
from zwrap.service.hooks import Hook, Parameters, Request
from zwrap.transport.contract import Delivery, Transport, Unit
from zwrap.transport.portions import portions

log = logging.getLogger(__name__)

READY_TIMEOUT_S = 120.0
"""Default of the time within which a request must become ready, in seconds."""

READY_DELAY_S = 2.0
"""Delay until a request that is not ready is tried again, in seconds."""


class Dispatcher(Service):
    """Service that starts the recipes of processing requests (queue `processing_recipe`)."""

    queue = "processing_recipe"
    plain_messages: ClassVar[bool] = True

    def __init__(self, configuration: Configuration, transport: Transport) -> None:
        super().__init__(configuration, transport)
        self._ready: list[Hook] = registry.foreign(registry.DISPATCHER_READY)
        self._filters: list[Hook] = registry.foreign(registry.DISPATCHER_FILTERS)
        settings = configuration.site.ispyb
        if settings and settings.look_up:
            from zwrap.service.ispyb.lookup.start import look_up  # SQLAlchemy, two seconds

            ours = look_up(configuration)
            self._ready.insert(0, ours.is_ready)
            self._filters.insert(0, ours.fill)
        self._told: set[str] = set()
        """Files of recipes whose keys that are there twice were told."""

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        """Start the recipes of one request, or put it back while it is not ready."""
        incoming: object = envelope.payload if envelope else delivery.message.body
        message, parameters = _request(incoming)
        if not parameters.get("guid"):
            parameters["guid"] = recipe_id_of(delivery.message.id)
        if not self._is_ready(message, parameters):
            self._put_back(delivery, envelope, message, parameters)
            return
        guid = parameters["guid"]
        recipe, parameters, parsed = self._recipe(message, parameters)
        guid = parameters.get("guid", guid)  # a filter may return others
        if recipe.unfilled:
            log.warning(
                "Recipe %s of request %s: %s", recipe.name, guid, unfilled_remark(recipe.unfilled),
                extra={"recipe_ID": guid},
            )  # fmt: skip
        received, names = delivery.message, message.get("recipes")
        asked_by = sender.described(received.id, received.headers, parameters, names)
        if not asked_by and envelope and sender.KEY in envelope.environment:
            asked_by = {sender.KEY: envelope.environment[sender.KEY]}  # of the recipe around it
        outgoing = Envelope(
            recipe,
            recipe.start[0][0],
            environment={"ID": guid, **asked_by},
            limits=self.limits,
        )
        with self.transport.unit(delivery) as unit:
            unit.send(*outgoing.start())
            self._write_logbook(delivery, str(guid), parsed, recipe)
            self._send_ahead(unit)
        log.info(  # a broker has not confirmed it yet
            "Starting recipe %s: %s",
            guid,
            recipe.name,
            extra={"recipe_ID": guid},
        )

    def _send_ahead(self, unit: Unit) -> None:
        """Send all but the last portion of a unit, so that few messages are held in memory.

        If the request is handled once more, they are sent again under the same ids.
        """
        *ahead, unit.outgoing = list(portions(unit.outgoing)) or [[]]
        for portion in ahead:
            self.transport.commit(portion)

    def _is_ready(self, message: Request, parameters: Parameters) -> bool:
        """Return True if all functions of the site call the request ready."""
        return all(hooks.called(hook, message, parameters) for hook in self._ready)

    def _put_back(
        self,
        delivery: Delivery,
        envelope: Envelope | None,
        message: Request,
        parameters: Parameters,
    ) -> None:
        """Send the request again, delayed by `READY_DELAY_S`, until it has waited too long.

        Then it goes to the queue in parameter `dispatcher_error_queue`; PermanentError without one.
        """
        timeout_s = _number(parameters, "dispatcher_timeout", READY_TIMEOUT_S)
        expires = _number(parameters, "dispatcher_expiration", time.time() + timeout_s)
        parameters["dispatcher_expiration"] = expires
        request = {**message, "parameters": parameters}
        headers = {
            key: value
            for key, value in delivery.message.headers.items()
            if key in (RECIPE_HEADER, sender.ID_HEADER, sender.SENT_HEADER)
            or key.startswith("zocalo.")
        }
        if sender.USER_HEADER in headers:
            headers.setdefault(sender.ID_HEADER, delivery.message.id)
        if envelope:  # a request inside a recipe keeps its recipe
            envelope.payload = request
        body = envelope.body() if envelope else request
        again = Outgoing(self.queue, body, headers, delay_s=READY_DELAY_S)
        if expires < time.time():
            queue = parameters.get("dispatcher_error_queue")
            if not queue:
                raise PermanentError(
                    f"The request did not become ready within {timeout_s:g} s "
                    "(parameter dispatcher_timeout)."
                )
            if not isinstance(queue, str) or is_long(queue, self.limits.name_bytes):
                raise MessageError(
                    f"Parameter 'dispatcher_error_queue' of the request is {short(queue)}; the "
                    f"name of a queue, of up to {self.limits.name_bytes} bytes, is expected."
                )
            if is_closed("queue", queue, self.limits.open_names):
                raise MessageError(
                    f"The request has not become ready, and its parameter 'dispatcher_error_queue'"
                    f" is of no use: {refusal('queue', queue)}."
                )
            again = Outgoing(queue, body, headers)
        with self.transport.unit(delivery) as unit:
            unit.send(again)

    def _recipe(
        self, message: Request, parameters: Parameters
    ) -> tuple[Recipe, Parameters, Request]:
        """Return the merged recipes of a request, filled in and validated, and what they are from.

        That is the parameters and the request as the filters of the site leave them.
        """
        if message.get("custom_recipe"):  # of the request, and not of a filter
            self.configuration.site.security.check_custom_recipe()
        quotes = self.configuration.site.quote_commands
        empty = ChangingRecipe(name="of a filter", quote_commands=quotes, limits=self.limits)
        message = {**_copy(message), "recipe": empty}
        for hook in self._filters:
            message, parameters = hooks.filtered(hook, message, parameters)
        recipe = hooks.recipe_of(message)
        for each in (*_custom_recipe(message, self.limits), *self._named_recipes(message)):
            recipe = recipe.merged(each, self.limits)
            recipe.check_sizes(self.limits)
        if not recipe:
            raise MessageError(
                "The request names no recipe: 'recipes' (names) or 'custom_recipe' is expected."
            )
        filled = recipe.apply_parameters(parameters, quote_commands=quotes, limits=self.limits)
        filled.validate(self.limits)
        return filled, parameters, message

    def _named_recipes(self, message: Request) -> Iterator[Recipe]:
        """Yield each recipe named under key `recipes`, from the recipe directory."""
        names = message.get("recipes") or []
        if not isinstance(names, (list, tuple)):
            raise MessageError(
                f"Key 'recipes' holds {short(names)}; a list of recipe names is expected."
            )
        if len(names) > self.limits.recipes:
            raise MessageError(
                f"The request names {len(names)} recipes; up to {self.limits.recipes} are taken "
                "(section limits, key 'recipes')."
            )
        for name in names:
            recipe = _recipe_file(name, self.configuration)
            if recipe.repeated and recipe.name not in self._told:
                self._told.add(recipe.name)  # the site's files, which are not many
                log.warning("%s", repeated_remark(recipe.name, recipe.repeated))
            yield recipe

    def _write_logbook(
        self, delivery: Delivery, guid: str, parsed: Request, recipe: Recipe
    ) -> None:
        """Write request and recipe to the logbook, if the site has one; a full disk is no error.

        `parsed`: the request as the filters of the site leave it.
        """
        location = self.configuration.site.logbook_directory
        if location is None:
            return
        name = re.sub(r"[^A-Za-z0-9_-]", "_", guid)
        file = location / time.strftime("%Y-%m") / name[:2] / (name[2:] or "_")
        sections = [
            ("Incoming message header", dict(delivery.message.headers)),
            ("Incoming message body", delivery.message.body),
            ("Parsed message body", {k: v for k, v in parsed.items() if k != "recipe"}),
            ("Recipe object", recipe.for_wire()),
        ]
        try:
            text = "\n\n".join(f"{title}:\n{_written(content)}" for title, content in sections)
            make_readable(file.parent)
            write_atomically(file, text + "\n", durable=False)
        except (OSError, ValueError) as error:
            log.warning("The logbook entry %s cannot be written: %s", file, error)


def _written(content: object) -> str:
    """Return a section of the logbook; what a filter has left need not be a JSON value."""
    for write in (pretty, repr):
        with contextlib.suppress(Exception):  # classes may be the site's
            return write(content)
    return "This section holds a value that cannot be written."


def _request(body: object) -> tuple[Request, Parameters]:
    """Return a copy of a request and of its parameters; MessageError for anything else."""
    if not isinstance(body, dict):
        kind = "null" if body is None else type(body).__name__
        raise MessageError(
            f"A processing request is an object with 'recipes' and 'parameters'; this is {kind}."
        )
    parameters = body.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise MessageError(
            f"Key 'parameters' of the request holds a {type(parameters).__name__}; "
            "an object is expected."
        )
    return _copy(body), _copy(parameters)


def _copy(value: Mapping[str, object]) -> dict[str, object]:
    """Return a deep copy of a JSON object."""
    return {key: copied(entry) for key, entry in value.items()}


def _number(parameters: Parameters, name: str, default: float) -> float:
    """Return a parameter as a number of seconds; MessageError if it is not one."""
    value = parameters.get(name, default)
    try:
        if isinstance(value, (int, float, str)) and math.isfinite(number := float(value)):
            return number
    except (ValueError, OverflowError):
        pass
    raise MessageError(
        f"Parameter {name!r} of the request is {short(value)}; a number of seconds is expected."
    ) from None


def _custom_recipe(message: Request, limits: Limits) -> list[Recipe]:
    """Return the recipe under key `custom_recipe`, if there is one."""
    custom = message.get("custom_recipe")
    if not custom:
        return []
    if not isinstance(custom, dict):
        raise MessageError(
            f"Key 'custom_recipe' holds a {type(custom).__name__}; a recipe is expected."
        )
    recipe = Recipe(custom, "custom_recipe")
    recipe.validate(limits)
    return [recipe]


def _recipe_file(name: object, configuration: Configuration) -> Recipe:
    """Return the recipe of that name in the recipe directory of the site."""
    directory = configuration.site.recipe_directory
    if directory is None:
        raise ConfigurationError(
            f"Recipe {short(name)} was asked for by name, and no directory of recipes is known: "
            "set 'zocalo.recipe_directory' in a storage section of the site configuration."
        )
    return named_recipe(name, directory, configuration.site.limits)
