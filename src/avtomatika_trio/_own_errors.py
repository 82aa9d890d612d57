"""Whose an exception is that comes out of a blueprint's handler or out of a test."""

import trio

#: What goes through foreign code, and is for the nurseries and the process around it.
_FOR_OTHERS = (trio.Cancelled, KeyboardInterrupt, GeneratorExit)


def is_its_own(exc: BaseException) -> bool:
    """Whether foreign code has failed with *exc*; else it must go on as it is.

    Also `SystemExit` is its own, and a group in which nothing is for others.
    """
    if isinstance(exc, BaseExceptionGroup):
        return exc.subgroup(_FOR_OTHERS) is None
    return not isinstance(exc, _FOR_OTHERS)
