"""The worker from end to end, in virtual time."""

from typing import Any

import pytest
import trio
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.worker_cases import echo_worker, running, sleep_worker
from trio.testing import MockClock

from avtomatika_trio._wire.messages import ResultError
from avtomatika_trio.errors import ConfigError
from avtomatika_trio.worker import Worker
from avtomatika_trio.worker._spool_memory import MemoryFolder


async def test_a_task_is_polled_run_and_reported(autojump_clock: MockClock) -> None:
    fake = FakeOrchestrator()
    fake.submit("echo", {"a": [1, None, 2.5]})
    async with running(echo_worker(), fake):
        await fake.all_done()
    assert fake.results() == {"k0": ("success", {"a": [1, None, 2.5]})}
    assert fake.registrations[0].worker_id == "w1"
    assert fake.registrations[0].instance == "i1"
    assert [skill.name for skill in fake.registrations[0].supported_skills] == ["echo"]
    assert fake.headers[0]["X-Worker-Token"] == "t0ken"
    assert fake.headers[0]["X-Worker-ID"] == "w1"
    assert fake.headers[0]["X-RXON-Version"] == "1.0b17"


async def test_no_more_attempts_run_than_there_are_slots(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), Worker()
    at_once: list[int] = [0]

    @worker.skill
    async def work(params: dict[str, Any]) -> None:
        at_once.append(at_once[-1] + 1)
        await trio.sleep(params["seconds"])
        at_once.append(at_once[-1] - 1)

    for n in range(40):
        fake.submit("work", {"seconds": 1 + n % 7})
    async with running(worker, fake, max_concurrent_tasks=4):
        await fake.all_done()
    assert max(at_once) == 4
    assert len(fake.granted) == 40
    assert fake.returned == []


async def test_a_busy_worker_gets_its_next_tasks_with_the_answer_to_its_results(
    autojump_clock: MockClock,
) -> None:
    fake = FakeOrchestrator()
    fake.submit(count=100)
    async with running(echo_worker(), fake, max_concurrent_tasks=10):
        await fake.all_done()
    assert [len(results) for results in fake.posts] == [10] * 10
    assert [query["max_tasks"] for query in fake.queries] == ["10"] * 10
    assert len(fake.polls) == 2  # the first one, and the one that found nothing at the end


async def test_no_slot_is_idle_while_there_is_work(autojump_clock: MockClock) -> None:
    """One task takes an hour; the other slot works off the rest meanwhile."""
    fake = FakeOrchestrator()
    fake.submit("sleep", {"seconds": 3600})
    fake.submit("sleep", {"seconds": 60}, count=60)
    async with running(sleep_worker(), fake, max_concurrent_tasks=2):
        await fake.all_done()
        assert trio.current_time() < 3602


async def test_tasks_that_come_later_find_every_free_slot(autojump_clock: MockClock) -> None:
    fake = FakeOrchestrator()
    async with running(sleep_worker(), fake, max_concurrent_tasks=5):
        await trio.sleep(100.5)
        began = trio.current_time()
        fake.submit("sleep", {"seconds": 10})
        await trio.sleep(1)
        fake.submit("sleep", {"seconds": 10}, count=4)
        await fake.all_done()
        assert trio.current_time() < began + 11.5


async def test_every_request_that_can_carry_tasks_has_a_number_of_its_own(
    autojump_clock: MockClock,
) -> None:
    """Rule H2."""
    fake = FakeOrchestrator()
    fake.submit(count=50)
    async with running(echo_worker(), fake, max_concurrent_tasks=5):
        await fake.all_done()
        await trio.sleep(100)
    numbers = [int(query["poll"]) for query in (*fake.polls, *fake.queries) if "poll" in query]
    assert len(numbers) == len(set(numbers))
    assert {query["instance"] for query in fake.polls} == {"i1"}


async def test_stop_lets_running_attempts_finish_and_takes_no_more(
    autojump_clock: MockClock,
) -> None:
    fake = FakeOrchestrator()
    fake.submit("sleep", {"seconds": 10}, count=5)
    async with running(sleep_worker(), fake, max_concurrent_tasks=2):
        await trio.sleep(5)
    assert fake.granted == ["k0-1", "k1-1"]
    assert fake.results() == {"k0": ("success", 10.0), "k1": ("success", 10.0)}
    assert fake.returned == []
    assert trio.current_time() == pytest.approx(10, abs=0.5)


