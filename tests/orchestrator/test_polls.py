"""Between the commit that hands tasks out and the first byte: rules H3, H4 and L9."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
import pytest
import trio
from tests.orchestrator.clients import EPOCH, WORKER_TOKEN, http_scope, make_context
from trio.testing import MockClock

from avtomatika_trio._core import dispatch, lease, steps
from avtomatika_trio._core.actions import DispatchTask, TaskSpec
from avtomatika_trio._core.dispatch import HandOut, Offer
from avtomatika_trio._core.ledger import InstanceKind
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._core.task import Task, TaskStatus
from avtomatika_trio.orchestrator._app import create_app
from avtomatika_trio.orchestrator._hand_outs import take
from avtomatika_trio.orchestrator._janitor import run_janitor
from avtomatika_trio.orchestrator._polls import Presence, hand_over, wait_for_tasks
from avtomatika_trio.storage import MemoryStorage

OFFER = Offer(instance="i1", poll=1, skills=("k",), most=1)


class Storage(MemoryStorage):
    """One whose commits take time, and in which something may happen before a look."""

    def __init__(self) -> None:
        super().__init__(now=lambda: EPOCH + trio.current_time())
        self.commit_seconds = 0.0
        self.committed = 0
        self.looks = 0
        self.before_look: Callable[[int], object] = lambda _: None

    async def commit(self, operation: Callable[..., Any], partition: str | None = None) -> Any:
        await trio.lowlevel.checkpoint()
        answer = self.run(operation, partition)
        self.committed += 1
        await trio.sleep(self.commit_seconds)
        return answer

    async def instance(self, instance_id: str) -> Any:
        self.looks += 1
        self.before_look(self.looks)
        return await super().instance(instance_id)


@pytest.fixture
async def storage(autojump_clock: MockClock) -> Storage:
    """With one task that is queued and one worker."""
    storage = Storage()
    register(storage, "i1")
    add_job(storage, "p00-1")
    return storage


def register(storage: Storage, instance: str) -> None:
    said = lease.Registration(
        worker_id="w",
        instance=instance,
        kind=InstanceKind.OURS,
        skills=("k",),
        interval_seconds=10.0,
        said={},
    )
    storage.run(partial(lease.register, said=said, rules=Rules()))


def add_job(storage: Storage, job_id: str) -> None:
    """A job that waits for one task."""
    new = steps.NewJob(
        id=job_id, blueprint="b", client="c", start="start", initial_data={}, max_transitions=9
    )
    storage.run(partial(steps.submit, new=[new]))
    job = storage.run(lambda ledger: ledger.job(job_id))
    assert job is not None
    action = DispatchTask(spec=TaskSpec(skill="k", params={}, transitions={"success": "next"}))
    decide = partial(steps.advance, claimed=job, state_history={}, rules=Rules(), noise=0.0)
    storage.run(partial(decide, decision=steps.Chose(action=action)))


def task_of(storage: Storage, job_id: str) -> Task:
    task = storage.run(lambda ledger: ledger.task(f"{job_id}-2"))
    assert task is not None
    return task


def beat(storage: Storage, instance: str = "i1", **more: Any) -> None:
    said = lease.Beat(worker_id="w", instance=instance, number=1, current_tasks=(), **more)
    storage.run(partial(lease.heartbeat, beat=said, rules=Rules()))


def recorder() -> tuple[list[int], Callable[[tuple[HandOut, ...]], Awaitable[None]]]:
    """How many tasks were sent with each answer."""
    sent: list[int] = []

    async def answer(sending: tuple[HandOut, ...]) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(len(sending))

    return sent, answer


def leave(storage: Storage) -> None:
    beat(storage, leaving=True)


def block(storage: Storage) -> None:
    beat(storage, blocked_seconds=11.0)


def close_the_poll(storage: Storage) -> None:
    beat(storage, last_poll=1)


def be_replaced(storage: Storage) -> None:
    register(storage, "i2")
    beat(storage, "i2", replaces=("i1",))


GOINGS: list[Callable[[Storage], None]] = [leave, block, close_the_poll, be_replaced]


@pytest.mark.parametrize("going", GOINGS)
async def test_who_went_between_commit_and_first_byte_is_sent_nothing(
    going: Callable[[Storage], None], storage: Storage, autojump_clock: MockClock
) -> None:
    context = make_context(storage)
    got = await take(context, OFFER)
    assert len(got) == 1
    going(storage)
    sent, answer = recorder()
    await hand_over(context, OFFER, got, Presence(), answer)
    assert sent == [0]
    assert task_of(storage, "p00-1").status is TaskStatus.QUEUED


async def test_who_is_there_is_sent_everything_and_keeps_it(
    storage: Storage, autojump_clock: MockClock
) -> None:
    context = make_context(storage)
    got = await take(context, OFFER)
    sent, answer = recorder()
    await hand_over(context, OFFER, got, Presence(), answer)
    assert sent == [1]
    assert task_of(storage, "p00-1").status is TaskStatus.LEASED


async def test_a_client_that_went_before_the_first_byte_is_not_answered(
    storage: Storage, autojump_clock: MockClock
) -> None:
    context = make_context(storage)
    got = await take(context, OFFER)
    sent, answer = recorder()
    await hand_over(context, OFFER, got, Presence(gone=True), answer)
    assert sent == []
    assert task_of(storage, "p00-1").status is TaskStatus.QUEUED


async def test_a_commit_under_way_is_known_of_when_its_poll_is_cancelled(
    storage: Storage, autojump_clock: MockClock
) -> None:
    storage.commit_seconds = 5
    with trio.move_on_after(1):
        got = await take(make_context(storage), OFFER)
        assert [it.task.id for it in got] == ["p00-1-2"]
        assert trio.current_time() == 5
        return
    raise AssertionError("the commit was abandoned")


class Post:
    """A post of a result that asks for the next task, as the server calls the app."""

    def __init__(self, storage: Storage, wire_id: str) -> None:
        self.app = create_app(make_context(storage))
        result = {"job_id": "p00-1", "task_id": wire_id, "status": "success"}
        self.body = msgspec.json.encode([result])
        self.sent: list[dict[str, Any]] = []

    async def send(self, message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append(message)

    async def receive(self) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def run(self) -> None:
        headers = [(b"x-worker-token", WORKER_TOKEN.encode()), (b"x-worker-id", b"w")]
        query = b"instance=i1&poll=2&max_tasks=1"
        scope = http_scope("POST", "/_worker/tasks/result", query, headers)
        await self.app(scope, self.receive, self.send)


async def post_of(storage: Storage) -> Post:
    """A post of the first job's result, while the second job's task is queued."""
    [given] = await take(make_context(storage), OFFER)
    add_job(storage, "p00-2")
    return Post(storage, given.attempt.wire_id)


async def test_a_post_of_results_brings_the_next_task(
    storage: Storage, autojump_clock: MockClock
) -> None:
    post = await post_of(storage)
    await post.run()
    answer = msgspec.json.decode(post.sent[1]["body"])
    assert [task["job_id"] for task in answer["tasks"]] == ["p00-2"]
    assert task_of(storage, "p00-2").status is TaskStatus.LEASED


async def test_who_went_while_its_results_were_stored_is_sent_no_task(
    storage: Storage, autojump_clock: MockClock
) -> None:
    post = await post_of(storage)
    # The first look is for the offer, the second before the first byte.
    storage.before_look = lambda looks: leave(storage) if looks == 2 else None
    await post.run()
    answer = msgspec.json.decode(post.sent[1]["body"])
    assert [result["status"] for result in answer["results"]] == ["accepted"]
    assert answer["tasks"] == []
    assert task_of(storage, "p00-2").status is TaskStatus.QUEUED


async def test_tasks_of_a_post_that_is_cancelled_during_its_commit_come_back(
    storage: Storage, autojump_clock: MockClock
) -> None:
    post = await post_of(storage)
    storage.commit_seconds = 5
    with trio.move_on_after(1) as scope:
        await post.run()
    assert scope.cancelled_caught
    assert post.sent == []
    assert task_of(storage, "p00-1").status is TaskStatus.DONE
    assert task_of(storage, "p00-2").status is TaskStatus.QUEUED


async def test_a_parked_worker_that_was_passed_over_is_woken_when_nobody_else_came(
    storage: Storage, autojump_clock: MockClock
) -> None:
    async def no_news() -> dict[str, Any]:
        await trio.sleep_forever()
        raise AssertionError

    context = make_context(storage)
    for poll in (1, 2, 3):
        offer = Offer(instance="i1", poll=poll, skills=("k",), most=1)
        [given] = storage.run(
            partial(dispatch.hand_out, offer=offer, wire_ids=[f"wire{poll}"], rules=Rules())
        )
        give_back = partial(
            lease.take_back,
            worker_id="w",
            wire_ids=(given.attempt.wire_id,),
            unstarted=frozenset(),
            rules=Rules(),
            noise=0.0,
        )
        assert storage.run(give_back) == 1
    offer = Offer(instance="i1", poll=4, skills=("k",), most=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_janitor, context)
        got = await wait_for_tasks(context, offer, no_news, Presence(), 30)
        nursery.cancel_scope.cancel()
    assert len(got) == 1
    assert trio.current_time() == pytest.approx(11, abs=0.5)  # 1 s back-off, then 10 s
