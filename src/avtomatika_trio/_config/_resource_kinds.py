"""What a worker says of its machine: lists and objects, of JSON or of TOML."""

from collections.abc import Callable, Mapping
from typing import Any

from avtomatika_trio._config._kinds import Kind, Malformed, number, shown
from avtomatika_trio._config._targets import from_json
from avtomatika_trio._wire.codec import encode

#: What begins like these is JSON in a `WORKER_EXTRA_...`; everything else is a text.
_BEGINS_JSON = ("{", "[")

EXTRA_PREFIX = "WORKER_EXTRA_"


def _object(raw: object) -> dict[str, Any]:
    if isinstance(raw, str):
        raw = from_json(raw)
    if not isinstance(raw, Mapping):
        raise Malformed("it is not an object")
    return {str(key): value for key, value in raw.items()}


def _items(raw: object, required: str) -> tuple[dict[str, Any], ...]:
    if isinstance(raw, str):
        raw = from_json(raw)
    if not isinstance(raw, list | tuple):
        raise Malformed("it is not a list")
    for position, item in enumerate(raw):
        if not isinstance(item, Mapping):
            raise Malformed(f"[{position}] is not an object")
        if not isinstance(item.get(required), str) or not item[required]:
            raise Malformed(f"[{position}].{required} is not a text that names it")
        if not isinstance(item.get("properties", {}), Mapping):
            raise Malformed(f"[{position}].properties is not an object")
        _check_sendable(item, f"[{position}]")
    return tuple(dict(item) for item in raw)


def _software(raw: object) -> dict[str, str]:
    said = _object(raw)
    for name, version in said.items():
        if not isinstance(version, str):
            raise Malformed(f"the version of {shown(name)} is not a text, but {shown(version)}")
    return said


def _artifacts(raw: object) -> tuple[dict[str, Any], ...]:
    items = _items(raw, "name")
    for position, item in enumerate(items):
        for member in ("version", "type"):
            if not isinstance(item.get(member, ""), str):
                raise Malformed(f"[{position}].{member} is not a text")
    return items


def _price(raw: object) -> float:
    return number(raw, 0, 1e15)


def _prices(raw: object) -> dict[str, float]:
    prices: dict[str, float] = {}
    for skill, price in _object(raw).items():
        try:
            prices[skill] = _price(price)
        except Malformed as fault:
            raise Malformed(f"of {shown(skill)}: {fault}") from None
    return prices


def _extra(raw: object) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in _object(raw).items():
        is_json = isinstance(value, str) and value.lstrip().startswith(_BEGINS_JSON)
        try:
            found[name.lower()] = from_json(value) if is_json else value
        except Malformed as fault:
            raise Malformed(f"{EXTRA_PREFIX}{name.upper()}: {fault}") from None
        _check_sendable(found[name.lower()], shown(name))
    return found


def _check_sendable(value: object, place: str) -> None:
    """Raise `Malformed` if *value*, which may have been written in Python, cannot be sent."""
    try:
        encode(value)
    except (TypeError, ValueError, RecursionError) as fault:
        raise Malformed(f"{place} is not JSON: {fault}") from None


def amount(high: float, *, unit: str) -> Kind[float]:
    """How much there is of something, fractions allowed."""
    return Kind(
        expects=f"a number of {unit} from 0 to {high:g}", read=lambda raw: number(raw, 0, high)
    )


def _listed(required: str) -> Callable[[object], tuple[dict[str, Any], ...]]:
    return lambda raw: _items(raw, required)


DEVICES = Kind(
    expects='a JSON list such as [{"type": "gpu", "model": "RTX 4090", "id": "0", '
    '"properties": {"vram_gb": 24}}]',
    read=_listed("type"),
)
SOFTWARE = Kind(
    expects='a JSON object of versions such as {"python": "3.12", "cuda": "12.4"}', read=_software
)
ARTIFACTS = Kind(
    expects='a JSON list such as [{"name": "whisper", "version": "3", "type": "model"}]',
    read=_artifacts,
)
PRICE = Kind(expects="a price, a number from 0", read=_price)
PRICES = Kind(expects='a JSON object of prices from 0 such as {"render": 0.02}', read=_prices)
EXTRA = Kind(expects='a JSON object such as {"zone": "eu-1"}', read=_extra)
