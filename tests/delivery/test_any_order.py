"""Any order of deaths, delays and repetitions: nothing is lost, doubled or stuck.

Hypothesis plays workers that crash, answer late, repeat themselves and forget, clients that
cancel, and orchestrators that are away.  After every move the invariants hold; and a healthy
worker that comes at the end brings every job to its end.
"""

from functools import partial

import pytest
from hypothesis import given, settings, strategies as st
from tests.delivery.conftest import Make
from tests.delivery.redis import DirectBridge, RedisWithoutLoops
from tests.delivery.scene import Scene
from tests.delivery.sqlite import SqliteWithoutThreads

from avtomatika_trio._core import steps
from avtomatika_trio._core.actions import GoTo
from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.rules import Rules
from avtomatika_trio.errors import StaleRevision
from avtomatika_trio.storage import MemoryStorage

JOBS = ("j1", "j2", "j3")
INSTANCES = ("i1", "i2", "i3")

number = st.integers(0, 7)
move = st.one_of(
    st.tuples(st.just("run"), st.sampled_from(JOBS), number),
    st.tuples(st.just("poll"), st.sampled_from(INSTANCES), st.integers(1, 4)),
    st.tuples(st.just("beat"), st.sampled_from(INSTANCES), number),
    st.tuples(st.just("report"), number, st.sampled_from(["success", "failure", "cancelled"])),
    st.tuples(st.just("event"), number, st.integers(-1, 2)),
    st.tuples(st.just("return"), number, st.booleans()),
    st.tuples(st.just("replace"), st.sampled_from(INSTANCES), st.sampled_from(INSTANCES)),
    st.tuples(st.just("wait"), st.sampled_from([1, 5, 31, 70]), number),
    st.tuples(st.just("outage"), st.sampled_from([1, 6, 3600]), number),
    st.tuples(st.just("cancel"), st.sampled_from(JOBS), number),
)


