"""How much the inputs of running attempts may take on the disk."""

import trio

from avtomatika_trio.errors import DiskFault


class DiskQuota:
    """Room for the inputs of attempts; who finds none waits until others have ended.

    An attempt waits once, for all of its inputs, so that no two can wait for each other, nor
    one for itself; and those that wait are served in their order.

    Args:
        max_bytes: What there is; None is no limit.
    """

    def __init__(self, max_bytes: int | None) -> None:
        self._max_bytes = max_bytes
        self._used = 0
        self._turn = trio.Lock()
        self._freed = trio.lowlevel.ParkingLot()

    async def take(self, uri: str, size: int, *, waits: bool = True) -> None:
        """Take room for *size* bytes, as soon as there is some if the attempt *waits*.

        Raises:
            DiskFault: it is more than there is at all, or than there is now.
        """
        if self._max_bytes is not None and size > self._max_bytes:
            raise DiskFault(
                uri,
                f"the inputs have {size} bytes; this worker has room for {self._max_bytes}"
                " (WORKER_PAYLOAD_MAX_BYTES)",
            )
        if not waits:
            if self._lacks(size):
                reason = f"there is no room for {size} more bytes (WORKER_PAYLOAD_MAX_BYTES)"
                raise DiskFault(uri, reason)
            self._used += size
            return
        async with self._turn:  # who wants much is not passed by for ever
            while self._lacks(size):
                await self._freed.park()
            self._used += size

    def _lacks(self, size: int) -> bool:
        return self._max_bytes is not None and self._used + size > self._max_bytes

    def give_back(self, size: int) -> None:
        """The attempt that took it has ended."""
        self._used -= size
        self._freed.unpark_all()
