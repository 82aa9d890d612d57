"""Ready jobs are claimed by one engine at a time."""

from collections.abc import Sequence

import attrs
import trio

from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio.storage._base import Storage
from avtomatika_trio.testing._samples import START, a_job, a_ready_job, put
from avtomatika_trio.testing._suite import SetClock, and_break, broken, settled

_LEASE_SECONDS = 30.0


@attrs.define(eq=False)
class _Engine:
    """Claims once, and keeps what it got."""

    storage: Storage
    name: str
    most: int = 10
    got: Sequence[Job] = ()
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    @property
    def claimed(self) -> list[str]:
        return [job.id for job in self.got]

    async def claim(self) -> None:
        with self.scope:
            self.got = await self.storage.claim_ready(
                self.name, most=self.most, lease_seconds=_LEASE_SECONDS
            )


async def _claim(storage: Storage, name: str = "one", most: int = 10) -> list[Job]:
    """What can be claimed now, without waiting for more."""
    engine = _Engine(storage, name, most)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.claim)
        await settled(storage)
        engine.scope.cancel()
    return list(engine.got)


async def _claimed(storage: Storage, name: str = "one", most: int = 10) -> list[str]:
    return [job.id for job in await _claim(storage, name, most)]


def _pass(seconds: float, clock: SetClock, mock_clock: trio.testing.MockClock) -> None:
    """Let time pass, for those who go by the storage's and for those who go by Trio's."""
    clock.time += seconds
    mock_clock.jump(seconds)


