"""Wake-ups: none is lost, and not everybody wakes for one task."""

from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import attrs
import trio

from avtomatika_trio._core.job import JobStatus
from avtomatika_trio._core.ledger import HistoryRow, Ledger, Progress
from avtomatika_trio._core.task import Lane, TaskStatus
from avtomatika_trio.storage._base import Storage
from avtomatika_trio.testing._samples import START, a_job, a_task, put
from avtomatika_trio.testing._suite import Broken, and_break, broken, settled


@attrs.define(eq=False)
class _Poll:
    """Takes one task like a parked poll does, unless it may not have it."""

    storage: Storage
    name: str
    skills: Sequence[str] = ("k",)
    may_take: bool = True
    looks: int = 0
    got: str | None = None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    async def run(self) -> None:
        with self.scope, self.storage.queue_news(self.skills) as news:
            await self._look()
            while self.got is None:
                await news.wait()
                await self._look()

    async def _look(self) -> None:
        self.looks += 1
        if self.may_take:
            self.got = await self.storage.commit(self._take)

    def _take(self, ledger: Ledger) -> str | None:
        for skill in self.skills:
            for task in ledger.queued(skill, Lane.NORMAL, most=1):
                ledger.put_task(attrs.evolve(task, status=TaskStatus.LEASED))
                return task.id
        return None


def _break() -> NoReturn:
    raise Broken


async def _parked(nursery: trio.Nursery, *polls: _Poll) -> None:
    """Start *polls*, one after the other, each until it waits."""
    for poll in polls:
        nursery.start_soon(poll.run)
        await settled(poll.storage)


