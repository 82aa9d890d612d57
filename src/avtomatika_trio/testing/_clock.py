"""Tests in virtual time: with pytest-trio, or with nothing but pytest."""

import inspect
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
from trio.testing import MockClock

T = TypeVar("T")

_REMEDY = (
    "a cluster for tests needs a loop of Trio with a clock that jumps: let the test itself ask for"
    " pytest-trio's `autojump_clock`, or call it as `testing.run(function)`"
)

_IN_A_LOOP = (
    "testing.run and run_job start a loop of their own, and one runs here already:"
    " in a test that is async, write `async with testing.cluster(...)`"
)


def run(function: Callable[..., Awaitable[T]], *args: object) -> T:
    """Call an async function in virtual time: waiting takes no time.

        def test_a_greeting():
            async def scenario():
                async with testing.cluster(greetings, skills={"greet": {}}) as cluster:
                    (await cluster.run({"name": "Ada"})).assert_finished()

            testing.run(scenario)

    Args:
        function: It is called in a Trio loop of its own.
        args: Given to it.

    Returns:
        What it returns.

    Raises:
        RuntimeError: a loop of Trio runs already; the message tells the remedy.
        TypeError: *function* cannot be called.
        Exception: what *function* raises.
    """
    if not callable(function) and not inspect.iscoroutine(function):  # Trio has a word on those
        raise TypeError(f"run is given an async function, not {function!r}; see run_job")
    if trio.lowlevel.in_trio_run():
        raise RuntimeError(_IN_A_LOOP)
    return trio.run(function, *args, clock=MockClock(autojump_threshold=0))


def check_clock() -> MockClock:
    """The loop's clock, which must be one on which waiting takes no time.

    Raises:
        RuntimeError: it is not, or there is no loop of Trio; the message tells the remedy.
    """
    if not trio.lowlevel.in_trio_run():
        raise RuntimeError(_REMEDY)
    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, MockClock) or clock.autojump_threshold == math.inf:
        raise RuntimeError(_REMEDY)
    return clock
