"""What is submitted in the drill of a cluster, how it must end, and the clients who submit it."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import trio
from tests.e2e.killing import CLIENT_TOKEN

from avtomatika_trio.client import Client
from avtomatika_trio.errors import OrchestratorUnavailable

CLIENTS = 6

_RETRY_SECONDS = 0.2
_PATIENCE_SECONDS = 8.0

#: How many of a hundred jobs are of each kind; see `fixtures/mixed_blueprints.py`.
MIX = {"single": 45, "fan": 25, "flaky": 12, "stumble": 6, "slow": 4, "unwanted": 4, "overdue": 4}

#: Longer than any limit.
_TOO_LONG_SECONDS = 120.0

#: After which the first two calls of a handler that stumbles are over.
_STUMBLING_SECONDS = 1.5


def jobs(count: int, chance: random.Random) -> Iterator[dict[str, Any]]:
    """The `initial_data` of *count* jobs, by the shares of `MIX`."""
    kinds = chance.choices(list(MIX), weights=list(MIX.values()), k=count)
    for n, kind in enumerate(kinds):
        yield {"n": n, "kind": kind, **_details(kind, chance)}


def _details(kind: str, chance: random.Random) -> dict[str, Any]:
    match kind:
        case "fan":
            most = chance.choice([None, None, 4])
            branches = chance.randint(5, 20)
            return {"seconds": chance.uniform(0, 1.5), "branches": branches} | (
                {} if most is None else {"max_concurrency": most}
            )
        case "flaky":
            return {"seconds": chance.uniform(0, 0.5), "fail": chance.randint(1, 2)}
        case "stumble":
            return {"seconds": 0}
        case "slow" | "unwanted" | "overdue":
            return {"seconds": _TOO_LONG_SECONDS, "limit": round(chance.uniform(1, 5), 2)}
        case _:
            return {"seconds": chance.uniform(0, 6)}


def tasks_of(data: Mapping[str, Any]) -> int:
    """How many tasks a job has."""
    match data["kind"]:
        case "fan":
            return int(data["branches"])
        case "stumble":
            return 0
        case _:
            return 1


def result_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """The result of a job; none of them may end in another way."""
    end = "timed_out" if data["kind"] in {"slow", "unwanted", "overdue"} else "done"
    total = sum(range(data["branches"])) if data["kind"] == "fan" else 0
    return {"n": data["n"], "end": end, "sum": total}


@attrs.define
class Submitter:
    """A client of all orchestrators, who goes on trying until one of them accepts."""

    clients: Sequence[Client]
    chance: random.Random
    retries: int = 0

    @classmethod
    def create(cls, urls: Sequence[str], chance: random.Random) -> "Submitter":
        """One that prefers nobody."""
        clients = [
            Client(url, CLIENT_TOKEN, timeout_seconds=_PATIENCE_SECONDS, retry_seconds=0)
            for url in urls
        ]
        return cls(clients, chance)

    async def submit(self, data: dict[str, Any], accepted: Callable[[str, float], None]) -> None:
        """Have *data* accepted; tells *accepted* the job's id, and since when it was tried."""
        begun_at = time.time()
        if data["kind"] == "stumble":
            data = {**data, "not_before": begun_at + _STUMBLING_SECONDS}
        while True:
            for client in self.chance.sample(self.clients, k=len(self.clients)):
                try:
                    job_id = await trio.to_thread.run_sync(client.submit, "mixed", data)
                except OrchestratorUnavailable:
                    self.retries += 1
                else:
                    accepted(job_id, begun_at)
                    return
            await trio.sleep(_RETRY_SECONDS)

    def close(self) -> None:
        """Close its connections."""
        for client in self.clients:
            client.close()
