"""The orchestrators that a worker is told of: `ORCHESTRATORS_CONFIG`.

A JSON list, or a list of TOML.  Every complaint names the place in it.
"""

import difflib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

import attrs

from avtomatika_trio._config._addresses import URL
from avtomatika_trio._config._kinds import (
    SECRET,
    Kind,
    Malformed,
    Secret,
    number,
    shown,
    whole,
)

T = TypeVar("T")

#: Bounds that keep sums of shares exact.
_LEAST_WEIGHT, _MOST_WEIGHT = 0.001, 1_000_000

#: Each of them costs a thread that beats; more is a slip, or a case for a load balancer.
_MOST_TARGETS = 100


@attrs.frozen(kw_only=True)
class Target:
    """One orchestrator, as an entry of `ORCHESTRATORS_CONFIG` describes it."""

    url: str
    priority: int = 10
    """Lower is preferred; among equals the one that is named first."""
    weight: float = 1.0
    """Its share of requests when they go to each in turn."""
    token: Secret | None = None
    """What this orchestrator knows the worker by, where it differs."""


def _targets(raw: object) -> tuple[Target, ...]:
    if isinstance(raw, str):
        raw = from_json(raw)
    if not isinstance(raw, list | tuple):
        raise Malformed("it is not a list")
    if not raw:
        raise Malformed("the list is empty")
    if len(raw) > _MOST_TARGETS:
        raise Malformed(f"it names {len(raw)} orchestrators, more than {_MOST_TARGETS}")
    targets: list[Target] = []
    for position, item in enumerate(raw):
        target = _target(item, f"[{position}]")
        for earlier, other in enumerate(targets):
            if other.url.lower() == target.url.lower():
                raise Malformed(f"[{position}] has the address of [{earlier}], {shown(other.url)}")
        targets.append(target)
    return tuple(targets)


def from_json(text: str) -> object:
    """What *text* says as JSON.

    Raises:
        Malformed: it is not JSON, or an object names a member twice.
    """
    if not text.strip():
        raise Malformed("it is empty")
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as fault:
        place = f"line {fault.lineno}, column {fault.colno}"
        raise Malformed(f"it is not JSON at {place}: {fault.msg}") from None
    except Malformed:
        raise
    except (ValueError, RecursionError):
        raise Malformed(
            "it is not JSON that can be read: nested too deep, or a huge number"
        ) from None


def _object(members: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON; the second of two equal members would silently outweigh the first."""
    names = [name for name, _ in members]
    for name in names:
        if names.count(name) > 1:
            raise Malformed(f"an object has the member {shown(name)} twice")
    return dict(members)


def _target(item: object, place: str) -> Target:
    """The orchestrator that *item* of the list, found at *place*, describes."""
    if isinstance(item, Target):
        return item
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


TARGETS = Kind(
    expects='a JSON list of orchestrators, such as [{"url": "http://127.0.0.1:8080"}]',
    read=_targets,
)


def _addresses(raw: object) -> tuple[Target, ...]:
    """A single address, or several with commas between."""
    if not isinstance(raw, str) or "," not in raw:
        return (Target(url=URL.read(raw)),)
    return _targets([it.strip() for it in raw.split(",")])


ONE_TARGET = Kind(expects=URL.expects, read=_addresses)
"""An address, as `ORCHESTRATOR_URL` gives it."""

SEVERAL_TARGETS = Kind(
    expects="addresses with commas between, such as http://a:8080,http://b:8080",
    read=lambda raw: _addresses(raw) if isinstance(raw, str) else _targets(raw),
)
"""As `ORCHESTRATOR_URLS` gives them."""

ONE_OR_MORE = Kind(
    expects="an address, or a list of them",
    read=lambda raw: ONE_TARGET.parse(raw) if isinstance(raw, str) else TARGETS.read(raw),
)
"""As arguments give them."""

_MEMBERS: dict[str, Kind[Any]] = {
    "url": URL,
    "priority": whole(-1_000_000, 1_000_000),
    "weight": Kind(
        expects=f"a number from {_LEAST_WEIGHT} to {_MOST_WEIGHT}",
        read=lambda raw: number(raw, _LEAST_WEIGHT, _MOST_WEIGHT),
    ),
    "token": SECRET,
}
