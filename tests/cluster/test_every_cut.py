"""One job with one task, and the exchange cut at every step in every way.

Whatever happens to one request, the job is done, the handler runs as often as the history
explains, and, since no worker dies, nothing waits for a lease to end.
"""

from collections.abc import Iterator

import pytest
import trio
from _pytest.mark import ParameterSet
from tests.cluster.scene import (
    BEAT,
    HEARTBEAT,
    POLL,
    REGISTER,
    RESULT,
    RETURN,
    Workshop,
    unexplained,
)
from trio.testing import MockClock

from avtomatika_trio.testing import Cluster, Fault, Matches

#: The longest that a worker waits for an answer: a poll's, held for two thirds of a lease.
ANSWER_SECONDS = 25.0

#: Back-off after failures in a row.
BACKOFF_SECONDS = 2.0

STEPS = {
    "register": REGISTER,
    "heartbeat": HEARTBEAT,
    "poll": POLL,
    "result": RESULT,
    "return": RETURN,
}

FAULTS: dict[str, dict[str, object]] = {
    "refuse": {"fault": Fault.REFUSE, "times": 1},
    "refuse thrice": {"fault": Fault.REFUSE, "times": 3},
    "lose request": {"fault": Fault.LOSE_REQUEST, "times": 1},
    "lose answer": {"fault": Fault.LOSE_ANSWER, "times": 1},
    "lose two answers": {"fault": Fault.LOSE_ANSWER, "times": 2},
    "black hole": {"fault": Fault.BLACK_HOLE, "times": 1},
    "black hole for 60 s": {"fault": Fault.BLACK_HOLE, "lasting_seconds": 60},
    "late request": {"fault": Fault.DELAY_REQUEST, "times": 1, "seconds": 12},
    "late answer": {"fault": Fault.DELAY_ANSWER, "times": 1, "seconds": 6},
    "duplicate": {"fault": Fault.DUPLICATE},
    "late duplicate": {"fault": Fault.DUPLICATE, "seconds": 7},
    "kept open": {"fault": Fault.KEEP_OPEN},
}

each_step = pytest.mark.parametrize("matches", STEPS.values(), ids=STEPS)
each_fault = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)


@each_step
@each_fault
@pytest.mark.parametrize("seconds", [0, 15], ids=["quick", "slow"])
async def test_a_cut_costs_no_more_than_a_heartbeat_and_an_answer(
    autojump_clock: MockClock,
    cluster: Cluster,
    shop: Workshop,
    matches: Matches,
    fault: dict[str, object],
    seconds: float,
) -> None:
    rule = cluster.network.befall(matches=matches, **fault)  # type: ignore[arg-type]
    await shop.add_to(cluster).start()
    [job_id] = await cluster.submit("one", {"n": 7, "seconds": seconds})

    lasting = float(str(fault.get("lasting_seconds", 0)))
    bound = lasting + BEAT + ANSWER_SECONDS + BACKOFF_SECONDS + seconds
    [job] = await cluster.wait_until_final([job_id], seconds=bound)
    await trio.sleep(BEAT)

    assert rule.hits or matches is RETURN
    assert job.result == 70
    assert await unexplained(cluster, shop, [job_id]) == []
    rows = await cluster.history(job_id)
    assert rows.count("task_finished") == 1
    assert rows.count("attempt_lost") == rows.count("attempt_retaken")
    assert shop.times() == [1]


def _drains() -> Iterator[ParameterSet]:
    for step, matches in STEPS.items():
        for name, fault in FAULTS.items():
            yield pytest.param(matches, fault, id=f"{step}-{name}")


@pytest.mark.parametrize(("matches", "fault"), list(_drains()))
async def test_a_cut_of_a_drain_leaves_nothing_to_the_end_of_a_lease(
    autojump_clock: MockClock,
    cluster: Cluster,
    shop: Workshop,
    matches: Matches,
    fault: dict[str, object],
) -> None:
    draining, other = shop.add_to(cluster, shutdown_timeout_seconds=1), shop.add_to(cluster, "w2")
    await draining.start()
    [job_id] = await cluster.submit("one", {"n": 7, "seconds": 50})
    await shop.until(1)
    await other.start()
    await trio.sleep(1)
    cluster.network.befall(matches=matches, **fault)  # type: ignore[arg-type]
    await draining.stop()
    stopped_at = trio.current_time()

    await shop.until(2)
    assert trio.current_time() - stopped_at < BEAT
    await cluster.wait_until_final([job_id], seconds=120)

    assert [run.how for run in shop.runs] == ["cancelled", "done"]
    assert await unexplained(cluster, shop, [job_id]) == []
