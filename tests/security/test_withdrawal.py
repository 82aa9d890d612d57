"""A credential that is removed, expired or changed: refused everywhere within a second, polls
ended, leases given back (rules A1 to A8).
"""

import attrs
import pytest
import trio
from tests.cluster.scene import RESULT, Workshop, at_peace, unexplained
from tests.orchestrator.clients import Worker, make_context, memory, open_client
from tests.security.credentials import let_in
from trio.testing import MockClock

from avtomatika_trio._config import Secret
from avtomatika_trio._core.access import AuditRow
from avtomatika_trio._core.admission import apply
from avtomatika_trio.orchestrator._engine import run_engine
from avtomatika_trio.testing import Cluster
from avtomatika_trio.testing._machines import EPOCH

TOKENS = {"w1": ["token-1"], "w2": ["token-2"]}
ONE, TWO = Secret("token-1"), Secret("token-2")


async def begin(cluster: Cluster, tokens: dict[str, list[str]] | None = None) -> None:
    """Let workers in, and wait until every orchestrator has heard of it."""
    await let_in(cluster.storage, tokens or TOKENS)
    await trio.sleep(1)


def outcomes(cluster: Cluster, *, since: float, client: str = "w1") -> set[int | str]:
    """How requests of *client* ended that ended since then."""
    seen = cluster.network.seen
    return {it.outcome for it in seen if it.at >= since and it.call.client == client}


