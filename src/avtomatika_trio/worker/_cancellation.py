"""How a handler asks whether anybody still wants what it does.

A handler in the loop is cancelled as Trio cancels.  One in a thread cannot be: it has to
ask, and to end by itself.
"""

from collections.abc import Callable, Generator
from typing import Any

import trio


class TaskCancelled(BaseException):
    """Nobody wants the result of this attempt any more: let it out of the handler.

    Its job was cancelled, its task has timed out, or the worker stops and its time of grace
    is over.  It is no `Exception`, so that a handler which catches those, to try something
    again, does not catch it.
    """


class CancellationCheck:
    """Whether the attempt is over: a truth value, and in an `async def` also awaitable.

        if check_for_cancellation():  # in a thread
            return

        if await check_for_cancellation():  # in the loop
            return

    Awaiting it is a checkpoint: others run, and a handler that is cancelled is cancelled
    there; in another loop than Trio's, that of a thread, it only answers.  The answer is always
    that of the moment in which it is looked at.
    """

    def __init__(self, is_over: Callable[[], bool]) -> None:
        self._is_over = is_over

    def __bool__(self) -> bool:
        return self._is_over()

    def __repr__(self) -> str:
        return f"<CancellationCheck: {bool(self)}>"

    def __await__(self) -> Generator[Any, Any, bool]:
        if trio.lowlevel.in_trio_run():  # else in a loop of the handler's own thread
            yield from trio.lowlevel.checkpoint().__await__()  # noqa: ASYNC105 - it is
        return self._is_over()

    def raise_if_cancelled(self) -> None:
        """End the handler if the attempt is over.

        Raises:
            TaskCancelled: it is.
        """
        if self._is_over():
            raise TaskCancelled("nobody wants the result of this task any more")


class CheckForCancellation:
    """What a handler is given as `check_for_cancellation`; of its own attempt."""

    def __init__(self, is_over: Callable[[], bool]) -> None:
        self._is_over = is_over

    def __call__(self, task_id: str | None = None) -> CancellationCheck:  # noqa: ARG002
        """Ask; *task_id* is not needed."""
        return CancellationCheck(self._is_over)
