"""Hand-outs of which nobody knows whether they happened.

A storage in another process may do a commit and be gone before it has told so.  The worker is
answered 503 and knows nothing of the tasks, but they may be leased to it, and heartbeats that
do not name tasks would renew such a lease for as long as the worker lives.  So the ids of those
attempts are kept, and given back as soon as the storage can be used.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from avtomatika_trio.errors import StorageUnavailable

#: With more than this nothing is handed out before they are given back: none may be forgotten.
MOST_KEPT = 10_000

#: How many are given back in one commit, which may have to look for each of them.
_MOST_PER_COMMIT = 20


class Unsure:
    """Wire ids of attempts that may be leased to somebody who was not told of them."""

    def __init__(self) -> None:
        self._wire_ids: dict[str, None] = {}
        self._counts: Counter[str] = Counter()
        """By what ids begin with, which is their partition."""

    @contextmanager
    def unless_known(self, wire_ids: Sequence[str]) -> Iterator[None]:
        """Around a commit that may hand out attempts with these ids.

        Raises:
            StorageUnavailable: from the commit; or there are too many already.
        """
        if self.is_full(wire_ids):
            raise StorageUnavailable("it was away, and what it may have done is not undone yet")
        try:
            yield
        except StorageUnavailable:
            self.remember(wire_ids)
            raise

    def is_full(self, wire_ids: Sequence[str]) -> bool:
        """Whether there are too many already where these are, in one partition, to be."""
        return bool(wire_ids) and self._counts[_place_of(wire_ids[0])] >= MOST_KEPT

    def remember(self, wire_ids: Sequence[str]) -> None:
        """What was handed out with these ids must be given back."""
        for wire_id in wire_ids:
            if wire_id not in self._wire_ids:
                self._wire_ids[wire_id] = None
                self._counts[_place_of(wire_id)] += 1

    def some(self, which: Callable[[str], bool]) -> tuple[str, ...]:
        """As many of them, for which *which* is true, as one commit should give back."""
        return tuple(islice(filter(which, self._wire_ids), _MOST_PER_COMMIT))

    def forget(self, wire_ids: Sequence[str]) -> None:
        """They were given back."""
        for wire_id in wire_ids:
            if wire_id in self._wire_ids:
                del self._wire_ids[wire_id]
                self._counts[_place_of(wire_id)] -= 1


def _place_of(wire_id: str) -> str:
    return wire_id.partition("-")[0]
