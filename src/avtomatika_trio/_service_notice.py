"""Tells systemd how the process is: `Type=notify` and `WatchdogSec` of a unit.

A datagram to the socket that NOTIFY_SOCKET names (sd_notify(3)); without one, nothing.
"""

import logging
import math
import os
import socket
from collections.abc import Callable, Mapping

import attrs
import trio

logger = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class ServiceNotice:
    """The way to whoever has started the process."""

    address: str | None
    """Where datagrams go; None if nobody listens."""
    watchdog_seconds: float | None
    """Within which time it wants to hear that the process is alive; None if it does not."""

    def ready(self, status: str) -> None:
        """The process is up, and *status*, for people, is what it does."""
        self._tell(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """The process has begun to end."""
        self._tell("STOPPING=1")

    async def keep_alive(self) -> None:
        """Say that the loop turns, until cancelled, if anybody wants to know.

        It is said in the loop, so a loop that stands still says nothing.
        """
        if self.address is None or self.watchdog_seconds is None:
            return
        was_told = True
        while True:
            was_told = self._tell("WATCHDOG=1", quietly=not was_told)
            await trio.sleep(self.watchdog_seconds / 2)

    def _tell(self, text: str, *, quietly: bool = False) -> bool:
        """Send it, or log why not unless *quietly*: no program fails over a notice."""
        if self.address is None:
            return False
        # A leading @ is how a name without a file is written.
        name = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(0)
                sender.sendto(text.encode(), name)
        except OSError as exc:
            level = logging.DEBUG if quietly else logging.WARNING
            logger.log(level, "NOTIFY_SOCKET=%s was not told %r: %s", self.address, text, exc)
            return False
        return True


class Up:
    """Given to what starts as its `task_status`, tells who waits for the process that it is up.

    Args:
        notice: The way there.
        status: Says what the process does.
        announce: Tells people first.
    """

    def __init__(
        self,
        notice: ServiceNotice,
        status: Callable[[], str],
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        self._notice = notice
        self._status = status
        self._announce = announce

    def started(self, value: None = None) -> None:  # noqa: ARG002 - what trio calls
        """It is up."""
        self._announce()
        self._notice.ready(self._status())


def service_notice(environ: Mapping[str, str], process_id: int | None = None) -> ServiceNotice:
    """What *environ* says of who wants to be told; what is malformed is logged.

    Args:
        environ: Its NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID count.
        process_id: This process, if it is not the present one.
    """
    address = environ.get("NOTIFY_SOCKET") or None
    if address is not None and (not address.startswith(("/", "@")) or len(address) < 2):
        logger.warning(
            "NOTIFY_SOCKET=%s is no path that begins with / or @; nobody is told", address
        )
        address = None
    return ServiceNotice(address=address, watchdog_seconds=_watchdog(environ, process_id))


def _watchdog(environ: Mapping[str, str], process_id: int | None) -> float | None:
    text = environ.get("WATCHDOG_USEC")
    if not text:
        return None
    meant = environ.get("WATCHDOG_PID")
    if meant and meant != str(os.getpid() if process_id is None else process_id):
        return None  # it is for the process that has started this one
    try:
        seconds = int(text) / 1_000_000
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        logger.warning("WATCHDOG_USEC=%s is no number of microseconds; it is ignored", text)
        return None
    return seconds
