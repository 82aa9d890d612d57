"""Who may talk, at the level of operations: the rules A1, A2, A4 and A6, and their races."""

from collections.abc import Callable
from functools import partial

import pytest
from tests.delivery.scene import Scene

from avtomatika_trio._core.access import (
    CERTIFICATE,
    GLOBAL,
    AuditRow,
    ClientCredential,
    IssuedToken,
    Roster,
    TokenKind,
    WorkerCredential,
)
from avtomatika_trio._core.admission import (
    Applied,
    apply,
    apply_first,
    exchange,
    find_token,
    issue,
    open_access,
    spend,
    withdraw,
)
from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio._core.task import AttemptStatus, TaskStatus
from avtomatika_trio.errors import QuotaExceeded

ROW = AuditRow(at=0, who="root", action="reload_credentials", origin="here")
OLD = (WorkerCredential(name="w", hashes=("old",)),)
NEW = (WorkerCredential(name="w", hashes=("new",)), WorkerCredential(name="x", hashes=("x",)))


def reload(scene: Scene, *workers: WorkerCredential) -> Applied:
    scene.run(partial(open_access, fresh_salt="00" * 16))
    return scene.run(partial(apply, workers=workers, clients=None, audit=ROW))


def withdraw_from(scene: Scene, *instances: str) -> int:
    return scene.run(partial(withdraw, instances=instances, rules=scene.rules))


# A1, A2: files and the storage.


def test_of_two_that_start_together_the_first_commit_counts(scene: Scene) -> None:
    scene.run(partial(open_access, fresh_salt="aa" * 16))
    scene.run(partial(open_access, fresh_salt="bb" * 16))
    first = scene.run(partial(apply_first, workers=OLD, clients=None))
    second = scene.run(partial(apply_first, workers=NEW, clients=None))
    assert (first.access.generation, first.access.salt) == (1, "aa" * 16)
    assert second.access == first.access
    assert (second.workers.changed, second.workers.added) == (("w",), ("x",))
    assert not first.workers


def test_a_second_kind_of_file_is_applied_when_it_first_comes(scene: Scene) -> None:
    scene.run(partial(open_access, fresh_salt="aa" * 16))
    scene.run(partial(apply_first, workers=OLD, clients=None))
    client = ClientCredential(name="c", hashes=("c",))
    applied = scene.run(partial(apply_first, workers=NEW, clients=(client,)))
    assert applied.access.workers == OLD
    assert applied.access.clients == (client,)
    assert applied.access.generation == 2
    assert not applied.clients


def test_an_empty_file_is_a_file(scene: Scene) -> None:
    scene.run(partial(open_access, fresh_salt="aa" * 16))
    assert scene.run(partial(apply_first, workers=(), clients=None)).access.workers == ()
    assert scene.run(partial(apply_first, workers=OLD, clients=None)).access.workers == ()


def test_each_reload_is_a_generation_and_a_row_of_the_audit(scene: Scene) -> None:
    assert reload(scene, *OLD).access.generation == 1
    applied = reload(scene, *NEW)
    assert applied.access.generation == 2
    assert (applied.workers.added, applied.workers.changed) == (("x",), ("w",))
    assert reload(scene, *NEW).access.generation == 3


# A4: what a withdrawn credential holds.


@pytest.mark.parametrize("credential", ["old", GLOBAL])
def test_what_is_not_good_any_more_is_given_back_and_counts_as_nothing(
    scene: Scene, credential: str
) -> None:
    scene.job()
    scene.worker(credential=credential)
    wire = scene.take()
    reload(scene, *NEW)
    assert withdraw_from(scene, "i1") == 1
    assert scene.attempt(wire).status is AttemptStatus.UNCLAIMED
    task = scene.task()
    assert (task.status, task.lost, task.returned, task.failures) == (TaskStatus.QUEUED, 0, 0, 0)
    assert scene.poll(poll=2) == []  # it is gone until it is heard of again
    assert withdraw_from(scene, "i1") == 0


@pytest.mark.parametrize("credential", ["new", CERTIFICATE, ""])
def test_what_is_good_is_kept_though_it_was_looked_at(scene: Scene, credential: str) -> None:
    """It may have registered anew between the look and this commit."""
    scene.job()
    scene.worker(credential=credential)
    wire = scene.take()
    reload(scene, *NEW)
    assert withdraw_from(scene, "i1", "unheard-of") == 0
    assert scene.attempt(wire).status is AttemptStatus.LEASED


