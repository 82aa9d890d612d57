"""A worker that transfers files over a link that stalls: whatever ends the attempt ends it."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.blobs.s3_server import BUCKET, S3Server
from tests.e2e.fault_proxy import BlackHole, FaultProxy, open_fault_proxy
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.worker_cases import running

from avtomatika_trio._config import Secret
from avtomatika_trio.worker import TaskFiles, Worker

#: What an end may take.
_SOON_SECONDS = 2.0

_BIG = 40 * 1024**2


@pytest.fixture
async def proxy(s3_server: S3Server) -> AsyncIterator[FaultProxy]:
    async with open_fault_proxy(s3_server.port) as opened:
        yield opened


def s3_settings(proxy: FaultProxy, folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "s3_endpoint": f"http://127.0.0.1:{proxy.port}",
        "s3_access_key": Secret("minioadmin"),
        "s3_secret_key": Secret("minioadmin"),
        "s3_bucket": BUCKET,
        "payload_dir": folder / "payloads",
        "spool_dir": folder / "spool",
        "heartbeat_interval_seconds": 0.2,
        **more,
    }


def films_worker(begun: list[str]) -> Worker:
    worker = Worker()

    @worker.skill
    async def use(params: dict[str, Any]) -> dict[str, Any]:
        begun.append(params["file"])
        return {"size": Path(params["file"]).stat().st_size}

    @worker.skill
    def send(params: dict[str, Any], task_files: TaskFiles) -> None:
        task_files.write_sync("big.bin", bytes(_BIG))
        begun.append("send")
        task_files.upload_sync("big.bin")

    @worker.skill
    def get(params: dict[str, Any], task_files: TaskFiles) -> None:
        begun.append("get")
        task_files.download_sync(f"s3://{BUCKET}/big.bin")

    @worker.skill
    async def make(params: dict[str, Any], task_files: TaskFiles) -> dict[str, Any]:
        path = await task_files.write("big.bin", bytes(_BIG))
        begun.append(str(path))
        return {"file": str(path)}

    return worker


async def until(is_so: Callable[[], object], seconds: float = 20) -> None:
    with trio.fail_after(seconds):
        while not is_so():  # noqa: ASYNC110 - it is about the disk and other processes
            await trio.sleep(0.01)


def attempts_in(folder: Path) -> list[Path]:
    return [it for it in folder.glob("payloads/*/*") if it.is_dir()]


async def stall_in_the_middle(proxy: FaultProxy, folder: Path) -> None:
    """Let nothing pass any more once a transfer of the attempt is under way."""
    await until(lambda: attempts_in(folder))
    await until(lambda: proxy.passed_bytes > _BIG // 8)
    proxy.inject(BlackHole())
    await trio.sleep(0.3)


@pytest.mark.parametrize("skill", ["use", "make", "send", "get"])
async def test_a_cancelled_job_ends_its_transfer_on_a_stalled_link(
    s3_server: S3Server, proxy: FaultProxy, tmp_path: Path, skill: str
) -> None:
    s3_server.client().put_object(Bucket=BUCKET, Key="big.bin", Body=bytes(_BIG))
    fake, begun = FakeOrchestrator(heartbeat_seconds=0.2), list[str]()
    worker = films_worker(begun)
    params = {"file": f"s3://{BUCKET}/big.bin"} if skill == "use" else {}
    (task,) = fake.submit(skill, params)
    async with running(worker, fake, **s3_settings(proxy, tmp_path)):
        await stall_in_the_middle(proxy, tmp_path)
        assert task.leased_as is not None
        fake.to_cancel.add(task.leased_as)
        await until(lambda: not attempts_in(tmp_path), _SOON_SECONDS + 0.5)
        assert (begun == []) == (skill == "use")
        proxy.heal()
        client = s3_server.client()
        await until(
            lambda: not client.list_multipart_uploads(Bucket=BUCKET).get("Uploads"), seconds=5
        )
    assert not list((tmp_path / "payloads").iterdir())
    listed = client.list_objects_v2(Bucket=BUCKET, Prefix="jobs/").get("Contents", [])
    assert listed == []


@pytest.mark.parametrize("skill", ["use", "make"])
async def test_a_stop_ends_transfers_on_a_stalled_link(
    s3_server: S3Server, proxy: FaultProxy, tmp_path: Path, skill: str
) -> None:
    s3_server.client().put_object(Bucket=BUCKET, Key="big.bin", Body=bytes(_BIG))
    fake, begun = FakeOrchestrator(), list[str]()
    worker = films_worker(begun)
    fake.submit(skill, {"file": f"s3://{BUCKET}/big.bin"} if skill == "use" else {})
    chosen = s3_settings(proxy, tmp_path, shutdown_timeout_seconds=0.0)
    async with trio.open_nursery() as nursery:
        ended_at: list[float] = []

        async def work() -> None:
            async with running(worker, fake, **chosen):
                await stall_in_the_middle(proxy, tmp_path)
                ended_at.append(trio.current_time())
            ended_at.append(trio.current_time())

        nursery.start_soon(work)
    asked_at, gone_at = ended_at
    # The abort of an upload gets its two seconds; then the worker says goodbye.
    assert gone_at - asked_at < 2 * _SOON_SECONDS
    assert not list((tmp_path / "payloads").iterdir())
    proxy.heal()
    # What could not be aborted is in the journal, and the next run sees to it.
    async with running(films_worker([]), FakeOrchestrator(), **chosen):
        client = s3_server.client()
        await until(
            lambda: not client.list_multipart_uploads(Bucket=BUCKET).get("Uploads"), seconds=5
        )


async def test_a_short_outage_of_the_server_costs_no_attempt(
    s3_server: S3Server, proxy: FaultProxy, tmp_path: Path
) -> None:
    s3_server.client().put_object(Bucket=BUCKET, Key="big.bin", Body=bytes(_BIG))
    fake, begun = FakeOrchestrator(), list[str]()
    (task,) = fake.submit("use", {"file": f"s3://{BUCKET}/big.bin"})
    async with running(films_worker(begun), fake, **s3_settings(proxy, tmp_path)):
        await until(lambda: proxy.passed_bytes > _BIG // 8)
        proxy.reset_connections()
        await until(lambda: task.result, 20)
    assert task.attempts == 1
    assert fake.results() == {"k0": ("success", {"size": _BIG})}
