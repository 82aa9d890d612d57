"""Changes of who may talk, and what follows from them: operations over the ledger.

The rules' names (A1...) are those of ADR 0013.
"""

from collections.abc import Iterable, Sequence

import attrs

from avtomatika_trio._core import attempts
from avtomatika_trio._core.access import (
    AccessSet,
    AuditRow,
    ClientCredential,
    Difference,
    IssuedToken,
    Roster,
    TokenKind,
    Usage,
    WorkerCredential,
    difference,
)
from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio._core.rules import Rules
from avtomatika_trio.errors import QuotaExceeded

#: Of the issued tokens that are over, how many are forgotten when one is issued: more than are
#: issued, so that their number stays bounded.
_FORGOTTEN_AT_ONCE = 10

Workers = tuple[WorkerCredential, ...]
Clients = tuple[ClientCredential, ...]


@attrs.frozen(kw_only=True)
class Applied:
    """What a change of who may talk came to."""

    access: AccessSet
    workers: Difference
    clients: Difference


def open_access(ledger: Ledger, fresh_salt: str) -> AccessSet:
    """Who may talk; in a new storage nobody by a token of its own.

    Args:
        ledger: Where.
        fresh_salt: What tokens will be hashed with if the storage has no salt yet.
    """
    access = ledger.access()
    if access is None:
        access = AccessSet(salt=fresh_salt)
        ledger.put_access(access)
    return access


def apply_first(ledger: Ledger, workers: Workers | None, clients: Clients | None) -> Applied:
    """Take from the files of a starting orchestrator what the storage was never told (rule A1).

    Of what it was told before nothing is changed: the differences say what the files want.
    """
    old = _stored(ledger)
    new = attrs.evolve(
        old,
        workers=workers if old.workers is None else old.workers,
        clients=clients if old.clients is None else old.clients,
    )
    if new != old:
        new = attrs.evolve(new, generation=old.generation + 1)
        ledger.put_access(new)
    return Applied(
        access=new,
        workers=Difference() if workers is None else difference(new.workers, workers),
        clients=Difference() if clients is None else difference(new.clients, clients),
    )


def apply(
    ledger: Ledger, workers: Workers | None, clients: Clients | None, audit: AuditRow
) -> Applied:
    """Take over what the files say, as a whole (rule A2); None leaves its part as it is."""
    old = _stored(ledger)
    new = attrs.evolve(
        old,
        generation=old.generation + 1,
        workers=old.workers if workers is None else workers,
        clients=old.clients if clients is None else clients,
    )
    applied = Applied(
        access=new,
        workers=difference(old.workers, new.workers),
        clients=difference(old.clients, new.clients),
    )
    ledger.put_access(new)
    details = {
        "generation": new.generation,
        "workers": attrs.asdict(applied.workers),
        "clients": attrs.asdict(applied.clients),
    }
    ledger.note_for_audit(attrs.evolve(audit, at=ledger.now, details=details))
    return applied


def _stored(ledger: Ledger) -> AccessSet:
    access = ledger.access()
    assert access is not None, "the storage's access was not opened"
    return access


def withdraw(
    ledger: Ledger,
    instances: Iterable[str],
    rules: Rules,
    known: tuple[Roster, float] | None = None,
) -> int:
    """Give back what workers hold whose credential is not good any more (rule A4).

    Args:
        ledger: Where: in the root, or in any other partition.
        instances: Who may be concerned; each is looked at again.
        rules: When an instance is forgotten.
        known: Who may talk, as the orchestrator knows it, and the root's time, by which
            credentials end; None = as is stored and now (in the root).

    Returns:
        How many attempts were given back.  That counts as nothing, and a worker that is let in
        again in time may have them again.
    """
    roster, now = known or (Roster(_stored(ledger)), ledger.now)
    count = 0
    for instance_id in instances:
        instance = ledger.instance(instance_id)
        if instance is None:
            continue
        if roster.lets_in(instance.worker_id, instance.credential, now):
            continue
        for attempt in ledger.leased(instance_id):
            if attempts.holder_of(ledger, attempt) is not None:
                attempts.unclaim(ledger, attempt, "the worker's credential was withdrawn")
                count += 1
        if not ledger.is_home_of(instance_id):
            ledger.drop_instance(instance_id)
        elif not instance.gone:
            forget_at = ledger.now + rules.forget_seconds
            ledger.put_instance(attrs.evolve(instance, gone=True, due_at=forget_at))
    return count


def spend(ledger: Ledger, client: str, month: str, jobs: int, allowed: int) -> None:
    """Count *jobs* that *client* submits in *month*.

    Raises:
        QuotaExceeded: they are more than it may; nothing is counted.
    """
    usage = ledger.usage(client, month)
    used = 0 if usage is None else usage.jobs
    if used + jobs > allowed:
        raise QuotaExceeded(used, allowed)
    ledger.put_usage(Usage(client=client, month=month, jobs=used + jobs))


def give_back_spent(ledger: Ledger, client: str, month: str, jobs: int) -> None:
    """Take back what `spend` has counted for *jobs* that could not be submitted."""
    usage = ledger.usage(client, month)
    if usage is not None:
        left = max(0, usage.jobs - jobs)
        ledger.put_usage(Usage(client=client, month=month, jobs=left))


def issue(ledger: Ledger, tokens: Sequence[IssuedToken]) -> None:
    """Remember *tokens*, and forget some that are over."""
    for old in ledger.expired_tokens(most=_FORGOTTEN_AT_ONCE):
        ledger.drop_issued_token(old.hash)
    for token in tokens:
        ledger.put_issued_token(token)


def find_token(ledger: Ledger, token_hash: str, kind: TokenKind) -> IssuedToken | None:
    """The issued token with that hash, if it is of *kind* and its time is not over."""
    token = ledger.issued_token(token_hash)
    if token is None or token.kind is not kind or token.expires_at <= ledger.now:
        return None
    return token


def exchange(
    ledger: Ledger,
    refresh_hash: str,
    worker_id: str,
    fresh: Sequence[IssuedToken],
    roster: Roster,
) -> str | None:
    """Exchange a refresh token, which is good for that once, for *fresh* tokens.

    Args:
        ledger: Where.
        refresh_hash: Of the refresh token.
        worker_id: Who shows it.
        fresh: Are given the credential that it was issued for.
        roster: Who may talk, as the orchestrator knows it: a fresh token is looked at again at
            each use, so that this need not be the newest.

    Returns:
        Why not, or None.
    """
    old = find_token(ledger, refresh_hash, TokenKind.REFRESH)
    if old is None:
        return "not found"
    if old.worker_id != worker_id:
        return "owner mismatch"
    ledger.drop_issued_token(refresh_hash)
    if not roster.lets_in(worker_id, old.credential, ledger.now):
        return "withdrawn"
    issue(ledger, [attrs.evolve(it, credential=old.credential) for it in fresh])
    return None
