"""Room in groups of skills, whatever is asked, answered and ended in which order."""

from typing import Any

import pytest
from hypothesis import given, strategies as st
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.worker_cases import running
from trio.testing import MockClock

from avtomatika_trio.errors import ConfigError
from avtomatika_trio.worker import Worker
from avtomatika_trio.worker._groups import Groups, Share

SKILLS = {"render": "gpu", "upscale": "gpu", "mix": "audio", "copy": "copy"}

steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask without keeping", "answer", "end"]),
        st.integers(0, 9),
        st.lists(st.sampled_from([*SKILLS]), max_size=6),
    ),
    max_size=60,
)


@given(steps, st.integers(1, 3), st.integers(1, 3))
def test_no_order_of_events_exceeds_a_limit(
    events: list[tuple[str, int, list[str]]], gpu: int, audio: int
) -> None:
    limits = {"gpu": gpu, "audio": audio}
    groups = Groups(SKILLS, limits)
    opened: list[Share] = []
    attempts: list[str] = []
    for what, number, brought in events:
        match what:
            case "ask" | "ask without keeping":
                share = groups.share(number + 1, keeps=what == "ask")
                assert all(room >= 1 for room in share.room.values())
                opened.append(share)
            case "answer" if opened:
                share = opened.pop(number % len(opened))
                attempts += [skill for skill in brought if groups.begin(skill, share)]
                groups.release(share)
            case "end" if attempts:
                groups.end(attempts.pop(number % len(attempts)))
        for group, limit in limits.items():
            running_now = [it for it in attempts if SKILLS[it] == group]
            kept = sum(it.kept[group] for it in opened)
            assert len(running_now) + kept <= limit
    for share in opened:
        groups.release(share)
    for skill in attempts:
        groups.end(skill)
    assert groups.share(9, keeps=False).room == limits


def test_what_a_request_was_promised_is_there_for_its_answer() -> None:
    groups = Groups(SKILLS, {"gpu": 2})
    first = groups.share(10, keeps=True)
    second = groups.share(10, keeps=True)
    assert (first.skills, second.skills) == (tuple(SKILLS), ("mix", "copy"))
    assert not groups.begin("render", second)
    assert groups.begin("render", first)
    assert groups.begin("upscale", first)
    assert not groups.begin("upscale", first)


@pytest.mark.parametrize(
    ("limits", "fault"),
    [
        ({"gpus": 1}, "no skill has the type 'gpus'; did you mean 'gpu'?"),
        ({"gpu": 0}, "the limit of 'gpu' is 0; give a whole number from 1"),
        ({"gpu": True}, "the limit of 'gpu' is True; give a whole number from 1"),
        ({5: 1}, "no skill has the type 5; there are 'gpu'"),
    ],
)
async def test_a_limit_that_makes_no_sense_is_an_error_at_the_start(
    autojump_clock: MockClock, limits: Any, fault: str
) -> None:
    worker = Worker(skill_type_limits=limits)

    @worker.skill("render", type="gpu")
    async def render() -> None: ...

    with pytest.RaisesGroup(ConfigError, flatten_subgroups=True) as caught:
        async with running(worker, FakeOrchestrator()):
            pass
    assert fault in str(caught.value.exceptions[0])


async def _has_disk(skill: str) -> bool:
    return False


@pytest.mark.parametrize("checker", [_has_disk, "has_disk"])
async def test_a_checker_that_cannot_answer_at_once_is_an_error_at_the_start(
    autojump_clock: MockClock, checker: Any
) -> None:
    worker = Worker(capacity_checker=checker)
    worker.skill("render")(lambda: None)
    with pytest.RaisesGroup(ConfigError) as caught:
        async with running(worker, FakeOrchestrator()):
            pass
    assert "capacity_checker: " in str(caught.value.exceptions[0])


async def test_a_checker_that_holds_up_the_loop_is_told_once(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    def checker(skill: str) -> bool:
        mock_clock.jump(2 if skill == "render" else 0.1)
        return True

    groups = Groups(SKILLS, checker=checker)
    for _ in range(2):
        groups.look()
    told = [it.message for it in caplog.records]
    assert len(told) == 1
    assert told[0].startswith("the capacity checker took 2.0 s for render, while the worker stood")
