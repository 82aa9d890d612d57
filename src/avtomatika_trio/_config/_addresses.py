"""Addresses: of storages, and of orchestrators as a worker is told of them.

An address may carry a password by design (`redis://`) or by mistake; no
complaint quotes one before `masked` has seen it.
"""

import difflib
import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

import attrs

from avtomatika_trio._config._kinds import (
    SECRET,
    Kind,
    Malformed,
    Secret,
    number,
    shown,
    text_of,
    whole,
)

T = TypeVar("T")

# A weight is a share of requests; this is only a bound that keeps sums exact.
_MOST_WEIGHT = 1_000_000


@attrs.frozen(kw_only=True)
class Target:
    """One orchestrator, as an entry of `ORCHESTRATORS_CONFIG` describes it."""

    url: str
    priority: int = 10
    """Lower is preferred."""
    weight: float = 1.0
    """Its share of requests when they go to each in turn."""
    token: Secret | None = None
    """What this orchestrator knows the worker by, where it differs."""


def masked(address: str) -> str:
    """*address* without what could be a password: user part, query, fragment.

    >>> masked("redis://app:hunter2@db:6379/0?password=hunter2")
    'redis://***@db:6379/0?***'
    >>> masked("sqlite:avtomatika.db")
    'sqlite:avtomatika.db'
    """
    if re.match("sqlite:(?!//)", address):
        return address
    head, at, tail = address.rpartition("@")
    if at:
        scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", head)
        head = f"{scheme[0] if scheme else ''}***"
    else:
        head = ""
    place, mark, _ = re.sub("[?#]", "?", tail, count=1).partition("?")
    return f"{head}{at}{place}{'?***' if mark else ''}"


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
    if re.match(r"rediss?://", text):
        _split(text)
        return text
    raise Malformed(f"{shown(masked(text))} is not a storage that is known")


def _targets(raw: object) -> Target:
    if isinstance(raw, str):
        if not raw.strip():
            raise Malformed("it is empty")
        try:
            raw = json.loads(raw)
        except json.JSONDecodeError as fault:
            place = f"line {fault.lineno}, column {fault.colno}"
            raise Malformed(f"it is not JSON at {place}: {fault.msg}") from None
        except (ValueError, RecursionError):
            raise Malformed(
                "it is not JSON that can be read: nested too deep, or a huge number"
            ) from None
    if not isinstance(raw, list):
        raise Malformed("it is not a list")
    if not raw:
        raise Malformed("the list is empty")
    targets = [_target(item, f"[{position}]") for position, item in enumerate(raw)]
    if len(targets) > 1:
        raise Malformed(
            f"it names {len(targets)} orchestrators; several orchestrators are not supported yet"
        )
    return targets[0]


def _target(item: object, place: str) -> Target:
    """The orchestrator that *item* of the list, found at *place*, describes."""
    if isinstance(item, str):
        return Target(url=_within(place, URL, item))
    if not isinstance(item, Mapping):
        raise Malformed(f"{place} is neither an object nor an address")
    for key in item:
        if key not in _MEMBERS:
            near = difflib.get_close_matches(str(key), _MEMBERS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise Malformed(f"{place} has an unknown member {shown(key)}{hint}")
    if "url" not in item:
        raise Malformed(f"{place} has no url")
    given = {key: _within(f"{place}.{key}", _MEMBERS[key], value) for key, value in item.items()}
    return Target(**given)


def _within(place: str, kind: Kind[T], raw: object) -> T:
    try:
        return kind.parse(raw)
    except Malformed as fault:
        raise Malformed(f"{place}: {fault}") from None


URL = Kind(
    expects="http://HOST:PORT or https://HOST:PORT, without credentials, query and fragment",
    read=_url,
)
STORAGE = Kind(
    expects="memory:, sqlite:PATH, redis://HOST:PORT or rediss://HOST:PORT", read=_storage
)
TARGETS = Kind(
    expects='a JSON list of one orchestrator, such as [{"url": "http://127.0.0.1:8080"}]',
    read=_targets,
)

_MEMBERS: dict[str, Kind[Any]] = {
    "url": URL,
    "priority": whole(-1_000_000, 1_000_000),
    "weight": Kind(
        expects=f"a number from 0 to {_MOST_WEIGHT}",
        read=lambda raw: number(raw, 0, _MOST_WEIGHT),
    ),
    "token": SECRET,
}
