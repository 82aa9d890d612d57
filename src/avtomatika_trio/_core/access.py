"""Who may talk to an orchestrator: the credentials of workers and clients, and their changes.

One record holds all of them.  It lives in the storage, so that every orchestrator of it goes
by the same one, and has a generation, which grows with each change.  Tokens are in it as keyed
hashes only.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from math import inf
from typing import Any, TypeVar

import attrs


class Role(StrEnum):
    """What a client may do; each role includes those before it."""

    VIEWER = "viewer"  #: look at its own jobs and at blueprints
    SUBMITTER = "submitter"  #: and submit and cancel them
    OPERATOR = "operator"  #: and look at workers, and at everybody's jobs, and cancel these
    ADMIN = "admin"  #: and change who may talk


_RANKS = {role: rank for rank, role in enumerate(Role)}


def includes(roles: Iterable[Role], needed: Role) -> bool:
    """Whether one of *roles* is *needed*, or more.

    >>> includes([Role.OPERATOR], Role.SUBMITTER)
    True
    >>> includes([Role.VIEWER], Role.SUBMITTER)
    False
    """
    return any(_RANKS[role] >= _RANKS[needed] for role in roles)


@attrs.frozen(kw_only=True)
class WorkerCredential:
    """One section of `workers.toml`."""

    name: str
    """A worker id, or a wildcard such as `gpu-*`."""
    hashes: tuple[str, ...] = ()
    """Of its tokens: one, or two while they are being exchanged; none where only a client
    certificate lets it in."""
    expires_at: float | None = None
    """From then on it is refused, whatever it shows (Unix seconds)."""
    skills: tuple[str, ...] | None = None
    """What it may be given; None = anything."""
    description: str = ""


@attrs.frozen(kw_only=True)
class ClientCredential:
    """One section of `clients.toml`."""

    name: str
    hashes: tuple[str, ...] = ()
    expires_at: float | None = None
    plan: str | None = None
    monthly_attempts: int | None = None
    """How many jobs it may submit in a calendar month; None = any number."""
    roles: tuple[Role, ...] = (Role.SUBMITTER,)
    params: dict[str, Any] = attrs.field(factory=dict)
    """Everything else in its section; handlers see it as `client.params`."""
    description: str = ""


@attrs.frozen(kw_only=True)
class AccessSet:
    """All credentials of a storage."""

    salt: str
    """What tokens are hashed with in this installation; hexadecimal."""
    generation: int = 0
    workers: tuple[WorkerCredential, ...] | None = None
    """None = no `workers.toml` was ever applied."""
    clients: tuple[ClientCredential, ...] | None = None


#: What an instance has shown that is no token of its own; hashes of tokens look otherwise.
GLOBAL = "global"
CERTIFICATE = "certificate"


class Roster:
    """An `AccessSet`, indexed.

    Args:
        access: Who may talk.
    """

    def __init__(self, access: AccessSet) -> None:
        self.access = access
        workers = access.workers or ()
        self._by_name = {it.name: it for it in workers}
        self._wildcards = [it for it in workers if any(mark in it.name for mark in "*?[")]
        self.clients = {it.name: it for it in access.clients or ()}
        self.clients_by_hash = {it: one for one in self.clients.values() for it in one.hashes}

    def worker(self, worker_id: str) -> WorkerCredential | None:
        """The section for *worker_id*: of that very name, else the first wildcard that fits."""
        exact = self._by_name.get(worker_id)
        if exact is not None or not self._wildcards:
            return exact
        return next((it for it in self._wildcards if fnmatchcase(worker_id, it.name)), None)

    def lets_in(self, worker_id: str, credential: str, now: float) -> bool:
        """Whether what a worker has once shown is still good.

        Args:
            worker_id: Of the worker.
            credential: See `Instance.credential`.
            now: The storage's time.
        """
        section = self.worker(worker_id)
        if section is None:
            return credential in ("", GLOBAL, CERTIFICATE)
        if is_over(section, now):
            return False
        return credential in ("", CERTIFICATE) or credential in section.hashes

    def next_end(self, now: float) -> float:
        """When the next credential expires; infinity if none will."""
        sections: list[WorkerCredential | ClientCredential] = []
        sections += [*(self.access.workers or ()), *self.clients.values()]
        ends = [it.expires_at for it in sections if it.expires_at is not None]
        return min((at for at in ends if at > now), default=inf)


def is_over(section: "WorkerCredential | ClientCredential", now: float) -> bool:
    """Whether a section has expired at *now*."""
    return section.expires_at is not None and section.expires_at <= now


class TokenKind(StrEnum):
    """What a token that an orchestrator has issued is good for."""

    ACCESS = "access"  #: shown in the place of a worker's own token
    REFRESH = "refresh"  #: exchanged, once, for a new pair


@attrs.frozen(kw_only=True)
class IssuedToken:
    """A short-lived token of a worker."""

    hash: str
    kind: TokenKind
    worker_id: str
    credential: str
    """What it was issued for, see `Instance.credential`; it is valid only as long as that is."""
    expires_at: float


@attrs.frozen(kw_only=True)
class Usage:
    """How many jobs a client has submitted in a month."""

    client: str
    month: str
    """As in `2026-11`, where the installation is."""
    jobs: int


@attrs.frozen(kw_only=True)
class AuditRow:
    """Something that was changed by an administrative call."""

    at: float
    who: str
    """A client id, or `SIGHUP`."""
    action: str
    origin: str
    """The address that it came from."""
    details: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class JobClient:
    """Who submitted a job, as handlers see it."""

    id: str
    plan: str | None = None
    params: dict[str, Any] = attrs.field(factory=dict)

    def __str__(self) -> str:
        return self.id


C = TypeVar("C", WorkerCredential, ClientCredential)


@attrs.frozen(kw_only=True)
class Difference:
    """What is different between two sets of credentials, by name."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def difference(old: Sequence[C] | None, new: Sequence[C] | None) -> Difference:
    """What *new* changes in *old*; two None, or an empty one, are alike."""
    before = {it.name: it for it in old or ()}
    after = {it.name: it for it in new or ()}
    return Difference(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(n for n, it in after.items() if n in before and before[n] != it),
    )
