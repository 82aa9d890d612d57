"""What heartbeats say and do: the rules L1 to L6, in virtual time but for the thread itself."""

import logging
import time
from typing import Any

import httpx
import pytest
import trio
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.worker_cases import echo_worker, killed_at_the_end, running, sleep_worker
from trio.testing import MockClock

from avtomatika_trio._wire.messages import Heartbeat
from avtomatika_trio.worker import Worker
from avtomatika_trio.worker._snapshot import Holdings
from avtomatika_trio.worker._spool_memory import MemoryFolder


async def test_a_worker_beats_three_times_in_a_lease(autojump_clock: MockClock) -> None:
    fake = FakeOrchestrator(lease_seconds=12.0, heartbeat_seconds=None)
    async with running(echo_worker(), fake):
        await trio.sleep(41)
    times = [at for at, what in fake.requests if what.startswith("PATCH")]
    assert times[:-1] == pytest.approx([0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40])


async def test_heartbeats_are_numbered_and_tell_of_polls_and_tasks(
    autojump_clock: MockClock,
) -> None:
    """Rule L3."""
    fake = FakeOrchestrator()
    async with running(sleep_worker(), fake, max_concurrent_tasks=2):
        await trio.sleep(5)
        fake.submit("sleep", {"seconds": 100})
        await trio.sleep(26)
        fake.submit("sleep", {"seconds": 100})
        await trio.sleep(10)
    told = [
        (beat.beat, beat.last_poll, beat.open_polls, beat.current_tasks, beat.status)
        for beat in fake.beats
    ]
    assert told[0][0] == 1
    assert told[1:5] == [
        (2, 2, [2], ["k0-1"], "idle"),
        (3, 2, [2], ["k0-1"], "idle"),
        (4, 3, [3], ["k0-1"], "idle"),
        (5, 3, [], ["k0-1", "k1-1"], "full"),
    ]
    assert {beat.instance for beat in fake.beats} == {"i1"}


def test_a_poll_is_closed_and_its_attempts_are_named_by_one_assignment() -> None:
    """Rule L2: whoever looks in between sees the poll open or the attempts, never neither."""
    holdings = Holdings({"r0": "blue"})
    seen = [holdings.current]
    first, second = holdings.open_poll(), holdings.open_poll()
    seen.append(holdings.current)
    holdings.close_poll(first, ["t1", "t2"], "blue")
    seen.append(holdings.current)
    holdings.drop(["t1", "r0", "unheard-of"])
    assert [(s.last_poll, sorted(s.open_polls), sorted(s.held)) for s in seen] == [
        (0, [], ["r0"]),
        (2, [1, 2], ["r0"]),
        (2, [2], ["r0", "t1", "t2"]),
    ]
    assert (second, list(holdings.current.held)) == (2, ["t2"])


async def test_a_finished_attempt_is_named_until_its_result_is_accepted(
    autojump_clock: MockClock,
) -> None:
    """Rule L2: through the spool's fsync and the delivery; it is not run again."""
    fake, folder = FakeOrchestrator(), MemoryFolder(fsync_seconds=35.0)

    async def slow(request: httpx.Request) -> httpx.Response | None:
        if request.url.path.endswith("/result") and trio.current_time() < 120:
            return httpx.Response(503, text="not now")
        return None

    fake.fault = slow
    fake.submit("sleep", {"seconds": 1})
    async with running(sleep_worker(), fake, folder=folder):
        await fake.all_done()
        await trio.sleep(15)
    named = [bool(beat.current_tasks) for beat in fake.beats[1:-1]]
    assert named == sorted(named, reverse=True)
    assert named.count(True) >= 8
    assert fake.leases["k0-1"].ended == "done"
    assert fake.granted == ["k0-1"]
    assert trio.current_time() > 120


