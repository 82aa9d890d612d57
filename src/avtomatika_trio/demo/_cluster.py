"""The demo's orchestrator and workers: real processes, started as a user would start them."""

from pathlib import Path
from urllib.parse import urlsplit

import attrs
import httpx

from avtomatika_trio.client import Client
from avtomatika_trio.demo._processes import DemoFailed, Family, Process
from avtomatika_trio.orchestrator._tokens import TOKENS_FILE, read_tokens

BLUEPRINTS = "avtomatika_trio.demo._blueprint"
"""What `avtomatika serve --blueprints` must be given to go on with the demo's jobs."""

_WORKER = "avtomatika_trio.demo._worker:worker"

WORKERS = 2

SLOTS = 4
"""How many modules a worker analyses at a time.  Parsing holds the interpreter's lock, so more
would not be faster; with fewer a worker sometimes waits for the orchestrator."""

_NO_PROXY = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


@attrs.define(kw_only=True)
class Cluster:
    """One orchestrator and its workers."""

    client: Client
    """To be closed by whoever has started the cluster."""
    orchestrator: Process
    workers: list[Process]
    _family: Family

    def check(self) -> None:
        """Make sure that all of them run.

        Raises:
            DemoFailed: One of them has ended by itself.
        """
        for process in (self.orchestrator, *self.workers):
            process.check()

    def kill_orchestrator(self) -> None:
        """Kill it with SIGKILL, and start it again at the same address.

        Raises:
            DemoFailed: It does not come up again.
        """
        self.orchestrator = self._family.restart(self.orchestrator)
        self.orchestrator.first_line()

    def kill_worker(self, worker: Process) -> Process:
        """Kill one with SIGKILL, and start it again with the same id and spool."""
        again = self._family.restart(worker)
        self.workers[self.workers.index(worker)] = again
        return again

    def stop(self) -> None:
        """End all of them in order: first those that still have something to say to the other.

        Raises:
            DemoFailed: One of them does not end as it should.
        """
        for process in (*self.workers, self.orchestrator):
            process.stop()


def start_cluster(family: Family, folder: Path) -> Cluster:
    """Start everything on an empty *folder*; the orchestrator is up when this returns.

    Raises:
        DemoFailed: Something does not start.
        ConfigError: The tokens that the orchestrator has made cannot be read.
    """
    orchestrator = family.start("orchestrator", _serve(port=0), {})
    url = orchestrator.first_line()["url"]
    # When it is started again, the workers have to find it where it was.
    orchestrator.arguments = _serve(port=urlsplit(url).port)
    tokens = read_tokens(folder / TOKENS_FILE)
    if tokens is None:
        raise DemoFailed(f"the orchestrator has made no {TOKENS_FILE}", orchestrator.log)
    workers = [
        family.start(
            worker_id,
            ("worker", "run", _WORKER),
            {
                **_NO_PROXY,
                "ORCHESTRATOR_URL": url,
                "WORKER_TOKEN": tokens.worker_token,
                "WORKER_ID": worker_id,
                "WORKER_SPOOL_DIR": f"spool-{worker_id}",
                "WORKER_PORT": "off",
                "MAX_CONCURRENT_TASKS": str(SLOTS),
            },
        )
        for worker_id in (f"demo-{number + 1}" for number in range(WORKERS))
    ]
    # A transport of its own, so that no proxy stands between us and this machine.
    # It is killed on purpose, and whoever follows the job asks again.
    client = Client(url, tokens.client_token, retry_seconds=0, transport=httpx.HTTPTransport())
    return Cluster(client=client, orchestrator=orchestrator, workers=workers, family=family)


def _serve(*, port: int | None) -> tuple[str, ...]:
    storage = ("--storage", "sqlite:avtomatika.db", "--blueprints", BLUEPRINTS)
    return ("serve", *storage, "--host", "127.0.0.1", "--port", str(port), "--output", "json")
