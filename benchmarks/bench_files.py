"""MB/s of files on S3, one that is large and many that are small, beside plain boto3.

Both move the same files to and from the same server, SeaweedFS on loopback, which is started
here; in turn, each time in a new process.  Ours is several files at a time, with checksums, as
in a worker; the peer is a loop over `upload_file` or `download_file`, with their defaults.
`python -m benchmarks.bench_files`; the JSON goes to `results/bench_files.json`, too.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec
from benchmarks import report
from benchmarks.file_transfers import FILES_AT_A_TIME, MOST_REQUESTS, Order, Outcome
from tests.blobs.measuring import MIB, write_random
from tests.blobs.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server, run_s3_server

SMALL_BYTES = 64 * 1024

#: Of the peer's MB/s.
LEAST_RATIO_LARGE, LEAST_RATIO_SMALL = 0.9, 1.0

WAYS = ("ours", "boto3")

ROOT = Path(__file__).resolve().parents[1]


@attrs.frozen
class Load:
    """Files that are moved."""

    folder: Path
    count: int
    size: int

    @classmethod
    def make(cls, folder: Path, count: int, size: int) -> "Load":
        folder.mkdir()
        for n in range(count):
            write_random(folder / f"{n:05}", size)
        return cls(folder, count, size)

    @property
    def megabytes(self) -> float:
        """As disks and networks count them."""
        return self.count * self.size / 1e6


def transfer(server: S3Server, way: str, load: Load, target: Path) -> Outcome:
    """Up and down, once, in a process of its own."""
    order = Order(
        way=way,
        endpoint=server.url,
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
        bucket=BUCKET,
        sources=str(load.folder),
        target=str(target),
    )
    os.sync()  # what was written before is not paid by the next
    text = msgspec.json.encode(order).decode()
    command = [sys.executable, "-m", "benchmarks.file_transfers", text]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(done.stdout, type=Outcome)


def measure(server: S3Server, load: Load, target: Path, rounds: int) -> dict[str, Any]:
    """The figures of one load; the ways take turns, and in turn begin."""
    outcomes: dict[str, list[Outcome]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way in WAYS if number % 2 == 0 else WAYS[::-1]:
            outcomes[way].append(transfer(server, way, load, target))
    ours, peers = (outcomes[way] for way in WAYS)
    return {
        "up": compare(load, [it.up for it in ours], [it.up for it in peers]),
        "down": compare(load, [it.down for it in ours], [it.down for it in peers]),
        "peak RSS growth, MiB": {
            way: round(max(it.growth for it in outcomes[way]) / MIB, 1) for way in WAYS
        },
    }


def compare(load: Load, ours: Sequence[float], peers: Sequence[float]) -> dict[str, Any]:
    """MB/s of both, and how the medians compare."""
    return {
        "ours": rates(load.megabytes, ours),
        "peer: boto3": rates(load.megabytes, peers),
        "ours_to_peer": round(statistics.median(peers) / statistics.median(ours), 2),
    }


def rates(megabytes: float, seconds: Sequence[float]) -> dict[str, float]:
    """As `report.rates`, for rates that may be small."""
    each = sorted(megabytes / it for it in seconds)
    told = {"median": statistics.median(each), "worst": each[0], "best": each[-1]}
    return {name: round(rate, 1) for name, rate in told.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1024, help="MiB of the large file")
    parser.add_argument("--files", type=int, default=1000, help="of 64 KiB each")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-files-") as name, run_s3_server() as server:
        folder = Path(name)
        target = folder / "target"
        target.mkdir()
        large = Load.make(folder / "large", 1, arguments.megabytes * MIB)
        small = Load.make(folder / "small", arguments.files, SMALL_BYTES)
        figures = {
            "rounds": arguments.rounds,
            "files_at_a_time": FILES_AT_A_TIME,
            "requests_at_a_time": MOST_REQUESTS,
            "unit": "MB/s",
            "large": {"MiB": arguments.megabytes}
            | measure(server, large, target, arguments.rounds),
            "small": {"files": arguments.files, "KiB": SMALL_BYTES // 1024}
            | measure(server, small, target, arguments.rounds),
        }
    report.publish("bench_files", figures)
    judge(figures)


def judge(figures: dict[str, Any]) -> None:
    """Exit with 1 if a ratio is below its goal."""
    is_well = True
    for what, least in (("large", LEAST_RATIO_LARGE), ("small", LEAST_RATIO_SMALL)):
        for direction in ("up", "down"):
            ratio = figures[what][direction]["ours_to_peer"]
            print(f"ours to boto3, {what} {direction}: {ratio} (at least {least})")
            is_well = is_well and ratio >= least
    if not is_well:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
