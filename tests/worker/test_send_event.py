"""`send_event`: in every shape, from the loop and from threads, and with the network as it is."""

import asyncio
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import attrs
import httpx
import pytest
import trio
from tests.worker.fake_orchestrator import Answer, FakeOrchestrator
from tests.worker.worker_cases import among, killed_at_the_end, running, targets
from trio.testing import MockClock

from avtomatika_trio._core.event_rules import MOST_EVENTS
from avtomatika_trio._wire.messages import EXTENSIONS, WorkerEvent
from avtomatika_trio.errors import ConfigError, InvalidEvent
from avtomatika_trio.worker import Worker
from avtomatika_trio.worker._spool_memory import MemoryFolder

ANY: dict[str, Any] = {"step": {}}
HALF = {"share": 0.5}

each_shape = pytest.mark.parametrize(
    ("args", "named"),
    [
        (("step", HALF), {}),
        (("step",), {"payload": HALF}),
        (("k0-1", "step", HALF), {}),
        (("k0-1", "job-k0", "step", HALF), {}),
        (("step", HALF, 1.0, {"s": 1}, {"m": 1}, "w7"), {}),
        ((), {"event_type": "step", "payload": HALF}),
        ((), {"type": "step", "payload": HALF, "task_id": "k0-1", "job_id": "job-k0"}),
        (("step", HALF), {"priority": 1.0, "security": None, "metadata": {}}),
    ],
)


async def takes_no_events(request: httpx.Request) -> Answer | None:
    return httpx.Response(503) if "/events" in request.url.path else None


@each_shape
async def test_an_event_can_be_sent_from_the_loop(
    autojump_clock: MockClock, args: tuple[Any, ...], named: dict[str, Any]
) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    @worker.skill(events_schema=ANY)
    async def work(send_event: Any) -> list[bool]:
        send_event(*args, **named)
        worker.send_event(*args, **named)
        return [await send_event(*args, **named), await worker.send_event(*args, **named)]

    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert fake.results() == {"k0": ("success", [True, True])}
    assert fake.noted == {"k0-1": [(n, "step", HALF) for n in (1, 2, 3, 4)]}
    [posted, *_] = fake.events
    assert (posted.worker_id, posted.origin_worker_id) == ("w1", "w1")
    assert (posted.target_job_id, posted.origin_task_id) == ("job-k0", "k0-1")


@each_shape
async def test_an_event_can_be_sent_from_a_thread(
    args: tuple[Any, ...], named: dict[str, Any]
) -> None:
    """In real time; a few milliseconds."""
    fake, worker = FakeOrchestrator(), Worker()

    @worker.skill(events_schema=ANY)
    def work(send_event: Any) -> None:
        for _ in range(50):
            send_event(*args, **named)
            worker.send_event(*args, **named)

    fake.submit("work")
    async with running(worker, fake):
        await fake.until(lambda: fake.tasks["k0"].result, seconds=5)
    assert fake.noted == {"k0-1": [(n, "step", HALF) for n in range(1, 101)]}


@pytest.mark.parametrize(
    "event",
    [
        {"event_type": "step", "payload": HALF},
        {"event_type": "step", "payload": HALF, "target_task_id": "k0-1", "event_id": "e"},
        SimpleNamespace(event_type="step", payload=HALF, origin_task_id="k0-1"),
    ],
)
async def test_an_event_can_be_emitted_as_one_object(autojump_clock: MockClock, event: Any) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    @worker.skill(events_schema=ANY)
    async def work() -> bool:
        return await worker.emit_event(event)

    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert fake.results() == {"k0": ("success", True)}
    assert fake.noted_payloads() == [HALF]


