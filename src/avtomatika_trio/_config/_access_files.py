"""`workers.toml` and `clients.toml`: who may talk, a section each.

All problems are told at once, each with its file and line.  No message shows a token.
"""

import difflib
import re
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, Generic, TypeVar

import attrs

from avtomatika_trio._config._file import Document, read_document
from avtomatika_trio._config._kinds import SECRET, Malformed, Secret, shown, text_of, whole
from avtomatika_trio._core.access import Role
from avtomatika_trio._core.json_values import NotJson, copy_json
from avtomatika_trio._wire.token_hashes import is_token_hash
from avtomatika_trio.errors import ConfigError

#: Ten thousand workers fit many times.
_LARGEST_BYTES = 16 * 1024**2

#: Two tokens at a time: the one that is used, and the one that takes its place.
_MOST_TOKENS = 2

#: Shorter tokens can be guessed by whoever has got hold of their hashes.
_SHORT_TOKEN = 16

_HASH_PREFIX = "hs256$"
_WILDCARD = re.compile(r"[*?\[]")
_WORKER_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_PATTERN = re.compile(r"([A-Za-z0-9_*?-]|\[!?[A-Za-z0-9_-]+\]){1,128}")
_CLIENT_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")

#: How releases of the original marked a wildcard.
_PATTERN_MARK = "pattern:"

_TOKEN_KEYS = ("token", "token_hash", "tokens")

E = TypeVar("E", "WorkerEntry", "ClientEntry")


@attrs.frozen(kw_only=True)
class WorkerEntry:
    """A section of `workers.toml`."""

    name: str
    """A worker id or a wildcard."""
    tokens: tuple[Secret, ...] = ()
    hashes: tuple[str, ...] = ()
    expires_at: float | None = None
    """Unix seconds."""
    skills: tuple[str, ...] | None = None
    description: str = ""


@attrs.frozen(kw_only=True)
class ClientEntry:
    """A section of `clients.toml`."""

    name: str
    tokens: tuple[Secret, ...] = ()
    hashes: tuple[str, ...] = ()
    expires_at: float | None = None
    plan: str | None = None
    monthly_attempts: int | None = None
    roles: tuple[Role, ...] = (Role.SUBMITTER,)
    params: dict[str, Any] = attrs.field(factory=dict)
    """Every key that has no meaning here."""
    description: str = ""


@attrs.frozen(kw_only=True)
class AccessFile(Generic[E]):
    """What a file says, and what is odd about it."""

    entries: tuple[E, ...] = ()
    warnings: tuple[str, ...] = ()


def read_workers_file(path: Path) -> AccessFile[WorkerEntry]:
    """Read `workers.toml`.

    Raises:
        ConfigError: with every problem.
    """
    return _read(path, _worker)


def read_clients_file(path: Path) -> AccessFile[ClientEntry]:
    """Read `clients.toml`.

    Raises:
        ConfigError: with every problem.
    """
    return _read(path, _client)


@attrs.define
class _Section:
    """One section while it is read; collects what is wrong with it."""

    document: Document
    name: str
    values: Mapping[str, object]
    problems: list[str] = attrs.Factory(list)
    warnings: list[str] = attrs.Factory(list)

    def place(self, *key: str) -> str:
        return self.document.place(self.name, *key)

    def fault(self, text: str, *key: str) -> None:
        where = f", {key[0]}" if key else f", [{shown(self.name)[1:-1]}]"
        self.problems.append(f"{self.place(*key)}{where}: {text}")

    def warn(self, text: str) -> None:
        self.warnings.append(f"{self.place()}, [{self.name}]: {text}")

    def get(self, key: str, read: Callable[[object], Any], default: Any = None) -> Any:
        """What *read* makes of the value of *key*."""
        if key not in self.values:
            return default
        try:
            return read(self.values[key])
        except Malformed as fault:
            self.fault(str(fault), key)
            return default


def _read(path: Path, make: Callable[[_Section], E]) -> AccessFile[E]:
    document = read_document(path, largest_bytes=_LARGEST_BYTES)
    if document.problems:
        raise ConfigError(tuple(_explained(path, it) for it in document.problems))
    entries: list[E] = []
    problems: list[str] = []
    warnings: list[str] = []
    for name, values in document.values.items():
        if not isinstance(values, Mapping):
            where = document.place(name)
            problems.append(f"{where}: {shown(name)} is in no section; write [ID] above it")
            continue
        section = _Section(document=document, name=name, values=values)
        entries.append(make(section))
        problems += section.problems
        warnings += section.warnings
    problems += _twins(document, entries)
    warnings += _shared_tokens(document, entries)
    if any(it.tokens for it in entries):
        warnings += _open_to_others(path)
    if problems:
        raise ConfigError(tuple(problems))
    return AccessFile(entries=tuple(entries), warnings=tuple(warnings))


