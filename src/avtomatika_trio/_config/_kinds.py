"""What a setting's value may look like: one `Kind` per sort of value.

A kind reads text (the environment, a command line) and what TOML makes of a
value (int, float, bool, list).  Its complaints are about the value alone; which
variable or line it stands in is added by `_load`.
"""

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import attrs

T = TypeVar("T")

_UNITS = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}

# Longer than any sane value; it keeps int() away from numbers it refuses to read.
_MOST_DIGITS = 18

_SHOWN_CHARACTERS = 80

_LARGEST_SECRET_FILE = 64 * 1024


class Malformed(ValueError):
    """The value is not what its kind expects; the text says how.

    Args:
        fault: The text.
        give: What to give instead, where that is more particular than what the kind expects.
    """

    def __init__(self, fault: str, *, give: str | None = None) -> None:
        super().__init__(fault)
        self.give = give


class Secret:
    """A text that is shown only to who asks for it by `reveal`.

    Not an attrs class, so that `attrs.asdict` of settings does not unfold it.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself; never log what this returns."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


@attrs.frozen(kw_only=True)
class Kind(Generic[T]):
    """How to read one sort of value, and how to ask for a better one."""

    expects: str
    """Completes "give ..." in a complaint and stands in the reference table."""

    read: Callable[[object], T]
    """Makes the value, or raises `Malformed` with the fault."""

    def parse(self, raw: object) -> T:
        """The value of *raw*.

        Raises:
            Malformed: with the fault and what to give instead.
        """
        try:
            return self.read(raw)
        except Malformed as fault:
            raise Malformed(f"{fault}; give {fault.give or self.expects}") from None


def shown(raw: object) -> str:
    """*raw* as a complaint quotes it: on one line, never long, nothing nested."""
    if not isinstance(raw, str | int | float):
        return f"a value of type {type(raw).__name__}"
    if isinstance(raw, int) and abs(raw) >= 10**_MOST_DIGITS:
        return "a number that long"
    text = repr(raw)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def text_of(raw: object, *, show: bool = True) -> str:
    """*raw* if it is a usable text, not empty and without control characters.

    Args:
        raw: What was given.
        show: Whether a complaint may quote it.

    Raises:
        Malformed: it is not.
    """
    if not isinstance(raw, str):
        raise Malformed(f"{shown(raw)} is not a text" if show else "it is not a text")
    if not raw.strip():
        raise Malformed("it is empty")
    if re.search(r"[\x00-\x1f\x7f]", raw):
        raise Malformed("it holds a control character")
    return raw


def whole(low: int, high: int, *, unit: str = "") -> Kind[int]:
    """A whole number from *low* to *high*."""
    expects = f"a whole number{unit} from {low} to {high}"

    def read(raw: object) -> int:
        if isinstance(raw, str):
            text = text_of(raw)
            if not re.fullmatch(r"[+-]?[0-9]+", text) or len(text) > _MOST_DIGITS:
                raise Malformed(f"{shown(raw)} is not a whole number")
            raw = int(text)
        if isinstance(raw, bool) or not isinstance(raw, int):
            raise Malformed(f"{shown(raw)} is not a whole number")
        if not low <= raw <= high:
            raise Malformed(f"{shown(raw)} is out of range")
        return raw

    return Kind(expects=expects, read=read)


def number(raw: object, low: float, high: float) -> float:
    """*raw* as a number from *low* to *high*; NaN and infinity are in no range.

    Raises:
        Malformed: it is not.
    """
    if isinstance(raw, str):
        text = text_of(raw)
        if not re.fullmatch(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?", text):
            raise Malformed(f"{shown(raw)} is not a number")
        raw = float(text)
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise Malformed(f"{shown(raw)} is not a number")
    if not low <= raw <= high:
        raise Malformed(f"{shown(raw)} is out of range")
    return float(raw)


def seconds(low: float, high: float) -> Kind[float]:
    """A length of time, in seconds, fractions allowed."""
    return Kind(
        expects=f"a number of seconds from {low:g} to {high:g}",
        read=lambda raw: number(raw, low, high),
    )


def seconds_or_none(low: float, high: float) -> Kind[float | None]:
    """A length of time, or that there is no end to it."""

    def read(raw: object) -> float | None:
        if isinstance(raw, str) and raw.lower() == "none":
            return None
        return number(raw, low, high)

    return Kind(expects=f'a number of seconds from {low:g} to {high:g}, or "none"', read=read)


def size(low: int, high: int) -> Kind[int]:
    """A size in bytes: `1048576` or `1MiB`."""

    def read(raw: object) -> int:
        if isinstance(raw, str):
            match = re.fullmatch(r"([+-]?[0-9]{1,15}) ?([A-Za-z]*)", text_of(raw))
            if match is None or match[2] not in _UNITS:
                raise Malformed(f"{shown(raw)} is not a size")
            count = int(match[1]) * _UNITS[match[2]]
        elif isinstance(raw, int) and not isinstance(raw, bool):
            count = raw
        else:
            raise Malformed(f"{shown(raw)} is not a size")
        if not low <= count <= high:
            raise Malformed(f"{shown(raw)} is out of range")
        return count

    expects = (
        f"bytes, or a whole number of KiB, MiB or GiB, from {in_bytes(low)} to {in_bytes(high)}"
    )
    return Kind(expects=expects, read=read)


def in_bytes(count: int) -> str:
    """*count* bytes in the largest unit that divides it: `1MiB`, `1500`."""
    for unit in ("GiB", "MiB", "KiB"):
        if count and count % _UNITS[unit] == 0:
            return f"{count // _UNITS[unit]}{unit}"
    return str(count)


def one_of(*choices: str, **older: str) -> Kind[str]:
    """One of *choices*, written in any case and with `-` or `_`; *older* names mean one of them."""
    known = {_folded(name): meant for name, meant in older.items()}
    known |= {_folded(choice): choice for choice in choices}

    def read(raw: object) -> str:
        choice = known.get(_folded(text_of(raw).strip()))
        if choice is None:
            raise Malformed(f"{shown(raw)} is not known")
        return choice

    return Kind(expects=f"one of {', '.join(choices)}", read=read)


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")


def _port_or_off(raw: object) -> int | None:
    if raw is False or (isinstance(raw, str) and raw.lower() in {"off", "0"}):
        return None
    return whole(0, 65535).read(raw) or None


def _host(raw: object) -> str:
    text = text_of(raw)
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in bare:
        try:
            ipaddress.IPv6Address(bare)
        except ValueError:
            raise Malformed(f"{shown(raw)} is not a host") from None
    elif bare != text or not re.fullmatch(r"[A-Za-z0-9._-]+", bare):
        raise Malformed(f"{shown(raw)} is not a host")
    return bare


def _secret(raw: object) -> Secret:
    # What cannot stand in an HTTP header would fail later, far from its cause.
    text = raw.reveal() if isinstance(raw, Secret) else text_of(raw, show=False)
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise Malformed("it holds a space or a character outside ASCII")
    return Secret(text)


def _secret_file(raw: object) -> Secret:
    path = text_of(raw)
    try:
        # Opened as bytes and read to a bound: a pipe is fine, an endless device too.
        with Path(path).open("rb") as file:
            content = file.read(_LARGEST_SECRET_FILE + 1)
    except (OSError, ValueError) as fault:  # ValueError: a path the system cannot encode
        reason = getattr(fault, "strerror", None) or "not a path"
        raise Malformed(f"{shown(path)} cannot be read ({reason})") from None
    if len(content) > _LARGEST_SECRET_FILE:
        raise Malformed(f"{shown(path)} is larger than {in_bytes(_LARGEST_SECRET_FILE)}")
    try:
        return _secret(content.decode("ascii", "replace").strip())
    except Malformed as fault:
        raise Malformed(f"of the content of {shown(path)}: {fault}") from None


def _folder(raw: object) -> Path:
    return raw if isinstance(raw, Path) else Path(text_of(raw))


def _file(raw: object) -> Path:
    path = raw if isinstance(raw, Path) else Path(text_of(raw))
    try:
        if path.is_dir():
            raise Malformed(f"{shown(str(path))} is a folder")
        path.open("rb").close()
    except (OSError, ValueError) as fault:
        if isinstance(fault, Malformed):
            raise
        reason = getattr(fault, "strerror", None) or "not a path"
        raise Malformed(f"{shown(str(path))} cannot be read ({reason})") from None
    return path


_SWITCHES = {"true": True, "yes": True, "on": True, "1": True}
_SWITCHES |= {"false": False, "no": False, "off": False, "0": False}


def _switch(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    value = _SWITCHES.get(text_of(raw).strip().lower())
    if value is None:
        raise Malformed(f"{shown(raw)} is neither true nor false")
    return value


def _time_zone(raw: object) -> ZoneInfo:
    if isinstance(raw, ZoneInfo):
        return raw
    try:
        return ZoneInfo(text_of(raw).removeprefix(":"))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Malformed(f"{shown(raw)} is not a time zone that is known") from None


def _worker_id(raw: object) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", text_of(raw)):
        raise Malformed(f"{shown(raw)} is not a worker id")
    return text_of(raw)


def _bucket(raw: object) -> str:
    text = text_of(raw)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]", text) or ".." in text:
        raise Malformed(f"{shown(raw)} is not the name of a bucket")
    return text


def _buckets(raw: object) -> tuple[str, ...]:
    items = raw if isinstance(raw, list | tuple) else text_of(raw).split(",")
    return tuple(_bucket(it.strip() if isinstance(it, str) else it) for it in items)


def is_loopback(host: str) -> bool:
    """Whether *host* can be reached from this machine only.

    Only `localhost` and literal loopback addresses are; a name is not looked up,
    and an empty host means every interface.
    """
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)


BUCKET = Kind(expects="the name of a bucket, 3 to 63 letters, digits, `.` or `-`", read=_bucket)
BUCKETS = Kind(expects="names of buckets, with commas between them", read=_buckets)
TEXT = Kind(expects="a text", read=text_of)
FOLDER = Kind(expects="the path of a folder", read=_folder)
FILE = Kind(expects="the path of a file that can be read", read=_file)
HOST = Kind(expects="a host name or an IP address, without a port", read=_host)
PORT = whole(0, 65535)
PORT_OR_OFF = Kind(expects='a port from 1 to 65535, or "off"', read=_port_or_off)
SECRET = Kind(expects="a token of printable ASCII characters without spaces", read=_secret)
SECRET_FILE = Kind(expects="the path of a file that holds the token", read=_secret_file)
SWITCH = Kind(expects="true or false", read=_switch)
TIME_ZONE = Kind(expects="a name such as UTC or Europe/Berlin", read=_time_zone)
WORKER_ID = Kind(expects="1 to 128 letters, digits, `_` or `-`", read=_worker_id)
LOG_LEVEL = one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOG_FORMAT = one_of("text", "json")
