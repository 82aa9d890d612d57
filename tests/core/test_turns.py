"""Whose turn it is."""

from collections import Counter

import pytest
from hypothesis import given, strategies as st

from avtomatika_trio._core.turns import InOrder, Turns, Weighted

weights = st.dictionaries(st.sampled_from("ABCDE"), st.floats(0.1, 100), min_size=1, max_size=5)


def play(turns: Turns, sizes: list[int], urls: str) -> Counter[str]:
    got = Counter[str]()
    for size in sizes:
        url = turns.next_of(urls)
        turns = turns.taken(url, size, urls)
        got[url] += size
    return got


def test_turns_are_spread_and_not_in_runs() -> None:
    turns, order = Weighted({"A": 5.0, "B": 1.0, "C": 1.0}), ""
    for _ in range(14):
        url = turns.next_of("ABC")
        turns, order = turns.taken(url, 1, "ABC"), order + url
    assert order == "AABACAA" * 2


@given(weights, st.lists(st.integers(1, 50), min_size=1, max_size=300))
def test_everybody_gets_the_share_of_its_weight_to_within_a_request(
    by_weight: dict[str, float], sizes: list[int]
) -> None:
    """Also when requests are of different sizes."""
    urls = "".join(by_weight)
    got = play(Weighted(by_weight), sizes, urls)
    total = sum(by_weight.values())
    for url, weight in by_weight.items():
        # The largest request, once for each of the others.
        assert abs(got[url] - sum(sizes) * weight / total) <= max(sizes) * len(urls)


def test_a_dead_one_saves_no_credit() -> None:
    turns = Weighted({"A": 1.0, "B": 1.0})
    for _ in range(100):
        turns = turns.taken("A", 10, "A")
    assert play(turns, [1] * 10, "AB") == {"A": 5, "B": 5}


def test_an_idle_time_is_forgotten() -> None:
    turns = Weighted({"A": 1.0, "B": 1.0}).taken("A", 50, "AB").rested()
    assert play(turns, [1] * 10, "AB") == {"A": 5, "B": 5}


@pytest.mark.parametrize("urls", ["AB", "BA"])
def test_in_order_it_is_always_the_first_that_is_left(urls: str) -> None:
    turns: Turns = InOrder("AB")
    for _ in range(3):
        assert turns.next_of(urls) == "A"
        turns = turns.taken("A", 1, urls).rested()
    assert turns.next_of("B") == "B"
