"""What every Trio task of the process waits for, as a text: the answer to SIGUSR1."""

from collections.abc import Iterator

import trio


def render_task_tree(root: trio.lowlevel.Task | None = None) -> str:
    """The tree of tasks: each with where it stands, innermost call last.

    Args:
        root: Where to begin; None = at the root of all tasks of this thread.
    """
    start = root if root is not None else trio.lowlevel.current_root_task()
    return "\n".join(_lines(start, "")) if start is not None else "no task runs"


def _lines(task: trio.lowlevel.Task, indent: str) -> Iterator[str]:
    yield f"{indent}{task.name}"
    for frame, line in task.iter_await_frames():
        # How Trio itself waits says nothing about what is waited for.
        if not str(frame.f_globals.get("__name__")).startswith("trio."):
            code = frame.f_code
            yield f"{indent}  | {code.co_filename}:{line} {code.co_qualname}"
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _lines(child, f"{indent}    ")
