"""How tokens are kept: as keyed hashes, which let nobody in (ADR 0013).

A text such as `hs256$<salt>$<hash>`: HMAC-SHA-256 of the token, with a random salt as its key;
both as lower-case hexadecimal digits.  One format for the files and for the storage.
"""

import hashlib
import hmac
import re

_SCHEME = "hs256"
_FORM = re.compile(r"hs256\$([0-9a-f]{32,128})\$([0-9a-f]{64})")

SALT_BYTES = 16


def hash_token(token: str, salt: bytes) -> str:
    """The hash of *token*; *salt* is random, `SALT_BYTES` or more of it.

    >>> hash_token("secret", bytes(16))[:24]
    'hs256$000000000000000000'
    """
    digest = hmac.digest(salt, token.encode(), hashlib.sha256)
    return f"{_SCHEME}${salt.hex()}${digest.hex()}"


def is_token_hash(text: str) -> bool:
    """Whether *text* is what `hash_token` returns."""
    return _FORM.fullmatch(text) is not None


def matches(token: str, hashed: str) -> bool:
    """Whether *hashed* is a hash of *token*; compared in constant time.

    >>> matches("secret", hash_token("secret", bytes(16)))
    True
    >>> matches("Secret", hash_token("secret", bytes(16)))
    False
    """
    form = _FORM.fullmatch(hashed)
    if form is None:
        return False
    return hmac.compare_digest(hash_token(token, bytes.fromhex(form[1])), hashed)