class NewsPromises:
    """Whoever registers, looks and then waits, misses nothing."""

    async def test_news_after_parking_wakes(self, storage: Storage) -> None:
        poll = _Poll(storage, "p")
        async with trio.open_nursery() as nursery:
            await _parked(nursery, poll)
            await storage.commit(put(a_task()))
        assert poll.got == "j-1"
        assert poll.looks == 2

    async def test_news_between_registering_and_waiting_is_not_missed(
        self, storage: Storage
    ) -> None:
        with storage.queue_news(["k"]) as news:
            await storage.commit(put(a_task()))
            await news.wait()

    async def test_news_before_registering_is_for_the_look_not_for_the_wait(
        self, storage: Storage
    ) -> None:
        await storage.commit(put(a_task("forbidden")))
        poll = _Poll(storage, "p", may_take=False)
        async with trio.open_nursery() as nursery:
            await _parked(nursery, poll)
            assert poll.looks == 1
            nursery.cancel_scope.cancel()

    async def test_news_of_another_skill_does_not_wake(self, storage: Storage) -> None:
        poll = _Poll(storage, "p")
        async with trio.open_nursery() as nursery:
            await _parked(nursery, poll)
            await storage.commit(put(a_task(skill="other")))
            await settled(storage)
            assert poll.looks == 1
            nursery.cancel_scope.cancel()

    async def test_a_step_that_was_undone_is_no_news(self, storage: Storage) -> None:
        poll = _Poll(storage, "p")
        async with trio.open_nursery() as nursery:
            await _parked(nursery, poll)
            await broken(storage, and_break(put(a_task())))
            await settled(storage)
            assert poll.looks == 1
            nursery.cancel_scope.cancel()

    async def test_as_many_wake_as_there_are_tasks_the_longest_waiting_first(
        self, storage: Storage
    ) -> None:
        polls = [_Poll(storage, f"p{at}") for at in range(6)]
        async with trio.open_nursery() as nursery:
            await _parked(nursery, *polls)
            await storage.commit(put(a_task("a"), a_task("b")))
            await settled(storage)
            assert [poll.looks for poll in polls] == [2, 2, 1, 1, 1, 1]
            assert {poll.got for poll in polls[:2]} == {"a-1", "b-1"}
            await storage.commit(put(a_task("c")))
            await settled(storage)
            assert [poll.got for poll in polls[2:]] == ["c-1", None, None, None]
            nursery.cancel_scope.cancel()

    async def test_one_waits_for_several_skills(self, storage: Storage) -> None:
        both = _Poll(storage, "both", skills=("k", "other"))
        single = _Poll(storage, "single")
        async with trio.open_nursery() as nursery:
            await _parked(nursery, both, single)
            await storage.commit(put(a_task("a", skill="other")))
            await settled(storage)
            assert (both.got, single.got) == ("a-1", None)
            await storage.commit(put(a_task("b")))
        assert single.got == "b-1"

    async def test_a_cancelled_waiter_takes_no_wake_up_with_it(self, storage: Storage) -> None:
        polls = [_Poll(storage, f"p{at}") for at in range(3)]
        async with trio.open_nursery() as nursery:
            await _parked(nursery, *polls)
            async with trio.open_nursery() as together:
                together.start_soon(storage.commit, put(a_task()))
                polls[0].scope.cancel()
            await settled(storage)
            assert sorted(str(poll.got) for poll in polls[1:]) == ["None", "j-1"]
            nursery.cancel_scope.cancel()

    async def test_one_that_leaves_without_having_looked_passes_its_wake_up_on(
        self, storage: Storage
    ) -> None:
        poll = _Poll(storage, "p")
        woken = trio.Event()

        async def wait_and_leave() -> None:
            with suppress(Broken), storage.queue_news(["k"]) as news:
                await news.wait()
                woken.set()
                _break()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_and_leave)
            await settled(storage)
            await _parked(nursery, poll)
            await storage.commit(put(a_task()))
            await woken.wait()
        assert poll.got == "j-1"

    async def test_one_that_may_not_take_the_task_does_not_keep_it_from_others(
        self, storage: Storage
    ) -> None:
        shunned = [_Poll(storage, f"p{at}", may_take=False) for at in range(3)]
        willing = _Poll(storage, "q")
        async with trio.open_nursery() as nursery:
            await _parked(nursery, *shunned, willing)
            await storage.commit(put(a_task()))
            await settled(storage)
            assert willing.got == "j-1"
            assert [poll.looks for poll in shunned] == [2, 2, 2]
            nursery.cancel_scope.cancel()

    async def test_a_task_that_nobody_may_take_wakes_everyone_once(self, storage: Storage) -> None:
        polls = [_Poll(storage, f"p{at}", may_take=False) for at in range(3)]
        async with trio.open_nursery() as nursery:
            await _parked(nursery, *polls)
            await storage.commit(put(a_task()))
            await settled(storage)
            await settled(storage)
            assert [poll.looks for poll in polls] == [2, 2, 2]
            await storage.commit(lambda ledger: ledger.wake("k"))
            await settled(storage)
            assert [poll.looks for poll in polls] == [3, 3, 3]
            nursery.cancel_scope.cancel()

    async def test_two_hundred_polls_get_two_hundred_tasks(self, storage: Storage) -> None:
        polls = [_Poll(storage, f"p{at}", skills=("k", "other")) for at in range(200)]
        async with trio.open_nursery() as nursery:
            for poll in polls:
                nursery.start_soon(poll.run)
            for at in range(200):
                skill = ("k", "other")[at % 2]
                nursery.start_soon(storage.commit, put(a_task(f"j{at:03}", skill=skill)))
        assert sorted(str(poll.got) for poll in polls) == [f"j{at:03}-1" for at in range(200)]

    async def test_followers_hear_of_changes_of_their_job_alone(self, storage: Storage) -> None:
        heard: list[str] = []

        async def follow(job_id: str) -> None:
            with storage.job_news(job_id) as news:
                while True:
                    await news.wait()
                    heard.append(job_id)

        async with trio.open_nursery() as nursery:
            for job_id in ("a", "a", "b"):
                nursery.start_soon(follow, job_id)
            await settled(storage)
            await storage.commit(put(a_job("a")))
            await settled(storage)
            assert heard == ["a", "a"]
            await storage.commit(put(a_job("a", revision=2, status=JobStatus.FINISHED)))
            await settled(storage)
            assert heard == ["a"] * 4
            said = Progress(job_id="b", task_id="b-1", at=START, progress=0.5, message="")
            await storage.commit(put(said))
            await settled(storage)
            assert heard == ["a"] * 4 + ["b"]
            row = HistoryRow(job_id="b", type="attempt_leased", at=START, revision=1)
            await storage.commit(put(row))
            await settled(storage)
            assert heard == ["a"] * 4 + ["b"] * 2
            nursery.cancel_scope.cancel()

    async def test_a_change_between_two_waits_is_not_missed(self, storage: Storage) -> None:
        with storage.job_news("j") as news:
            await storage.commit(put(a_job()))
            await storage.commit(put(a_job(revision=2)))
            await news.wait()
            with trio.CancelScope() as scope:
                scope.cancel()
                await news.wait()
            assert scope.cancelled_caught