async def test_without_a_payload_it_is_empty(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    @worker.skill(events_schema=ANY)
    async def work(send_event: Any) -> None:
        await send_event("step")
        await send_event("step", None)

    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert fake.noted_payloads() == [{}, {}]


async def test_a_payload_may_be_a_record_and_is_that_of_the_moment(
    autojump_clock: MockClock,
) -> None:
    @attrs.frozen
    class Frame:
        number: int

    fake, worker = FakeOrchestrator(), Worker()

    @worker.skill(events_schema=ANY)
    async def work(send_event: Any) -> None:
        changing = {"n": [1]}
        send_event("step", Frame(7))
        send_event("step", changing)
        changing["n"].append(2)

    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert fake.noted_payloads() == [{"number": 7}, {"n": [1]}]


async def test_events_of_attempts_that_run_together_are_told_apart(
    autojump_clock: MockClock,
) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    @worker.skill(events_schema=ANY)
    async def work(params: dict[str, Any]) -> None:
        for n in range(20):
            worker.send_event("step", {"of": params["n"], "n": n})
            await trio.sleep(0.01)

    for n in range(8):
        fake.submit("work", {"n": n})
    async with running(worker, fake, max_concurrent_tasks=8):
        await fake.all_done()
    for n in range(8):
        assert fake.noted_payloads(f"k{n}-1") == [{"of": n, "n": it} for it in range(20)]


async def test_progress_may_be_sent_as_an_event(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    @worker.skill
    async def work(send_event: Any) -> bool:
        stored = await send_event("progress", {"progress": 0.5, "message": "half"})
        await trio.sleep(1)
        return bool(stored)

    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert fake.results() == {"k0": ("success", False)}  # it is no event of the history
    assert [(it.event_type, it.payload) for it in fake.events] == [
        ("progress", {"progress": 0.5, "message": "half"})
    ]
    assert fake.noted == {}


async def test_outside_of_a_handler_the_task_has_to_be_named(autojump_clock: MockClock) -> None:
    worker = Worker()
    with pytest.raises(RuntimeError, match=r"send_event\(task_id=\.\.\.\)"):
        worker.send_event("step")
    assert await worker.send_event("gone-1", "job", "step", {}) is False  # it has ended


# What is wrong is told in the handler.

WRONG: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((), {}, "send_event: event_type: is missing; say it first"),
    ((7,), {}, "event_type: is 1 to 128 letters"),
    (("a b",), {}, "event_type: is 1 to 128 letters"),
    (("stepp",), {}, r"'stepp' is not declared by the skill \(did you mean 'step'\?\)"),
    (("step", [1]), {}, "payload: is an object, not list; wrap it"),
    (("step", {"x": {1, 2}}), {}, "payload.x: a set is not JSON; use a list"),
    (("step", {"x": "y" * 9000}), {}, "payload: has 9,008 bytes as JSON, more than 8,192"),
    (("typed", {"n": "1"}), {}, 'payload.n: "1" is no integer'),
    (("step", {}), {"paylod": {}}, "send_event: paylod cannot be understood"),
    (("a", "b", "step", {}, 1, {}, {}, "w", "more"), {}, "9 arguments cannot be understood"),
]


@pytest.mark.parametrize(("args", "named", "message"), WRONG)
async def test_what_is_wrong_with_an_event_is_raised_in_the_handler(
    autojump_clock: MockClock, args: tuple[Any, ...], named: dict[str, Any], message: str
) -> None:
    fake, worker = FakeOrchestrator(), Worker()
    typed = {"properties": {"n": {"type": "integer"}}}

    @worker.skill(events_schema={"step": {}, "typed": typed})
    async def work(params: dict[str, Any], send_event: Any) -> str:
        if params["catches"]:
            with pytest.raises(InvalidEvent, match=message):
                send_event(*args, **named)
            return "caught"
        send_event(*args, **named)
        return "sent"

    fake.submit("work", {"catches": True})
    fake.submit("work", {"catches": False})
    async with running(worker, fake):
        await fake.all_done()
    assert fake.results()["k0"] == ("success", "caught")
    result = fake.tasks["k1"].result
    assert result is not None
    assert isinstance(result.error, object)
    assert (result.status, getattr(result.error, "code", "")) == (
        "failure",
        "CONTRACT_VIOLATION_ERROR",
    )
    assert fake.noted == {}


async def test_an_undeclared_event_passes_where_that_is_allowed(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    @worker.skill
    async def work(send_event: Any) -> None:
        send_event("whatever", HALF)

    fake.submit("work")
    async with running(worker, fake, strict_event_validation=False):
        await fake.all_done()
    assert fake.noted == {"k0-1": [(1, "whatever", HALF)]}


def test_a_schema_that_cannot_be_used_is_told_where_it_is_declared() -> None:
    worker = Worker()
    with pytest.raises(ConfigError) as caught:

        @worker.skill(events_schema={"a b": {}, "step": {"type": "text"}})
        async def work() -> None: ...

    first, second = caught.value.problems
    assert first.startswith("skill 'work': events_schema: event_type: is 1 to 128 letters")
    assert second.startswith("skill 'work': events_schema.step.type: is one or some of")


async def test_what_the_orchestrator_finds_wrong_is_told_to_who_waits_for_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    fake, worker = FakeOrchestrator(), Worker()
    error = {"status": "error", "code": "CONTRACT_VIOLATION_ERROR", "message": "not declared"}
    fake.refuse_event = lambda said: error if said.payload["n"] < 3 else None

    @worker.skill(events_schema=ANY)
    async def work(send_event: Any) -> bool:
        send_event("step", {"n": 1})
        with pytest.raises(InvalidEvent, match="not declared"):
            await send_event("step", {"n": 2})
        return bool(await send_event("step", {"n": 3}))

    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert fake.results() == {"k0": ("success", True)}
    assert fake.noted_payloads() == [{"n": 3}]
    assert caplog.text.count("events of task k0-1 are not kept: not declared") == 1


async def test_an_event_that_counts_no_more_stops_nobody(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), Worker()
    stale = {"status": "ignored", "reason": "stale_task", "message": "Event ignored"}
    fake.refuse_event = lambda said: stale

    @worker.skill(events_schema=ANY)
    async def work(send_event: Any) -> bool:
        return bool(await send_event("step", {"n": 1}))

    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert fake.results() == {"k0": ("success", False)}


# In order, before the result, and whatever the network does.


def counting(worker: Worker, count: int, pause: float = 0.0) -> None:
    """A skill that sends *count* events and waits for none."""

    @worker.skill(events_schema=ANY)
    async def work(send_event: Any) -> str:
        for n in range(count):
            send_event("step", {"n": n})
            if pause:
                await trio.sleep(pause)
        return "done"


async def test_events_are_there_before_their_result(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), Worker()
    counting(worker, 250)
    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert fake.noted_payloads() == [{"n": n} for n in range(250)]
    posts = [path for _, path in fake.requests if "events" in path or "result" in path]
    assert posts == ["POST /_worker/events"] * 3 + ["POST /_worker/tasks/result"]
    [result] = fake.applied
    assert result.events == []


def losing(path: str, which: Callable[[int], bool]) -> Any:
    """The network loses the answers to some of the requests of *path*."""
    seen = [0]

    async def lose(request: httpx.Request, answer: Answer) -> Answer:
        if path in request.url.path:
            seen[0] += 1
            if which(seen[0]):
                raise httpx.ReadError("cut")
        return answer

    return lose


async def test_an_answer_that_is_lost_doubles_no_event(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), Worker()
    fake.after = losing("/events", lambda count: count % 2 == 1)
    counting(worker, 30, pause=0.3)
    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert len(fake.events) > 30  # some came twice
    assert fake.noted_payloads() == [{"n": n} for n in range(30)]


async def test_a_handler_does_not_wait_for_an_orchestrator_that_is_away(
    autojump_clock: MockClock,
) -> None:
    fake, worker = FakeOrchestrator(), Worker()
    took: list[float] = []

    async def away(request: httpx.Request) -> Answer | None:
        if "/events" in request.url.path:
            raise httpx.ConnectError("refused")
        return None

    fake.fault = away

    @worker.skill(events_schema=ANY)
    async def work(send_event: Any) -> list[bool]:
        stored: list[bool] = []
        for n in range(5):
            began = trio.current_time()
            stored.append(await send_event("step", {"n": n}))
            took.append(trio.current_time() - began)
        return stored

    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert fake.results() == {"k0": ("success", [False] * 5)}
    assert max(took) < 1
    assert fake.noted_payloads() == [{"n": n} for n in range(5)]  # they came with the result
    [result] = fake.applied
    assert [said.number for said in result.events] == [1, 2, 3, 4, 5]


async def test_a_silent_orchestrator_is_waited_for_no_longer_than_for_any_answer(
    autojump_clock: MockClock,
) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    async def silent(request: httpx.Request) -> Answer | None:
        if "/events" in request.url.path:
            await trio.sleep_forever()
        return None

    fake.fault = silent

    @worker.skill(events_schema=ANY)
    async def work(send_event: Any) -> float:
        began = trio.current_time()
        await send_event("step", {"n": 1})
        return trio.current_time() - began

    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert fake.results() == {"k0": ("success", pytest.approx(10.0))}
    assert fake.noted_payloads() == [{"n": 1}]


async def test_events_wait_for_the_end_of_an_outage(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), Worker()
    counting(worker, 60, pause=1.0)
    fake.submit("work")
    async with running(worker, fake):
        await fake.until(lambda: len(fake.noted_payloads()) == 10)
        fake.down = True
        await trio.sleep(30)
        fake.down = False
        await fake.until(lambda: len(fake.noted_payloads()) > 40, seconds=20)
        await fake.all_done()
    assert fake.noted_payloads() == [{"n": n} for n in range(60)]
    [result] = fake.applied
    assert result.events == []


async def test_a_worker_that_is_killed_before_its_result_arrived_has_lost_no_event(
    autojump_clock: MockClock,
) -> None:
    """The next process finds them in the spool, with the result."""
    fake, worker, folder = FakeOrchestrator(), Worker(), MemoryFolder()
    counting(worker, 40, pause=0.1)
    fake.submit("work")
    async with killed_at_the_end(worker, fake, folder, "i1"):
        await fake.until(lambda: len(fake.noted_payloads()) > 5)
        fake.down = True
        await trio.sleep(30)
    assert len(fake.noted_payloads()) < 40
    fake.down = False
    second = Worker()
    counting(second, 1)
    async with running(second, fake, folder=folder, instance="i2"):
        await fake.all_done()
    assert fake.noted_payloads() == [{"n": n} for n in range(40)]
    assert [task.attempts for task in fake.tasks.values()] == [1]


async def test_events_go_to_another_orchestrator_of_the_cluster(
    autojump_clock: MockClock,
) -> None:
    home, other = FakeOrchestrator(name="a"), FakeOrchestrator(name="b")
    worker = Worker()
    counting(worker, 40, pause=1.0)
    home.submit("work")
    other.leases, other.tasks, other.noted = home.leases, home.tasks, home.noted
    both = {"transport": among(a=home, b=other)}
    async with running(worker, home, changes=both, orchestrators=targets("a", "b")):
        await home.until(lambda: len(home.noted_payloads("ak0-1")) == 10)
        home.down = True
        await home.until(lambda: home.tasks["ak0"].result)
    assert home.noted_payloads("ak0-1") == [{"n": n} for n in range(40)]
    assert len(other.events) > 20


async def test_what_has_no_room_beside_the_result_is_told(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    fake, worker = FakeOrchestrator(), Worker()
    fake.fault = takes_no_events

    @worker.skill(events_schema=ANY)
    async def work(send_event: Any) -> str:
        await send_event("step", {})
        for _ in range(99):
            send_event("step", {"x": "y" * 8000})
        return "done"

    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    [result] = fake.applied
    assert 20 < len(result.events) < 40
    assert len(result.events) + result.events_lost == 100
    assert f"{result.events_lost} events of task k0-1 are lost" in caplog.text


async def test_events_do_not_make_a_long_result_longer_than_can_be_read(
    autojump_clock: MockClock,
) -> None:
    fake, worker = FakeOrchestrator(), Worker()
    fake.fault = takes_no_events

    @worker.skill(events_schema=ANY)
    async def work(send_event: Any) -> str:
        await send_event("step", {"x": "y" * 5000})
        send_event("step", {"x": "y" * 5000})
        return "z" * (512 * 1024 - 8000)

    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    [result] = fake.applied
    assert (len(result.events), result.events_lost) == (1, 1)


async def test_a_list_that_is_refused_is_sent_one_by_one(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    async def choosy(request: httpx.Request) -> Answer | None:
        if "/events" in request.url.path and request.content.count(b"event_type") > 1:
            return httpx.Response(413, json={"detail": "too large"})
        if b'"n":3' in request.content and "/events" in request.url.path:
            return httpx.Response(400, json={"detail": "not this one"})
        return None

    fake.fault = choosy
    counting(worker, 6)
    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert fake.noted_payloads() == [{"n": n} for n in (0, 1, 2, 4, 5)]


async def test_more_than_a_thousand_are_not_sent(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """But for one, by which the orchestrator's history tells that there were more."""
    fake, worker = FakeOrchestrator(), Worker()
    counting(worker, MOST_EVENTS + 500)
    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert len(fake.events) == MOST_EVENTS + 1
    assert caplog.text.count("there are more than 1,000 of this attempt") == 1
    assert fake.results() == {"k0": ("success", "done")}


async def test_a_cancelled_attempt_sends_no_more(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    @worker.skill(events_schema=ANY)
    async def work(task_id: str, send_event: Any) -> None:
        fake.to_cancel = {task_id}
        try:
            await trio.sleep_forever()
        finally:
            fake.fault = None
            send_event("step", {"n": 1})

    fake.submit("work")
    async with running(worker, fake):
        await trio.sleep(60)
    assert fake.noted == {}
    assert fake.applied == []


async def test_a_stop_waits_for_events_a_moment_and_no_longer(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    async def slow(request: httpx.Request) -> Answer | None:
        if "/events" in request.url.path:
            await trio.sleep(2.5)
        return None

    fake.fault = slow

    @worker.skill(events_schema=ANY)
    async def work(send_event: Any) -> str:
        await trio.sleep(1)
        for n in range(150):
            send_event("step", {"n": n})
        return "done"

    fake.submit("work")
    async with running(worker, fake):
        await trio.sleep(0.5)
        stopped = trio.current_time()
    assert trio.current_time() - stopped < 6
    assert fake.noted_payloads() == [{"n": n} for n in range(150)]
    assert fake.results() == {"k0": ("success", "done")}


# An orchestrator that knows none of this.


@pytest.mark.parametrize(
    "extensions", [(), tuple(it for it in EXTENSIONS if it != "events")], ids=["original", "older"]
)
async def test_who_knows_no_events_gets_them_bare_and_one_by_one(
    autojump_clock: MockClock, extensions: tuple[str, ...]
) -> None:
    fake, worker = FakeOrchestrator(extensions=extensions), Worker()
    counting(worker, 5)
    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert [it.payload for it in fake.events] == [{"n": n} for n in range(5)]
    assert {it.number for it in fake.events} == {None}
    assert len({it.event_id for it in fake.events}) == 5
    [result] = fake.applied
    assert (result.events, result.events_lost) == ([], 0)


async def test_a_token_that_is_over_at_the_original_drops_no_event(
    autojump_clock: MockClock,
) -> None:
    fake, worker = FakeOrchestrator(extensions=(), cluster_id=None), Worker()
    refused: list[float] = []

    async def over(request: httpx.Request) -> Answer | None:
        if "/events" in request.url.path and not refused:
            refused.append(trio.current_time())
            return httpx.Response(401, text="expired")
        return None

    fake.fault = over
    counting(worker, 100, pause=1.0)
    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert refused != []
    assert [it.payload["n"] for it in fake.events] == list(range(100))


async def test_the_original_refuses_what_it_has_taken_already(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    fake, worker = FakeOrchestrator(extensions=(), cluster_id=None), Worker()
    taken: set[str] = set()

    def once(said: WorkerEvent) -> None:
        if said.event_id in taken:
            raise Replayed
        taken.add(said.event_id)

    class Replayed(Exception):
        pass

    async def repetition(request: httpx.Request) -> Answer | None:
        if "/events" not in request.url.path:
            return None
        try:
            return await fake._serve(request)
        except Replayed:
            text = "Duplicate message detected (replay attack)"
            return httpx.Response(403, json={"error": text})

    fake.refuse_event = once
    fake.fault = repetition
    lost = losing("/events", lambda count: count == 2)

    async def lose(request: httpx.Request) -> Answer | None:
        answer = await repetition(request)
        return None if answer is None else await lost(request, answer)

    fake.fault = lose

    @worker.skill(events_schema=ANY)
    async def work(send_event: Any) -> list[bool]:
        first = await send_event("step", {"n": 0})
        send_event("step", {"n": 1})
        await trio.sleep(5)
        return [first, await send_event("step", {"n": 2})]

    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert fake.results() == {"k0": ("success", {"result": [True, True]})}
    assert [it.payload["n"] for it in fake.events] == [0, 1, 2]
    assert "not kept" not in caplog.text


async def test_errors_of_the_original_are_logged_and_stop_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    fake, worker = FakeOrchestrator(extensions=(), cluster_id=None), Worker()

    async def no_route(request: httpx.Request) -> Answer | None:
        return httpx.Response(404, text="no") if "/events" in request.url.path else None

    fake.fault = no_route
    counting(worker, 3)
    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert fake.results() == {"k0": ("success", {"result": "done"})}
    assert "events of task k0-1 are not kept" in caplog.text


@pytest.mark.parametrize("run", [trio.run, lambda function: asyncio.run(function())])
async def test_a_loop_in_a_thread_sends_and_cannot_wait(run: Any) -> None:
    """In real time, a few milliseconds."""
    fake, worker = FakeOrchestrator(), Worker()
    refused: list[str] = []

    @worker.skill(events_schema=ANY)
    def work(send_event: Any) -> None:
        async def inner() -> None:
            for _ in range(3):
                with pytest.raises(RuntimeError) as raised:
                    await send_event("step", HALF)
                refused.append(str(raised.value))

        run(inner)

    fake.submit("work")
    async with running(worker, fake):
        await fake.until(lambda: fake.tasks["k0"].result, seconds=5)
    assert len(refused) == 3
    assert all("call it without await" in text for text in refused)
    assert fake.noted == {"k0-1": [(n, "step", HALF) for n in (1, 2, 3)]}


async def test_a_thread_that_outlived_its_attempt_sends_nothing() -> None:
    """In real time, a few tenths of a second."""
    fake, worker = FakeOrchestrator(), Worker()
    go_on, ended = threading.Event(), threading.Event()
    began = trio.Event()

    @worker.skill(events_schema=ANY)
    def work(send_event: Any) -> None:
        trio.from_thread.run_sync(began.set)
        go_on.wait(5)
        send_event("step", {"n": 1})
        ended.set()

    fake.submit("work")
    async with running(worker, fake, shutdown_timeout_seconds=0.1):
        await began.wait()
    go_on.set()
    assert ended.wait(5)
    assert fake.noted == {}
