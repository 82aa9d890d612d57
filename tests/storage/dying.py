"""A process that takes jobs through their life until it is killed: `python dying.py PATH`.

It prints what was acknowledged, a line each: `submitted ID`, `handed ID`, `applied ID`, `ended ID`.
"""

import os
import sys
from functools import partial
from itertools import count

import trio

from avtomatika_trio._core import dispatch, lease, results, steps
from avtomatika_trio._core.actions import Action, DispatchParallel, DispatchTask, TaskSpec
from avtomatika_trio._core.ledger import InstanceKind, Ledger
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._core.task import TaskResult
from avtomatika_trio.storage import Storage, open_storage

RULES = Rules()
RUNNERS = 50


def _say(what: str) -> None:
    os.write(1, f"{what}\n".encode())


def _advance(ledger: Ledger, job_id: str, decision: steps.Decision) -> None:
    job = ledger.job(job_id)
    assert job is not None
    steps.advance(ledger, job, job.state_history, decision, RULES, 0.0)


def _action(number: int) -> Action:
    spec = TaskSpec(skill="k", params={}, transitions={"success": "end"}, timeout_seconds=60.0)
    if number % 2:
        return DispatchTask(spec=spec)
    return DispatchParallel(specs=(spec, spec, spec), aggregate_into="end")


async def _work(storage: Storage, name: str) -> None:
    """Submit, dispatch, and do what is queued, one job after the other."""
    said = lease.Registration(
        worker_id=name,
        instance=name,
        kind=InstanceKind.OURS,
        skills=("k",),
        interval_seconds=10.0,
        said={},
    )
    await storage.commit(partial(lease.register, said=said, rules=RULES))
    for number in count(1):
        job_id = f"{name}-{number}"
        new = steps.NewJob(
            id=job_id,
            blueprint="b",
            client="c",
            start="start",
            initial_data={},
            max_transitions=100,
        )
        await storage.commit(partial(steps.submit, new=[new]))
        _say(f"submitted {job_id}")
        chose = steps.Chose(action=_action(number))
        await storage.commit(partial(_advance, job_id=job_id, decision=chose))
        offer = dispatch.Offer(instance=name, poll=number, skills=("k",), most=4)
        wire_ids = [f"{job_id}-w{n}" for n in range(4)]
        take = partial(dispatch.hand_out, offer=offer, wire_ids=wire_ids, rules=RULES)
        for given in await storage.commit(take):
            await _report(storage, name, given)


async def _report(storage: Storage, name: str, given: dispatch.HandOut) -> None:
    wire_id, job_id = given.attempt.wire_id, given.task.job_id
    _say(f"handed {wire_id}")
    result = TaskResult(status="success", data={"n": 1})
    said = results.Report(worker_id=name, wire_id=wire_id, job_id=job_id, result=result)
    await storage.commit(partial(results.report, said=said, rules=RULES, noise=0.0))
    _say(f"applied {wire_id}")
    job = await storage.job(job_id)
    if job is not None and job.is_ready and job.state == "end":
        end = steps.ReachedEnd(outcome="finished")
        await storage.commit(partial(_advance, job_id=job_id, decision=end))
        _say(f"ended {job_id}")


async def main() -> None:
    async with (
        open_storage(f"sqlite:{sys.argv[1]}") as storage,
        trio.open_nursery() as nursery,
    ):
        for number in range(RUNNERS):
            nursery.start_soon(_work, storage, f"i{number}")


if __name__ == "__main__":
    trio.run(main)
