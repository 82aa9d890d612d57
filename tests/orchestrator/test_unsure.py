"""Hand-outs whose commit may have happened: nobody was told of them, so they are given back."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
from tests.orchestrator.clients import EPOCH, make_context
from tests.orchestrator.test_polls import OFFER, add_job, recorder, register, task_of
from trio.testing import MockClock

from avtomatika_trio._core import lease
from avtomatika_trio._core.partitions import ROOT
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._core.task import TaskStatus
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.orchestrator import _unsure
from avtomatika_trio.orchestrator._hand_outs import give_back, take
from avtomatika_trio.orchestrator._janitor import run_janitor, tick
from avtomatika_trio.orchestrator._polls import Presence, hand_over
from avtomatika_trio.storage import MemoryStorage

AWAY = "it went away before it told what became of this"


class Forgetful(MemoryStorage):
    """Does what it is asked, and then, while it is away, does not tell so."""

    def __init__(self) -> None:
        super().__init__(now=lambda: EPOCH + trio.current_time())
        self.is_away = False
        self.does_it = True

    async def commit(self, operation: Callable[..., Any], partition: str | None = None) -> Any:
        await trio.lowlevel.checkpoint()
        if self.is_away and not self.does_it:
            raise StorageUnavailable(AWAY)
        answer = self.run(operation)
        if self.is_away:
            raise StorageUnavailable(AWAY)
        return answer

    async def instance(self, instance_id: str) -> Any:
        if self.is_away:
            raise StorageUnavailable(AWAY)
        return await super().instance(instance_id)


@pytest.fixture
async def storage(autojump_clock: MockClock) -> Forgetful:
    """With one task that is queued and one worker."""
    storage = Forgetful()
    register(storage, "i1")  # type: ignore[arg-type] # it is enough of one
    add_job(storage, "p00-1")  # type: ignore[arg-type]
    return storage


def status_of(storage: Forgetful) -> TaskStatus:
    return task_of(storage, "p00-1").status  # type: ignore[arg-type]


def empty_beat(storage: Forgetful) -> None:
    """What workers of the original say: that they are there, and nothing of tasks."""
    beat = lease.Beat(worker_id="w", instance="i1", number=0, current_tasks=None)
    storage.run(partial(lease.heartbeat, beat=beat, rules=Rules()))


async def test_what_was_handed_out_to_nobody_is_queued_again_when_the_storage_is_back(
    storage: Forgetful,
) -> None:
    context = make_context(storage)
    storage.is_away = True
    with pytest.raises(StorageUnavailable):
        await take(context, OFFER)
    assert status_of(storage) is TaskStatus.LEASED
    with pytest.raises(StorageUnavailable):
        await tick(context, ROOT)
    assert context.unsure.some(bool)

    storage.is_away = False
    empty_beat(storage)
    await tick(context, ROOT)
    assert status_of(storage) is TaskStatus.QUEUED
    assert context.unsure.some(bool) == ()
    assert len(await take(context, OFFER)) == 1


async def test_a_commit_that_did_not_happen_leaves_nothing_to_undo(storage: Forgetful) -> None:
    context = make_context(storage)
    storage.is_away, storage.does_it = True, False
    with pytest.raises(StorageUnavailable):
        await take(context, OFFER)
    storage.is_away = False
    [hand_out] = await take(context, OFFER)
    await tick(context, ROOT)
    assert status_of(storage) is TaskStatus.LEASED
    assert context.unsure.some(bool) == ()
    assert hand_out.attempt.number == 1


async def test_what_could_not_be_given_back_at_once_is_given_back_later(
    storage: Forgetful,
) -> None:
    context = make_context(storage)
    got = await take(context, OFFER)
    storage.is_away, storage.does_it = True, False
    _, answer = recorder()
    with pytest.raises(StorageUnavailable):
        await hand_over(context, OFFER, got, Presence(), answer)
    assert status_of(storage) is TaskStatus.LEASED
    storage.is_away = False
    await tick(context, ROOT)
    assert status_of(storage) is TaskStatus.QUEUED


async def test_a_storage_that_hangs_while_something_is_given_back_is_asked_again(
    storage: Forgetful,
) -> None:
    context = make_context(storage)
    got = await take(context, OFFER)
    commit = storage.commit

    async def hangs(_: Callable[..., Any], partition: str | None = None) -> Any:
        await trio.sleep_forever()

    storage.commit = hangs  # type: ignore[assignment,method-assign]
    await give_back(context, got, "nobody is there")
    storage.commit = commit  # type: ignore[method-assign]
    with trio.move_on_after(3):
        await run_janitor(context)
    assert status_of(storage) is TaskStatus.QUEUED


async def test_with_too_many_of_them_nothing_is_handed_out_and_none_is_forgotten(
    storage: Forgetful, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_unsure, "MOST_KEPT", 2)
    monkeypatch.setattr(_unsure, "_MOST_PER_COMMIT", 1)
    for number in range(2, 9):
        add_job(storage, f"p00-{number}")  # type: ignore[arg-type]
    context = make_context(storage)
    storage.is_away = True
    for _ in range(5):
        with pytest.raises(StorageUnavailable):
            await take(context, OFFER)
    storage.is_away = False
    with pytest.raises(StorageUnavailable, match="not undone yet"):
        await take(context, OFFER)
    await tick(context, ROOT)
    assert status_of(storage) is TaskStatus.QUEUED
    assert len(await take(context, OFFER)) == 1
