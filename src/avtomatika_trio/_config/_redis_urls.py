"""Where Redis or Valkey is: one server, a cluster, or what sentinels watch.

    redis://[USER:PASSWORD@]HOST[:6379][/DB]                            one server
    redis+sentinel://[USER:PASSWORD@]HOST[:26379],HOST/SERVICE[/DB]     the master of a service
    redis+cluster://[USER:PASSWORD@]HOST[:6379],HOST                    a cluster

`rediss` instead of `redis` means TLS; its files are named in the query.
"""

import re
from typing import Literal
from urllib.parse import parse_qsl, unquote

import attrs

from avtomatika_trio._config._kinds import Malformed
from avtomatika_trio._config._masking import masked

Place = tuple[str, int]

_FORMS = {
    "single": "redis://[USER:PASSWORD@]HOST[:PORT][/DB]",
    "sentinel": "redis+sentinel://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]/SERVICE[/DB]",
    "cluster": "redis+cluster://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]",
}
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs")
_CERT_REQS = ("required", "optional", "none")
_LARGEST_PORT = 65535


@attrs.frozen(kw_only=True)
class RedisAddress:
    """How to reach one server, the master that sentinels name, or a cluster."""

    kind: Literal["single", "sentinel", "cluster"]
    places: tuple[Place, ...]
    """The server, the sentinels, or some nodes of the cluster."""
    service: str = ""
    """What the sentinels call the master."""
    db: int = 0
    user: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    tls: bool = False
    tls_options: tuple[tuple[str, str], ...] = ()
    """What the query says of TLS: names as in the URL."""


class _Fault(Exception):
    """What is wrong with the URL."""


def read_redis_url(url: str) -> RedisAddress:
    """The address that *url* is.

    Raises:
        Malformed: says how, and what to give; never a password.
    """
    match = re.match(r"(rediss?)(?:\+([a-z]+))?://", url)
    kind = (match[2] or "single") if match else ""
    if match is None or match[2] == "single" or kind not in _FORMS:
        fault = f"{masked(url)!r} is no address of Redis"
        raise Malformed(fault, give=", ".join(_FORMS.values()))
    tls = match[1] == "rediss"
    try:
        return _parsed(url[match.end() :], kind, tls=tls)
    except _Fault as fault:
        form = _FORMS[kind].replace("redis", match[1], 1)
        raise Malformed(f"{masked(url)!r} {fault}", give=form) from None


def redis_url(host: str, port: int, db: int) -> str:
    """The URL of one server.

    >>> redis_url("::1", 6379, 2)
    'redis://[::1]:6379/2'
    """
    place = f"[{host}]" if ":" in host else host
    return f"redis://{place}:{port}/{db}"


def _parsed(text: str, kind: str, *, tls: bool) -> RedisAddress:
    if re.search(r"[\s\x00-\x1f\x7f]", text):
        raise _Fault("holds a space or a control character")
    if "#" in text.rpartition("@")[2]:
        raise _Fault("has a fragment")
    login, at, rest = text.rpartition("@")
    user, password = _login(login) if at else (None, None)
    place, mark, query = rest.partition("?")
    hosts, _, path = place.partition("/")
    service, db = _path(path, kind)
    return RedisAddress(
        kind=kind,  # type: ignore[arg-type] # one of _FORMS
        places=_places(hosts, kind),
        service=service,
        db=db,
        user=user,
        password=password,
        tls=tls,
        tls_options=_options(query, tls=tls) if mark else (),
    )


def _login(text: str) -> tuple[str | None, str | None]:
    if re.search(r"[/?#@]", text):
        raise _Fault("has a / ? # or @ in its user or password, which must be percent-encoded")
    user, colon, password = text.partition(":")
    if not colon or not password:
        raise _Fault("has a user without a password")
    return unquote(user) or None, unquote(password)


def _places(text: str, kind: str) -> tuple[Place, ...]:
    if not text:
        raise _Fault("has no host")
    hosts = text.split(",")
    if kind == "single" and len(hosts) > 1:
        raise _Fault("names several hosts, which only +sentinel and +cluster can have")
    return tuple(_place(host, 26379 if kind == "sentinel" else 6379) for host in hosts)


def _place(text: str, default_port: int) -> Place:
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::([0-9]{1,5}))?", text, re.ASCII)
    if match is None:
        raise _Fault("has a malformed host or port")
    port = int(match[2] or default_port)
    if not 0 < port <= _LARGEST_PORT:
        raise _Fault("has a port that is out of range")
    return match[1].strip("[]"), port


def _path(path: str, kind: str) -> tuple[str, int]:
    if kind == "cluster":
        if path.strip("/"):
            raise _Fault("has a database, and a cluster has only one")
        return "", 0
    service = ""
    if kind == "sentinel":
        service, _, path = path.partition("/")
        service = unquote(service)
        if not service:
            raise _Fault("does not name the service that the sentinels watch")
    if path and not re.fullmatch(r"[0-9]{1,5}", path):
        raise _Fault("has a database that is not a number")
    return service, int(path or 0)


def _options(query: str, *, tls: bool) -> tuple[tuple[str, str], ...]:
    options = tuple(parse_qsl(query, keep_blank_values=True))
    for name, value in options:
        if name not in _TLS_OPTIONS:
            raise _Fault(f"has a query that is not one of {', '.join(_TLS_OPTIONS)}")
        if not tls:
            raise _Fault(f"has {name}, which only rediss: can use")
        if not value:
            raise _Fault(f"has an empty {name}")
        if name == "ssl_cert_reqs" and value not in _CERT_REQS:
            raise _Fault(f"has an ssl_cert_reqs that is not one of {', '.join(_CERT_REQS)}")
    names = dict(options)
    if len(names) < len(options):
        raise _Fault("has the same option twice in its query")
    if "ssl_keyfile" in names and "ssl_certfile" not in names:
        raise _Fault("has ssl_keyfile without ssl_certfile")
    return options