def test_one_that_is_let_in_again_has_again_what_nobody_else_has(scene: Scene) -> None:
    scene.job()
    scene.worker(credential="old")
    wire = scene.take()
    reload(scene, *NEW)
    withdraw_from(scene, "i1")
    reload(scene, *OLD)
    scene.worker(credential="old")
    scene.beat(wire, last_poll=1)
    assert scene.attempt(wire).status is AttemptStatus.LEASED
    assert scene.report(wire)["status"] == "accepted"


def test_a_late_heartbeat_does_not_bring_the_lease_back_while_another_has_it(
    scene: Scene,
) -> None:
    scene.job()
    scene.worker(credential="old")
    wire = scene.take()
    reload(scene, *NEW)
    withdraw_from(scene, "i1")
    scene.worker("i2", "x", credential="x")
    other = scene.take("i2")
    scene.beat(wire, last_poll=1)
    assert scene.attempt(wire).status is AttemptStatus.UNCLAIMED
    assert scene.attempt(other).status is AttemptStatus.LEASED
    assert withdraw_from(scene, "i1", "i2") == 0


# Quotas.


def test_a_quota_is_spent_whole_or_not_at_all(scene: Scene) -> None:
    scene.run(partial(spend, client="c", month="2026-01", jobs=3, allowed=4))
    with pytest.raises(QuotaExceeded) as caught:
        scene.run(partial(spend, client="c", month="2026-01", jobs=2, allowed=4))
    assert (caught.value.used, caught.value.allowed) == (3, 4)
    scene.run(partial(spend, client="c", month="2026-01", jobs=1, allowed=4))
    scene.run(partial(spend, client="c", month="2026-02", jobs=4, allowed=4))
    scene.run(partial(spend, client="d", month="2026-01", jobs=4, allowed=4))


# Issued tokens.


def a_token(scene: Scene, name: str, kind: TokenKind, credential: str = "old") -> IssuedToken:
    return IssuedToken(
        hash=name,
        kind=kind,
        worker_id="w",
        credential=credential,
        expires_at=scene.time + 100,
    )


def refresh_of(scene: Scene, name: str, fresh: list[IssuedToken]) -> Callable[[Ledger], str | None]:
    """The exchange of the token *name* by worker `w`, as things stand now."""
    access = scene.run(lambda ledger: ledger.access())
    assert access is not None
    return partial(exchange, refresh_hash=name, worker_id="w", fresh=fresh, roster=Roster(access))


def test_a_refresh_is_no_access_and_an_access_no_refresh(scene: Scene) -> None:
    reload(scene, *OLD)
    pair = [a_token(scene, kind.value, kind) for kind in TokenKind]
    scene.run(partial(issue, tokens=pair))
    for name, kind in (("access", TokenKind.REFRESH), ("refresh", TokenKind.ACCESS)):
        assert scene.run(partial(find_token, token_hash=name, kind=kind)) is None
    fresh = [a_token(scene, "next", TokenKind.ACCESS, credential="")]
    wrong = scene.run(refresh_of(scene, "access", fresh))
    assert wrong == "not found"


def test_fresh_tokens_are_for_the_credential_of_the_old_one(scene: Scene) -> None:
    reload(scene, *OLD)
    scene.run(partial(issue, tokens=[a_token(scene, "refresh", TokenKind.REFRESH)]))
    fresh = [a_token(scene, "next", TokenKind.ACCESS, credential="")]
    refresh = refresh_of(scene, "refresh", fresh)
    assert scene.run(refresh) is None
    assert scene.run(refresh) == "not found"

    def find(ledger: Ledger) -> IssuedToken | None:
        return find_token(ledger, "next", TokenKind.ACCESS)

    found = scene.run(find)
    assert found is not None
    assert found.credential == "old"
    scene.wait(101)
    assert scene.run(find) is None


def test_a_withdrawn_credential_has_no_fresh_tokens(scene: Scene) -> None:
    reload(scene, *OLD)
    scene.run(partial(issue, tokens=[a_token(scene, "refresh", TokenKind.REFRESH)]))
    reload(scene, *NEW)
    fresh = [a_token(scene, "next", TokenKind.ACCESS, credential="")]
    refresh = refresh_of(scene, "refresh", fresh)
    assert scene.run(refresh) == "withdrawn"
    assert scene.run(refresh) == "not found"