async def test_a_restarted_worker_names_delivers_and_does_not_run_again(
    autojump_clock: MockClock,
) -> None:
    """Rules L6 and R4: the spool is read before the first heartbeat."""
    fake, folder = FakeOrchestrator(), MemoryFolder()
    fake.submit("sleep", {"seconds": 5})
    fake.submit("sleep", {"seconds": 500})

    async def refuse(request: httpx.Request) -> httpx.Response | None:
        late = request.url.path.endswith("/result") and trio.current_time() < 60
        return httpx.Response(503) if late else None

    fake.fault = refuse
    async with killed_at_the_end(sleep_worker(), fake, folder, "i1"):
        await trio.sleep(30)
    assert [entry.task_id for entry in folder.entries.values()] == ["k0-1"]
    first_of_second = len(fake.beats)
    async with running(sleep_worker(), fake, folder=folder, instance="i2"):
        await trio.sleep(20)
        beat = fake.beats[first_of_second]
        assert (beat.instance, beat.replaces) == ("i2", ["i1"])
        assert beat.current_tasks == ["k0-1"]
        assert fake.beats[first_of_second + 1].replaces == []
        assert fake.leases["k1-1"].ended == "lost"
        await fake.until(lambda: fake.tasks["k0"].result)
        assert folder.instances == ["i2"]
        await fake.all_done()
    assert fake.granted == ["k0-1", "k1-1", "k1-2"]
    assert folder.instances == []


async def test_what_is_replaced_is_repeated_until_it_is_acknowledged(
    autojump_clock: MockClock,
) -> None:
    """Rule L6: I1, I2 that dies early, I3."""
    fake, folder = FakeOrchestrator(), MemoryFolder()
    for instance in ("i1", "i2"):
        fake.down = instance == "i2"
        async with killed_at_the_end(echo_worker(), fake, folder, instance):
            await trio.sleep(5)
    fake.down = True
    async with running(echo_worker(), fake, folder=folder, instance="i3"):
        await trio.sleep(100)
        fake.down = False
        await trio.sleep(20)
    assert fake.beats[1].replaces == ["i1", "i2"]
    assert fake.beats[2].replaces == []
    assert folder.instances == []


async def test_being_told_to_cancel_stops_exactly_that_handler(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), Worker()
    ended: list[str] = []

    @worker.skill
    async def wait(task_id: str) -> None:
        try:
            await trio.sleep(50)
        finally:
            ended.append(f"{task_id} at {trio.current_time():.0f}")

    fake.submit("wait", count=2)
    fake.to_cancel = {"k0-1", "unheard-of"}
    async with running(worker, fake, max_concurrent_tasks=2):
        await trio.sleep(45)
        assert ended == ["k0-1 at 10"]
        assert fake.beats[-1].current_tasks == ["k1-1"]
        await fake.until(lambda: fake.tasks["k1"].result)
    assert fake.returned == []
    assert [result.task_id for result in fake.applied] == ["k1-1"]


async def test_being_told_to_cancel_does_not_remove_a_result_from_the_spool(
    autojump_clock: MockClock,
) -> None:
    """Rule R4: only the answer to its delivery does."""
    fake, folder = FakeOrchestrator(), MemoryFolder()

    async def refuse(request: httpx.Request) -> httpx.Response | None:
        late = request.url.path.endswith("/result") and trio.current_time() < 60
        return httpx.Response(503) if late else None

    fake.fault = refuse
    fake.to_cancel = {"k0-1"}
    fake.submit("sleep", {"seconds": 5})
    async with running(sleep_worker(), fake, folder=folder):
        await trio.sleep(50)
        assert len(folder.entries) == 1
        await fake.all_done()
    assert fake.results() == {"k0": ("success", 5.0)}


async def test_a_cancelled_thread_keeps_its_slot_until_it_ends() -> None:
    """In real time, a few tenths of a second: the virtual clock does not see threads."""
    fake, worker = FakeOrchestrator(heartbeat_seconds=0.1), Worker()
    told = trio.Event()
    seen: list[str] = []

    @worker.skill
    def work(task_id: str) -> str:
        trio.from_thread.run_sync(seen.append, task_id)
        if task_id == "k0-1":
            trio.from_thread.run(told.wait)
            time.sleep(0.2)
        return task_id

    fake.submit("work", count=2)
    fake.to_cancel = {"k0-1"}
    async with running(worker, fake, max_concurrent_tasks=1, heartbeat_interval_seconds=0.1):
        await fake.until(lambda: any(beat.current_tasks for beat in fake.beats), seconds=5)
        told.set()
        await trio.sleep(0.05)
        assert seen == ["k0-1"]
        assert fake.granted == ["k0-1"]
        await fake.until(lambda: fake.tasks["k1"].result, seconds=5)
    assert [result.task_id for result in fake.applied] == ["k1-1"]


