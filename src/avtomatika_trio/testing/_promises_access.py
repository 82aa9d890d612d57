"""Who may talk, quotas, issued tokens and the audit."""

import attrs

from avtomatika_trio._core.access import (
    AccessSet,
    AuditRow,
    ClientCredential,
    IssuedToken,
    TokenKind,
    Usage,
    WorkerCredential,
)
from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio._core.submission import Submission
from avtomatika_trio.storage._base import Storage
from avtomatika_trio.testing._samples import START
from avtomatika_trio.testing._suite import SetClock, and_break, broken

ACCESS = AccessSet(
    salt="00" * 16,
    generation=3,
    workers=(WorkerCredential(name="w1", hashes=("h1", "h2"), skills=("a",), expires_at=5.5),),
    clients=(ClientCredential(name="c1", hashes=("h3",), params={"languages": ["en"]}),),
)


def an_issued_token(token_hash: str, expires_at: float = START + 10) -> IssuedToken:
    """A token of worker `w1`."""
    return IssuedToken(
        hash=token_hash,
        kind=TokenKind.ACCESS,
        worker_id="w1",
        credential="h1",
        expires_at=expires_at,
    )


def a_submission(name: str, expires_at: float = START + 10) -> Submission:
    """Of client `c1`, which has made a job `j` with it."""
    return Submission(id=name, client="c1", request="asked", job_ids=("j",), expires_at=expires_at)


class AccessPromises:
    """What stands for who may talk is stored as everything else is."""

    async def test_at_first_nobody_has_said_who_may_talk(self, storage: Storage) -> None:
        assert await storage.access() is None
        assert await storage.commit(lambda ledger: ledger.access()) is None

    async def test_a_set_of_credentials_comes_back_as_it_was(self, storage: Storage) -> None:
        await storage.commit(lambda ledger: ledger.put_access(ACCESS))
        assert await storage.access() == ACCESS
        assert await storage.commit(lambda ledger: ledger.access()) == ACCESS

    async def test_the_newest_set_counts(self, storage: Storage) -> None:
        for generation in range(4, 9):
            newer = attrs.evolve(ACCESS, generation=generation)
            await storage.commit(lambda ledger, it=newer: ledger.put_access(it))  # type: ignore[misc]
            seen = await storage.access()
            assert seen is not None
            assert seen.generation == generation

    async def test_a_broken_change_of_credentials_has_no_effect(self, storage: Storage) -> None:
        await storage.commit(lambda ledger: ledger.put_access(ACCESS))
        newer = attrs.evolve(ACCESS, generation=4)
        await broken(storage, and_break(lambda ledger: ledger.put_access(newer)))
        assert await storage.access() == ACCESS
        assert await storage.commit(lambda ledger: ledger.access()) == ACCESS

    async def test_usage_is_kept_by_client_and_month(self, storage: Storage) -> None:
        def spend(ledger: Ledger) -> None:
            for client, month, jobs in (
                ("c", "2026-01", 1),
                ("c", "2026-02", 2),
                ("d", "2026-01", 3),
            ):
                ledger.put_usage(Usage(client=client, month=month, jobs=jobs))
            ledger.put_usage(Usage(client="c", month="2026-01", jobs=7))

        await storage.commit(spend)
        found = await storage.commit(
            lambda ledger: [ledger.usage("c", "2026-01"), ledger.usage("d", "2026-02")]
        )
        assert found == [Usage(client="c", month="2026-01", jobs=7), None]

    async def test_broken_usage_is_not_counted(self, storage: Storage) -> None:
        usage = Usage(client="c", month="2026-01", jobs=7)
        await broken(storage, and_break(lambda ledger: ledger.put_usage(usage)))
        assert await storage.commit(lambda ledger: ledger.usage("c", "2026-01")) is None

    async def test_issued_tokens_end_in_order(self, storage: Storage, clock: SetClock) -> None:
        def issue(ledger: Ledger) -> None:
            for name, at in (("late", 9.0), ("early", 5.0), ("later", 20.0)):
                ledger.put_issued_token(an_issued_token(name, START + at))

        await storage.commit(issue)
        clock.time = START + 9
        ended = await storage.commit(lambda ledger: ledger.expired_tokens(most=5))
        assert [it.hash for it in ended] == ["early", "late"]
        first = await storage.commit(lambda ledger: ledger.expired_tokens(most=1))
        assert [it.hash for it in first] == ["early"]

    async def test_a_dropped_token_is_gone(self, storage: Storage) -> None:
        await storage.commit(lambda ledger: ledger.put_issued_token(an_issued_token("t")))
        assert await storage.commit(lambda ledger: ledger.issued_token("t")) == an_issued_token("t")

        def drop(ledger: Ledger) -> None:
            ledger.drop_issued_token("t")
            ledger.drop_issued_token("nobody's")

        await broken(storage, and_break(drop))
        assert await storage.commit(lambda ledger: ledger.issued_token("t")) is not None
        await storage.commit(drop)
        assert await storage.commit(lambda ledger: ledger.issued_token("t")) is None

    async def test_submissions_end_in_order(self, storage: Storage, clock: SetClock) -> None:
        def submit(ledger: Ledger) -> None:
            for name, at in (("late", 9.0), ("early", 5.0), ("later", 20.0), ("moved", 1.0)):
                ledger.put_submission(a_submission(name, START + at))
            ledger.put_submission(a_submission("moved", START + 30))

        await storage.commit(submit)
        clock.time = START + 9
        ended = await storage.commit(lambda ledger: ledger.expired_submissions(most=5))
        assert [it.id for it in ended] == ["early", "late"]
        first = await storage.commit(lambda ledger: ledger.expired_submissions(most=1))
        assert [it.id for it in first] == ["early"]

    async def test_a_dropped_submission_is_gone(self, storage: Storage) -> None:
        stored = a_submission("s")
        await broken(storage, and_break(lambda ledger: ledger.put_submission(stored)))
        assert await storage.commit(lambda ledger: ledger.submission("s")) is None
        await storage.commit(lambda ledger: ledger.put_submission(stored))
        assert await storage.commit(lambda ledger: ledger.submission("s")) == stored

        def drop(ledger: Ledger) -> None:
            ledger.drop_submission("s")
            ledger.drop_submission("nobody's")

        await broken(storage, and_break(drop))
        assert await storage.commit(lambda ledger: ledger.submission("s")) == stored
        await storage.commit(drop)
        assert await storage.commit(lambda ledger: ledger.submission("s")) is None

    async def test_the_audit_is_numbered_in_commit_order(self, storage: Storage) -> None:
        rows = [
            AuditRow(at=START, who="root", action=f"a{at}", origin="127.0.0.1", details={"n": at})
            for at in range(5)
        ]
        for row in rows:
            await storage.commit(lambda ledger, it=row: ledger.note_for_audit(it))  # type: ignore[misc]
            await broken(storage, and_break(lambda ledger: ledger.note_for_audit(rows[0])))
        found = await storage.audit()
        assert [it.row for it in found] == rows
        assert [it.row for it in await storage.audit(after=found[1].number, limit=2)] == rows[2:4]
