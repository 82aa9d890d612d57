"""How long to wait after a failure, and when to stop trying.

Pure: chance is an argument, so that a test can replay it.
"""

from typing import Any

import attrs
from attrs.validators import ge, gt, instance_of, le

#: After this many doublings any cap in use has been passed; keeps 2.0**n finite.
_MOST_DOUBLINGS = 32

#: A policy is stored: JSON has no infinity, and floats end.  30 years are as good as that.
_MOST = 1e9


@attrs.frozen(kw_only=True)
class Backoff:
    """Delays that double from `base_seconds` up to `cap_seconds`.

    >>> Backoff(base_seconds=0.5, cap_seconds=30.0).delay_seconds(attempt=3)
    2.0
    >>> Backoff(base_seconds=0.5, cap_seconds=30.0).delay_seconds(attempt=99)
    30.0
    """

    base_seconds: float = attrs.field(default=1.0, validator=gt(0))
    cap_seconds: float = attrs.field(default=60.0, validator=gt(0))
    jitter: float = attrs.field(default=0.1, validator=ge(0))

    def delay_seconds(self, *, attempt: int, noise: float = 0.0) -> float:
        """How long to wait after failure number *attempt*.

        Args:
            attempt: Which failure this is; the first is 1.
            noise: A number in [-1, 1) drawn by the caller.

        Returns:
            Seconds, never negative and never above `cap_seconds`.

        Raises:
            ValueError: *attempt* is below 1.
        """
        if attempt < 1:
            raise ValueError(f"attempt starts at 1, got {attempt}")
        exact = self.base_seconds * 2.0 ** min(attempt - 1, _MOST_DOUBLINGS)
        return min(self.cap_seconds, exact * max(0.0, 1 + self.jitter * noise))


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How often a task that failed in passing (TRANSIENT) is tried again, and when.

    >>> RetryPolicy(max_retries=2).allows(failures=2)
    True
    >>> RetryPolicy(max_retries=2).allows(failures=3)
    False
    """

    max_retries: int = attrs.field(default=3, validator=[instance_of(int), ge(0)])
    """Attempts after the first one; 0 = never again."""
    base_seconds: float = attrs.field(default=1.0, validator=[gt(0), le(_MOST)])
    cap_seconds: float = attrs.field(default=60.0, validator=[gt(0), le(_MOST)])
    jitter: float = attrs.field(default=0.1, validator=[ge(0), le(_MOST)])

    def allows(self, *, failures: int) -> bool:
        """Whether there may be another attempt after *failures* failed ones."""
        return failures <= self.max_retries

    def delay_seconds(self, *, failures: int, noise: float) -> float:
        """How long to wait before the attempt that follows failure number *failures*."""
        backoff = Backoff(
            base_seconds=self.base_seconds, cap_seconds=self.cap_seconds, jitter=self.jitter
        )
        return backoff.delay_seconds(attempt=failures, noise=noise)

    @classmethod
    def parse(cls, value: Any) -> "RetryPolicy":
        """The policy that an author wrote: None, a number of retries, a dict or a policy.

        Raises:
            ValueError: it is none of these, or a value is out of range.
        """
        match value:
            case None:
                return cls()
            case RetryPolicy():
                return value
            case bool():
                pass
            case int():
                return cls(max_retries=value)
            case dict():
                try:
                    return cls(**value)
                except TypeError as exc:
                    raise ValueError(
                        f"retry takes max_retries, base_seconds, cap_seconds, jitter: {exc}"
                    ) from None
        raise ValueError(f"retry is a number of retries, a dict or a RetryPolicy, not {value!r}")
