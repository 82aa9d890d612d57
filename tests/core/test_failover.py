"""The failover policy: every cell of its table, and what holds after any events."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from avtomatika_trio._core.failover import (
    FORGET_SECONDS,
    PROBE_SECONDS,
    PROVING_PROBE_SECONDS,
    REFUSED_SECONDS,
    TRANSITIONS,
    Event,
    Failover,
    Health,
    Standing,
    probe_at,
)

A, B, C = URLS = ("http://a", "http://b", "http://c")
STABLE = 5.0

UP, DOWN, PROVING, REFUSED = Standing.UP, Standing.DOWN, Standing.PROVING, Standing.REFUSED


def happen(policy: Failover, url: str, event: Event, now: float) -> Failover:
    match event:
        case Event.ANSWERED:
            return policy.answered(url, now=now)
        case Event.RENEWED:
            return policy.renewed(url, now=now)
        case Event.FAILED:
            return policy.failed(url, now=now, reason="silent")
        case Event.REFUSED:
            return policy.refused(url, now=now, reason="403")
        case Event.STABLE:
            return policy.at(now)


def with_standing(standing: Standing) -> Failover:
    """Two orchestrators, of which the first has *standing* since the time 0."""
    policy = Failover(urls=(A, B), stable_seconds=STABLE)
    match standing:
        case Standing.UP:
            return policy.renewed(A, now=0.0)
        case Standing.DOWN:
            return policy.failed(A, now=0.0, reason="silent")
        case Standing.PROVING:
            return policy.failed(A, now=-1.0, reason="silent").renewed(A, now=0.0)
        case Standing.REFUSED:
            return policy.refused(A, now=0.0, reason="403")


@pytest.mark.parametrize("standing", Standing)
@pytest.mark.parametrize("event", Event)
def test_every_event_has_its_effect_in_every_standing(standing: Standing, event: Event) -> None:
    before = with_standing(standing)
    assert before.health(A).standing is standing
    after = happen(before, A, event, 100.0)
    assert after.health(A).standing is TRANSITIONS[standing].get(event, standing)
    assert after.health(B) == before.health(B)


def test_from_every_standing_there_is_a_way_up() -> None:
    for standing in Standing:
        policy = with_standing(standing).renewed(A, now=200.0).answered(A, now=201.0)
        assert policy.at(200.0 + STABLE).health(A).standing is UP


def test_at_first_the_preferred_one_is_active() -> None:
    assert Failover(urls=URLS).active == A


def test_the_next_one_that_is_up_is_active_at_once() -> None:
    policy = Failover(urls=URLS).failed(A, now=0.0, reason="silent")
    assert policy.active == B
    assert policy.failed(B, now=0.0, reason="silent").active == C
    assert policy.refused(B, now=0.0, reason="401").active == C


def test_it_goes_back_only_when_the_better_one_was_stable_and_has_renewed() -> None:
    policy = Failover(urls=(A, B), stable_seconds=STABLE).failed(A, now=0.0, reason="silent")
    policy = policy.answered(A, now=10.0)
    assert policy.changes_at() == math.inf  # answers, but has not renewed
    assert policy.at(100.0).active == B
    policy = policy.renewed(A, now=12.0)
    assert policy.changes_at() == 10.0 + STABLE
    assert policy.at(14.9).active == B
    assert policy.at(15.0).active == A


def test_a_failure_while_it_proves_itself_begins_all_again() -> None:
    policy = Failover(urls=(A, B), stable_seconds=STABLE).failed(A, now=0.0, reason="silent")
    policy = policy.renewed(A, now=10.0).failed(A, now=12.0, reason="silent")
    policy = policy.answered(A, now=13.1)
    assert not policy.health(A).renewed
    policy = policy.renewed(A, now=14.0)
    assert policy.changes_at() == 13.1 + STABLE


def test_it_does_not_come_back_before_its_rest_is_over() -> None:
    policy = Failover(urls=(A, B), stable_seconds=0.0)
    for now in (0.0, 0.5, 1.5, 3.5, 7.5, 15.5):
        policy = policy.failed(A, now=now, reason="silent")
    policy = policy.renewed(A, now=16.0)
    assert policy.changes_at() == 15.5 + 15.0
    assert policy.at(30.0).active == B


def test_in_need_the_first_that_answers_is_active_and_stays_until_one_is_up() -> None:
    policy = Failover(urls=URLS, stable_seconds=STABLE)
    for url in URLS:
        policy = policy.failed(url, now=0.0, reason="silent")
    assert policy.active is None
    policy = policy.renewed(B, now=1.0)
    assert policy.active == B
    policy = policy.renewed(A, now=2.0)
    assert policy.active == B  # no switch to one that is no better proved
    policy = policy.at(6.0)
    assert policy.active == B
    policy = policy.at(7.0)
    assert policy.active == A


def test_one_that_answers_probes_and_no_heartbeats_is_not_asked_for_work_even_in_need() -> None:
    policy = Failover(urls=(A, B)).failed(B, now=0.0, reason="silent")
    policy = policy.failed(A, now=0.0, reason="500").answered(A, now=1.0)
    assert policy.active is None
    assert policy.renewed(A, now=2.0).active == A


def test_rests_and_proving_times_double_and_are_forgotten_after_a_minute_without_a_failure() -> (
    None
):
    policy, now, rests, proofs = Failover(urls=(A, B), stable_seconds=STABLE), 0.0, [], []
    for _ in range(8):
        policy = policy.failed(A, now=now, reason="silent")
        rests.append(policy.health(A).retry_at - now)
        now = policy.health(A).retry_at
        policy = policy.renewed(A, now=now)
        proofs.append(policy.changes_at() - now)
        now = policy.changes_at()
        policy = policy.at(now)
        assert policy.active == A
        now += 1.0
    assert rests == [0.5, 1, 2, 4, 8, 15, 15, 15]
    assert proofs == [5, 10, 20, 40, 80, 160, 300, 300]
    now += FORGET_SECONDS
    policy = policy.failed(A, now=now, reason="silent")
    assert policy.health(A).retry_at == now + 0.5
    policy = policy.renewed(A, now=now + 1)
    assert policy.changes_at() == now + 1 + STABLE


def test_a_long_outage_is_one_failure_and_not_many_relapses() -> None:
    policy, now = Failover(urls=(A, B), stable_seconds=STABLE).renewed(A, now=0.0), 30.0
    for _ in range(50):
        policy = policy.failed(A, now=now, reason="silent")
        now = policy.health(A).retry_at
    policy = policy.renewed(A, now=now)
    assert policy.changes_at() == now + STABLE


def test_one_that_there_is_no_room_for_is_passed_over_until_there_is() -> None:
    policy = Failover(urls=(A, B)).without_room_for([A])
    assert policy.active == B
    assert policy.is_usable(A)
    assert policy.without_room_for([A, B]).active is None
    assert policy.without_room_for([]).active == A
    assert Failover(urls=(A,)).without_room_for([A]).active == A


def test_what_others_notice_while_it_rests_does_not_prolong_its_rest() -> None:
    policy = Failover(urls=(A, B)).failed(A, now=0.0, reason="silent")
    assert policy.failed(A, now=0.4, reason="also silent") is policy


def test_a_refused_worker_does_not_come_back_by_probes() -> None:
    policy = Failover(urls=(A, B)).refused(A, now=0.0, reason="403")
    assert policy.answered(A, now=100.0).health(A).standing is REFUSED
    policy = policy.renewed(A, now=2.0)
    assert policy.changes_at() == REFUSED_SECONDS


def test_a_lone_one_is_always_active_and_usable() -> None:
    policy = Failover(urls=(A,)).failed(A, now=0.0, reason="silent")
    assert (policy.active, policy.is_usable(A)) == (A, True)
    assert policy.health(A).standing is DOWN


@pytest.mark.parametrize(
    ("health", "is_watched", "due_at"),
    [
        (Health(), False, math.inf),
        (Health(), True, 20.0 + PROBE_SECONDS),
        (Health(standing=DOWN, retry_at=33.0), True, 33.0),
        (Health(standing=PROVING), False, 10.0 + PROVING_PROBE_SECONDS),
        (Health(standing=REFUSED, retry_at=33.0), True, math.inf),
    ],
)
def test_when_it_is_probed(health: Health, *, is_watched: bool, due_at: float) -> None:
    assert probe_at(health, is_watched=is_watched, probed_at=10.0, heard_at=20.0) == due_at


Deed = tuple[str, Event, float]

deeds = st.lists(
    st.tuples(
        st.sampled_from(URLS),
        st.sampled_from(list(Event)),
        st.floats(0, 40, allow_nan=False),
    ),
    max_size=60,
)


def play(policy: Failover, story: list[Deed], look: Callable[[Failover, float], None]) -> None:
    now = 0.0
    for url, event, later in story:
        # All that time alone does before the event happens, at its moment.
        until = now + later
        while policy.changes_at() <= until:
            now = max(now, policy.changes_at())
            policy = policy.at(now)
            look(policy, now)
        now = until
        policy = happen(policy, url, event, now)
        look(policy, now)


@given(deeds)
@settings(max_examples=300)
def test_the_active_one_is_the_best_that_may_be_asked_and_never_rests(story: list[Deed]) -> None:
    def look(policy: Failover, now: float) -> None:
        usable = [url for url in URLS if policy.is_usable(url)]
        up = [url for url in URLS if policy.health(url).standing is UP]
        if policy.active is None:
            assert usable == []
            return
        assert policy.active in usable
        assert policy.health(policy.active).standing not in (DOWN, REFUSED)
        if up:  # nobody better than it is up
            assert URLS.index(policy.active) <= URLS.index(up[0])

    play(Failover(urls=URLS, stable_seconds=STABLE), story, look)


@given(deeds, st.floats(0, 10))
@settings(max_examples=300)
def test_after_a_failure_it_takes_the_place_of_one_that_is_up_only_after_its_rest(
    story: list[Deed], stable: float
) -> None:
    """So one that flaps causes at most one switch in each back-off."""
    before = Failover(urls=URLS, stable_seconds=stable)

    def look(policy: Failover, now: float) -> None:
        nonlocal before
        url = policy.active
        if url is not None and url != before.active and before.active is not None:
            was_up = before.health(before.active).standing is UP
            still_up = policy.health(before.active).standing is UP
            if was_up and still_up:
                health = policy.health(url)
                assert now >= health.retry_at
                assert health.failures == 0 or now - health.good_since >= stable - 1e-9
        before = policy

    play(before, story, look)