async def test_a_removed_worker_is_refused_within_a_second_and_its_work_goes_to_another(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    async with at_peace() as cluster:
        await begin(cluster)
        await shop.add_to(cluster, "w1", token=ONE).start()
        [job_id] = await cluster.submit("one", {"n": 1, "seconds": 1000})
        await shop.until(1)
        await shop.add_to(cluster, "w2", token=TWO).start()
        await trio.sleep(100)
        removed_at = trio.current_time()

        await let_in(cluster.storage, {"w2": TOKENS["w2"]})
        await shop.until(2)

        assert trio.current_time() - removed_at < 1
        assert shop.runs[1].worker_id == "w2"
        await trio.sleep(60)
        assert outcomes(cluster, since=removed_at + 1) == {403}
        assert await unexplained(cluster, shop, [job_id]) == []
        job = (await cluster.wait_until_final([job_id], seconds=2000))[0]
        assert job.result == 10
        history = await cluster.history(job_id)
        assert "attempt_lost" not in history
        task = (await cluster.storage.tasks(job_id))[0]
        assert (task.lost, task.returned, task.failures) == (0, 0, 0)


@pytest.mark.parametrize("orchestrators", [1, 3])
async def test_an_open_poll_of_a_removed_worker_ends_on_every_orchestrator(
    autojump_clock: MockClock, shop: Workshop, orchestrators: int
) -> None:
    async with at_peace(orchestrators=orchestrators) as cluster:
        await begin(cluster)
        machine = shop.add_to(
            cluster,
            "w1",
            token=ONE,
            orchestrators=tuple(attrs.evolve(it, token=ONE) for it in cluster.targets()),
            mode="ROUND_ROBIN",
        )
        await machine.start()
        await trio.sleep(5)
        removed_at = trio.current_time()

        await let_in(cluster.storage, {"w2": TOKENS["w2"]})
        await trio.sleep(1)

        ended = {it.call.server: it.outcome for it in cluster.network.seen if it.at > removed_at}
        assert set(ended.values()) == {403}
        assert len(ended) == orchestrators


async def test_a_result_of_a_removed_worker_is_not_taken(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    await begin(cluster)
    await shop.add_to(cluster, "w1", token=ONE).start()
    [job_id] = await cluster.submit("one", {"n": 1, "seconds": 50})
    await shop.until(1)
    await let_in(cluster.storage, {"w2": TOKENS["w2"]})

    await trio.sleep(200)

    assert shop.runs[0].how == "done"
    assert not (await cluster.job(job_id)).status.is_final
    results = [it.outcome for it in cluster.network.seen if RESULT(it.call)]
    assert results
    assert set(results) == {403}


async def test_a_worker_that_is_let_in_again_in_time_goes_on_with_what_it_has(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    await begin(cluster)
    await shop.add_to(cluster, "w1", token=ONE).start()
    [job_id] = await cluster.submit("one", {"n": 1, "seconds": 100})
    await shop.until(1)
    await let_in(cluster.storage, {"w2": TOKENS["w2"]})
    await trio.sleep(5)
    await let_in(cluster.storage, TOKENS)

    [job] = await cluster.wait_until_final([job_id], seconds=600)

    assert job.result == 10
    assert shop.times() == [1]


async def test_an_expired_credential_is_withdrawn_at_its_time(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    await begin(cluster)
    await shop.add_to(cluster, "w1", token=ONE).start()
    await cluster.submit("one", {"n": 1, "seconds": 1000})
    await shop.until(1)
    ends = trio.current_time() + 100
    await let_in(cluster.storage, TOKENS, expires_at=EPOCH + ends)
    await trio.sleep_until(ends - 1)
    [attempt] = await cluster.storage.attempts(_job(shop))
    assert attempt.status == "leased"

    await trio.sleep_until(ends + 1)

    [attempt] = await cluster.storage.attempts(_job(shop))
    assert attempt.status == "unclaimed"
    await trio.sleep(60)
    assert outcomes(cluster, since=ends + 1) == {403}


@pytest.mark.parametrize("ends_in", [0.2, 100])
async def test_an_end_that_a_reload_here_has_brought_is_kept(
    autojump_clock: MockClock, ends_in: float
) -> None:
    """Who has made the change knows it already when it next looks for news."""
    context = make_context(memory())
    await let_in(context.storage, {"w1": ["token-1"]})
    await context.access.open()
    async with open_client(context) as client, trio.open_nursery() as loops:
        loops.start_soon(run_engine, context)
        loops.start_soon(context.access.run, context.rules)
        worker = Worker(client, token="token-1")
        await worker.register("scale")
        job_id = (await client.post("/api/v1/jobs/resize")).json()["job_id"]
        await trio.sleep(1)
        assert await worker.take()
        ends_at = context.storage.now() + ends_in
        applied = await let_in(context.storage, {"w1": ["token-1"]}, expires_at=ends_at)
        await context.access._follow_or_later(applied.access, context.rules)
        [attempt] = await context.storage.attempts(job_id)
        assert attempt.status == "leased"
        await trio.sleep(ends_in + 1)
        [attempt] = await context.storage.attempts(job_id)
        assert attempt.status == "unclaimed"
        loops.cancel_scope.cancel()


async def test_an_open_poll_is_not_given_what_was_taken_from_its_skills(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    await begin(cluster)
    await shop.add_to(cluster, "w1", token=ONE).start()
    await trio.sleep(2)
    changed_at = trio.current_time()
    await let_in(cluster.storage, TOKENS, skills=("other",))
    await trio.sleep(1)
    [job_id] = await cluster.submit("one", {"n": 1})
    await trio.sleep(100)
    assert shop.runs == []
    assert 403 not in outcomes(cluster, since=changed_at)
    await let_in(cluster.storage, TOKENS, skills=("work",))
    await cluster.wait_until_final([job_id], seconds=2)


def _job(shop: Workshop) -> str:
    """The id of the job of the first run; a task's id begins with it."""
    return shop.runs[0].key.rpartition("-")[0]


async def test_a_changed_token_ends_the_old_one_but_not_while_both_are_there(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    await begin(cluster, {"w1": ["token-1"]})
    await shop.add_to(cluster, "w1", token=ONE).start()
    await trio.sleep(5)
    await let_in(cluster.storage, {"w1": ["newer", "token-1"]})
    both = trio.current_time()
    await trio.sleep(100)
    assert 403 not in outcomes(cluster, since=both)

    await let_in(cluster.storage, {"w1": ["newer"]})
    await trio.sleep(1)

    since = trio.current_time()
    await trio.sleep(60)
    assert outcomes(cluster, since=since) == {403}


async def test_a_worker_that_gets_a_credential_of_its_own_needs_it_from_then_on(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    await shop.add_to(cluster, "w1").start()
    await shop.add_to(cluster, "w3").start()
    [job_id] = await cluster.submit("one", {"n": 1})
    await cluster.wait_until_final([job_id], seconds=5)

    await begin(cluster)

    since = trio.current_time()
    await trio.sleep(60)
    assert outcomes(cluster, since=since) == {403}
    assert 403 not in outcomes(cluster, since=since, client="w3")


async def test_an_orchestrator_that_starts_with_no_file_goes_by_the_storage(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    await let_in(cluster.storage, {"w2": TOKENS["w2"]})
    await cluster.orchestrator.kill()
    await cluster.orchestrator.start()
    await shop.add_to(cluster, "w2", token=ONE).start()  # not its token
    await trio.sleep(10)
    assert outcomes(cluster, since=0, client="w2") == {403}


async def test_what_was_handed_out_by_one_who_had_not_heard_is_withdrawn_by_it(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    """The change is made by o1, between two looks of o2, which hands out in this very time."""
    async with at_peace(orchestrators=2) as cluster:
        await begin(cluster)
        only_two = tuple(
            attrs.evolve(it, token=ONE) for it in cluster.targets() if it.url.endswith("o2")
        )
        await shop.add_to(cluster, "w1", orchestrators=only_two, token=ONE).start()
        await trio.sleep(20.01)  # both have just looked
        await let_in(cluster.storage, {"w2": TOKENS["w2"]})
        [job_id] = await cluster.submit("one", {"n": 1, "seconds": 500}, to="o1")
        await shop.until(1)
        began = trio.current_time()
        await trio.sleep(1)
        [attempt] = await cluster.storage.attempts(job_id)
        assert attempt.status == "unclaimed"
        assert attempt.ended_at is not None
        assert attempt.ended_at - EPOCH - began < 1


async def test_skills_of_a_credential_bound_what_is_given(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    await let_in(cluster.storage, {"w1": TOKENS["w1"]}, skills=("other",))
    await trio.sleep(1)
    await shop.add_to(cluster, "w1", token=ONE).start()
    [job_id] = await cluster.submit("one", {"n": 1})
    await trio.sleep(100)
    assert shop.runs == []
    await let_in(cluster.storage, {"w1": TOKENS["w1"]}, skills=("other", "work"))
    await cluster.wait_until_final([job_id], seconds=60)


@pytest.mark.parametrize("seed", range(12))
async def test_in_a_storm_of_changes_nothing_is_lost(
    autojump_clock: MockClock, shop: Workshop, seed: int
) -> None:
    """Workers come and go with their credentials, at any moment; every job ends once."""
    async with at_peace(orchestrators=2, seed=seed, commit_seconds=0.05) as cluster:
        await begin(cluster)
        for name, token in (("w1", ONE), ("w2", TWO)):
            targets = tuple(attrs.evolve(it, token=token) for it in cluster.targets())
            machine = shop.add_to(cluster, name, token=token, orchestrators=targets)
            await machine.start()
        job_ids = await cluster.submit("one", *({"n": n, "seconds": n % 4} for n in range(60)))
        for _ in range(12):
            await trio.sleep(cluster.chance.uniform(0, 3))
            names = cluster.chance.sample(["w1", "w2"], cluster.chance.randint(0, 2))
            await let_in(cluster.storage, {name: TOKENS[name] for name in names} or {"x": ["y"]})
        await let_in(cluster.storage, TOKENS)

        jobs = await cluster.wait_until_final(job_ids, seconds=3600)

        assert sorted(job.result for job in jobs) == [n * 10 for n in range(60)]


async def test_a_change_by_an_operation_alone_is_in_the_audit(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    await begin(cluster)
    row = AuditRow(at=0, who="root", action="reload_credentials", origin="10.0.0.1")
    await cluster.storage.commit(lambda ledger: apply(ledger, (), None, row))
    last = (await cluster.storage.audit())[-1].row
    assert (last.who, last.origin, last.details["workers"]["removed"]) == (
        "root",
        "10.0.0.1",
        ("w1", "w2"),
    )
    assert last.at > EPOCH - 1


async def test_a_storage_that_has_lost_its_last_change_is_followed_back_and_on_again(
    autojump_clock: MockClock,
) -> None:
    """As after a failover: the same generation is given twice, to different sets (rule A3)."""
    storage = memory()
    context = make_context(storage)
    await context.access.open()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(context.access.run, context.rules)
        before = (await let_in(storage, {"w1": ["token-1"]})).access
        await trio.sleep(1.25)  # between two looks
        await let_in(storage, {"w2": ["token-2"]})
        await trio.sleep(1)
        assert context.access.roster.worker("w1") is None
        await storage.commit(lambda ledger: ledger.put_access(before))
        await trio.sleep(0.6)
        assert context.access.roster.worker("w1") is None  # it may have been read too early
        await trio.sleep(1)
        assert context.access.roster.worker("w1") is not None
        await let_in(storage, {"w3": ["token-3"]})  # in the generation that w2 was let in by
        await trio.sleep(1.1)
        assert context.access.roster.worker("w3") is not None
        assert context.access.roster.worker("w2") is None
        nursery.cancel_scope.cancel()