def _explained(path: Path, problem: str) -> str:
    """*problem* of the file as a whole; a wildcard without quotes is not even TOML."""
    with suppress(OSError, UnicodeDecodeError):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            header = re.fullmatch(r"\s*\[([A-Za-z0-9_*?:-]*[*?][A-Za-z0-9_*?:-]*)\]\s*(#.*)?", line)
            if header:
                return (
                    f'{path} line {number}: [{header[1]}] is a wildcard; quote it: ["{header[1]}"]'
                )
    return problem


def _open_to_others(path: Path) -> list[str]:
    with suppress(OSError):
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return [f"{path}: others can read the tokens in it; chmod 600 {path}"]
    return []


def _twins(document: Document, entries: list[E]) -> list[str]:
    """Sections of one name: `pattern:gpu-*` and `gpu-*`."""
    names = [it.name for it in entries]
    return [
        f"{document.path}: there are two sections for {shown(name)}; remove one"
        for name in dict.fromkeys(names)
        if name and names.count(name) > 1
    ]


def _shared_tokens(document: Document, entries: list[E]) -> list[str]:
    owners: dict[str, list[str]] = {}
    for entry in entries:
        for token in dict.fromkeys(entry.tokens):
            owners.setdefault(token.reveal(), []).append(entry.name)
    return [
        f"{document.path}: {' and '.join(f'[{it}]' for it in names)} have the same token; give"
        " each one of its own"
        for names in owners.values()
        if len(names) > 1
    ]


# Sections.


def _worker(section: _Section) -> WorkerEntry:
    known = (*_TOKEN_KEYS, "expires_at", "skills", "description")
    name = section.name.removeprefix(_PATTERN_MARK)
    nested = [key for key, value in section.values.items() if isinstance(value, Mapping)]
    if nested or "." in name:
        dotted = f"{name}.{nested[0]}" if nested else name
        section.fault(f"worker ids have no dots: {shown(dotted)}; use - or _ instead")
    elif _WILDCARD.search(name):
        if _PATTERN.fullmatch(name) is None:
            section.fault("is no wildcard for worker ids; use letters, digits, _ - and * ? [...]")
    elif _WORKER_ID.fullmatch(name) is None:
        section.fault("is no worker id: 1 to 128 letters, digits, _ or -, or a quoted wildcard")
    for key in section.values:
        if key not in known and key not in nested:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
            section.fault(f"is an unknown key{hint}", key)
    tokens, hashes = _tokens(section)
    if not tokens and not hashes and not nested and not section.problems:
        section.warn("has no token, so that only a client certificate lets it in")
    return WorkerEntry(
        name=name,
        tokens=tokens,
        hashes=hashes,
        expires_at=section.get("expires_at", _moment),
        skills=section.get("skills", _skills),
        description=section.get("description", _description, ""),
    )


def _client(section: _Section) -> ClientEntry:
    if _CLIENT_ID.fullmatch(section.name) is None:
        section.fault("is no client id: 1 to 128 letters, digits, _ . or -")
    tokens, hashes = _tokens(section)
    if not tokens and not hashes and not section.problems:
        section.fault("has no token; add token or token_hash")
    return ClientEntry(
        name=section.name,
        tokens=tokens,
        hashes=hashes,
        expires_at=section.get("expires_at", _moment),
        plan=section.get("plan", text_of),
        monthly_attempts=section.get("monthly_attempts", whole(0, 10**15).parse),
        roles=section.get("roles", _roles, (Role.SUBMITTER,)),
        params=_params(section),
        description=section.get("description", _description, ""),
    )


def _tokens(section: _Section) -> tuple[tuple[Secret, ...], tuple[str, ...]]:
    given = [key for key in _TOKEN_KEYS if key in section.values]
    if len(given) > 1:
        section.fault(f"has both {given[0]} and {given[1]}; keep one", given[1])
        return (), ()
    hashes: tuple[str, ...] = section.get("token_hash", _token_hashes, ())
    tokens: tuple[Secret, ...] = section.get("tokens", _token_list, ())
    if "token" in section.values:
        tokens = section.get("token", lambda raw: (_token(raw),), ())
    if any(len(it.reveal()) < _SHORT_TOKEN for it in tokens):
        section.warn(
            f"has a token of less than {_SHORT_TOKEN} characters, which can be guessed;"
            " `avtomatika token rotate` makes a better one"
        )
    return tokens, hashes


