"""From the handler's end to the accepted result: rules R3 to R7, in virtual time."""

import json
import logging

import httpx
import pytest
import trio
from tests.worker.fake_orchestrator import URL, FakeOrchestrator
from tests.worker.worker_cases import echo_worker, running, sleep_worker
from trio.testing import MockClock

from avtomatika_trio.worker import Worker
from avtomatika_trio.worker._spool_entry import FinishedResult
from avtomatika_trio.worker._spool_memory import MemoryFolder, open_memory_spool

DAY = 24 * 3600.0


async def left_in(
    folder: MemoryFolder,
    *,
    worker_id: str = "w1",
    cluster_id: str = "blue",
    orchestrator: str = URL,
    finished_at: float = 0.0,
    task_id: str = "old-1",
) -> None:
    """Leave a result in the spool, as an earlier process would."""
    async with open_memory_spool(folder, worker_id=worker_id, instance="i0") as spool:
        body = {"job_id": "job-old", "task_id": task_id, "worker_id": worker_id, "data": {"n": 1}}
        await spool.append(
            FinishedResult(
                cluster_id=cluster_id,
                orchestrator=orchestrator,
                job_id="job-old",
                task_id=task_id,
                body=body,
                finished_at=finished_at,
            )
        )


async def test_results_are_posted_in_batches(autojump_clock: MockClock) -> None:
    fake = FakeOrchestrator()
    fake.submit("sleep", {"seconds": 3}, count=50)
    async with running(sleep_worker(), fake, max_concurrent_tasks=50):
        await fake.all_done()
    assert [len(results) for results in fake.posts] == [50]


async def test_what_nobody_accepts_stays_in_the_spool(autojump_clock: MockClock) -> None:
    fake, folder = FakeOrchestrator(), MemoryFolder()
    fake.submit("sleep", {"seconds": 5})
    async with running(sleep_worker(), fake, folder=folder):
        await trio.sleep(1)
        fake.down = True
    assert [entry.task_id for entry in folder.entries.values()] == ["k0-1"]
    assert trio.current_time() < 20
    fake.down = False
    async with running(sleep_worker(), fake, folder=folder, instance="i2"):
        await fake.all_done()
    assert fake.results() == {"k0": ("success", 5.0)}
    assert fake.granted == ["k0-1"]
    assert folder.entries == {}


