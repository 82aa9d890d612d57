"""Skills that share a limit: never more attempts than it says, and none that waits for nothing."""

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from tests.cluster.scene import HEARTBEAT, POLL, RESULT, RETURN, at_peace
from trio.testing import MockClock

from avtomatika_trio import ActionFactory, Blueprint
from avtomatika_trio._wire import messages
from avtomatika_trio.testing import Cluster, Fault
from avtomatika_trio.worker import Worker

GROUPS = {"render": "gpu", "upscale": "gpu", "mix": "audio", "copy": "copy"}

any_skill = Blueprint("any_skill")


@any_skill.handler("start", is_start=True)
async def _start(actions: ActionFactory, initial_data: dict[str, Any]) -> None:
    actions.dispatch_task(initial_data["skill"], initial_data, {"success": "done"})


@any_skill.handler("done", is_end=True)
async def _done() -> None: ...


@attrs.define
class Hall:
    """Makes workers of four skills, and notes how many attempts of each group run."""

    now: Counter[tuple[str, str]] = attrs.field(factory=Counter[tuple[str, str]])
    most: Counter[str] = attrs.field(factory=Counter[str])
    begun: dict[str, list[float]] = attrs.field(factory=dict)

    def worker(self, worker_id: str = "w1", **options: Any) -> Worker:
        worker = Worker(**options)
        for skill, group in GROUPS.items():
            worker.skill(skill, type=group)(self._handler(worker_id, skill, group))
        return worker

    def _handler(self, worker_id: str, skill: str, group: str) -> Any:
        async def handle(params: dict[str, Any]) -> None:
            self.begun.setdefault(skill, []).append(trio.current_time())
            self.now[worker_id, group] += 1
            self.most[group] = max(self.most[group], self.now[worker_id, group])
            try:
                await trio.sleep(params["seconds"])
            finally:
                self.now[worker_id, group] -= 1

        return handle


@asynccontextmanager
async def hall_at_peace(**options: Any) -> AsyncIterator[Cluster]:
    async with at_peace(blueprints=[any_skill], **options) as cluster:
        yield cluster


def job(skill: str, seconds: float) -> dict[str, Any]:
    return {"skill": skill, "seconds": seconds}


def returned(cluster: Cluster) -> int:
    return sum(RETURN(it.call) for it in cluster.network.seen)


async def test_a_batch_brings_no_more_of_a_group_than_there_is_room_for(
    autojump_clock: MockClock,
) -> None:
    hall = Hall()
    async with hall_at_peace() as cluster:
        work = [job(it, 1.0) for it in ("render", "upscale", "copy")] * 4
        job_ids = await cluster.submit("any_skill", *work)
        await cluster.add_worker(hall.worker(skill_type_limits={"gpu": 2}), "w1").start()
        await cluster.wait_until_final(job_ids, seconds=4.5)
        assert hall.most == {"gpu": 2, "copy": 4}
        assert returned(cluster) == 0


@pytest.mark.parametrize("partitions", [1, 4], indirect=True)
async def test_room_holds_over_all_partitions(autojump_clock: MockClock, partitions: int) -> None:
    hall = Hall()
    async with hall_at_peace() as cluster:
        job_ids = await cluster.submit("any_skill", *[job("render", 1.0)] * 6)
        await cluster.add_worker(hall.worker(task_type_limits={"gpu": 3}), "w1").start()
        await cluster.wait_until_final(job_ids, seconds=3.5)
        assert hall.most == {"gpu": 3}
        assert returned(cluster) == 0


async def test_a_skill_gets_its_poll_when_its_group_has_room_again(
    autojump_clock: MockClock,
) -> None:
    """The parked poll was sent while the group was full; nobody waits for its end."""
    hall = Hall()
    async with hall_at_peace() as cluster:
        await cluster.add_worker(hall.worker(skill_type_limits={"gpu": 1}), "w1").start()
        await trio.sleep(1)
        [first] = await cluster.submit("any_skill", job("render", 3.0))
        await cluster.wait_until_final([first])
        await trio.sleep(0.5)
        asked_at = trio.current_time()
        [second] = await cluster.submit("any_skill", job("upscale", 1.0))
        await cluster.wait_until_final([second])
        assert hall.begun["upscale"][0] == pytest.approx(asked_at, abs=0.1)
        assert returned(cluster) == 0


async def test_a_slot_that_a_poll_beside_keeps_is_not_idle(autojump_clock: MockClock) -> None:
    """Two slots: one attempt runs, and what waits for the gpu must not keep copies out."""
    hall = Hall()
    async with hall_at_peace() as cluster:
        worker = hall.worker(skill_type_limits={"gpu": 1})
        await cluster.add_worker(worker, "w1", max_concurrent_tasks=2).start()
        await trio.sleep(1)
        await cluster.submit("any_skill", job("render", 2.0))
        await trio.sleep(1)
        await cluster.submit("any_skill", job("copy", 60.0))
        await trio.sleep(2)
        at = trio.current_time()
        await cluster.submit("any_skill", job("copy", 1.0))
        await trio.sleep(2)
        assert hall.begun["copy"][1] == pytest.approx(at, abs=0.1)


