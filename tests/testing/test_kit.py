"""The kit for tests of blueprints and workers, as those who write them use it."""

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from avtomatika_trio import ActionFactory, Blueprint, RetryPolicy, testing
from avtomatika_trio._config import WorkerSettings
from avtomatika_trio._core.rules import Rules
from avtomatika_trio.errors import (
    BlueprintError,
    ConfigError,
    OrchestratorUnavailable,
    PermanentError,
    TransientError,
)
from avtomatika_trio.worker import SkillBlueprint, Worker

greetings = Blueprint("greetings")


@greetings.handler(is_start=True)
async def begin(actions: ActionFactory, name: str) -> None:
    actions.dispatch_task("greet", {"name": name}, {"success": "done"})


@greetings.handler(is_end=True)
def done(greeting: str) -> dict[str, str]:
    return {"said": greeting}


patient = Blueprint("patient")


@patient.handler("start", is_start=True)
async def _start(actions: ActionFactory) -> None:
    retry = RetryPolicy(max_retries=24, base_seconds=3600.0, cap_seconds=3600.0, jitter=0.0)
    actions.dispatch_task("work", {}, {"success": "end"}, retry=retry)


@patient.handler("end", is_end=True)
async def _end() -> str:
    return "at last"


many = Blueprint("many")


@many.handler("begin", is_start=True)
async def _begin(actions: ActionFactory, numbers: list[int]) -> None:
    tasks = [{"type": "double", "key": str(n), "params": {"n": n}} for n in numbers]
    actions.dispatch_parallel(tasks, aggregate_into="add")


@many.aggregator("add")
async def _add(
    actions: ActionFactory, aggregation_results: dict[str, Any], state_history: dict[str, Any]
) -> None:
    state_history["sum"] = sum(it["data"] for it in aggregation_results.values())
    actions.go_to("end")


@many.handler("end", is_end=True)
async def _told(state_history: dict[str, Any]) -> int:
    total: int = state_history["sum"]
    return total


broken = Blueprint("broken")


@broken.handler("start", is_start=True)
async def _break(actions: ActionFactory, job_id: str) -> None:
    if job_id:
        raise ZeroDivisionError("seven by nothing")
    actions.go_to("end")


@broken.handler("end", is_end=True)
async def _unreachable() -> None: ...


GREETED = {"greet": {"greeting": "Hi"}}


async def test_a_skill_is_played(autojump_clock: MockClock) -> None:
    async with testing.cluster(greetings, skills=GREETED) as rig:
        job = await rig.run({"name": "Ada"})
        assert rig.calls("greet") == [{"name": "Ada"}]
    assert job.assert_finished() == job.result == {"said": "Hi"}
    assert job.states == ("begin", "done")
    assert job.state_history["greeting"] == "Hi"
    assert job.attempts == {"greet": 1}
    assert job.events == (
        "job_created",
        "task_dispatched",
        "attempt_leased",
        "task_finished",
        "job_finished",
    )


def test_a_plain_function_needs_no_more_than_pytest() -> None:
    async def scenario() -> Any:
        async with testing.cluster(greetings, skills=GREETED) as rig:
            return (await rig.run({"name": "Ada"})).result

    assert testing.run(scenario) == {"said": "Hi"}


def test_one_job_is_one_line() -> None:
    job = testing.run_job(greetings, {"name": "Ada"}, skills=GREETED)
    assert job.assert_finished() == {"said": "Hi"}


def test_functions_are_handlers_and_run_in_the_loop() -> None:
    def plain(params: dict[str, Any], attempt: int) -> dict[str, Any]:
        trio.lowlevel.current_task()
        return {"greeting": f"{params['name']} {attempt}"}

    async def slow(params: dict[str, Any]) -> dict[str, Any]:
        await trio.sleep(3600)
        return {"greeting": "late"}

    @attrs.frozen
    class Who:
        name: str

    def typed(params: Who) -> dict[str, Any]:
        return {"greeting": params.name.upper()}

    for played, said in ((plain, "Ada 1"), (slow, "late"), (typed, "ADA")):
        job = testing.run_job(greetings, {"name": "Ada"}, skills={"greet": played})
        assert job.assert_finished() == {"said": said}
    assert testing.run_job(greetings, {"name": "a"}, skills={"greet": slow}).seconds >= 3600


