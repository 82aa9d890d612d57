"""How much the inputs of running attempts may take on the disk."""

import trio

from avtomatika_trio.errors import DiskFault


class DiskQuota:
    """Room for the inputs of attempts; who finds none waits until others have ended.

    An attempt waits once, for all of its inputs, so that no two can wait for each other; and
    those that wait are served in their order.

    Args:
        max_bytes: What there is; None is no limit.
    """

    def __init__(self, max_bytes: int | None) -> None:
        self._max_bytes = max_bytes
        self._used = 0
        self._turn = trio.Lock()
        self._freed = trio.lowlevel.ParkingLot()

    async def take(self, uri: str, size: int, *, held: int = 0) -> None:
        """Wait until there is room for *size* bytes, and take it.

        Args:
            uri: What it is for, for the error.
            size: In bytes.
            held: What the attempt has already.  One that has some does not wait: those it
                would wait for may be waiting for it.

        Raises:
            DiskFault: it is more than there is at all, or, for one that has some, now.
        """
        if self._max_bytes is not None and size > self._max_bytes:
            raise DiskFault(
                uri,
                f"the inputs have {size} bytes; this worker has room for {self._max_bytes}"
                " (WORKER_PAYLOAD_MAX_BYTES)",
            )
        if held:
            if self._lacks(size):
                text = f"there is no room for {size} more bytes now (WORKER_PAYLOAD_MAX_BYTES)"
                raise DiskFault(uri, text)
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
