"""What `bench_files` measures, in a process of its own: one way of moving one set of files.

`python -m benchmarks.file_transfers ORDER`, where ORDER is an `Order` as JSON; prints an `Outcome`.
Processes begin anew, so that neither way sees the other's memory, connections or threads.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import boto3
import msgspec
import trio
from botocore.config import Config
from tests.blobs.measuring import Memory

from avtomatika_trio._config import S3Access, Secret
from avtomatika_trio.blobs import Blobs, Location, Patience, open_s3

#: The default of S3_MAX_CONCURRENCY.
MOST_REQUESTS = 10

#: As many tasks of a worker, each with a file.
FILES_AT_A_TIME = 4


@attrs.frozen(kw_only=True)
class Order:
    """What to move."""

    way: str
    """`ours` or `boto3`."""
    endpoint: str
    access_key: str
    secret_key: str
    bucket: str
    sources: str
    """A folder; all of its files are moved."""
    target: str
    """A folder that is empty, also afterwards."""


@attrs.frozen(kw_only=True)
class Outcome:
    """What it took."""

    up: float
    """Seconds."""
    down: float
    growth: int
    """Bytes of resident memory at the peak, over what there was before the first transfer."""


async def by_ours(order: Order, names: Sequence[str]) -> Outcome:
    """A few files at a time, with checksums."""
    access = S3Access(
        endpoint=order.endpoint,
        access_key=Secret(order.access_key),
        secret_key=Secret(order.secret_key),
        session_token=None,
        region="us-east-1",
        bucket=order.bucket,
    )
    async with open_s3(access, max_concurrency=MOST_REQUESTS, patience=Patience()) as blobs:
        await blobs.list(Location(order.bucket, "ours/"))  # both ways are connected once
        memory = Memory()
        begin = time.perf_counter()
        await _by_several(names, lambda name: _upload(blobs, order, name))
        turn = time.perf_counter()
        await _by_several(names, lambda name: _download(blobs, order, name))
        end = time.perf_counter()
        growth = memory.growth
        await blobs.delete(Location(order.bucket, "ours/"))
    return Outcome(up=turn - begin, down=end - turn, growth=growth)


async def _by_several(names: Sequence[str], move: Callable[[str], Any]) -> None:
    left = iter(names)

    async def work(left: Iterator[str]) -> None:
        for name in left:
            await move(name)

    async with trio.open_nursery() as nursery:
        for _ in range(FILES_AT_A_TIME):
            nursery.start_soon(work, left)


async def _upload(blobs: Blobs, order: Order, name: str) -> None:
    descriptor = os.open(os.path.join(order.sources, name), os.O_RDONLY)  # noqa: PTH118
    try:
        await blobs.upload(descriptor, Location(order.bucket, f"ours/{name}"), _ignore)
    finally:
        os.close(descriptor)


async def _download(blobs: Blobs, order: Order, name: str) -> None:
    blob = await blobs.head(Location(order.bucket, f"ours/{name}"))
    await blobs.download(blob, Path(order.target, name), _ignore)


def _ignore(advance: int) -> None:
    """Nobody watches."""


def by_boto3(order: Order, names: Sequence[str]) -> Outcome:
    """As everybody does it: one call after the other, with the defaults."""
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=order.endpoint,
        aws_access_key_id=order.access_key,
        aws_secret_access_key=order.secret_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
    client.list_objects_v2(Bucket=order.bucket, Prefix="boto3/")
    memory = Memory()
    begin = time.perf_counter()
    for name in names:
        client.upload_file(f"{order.sources}/{name}", order.bucket, f"boto3/{name}")
    turn = time.perf_counter()
    for name in names:
        client.download_file(order.bucket, f"boto3/{name}", f"{order.target}/{name}")
    end = time.perf_counter()
    growth = memory.growth
    for name in names:
        client.delete_object(Bucket=order.bucket, Key=f"boto3/{name}")
    return Outcome(up=turn - begin, down=end - turn, growth=growth)


def main() -> None:
    order = msgspec.json.decode(sys.argv[1], type=Order)
    names = sorted(os.listdir(order.sources))  # noqa: PTH208 - the names alone
    outcome = trio.run(by_ours, order, names) if order.way == "ours" else by_boto3(order, names)
    for name in names:
        source, target = Path(order.sources, name), Path(order.target, name)
        assert target.stat().st_size == source.stat().st_size
        target.unlink()
    print(msgspec.json.encode(outcome).decode())


if __name__ == "__main__":
    main()
