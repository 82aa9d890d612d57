"""What drills that kill processes share."""

from collections.abc import Sequence

from tests.e2e.killing import Program


def percentile(ordered: Sequence[float], q: float) -> float:
    """What the share *q* of the *ordered* values does not exceed."""
    return ordered[round((len(ordered) - 1) * q)]


def percentiles(ordered: Sequence[float], *shares: float) -> str:
    """Some of the percentiles and the longest of *ordered* values, in seconds.

    >>> percentiles([1.0, 2.0, 3.0], 0.5)
    'p50 2.00 s, longest 3.00 s'
    """
    if not ordered:
        return "-"
    told = [(f"p{100 * q:g}", percentile(ordered, q)) for q in shares]
    told.append(("longest", ordered[-1]))
    return ", ".join(f"{name} {value:.2f} s" for name, value in told)


def bad_end(name: str, program: Program, code: int, *, has_run: bool) -> list[str]:
    """What is wrong with how *program* has ended, if anything is.

    Args:
        name: What it is called.
        program: Which it was.
        code: Its exit code.
        has_run: Whether it still ran when it was told to end.
    """
    if has_run and code == 0:
        return []
    how = f"with {code}" if has_run else "by itself"
    return [f"{name} has ended {how}; see {program.folder}"]
