"""A storage, a clock that is set by hand, and the operations as short verbs.

No loop and no HTTP: each test plays an interleaving step by step.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import trio

from avtomatika_trio._core import dispatch, lease, results, retention, steps, timing
from avtomatika_trio._core.actions import DispatchParallel, DispatchTask, GoTo, TaskSpec
from avtomatika_trio._core.dispatch import HandOut, Offer
from avtomatika_trio._core.events import EventReport, SaidEvent, note
from avtomatika_trio._core.fencing import Answer
from avtomatika_trio._core.job import Job
from avtomatika_trio._core.ledger import InstanceKind, task_id
from avtomatika_trio._core.retry import RetryPolicy
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._core.task import Attempt, Task, TaskFault, TaskResult
from avtomatika_trio.storage import MemoryStorage
from avtomatika_trio.testing.invariants import find_violations

START = 1_000_000.0


def an_event(
    number: int | None,
    event_type: str = "step",
    payload: dict[str, Any] | None = None,
    *,
    event_id: str = "",
) -> SaidEvent:
    said = {"n": number} if payload is None else payload
    return SaidEvent(id=event_id or f"e{number}", number=number, type=event_type, payload=said)


class Scene:
    """Everything of one storage, at a time that only `wait` moves."""

    def __init__(
        self,
        make_storage: Callable[[Callable[[], float]], MemoryStorage] = MemoryStorage,
        rules: Rules | None = None,
    ) -> None:
        self.rules = rules or Rules()
        self.time = START
        self.storage = make_storage(lambda: self.time)
        self.run = self.storage.run
        self._wire = 0
        self._beats: dict[str, int] = {}
        self.serve()
        self.wait(60)  # the lease that every worker is given after a start is over

    # Time.

    def serve(self) -> None:
        """What the janitor does at one moment."""
        self.run(partial(lease.end_leases, rules=self.rules, most=1000))
        self.run(partial(timing.fire_due, rules=self.rules, noise=0.0, most=1000))
        self.run(partial(retention.forget_due, rules=self.rules, most=20))

    def wait(self, seconds: float) -> None:
        """Let time pass, second by second, while the storage is served."""
        until = self.time + seconds
        while self.time < until:
            self.time = min(until, self.time + 1)
            self.serve()

    def outage(self, seconds: float) -> None:
        """Let time pass while nobody serves."""
        self.time += seconds

    # Jobs.

    def job(self, job_id: str = "j", **spec: Any) -> Job:
        """A job that waits for one task; *spec* goes into its `TaskSpec`."""
        self.submit(job_id)
        return self.dispatch(job_id, **spec)

    def dispatch(self, job_id: str, **spec: Any) -> Job:
        """Have the job dispatch one task."""
        spec = {"skill": "k", "params": {}, "transitions": {"success": "next"}} | spec
        self.decide(job_id, steps.Chose(action=DispatchTask(spec=TaskSpec(**spec))))
        return self.get(job_id)

    def submit(self, job_id: str) -> None:
        new = steps.NewJob(
            id=job_id,
            blueprint="b",
            client="c",
            start="start",
            initial_data={},
            max_transitions=100,
        )
        self.run(partial(steps.submit, new=[new]))

    def fan(self, job_id: str, branches: int, **more: Any) -> Job:
        """Have the job dispatch branches, and wait for them."""
        specs = tuple(
            TaskSpec(skill="k", params={"n": n}, retry=RetryPolicy(max_retries=0), key=f"b{n}")
            for n in range(branches)
        )
        action = DispatchParallel(specs=specs, aggregate_into="merge", **more)
        self.decide(job_id, steps.Chose(action=action))
        return self.get(job_id)

    def go_to(self, job_id: str, state: str) -> None:
        self.decide(job_id, steps.Chose(action=GoTo(state=state)))

    def decide(self, job_id: str, decision: steps.Decision, claimed: Job | None = None) -> None:
        job = claimed or self.get(job_id)
        self.run(
            partial(
                steps.advance,
                claimed=job,
                state_history=job.state_history,
                decision=decision,
                rules=self.rules,
                noise=0.0,
            )
        )

    def cancel(self, job_id: str = "j") -> None:
        self.run(partial(steps.cancel, job_id=job_id, reason="asked for", rules=self.rules))

    def get(self, job_id: str = "j") -> Job:
        job = self.run(lambda ledger: ledger.job(job_id))
        assert job is not None
        return job

    def task(self, job_id: str = "j", dispatch: int = 2, branch: int | None = None) -> Task:
        task = self.run(lambda ledger: ledger.task(task_id(job_id, dispatch, branch)))
        assert task is not None
        return task

    def attempt(self, wire_id: str) -> Attempt:
        attempt = self.run(lambda ledger: ledger.attempt(wire_id))
        assert attempt is not None
        return attempt

    # Workers.

    def worker(
        self,
        instance: str = "i1",
        worker_id: str = "w",
        *,
        ours: bool = True,
        credential: str = "",
        events_schema: dict[str, Any] | None = None,
    ) -> None:
        said = lease.Registration(
            worker_id=worker_id,
            instance=instance,
            kind=InstanceKind.OURS if ours else InstanceKind.FOREIGN,
            skills=("k",),
            interval_seconds=10.0 if ours else 15.0,
            said={"supported_skills": [{"name": "k", "events_schema": events_schema}]},
            credential=credential,
        )
        self.run(partial(lease.register, said=said, rules=self.rules))

    def poll(self, instance: str = "i1", poll: int = 1, most: int = 1) -> list[HandOut]:
        wire_ids = []
        for _ in range(most):
            self._wire += 1
            wire_ids.append(f"wire{self._wire}")
        offer = Offer(instance=instance, poll=poll, skills=("k",), most=most)
        operation = partial(dispatch.hand_out, offer=offer, wire_ids=wire_ids, rules=self.rules)
        return list(self.run(operation))

    def take(self, instance: str = "i1", poll: int = 1) -> str:
        """Poll for one task; returns its wire id."""
        [hand_out] = self.poll(instance, poll)
        return hand_out.attempt.wire_id

    def beat(
        self,
        *held: str,
        instance: str = "i1",
        worker_id: str = "w",
        last_poll: int = 0,
        open_polls: tuple[int, ...] = (),
        number: int | None = None,
        **more: Any,
    ) -> lease.BeatAnswer:
        self._beats[instance] = self._beats.get(instance, 0) + 1
        beat = lease.Beat(
            worker_id=worker_id,
            instance=instance,
            number=self._beats[instance] if number is None else number,
            last_poll=last_poll,
            open_polls=open_polls,
            current_tasks=held,
            **more,
        )
        return self.run(partial(lease.heartbeat, beat=beat, rules=self.rules))

    def foreign_beat(self, *held: str, says_nothing: bool = False) -> lease.BeatAnswer:
        current = None if says_nothing else held
        beat = lease.Beat(worker_id="w", instance="foreign/w", current_tasks=current)
        return self.run(partial(lease.heartbeat, beat=beat, rules=self.rules))

    def report(
        self,
        wire_id: str,
        status: str = "success",
        data: Any = None,
        *,
        code: str | None = None,
        worker_id: str = "w",
        job_id: str = "j",
        events: Sequence[SaidEvent] = (),
        events_lost: int = 0,
    ) -> Answer:
        error = None if code is None else TaskFault(code=code, message="it broke")
        result = TaskResult(status=status, data=data, error=error)
        said = results.Report(
            worker_id=worker_id,
            wire_id=wire_id,
            job_id=job_id,
            result=result,
            events=tuple(events),
            events_lost=events_lost,
        )
        return self.run(partial(results.report, said=said, rules=self.rules, noise=0.0))

    def fail(self, wire_id: str, code: str = "TRANSIENT_ERROR") -> Answer:
        return self.report(wire_id, "failure", code=code)

    def event(
        self,
        wire_id: str,
        number: int | None,
        event_type: str = "step",
        payload: dict[str, Any] | None = None,
        *,
        worker_id: str = "w",
        event_id: str = "",
    ) -> Answer:
        said = EventReport(
            worker_id=worker_id,
            wire_id=wire_id,
            job_id="j",
            event=an_event(number, event_type, payload, event_id=event_id),
        )
        return self.run(partial(note, said=said, rules=self.rules))

    def give_back(self, *wire_ids: str, unstarted: bool = False, worker_id: str = "w") -> int:
        operation = partial(
            lease.take_back,
            worker_id=worker_id,
            wire_ids=wire_ids,
            unstarted=frozenset(wire_ids if unstarted else ()),
            rules=self.rules,
            noise=0.0,
        )
        return self.run(operation)

    # What is seen.

    def history(self, job_id: str = "j") -> list[str]:
        """The types of the history rows of a job, in order."""
        read = partial(self.storage.history, job_id, limit=100_000)
        return [numbered.row.type for numbered in trio.run(read)]

    def events(self, job_id: str = "j") -> list[tuple[int | None, str, Any]]:
        """The events of workers in the history of a job: attempt, type and payload."""
        read = partial(self.storage.history, job_id, limit=100_000)
        rows = [numbered.row for numbered in trio.run(read)]
        return [
            (row.attempt, row.details["type"], row.details["payload"])
            for row in rows
            if row.type == "worker_event" and row.details is not None
        ]

    def violations(self) -> list[str]:
        """What is wrong in the storage; nothing ever should be."""
        return trio.run(find_violations, self.storage)
