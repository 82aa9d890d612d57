"""What the long-running commands do with signals.

SIGTERM, SIGINT   end gracefully; a second one ends the process at once
SIGUSR1           write the tree of Trio tasks to the log
"""

import logging
import signal
from collections.abc import Callable

import attrs
import trio

from avtomatika_trio.cli._exits import Exit
from avtomatika_trio.cli._output import note
from avtomatika_trio.cli._tasktree import render_task_tree

logger = logging.getLogger(__name__)

_ENDING = (signal.SIGINT, signal.SIGTERM)


@attrs.define
class Ending:
    """Whether, and by which signal, the process has been asked to end."""

    by: signal.Signals | None = None

    @property
    def exit(self) -> Exit:
        """The exit code of a graceful end."""
        return Exit.INTERRUPTED if self.by is signal.SIGINT else Exit.OK


async def watch_signals(
    ending: Ending,
    stop: Callable[[], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Heed signals until cancelled; in the main thread only.

    Args:
        ending: Told which signal it was.
        stop: Called once, at the first signal that asks for the end.
        task_status: Started once no signal is missed.
    """
    with trio.open_signal_receiver(*_ENDING, signal.SIGUSR1) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGUSR1:
                logger.info("tasks:\n%s", render_task_tree())
            elif ending.by is None:
                ending.by = signal.Signals(number)
                # Also when something keeps the loop from turning: the system sees to it.
                for each in _ENDING:
                    signal.signal(each, signal.SIG_DFL)
                note(f"{ending.by.name}: ending gracefully; once more ends at once")
                stop()
            else:
                signal.raise_signal(number)  # it came before the system took over
