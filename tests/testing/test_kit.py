"""The kit for tests of blueprints and workers, as those who write them use it."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from avtomatika_trio import ActionFactory, Blueprint, RetryPolicy, testing
from avtomatika_trio.errors import BlueprintError, PermanentError, TransientError
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
    began = time.monotonic()
    outcomes: list[Any] = [TransientError("not yet")] * 24 + [{}]
    job = testing.run_job(patient, skills={"work": outcomes}, timeout_seconds=200_000)
    assert job.assert_finished() == "at last"
    assert job.attempts == {"work": 25}
    assert 24 * 3600 <= job.seconds < 24 * 3600 + 60
    assert time.monotonic() - began < 10


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
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"open tasks: greet \(queued\)") as caught:
        testing.run_job(greetings, {"name": "Ada"}, skills={"gret": {}})
    assert "task_dispatched" in str(caught.value)
    assert time.monotonic() - began < 10


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


async def test_a_real_clock_is_refused_with_the_remedy() -> None:
    with pytest.raises(RuntimeError, match=r"autojump_clock.*testing\.run"):
        async with testing.cluster(greetings):
            pass


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


def test_it_needs_no_pytest() -> None:
    code = (
        "import sys; sys.modules['pytest'] = sys.modules['_pytest'] = None;"
        " import avtomatika_trio.testing"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
