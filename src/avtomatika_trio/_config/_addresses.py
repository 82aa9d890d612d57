"""Addresses: of storages and of orchestrators.

An address may carry a password by design (`redis://`) or by mistake; no
complaint quotes one before `masked` has seen it.
"""

import re
from urllib.parse import SplitResult, urlsplit

from avtomatika_trio._config._kinds import Kind, Malformed, shown, text_of
from avtomatika_trio._config._masking import masked
from avtomatika_trio._config._redis_urls import read_redis_url


def _split(text: str) -> SplitResult:
    """The parts of *text*, host and port among them known to be sound."""
    quoted = shown(masked(text))
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise Malformed(f"{quoted} has a malformed host or port") from None
    if not parts.hostname:
        raise Malformed(f"{quoted} has no host")
    if not re.fullmatch(r"[\w.-]+|[0-9a-fA-F:.]+", parts.hostname):
        raise Malformed(f"{quoted} has a malformed host")
    if port == 0 or parts.netloc.endswith(":"):
        raise Malformed(f"{quoted} has a malformed port")
    return parts


def _url(raw: object) -> str:
    if isinstance(raw, str) and "@" in raw:
        raise Malformed(f"{shown(masked(raw))} holds credentials, or an @ that looks like them")
    text = text_of(raw)
    quoted = shown(masked(text))
    if re.search(r"\s", text):
        raise Malformed(f"{quoted} holds a space")
    if not re.match(r"https?://", text, re.IGNORECASE):
        raise Malformed(f"{quoted} does not begin with http:// or https://")
    if "?" in text or "#" in text:
        raise Malformed(f"{quoted} has a query or a fragment")
    parts = _split(text)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _storage(raw: object) -> str:
    text = text_of(raw, show=False)
    scheme = text.partition(":")[0]
    if text == "memory:":
        return text
    if scheme == "sqlite":
        path = text.removeprefix("sqlite").removeprefix(":")
        if not path or path.startswith("//"):
            raise Malformed(f"{shown(text)} has no path, or slashes before it")
        return text
    if re.fullmatch(r"rediss?(\+.*)?", scheme):
        read_redis_url(text)
        return text
    raise Malformed(f"{shown(masked(text))} is not a storage that is known")


URL = Kind(
    expects="http://HOST:PORT or https://HOST:PORT, without credentials, query and fragment",
    read=_url,
)
STORAGE = Kind(
    expects="memory:, sqlite:PATH, redis://HOST:PORT, redis+sentinel://HOST:PORT,.../SERVICE or "
    "redis+cluster://HOST:PORT,...; rediss for TLS",
    read=_storage,
)