def test_a_list_has_the_outcomes_of_the_attempts() -> None:
    outcomes: list[Any] = [
        TransientError("busy"),
        ValueError,
        lambda params: {"greeting": params["name"]},
    ]
    job = testing.run_job(greetings, {"name": "Ada"}, skills={"greet": outcomes})
    assert job.assert_finished() == {"said": "Ada"}
    assert job.attempts == {"greet": 3}
    assert job.events.count("attempt_failed") == 2


def test_a_list_that_is_too_short_fails_the_job_and_says_so() -> None:
    job = testing.run_job(greetings, {"name": "Ada"}, skills={"greet": [TransientError("x")]})
    assert "attempt 2" in job.assert_failed("PERMANENT_ERROR").message


def test_an_error_is_the_outcome_of_every_attempt() -> None:
    failing = {"greet": PermanentError("never")}
    job = testing.run_job(greetings, {"name": "Ada"}, skills=failing)
    assert job.assert_failed("PERMANENT_ERROR").message.endswith(": never")
    assert job.attempts == {"greet": 1}


def test_a_day_of_retries_takes_seconds() -> None:
    began = time.process_time()
    outcomes: list[Any] = [TransientError("not yet")] * 24 + [{}]
    job = testing.run_job(patient, skills={"work": outcomes}, timeout_seconds=200_000)
    assert job.assert_finished() == "at last"
    assert job.attempts == {"work": 25}
    assert 24 * 3600 <= job.seconds < 24 * 3600 + 60
    assert time.process_time() - began < 10


def test_timers_are_as_exact_as_ever() -> None:
    job = testing.run_job(patient, skills={"work": [TransientError("not yet"), {}]})
    assert job.seconds == pytest.approx(3600, abs=1)


def test_a_worker_that_is_lost_is_replaced() -> None:
    job = testing.run_job(
        greetings, {"name": "Ada"}, skills={"greet": [testing.LOST, {"greeting": "Hi"}]}
    )
    assert job.assert_finished() == {"said": "Hi"}
    assert job.events.count("attempt_lost") == 1
    assert [it.worker_id for it in job.tasks[0].attempts] == ["worker-1", "worker-2"]
    assert job.seconds > 30  # its lease had to end


def test_one_that_is_lost_again_and_again_quarantines_the_job() -> None:
    job = testing.run_job(greetings, {"name": "Ada"}, skills={"greet": testing.LOST})
    assert job.status == "quarantined"
    job.assert_failed("worker_lost")


async def test_a_real_worker_is_lost_in_its_handler(autojump_clock: MockClock) -> None:
    worker = Worker()

    @worker.skill("greet")
    def greet(params: dict[str, Any]) -> dict[str, Any]:
        trio.lowlevel.current_task()  # in the loop
        return {"greeting": f"Hello, {params['name']}!"}

    async with testing.cluster(greetings, workers=[worker]) as rig:
        await rig.lose_worker(during="greet")
        job = await rig.run({"name": "Ada"})
        assert job.attempts == {"greet": 2}
        assert rig.calls("greet") == [{"name": "Ada"}] * 2
        await rig.lose_worker()
        again = await rig.run({"name": "Eve"})
    assert job.assert_finished() == {"said": "Hello, Ada!"}
    assert again.assert_finished() == {"said": "Hello, Eve!"}
    assert again.tasks[0].attempts[0].worker_id == "worker-3"


async def test_skills_of_a_skill_blueprint_are_real_too(autojump_clock: MockClock) -> None:
    skills = SkillBlueprint()

    @skills.skill("greet")
    async def greet(params: dict[str, Any]) -> dict[str, Any]:
        return {"greeting": "from afar"}

    async with testing.cluster(greetings) as rig:
        job_id = await rig.submit({"name": "Ada"})
        await rig.sleep(7200)
        assert (await rig.job(job_id)).status == "waiting_for_worker"
        await rig.add_worker(skills)
        job = await rig.wait(job_id)
    assert job.assert_finished() == {"said": "from afar"}