async def test_an_ignored_result_is_settled_and_said_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Rules R3, R5: the issuer never heard of it, and that is final."""
    fake, folder = FakeOrchestrator(), MemoryFolder()
    await left_in(folder, task_id="old-1")
    await left_in(folder, task_id="old-2")
    async with running(echo_worker(), fake, folder=folder, instance="i2"):
        await trio.sleep(1)
        assert folder.entries == {}
        await trio.sleep(15)
        assert fake.beats[-1].current_tasks == []
    assert caplog.text.count("job_not_found") == 1


async def test_unknown_is_not_final_from_another_orchestrator_of_the_cluster_for_a_day(
    autojump_clock: MockClock,
) -> None:
    """Rule R5."""
    fake, folder = FakeOrchestrator(), MemoryFolder()
    await left_in(folder, orchestrator="http://home")
    async with running(echo_worker(), fake, folder=folder, instance="i2"):
        await trio.sleep(100)
        assert len(fake.posts) == 1
        assert len(folder.entries) == 1
    async with running(echo_worker(), fake, folder=folder, instance="i3"):
        await trio.sleep(DAY)
        fake.forget()  # a new registration looks at what is left
        await trio.sleep(100)
    assert folder.entries == {}
    assert [entry.task_id for entry, _ in folder.set_aside] == ["old-1"]


async def test_results_of_another_cluster_are_kept_and_named(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    fake, folder = FakeOrchestrator(cluster_id="green"), MemoryFolder()
    await left_in(folder, cluster_id="blue", orchestrator="http://elsewhere")
    async with running(echo_worker(), fake, folder=folder, instance="i2"):
        await trio.sleep(30)
        assert fake.beats[-1].current_tasks == ["old-1"]
    assert fake.posts == []
    assert len(folder.entries) == 1
    assert "http://elsewhere" in caplog.text


async def test_a_stranger_at_the_same_address_gets_no_results(autojump_clock: MockClock) -> None:
    """Another cluster answers where the issuer was: it would say that it never heard of it."""
    fake, folder = FakeOrchestrator(), MemoryFolder()
    fake.submit("sleep", {"seconds": 30})
    async with running(sleep_worker(), fake, folder=folder):
        await trio.sleep(5)
        fake.cluster_id = "red"
        fake.forget()
        await trio.sleep(60)
        assert fake.posts == []
        assert [entry.cluster_id for entry in folder.entries.values()] == ["blue"]
        fake.cluster_id = "blue"
        fake.forget()
        await fake.all_done()


async def test_results_of_an_earlier_worker_id_are_delivered_in_its_name(
    autojump_clock: MockClock,
) -> None:
    fake, folder = FakeOrchestrator(), MemoryFolder()
    await left_in(folder, worker_id="w0", task_id="old-0")
    await left_in(folder, worker_id="w1", task_id="old-1")
    async with running(echo_worker(), fake, folder=folder, instance="i2"):
        await trio.sleep(10)
    assert sorted(fake.posted_as) == ["w0", "w1"]
    assert "max_tasks" not in fake.queries[fake.posted_as.index("w0")]
    assert folder.entries == {}


async def test_results_without_a_credential_for_their_worker_id_are_set_aside(
    autojump_clock: MockClock,
) -> None:
    fake, folder = FakeOrchestrator(), MemoryFolder()
    await left_in(folder, worker_id="w0")

    async def refuse(request: httpx.Request) -> httpx.Response | None:
        foreign = request.headers["X-Worker-ID"] == "w0"
        return httpx.Response(403, json={"error": "Unauthorized"}) if foreign else None

    fake.fault = refuse
    fake.submit()
    async with running(echo_worker(), fake, folder=folder, instance="i2"):
        await fake.all_done()
    assert [entry.task_id for entry, _ in folder.set_aside] == ["old-1"]


async def test_a_full_spool_stops_polling_and_nothing_else(autojump_clock: MockClock) -> None:
    """Rule R6."""
    fake, folder = FakeOrchestrator(), MemoryFolder()

    async def refuse(request: httpx.Request) -> httpx.Response | None:
        late = request.url.path.endswith("/result") and trio.current_time() < 300
        return httpx.Response(503) if late else None

    fake.fault = refuse
    for n in range(20):
        fake.submit("sleep", {"seconds": 10 + n})
    async with running(
        sleep_worker(), fake, folder=folder, changes={"max_entries": 3}, max_concurrent_tasks=1
    ):
        await trio.sleep(200)
        assert len(folder.entries) == 3
        assert len(fake.granted) == 3
        polls = len(fake.polls)
        await trio.sleep(90)
        assert len(fake.polls) == polls
        assert len(fake.beats) > 25
        await fake.all_done()
    assert {status for status, _ in fake.results().values()} == {"success"}


async def test_a_result_that_is_refused_is_replaced_by_a_failure_that_says_why(
    autojump_clock: MockClock,
) -> None:
    """Rule R7; the innocent ones of the same post get through."""
    fake, folder = FakeOrchestrator(), MemoryFolder()

    async def refuse(request: httpx.Request) -> httpx.Response | None:
        if request.url.path.endswith("/result") and len(request.content) > 2000:
            return httpx.Response(413, json={"error": "Maximum request body size 2000 exceeded."})
        return None

    fake.fault = refuse
    small = [fake.submit("echo", {"n": n})[0] for n in range(30)]
    (big,) = fake.submit("echo", {"text": "x" * 5000})
    async with running(echo_worker(), fake, folder=folder, max_concurrent_tasks=50):
        await fake.all_done()
    assert big.result is not None
    error = big.result.error
    assert error is not None
    assert not isinstance(error, str)
    assert (big.result.status, error.code) == ("failure", "RESULT_REJECTED")
    assert "Maximum request body size 2000 exceeded." in error.message
    assert error.details["status"] == 413
    assert [task.result.data for task in small if task.result] == [{"n": n} for n in range(30)]
    assert (folder.entries, folder.set_aside) == ({}, [])


async def test_a_failure_that_is_refused_too_is_set_aside(autojump_clock: MockClock) -> None:
    fake, folder = FakeOrchestrator(), MemoryFolder()

    async def refuse(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(422, text="no") if request.url.path.endswith("/result") else None

    fake.fault = refuse
    fake.submit()
    async with running(echo_worker(), fake, folder=folder):
        await trio.sleep(60)
    assert folder.entries == {}
    entry, reason = folder.set_aside[0]
    assert (entry.task_id, "422" in reason) == ("k0-1", True)
    assert fake.returned[0].task_ids == ["k0-1"]
    assert fake.returned[0].unstarted == []


async def test_a_disk_that_refuses_stops_new_work_and_loses_nothing(
    autojump_clock: MockClock,
) -> None:
    fake, folder = FakeOrchestrator(), MemoryFolder()
    for n in range(10):
        fake.submit("sleep", {"seconds": 5 + n})
    async with running(sleep_worker(), fake, folder=folder, max_concurrent_tasks=2):
        await trio.sleep(1)
        folder.fault = "no space left on device"
        await trio.sleep(300)
        assert len(fake.granted) == 2
        assert sorted(fake.beats[-1].current_tasks or ()) == ["k0-1", "k1-1"]
        folder.fault = None
        await fake.all_done()
    assert {status for status, _ in fake.results().values()} == {"success"}


async def test_a_disk_that_refuses_keeps_free_slots_from_being_filled(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """What came would be in memory only, and be done again if the process ended."""
    fake, folder = FakeOrchestrator(), MemoryFolder()
    fake.submit("sleep", {"seconds": 5})
    async with running(sleep_worker(), fake, folder=folder, max_concurrent_tasks=4):
        await trio.sleep(1)
        folder.fault = "no space left on device"
        await trio.sleep(60)  # the poll that was parked has ended
        fake.submit("sleep", {"seconds": 1}, count=3)
        await trio.sleep(60)
        assert fake.granted == ["k0-1"]
        assert fake.beats[-1].status == "full"
        folder.fault = None
        await fake.all_done()
    assert caplog.text.count("the disk takes results again") == 1
    assert {status for status, _ in fake.results().values()} == {"success"}


async def test_a_disk_that_has_room_for_some_results_takes_these(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """And nothing is asked for before."""
    fake, folder = FakeOrchestrator(), MemoryFolder(room=3)
    fake.submit("sleep", {"seconds": 5}, count=8)
    async with running(sleep_worker(), fake, folder=folder, max_concurrent_tasks=8):
        await trio.sleep(1)
        fake.submit("sleep", {"seconds": 5})
        await trio.sleep(4.5)
        assert len(fake.granted) == 8
        await fake.all_done()
    assert {status for status, _ in fake.results().values()} == {"success"}
    assert caplog.text.count("the disk takes results again") == 1


async def test_results_that_the_disk_never_takes_are_told_and_their_tasks_done_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    fake, folder = FakeOrchestrator(), MemoryFolder()
    fake.submit("sleep", {"seconds": 5})
    async with running(sleep_worker(), fake, folder=folder):
        await trio.sleep(1)
        folder.fault = "no space left on device"
        await trio.sleep(60)
    assert fake.results() == {}
    (told,) = [it.getMessage() for it in caplog.records if "are lost" in it.getMessage()]
    assert told.startswith("1 results are lost, since the disk takes none: ")
    assert "no space left on device" in told
    folder.fault = None
    async with running(sleep_worker(), fake, folder=folder, instance="i2"):
        await fake.all_done()
    assert fake.granted == ["k0-1", "k0-2"]
    assert {status for status, _ in fake.results().values()} == {"success"}


async def test_a_large_batch_is_split_to_fit_requests(autojump_clock: MockClock) -> None:
    fake = FakeOrchestrator()
    sizes: list[int] = []

    async def measure(request: httpx.Request) -> None:
        if request.url.path.endswith("/result"):
            sizes.append(len(request.content))

    fake.fault = measure
    fake.submit("echo", {"text": "x" * 100_000}, count=20)
    async with running(echo_worker(), fake, max_concurrent_tasks=20):
        await fake.all_done()
    assert len(sizes) >= 4
    assert max(sizes) <= 512 * 1024


async def test_numbers_of_any_size_arrive_as_they_are(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), Worker()
    numbers = [2**70, -(2**80), 1.0, 1e300, 0]

    @worker.skill
    async def count() -> list[float]:
        return numbers

    bodies: list[bytes] = []

    async def look(request: httpx.Request) -> None:
        if request.url.path.endswith("/result"):
            bodies.append(request.content)

    fake.fault = look
    fake.submit("count")
    async with running(worker, fake):
        await fake.all_done()
    data = json.loads(bodies[0])[0]["data"]
    assert [(type(one), one) for one in data] == [(type(one), one) for one in numbers]


async def test_a_post_without_an_answer_that_fits_is_sent_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fake = FakeOrchestrator()
    once: list[int] = []

    async def shorten(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if request.url.path.endswith("/result") and not once:
            once.append(1)
            return httpx.Response(200, json={"results": [], "tasks": []})
        return answer

    fake.after = shorten
    fake.submit("sleep", {"seconds": 1}, count=2)
    async with running(sleep_worker(), fake):
        await fake.all_done()
        await trio.sleep(5)
    assert [len(results) for results in fake.posts] == [2, 2]
    assert len(fake.applied) == 2
