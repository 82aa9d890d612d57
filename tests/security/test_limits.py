"""Rate limits: what passes, what is refused, and when one may come again."""

from http import HTTPStatus

import attrs
import pytest
from hypothesis import given, strategies as st

from avtomatika_trio._config._settings_orchestrator import OrchestratorSettings
from avtomatika_trio.orchestrator._http import HttpProblem
from avtomatika_trio.orchestrator._limits import RateLimits, create_limits

PERIOD = 60.0


@attrs.define
class Clock:
    """A clock that is set by hand."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def limits_of(clock: Clock, limit: int, *, period: float = PERIOD, most: int = 100) -> RateLimits:
    return RateLimits(period, {"poll": limit, "event": limit}, clock, most)


def passes(limits: RateLimits, key: str = "w1", kind: str = "poll") -> bool:
    try:
        limits.take(kind, key)
    except HttpProblem:
        return False
    return True


def burst(limits: RateLimits, number: int, key: str = "w1") -> int:
    return sum(passes(limits, key) for _ in range(number))


def retry_after(limits: RateLimits, key: str = "w1") -> int:
    with pytest.raises(HttpProblem) as caught:
        limits.check("poll", key)
    return int(caught.value.headers["retry-after"])


def test_the_limit_passes_and_no_more() -> None:
    assert burst(limits_of(Clock(), 5), 20) == 5


def test_kinds_and_keys_are_counted_apart() -> None:
    limits = limits_of(Clock(), 1)
    assert passes(limits, "w1")
    assert passes(limits, "w2")
    assert passes(limits, "w1", "event")
    assert not passes(limits, "w1")
    assert not passes(limits, "w1", "event")


def test_the_previous_period_weighs_less_the_longer_it_is_past() -> None:
    clock = Clock()
    limits = limits_of(clock, 100)
    assert burst(limits, 200) == 100
    clock.now += PERIOD
    assert burst(limits, 200) == 0
    clock.now += PERIOD / 4
    assert burst(limits, 200) == 25
    clock.now += PERIOD / 2
    assert burst(limits, 200) == 50
    clock.now += 3 * PERIOD
    assert burst(limits, 200) == 100


def test_refused_requests_are_not_counted() -> None:
    clock = Clock()
    limits = limits_of(clock, 2)
    burst(limits, 1000)
    clock.now += 2 * PERIOD
    assert burst(limits, 1000) == 2


def test_the_answer_names_the_limit_its_variable_and_the_wait() -> None:
    limits = RateLimits(PERIOD, {"poll": 1}, Clock(), variables={"poll": "SOME_LIMIT"})
    limits.take("poll", "w1")
    with pytest.raises(HttpProblem) as caught:
        limits.take("poll", "w1")
    problem = caught.value
    assert problem.status is HTTPStatus.TOO_MANY_REQUESTS
    assert problem.code == "rate_limited"
    assert problem.detail == (
        "the limit `poll` is 1 requests in 60 s (SOME_LIMIT); come again in 61 s"
    )
    assert problem.headers == {"retry-after": "61"}


def test_checking_counts_nothing_and_counting_refuses_nothing() -> None:
    limits = limits_of(Clock(), 1)
    for _ in range(5):
        limits.check("poll", "w1")
    for _ in range(5):
        limits.count("poll", "w1")
    with pytest.raises(HttpProblem):
        limits.check("poll", "w1")


def test_a_clock_that_is_put_back_locks_nobody_out() -> None:
    clock = Clock(1_000_000.0)
    limits = limits_of(clock, 3)
    burst(limits, 9)
    clock.now = 0.0
    assert burst(limits, 9) == 3


def test_the_key_that_was_used_longest_ago_is_forgotten() -> None:
    limits = limits_of(Clock(), 1, most=3)
    assert [passes(limits, key) for key in ("a", "b", "c")] == [True] * 3
    assert not passes(limits, "a")  # refused, and still a use
    assert passes(limits, "d")
    assert not passes(limits, "a")
    assert passes(limits, "b")


def test_however_many_keys_there_are_memory_is_bounded() -> None:
    limits = limits_of(Clock(), 1, most=50)
    for number in range(1000):
        limits.check("poll", f"checked-{number}")
        limits.count("event", f"counted-{number}")
    assert len(limits._windows) == 50


def test_a_kind_without_a_limit_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        limits_of(Clock(), 1).take("pol", "w1")


def test_off_lets_everything_pass() -> None:
    limits = RateLimits.off()
    for _ in range(100):
        limits.check("anything", "w1")
        limits.count("anything", "w1")
        limits.take("anything", "w1")


@pytest.mark.parametrize(
    ("kind", "limit", "variable"),
    [
        ("register", 2, "RATE_LIMIT_LIMIT"),
        ("return", 2, "RATE_LIMIT_LIMIT"),
        ("token", 2, "RATE_LIMIT_LIMIT"),
        ("result", 2, "RATE_LIMIT_LIMIT"),
        ("heartbeat", 3, "RATE_LIMIT_HEARTBEAT_LIMIT"),
        ("poll", 4, "RATE_LIMIT_POLL_LIMIT"),
        ("event", 5, "RATE_LIMIT_EVENT_LIMIT"),
        ("client", 6, "RATE_LIMIT_CLIENT_LIMIT"),
    ],
)
def test_every_kind_has_its_setting(kind: str, limit: int, variable: str) -> None:
    settings = OrchestratorSettings(
        rate_limit_period_seconds=7.0,
        rate_limit=2,
        rate_limit_heartbeats=3,
        rate_limit_polls=4,
        rate_limit_events=5,
        rate_limit_clients=6,
    )
    limits = create_limits(settings, Clock())
    assert sum(passes(limits, kind=kind) for _ in range(20)) == limit
    with pytest.raises(HttpProblem, match=rf"{limit} requests in 7 s \({variable}\)"):
        limits.check(kind, "w1")


def test_the_setting_switches_limits_off() -> None:
    limits = create_limits(OrchestratorSettings(rate_limiting=False, rate_limit=1), Clock())
    assert sum(passes(limits, kind="register") for _ in range(20)) == 20


pauses = st.lists(
    st.one_of(
        st.just(0.0),
        st.sampled_from([1.0, 30.0, 60.0, 119.0, 120.0]),
        st.floats(0, 200, allow_nan=False),
    ),
    min_size=1,
    max_size=60,
)
periods = st.sampled_from([1.0, 7.0, 60.0, 3600.0]) | st.floats(1, 3600)
starts = st.sampled_from([0.0, 1.7e9]) | st.floats(0, 2e9)


@given(pauses, st.integers(1, 7), periods, starts, st.data())
def test_who_comes_again_when_told_passes(
    waits: list[float], limit: int, period: float, start: float, data: st.DataObject
) -> None:
    """Also when more were counted than the limit, as polls in flight are."""
    clock = Clock(start)
    limits = limits_of(clock, limit, period=period)
    for wait in waits:
        clock.now += wait * period / 60
        for _ in range(data.draw(st.integers(0, 12))):
            limits.count("poll", "w1")
        if passes(limits):
            continue
        clock.now += retry_after(limits)
        assert passes(limits)


@given(pauses, st.integers(1, 7), periods)
def test_nobody_is_told_to_wait_much_longer_than_needed(
    waits: list[float], limit: int, period: float
) -> None:
    clock = Clock()
    limits = limits_of(clock, limit, period=period)
    for wait in waits:
        clock.now += wait * period / 60
        if passes(limits):
            continue
        seconds = retry_after(limits)
        assert 1 <= seconds <= period + 2
        if seconds > 1:
            clock.now += seconds - 1.01
            assert not passes(limits)


@given(pauses, st.integers(1, 7), periods)
def test_no_stretch_of_a_period_has_more_than_twice_the_limit(
    waits: list[float], limit: int, period: float
) -> None:
    clock = Clock()
    limits = limits_of(clock, limit, period=period)
    times: list[float] = []
    for wait in waits:
        clock.now += wait * period / 600
        times += [clock.now] * burst(limits, 3)
    for first in times:
        assert sum(first <= time < first + period for time in times) <= 2 * limit
    assert len(times) <= limit * (1 + (clock.now - 1000.0) // period)


@given(st.integers(1, 50), periods, st.floats(1.001, 50))
def test_requests_slower_than_the_limit_all_pass(limit: int, period: float, slower: float) -> None:
    clock = Clock()
    limits = limits_of(clock, limit, period=period)
    for _ in range(5 * limit):
        assert passes(limits)
        clock.now += slower * period / limit
