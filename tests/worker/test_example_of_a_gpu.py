"""The worker with one GPU that the docs show: its limit and its veto."""

import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.worker_cases import running

from avtomatika_trio.worker import Worker
from avtomatika_trio.worker._middlewares import TaskContext

FILE = Path(__file__).parents[2] / "docs" / "examples" / "how-to" / "gpu_worker.py"

ON_THE_GPU = ("render", "upscale")


def example(least_free_bytes: int) -> Worker:
    """A worker as in the file, which is run anew, on a machine that has so much disk to spare."""
    names: dict[str, Any] = runpy.run_path(str(FILE))
    # The globals of the veto itself: `runpy` hands out a copy.
    names["has_disk"].__globals__["LEAST_FREE_BYTES"] = least_free_bytes
    worker: Worker = names["worker"]
    return worker


async def test_one_at_a_time_is_on_the_gpu_and_others_beside_it() -> None:
    """In real time, since its handlers are threads; a fraction of a second."""
    fake, worker = FakeOrchestrator(), example(least_free_bytes=0)
    now: Counter[str] = Counter()
    most: Counter[str] = Counter()

    async def count(context: TaskContext, call_next: Any) -> Any:
        place = "gpu" if context.skill in ON_THE_GPU else "elsewhere"
        now[place] += 1
        most[place] = max(most[place], now[place])
        try:
            return await call_next()
        finally:
            now[place] -= 1

    worker.add_middleware(count)
    for scene in range(6):
        fake.submit((*ON_THE_GPU, "caption")[scene % 3], {"scene": scene})
    async with running(worker, fake, max_concurrent_tasks=6):
        await fake.all_done()
    assert fake.results() == {
        f"k{n}": ("success", {"scene": n} if n % 3 < 2 else f"scene {n}") for n in range(6)
    }
    assert most["gpu"] == 1
    assert most["elsewhere"] >= 1


@pytest.mark.parametrize("least_free_bytes", [0, 2**80])
async def test_without_room_on_the_disk_nothing_is_rendered(least_free_bytes: int) -> None:
    fake, worker = FakeOrchestrator(), example(least_free_bytes)
    [render] = fake.submit("render", {"scene": 1})
    [upscale] = fake.submit("upscale", {"scene": 2})
    async with running(worker, fake):
        await fake.until(lambda: upscale.result)
        if least_free_bytes == 0:
            await fake.until(lambda: render.result)
    assert (render.result is None) == (least_free_bytes > 0)