async def test_heartbeats_go_on_while_a_worker_drains_and_the_last_one_says_goodbye(
    autojump_clock: MockClock,
) -> None:
    """Rule L10."""
    fake = FakeOrchestrator()
    fake.submit("sleep", {"seconds": 300})
    folder = MemoryFolder()
    async with running(sleep_worker(), fake, folder=folder, shutdown_timeout_seconds=1000.0):
        await trio.sleep(5)
        polls = len(fake.polls)
    assert len(fake.polls) == polls
    assert fake.results() == {"k0": ("success", 300.0)}
    assert len([at for at, what in fake.requests if what.startswith("PATCH")]) >= 30
    assert [beat.leaving for beat in fake.beats[:-1]] == [False] * (len(fake.beats) - 1)
    last = fake.beats[-1]
    assert (last.leaving, last.status, last.current_tasks) == (True, "offline", [])
    assert folder.instances == []


async def test_what_outlives_the_grace_is_given_back(autojump_clock: MockClock) -> None:
    """Rule H6."""
    fake = FakeOrchestrator()
    fake.submit("sleep", {"seconds": 1000})
    async with running(sleep_worker(), fake, shutdown_timeout_seconds=20.0):
        await trio.sleep(5)
    assert trio.current_time() == pytest.approx(25, abs=0.5)
    assert [(said.task_ids, said.unstarted) for said in fake.returned] == [(["k0-1"], [])]
    assert fake.results() == {}
    assert fake.beats[-1].leaving
    assert fake.beats[-1].current_tasks == []


async def test_a_handler_that_answers_the_cut_off_with_a_value_is_given_back_too(
    autojump_clock: MockClock,
) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    @worker.skill
    async def stubborn() -> str:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return "half of it"
        raise AssertionError

    fake.submit("stubborn")
    async with running(worker, fake, shutdown_timeout_seconds=1.0):
        await trio.sleep(5)
    assert [said.task_ids for said in fake.returned] == [["k0-1"]]
    assert fake.posts == []


async def test_tasks_that_arrive_while_a_worker_stops_are_given_back_unstarted(
    autojump_clock: MockClock,
) -> None:
    """The answer to a post of results may carry tasks that were asked for before the stop."""
    fake, worker = FakeOrchestrator(), sleep_worker()
    fake.submit("sleep", {"seconds": 1}, count=2)

    async def stop_in_the_middle(request: Any, answer: Any) -> Any:
        if request.url.path.endswith("/result"):
            worker.stop()
            await trio.sleep(1)
        return answer

    fake.after = stop_in_the_middle
    async with running(worker, fake, max_concurrent_tasks=1):
        await trio.sleep(30)
    assert [(said.task_ids, said.unstarted) for said in fake.returned] == [(["k1-1"], ["k1-1"])]
    assert fake.results() == {"k0": ("success", 1.0)}


async def test_a_surplus_of_tasks_is_given_back_at_once(autojump_clock: MockClock) -> None:
    """Rule H6: nothing that could not begin waits for its lease to expire."""
    fake = FakeOrchestrator()
    fake.submit("sleep", {"seconds": 50}, count=3)
    fake.surplus = 1
    async with running(sleep_worker(), fake, max_concurrent_tasks=2):
        await trio.sleep(1)
        assert [said.unstarted for said in fake.returned] == [["k2-1"]]
        await fake.all_done()
    assert [task.attempts for task in fake.tasks.values()] == [1, 1, 2]


async def test_a_task_that_comes_twice_runs_once(autojump_clock: MockClock) -> None:
    fake = FakeOrchestrator()
    fake.submit("sleep", {"seconds": 5})

    async def twice(request: Any, answer: Any) -> Any:
        if request.url.path.endswith("/next") and answer.status_code == 200:
            body = answer.json()
            return type(answer)(200, json={"tasks": body["tasks"] * 2})
        return answer

    fake.after = twice
    async with running(sleep_worker(), fake):
        await fake.all_done()
    assert [len(results) for results in fake.posts] == [1]


