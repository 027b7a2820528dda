"""The secret of an attempt, with which its wrapper signs the verdict that it sends as a message.

It is in the ledger and in the job script, which writes it into a file of the job directory that
nobody else can read: programs, hooks and batch systems see the environment and command lines of a
job, but need not see this file.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from zwrap.host.files import UnfitFileError, read_regular
from zwrap.message.identity import digest_of

log = logging.getLogger(__name__)

SECRET = "secret"  # noqa: S105  (the name of a file)
"""Name of the file with the secret in the job directory."""

PROOF_HEADER = "zwrap-proof"
"""Header of a message with a verdict: proof that the sender knows the secret of the attempt."""

_PAUSES_S = (0.2, 1.0, 3.0)
"""Times to wait for a filesystem that has no answer, in seconds."""

_BYTES = 32
_FILE_BYTES = 4096


def new_secret() -> str:
    """Return a random secret, as hexadecimal text."""
    return os.urandom(_BYTES).hex()


def read_secret(job_directory: Path) -> str | None:
    """Return the secret in a job directory; None: an earlier release submitted the job."""
    for pause_s in (*_PAUSES_S, None):
        try:
            text = read_regular(job_directory / SECRET, _FILE_BYTES)
        except (FileNotFoundError, NotADirectoryError, UnfitFileError):
            return None
        except OSError as error:  # without the secret the verdict would not count
            if pause_s is None:
                log.error("The secret of the attempt cannot be read: %s", error)
                return None
            time.sleep(pause_s)
        else:
            return text.decode("ascii", "replace").strip() or None
    return None


def proof_of(secret: str, body: object) -> str:
    """Return the proof for the decoded body of a message: its HMAC-SHA256, hexadecimal."""
    import hmac  # which loads OpenSSL, and no start waits for that

    return hmac.digest(secret.encode(), digest_of(body).encode(), "sha256").hex()


def proves(proof: object, secret: str, body: object) -> bool:
    """Return True if that is the proof for a body."""
    import hmac

    if not isinstance(proof, str) or not proof.isascii():
        return False
    return hmac.compare_digest(proof, proof_of(secret, body))
