"""Commits in the moment of a withdrawal: hand-outs (rule A5), and withdrawals that fail."""

from collections.abc import Callable
from typing import Any, TypeVar

import httpx
import pytest
import trio
from tests.orchestrator.clients import EPOCH, Worker, make_context, open_client
from tests.security.credentials import let_in
from trio.testing import MockClock

from avtomatika_trio._core.admission import withdraw
from avtomatika_trio._core.dispatch import hand_out
from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.orchestrator._engine import run_engine
from avtomatika_trio.orchestrator._reports import _report_and_hand_out
from avtomatika_trio.storage._memory import MemoryStorage

T = TypeVar("T")


class SlowStorage(MemoryStorage):
    """One that takes its time for one kind of operation."""

    def __init__(self) -> None:
        super().__init__(now=lambda: EPOCH + trio.current_time())
        self.slow: Any = None
        self.begun = trio.Event()
        self.go_on = trio.Event()

    async def commit(self, operation: Callable[[Ledger], T], partition: str | None = None) -> T:
        if self.slow is not None and getattr(operation, "func", None) is self.slow:
            self.begun.set()
            await self.go_on.wait()
        return await super().commit(operation, partition)


HEADERS = {"X-Worker-ID": "w1", "X-Worker-Token": "dropped"}
QUERY = "instance=w1-run-1&poll=7&max_tasks=5&available_skills=scale"


async def ask_while_dropped(
    slow: Any, ask: Callable[[httpx.AsyncClient], Any]
) -> tuple[httpx.Response, list[str]]:
    """What *ask* is answered when its token is dropped during the commit *slow*.

    The process had registered with another token, which stays good: only the request ends.

    Returns:
        The answer, and the status of each attempt then.
    """
    storage = SlowStorage()
    context = make_context(storage)
    await let_in(storage, {"w1": ["kept", "dropped"]})
    await context.access.open()
    answers: list[httpx.Response] = []
    async with open_client(context) as client, trio.open_nursery() as loops:
        loops.start_soon(run_engine, context)
        loops.start_soon(context.access.run, context.rules)
        await Worker(client, token="kept").register("scale")
        job_id = (await client.post("/api/v1/jobs/resize")).json()["job_id"]
        await trio.sleep(1)
        storage.slow = slow

        async def send() -> None:
            answers.append(await ask(client))

        async with trio.open_nursery() as asking:
            asking.start_soon(send)
            await storage.begun.wait()
            await let_in(storage, {"w1": ["kept"]})
            await trio.sleep(2)
            storage.go_on.set()
        statuses = [it.status.value for it in await storage.attempts(job_id)]
        loops.cancel_scope.cancel()
    return answers[0], statuses


async def test_what_a_poll_was_given_while_it_was_ended_goes_back(
    autojump_clock: MockClock,
) -> None:
    answer, statuses = await ask_while_dropped(
        hand_out,
        lambda client: client.get(f"/_worker/workers/w1/tasks/next?{QUERY}", headers=HEADERS),
    )
    assert answer.status_code == 403
    assert statuses == ["unclaimed"]


async def test_what_a_result_was_answered_with_while_it_was_ended_goes_back(
    autojump_clock: MockClock,
) -> None:
    said = [{"job_id": "none", "task_id": "none"}]
    answer, statuses = await ask_while_dropped(
        _report_and_hand_out,
        lambda client: client.post(f"/_worker/tasks/result?{QUERY}", json=said, headers=HEADERS),
    )
    assert answer.json()["tasks"] == []
    assert statuses == ["unclaimed"]


class FailingStorage(MemoryStorage):
    """One that is away when somebody is to be withdrawn, for the first times."""

    failures = 3

    async def commit(self, operation: Callable[[Ledger], T], partition: str | None = None) -> T:
        if getattr(operation, "func", None) is withdraw and self.failures:
            self.failures -= 1
            raise StorageUnavailable("it is away")
        return await super().commit(operation, partition)


@pytest.mark.parametrize("by_reload", [False, True])
async def test_a_withdrawal_that_fails_is_tried_until_it_is_done(
    autojump_clock: MockClock, by_reload: bool
) -> None:
    storage = FailingStorage(now=lambda: EPOCH + trio.current_time())
    context = make_context(storage)
    await let_in(storage, {"w1": ["dropped"]})
    await context.access.open()
    async with open_client(context) as client, trio.open_nursery() as loops:
        loops.start_soon(run_engine, context)
        loops.start_soon(context.access.run, context.rules)
        worker = Worker(client, token="dropped")
        await worker.register("scale")
        job_id = (await client.post("/api/v1/jobs/resize")).json()["job_id"]
        await trio.sleep(1)
        assert await worker.take()
        applied = await let_in(storage, {"w1": ["kept"]})
        if by_reload:
            await context.access._follow_or_later(applied.access, context.rules)
        await trio.sleep(3)
        [attempt] = await storage.attempts(job_id)
        assert (attempt.status, storage.failures) == ("unclaimed", 0)
        loops.cancel_scope.cancel()
