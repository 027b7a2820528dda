"""Messages: what they hold, their identity, their JSON text, and limits of their sizes."""

from typing import TYPE_CHECKING

from zwrap.plugins.offering import offer

if TYPE_CHECKING:
    from zwrap.message.content import JSON as JSON, Message as Message, Outgoing as Outgoing

__getattr__, __dir__ = offer(
    __name__, dict.fromkeys(("JSON", "Message", "Outgoing"), "zwrap.message.content")
)
