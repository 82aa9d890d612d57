"""For whom a client certificate speaks."""

from collections.abc import Mapping
from typing import Any

from avtomatika_trio._core.arguments import NAME


def names_of(certificate: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The worker ids that *certificate* is for: its DNS names, or, without any, its common name.

    Args:
        certificate: As `ssl.SSLSocket.getpeercert` tells it; it was verified.

    >>> names_of({"subject": ((("commonName", "w1"),),)})
    ('w1',)
    >>> names_of({"subject": ((("commonName", "x"),),), "subjectAltName": (("DNS", "w1"),)})
    ('w1',)
    """
    if not certificate:
        return ()
    found = [name for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS"]
    if not found:
        parts = [pair for group in certificate.get("subject", ()) for pair in group]
        found = [name for kind, name in parts if kind == "commonName"]
    return tuple(name for name in found if NAME.fullmatch(name))