async def test_a_task_that_is_held_already_is_not_begun_again(autojump_clock: MockClock) -> None:
    fake = FakeOrchestrator()
    fake.submit("sleep", {"seconds": 50})
    first: list[bytes] = []

    async def again(request: Any, answer: Any) -> Any:
        if request.url.path.endswith("/next"):
            first.append(answer.content)
            return type(answer)(200, content=first[0])
        return answer

    fake.after = again
    async with running(sleep_worker(), fake):
        await fake.all_done()
    assert len(first) > 2
    assert [result.task_id for results in fake.posts for result in results] == ["k0-1"]


async def test_a_server_that_does_not_hold_polls_is_not_hammered(
    autojump_clock: MockClock,
) -> None:
    fake = FakeOrchestrator(hold_seconds=0.0)
    async with running(echo_worker(), fake):
        await trio.sleep(10)
    assert len(fake.polls) <= 21


async def test_an_answer_read_later_than_one_lease_is_dropped(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Rule H5: ten tasks lay in a socket buffer while the loop stood still."""
    fake = FakeOrchestrator(lease_seconds=30.0, hold_seconds=1.0)
    runs: list[str] = []
    worker = Worker()

    @worker.skill
    async def echo(task_id: str) -> None:
        runs.append(task_id)

    slow = [True]

    async def delay(request: Any, answer: Any) -> Any:
        if request.url.path.endswith("/next") and answer.status_code == 200 and slow:
            autojump_clock.jump(40.0)  # nothing ran meanwhile: the loop stood still
            slow.clear()
        return answer

    fake.after = delay
    fake.submit("echo")
    async with running(worker, fake):
        await fake.all_done()
    assert runs == ["k0-2"]
    assert fake.leases["k0-1"].ended == "unclaimed"
    assert "later than one lease" in caplog.text


async def test_a_poll_never_waits_as_long_as_a_lease(autojump_clock: MockClock) -> None:
    fake = FakeOrchestrator(lease_seconds=3.0, heartbeat_seconds=1.0)
    async with running(echo_worker(), fake, heartbeat_interval_seconds=1.0):
        await trio.sleep(10)
    assert {query["timeout"] for query in fake.polls} == {"2"}


async def test_an_unknown_skill_and_params_of_another_shape_are_failures(
    autojump_clock: MockClock,
) -> None:
    fake = FakeOrchestrator()
    fake.submit("echo", ["not", "an", "object"])

    async def rename(request: Any, answer: Any) -> Any:
        if request.url.path.endswith("/next") and b'"params":{}' in answer.content:
            return type(answer)(200, content=answer.content.replace(b'"echo"', b'"resize"'))
        return answer

    fake.after = rename
    async with running(echo_worker(), fake, max_concurrent_tasks=1):
        await fake.all_done()
        await trio.sleep(1)
        fake.submit("echo", {})
        await fake.all_done()
    errors = [result.error for result in fake.applied]
    assert [(e.code, e.message) for e in errors if isinstance(e, ResultError)] == [
        ("INVALID_INPUT_ERROR", "params must be an object, not list"),
        ("PERMANENT_ERROR", "Unsupported skill: resize"),
    ]


async def test_a_server_without_extensions_is_spoken_to_plainly(autojump_clock: MockClock) -> None:
    fake = FakeOrchestrator(extensions=())
    fake.submit("sleep", {"seconds": 5}, count=4)
    async with running(sleep_worker(), fake, max_concurrent_tasks=2):
        await fake.all_done()
        await trio.sleep(1)
    assert all(query.keys() == {"timeout", "available_skills"} for query in fake.polls)
    assert fake.queries == [{}] * 4
    assert [result.data for result in fake.applied] == [{"result": 5.0}] * 4
    assert {beat.instance for beat in fake.beats} == {None}
    assert trio.current_time() < 13


async def test_without_a_skill_it_does_not_start(autojump_clock: MockClock) -> None:
    with pytest.raises(ConfigError, match="no skill"):
        await Worker(orchestrators="http://o", worker_id="w").serve()


async def test_a_worker_can_be_stopped_before_it_could_reach_anyone(
    autojump_clock: MockClock,
) -> None:
    fake = FakeOrchestrator(down=True)
    async with running(echo_worker(), fake):
        await trio.sleep(100)
    assert trio.current_time() < 110
