"""Jobs per second over real HTTP on loopback: one orchestrator and one worker process.

One no-op task per job, the worker's spool on; from the first submit to the last finished
job.  `python -m benchmarks.bench_jobs --help` tells the options; the JSON goes to
`benchmarks/results/bench_jobs.json` and to standard output.
"""

import argparse
import json
import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from benchmarks import report

HERE = Path(__file__).resolve().parent
OPEN = "pending,running,waiting_for_worker,waiting_for_parallel"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Process:
    """A child that is measured, and ended by its pid."""

    def __init__(self, arguments: list[str], environ: dict[str, str], folder: Path) -> None:
        self.log = folder / f"{arguments[0]}.log"
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "avtomatika_trio", *arguments],
                env={**os.environ, **environ, "PYTHONPATH": str(HERE)},
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def first_line(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(self.log.read_text())
        said: dict[str, Any] = json.loads(line)
        return said

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def rss_bytes(self) -> int:
        pages = Path(f"/proc/{self._child.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def end(self) -> None:
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(20)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()


class Bench:
    """An orchestrator on one storage, and a client."""

    def __init__(self, storage: str, folder: Path) -> None:
        self.folder = folder
        self.environ = {
            "CLIENT_TOKEN": secrets.token_hex(8),
            "WORKER_TOKEN": secrets.token_hex(8),
            "LOG_LEVEL": "WARNING",
            "WORKER_PORT": "off",
        }
        arguments = ["serve", "--storage", storage, "--port", "0", "--blueprints", "noop"]
        self.orchestrator = Process([*arguments, "-o", "json"], self.environ, folder)
        self.url = self.orchestrator.first_line()["url"]
        self.client = httpx.Client(
            base_url=self.url + "/api/v1",
            headers={"X-Client-Token": self.environ["CLIENT_TOKEN"]},
            timeout=60,
        )

    @contextmanager
    def worker(self) -> Iterator[Process]:
        worker = Process(
            ["worker", "run", "noop:worker", "--orchestrator-url", self.url, "--slots", "100"],
            self.environ,
            self.folder,
        )
        try:
            yield worker
        finally:
            worker.end()

    def end(self) -> None:
        self.client.close()
        self.orchestrator.end()

    def submit(self, count: int, per_post: int) -> None:
        for at in range(0, count, per_post):
            jobs: Any = [{"initial_data": {"n": at + n}} for n in range(per_post)]
            answer = self.client.post("/jobs/noop", json=jobs if per_post > 1 else jobs[0])
            answer.raise_for_status()

    def drain(self) -> None:
        """Return when no job is open."""
        while self.client.get(f"/jobs?status={OPEN}&limit=1").json()["jobs"]:
            time.sleep(0.02)

    def lone(self) -> float:
        """Seconds from the submit of one job until its result is here."""
        begun = time.perf_counter()
        job_id = self.client.post("/jobs/noop", json={"initial_data": {}}).json()["job_id"]
        job = self.client.get(f"/jobs/{job_id}?wait=30").json()
        assert job["status"] == "finished", job
        return time.perf_counter() - begun


@contextmanager
def open_bench(kind: str) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(dir=HERE) as folder:
        storage = "memory:" if kind == "memory" else f"sqlite:{folder}/bench.db"
        bench = Bench(storage, Path(folder))
        try:
            yield bench
        finally:
            bench.end()


def measure(bench: Bench, worker: Process, load: Callable[[], None], jobs: int) -> dict[str, Any]:
    """Run *load*, which submits *jobs* jobs, and wait until all are finished."""
    processes = {"orchestrator": bench.orchestrator, "worker": worker}
    before = {name: process.cpu_seconds() for name, process in processes.items()}
    begun = time.perf_counter()
    load()
    submitted = time.perf_counter() - begun
    bench.drain()
    seconds = time.perf_counter() - begun
    return {
        "jobs": jobs,
        "jobs_per_second": round(jobs / seconds),
        "submit_seconds": round(submitted, 3),
        "cpu_us_per_job": {
            name: round((process.cpu_seconds() - before[name]) / jobs * 1e6)
            for name, process in processes.items()
        },
    }


def run(kind: str, chosen: argparse.Namespace) -> dict[str, Any]:
    jobs, singles, lone, waiting = chosen.jobs, chosen.singles, chosen.lone, chosen.waiting
    figures: dict[str, Any] = {}
    with open_bench(kind) as bench:
        with bench.worker() as worker:
            bench.lone()  # connected, warm

            def lists(count: int) -> dict[str, Any]:
                return measure(bench, worker, lambda: bench.submit(count, 100), count)

            figures["lists_of_100"] = lists(jobs)
            figures["one_by_one"] = measure(
                bench, worker, lambda: bench.submit(singles, 1), singles
            )
            times = sorted(bench.lone() for _ in range(lone))
            figures["lone_job_ms"] = {
                "p50": round(statistics.median(times) * 1000, 2),
                "p99": round(times[int(lone * 0.99) - 1] * 1000, 2),
            }
            if chosen.grown:
                lists(chosen.grown - jobs)
                grown = lists(jobs)
                grown["of_the_rate_when_empty"] = round(
                    grown["jobs_per_second"] / figures["lists_of_100"]["jobs_per_second"], 2
                )
                figures[f"after_{chosen.grown}_finished"] = grown
        if waiting:
            empty = bench.orchestrator.rss_bytes()
            bench.submit(waiting, 1000)
            time.sleep(2)
            figures["waiting_jobs"] = {
                "jobs": waiting,
                "rss_mib": round(bench.orchestrator.rss_bytes() / 2**20),
                "rss_before_mib": round(empty / 2**20),
            }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", choices=("memory", "sqlite"), action="append")
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--singles", type=int, default=2_000)
    parser.add_argument("--lone", type=int, default=200)
    parser.add_argument("--waiting", type=int, default=100_000, help="0 leaves it out")
    parser.add_argument(
        "--grown", type=int, default=100_000, help="finished jobs to measure again with; 0: not"
    )
    chosen = parser.parse_args()
    figures: dict[str, Any] = {}
    for kind in chosen.storage or ("memory", "sqlite"):
        figures[kind] = run(kind, chosen)
        print(kind, json.dumps(figures[kind]), file=sys.stderr)
    report.publish("bench_jobs", figures)


if __name__ == "__main__":
    main()