async def test_branches_and_several_blueprints(autojump_clock: MockClock) -> None:
    skills = {**GREETED, "double": lambda params: params["n"] * 2}
    async with testing.cluster(greetings, many, skills=skills) as rig:
        job = await rig.run({"numbers": [1, 2, 3]}, "many")
        with pytest.raises(ValueError, match="name one of the blueprints: greetings, many"):
            await rig.run({})
    assert job.assert_finished() == 12
    assert job.states == ("begin", "add", "end")
    assert job.attempts == {"double": 3}


async def test_a_job_is_cancelled(autojump_clock: MockClock) -> None:
    async def greet(params: dict[str, Any]) -> None:
        await trio.sleep_forever()

    async with testing.cluster(greetings, skills={"greet": greet}) as rig:
        job_id = await rig.submit({"name": "Ada"}, labels={"of": "Ada"})
        await rig.sleep(60)
        await rig.cancel(job_id, "enough")
        job = await rig.wait(job_id)
    assert job.status == "cancelled"


async def test_the_orchestrator_may_be_away(autojump_clock: MockClock) -> None:
    async def greet(params: dict[str, Any]) -> dict[str, str]:
        await trio.sleep(600)
        return {"greeting": "Hi"}

    async with testing.cluster(greetings, skills={"greet": greet}) as rig:
        job_id = await rig.submit({"name": "Ada"})
        await rig.sleep(60)
        await rig.kill_orchestrator()
        await rig.sleep(7200)
        await rig.start_orchestrator()
        job = await rig.wait(job_id)
    assert job.assert_finished() == {"said": "Hi"}
    assert job.attempts == {"greet": 1}


def test_what_raises_in_a_blueprint_is_told() -> None:
    job = testing.run_job(broken)
    with pytest.raises(AssertionError, match="seven by nothing") as caught:
        job.assert_finished()
    assert "state_failed" in str(caught.value)
    assert "HANDLER_ERROR" in str(caught.value)
    with pytest.raises(AssertionError, match="it should have failed"):
        testing.run_job(greetings, {"name": "Ada"}, skills=GREETED).assert_failed()
    with pytest.raises(AssertionError, match="with OTHER"):
        job.assert_failed("OTHER")


def test_a_job_that_waits_for_nobody_is_told_and_does_not_hang() -> None:
    began = time.process_time()
    with pytest.raises(TimeoutError) as caught:
        testing.run_job(greetings, {"name": "Ada"}, skills={"gret": {}})
    assert time.process_time() - began < 10
    head, reason, *history = str(caught.value).splitlines()
    assert "is waiting_for_worker in state 'begin' after 86400 s" in head
    assert reason == (
        "  task 'greet' is queued: no worker has this skill; give skills={'greet': ...}, or a"
        " worker that has it; did you mean 'gret'?"
    )
    assert [line.split()[2] for line in history] == ["job_created", "task_dispatched"]


@pytest.mark.parametrize("error", [AssertionError("mine"), ValueError("mine"), SystemExit(3)])
def test_what_a_test_raises_comes_out_as_it_is(error: BaseException) -> None:
    async def scenario() -> None:
        async with testing.cluster(greetings, skills=GREETED) as rig:
            await rig.run({"name": "Ada"})
            raise error

    with pytest.raises(type(error)) as caught:
        testing.run(scenario)
    assert caught.value is error


async def test_it_can_be_cancelled(autojump_clock: MockClock) -> None:
    with trio.move_on_after(100) as scope:
        async with testing.cluster(greetings, skills=GREETED) as rig:
            await rig.sleep(1000)
    assert scope.cancelled_caught


def test_what_is_wrong_in_the_storage_fails_the_test() -> None:
    async def scenario() -> None:
        async with testing.cluster(greetings, skills=GREETED) as rig:
            job = await rig.run({"name": "Ada"})
            storage = rig._cluster.storage
            stored = await storage.job(job.id)
            assert stored is not None
            damaged = attrs.evolve(stored, revision=stored.revision + 1)
            storage.run(lambda ledger: ledger.put_job(damaged))

    with pytest.raises(AssertionError, match="its history should end once"):
        testing.run(scenario)


async def forever(params: dict[str, Any]) -> None:
    await trio.sleep_forever()


