"""What every spool promises, on disk and in memory; then what only the one in memory has."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import attrs
import msgspec
import pytest
import trio
import trio.testing
from tests.worker.spool_cases import result, tasks

from avtomatika_trio.errors import SpoolError
from avtomatika_trio.worker._spool import Spool, open_spool
from avtomatika_trio.worker._spool_memory import MemoryFolder, open_memory_spool

OpenSpool = Callable[..., AbstractAsyncContextManager[Spool]]


@pytest.fixture(params=["disk", "memory"])
def open_one(request: pytest.FixtureRequest, tmp_path: Path) -> OpenSpool:
    """Open a spool on one place, again and again, as the processes of a worker do."""
    if request.param == "memory":
        opened = partial(open_memory_spool, MemoryFolder())
    else:
        opened = partial(open_spool, tmp_path / "spool")
    return partial(opened, worker_id="w1")


async def test_an_appended_result_is_found_by_the_next_process(open_one: OpenSpool) -> None:
    async with open_one(instance="i1") as spool:
        first = await spool.append(result(1))
        await spool.append(result(2, cluster_id="green"))
    async with open_one(instance="i2") as spool:
        assert tasks(spool.recovered.entries) == ["task-1", "task-2"]
        assert spool.pending() == spool.recovered.entries
        assert spool.recovered.notes == ()
        found = spool.pending("blue")
    assert found == (first,)
    assert (first.worker_id, first.instance, first.cluster_id) == ("w1", "i1", "blue")
    assert (first.orchestrator, first.finished_at) == ("http://127.0.0.1:8080", 1001.0)
    assert msgspec.json.decode(first.body) == {"status": "success", "data": {"number": 1}}


async def test_an_acknowledged_result_is_gone_and_its_id_is_not_used_again(
    open_one: OpenSpool,
) -> None:
    async with open_one(instance="i1") as spool:
        one, two, three = await spool.append_many([result(1), result(2), result(3)])
        await spool.acknowledge([one.id, three.id, 999])
        assert spool.pending() == (two,)
    async with open_one(instance="i2") as spool:
        assert spool.recovered.entries == (two,)
        await spool.acknowledge([two.id])
        await spool.acknowledge([two.id])
    async with open_one(instance="i3") as spool:
        assert spool.recovered.entries == ()
        assert (await spool.append(result(4))).id > three.id


async def test_appending_nothing_returns_nothing(open_one: OpenSpool) -> None:
    async with open_one(instance="i1") as spool:
        assert await spool.append_many([]) == ()


async def test_concurrent_appends_all_arrive_in_the_order_of_their_ids(
    open_one: OpenSpool,
) -> None:
    async with open_one(instance="i1") as spool:
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(spool.append, result(number))
        ids = [entry.id for entry in spool.pending()]
        assert ids == sorted(set(ids))
        assert len(ids) == 100


async def test_a_full_cluster_is_told_and_nothing_is_dropped(open_one: OpenSpool) -> None:
    async with open_one(instance="i1", max_entries=2) as spool:
        await spool.append(result(1))
        assert not spool.is_full("blue")
        await spool.append_many([result(2), result(3)])
        assert spool.is_full("blue")
        assert spool.depth("blue") == 3
        assert not spool.is_full("green")
        await spool.append(result(4, cluster_id="green"))
        assert (spool.depth("green"), spool.depth("red")) == (1, 0)


async def test_a_bound_below_one_is_refused(open_one: OpenSpool) -> None:
    with pytest.raises(ValueError, match="max_entries must be at least 1, got 0"):
        async with open_one(instance="i1", max_entries=0):
            pass
    async with open_one(instance="i2"):
        pass  # the failed opening holds no lock


async def test_a_body_that_is_not_json_is_refused_with_its_task(open_one: OpenSpool) -> None:
    async with open_one(instance="i1") as spool:
        with pytest.raises(ValueError, match="task 'task-1' cannot be written as JSON"):
            await spool.append(attrs.evolve(result(1), body={"data": object()}))
        assert spool.pending() == ()
        await spool.append(result(2))


async def test_a_body_that_is_changed_after_appending_is_kept_as_it_was(
    open_one: OpenSpool,
) -> None:
    body = {"data": [1]}
    async with open_one(instance="i1") as spool:
        entry = await spool.append(attrs.evolve(result(1), body=body))
        body["data"].append(2)
        assert bytes(entry.body) == b'{"data":[1]}'


async def test_a_caller_that_is_cancelled_before_appending_has_kept_nothing(
    open_one: OpenSpool,
) -> None:
    async with open_one(instance="i1") as spool:
        with trio.CancelScope() as scope:
            scope.cancel()
            await spool.append(result(1))
        assert scope.cancelled_caught
        assert spool.pending() == ()


async def test_a_caller_that_is_cancelled_while_the_disk_works_gets_its_entry(
    open_one: OpenSpool,
) -> None:
    kept = []
    async with open_one(instance="i1") as spool:

        async def append() -> None:
            kept.append(await spool.append(result(1)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(append)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert tuple(kept) == spool.pending()
        assert len(kept) == 1


async def test_leaving_in_a_cancelled_scope_still_settles_and_frees_the_spool(
    open_one: OpenSpool,
) -> None:
    with trio.CancelScope() as scope:
        async with open_one(instance="i1") as spool:
            one, two = await spool.append_many([result(1), result(2)])
            scope.cancel()
            await spool.acknowledge([one.id])
    async with open_one(instance="i2") as spool:
        assert spool.recovered.entries == (two,)


async def test_every_earlier_instance_is_found_until_it_is_forgotten(
    open_one: OpenSpool,
) -> None:
    async with open_one(instance="i1") as spool:
        assert spool.recovered.instances == ()
    async with open_one(instance="i2") as spool:
        assert spool.recovered.instances == ("i1",)
    async with open_one(instance="i3") as spool:
        assert spool.recovered.instances == ("i1", "i2")
        await spool.forget_instances(["i1", "unheard-of"])
    async with open_one(instance="i4") as spool:
        assert spool.recovered.instances == ("i2", "i3")
        await spool.forget_instances(["i2", "i3", "i4"])
    async with open_one(instance="i5") as spool:
        assert spool.recovered.instances == ()


async def test_an_entry_set_aside_is_not_pending_any_more(open_one: OpenSpool) -> None:
    async with open_one(instance="i1") as spool:
        one, two = await spool.append_many([result(1), result(2)])
        await spool.set_aside(one.id, "unknown task")
        await spool.set_aside(one.id, "unknown task")
        assert spool.pending() == (two,)
    async with open_one(instance="i2") as spool:
        assert spool.recovered.entries == (two,)


async def test_a_second_opening_is_refused(open_one: OpenSpool) -> None:
    async with open_one(instance="i1") as spool:
        with pytest.raises(SpoolError, match="open"):
            async with open_one(instance="i2"):
                pass
        await spool.append(result(1))
    async with open_one(instance="i3") as spool:
        assert tasks(spool.recovered.entries) == ["task-1"]
        assert spool.recovered.instances == ("i1",)


async def test_a_closed_spool_takes_nothing(open_one: OpenSpool) -> None:
    async with open_one(instance="i1") as spool:
        pass
    with pytest.raises(trio.ClosedResourceError):
        await spool.append(result(1))
    with pytest.raises(trio.ClosedResourceError):
        await spool.acknowledge([1])
    with pytest.raises(trio.ClosedResourceError):
        await spool.set_aside(1, "late")
    with pytest.raises(trio.ClosedResourceError):
        await spool.forget_instances(["i0"])


# --- In memory ---------------------------------------------------------------------------


async def test_a_memory_folder_takes_the_time_of_an_fsync(
    autojump_clock: trio.testing.MockClock,
) -> None:
    folder = MemoryFolder()
    async with open_memory_spool(folder, worker_id="w1", instance="i1") as spool:
        folder.fsync_seconds = 3.0
        began = trio.current_time()
        with trio.move_on_after(1):
            await spool.append(result(1))
        assert trio.current_time() - began == 3.0
        assert spool.depth("blue") == 1


async def test_a_memory_folder_can_refuse_and_recover() -> None:
    folder = MemoryFolder()
    async with open_memory_spool(folder, worker_id="w1", instance="i1") as spool:
        folder.fault = "no space left"
        with pytest.raises(SpoolError, match="no space left"):
            await spool.append(result(1))
        folder.fault = None
        entry = await spool.append(result(2))
        assert spool.pending() == (entry,)
        await spool.set_aside(entry.id, "unknown task")
        assert folder.set_aside == [(entry, "unknown task")]
