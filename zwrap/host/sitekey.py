"""The key of a site: a secret of its services, with which they recognize their own messages."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from zwrap.errors import ConfigurationError
from zwrap.host.files import UnfitFileError, create_once, read_regular
from zwrap.host.paths import made_private
from zwrap.message.jsontext import encode

KEY_BYTES = 32
"""Number of random bytes in a key, and length of the shortest text that is taken for one."""

FILE_BYTES = 4096
"""Largest size of a file with a key, in bytes."""


class SiteKey:
    """The key in a file, which is read, or made, when the key is first used.

    Args:
        file: The file. Its text is the key; one that is made here has 64 hexadecimal digits.
        create: True if a file that is missing is made, for its user alone; of several processes
            that do so at the same time one makes it, and all have the same key.
    """

    def __init__(self, file: Path, *, create: bool = True) -> None:
        self.file = file
        self._create = create

    def sign(self, *parts: str) -> str:
        """Return the signature of texts (HMAC-SHA256), as hexadecimal text.

        Raises:
            ConfigurationError: The key cannot be read or made.
        """
        import hmac  # which loads OpenSSL, and no start waits for that

        return hmac.digest(self._key, encode(list(parts)), "sha256").hex()

    def holds(self, signature: object, *parts: str) -> bool:
        """Return True if a text is the signature of these texts; ConfigurationError as `sign`."""
        import hmac

        if not isinstance(signature, str) or not signature.isascii():
            return False
        return hmac.compare_digest(signature, self.sign(*parts))

    @functools.cached_property
    def _key(self) -> bytes:
        """The key."""
        try:
            if self._create and not os.path.lexists(self.file):
                text = f"{os.urandom(KEY_BYTES).hex()}\n"
                create_once(made_private(self.file), text.encode(), mode=0o600)
            key = read_regular(self.file, FILE_BYTES, follow=True).strip()
        except UnfitFileError as error:
            raise ConfigurationError(f"The key of the site cannot be read: {error}") from None
        except OSError as error:
            raise ConfigurationError(
                f"The key of the site, {self.file}, cannot be read: {error.strerror}. Name a file "
                "that all services of the site can read (section security, key 'key_file')."
            ) from None
        if len(key) < KEY_BYTES:
            raise ConfigurationError(
                f"The key of the site in {self.file} has {len(key)} characters; at least "
                f"{KEY_BYTES} are expected, such as the output of: openssl rand -hex 32."
            )
        return key
