"""Wrong tokens: who keeps sending them waits, and nobody else does."""

from http import HTTPStatus

import pytest
import trio
from trio.testing import MockClock

from avtomatika_trio.orchestrator._http import HttpProblem
from avtomatika_trio.orchestrator._wrong_tokens import MOST_ADDRESSES, WrongTokens

HERE = "192.0.2.1"


async def waited(wrong_tokens: WrongTokens, address: str = HERE) -> float:
    """How long one attempt is held."""
    began_at = trio.current_time()
    await wrong_tokens.slow_down(address)
    return trio.current_time() - began_at


async def use_up(wrong_tokens: WrongTokens, address: str = HERE) -> None:
    """Make the attempts that are free."""
    for _ in range(10):
        assert await waited(wrong_tokens, address) == 0


async def answers(wrong_tokens: WrongTokens, number: int) -> list[float | int]:
    """Attempts made at the same time: when each was answered, or the status if refused."""
    began_at = trio.current_time()
    got: list[float | int] = []

    async def attempt() -> None:
        try:
            await wrong_tokens.slow_down(HERE)
        except HttpProblem as problem:
            got.append(problem.status)
        else:
            got.append(round(trio.current_time() - began_at, 6))

    async with trio.open_nursery() as nursery:
        for _ in range(number):
            nursery.start_soon(attempt)
    return got


async def test_the_first_ten_are_answered_at_once_and_later_ones_a_second_apart(
    autojump_clock: MockClock,
) -> None:
    got = await answers(WrongTokens(), 15)
    assert sorted(got) == [0.0] * 10 + [1.0, 2.0, 3.0, 4.0, 5.0]


async def test_attempts_one_after_the_other_are_slowed_too(autojump_clock: MockClock) -> None:
    wrong_tokens = WrongTokens()
    await use_up(wrong_tokens)
    began_at = trio.current_time()
    for _ in range(300):
        await wrong_tokens.slow_down(HERE)
    assert trio.current_time() - began_at == pytest.approx(300)


async def test_at_most_twenty_wait(autojump_clock: MockClock) -> None:
    wrong_tokens = WrongTokens()
    await use_up(wrong_tokens)
    got = await answers(wrong_tokens, 50)
    assert got == [HTTPStatus.TOO_MANY_REQUESTS] * 30 + [float(turn) for turn in range(1, 21)]


async def test_a_refusal_tells_when_those_that_wait_are_through(
    autojump_clock: MockClock,
) -> None:
    wrong_tokens = WrongTokens()
    await use_up(wrong_tokens)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(wrong_tokens.slow_down, HERE)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(HttpProblem) as caught:
            await wrong_tokens.slow_down(HERE)
        assert caught.value.code == "too_many_wrong_tokens"
        await trio.sleep(int(caught.value.headers["retry-after"]))
        assert await waited(wrong_tokens) <= 1


async def test_who_is_slow_by_itself_is_not_held(autojump_clock: MockClock) -> None:
    wrong_tokens = WrongTokens()
    await use_up(wrong_tokens)
    for _ in range(30):
        await trio.sleep(5)
        assert await waited(wrong_tokens) == 0


async def test_after_a_quiet_minute_all_is_forgotten(autojump_clock: MockClock) -> None:
    wrong_tokens = WrongTokens()
    await use_up(wrong_tokens)
    await trio.sleep(59)
    assert (await answers(wrong_tokens, 3)) == [0.0, 1.0, 2.0]
    await trio.sleep(60)
    await use_up(wrong_tokens)


async def test_who_goes_away_gives_up_its_turn(autojump_clock: MockClock) -> None:
    wrong_tokens = WrongTokens()
    await use_up(wrong_tokens)
    for _ in range(10):
        with trio.move_on_after(0.01):
            await answers(wrong_tokens, 20)
    assert await waited(wrong_tokens) == pytest.approx(0.9)


async def test_addresses_wait_for_themselves_alone(autojump_clock: MockClock) -> None:
    wrong_tokens = WrongTokens()
    await use_up(wrong_tokens)
    await use_up(wrong_tokens, "192.0.2.2")
    assert await waited(wrong_tokens) == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:0DB8:1:2::1", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("unix:/run/a.sock", "unix:/run/a.sock", True),
        ("", "", True),
    ],
)
async def test_an_address_of_ipv6_counts_as_its_network(
    autojump_clock: MockClock,
    one: str,
    other: str,
    same: bool,
) -> None:
    wrong_tokens = WrongTokens()
    await use_up(wrong_tokens, one)
    assert (await waited(wrong_tokens, other) > 0) is same


async def test_however_many_addresses_there_are_memory_is_bounded(
    autojump_clock: MockClock,
) -> None:
    wrong_tokens = WrongTokens()
    await use_up(wrong_tokens)
    for number in range(MOST_ADDRESSES - 1):
        await wrong_tokens.slow_down(f"10.1.{number // 256}.{number % 256}")
    assert await waited(wrong_tokens) == 1  # still known, and now the one heard of last
    for number in range(MOST_ADDRESSES):
        await wrong_tokens.slow_down(f"10.2.{number // 256}.{number % 256}")
    assert len(wrong_tokens._sources) == MOST_ADDRESSES
    await use_up(wrong_tokens)
