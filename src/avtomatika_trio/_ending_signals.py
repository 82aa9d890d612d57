"""SIGTERM and Ctrl-C: the first one is received in the loop, a second one ends the process."""

import signal
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import cast

import trio

ENDING = (signal.SIGINT, signal.SIGTERM)
"""The signals that ask for the end."""

_Handler = Callable[[int, FrameType | None], None]


@contextmanager
def ending_signals(*others: signal.Signals) -> Generator[AsyncIterator[int], None, None]:
    """Receive the first of `ENDING`, and all of *others*; in the main thread only.

    From the first one on they do what they do to a program that handles none, also if the loop
    stands still: that is when a second one is sent.
    """
    with trio.open_signal_receiver(*ENDING, *others) as signals:
        receivers = {number: cast("_Handler", signal.getsignal(number)) for number in ENDING}

        def receive_once(number: int, frame: FrameType | None) -> None:
            for each in ENDING:
                signal.signal(each, signal.SIG_DFL)
            receivers[signal.Signals(number)](number, frame)

        for number in ENDING:
            signal.signal(number, receive_once)
        yield signals
