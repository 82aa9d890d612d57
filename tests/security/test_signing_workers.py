"""Workers that sign what they say, check what they are given, and change their tokens."""

import attrs
import pytest
import trio
from tests.cluster.scene import HEARTBEAT, REGISTER, RESULT, Workshop, at_peace
from tests.security.credentials import let_in
from trio.testing import MockClock

from avtomatika_trio._config import Secret
from avtomatika_trio._wire.codec import decode_any
from avtomatika_trio.orchestrator._context import Security
from avtomatika_trio.testing import Cluster, Fault, calls

KEY = Secret("the-key-of-the-tasks")
SIGNED = Security(signing="required", secret_key=KEY.reveal().encode())


def bodies(cluster: Cluster, matches: object) -> list[object]:
    assert callable(matches)
    return [
        decode_any(it.call.body) for it in cluster.network.seen if matches(it.call) and it.call.body
    ]


def refusals(cluster: Cluster) -> set[str]:
    """The paths of what was answered 403; the first registration tells that it must be signed."""
    return {it.call.path for it in cluster.network.seen if it.outcome == 403}


async def test_where_signatures_are_required_everything_is_signed_and_work_goes_on(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    async with at_peace(security=SIGNED) as cluster:
        await shop.add_to(cluster, secret_key=KEY).start()
        job_ids = await cluster.submit("one", *({"n": n, "seconds": n} for n in range(30)))
        await cluster.wait_until_final(job_ids, seconds=200)
        refused = [it.call.path for it in cluster.network.seen if it.outcome == 403]
        assert refused == ["/_worker/workers/register"]  # only then it is known
        assert all("security" in str(it) for it in bodies(cluster, HEARTBEAT))


async def test_where_they_are_not_required_nothing_is_signed(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    await shop.add_to(cluster).start()
    job_ids = await cluster.submit("one", {"n": 1})
    await cluster.wait_until_final(job_ids, seconds=20)
    await trio.sleep(30)
    assert not any("security" in str(it) for it in bodies(cluster, REGISTER))
    assert not any("security" in str(it) for it in bodies(cluster, HEARTBEAT))
    assert not any("security" in str(it) for it in bodies(cluster, RESULT))


async def test_a_result_that_waited_for_long_is_signed_with_the_time_at_which_it_is_sent(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    async with at_peace(security=SIGNED) as cluster:
        await shop.add_to(cluster).start()
        job_ids = await cluster.submit("one", {"n": 1, "seconds": 5})
        await shop.until(1)
        await trio.sleep(1)
        cluster.network.cut("o1")
        await trio.sleep(1000)
        cluster.network.heal()
        await cluster.wait_until_final(job_ids, seconds=100)
        assert refusals(cluster) <= {"/_worker/workers/register"}


@pytest.mark.parametrize("seed", range(8))
async def test_storms_of_faults_with_signatures(
    autojump_clock: MockClock, shop: Workshop, seed: int
) -> None:
    """Answers that are lost, requests that come twice: every honest retry is let through."""
    async with at_peace(security=SIGNED, seed=seed, orchestrators=2) as cluster:
        for name in ("w1", "w2"):
            machine = shop.add_to(cluster, name, secret_key=KEY, orchestrators=cluster.targets())
            await machine.start()
        job_ids = await cluster.submit("one", *({"n": n, "seconds": n % 5} for n in range(60)))
        anything = calls("*", "/_worker/*")
        for _ in range(15):
            fault = cluster.chance.choice([Fault.LOSE_ANSWER, Fault.DUPLICATE, Fault.LOSE_REQUEST])
            cluster.network.befall(fault, anything, seconds=1.0, times=3)
            await trio.sleep(cluster.chance.uniform(0, 2))
        cluster.network.heal()
        jobs = await cluster.wait_until_final(job_ids, seconds=3600)
        assert sorted(job.result for job in jobs) == [n * 10 for n in range(60)]
        assert refusals(cluster) <= {"/_worker/workers/register"}


async def test_a_task_that_the_orchestrator_has_not_signed_is_refused_in_its_result(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    await shop.add_to(cluster, secret_key=KEY).start()
    [job_id] = await cluster.submit("one", {"n": 1})
    [job] = await cluster.wait_until_final([job_id], seconds=20)
    assert job.status == "quarantined"
    assert job.error is not None
    assert job.error.code == "SECURITY_ERROR"
    assert "REQUIRE_TASK_SIGNATURE" in job.error.message
    assert shop.runs == []


async def test_a_task_signed_with_another_key_is_refused_though_none_is_required(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    async with at_peace(security=SIGNED) as cluster:
        other = Secret("another-key")
        machine = shop.add_to(cluster, secret_key=other, require_task_signature=False)
        await machine.start()
        [job_id] = await cluster.submit("one", {"n": 1})
        [job] = await cluster.wait_until_final([job_id], seconds=20)
        assert job.error is not None
        assert "signature is wrong" in job.error.message
        assert shop.runs == []


async def test_a_task_without_a_signature_is_done_where_none_is_required(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    await shop.add_to(cluster, secret_key=KEY, require_task_signature=False).start()
    [job_id] = await cluster.submit("one", {"n": 1})
    [job] = await cluster.wait_until_final([job_id], seconds=20)
    assert job.result == 10


@pytest.mark.parametrize("signing", ["required", "optional"])
async def test_short_lived_tokens_are_renewed_under_load(
    autojump_clock: MockClock, shop: Workshop, signing: str
) -> None:
    security = Security(signing=signing, access_token_seconds=20)
    async with at_peace(security=security) as cluster:
        await shop.add_to(cluster, use_access_tokens=True).start()
        job_ids = []
        for n in range(200):
            job_ids += await cluster.submit("one", {"n": n, "seconds": n % 7})
            await trio.sleep(1)
        await cluster.wait_until_final(job_ids, seconds=100)
        refreshes = calls("POST", "/_worker/auth/token/refresh")
        assert len([it for it in cluster.network.seen if refreshes(it.call)]) >= 10
        assert refusals(cluster) <= {"/_worker/workers/register"}
        shown = {dict(it.call.headers).get(b"x-worker-token") for it in cluster.network.seen}
        assert len(shown) > 10
        assert "attempt_lost" not in str([await cluster.history(it) for it in job_ids])


async def test_a_worker_gets_a_new_token_when_its_orchestrator_has_forgotten_all(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    async with at_peace(security=Security(access_token_seconds=100)) as cluster:
        await let_in(cluster.storage, {"w1": ["one", "two"]})
        await trio.sleep(1)
        machine = shop.add_to(cluster, use_access_tokens=True, token=Secret("two"))
        await machine.start()
        await trio.sleep(20)
        records = cluster.storage._records
        records.tokens.clear()
        records.ending_tokens.clear()
        await cluster.orchestrator.kill()
        await cluster.orchestrator.start()
        [job_id] = await cluster.submit("one", {"n": 1})
        [job] = await cluster.wait_until_final([job_id], seconds=60)
        assert job.result == 10


async def test_each_orchestrator_is_shown_its_own_token(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    security = Security(signing="required")
    tokens = ["token-a", "token-b"]
    options = {"orchestrators": 2, "is_shared": False, "tokens": tokens}
    async with at_peace(security=security, **options) as cluster:
        targets = tuple(attrs.evolve(it) for it in cluster.targets())
        await shop.add_to(cluster, orchestrators=targets, mode="ROUND_ROBIN").start()
        job_ids = await cluster.submit("one", {"n": 1}, to="o1")
        job_ids += await cluster.submit("one", {"n": 2}, to="o2")
        jobs = await cluster.wait_until_final(job_ids, seconds=60)
        assert [job.result for job in jobs] == [10, 20]
        assert refusals(cluster) <= {"/_worker/workers/register"}
