"""A load of no-op jobs over HTTP, on one or more orchestrators with a worker each."""

import secrets
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from benchmarks.processes import HERE, Process

OPEN = "pending,running,waiting_for_worker,waiting_for_parallel"

#: How long half of the greatest load lasts, while single jobs are measured.
_LOADED_SECONDS = 5.0
_LOADED_LIST = 20


class Bench:
    """Orchestrators on one storage, and a client of each."""

    def __init__(self, storage: str, folder: Path, orchestrators: int = 1) -> None:
        self.folder = folder
        self.environ = {
            "CLIENT_TOKEN": secrets.token_hex(8),
            "WORKER_TOKEN": secrets.token_hex(8),
            "LOG_LEVEL": "WARNING",
            "WORKER_PORT": "off",
        }
        arguments = ["serve", "--storage", storage, "--port", "0", "--blueprints", "noop"]
        self.orchestrators: list[Process] = []
        self._workers: list[Process] = []
        self._clients: list[httpx.Client] = []
        self._begun = ExitStack()
        with ExitStack() as begun:
            for _ in range(orchestrators):
                process = self._start([*arguments, "-o", "json"])
                begun.callback(process.end)
                self.orchestrators.append(process)
            self.urls = [it.first_line()["url"] for it in self.orchestrators]
            self._clients = [begun.enter_context(self.client(url)) for url in self.urls]
            self._begun = begun.pop_all()

    def _start(self, arguments: list[str]) -> Process:
        return Process("avtomatika_trio", arguments, self.environ, self.folder)

    def client(self, url: str) -> httpx.Client:
        return httpx.Client(
            base_url=url + "/api/v1",
            headers={"X-Client-Token": self.environ["CLIENT_TOKEN"]},
            timeout=60,
        )

    @contextmanager
    def workers(self) -> Iterator[None]:
        """One for each orchestrator, until the block ends."""
        with ExitStack() as ended:
            for number, url in enumerate(self.urls):
                names = ["worker", "run", "noop:worker", "--id", f"w{number}", "--slots", "100"]
                spool = ["--spool-dir", f"spool-{number}"]
                worker = self._start([*names, "--orchestrator-url", url, *spool])
                ended.callback(worker.end)
                self._workers.append(worker)
            for client in self._clients:
                lone(client)  # connected, warm
            yield
        self._workers.clear()

    def end(self) -> None:
        self._begun.close()

    def submit(self, count: int, per_post: int = 100) -> None:
        """Submit the jobs, a share at each orchestrator."""

        def share(client: httpx.Client) -> None:
            for at in range(0, count // len(self._clients), per_post):
                jobs: Any = [{"initial_data": {"n": at + n}} for n in range(per_post)]
                answer = client.post("/jobs/noop", json=jobs if per_post > 1 else jobs[0])
                answer.raise_for_status()

        with ThreadPoolExecutor(len(self._clients)) as pool:
            list(pool.map(share, self._clients))

    def drain(self) -> None:
        """Return when no job is open."""
        while self._clients[0].get(f"/jobs?status={OPEN}&client=client&limit=1").json()["jobs"]:
            time.sleep(0.02)

    def lone(self, count: int) -> list[float]:
        """Seconds of so many jobs, one after the other."""
        return [lone(self._clients[n % len(self._clients)]) for n in range(count)]

    def measure(self, load: Callable[[], None], jobs: int) -> dict[str, Any]:
        """Run *load*, which submits *jobs* jobs, and wait until all are finished."""
        processes = {"orchestrators": self.orchestrators, "workers": self._workers}

        def cpu() -> dict[str, float]:
            return {who: sum(it.cpu_seconds() for it in all_) for who, all_ in processes.items()}

        before = cpu()
        begun = time.perf_counter()
        load()
        submitted = time.perf_counter() - begun
        self.drain()
        seconds = time.perf_counter() - begun
        after = cpu()
        return {
            "jobs": jobs,
            "jobs_per_second": round(jobs / seconds),
            "submit_seconds": round(submitted, 3),
            "cpu_us_per_job": {
                who: round((after[who] - before[who]) / jobs * 1e6) for who in processes
            },
        }

    def lists(self, jobs: int) -> dict[str, Any]:
        """Submit them in lists of 100."""
        return self.measure(lambda: self.submit(jobs), jobs)

    def figures(self, jobs_per_second: float, singles: int, lone: int) -> dict[str, Any]:
        """What there is to measure besides lists, which have run at that rate."""
        return {
            "one_by_one": self.measure(lambda: self.submit(singles, 1), singles),
            "lone_job_ms": milliseconds(self.lone(lone)),
            "a_job_at_half_load_ms": milliseconds(self.loaded(jobs_per_second / 2)),
        }

    def wait_for(self, status: str, jobs: int) -> None:
        """Return when so many jobs have it."""
        while self._count(status) < jobs:
            time.sleep(0.05)

    def _count(self, status: str) -> int:
        found, cursor = 0, ""
        while True:
            page = self._clients[0].get(f"/jobs?status={status}&limit=100{cursor}").json()
            found += len(page["jobs"])
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    def loaded(self, per_second: float) -> list[float]:
        """Seconds of single jobs while so many others are submitted."""
        ended = threading.Event()
        times: list[float] = []

        def probe() -> None:
            with self.client(self.urls[-1]) as client:
                while not ended.is_set():
                    times.append(lone(client))

        thread = threading.Thread(target=probe)
        thread.start()
        begun = time.perf_counter()
        number = 0
        while (spent := time.perf_counter() - begun) < _LOADED_SECONDS:
            due = number * _LOADED_LIST / per_second
            if due > spent:
                time.sleep(due - spent)
            client = self._clients[number % len(self._clients)]
            jobs = [{"initial_data": {"n": n}} for n in range(_LOADED_LIST)]
            client.post("/jobs/noop", json=jobs).raise_for_status()
            number += 1
        ended.set()
        thread.join()
        self.drain()
        return times


def lone(client: httpx.Client) -> float:
    """Seconds from the submit of one job until its result is here."""
    begun = time.perf_counter()
    job_id = client.post("/jobs/noop", json={"initial_data": {}}).json()["job_id"]
    job = client.get(f"/jobs/{job_id}?wait=30").json()
    assert job["status"] == "finished", job
    return time.perf_counter() - begun


def milliseconds(times: list[float]) -> dict[str, float]:
    """The middle and the worst hundredth."""
    ordered = sorted(times)
    return {
        "p50": round(statistics.median(ordered) * 1000, 2),
        "p99": round(ordered[max(0, int(len(ordered) * 0.99) - 1)] * 1000, 2),
    }


@contextmanager
def open_bench(storage: str, orchestrators: int = 1) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(dir=HERE) as folder:
        bench = Bench(storage, Path(folder), orchestrators)
        try:
            yield bench
        finally:
            bench.end()
