"""One worker, two orchestrators, real faults between them: nothing waits, nothing is lost."""

from pathlib import Path

import attrs
import pytest
import trio
from tests.e2e.failover_cases import (
    CASES,
    JOBS,
    Outcome,
    run_cases,
)
from tests.e2e.fault_proxy import Refuse
from tests.e2e.killing import Program, lasting_port, notes_of, sleeper
from tests.e2e.reckoning import read_runs, reckon
from tests.e2e.sites import Site, examine, look_at

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]


@attrs.frozen
class Seen:
    """What all cases have shown."""

    outcomes: dict[str, Outcome]
    violations: list[str]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return Seen(*trio.run(run_cases, tmp_path_factory.mktemp("failover")))


@pytest.mark.parametrize("name", CASES)
def test_the_second_is_served_while_the_first_is_faulty(seen: Seen, name: str) -> None:
    outcome = seen.outcomes[name]
    assert not outcome.standby_is_served_early
    assert outcome.served_after_seconds is not None
    assert list(outcome.standings) == ["down", "active"]


@pytest.mark.parametrize("name", CASES)
def test_the_fault_has_hit(seen: Seen, name: str) -> None:
    outcome = seen.outcomes[name]
    assert outcome.hits > 0
    assert outcome.got_through == 0 or CASES[name].is_passable
    assert outcome.is_refused is isinstance(CASES[name].fault, Refuse)


@pytest.mark.parametrize("name", CASES)
def test_the_first_is_served_once_it_is_healed(seen: Seen, name: str) -> None:
    outcome = seen.outcomes[name]
    assert outcome.healed_after_seconds is not None
    assert outcome.reckoning is not None
    assert outcome.reckoning.finished == 3 * JOBS


def test_slowness_is_no_reason_to_leave(seen: Seen) -> None:
    outcome = seen.outcomes["slower"]
    assert outcome.served_after_seconds is not None
    assert outcome.hits > 0
    assert outcome.standings == ["active", "standby"]
    assert not outcome.standby_is_served_early
    assert outcome.reckoning is not None
    assert outcome.reckoning.finished == 3 * JOBS


@pytest.mark.parametrize("name", [*CASES, "slower"])
def test_every_result_is_applied_once_and_no_attempt_is_lost(seen: Seen, name: str) -> None:
    reckoning = seen.outcomes[name].reckoning
    assert reckoning is not None
    assert reckoning.problems == []
    assert [reason for reason in reckoning.repeats if "attempt_lost" in reason] == []


def test_the_invariants_hold_in_both_databases(seen: Seen) -> None:
    assert seen.violations == []


async def test_in_turn_both_are_served_and_one_outlives_the_other(tmp_path: Path) -> None:
    sites = [Site.create(tmp_path, "first"), Site.create(tmp_path, "second")]
    health_port = lasting_port()
    program = sleeper(
        tmp_path,
        "w1",
        *(site.url for site in sites),
        skill="sleep",
        environ={
            "MULTI_ORCHESTRATOR_MODE": "ROUND_ROBIN",
            "FAILBACK_STABLE_SECONDS": "1",
            "WORKER_PORT": str(health_port),
        },
    )
    try:
        await _take_turns(sites, program, health_port)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(program.end)
            for site in sites:
                await site.end()
    violations, accounts = await examine(sites)
    accepted = [id_ for site in sites for id_ in site.accepted]
    reckoning = reckon(accounts, accepted, read_runs(notes_of(program)))
    assert violations == []
    assert reckoning.problems == []
    assert reckoning.finished == 4 * JOBS


async def _take_turns(sites: list[Site], program: Program, health_port: int) -> None:
    """Jobs at both; jobs at the second while the first is dead; jobs at the first again."""

    async def submit(site: Site, begin: int) -> list[str]:
        jobs = [{"n": n, "skill": "sleep", "seconds": 0.2} for n in range(begin, begin + JOBS)]
        return await site.submit(*jobs)

    first, second = sites
    for site in sites:
        await site.start()
    program.start()
    ids = [await submit(site, 0) for site in sites]
    for site, early in zip(sites, ids, strict=True):
        assert await site.done_within(30, early) is not None
    first.program.kill()
    late = await submit(second, JOBS)
    assert await second.done_within(3, late) is not None
    told = {one["url"]: one["standing"] for one in (await look_at(health_port))["orchestrators"]}
    assert told == {first.url: "down", second.url: "active"}
    await first.start()
    again = await submit(first, JOBS)
    assert await first.done_within(30, again) is not None
