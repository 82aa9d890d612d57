"""Whoever keeps sending wrong tokens from one address is answered more and more slowly.

Only refusals wait: a right token is never slowed, from whatever address, since a whole site
may share one, and a single misconfigured worker must not lock the others out.  This gives
nothing away: tokens have 128 bits and more, so that nobody finds one by trying, at any
speed.  What the delay is against is floods - of lines in the log, and of load.
"""

import math
from collections import OrderedDict
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address, ip_network

import attrs
import trio

from avtomatika_trio.orchestrator._http import HttpProblem

#: How many attempts of one address are answered at once.
FREE_ATTEMPTS = 10

#: An address that has been quiet for this long has them again.
QUIET_SECONDS = 60.0

#: How far apart the later ones are answered.
SECONDS_APART = 1.0

#: How many attempts of one address may wait for their turn.
MOST_WAITING = 20

#: How many addresses are remembered; those heard of longest ago are forgotten.
MOST_ADDRESSES = 10_000

#: The part of an IPv6 address that one site has: it chooses the rest itself.
_SITE_BITS = 64


@attrs.define(eq=False)
class _Source:
    """What is known of one address."""

    last_at: float
    """When the last attempt came."""
    attempts: int = 0
    waiting: int = 0
    next_at: float = -math.inf
    """The earliest time of the next answer that is not free."""
    turns: trio.Lock = attrs.field(factory=trio.Lock)
    """First come, first served; who goes away gives up its turn."""


@attrs.define(eq=False)
class WrongTokens:
    """The attempts with wrong tokens that this process has seen of late."""

    _sources: OrderedDict[str, _Source] = attrs.field(factory=OrderedDict, init=False)

    async def slow_down(self, address: str) -> None:
        """Wait until *address* may be told that its token is wrong, or that it has none.

        Raises:
            HttpProblem: 429 `too_many_wrong_tokens`; too many of its attempts wait already.
        """
        source = self._source(address)
        source.attempts += 1
        if source.attempts <= FREE_ATTEMPTS:
            source.next_at = trio.current_time() + SECONDS_APART
            await trio.lowlevel.checkpoint()
            return
        if source.waiting >= MOST_WAITING:
            raise _too_many()
        source.waiting += 1
        try:
            async with source.turns:
                await trio.sleep_until(source.next_at)
                source.next_at = trio.current_time() + SECONDS_APART
        finally:
            source.waiting -= 1

    def _source(self, address: str) -> _Source:
        now = trio.current_time()
        site = _site(address)
        source = self._sources.get(site)
        if source is None:
            source = self._sources[site] = _Source(now)
            if len(self._sources) > MOST_ADDRESSES:
                self._sources.popitem(last=False)
            return source
        self._sources.move_to_end(site)
        if now - source.last_at >= QUIET_SECONDS:
            source.attempts = 0
        source.last_at = now
        return source


def _too_many() -> HttpProblem:
    seconds = math.ceil(MOST_WAITING * SECONDS_APART)
    return HttpProblem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "too_many_wrong_tokens",
        "too many requests with wrong tokens, or without one, come from this address; "
        f"correct the token, and come again in {seconds} s",
        headers={"retry-after": str(seconds)},
    )


def _site(address: str) -> str:
    """What *address* counts as: an IPv6 address as its /64, anything else as itself."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address  # of a Unix socket
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((int(parsed), _SITE_BITS), strict=False))
