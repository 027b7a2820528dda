"""Service Mailer: send mail that recipe steps or plain messages ask for."""

from __future__ import annotations

import email.message
import email.policy
import email.utils
import logging
import pprint
import re
import smtplib
from collections.abc import Mapping
from typing import ClassVar

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError, TemporaryError
from zwrap.recipe.envelope import Envelope
from zwrap.service.contract import Service
from zwrap.transport.contract import Delivery, Transport

log = logging.getLogger(__name__)

SMTP_TIMEOUT_S = 60.0
"""Time limit of each answer of the mail server, in seconds."""

RETRY_S = 60.0
"""Delay of a message whose mail cannot be sent now, in seconds."""


class Mailer(Service):
    """Service that sends mail (queue `mailnotification`) over the server of plugin `smtp`.

    Parameters: `recipients` (address, list, or groups and `select`, and `all`), `from`, `subject`,
    `content` with ``{payload}`` and ``{pprint_payload}``. The message is acknowledged when the mail
    server has accepted the mail. The Message-ID is derived from the message, so that receivers
    recognise a mail that is sent again after a crash.
    """

    queue = "mailnotification"
    plain_messages: ClassVar[bool] = True

    def __init__(self, configuration: Configuration, transport: Transport) -> None:
        super().__init__(configuration, transport)
        smtp = configuration.site.smtp
        if smtp is None:
            raise ConfigurationError(
                "The Mailer needs a mail server: a section with 'plugin: smtp', 'host' and 'port' "
                "in an active environment of the site configuration."
            )
        self._smtp = smtp

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        """Send one mail."""
        mail = self._mail(delivery, envelope)
        refused = self._send(mail)
        delivery.ack()
        log.info("Mail %r sent to %s", mail["Subject"], mail["To"])
        for address, answer in refused.items():
            log.error("The mail server refused recipient %s: %s", address, _answer(answer))

    def _mail(self, delivery: Delivery, envelope: Envelope | None) -> email.message.EmailMessage:
        """Return the mail; MessageError if it cannot be written."""
        parameters, content, payload = _request(delivery, envelope)
        mail = email.message.EmailMessage(policy=email.policy.SMTP)
        sender = parameters.get("from") or self._smtp.sender
        if not sender:
            raise MessageError("The mail has no sender: set 'from' in section smtp or parameters.")
        try:
            mail["From"] = str(sender)
            mail["To"] = ", ".join(recipients(parameters))
            mail["Subject"] = str(parameters.get("subject") or "mail notification via zocalo")
            mail["Message-ID"] = f"<{delivery.message.id}@zwrap>"
            mail["Date"] = email.utils.localtime()
        except (ValueError, IndexError) as error:  # a line break in a subject or an address
            raise MessageError(f"The head of the mail cannot be written: {error}.") from None
        mail.set_content(filled(content, payload))
        return mail

    def _send(self, mail: email.message.EmailMessage) -> dict[str, tuple[int, bytes]]:
        """Send the mail; return the refused recipients, if the server accepted others.

        Raises:
            MessageError: The server refuses the mail for good.
            TemporaryError: The server may accept the mail later.
        """
        host, port = self._smtp.host, self._smtp.port
        try:
            with smtplib.SMTP(host=host, port=port, timeout=SMTP_TIMEOUT_S) as server:
                return server.send_message(mail)
        except smtplib.SMTPRecipientsRefused as error:
            answers = {address: _answer(answer) for address, answer in error.recipients.items()}
            text = f"The mail server refused all recipients: {answers}."
            if all(400 <= code < 500 for code, _ in error.recipients.values()):
                raise TemporaryError(text, retry_after_s=RETRY_S) from None
            raise MessageError(text) from None
        except smtplib.SMTPNotSupportedError as error:
            raise MessageError(f"The mail server {host}:{port} cannot: {error}") from None
        except smtplib.SMTPResponseException as error:
            said = _answer((error.smtp_code, error.smtp_error))
            text = f"The mail server {host}:{port} said: {said}."
            if error.smtp_code >= 500:
                raise MessageError(text) from None
            raise TemporaryError(text, retry_after_s=RETRY_S) from None
        except (smtplib.SMTPException, OSError) as error:
            raise TemporaryError(
                f"The mail server {host}:{port} cannot be used: {error}", retry_after_s=RETRY_S
            ) from None


def _answer(answer: tuple[int, bytes | str]) -> str:
    """Return an answer of the mail server as text."""
    code, text = answer
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return f"{code} {shown}"


def _request(
    delivery: Delivery, envelope: Envelope | None
) -> tuple[Mapping[str, object], str, object]:
    """Return parameters, text and payload of a mail; MessageError if one is missing."""
    parameters: object
    content: object = None
    payload: object = envelope.payload if envelope else delivery.message.body
    if envelope:
        parameters = envelope.step.get("parameters")
    elif isinstance(payload, dict):
        parameters, content = payload.get("parameters"), payload.get("content")
    else:
        raise MessageError("A plain mail message is an object with 'parameters' and 'content'.")
    if not isinstance(parameters, dict) or not parameters:
        raise MessageError("The mail has no parameters; at least 'recipients' is expected.")
    content = parameters.get("content", content)
    if isinstance(content, list):
        content = "".join(map(str, content))
    if not isinstance(content, str) or not content:
        raise MessageError(
            "The mail has no text: 'content', a text or a list of texts, is expected."
        )
    return parameters, content, payload


def recipients(parameters: Mapping[str, object]) -> list[str]:
    """Return the addresses in parameter `recipients`; MessageError if there are none.

    The parameter is an address, a list, or a mapping of groups, of which the one under `select` and
    the group `all` are used.
    """
    given = parameters.get("recipients", parameters.get("recipient"))
    if isinstance(given, dict):
        if "select" not in given:
            known = ", ".join(sorted(map(str, given)))
            raise MessageError(f"'recipients' has the groups {known}; 'select' must name one.")
        addresses = sorted({*_listed(given.get(given["select"])), *_listed(given.get("all"))})
    else:
        addresses = _listed(given)
    if not addresses:
        raise MessageError("The mail has no recipients.")
    return addresses


def _listed(value: object) -> list[str]:
    """Return one value, or each of a list, as text."""
    if value in (None, ""):
        return []
    return [str(entry) for entry in (value if isinstance(value, (list, tuple)) else [value])]


def filled(content: str, payload: object) -> str:
    """Return a text with ``{payload}`` and ``{pprint_payload}`` filled in; other braces stay."""
    shown = "\n".join(map(str, payload)) if isinstance(payload, list) else pprint.pformat(payload)
    values = {"payload": str(payload), "pprint_payload": shown}
    return re.sub(r"\{(payload|pprint_payload)\}", lambda match: values[match[1]], content)
