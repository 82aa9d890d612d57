"""Tracebacks of handlers, as their authors can read them."""

from types import FrameType, TracebackType

#: Packages that stand between a handler and what it calls.
_BETWEEN = ("avtomatika_trio", "trio", "outcome")


def of_author(exc: BaseException) -> TracebackType | None:
    """The traceback of *exc* without the frames of this package and of Trio.

    With them alone, it is as it was: it is not the author's fault then.
    """
    steps: list[TracebackType] = []
    step = exc.__traceback__
    while step is not None:
        steps.append(step)
        step = step.tb_next
    told: TracebackType | None = None
    for step in reversed([it for it in steps if not _is_between(it.tb_frame)]):
        told = TracebackType(told, step.tb_frame, step.tb_lasti, step.tb_lineno)
    return told or exc.__traceback__


def _is_between(frame: FrameType) -> bool:
    package, _, _ = str(frame.f_globals.get("__name__", "")).partition(".")
    return package in _BETWEEN
