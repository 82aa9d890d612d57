"""What the long-running commands do with signals.

SIGTERM, SIGINT   end gracefully; a second one ends the process at once
SIGHUP            read again what may change while it runs (`serve`: who may talk)
SIGUSR1           write the tree of Trio tasks to the log
"""

import logging
import signal
from collections.abc import Callable

import attrs
import trio

from avtomatika_trio._ending_signals import ending_signals
from avtomatika_trio.cli._exits import Exit
from avtomatika_trio.cli._logs import tell
from avtomatika_trio.cli._tasktree import render_task_tree

logger = logging.getLogger(__name__)


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
    reload: Callable[[], None] | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Heed signals until cancelled; in the main thread only.

    Args:
        ending: Told which signal it was.
        stop: Called once, at the first signal that asks for the end.
        reload: Called at each SIGHUP; None leaves that signal as it is.
        task_status: Started once no signal is missed.
    """
    others = [signal.SIGUSR1] if reload is None else [signal.SIGUSR1, signal.SIGHUP]
    with ending_signals(*others) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGUSR1:
                logger.info("tasks:\n%s", render_task_tree())
            elif number == signal.SIGHUP:
                assert reload is not None
                reload()
            else:
                ending.by = signal.Signals(number)
                tell(f"{ending.by.name}: ending gracefully; once more ends at once")
                stop()