def _token(raw: object) -> Secret:
    token = SECRET.parse(raw)
    if token.reveal().startswith(_HASH_PREFIX):
        raise Malformed("it is the hash of a token; write it as token_hash")
    return token


def _token_list(raw: object) -> tuple[Secret, ...]:
    if not isinstance(raw, list) or not 1 <= len(raw) <= _MOST_TOKENS:
        raise Malformed('it is not a list of one or two tokens, such as ["new", "old"]')
    return tuple(_token(it) for it in raw)


def _token_hashes(raw: object) -> tuple[str, ...]:
    listed = raw if isinstance(raw, list) else [raw]
    if not 1 <= len(listed) <= _MOST_TOKENS:
        raise Malformed("it is not one hash, or a list of one or two")
    if not all(isinstance(it, str) and is_token_hash(it) for it in listed):
        raise Malformed("it is not the hash of a token; `avtomatika token hash` makes one")
    return tuple(listed)


def _moment(raw: object) -> float:
    if isinstance(raw, str):
        try:
            raw = datetime.fromisoformat(raw)
        except ValueError:
            raise Malformed(
                f"{shown(raw)} is no date and time; write 2027-01-31T00:00:00Z"
            ) from None
    if not isinstance(raw, datetime) or raw.tzinfo is None:
        fault = "it has no time zone" if isinstance(raw, date) else "it is no date and time"
        raise Malformed(f"{fault}; write it as 2027-01-31T00:00:00Z, with Z or an offset")
    if not 2000 <= raw.year <= 9000:
        raise Malformed(f"the year {raw.year} makes no sense; write it as 2027-01-31T00:00:00Z")
    return raw.timestamp()


def _description(raw: object) -> str:
    """For people, so that it may have several lines."""
    if not isinstance(raw, str):
        raise Malformed(f"{shown(raw)} is not a text")
    return raw


def _skills(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list) or not raw:
        raise Malformed('it is not a list of skills, such as ["resize"]')
    return tuple(dict.fromkeys(text_of(it) for it in raw))


def _roles(raw: object) -> tuple[Role, ...]:
    if not isinstance(raw, list) or not raw:
        raise Malformed('it is not a list of roles, such as ["submitter"]')
    roles = []
    for it in raw:
        try:
            roles.append(Role(text_of(it).lower()))
        except ValueError as fault:
            if isinstance(fault, Malformed):
                raise
            raise Malformed(f"{shown(it)} is no role; there are {', '.join(Role)}") from None
    return tuple(dict.fromkeys(roles))


_CLIENT_KEYS = (*_TOKEN_KEYS, "expires_at", "plan", "monthly_attempts", "roles", "description")


def _params(section: _Section) -> dict[str, Any]:
    """Everything else, and what stands in a table `params`."""
    rest = {key: it for key, it in section.values.items() if key not in _CLIENT_KEYS}
    nested = rest.pop("params", {})
    if not isinstance(nested, Mapping):
        section.fault("it is not a table; write [ID.params], or its keys without it", "params")
        nested = {}
    for key, value in rest.items():
        if isinstance(value, Mapping) and any(it in value for it in _TOKEN_KEYS):
            # A section of another client, which would hand its token to the handlers of this one.
            dotted = f"{section.name}.{key}"
            section.fault(f'a name with a dot must be quoted: ["{dotted}"]', key)
        if key in nested:
            section.fault("is also in params; keep one of them", key)
        near = difflib.get_close_matches(key, _CLIENT_KEYS, n=1, cutoff=0.8)
        if near:
            section.warn(f"{key!r} is one of its params; did you mean {near[0]!r}?")
    try:
        params = copy_json(_plain({**rest, **nested}), "params")
    except NotJson as fault:
        section.fault(f"{fault}: handlers get it as JSON")
        return {}
    assert isinstance(params, dict)
    return params


def _plain(value: Any) -> Any:
    """TOML's dates and times as text."""
    if isinstance(value, Mapping):
        return {key: _plain(it) for key, it in value.items()}
    if isinstance(value, list):
        return [_plain(it) for it in value]
    return value.isoformat() if isinstance(value, date | time) else value
