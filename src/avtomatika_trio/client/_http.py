"""From the arguments of a client to httpx, and from httpx to what plans read."""

import re
import ssl
from collections.abc import Callable, Sequence
from typing import Any, TypedDict, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from avtomatika_trio._config import is_loopback
from avtomatika_trio._wire.messages import CLIENT_TOKEN_HEADER
from avtomatika_trio.client._plans import Ask, Fault, Reply, sound
from avtomatika_trio.errors import ConfigError, InvalidMessage, Problem

C = TypeVar("C")

#: Of these it is certain that nothing was sent.
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)

#: The network's, and bodies that are not what their headers say.
FAULTS = (httpx.TransportError, httpx.DecodingError)

#: A wait and a stream hold their connection: with a limit, as httpx has one of 100, everything
#: else would wait for those to end.  And where fewer are kept than are open, httpcore closes one
#: that another thread has just been given.
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)

#: What only this module puts behind an address.
_ROUTE = re.compile("/api(/v1)?/*$")

_TOKEN = re.compile(r"[\x21-\x7e]+")


class Options(TypedDict):
    """What both kinds of httpx's clients are made with."""

    headers: dict[bytes, bytes]
    verify: ssl.SSLContext | bool
    trust_env: bool
    mounts: dict[str, None]
    limits: httpx.Limits


def options(
    urls: Sequence[str],
    token: object,
    *,
    ca_file: str | None,
    cert_file: str | None,
    key_file: str | None,
) -> Options:
    """How to talk to the orchestrators at *urls*, which `checked` has returned.

    Raises:
        ConfigError: *token* cannot be one, or a file cannot be used.
    """
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):  # it may be None, too
        fault = "it is empty, or holds a space, a line break or a character outside ASCII"
        raise ConfigError((f"token: {fault}; give it as it was printed, without any of these",))
    hosts = [urlsplit(it).hostname or "" for it in urls]
    near = [it for it in hosts if is_loopback(it)]
    return Options(
        headers={CLIENT_TOKEN_HEADER.encode(): token.encode()},
        verify=_trust(ca_file, cert_file, key_file),
        # A proxy of the environment is not for loopback, also where others are far.
        trust_env=len(near) < len(hosts),
        mounts={f"all://[{it}]" if ":" in it else f"all://{it}": None for it in near},
        limits=_LIMITS,
    )


def opened(make: Callable[..., C], transport: object, told: Options) -> C:
    """What *make*, one of httpx's clients, is with these options.

    Raises:
        ConfigError: a proxy or a file that the environment names cannot be used.
    """
    try:
        return make(transport=transport, **told)
    except (ImportError, OSError, ValueError, httpx.InvalidURL) as exc:
        why = _why(exc) if isinstance(exc, OSError) else str(exc)
        places = "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR"
        fault = f"what the environment says of the network cannot be used: {why}; look at {places}"
        raise ConfigError((fault,)) from None


def checked(url: object) -> tuple[str, ...]:
    """The addresses in *url*, a text with commas or several texts, without slashes at their ends.

    Raises:
        ConfigError: one is none, or there is none.
    """
    listed = url.split(",") if isinstance(url, str) else url
    # What `os.environ.get` returns may be None.
    if not isinstance(listed, list | tuple) or not all(isinstance(it, str) for it in listed):
        raise ConfigError(
            (f"url: {url!r} is not text, or a list of texts, such as http://127.0.0.1:8080",)
        )
    found = tuple(dict.fromkeys(_checked(it.strip()) for it in listed))
    if not found:
        raise ConfigError(("url: it has no address; give one such as http://127.0.0.1:8080",))
    return found


def _checked(url: str) -> str:
    try:
        parsed = httpx.URL(url)
        parsed.raw_host.decode().encode("idna")  # as who looks it up does
    except (httpx.InvalidURL, UnicodeError) as exc:
        raise ConfigError((f"{url!r} is not a URL: {exc}",)) from None
    if parsed.scheme not in {"http", "https"} or not parsed.host or (parsed.port or 0) > 65535:
        raise ConfigError((f"{url!r} is not a URL such as http://127.0.0.1:8080",))
    if parsed.query or parsed.fragment or _ROUTE.search(parsed.path):
        fault = "is more than the address of an orchestrator; give the part before /api, ? and #"
        raise ConfigError((f"{url!r} {fault}",))
    return url.rstrip("/")


def _trust(
    ca_file: str | None, cert_file: str | None, key_file: str | None
) -> ssl.SSLContext | bool:
    if ca_file is None and cert_file is None and key_file is None:
        return True
    if cert_file is None and key_file is not None:
        raise ConfigError(("key_file is given without cert_file; give the certificate too",))
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as exc:
        raise ConfigError((f"ca_file: {ca_file!r} cannot be used: {_why(exc)}",)) from None
    if cert_file is not None:
        try:
            context.load_cert_chain(cert_file, key_file)
        except OSError as exc:
            files = " with ".join(repr(it) for it in (cert_file, key_file) if it is not None)
            fault = f"cert_file: {files} cannot be used: {_why(exc)}"
            raise ConfigError((fault,)) from None
    return context


def _why(exc: OSError) -> str:
    return exc.strerror or str(exc) or type(exc).__name__


def request_of(
    build: Callable[..., httpx.Request], ask: Ask, timeout_seconds: float
) -> httpx.Request:
    """What *build*, of one of httpx's clients, makes of *ask*.

    Raises:
        InvalidMessage: a name or a value in it is far too long, or not Unicode.
    """
    try:
        return sound(ask.path[:80], lambda: build(**_arguments(ask, timeout_seconds)))
    except httpx.InvalidURL as exc:
        fault = f"cannot be sent: {exc}; give shorter names and values"
        raise InvalidMessage((Problem(ask.path[:80], fault),)) from None


def _arguments(ask: Ask, timeout_seconds: float) -> dict[str, Any]:
    headers = dict(ask.headers)
    if ask.body:
        headers["content-type"] = "application/json"
    return {
        "method": ask.method,
        "url": f"{ask.base}/api/v1{ask.path}",
        "params": dict(ask.query) or None,
        "content": ask.body,
        "headers": headers,
        "timeout": min(timeout_seconds, ask.late_seconds) + ask.held_seconds,
    }


def reply_of(answer: httpx.Response, body: bytes) -> Reply:
    """What plans see of an answer."""
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return Reply(status=answer.status_code, headers=headers, body=body)


def fault_of(exc: httpx.RequestError) -> Fault:
    """What plans see of an error of the network."""
    sent = not isinstance(exc, _UNSENT)
    reason = str(exc) or type(exc).__name__
    if not sent and _goes_by_proxy(exc.request.url):
        reason += "; the environment has a proxy for it (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY)"
    return Fault(reason=reason, sent=sent)


def _goes_by_proxy(url: httpx.URL) -> bool:
    """Whether the environment names a proxy for *url*, as httpx reads it."""
    if is_loopback(url.host) or proxy_bypass(url.host):
        return False
    return not getproxies().keys().isdisjoint({url.scheme, "all"})
