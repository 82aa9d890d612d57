"""What is hot: marked by handlers, told by the next heartbeat."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.worker_cases import running
from trio.testing import MockClock

from avtomatika_trio.errors import ConfigError
from avtomatika_trio.worker import Worker
from avtomatika_trio.worker._hot_skills import HotSkills


def hot(**dependencies: list[str]) -> HotSkills:
    return HotSkills(dependencies, lambda: ("mix", "render"))


async def test_a_mark_is_told_at_once_and_so_is_that_it_is_gone(
    autojump_clock: MockClock,
) -> None:
    fake = FakeOrchestrator()
    worker = Worker()

    @worker.skill
    async def load(
        params: dict[str, Any],
        add_to_hot_skills: Callable[[str], None],
        remove_from_hot_skills: Callable[[str], None],
    ) -> None:
        (add_to_hot_skills if params["on"] else remove_from_hot_skills)("load")

    async with running(worker, fake):
        await fake.until(lambda: fake.beats)
        assert fake.beats[-1].hot_skills == []
        fake.submit("load", {"on": True})
        await fake.until(lambda: fake.beats[-1].hot_skills == ["load"], seconds=1)
        fake.submit("load", {"on": False})
        await fake.until(lambda: fake.beats[-1].hot_skills == [], seconds=1)


async def test_a_mark_of_a_thread_reaches_the_loop() -> None:
    told = trio.Event()
    skills = hot()
    with skills.telling(told.set):
        thread = threading.Thread(target=skills.add, args=["mix"])
        thread.start()
        with trio.fail_after(5):
            await told.wait()
        thread.join()
    assert skills.names() == ["mix"]
    skills.remove("mix")  # nobody listens any more
    assert skills.names() == []


async def test_what_has_not_changed_is_not_told(autojump_clock: MockClock) -> None:
    told: list[str] = []
    skills = hot()
    with skills.telling(lambda: told.append("told")):
        skills.add("mix")
        await trio.sleep(0.1)
        skills.add("mix")
        await trio.sleep(0.1)
    assert told == ["told"]


def test_a_skill_is_hot_when_all_that_it_needs_is() -> None:
    skills = hot(render=["sdxl", "vae"])
    skills.add("sdxl")
    assert skills.names() == []
    skills.add("vae")
    assert skills.names() == ["render"]
    skills.remove("sdxl")
    assert skills.names() == []


def test_a_name_that_is_neither_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'rendr'.*did you mean 'render'"):
        hot().add("rendr")
    with pytest.raises(ConfigError, match="skill_dependencies: there is no skill 'rendr'"):
        hot(rendr=["sdxl"]).check()


def test_one_resource_is_a_list_too() -> None:
    with pytest.raises(ConfigError, match=r"'render' has 'sdxl'; write \['sdxl'\]"):
        Worker(skill_dependencies={"render": "sdxl"})


def test_the_worker_has_the_older_names_too() -> None:
    worker = Worker(skill_dependencies={"mix": ["samples"]})
    worker.skill("mix")(lambda: None)
    worker.add_to_hot_cache("samples")
    assert worker._capacity.hot.names() == ["mix"]
    worker.remove_from_hot_cache("samples")
    assert worker._capacity.hot.names() == []