async def test_it_is_told_why_a_job_has_not_ended(autojump_clock: MockClock) -> None:
    sleepy = Blueprint("sleepy")

    @sleepy.handler(is_start=True, is_end=True)
    async def sleep() -> None:
        await trio.sleep(50)

    async def why(blueprint: str, played: Any, seconds: float) -> str:
        sources = greetings, patient, sleepy
        async with testing.cluster(*sources, skills={"greet": played, "work": played}) as c:
            with pytest.raises(TimeoutError) as caught:
                await c.run({"name": "Ada"}, blueprint, timeout_seconds=seconds)
        return str(caught.value).splitlines()[1].strip()

    assert await why("greetings", forever, 60) == (
        "task 'greet' is leased (attempt 1): its handler has not returned"
    )
    assert await why("patient", TransientError("not yet"), 60) == (
        "task 'work' is retrying (attempt 1): it is tried again later; wait longer, with"
        " timeout_seconds"
    )
    assert await why("sleepy", {}, 30) == (
        "no task is open: its handlers take long, or are tried again; see timeout_seconds"
    )


async def test_it_is_told_that_all_workers_are_busy(autojump_clock: MockClock) -> None:
    worker = Worker(max_concurrent_tasks=1)
    worker.skill("greet")(forever)
    async with testing.cluster(greetings, workers=[worker]) as c:
        await c.submit({"name": "Ada"})
        await c.sleep(1)
        with pytest.raises(TimeoutError, match="the workers that have this skill are busy"):
            await c.run({"name": "Eve"}, timeout_seconds=60)


async def test_it_is_told_that_there_is_no_orchestrator(autojump_clock: MockClock) -> None:
    async with testing.cluster(greetings, skills=GREETED) as c:
        await c.stop_orchestrator()
        with pytest.raises(OrchestratorUnavailable):
            await c.submit({"name": "Ada"})
        await c.start_orchestrator()
        job_id = await c.submit({"name": "Ada"})
        await c.kill_orchestrator()
        with pytest.raises(TimeoutError, match="is down; start_orchestrator starts it"):
            await c.wait(job_id, timeout_seconds=60)
        await c.start_orchestrator()
        (await c.wait(job_id)).assert_finished()


def test_the_middle_of_a_long_history_is_left_out() -> None:
    hasty = Blueprint("hasty")

    @hasty.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        retry = RetryPolicy(max_retries=24, base_seconds=1.0, cap_seconds=1.0)
        actions.dispatch_task("work", {}, {"success": "end"}, retry=retry)

    @hasty.handler(is_end=True)
    async def end() -> None: ...

    job = testing.run_job(hasty, skills={"work": TransientError("not yet")})
    lines = str(job).splitlines()
    assert len(job.history) > 50
    assert len(lines) == 52
    assert lines[26] == f"  ... {len(job.history) - 50} more ..."
    assert "job_created" in lines[1]
    assert "job_quarantined" in lines[-1]


async def test_a_test_that_waits_for_what_never_comes_ends(autojump_clock: MockClock) -> None:
    with pytest.raises(TimeoutError, match=r"for 3600 s.*cluster\(most_seconds"):
        async with testing.cluster(greetings, skills=GREETED, most_seconds=3600):
            await trio.sleep_forever()


async def test_it_ends_after_a_wait_with_an_end_too(autojump_clock: MockClock) -> None:
    waited: list[float] = []

    async def scenario() -> None:
        async with testing.cluster(greetings, skills=GREETED, most_seconds=3600) as c:
            for wait in (c.sleep, trio.sleep, c.sleep, trio.sleep):
                await wait(2000)
                waited.append(trio.current_time())

    with pytest.raises(TimeoutError, match="for 3600 s"):
        await scenario()
    assert waited == [2000, 4000, 6000]


async def test_waits_with_an_end_may_be_longer(autojump_clock: MockClock) -> None:
    outcomes = [TransientError("not yet"), {}]
    async with testing.cluster(patient, skills={"work": outcomes}, most_seconds=60) as c:
        (await c.run(timeout_seconds=7200)).assert_finished()
        await c.sleep(600)