class Play:
    """A scene with workers that remember, more or less, what they were given."""

    def __init__(self, make_storage: Make) -> None:
        self.scene = Scene(make_storage, Rules(max_lost_attempts=50, strict_events=False))
        self.polls = dict.fromkeys(INSTANCES, 0)
        self.given: dict[str, list[str]] = {name: [] for name in INSTANCES}
        self.wires: list[tuple[str, str, str]] = []
        self.stale: list[Job] = []
        self.events: dict[str, list[int]] = {}
        """By wire id, the numbers that were accepted."""
        for name in INSTANCES:
            self.scene.worker(name)
        for job_id in JOBS:
            self.scene.submit(job_id)

    def run(self, job_id: str, how: int) -> None:
        """The engine runs the handler of a ready job; sometimes once more, too late."""
        job = self.scene.get(job_id)
        if not job.is_ready:
            return
        self.stale.append(job)
        match job.state:
            case "start" if how % 2:
                self.scene.fan(job_id, how, max_concurrency=2, transitions={"failure": "next"})
            case "start":
                spec = {"skill": "k", "transitions": {"success": "next", "failure": "next"}}
                self.scene.dispatch(job_id, **spec, timeout_seconds=40.0 if how == 4 else None)
            case _:
                self.scene.decide(job_id, steps.ReachedEnd(outcome="finished"))

    def poll(self, instance: str, most: int) -> None:
        self.polls[instance] += 1
        for hand_out in self.scene.poll(instance, self.polls[instance], most):
            wire = hand_out.attempt.wire_id
            self.wires.append((wire, hand_out.task.job_id, instance))
            self.given[instance].append(wire)

    def beat(self, instance: str, forgotten: int) -> None:
        """Names what it was given, except for the *forgotten* last ones."""
        held = self.given[instance]
        held = held[: len(held) - forgotten] if forgotten < 4 else held
        self.scene.beat(*held, instance=instance, last_poll=self.polls[instance])

    def report(self, which: int, status: str) -> None:
        if self.wires:
            wire, job_id, _ = self.wires[which % len(self.wires)]
            code = "TRANSIENT_ERROR" if status == "failure" else None
            first = self.scene.report(wire, status, job_id=job_id, code=code)
            assert self.scene.report(wire, status, job_id=job_id, code=code) == first

    def event(self, which: int, ahead: int) -> None:
        """Send an event: the next one, one that was sent before, or the one after a lost one."""
        if not self.wires:
            return
        wire, job_id, _ = self.wires[which % len(self.wires)]
        noted = self.events.setdefault(wire, [])
        number = max([0, *noted]) + ahead
        if number < 1:
            return
        before = self.scene.events(job_id)
        answer = self.scene.event(wire, number, payload={"wire": wire, "n": number})
        if noted and number <= noted[-1]:
            assert answer == {"status": "event_accepted"}
            assert self.scene.events(job_id) == before
        elif answer["status"] == "event_accepted":
            noted.append(number)
            assert self.scene.event(wire, number) == answer

    def move(self, kind: str, one: object, two: object) -> None:  # noqa: C901 - a flat table
        match kind, one, two:
            case "run", str(), int():
                self.run(one, two)
            case "poll", str(), int():
                self.poll(one, two)
            case "beat", str(), int():
                self.beat(one, two)
            case "report", int(), str():
                self.report(one, two)
            case "event", int(), int():
                self.event(one, two)
            case "return", int(), bool():
                if self.wires:
                    self.scene.give_back(self.wires[one % len(self.wires)][0], unstarted=two)
            case "replace", str(), str():
                self.scene.beat(*self.given[one], instance=one, replaces=(two,))
            case "wait", int(), _:
                self.scene.wait(one)
            case "outage", int(), _:
                self.scene.outage(one)
            case "cancel", str(), _:
                self.scene.cancel(one)

    def finish(self) -> None:
        """A healthy worker and engine, until every job has ended."""
        self.scene.worker("healthy", "h")
        for poll in range(1, 200):
            if all(self.scene.get(job_id).status.is_final for job_id in JOBS):
                return
            self.scene.beat(instance="healthy", worker_id="h", last_poll=poll - 1)
            for job_id in JOBS:
                self.run(job_id, 3)
            for hand_out in self.scene.poll("healthy", poll, most=5):
                self.scene.report(
                    hand_out.attempt.wire_id, worker_id="h", job_id=hand_out.task.job_id
                )
            self.scene.wait(5)
        raise AssertionError([self.scene.get(job_id) for job_id in JOBS])


Moves = list[tuple[str, object, object]]


@pytest.mark.parametrize("make_storage", [MemoryStorage, SqliteWithoutThreads])
@settings(max_examples=150)
@given(moves=st.lists(move, max_size=60))
def test_nothing_is_lost_doubled_or_stuck(make_storage: Make, moves: Moves) -> None:
    _nothing_is_lost_doubled_or_stuck(make_storage, moves)


@settings(max_examples=10)
@given(moves=st.lists(move, min_size=10, max_size=60))
def test_nothing_is_lost_doubled_or_stuck_on_redis(redis: DirectBridge, moves: Moves) -> None:
    _nothing_is_lost_doubled_or_stuck(partial(RedisWithoutLoops, direct=redis), moves)


def _nothing_is_lost_doubled_or_stuck(make_storage: Make, moves: Moves) -> None:
    play = Play(make_storage)
    for kind, one, two in moves:
        play.move(kind, one, two)
        assert play.scene.violations() == []
    for claimed in play.stale:
        try:
            play.scene.decide(claimed.id, steps.Chose(action=GoTo(state="twice")), claimed)
        except StaleRevision:
            continue
        raise AssertionError(f"a stale step was carried out: {claimed}")
    play.finish()
    assert play.scene.violations() == []
    told = [payload for job_id in JOBS for _, _, payload in play.scene.events(job_id)]
    for wire, numbers in play.events.items():
        assert [it["n"] for it in told if it["wire"] == wire] == numbers
    for job_id in JOBS:
        assert play.scene.get(job_id).status in {JobStatus.FINISHED, JobStatus.CANCELLED} or (
            play.scene.get(job_id).status is JobStatus.QUARANTINED
        )
