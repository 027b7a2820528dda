"""Service Mailer: send mail that recipe steps or plain messages ask for."""

from __future__ import annotations

import email.message
import email.policy
import email.utils
import errno
import logging
import pprint
import smtplib
from collections.abc import Mapping
from typing import ClassVar

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError, OutageError, TemporaryError, short
from zwrap.message.limits import DEFAULTS, Limits
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.substitution import Filling
from zwrap.service.contract import Service
from zwrap.service.faults import told
from zwrap.transport.contract import Delivery, Transport

log = logging.getLogger(__name__)

SMTP_TIMEOUT_S = 60.0
"""Time limit of each answer of the mail server, in seconds."""

RETRY_S = 60.0
"""Delay of a message whose mail cannot be sent now, in seconds."""


HEAD_CHARACTERS = 10_000
"""Largest length of the subject, the sender and each recipient of a mail, in characters: the time
that the standard library takes for one grows with its square."""


_NO_HEADER = (ValueError, IndexError, AttributeError, TypeError, RecursionError)
"""Errors of the email package for a text that is no header: a line break, an open bracket, ..."""


class Mailer(Service):
    """Service that sends mail (queue `mailnotification`) over the server of plugin `smtp`.

    Parameters: `recipients` (address, list, or groups and `select`, and `all`), `from`, `subject`,
    `content` with ``{payload}``, ``{payload[key]}`` and ``{pprint_payload}``. The message is
    acknowledged when the mail server has accepted the mail. The Message-ID is derived from the
    message, so that receivers recognise a mail that is sent again after a crash.
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
            mail["From"] = _short_enough("sender", str(sender))
            mail["To"] = ", ".join(recipients(parameters, self.limits.recipients))
            subject = str(parameters.get("subject") or "mail notification via zocalo")
            mail["Subject"] = _short_enough("subject", subject)
            mail["Message-ID"] = f"<{delivery.message.id}@zwrap>"
            mail["Date"] = email.utils.localtime()
        except (MessageError, MemoryError):
            raise
        except Exception as error:  # the reader of addresses in the standard library raises many
            raise MessageError(f"The head of the mail cannot be written: {told(error)}.") from None
        if not mail["To"].addresses:
            raise MessageError(f"The recipients {short(str(mail['To']))} hold no address.")
        try:
            mail.set_content(filled(content, payload, self.limits))
        except (ValueError, RecursionError) as error:
            raise MessageError(f"The text of the mail cannot be written: {told(error)}.") from None
        return mail

    def _send(self, mail: email.message.EmailMessage) -> dict[str, tuple[int, bytes]]:
        """Send the mail; return the refused recipients, if the server accepted others.

        Raises:
            MessageError: The server refuses the mail for good.
            TemporaryError: The server may accept the mail later.
            OutageError: The server cannot be reached.
            ConnectionResetError: The server hung up on this mail, which may be the mail's fault.
        """
        host, port = self._smtp.host, self._smtp.port
        try:
            server = smtplib.SMTP(host=host, port=port, timeout=SMTP_TIMEOUT_S)
        except (smtplib.SMTPException, OSError) as error:
            raise OutageError(
                f"The mail server {host}:{port} cannot be used: {error}", retry_after_s=RETRY_S
            ) from None
        try:
            with server:
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
            text = f"The mail server {host}:{port} broke off: {error}"
            raise ConnectionResetError(errno.ECONNRESET, text) from None
        except (ValueError, RecursionError, LookupError) as error:  # of what writes the head, too
            raise MessageError(f"The mail cannot be sent: {told(error)}.") from None


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


def recipients(parameters: Mapping[str, object], limit: int = DEFAULTS.recipients) -> list[str]:
    """Return the addresses in parameter `recipients`; MessageError if there are none, or too many.

    The parameter is an address, a list, or a mapping of groups, of which the one under `select` and
    the group `all` are used.
    """
    given = parameters.get("recipients", parameters.get("recipient"))
    if isinstance(given, dict):
        if not isinstance(given.get("select"), str):
            known = ", ".join(sorted(map(str, given)))
            raise MessageError(f"'recipients' has the groups {known}; 'select' must name one.")
        group = str(given["select"])
        addresses = sorted({*_listed(given.get(group)), *_listed(given.get("all"))})
    else:
        addresses = _listed(given)
    if not addresses:
        raise MessageError("The mail has no recipients.")
    number = sum(1 + address.count(",") for address in addresses)
    if number > limit:
        raise MessageError(
            f"The mail has {number} recipients; up to {limit} are taken (section limits, key "
            "'recipients'). A mailing list reaches more."
        )
    return addresses


def _listed(value: object) -> list[str]:
    """Return one value, or each of a list, as text."""
    if value in (None, ""):
        return []
    entries = value if isinstance(value, (list, tuple)) else [value]
    for entry in entries:
        if isinstance(entry, (list, tuple, dict)):
            raise MessageError(
                f"'recipients' holds {short(entry)}; an address, a list of addresses, or groups of "
                "them are expected."
            )
    for part in (part for entry in entries for part in str(entry).split(",")):
        _short_enough("recipient", part)
    return [str(entry) for entry in entries]


def _short_enough(what: str, text: str) -> str:
    """Return a text for the head of a mail; MessageError if it is too long."""
    if len(text) > HEAD_CHARACTERS:
        raise MessageError(
            f"The {what} {text[:60]!r}... has {len(text)} characters; up to {HEAD_CHARACTERS} are "
            "taken."
        )
    return text


def filled(content: str, payload: object, limits: Limits = DEFAULTS) -> str:
    """Return a text with the fields of ``{payload}`` and ``{pprint_payload}`` filled in.

    It is what python-zocalo's `str.format_map` makes of it (``{payload[key]}``, ``{payload!r}``,
    ``{{``), except that no text is an error, and attributes are never looked at. Others stay.
    """
    shown = "\n".join(map(str, payload)) if isinstance(payload, list) else pprint.pformat(payload)
    return Filling({"payload": payload, "pprint_payload": shown}, limits).text(content)