class ClaimPromises:
    """While a claim is held, nobody else is given this revision of the job."""

    async def test_ready_jobs_are_claimed_first_come_first_served(self, storage: Storage) -> None:
        names = [f"j{at}" for at in (3, 1, 2)]
        for name in names:
            await storage.commit(put(a_ready_job(name)))
        assert await _claimed(storage, most=2) == names[:2]
        assert await _claimed(storage, most=2) == names[2:]
        assert await _claimed(storage) == []

    async def test_only_jobs_whose_handler_can_run_are_offered(self, storage: Storage) -> None:
        for status in JobStatus:
            await storage.commit(put(a_job(f"{status}", status=status)))
            await storage.commit(put(a_job(f"{status}-later", status=status, ready_at=START)))
        assert await _claimed(storage, most=100) == ["pending", "running"]

    async def test_a_claim_waits_for_a_ready_job(self, storage: Storage) -> None:
        engine = _Engine(storage, "one")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.claim)
            await settled(storage)
            await storage.commit(put(a_job("waits")))
            await broken(storage, and_break(put(a_ready_job("undone"))))
            await settled(storage)
            assert engine.claimed == []
            await storage.commit(put(a_ready_job()))
        assert engine.claimed == ["j"]
        assert engine.got[0] == a_ready_job()

    async def test_each_job_goes_to_one_of_several_engines(self, storage: Storage) -> None:
        engines = [_Engine(storage, f"e{at}", most=1) for at in range(5)]
        async with trio.open_nursery() as nursery:
            for engine in engines:
                nursery.start_soon(engine.claim)
            await settled(storage)
            await storage.commit(put(*(a_ready_job(f"j{at}") for at in range(3))))
            await settled(storage)
            assert sorted(name for it in engines for name in it.claimed) == ["j0", "j1", "j2"]
            await storage.commit(put(a_ready_job("j3")))
            await storage.commit(put(a_ready_job("j4")))
        assert sorted(name for it in engines for name in it.claimed) == [
            f"j{at}" for at in range(5)
        ]

    async def test_only_the_newest_revision_is_offered(self, storage: Storage) -> None:
        await storage.commit(put(a_ready_job("a"), a_ready_job("b")))
        newer = a_ready_job("a", revision=2, status=JobStatus.RUNNING)
        await storage.commit(put(newer))
        await storage.commit(put(a_job("b", revision=2, status=JobStatus.CANCELLED)))
        assert await _claim(storage) == [newer]
        assert await _claim(storage) == []

    async def test_the_next_revision_can_be_claimed_while_the_last_is_held(
        self, storage: Storage
    ) -> None:
        first = a_ready_job()
        await storage.commit(put(first))
        assert await _claim(storage) == [first]
        second = a_ready_job(revision=2, status=JobStatus.RUNNING)
        await storage.commit(put(second))
        assert await _claim(storage, "two") == [second]
        storage.settle_claim(first)
        storage.release_claim(first)
        assert await _claim(storage, "three") == []

    async def test_a_settled_claim_is_not_offered_again(
        self, storage: Storage, clock: SetClock, mock_clock: trio.testing.MockClock
    ) -> None:
        await storage.commit(put(a_ready_job()))
        [job] = await _claim(storage)
        storage.settle_claim(job)
        _pass(10 * _LEASE_SECONDS, clock, mock_clock)
        assert await _claimed(storage) == []

    async def test_a_released_claim_is_offered_again_at_once(self, storage: Storage) -> None:
        await storage.commit(put(a_ready_job()))
        [job] = await _claim(storage)
        engine = _Engine(storage, "two")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.claim)
            await settled(storage)
            storage.release_claim(job)
        assert list(engine.got) == [job]

    async def test_a_claim_that_is_left_is_for_others(self, storage: Storage) -> None:
        strange = [a_ready_job(f"x{at}", blueprint="strange") for at in range(3)]
        await storage.commit(put(strange[0], a_ready_job("a"), strange[1]))
        for job in await _claim(storage):
            if job.blueprint == "strange":
                storage.leave_claim(job, "one")
        await storage.commit(put(strange[2], a_ready_job("b")))
        assert await _claimed(storage) == ["b"]
        assert sorted(await _claimed(storage, "two")) == ["x0", "x1", "x2"]

    async def test_one_that_waits_is_given_what_another_has_left(self, storage: Storage) -> None:
        waiting = _Engine(storage, "two")
        [job] = await self._one_claimed(storage)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting.claim)
            await settled(storage)
            assert waiting.claimed == []
            storage.leave_claim(job, "one")
        assert waiting.claimed == ["j"]

    @staticmethod
    async def _one_claimed(storage: Storage) -> list[Job]:
        await storage.commit(put(a_ready_job()))
        return await _claim(storage)

    async def test_a_job_that_has_changed_is_not_offered_on_release(self, storage: Storage) -> None:
        await storage.commit(put(a_ready_job()))
        [job] = await _claim(storage)
        await storage.commit(put(a_job(revision=2, status=JobStatus.CANCELLED)))
        storage.release_claim(job)
        assert await _claimed(storage) == []

    async def test_a_claim_that_is_not_renewed_ends(
        self, storage: Storage, clock: SetClock, mock_clock: trio.testing.MockClock
    ) -> None:
        await storage.commit(put(a_ready_job()))
        assert await _claimed(storage) == ["j"]
        _pass(_LEASE_SECONDS - 1, clock, mock_clock)
        assert await _claimed(storage, "two") == []
        _pass(2, clock, mock_clock)
        assert await _claimed(storage, "two") == ["j"]

    async def test_one_that_waits_is_given_a_claim_that_ends(
        self, storage: Storage, clock: SetClock, mock_clock: trio.testing.MockClock
    ) -> None:
        waiting = _Engine(storage, "two")
        async with trio.open_nursery() as nursery:
            first = _Engine(storage, "one")
            nursery.start_soon(first.claim)
            await settled(storage)
            nursery.start_soon(waiting.claim)
            await settled(storage)
            await storage.commit(put(a_ready_job()))
            await settled(storage)
            assert [first.claimed, waiting.claimed].count(["j"]) == 1
            _pass(_LEASE_SECONDS + 1, clock, mock_clock)
            await settled(storage)
            nursery.cancel_scope.cancel()
        assert (first.claimed, waiting.claimed) == (["j"], ["j"])

    async def test_a_renewed_claim_is_held(
        self, storage: Storage, clock: SetClock, mock_clock: trio.testing.MockClock
    ) -> None:
        await storage.commit(put(a_ready_job("a")))
        assert await _claimed(storage, "one") == ["a"]
        await storage.commit(put(a_ready_job("b")))
        assert await _claimed(storage, "two") == ["b"]
        for _ in range(5):
            _pass(_LEASE_SECONDS / 2, clock, mock_clock)
            storage.renew_claims("one", lease_seconds=_LEASE_SECONDS)
        assert await _claimed(storage, "three") == ["b"]

    async def test_a_cancelled_claim_claims_nothing(self, storage: Storage) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await storage.claim_ready("one", most=1, lease_seconds=_LEASE_SECONDS)
        engine = _Engine(storage, "one")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.claim)
            await settled(storage)
            nursery.start_soon(storage.commit, put(a_ready_job()))
            engine.scope.cancel()
        assert [*engine.claimed, *await _claimed(storage, "two")] == ["j"]

    async def test_a_long_backlog_is_claimed_in_order(self, storage: Storage) -> None:
        names = [f"j{at:04}" for at in range(2500)]
        await storage.commit(put(*(a_ready_job(name) for name in names)))
        await storage.commit(put(a_job("j2400", revision=2, status=JobStatus.CANCELLED)))
        names.remove("j2400")
        claimed: list[str] = []
        while got := await storage.claim_ready("one", most=400, lease_seconds=_LEASE_SECONDS):
            claimed += [job.id for job in got]
            if len(claimed) >= len(names):
                break
        assert claimed == names
