"""The verdict of a wrapper as a message, where the submit host does not see the job directory."""

from __future__ import annotations

import msgspec

from zwrap.attempt.directory import JobDirectory
from zwrap.attempt.refusals import is_noted
from zwrap.attempt.secret import PROOF_HEADER, proof_of, read_secret
from zwrap.attempt.verdict import Verdict
from zwrap.message.content import Outgoing
from zwrap.message.identity import child_id
from zwrap.message.jsontext import decode, encode


def verdict_message(verdict: Verdict, queue: str, parent: str, directory: JobDirectory) -> Outgoing:
    """Return the message with a verdict, signed with the secret of the attempt.

    Args:
        verdict: The verdict.
        queue: Queue of the Watcher.
        parent: Id from which that of the message is derived.
        directory: Job directory, with the secret.
    """
    body: object = msgspec.to_builtins(verdict)
    secret = read_secret(directory.path)
    headers: dict[str, object] = {}
    if secret is not None:
        headers[PROOF_HEADER] = proof_of(secret, decode(encode(body)))
    name = "noted verdict" if is_noted(verdict) else "verdict"
    return Outgoing(queue, body, headers).with_id(child_id(parent, name))
