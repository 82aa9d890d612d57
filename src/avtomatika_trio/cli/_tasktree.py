"""What every Trio task of the process waits for, as a text: the answer to SIGUSR1."""

from collections.abc import Iterator

import trio

#: Deeper than any nesting of ours; what is below is of no help.
_MOST_FRAMES = 30


def render_task_tree(root: trio.lowlevel.Task | None = None) -> str:
    """The tree of tasks: each with where it stands, innermost call last.

    Args:
        root: Where to begin; None = at the root of all tasks of this thread.
    """
    start = root if root is not None else trio.lowlevel.current_root_task()
    return "\n".join(_lines(start, "")) if start is not None else "no task runs"


def _lines(task: trio.lowlevel.Task, indent: str) -> Iterator[str]:
    yield f"{indent}{task.name}"
    for frame, line in list(task.iter_await_frames())[:_MOST_FRAMES]:
        code = frame.f_code
        yield f"{indent}  | {code.co_filename}:{line} {code.co_qualname}"
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _lines(child, f"{indent}    ")
