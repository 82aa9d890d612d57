"""What one caller wants of Redis, on its way there and back."""

import time
from collections.abc import Sequence
from typing import Any

from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage._redis_wire import Command, Script, ScriptCall, pack

_ASKING = pack(("ASKING",))


class Request:
    """Commands of one caller, and the replies that there are.

    No attrs class, and its bytes are one piece: there is one for each command in the end.

    Raises:
        TypeError: a command has an argument that Redis can't take.
    """

    __slots__ = (
        *("_commands", "_data", "asking", "born", "error", "length", "redirects", "replies"),
        *("size", "slot"),
    )

    def __init__(self, commands: Sequence[Command | ScriptCall]) -> None:
        self._commands = commands
        self._data = _packed(commands)
        self.length = len(commands)
        self.size = len(self._data)
        self.slot = 0
        self.replies: list[Any] = []
        """Of the first ones; what is lacking is sent again if need be."""
        self.error: StorageUnavailable | None = None
        """Instead of replies."""
        self.born = time.monotonic()
        self.asking = False
        """Only its next command goes to this node, which does not own the key yet."""
        self.redirects = 0

    def tell(self) -> None:
        """Give the replies or the error to the caller, on Trio's thread."""
        raise NotImplementedError

    def to_send(self) -> bytes:
        done = len(self.replies)
        if self.asking:
            return _ASKING + _packed(self._commands[done : done + 1])
        return _packed(self._commands[done:]) if done else self._data

    def next_script(self) -> Script | None:
        """What the first command without a reply runs."""
        command = self._commands[len(self.replies)]
        return command.script if isinstance(command, ScriptCall) else None


def _packed(commands: Sequence[Command | ScriptCall]) -> bytes:
    if len(commands) == 1:
        [it] = commands
        return it.packed() if isinstance(it, ScriptCall) else pack(it)
    return b"".join(it.packed() if isinstance(it, ScriptCall) else pack(it) for it in commands)