@pytest.mark.parametrize("mode", ["ROUND_ROBIN", "WATERFALL"])
async def test_two_orchestrators_share_the_room_of_a_group(
    autojump_clock: MockClock, mode: str
) -> None:
    hall = Hall()
    async with hall_at_peace(orchestrators=2, is_shared=False) as cluster:
        worker = hall.worker(skill_type_limits={"gpu": 1})
        machine = cluster.add_worker(worker, "w1", mode=mode, orchestrators=cluster.targets())
        await machine.start()
        await trio.sleep(1)
        job_ids = [
            job_id
            for to in ("o1", "o2")
            for job_id in await cluster.submit("any_skill", *[job("render", 1.0)] * 5, to=to)
        ]
        await cluster.wait_until_final(job_ids, seconds=11.5)
        assert hall.most == {"gpu": 1}
        await trio.sleep(0.5)
        at = trio.current_time()
        job_ids = await cluster.submit("any_skill", job("upscale", 1.0), to="o2")
        await cluster.wait_until_final(job_ids)
        assert hall.begun["upscale"][-1] == pytest.approx(at, abs=0.1)


async def test_an_orchestrator_that_knows_no_room_is_asked_for_as_many_as_fit(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tuple(it for it in messages.EXTENSIONS if it != "room")
    monkeypatch.setattr(messages, "EXTENSIONS", old)
    hall = Hall()
    async with hall_at_peace() as cluster:
        work = [job("render", 1.0)] * 4 + [job("copy", 1.0)] * 4
        job_ids = await cluster.submit("any_skill", *work)
        await cluster.add_worker(hall.worker(skill_type_limits={"gpu": 2}), "w1").start()
        await cluster.wait_until_final(job_ids, seconds=5)
        assert hall.most["gpu"] <= 2
        assert returned(cluster) == 0


async def test_a_skill_that_the_checker_vetoes_waits_until_it_does_not(
    autojump_clock: MockClock,
) -> None:
    hall = Hall()
    hot = True
    asked: list[str] = []

    def may(skill: str) -> bool:
        asked.append(skill)
        return skill != "render" or not hot

    async with hall_at_peace() as cluster:
        await cluster.add_worker(hall.worker(capacity_checker=may), "w1").start()
        job_ids = await cluster.submit("any_skill", job("render", 1.0), job("copy", 1.0))
        await trio.sleep(60)
        assert set(hall.begun) == {"copy"}
        hot = False
        lifted_at = trio.current_time()
        await cluster.wait_until_final(job_ids, seconds=10)
        assert hall.begun["render"][0] - lifted_at <= 3.5
        assert set(asked) == set(GROUPS)


async def test_a_checker_that_raises_is_a_veto_and_is_logged_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    hall = Hall()
    broken = True

    def may(skill: str) -> bool:
        if broken:
            raise OSError("no sensor")
        return True

    async with hall_at_peace() as cluster:
        await cluster.add_worker(hall.worker(capacity_checker=may), "w1").start()
        job_ids = await cluster.submit("any_skill", job("copy", 1.0))
        await trio.sleep(60)
        assert hall.begun == {}
        assert len([it for it in caplog.records if "capacity checker" in it.message]) == len(GROUPS)
        polls = [it for it in cluster.network.seen if POLL(it.call)]
        assert polls == []
        broken = False
        await cluster.wait_until_final(job_ids, seconds=10)


@pytest.mark.parametrize("mode", ["FAILOVER", "ROUND_ROBIN"])
@pytest.mark.parametrize("seed", range(6))
async def test_no_storm_exceeds_a_limit(autojump_clock: MockClock, seed: int, mode: str) -> None:
    """Faults of the network, deaths of orchestrators, vetoes that come and go."""
    chance = random.Random(seed)
    hall = Hall()
    limits = {"gpu": 1, "audio": 2}
    is_shared = mode == "FAILOVER"  # of two storages it would look at one
    async with hall_at_peace(
        seed=seed, orchestrators=2, is_shared=is_shared, commit_seconds=0.01
    ) as cluster:
        calm = False
        worker = hall.worker(
            skill_type_limits=limits,
            capacity_checker=lambda skill: calm or chance.random() < 0.8,
        )
        machine = cluster.add_worker(
            worker, "w1", mode=mode, orchestrators=cluster.targets(), max_concurrent_tasks=5
        )
        await machine.start()
        await trio.sleep(1)
        job_ids: list[str] = []
        for _ in range(25):
            work = [
                job(chance.choice([*GROUPS]), chance.uniform(0, 4))
                for _ in range(chance.randrange(4))
            ]
            if work:
                job_ids += await cluster.submit("any_skill", *work, to=chance.choice(["o1", "o2"]))
            if chance.random() < 0.5:
                cluster.network.befall(
                    chance.choice(list(Fault)),
                    chance.choice([POLL, RESULT, RETURN, HEARTBEAT]),
                    lasting_seconds=chance.uniform(0, 4),
                    seconds=chance.uniform(0, 5),
                )
            await trio.sleep(chance.uniform(0, 4))
        cluster.network.heal()
        calm = True
        await cluster.wait_until_final(job_ids, seconds=300)
        for group, limit in limits.items():
            assert hall.most[group] <= limit
        assert all(running == 0 for running in hall.now.values())


async def test_what_is_hot_is_stored_and_an_empty_list_is_stored_too(
    autojump_clock: MockClock,
) -> None:
    hall = Hall()
    async with hall_at_peace() as cluster:
        worker = hall.worker()
        machine = cluster.add_worker(worker, "w1")
        await machine.start()
        await trio.sleep(1)

        async def stored() -> tuple[str, ...]:
            [instance] = await cluster.storage.instances("w1")
            return instance.hot_skills

        worker.add_to_hot_skills("render")
        await trio.sleep(0.5)
        assert await stored() == ("render",)
        worker.remove_from_hot_skills("render")
        await trio.sleep(0.5)
        assert await stored() == ()
