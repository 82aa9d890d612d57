"""Notes that the demo's workers leave of what they begin, to be compared with the history.

They are kept apart from everything that the product itself stores, so that they can contradict
it.  A note outlives the death of its process: it is one write to the end of a file.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import attrs

_PATTERN = "begun-*.jsonl"


@attrs.frozen(kw_only=True)
class Begun:
    """The analysis of one module has begun."""

    name: str
    task_id: str
    """The stable id of the task, which handlers know as `idempotency_key`."""
    attempt: int
    pid: int


def note(folder: Path, begun: Begun) -> None:
    """Add *begun* to the notes in *folder*; they are there when this returns.

    Raises:
        OSError: The folder is missing, or cannot be written to.
    """
    line = json.dumps(attrs.asdict(begun)).encode() + b"\n"
    file = os.open(
        folder / _PATTERN.replace("*", str(begun.pid)),
        os.O_WRONLY | os.O_CREAT | os.O_APPEND,
        0o644,
    )
    try:
        os.write(file, line)  # at once and whole, also beside other threads of this process
    finally:
        os.close(file)


def read_notes(folder: Path) -> Iterator[Begun]:
    """The notes of every process, in the order of each."""
    for path in sorted(folder.glob(_PATTERN)):
        for line in path.read_text().splitlines():
            yield Begun(**json.loads(line))
