"""For whom a client's certificate speaks.

That it is genuine the handshake has made sure of; here only its names are read.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

_WORKER_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def names_of(certificate: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The worker ids that *certificate* speaks for, each once.

    They are the DNS names among its alternative names; its common name counts only where there
    is not one of these.  Names that cannot be a worker id are passed over: a wildcard speaks for
    nobody, and neither does a name with dots.

    Args:
        certificate: As `ssl.SSLSocket.getpeercert` tells it; None = there was none.

    >>> names_of({"subjectAltName": (("DNS", "w1"), ("DNS", "*.example.com"))})
    ('w1',)
    """
    if not certificate:
        return ()
    alternatives = [name for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS"]
    names = alternatives or _common_names(certificate)
    return tuple(dict.fromkeys(name for name in names if _WORKER_ID.fullmatch(name)))


def _common_names(certificate: Mapping[str, Any]) -> Iterable[str]:
    for attributes in certificate.get("subject", ()):
        for key, value in attributes:
            if key == "commonName":
                yield value