async def test_a_thread_that_outlives_the_grace_is_given_back_last() -> None:
    """Rule H6: after all results are delivered, right before the goodbye; in real time."""
    fake, worker = FakeOrchestrator(), Worker()
    release = trio.Event()
    started = trio.Event()
    delivered: list[int] = []

    @worker.skill
    async def quick() -> None:
        await started.wait()

    async def slow(request: httpx.Request) -> None:
        if request.url.path.endswith("/result"):
            await trio.sleep(0.3)
        if request.url.path.endswith("/return"):
            delivered.append(len(fake.applied))

    fake.fault = slow
    fake.submit("quick")

    @worker.skill
    def work() -> None:
        trio.from_thread.run_sync(started.set)
        trio.from_thread.run(release.wait)

    fake.submit("work")
    async with running(worker, fake, shutdown_timeout_seconds=0.1):
        await started.wait()
    assert [what for _, what in fake.requests[-2:]] == [
        "POST /_worker/tasks/return",
        "PATCH /_worker/workers/w1",
    ]
    assert fake.returned[0].task_ids == ["k1-1"]
    assert delivered == [1]
    assert fake.beats[-1].current_tasks == []
    release.set()
    await trio.sleep(0.05)


class _Thread:
    """The orchestrator as the heartbeat thread meets it."""

    def __init__(self) -> None:
        self.beats: list[tuple[float, Heartbeat]] = []
        self.fake = FakeOrchestrator(heartbeat_seconds=0.1)

    def handle(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return self.fake.register(request.content)
        answer = self.fake.heartbeat("w1", request.content)
        self.beats.append((time.monotonic(), self.fake.beats[-1]))
        return answer


async def test_a_handler_that_blocks_the_loop_loses_no_lease(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Rules L1 and L5, with the real thread, in real time."""
    caplog.set_level(logging.WARNING)
    thread, worker = _Thread(), Worker()
    blocked: list[float] = []

    @worker.skill
    async def block() -> str:
        blocked.append(time.monotonic())
        time.sleep(0.7)  # noqa: ASYNC251 - what this is about
        blocked.append(time.monotonic())
        return "done"

    thread.fake.submit("block")
    changes: dict[str, Any] = {
        "beats_in_thread": True,
        "wall_clock": time.time,
        "thread_transport": httpx.MockTransport(thread.handle),
    }
    async with running(worker, thread.fake, changes=changes, heartbeat_interval_seconds=0.1):
        await thread.fake.until(lambda: thread.fake.tasks["k0"].result, seconds=5)
    during = [beat for at, beat in thread.beats if blocked[0] < at < blocked[1]]
    assert len(during) >= 4
    assert all(beat.current_tasks == ["k0-1"] for beat in during[1:])
    assert 0.3 < max(beat.loop_blocked_seconds for beat in during) < 0.75
    stuck = [r.getMessage() for r in caplog.records if "has been blocked" in r.getMessage()]
    assert len(stuck) == 1
    assert "time.sleep(0.7)" in stuck[0]
    assert thread.fake.beats[-1].leaving


async def test_the_thread_tells_the_loop_what_to_cancel() -> None:
    thread, worker = _Thread(), Worker()
    ended = trio.Event()

    @worker.skill
    async def wait() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    thread.fake.submit("wait")
    thread.fake.to_cancel = {"k0-1"}
    changes: dict[str, Any] = {
        "beats_in_thread": True,
        "wall_clock": time.time,
        "thread_transport": httpx.MockTransport(thread.handle),
    }
    async with running(worker, thread.fake, changes=changes, heartbeat_interval_seconds=0.1):
        with trio.fail_after(5):
            await ended.wait()
    assert thread.fake.posts == []
