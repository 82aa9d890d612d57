"""Who may talk to an orchestrator: the credentials of workers and clients, and their changes.

One record holds all of them.  It lives in the storage, so that every orchestrator of it goes
by the same one, and has a generation, which grows with each change.  Tokens are in it as keyed
hashes only.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
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

    def worker(self, worker_id: str) -> WorkerCredential | None:
        """The section for *worker_id*: of that very name, else the first wildcard that fits."""
        fitting = [it for it in self.workers or () if fnmatchcase(worker_id, it.name)]
        return next((it for it in fitting if it.name == worker_id), next(iter(fitting), None))


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