async def test_limits_of_workers_hold(autojump_clock: MockClock) -> None:
    running: list[int] = []
    most: list[int] = []

    async def double(params: dict[str, Any]) -> dict[str, Any]:
        running.append(params["n"])
        most.append(len(running))
        await trio.sleep(60)
        running.remove(params["n"])
        return {"status": "success", "data": params["n"] * 2}

    async def most_at_a_time(worker: Worker, **settings: Any) -> int:
        worker.skill("double", type="math")(double)
        most.clear()
        async with testing.cluster(many) as c:
            await c.add_worker(worker, **settings)
            job = await c.run({"numbers": [1, 2, 3, 4, 5]})
        assert job.assert_finished() == 30
        return max(most)

    assert await most_at_a_time(Worker()) == 5
    assert await most_at_a_time(Worker(max_concurrent_tasks=2)) == 2
    assert await most_at_a_time(Worker(settings=WorkerSettings(max_concurrent_tasks=3))) == 3
    assert await most_at_a_time(Worker(skill_type_limits={"math": 1})) == 1
    assert await most_at_a_time(Worker(max_concurrent_tasks=2), max_concurrent_tasks=4) == 4


async def test_what_its_author_chose_holds_but_for_where_it_connects(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_CONCURRENT_TASKS", "1")
    monkeypatch.setenv("ORCHESTRATOR_URL", "no address")
    worker = Worker(
        "gpu",
        worker_id="mine",
        token="of-the-fleet",
        orchestrators=[{"url": "https://far-away:8443"}],
        secret_key="tasks-are-signed-with-this",
        health_port=8083,
        heartbeat_interval_seconds=30,
    )
    worker.skill("greet")(lambda params: {"greeting": "Hi"})
    async with testing.cluster(greetings, workers=[worker]) as c:
        (await c.run({"name": "Ada"})).assert_finished()
        [seen] = await c.client.workers()
        [process] = seen.instances
        settings = c._cluster.workers["worker-1"].settings
    assert (seen.worker_id, process.raw["worker_type"]) == ("worker-1", "gpu")
    assert (settings.max_concurrent_tasks, settings.heartbeat_interval_seconds) == (10, 30)
    assert (settings.secret_key, settings.health_port) == (None, None)


async def test_settings_that_cannot_be_used_are_told(autojump_clock: MockClock) -> None:
    worker = Worker(max_concurrent_tasks=0)
    worker.skill("greet")(forever)
    with pytest.raises(ConfigError, match=r"^max_concurrent_tasks: .*from 1"):
        async with testing.cluster(greetings, workers=[worker]):
            pass
    async with testing.cluster(greetings) as c:
        with pytest.raises(ConfigError, match="did you mean 'max_concurrent_tasks'"):
            await c.add_worker(Worker(), max_concurrent_task=1)
        with pytest.raises(ConfigError, match="the worker has no skill"):
            await c.add_worker(Worker())


@pytest.mark.parametrize(
    ("arguments", "named", "error", "text"),
    [
        ((), {}, ValueError, "give cluster() a blueprint"),
        ((3,), {}, TypeError, "3 is no blueprint; give a Blueprint, or the folder"),
        ((greetings,), {"skills": ["greet"]}, TypeError, "skills is a dict of names"),
        ((greetings,), {"skills": {"a b": {}}}, ConfigError, "a skill's name has"),
        (
            (greetings,),
            {"skills": {"greet": lambda whom: {}}},
            ConfigError,
            "nothing fills the parameter 'whom'",
        ),
        ((greetings,), {"workers": Worker()}, TypeError, "workers is a list: workers=[worker]"),
        ((greetings,), {"workers": Worker}, TypeError, "workers is a list: workers=[worker]"),
        ((greetings,), {"workers": [Worker]}, TypeError, "is no worker; give a Worker or a Skill"),
        ((greetings,), {"workers": [len]}, TypeError, "functions as skills={'name': function}"),
        ((greetings,), {"workers": [Worker()]}, ConfigError, "the worker has no skill"),
        ((greetings, greetings), {}, BlueprintError, "there are two blueprints of this name"),
    ],
)
def test_what_makes_no_cluster_is_told_as_it_is(
    arguments: Any, named: Any, error: type[Exception], text: str
) -> None:
    async def scenario() -> None:
        async with testing.cluster(*arguments, **named):
            raise AssertionError

    with pytest.raises(error, match=re.escape(text)):
        testing.run(scenario)


@pytest.fixture
async def opened(autojump_clock: MockClock) -> AsyncIterator[testing.Rig]:
    async with testing.cluster(greetings, skills=GREETED) as c:
        yield c


async def test_it_may_be_a_fixture(autojump_clock: MockClock, opened: testing.Rig) -> None:
    assert (await opened.run({"name": "Ada"})).assert_finished() == {"said": "Hi"}


def test_a_loop_of_ones_own_will_do_if_its_clock_jumps() -> None:
    async def scenario() -> Any:
        async with testing.cluster(greetings, skills=GREETED) as c:
            return (await c.run({"name": "Ada"})).result

    clock = MockClock(autojump_threshold=0)
    assert trio.run(scenario, clock=clock) == {"said": "Hi"}
    with pytest.raises(RuntimeError, match=r"testing\.run"):
        trio.run(scenario)


async def test_a_real_clock_is_refused_with_the_remedy() -> None:
    with pytest.raises(RuntimeError, match=r"autojump_clock.*testing\.run"):
        async with testing.cluster(greetings):
            pass


def test_another_loop_than_that_of_trio_is_refused_with_the_remedy() -> None:
    async def scenario() -> None:
        async with testing.cluster(greetings, skills=GREETED):
            pass

    with pytest.raises(RuntimeError, match=r"a loop of Trio with a clock.*testing\.run"):
        asyncio.run(scenario())


def test_what_is_no_function_is_refused_with_the_remedy() -> None:
    with pytest.raises(TypeError, match=r"an async function, not .*Blueprint.*run_job"):
        testing.run(greetings)  # type: ignore[arg-type]

    async def scenario() -> None: ...

    coroutine = scenario()
    with pytest.raises(TypeError, match="got a coroutine object"):
        testing.run(coroutine)  # type: ignore[arg-type]
    coroutine.close()


async def test_longer_heartbeats_make_long_tests_cheaper(autojump_clock: MockClock) -> None:
    worker = Worker(heartbeat_interval_seconds=600)

    @worker.skill("greet")
    def greet() -> dict[str, str]:
        return GREETED["greet"]

    async with testing.cluster(greetings, workers=[worker]) as c:
        await c.sleep(86_400.0)
        (await c.run({"name": "Ada"})).assert_finished()
        told = len(c._cluster.network.seen)
    assert told < 400, "a beat and a poll each ten minutes"


async def test_pauses_are_no_outage_by_any_rules(autojump_clock: MockClock) -> None:
    async with testing.cluster(greetings, skills=GREETED, rules=Rules(lease_seconds=60.0)) as c:
        await c.sleep(3600.0)
        await c.lose_worker(during="greet")
        job = await c.run({"name": "Ada"})
    lost = next(it for it in job.history if it.event_type == "attempt_lost")
    took = (lost.timestamp - job.history[0].timestamp).total_seconds()
    assert took < 200.0, "a lease of three beats, and not started afresh at each look"


async def test_a_job_of_its_own_in_a_loop_is_refused_with_the_remedy() -> None:
    with pytest.raises(RuntimeError, match=re.escape("async with testing.cluster(...)")):
        testing.run_job(greetings, {"name": "Ada"}, skills={"greet": {"greeting": "Hi"}})


async def test_mistakes_are_told(autojump_clock: MockClock, tmp_path: Path) -> None:
    worker = Worker()
    worker.skill("greet")(lambda params: {})
    with pytest.raises(ValueError, match="played, but a worker has it, too: greet"):
        async with testing.cluster(greetings, skills=GREETED, workers=[worker]):
            pass
    with pytest.raises(BlueprintError, match=r"no \*.py file"):
        async with testing.cluster(tmp_path):
            pass
    async with testing.cluster(greetings) as rig:
        with pytest.raises(LookupError, match="no worker that could be lost"):
            await rig.lose_worker()
    async with testing.cluster(greetings, skills=GREETED) as c:
        with pytest.raises(LookupError, match=r"the skill 'gret'; did you mean 'greet'"):
            await c.lose_worker(during="gret")
        with pytest.raises(LookupError, match=r"the skill 'gret'; did you mean 'greet'"):
            c.calls("gret")
        assert c.calls("greet") == []
        with pytest.raises(LookupError, match="there is no job nobodys"):
            await c.wait("nobodys")


def test_it_needs_no_pytest() -> None:
    code = (
        "import sys; sys.modules['pytest'] = sys.modules['_pytest'] = None;"
        " import avtomatika_trio.testing"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
