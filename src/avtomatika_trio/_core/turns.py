"""Whose turn it is when work is asked for at several orchestrators in turn.

Smooth weighted round robin, as in nginx (`ngx_http_upstream_get_peer`): each turn adds its weight
to everybody's credit and takes the whole round from whose turn it was.  Weights of 3 and 1 give
A A B A.  What is charged here is not the request but the slots it asks for, so that shares hold
for tasks, too, when requests are of different sizes.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, Self

import attrs


class Turns(Protocol):
    """The order in which orchestrators are asked."""

    def next_of(self, urls: Collection[str]) -> str:
        """Whose turn it is among *urls*, which is not empty."""
        ...

    def taken(self, url: str, slots: int, urls: Collection[str]) -> "Turns":
        """As it is when *url*, out of *urls*, has been asked for *slots* tasks."""
        ...

    def rested(self) -> "Turns":
        """As it is when nobody has had any work: what was before does not count."""
        ...


@attrs.frozen
class Weighted:
    """Each in proportion to its weight: the mode `ROUND_ROBIN`.

    >>> turns, asked = Weighted({"A": 3.0, "B": 1.0}), ""
    >>> for _ in range(8):
    ...     url = turns.next_of("AB")
    ...     turns, asked = turns.taken(url, 1, "AB"), asked + url
    >>> asked
    'AABAAABA'
    """

    weights: Mapping[str, float]
    """By orchestrator, the preferred one first; above zero."""
    _credit: Mapping[str, float] = attrs.field(factory=dict)

    def next_of(self, urls: Collection[str]) -> str:
        """Whose turn it is; of equals, the preferred one's."""
        fitting = [url for url in self.weights if url in urls]
        return max(fitting, key=lambda url: self._credit.get(url, 0.0) + self.weights[url])

    def taken(self, url: str, slots: int, urls: Collection[str]) -> Self:
        """See `Turns`.  Who is not among *urls* gains nothing: a dead one saves no credit."""
        credit = {
            one: self._credit.get(one, 0.0) + self.weights[one] * slots
            for one in self.weights
            if one in urls
        }
        credit[url] -= sum(self.weights[one] for one in credit) * slots
        return attrs.evolve(self, credit=credit)

    def rested(self) -> Self:
        """See `Turns`."""
        return attrs.evolve(self, credit={})


@attrs.frozen
class InOrder:
    """Always the preferred one that is left: the mode `WATERFALL`."""

    urls: Sequence[str]

    def next_of(self, urls: Collection[str]) -> str:
        """The first of them."""
        return next(url for url in self.urls if url in urls)

    def taken(self, url: str, slots: int, urls: Collection[str]) -> Self:  # noqa: ARG002
        """Nobody's turn is used up."""
        return self

    def rested(self) -> Self:
        """See `Turns`."""
        return self
